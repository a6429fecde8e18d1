"""Log-likelihoods of decoders by annealed importance sampling, where they are known."""

import functools
import inspect
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gm_jax import base, priors
from gm_jax.data import transforms
from gm_jax.methods import gan
from gm_jax.tasks import decoders, results
from gm_jax.training import experiment, launch

Z, D, STD = 2, 5, 0.28
WEIGHTS = np.asarray(0.8 * jax.random.normal(jax.random.key(0), (Z, D)), float)
POINTS = base.DataSpec((D,), jnp.float32, None, None, None, transforms.identity())
PRIOR = priors.normal(Z)
CONFIGS = pathlib.Path(__file__).resolve().parents[2] / 'experiments' / 'configs'


def decode(model, key, z, *, condition=None):
  del key
  shift = 0.0 if condition is None else condition[:, None]
  return z @ model.params + shift


def draw(model, key, num, *, condition=None):
  return PRIOR(key, num)


def log_prior(model, key, z, *, condition=None):
  return PRIOR.log_prob(z)


QUERIES = {'decode': decode, 'prior': draw, 'log_prior': log_prior}
MODEL = base.Model(jnp.asarray(WEIGHTS, jnp.float32), {})


def method(card=gan.CARD, **queries):
  return base.Method(card, None, None, queries=QUERIES | queries)


def data(num, seed, shift=0.0):
  """Data of the decoder with noise `STD`."""
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(num, Z)) @ WEIGHTS + STD * rng.normal(size=(num, D))
  return (x + np.reshape(shift, (-1, 1))).astype(np.float32)


def exact(x, std=STD):
  covariance = WEIGHTS.T @ WEIGHTS + std**2 * np.eye(D)
  return stats.multivariate_normal(np.zeros(D), covariance).logpdf(x)


def compiled(method, arrays, **options):
  """The numbers of the task, its arrays, and the kinds of the numbers."""
  kinds = {}

  @jax.jit
  def run(model, key):
    found = decoders.log_likelihood_by_ais(
      method, model, key, arrays, POINTS, **options
    )
    kinds.update({name: kind for name, (_, kind) in found.values.items()})
    return results.numbers(found), dict(found.arrays)

  return *run(MODEL, jax.random.key(1)), kinds


SIZES = {'num_chains': 24, 'num_steps': 300, 'num_leapfrog': 6}
SHORT = SIZES | {'num_steps': 8, 'num_chains': 2}


@functools.cache
def linear():
  arrays = {'test': {'x': data(12, 0)}, 'validation': {'x': data(40, 1)}}
  return arrays, *compiled(method(), arrays, num=10, num_simulated=12, **SIZES)


@functools.cache
def short():
  arrays = {'test': {'x': data(2, 0)}}
  return compiled(method(), arrays, num_simulated=12, std=STD, **SHORT)


@pytest.mark.slow
def test_linear_decoder_has_its_exact_log_likelihood_within_a_tenth_of_a_nat():
  arrays, found, each, _ = linear()
  log_p = exact(arrays['test']['x'][:10])
  assert abs(found['log_likelihood'] - log_p.mean()) < 0.1
  np.testing.assert_allclose(each['log_likelihood'], log_p, atol=0.4)
  assert (
    np.abs(each['log_likelihood'] - log_p) < 5 * each['standard_error'] + 0.01
  ).all()
  error = np.asarray(each['log_likelihood']).std(ddof=1) / np.sqrt(10)
  np.testing.assert_allclose(found['log_likelihood_error'], error, rtol=1e-4)
  assert 0 < found['log_likelihood_noise'] < 0.1


@pytest.mark.slow
def test_noise_is_the_best_of_the_grid_on_validation():
  arrays, found, *_ = linear()
  validation = arrays['validation']['x'][:12]
  best = max(decoders.STDS, key=lambda std: exact(validation, std).mean())
  assert best == STD  # of the grid, and what the data have
  np.testing.assert_allclose(found['noise_std'], best, rtol=1e-6)


@pytest.mark.slow
def test_gap_of_both_bounds_is_small_where_chains_are_long_and_large_where_short():
  _, found, *_ = linear()
  assert abs(found['gap']) < 0.2 and found['gap_error'] < 0.1
  other, *_ = short()
  assert other['gap'] > 1.0
  assert 0.4 < found['acceptance'] < 0.95 and found['step_size'] > 0.05


@pytest.mark.slow
def test_examples_have_their_own_conditions():
  shift = np.array([5.0, -3.0, 0.0, 8.0], np.float32)
  card = gan.CARD._replace(condition=('condition',))
  arrays = {'test': {'x': data(4, 2, shift), 'condition': shift}}
  found, each, _ = compiled(
    method(card), arrays, num_simulated=5, std=STD, num_chains=8, num_steps=100
  )
  log_p = exact(arrays['test']['x'] - shift[:, None])
  np.testing.assert_allclose(each['log_likelihood'], log_p, atol=0.6)
  assert abs(found['gap']) < 0.7  # simulated data have the conditions too


@pytest.mark.slow
def test_kinds_say_what_the_numbers_are():
  *_, kinds = linear()
  assert 'its std of 8 the best on validation' in kinds['log_likelihood']
  *_, kinds = short()
  kind = kinds['log_likelihood']
  for words in ('stochastic lower bound', 'Gaussian noise std 0.28', 'N = 2', '8 temp'):
    assert words in kind
  assert 'upper less lower' in kinds['gap']


def without(name):
  return base.Method(
    gan.CARD, None, None, queries={k: v for k, v in QUERIES.items() if k != name}
  )


def tree(model, key, num, *, condition=None):
  return {'a': PRIOR(key, num)}


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    ({'method': without('decode')}, "needs the query 'decode'"),
    ({'method': without('log_prior')}, "the query 'log_prior', which a prior with"),
    ({'method': method(prior=tree)}, r'latents must be arrays \[num, Z\]'),
    ({'spec': POINTS._replace(dtype=jnp.int32)}, 'these are int32'),
    ({}, 'std is chosen on the validation split, and there is none'),
    ({'std': 0.0}, 'std must be a number > 0, got 0'),
    ({'std': 'wide'}, 'std must be a number > 0, got wide'),
    ({'std': 0.1, 'num': 0}, 'num must be >= 1, got 0'),
    ({'std': 0.1, 'num_simulated': 0}, 'num_simulated must be >= 1, got 0'),
    ({'std': 0.1, 'num_steps': 0}, 'num_steps must be >= 1, got 0'),
  ],
)
def test_what_cannot_be_measured_is_one_line(change, words):
  change = dict(change)
  made, spec = change.pop('method', method()), change.pop('spec', POINTS)
  with pytest.raises(ValueError, match=words) as caught:
    decoders.log_likelihood_by_ais(
      made, MODEL, jax.random.key(0), {'test': {'x': data(3, 0)}}, spec, **change
    )
  assert '\n' not in str(caught.value)


@pytest.mark.slow
def test_mode_of_the_launcher_measures_a_gan(tmp_path, capsys):
  found = experiment.module(CONFIGS / 'gan_ring.py')
  config = found.get_config()
  config.update({'steps': 2, 'steps_per_dispatch': 2, 'checkpoint_every': 2})
  config.update({'evaluate_every': 0, 'sample_every': 0})
  launch.train(found, config, tmp_path / 'run')
  options = {
    'num': '3', 'num_simulated': '2', 'num_chains': '2', 'num_steps': '5',
    'num_leapfrog': '2', 'std': '0.5',
  }  # fmt: skip
  drawing = launch.PLAIN.drawing._replace(options=options)
  request = launch.PLAIN._replace(drawing=drawing)
  launch.MODES['ais'](found, config, tmp_path / 'run', launch.DEFAULT, request)
  written = json.loads((tmp_path / 'run' / 'ais.json').read_text())
  assert np.isfinite(written['log_likelihood'][0]) and written['noise_std'] == [0.5]
  assert 'lower bound' in capsys.readouterr().out
  own = inspect.signature(decoders.log_likelihood_by_ais).parameters
  assert set(options) == {p for p in own if own[p].kind is own[p].KEYWORD_ONLY}
