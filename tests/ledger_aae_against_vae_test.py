"""Auto-encoders against each other: matched networks, numbers of codes, a tiny run."""

import functools
import json
import pathlib
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import latent_priors
from gm_jax.data import registry
from gm_jax.training import parallel

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from experiments.ledger import aae_against_vae as ledger  # noqa: E402


def shapes_of(fit):
  """The shapes of encoder and decoder, by parameter."""
  config = fit.config.get_config()
  spec = registry.load('digits').spec
  method = fit.config.make_method(config, spec)
  x = jax.ShapeDtypeStruct((config.batch_size, *spec.shape), spec.dtype)
  state = jax.eval_shape(method.init, jax.random.key(0), {'x': x})
  return [
    jax.tree.map(lambda p: p.shape, state.params[name])
    for name in ('encoder', 'decoder')
  ]


def test_all_have_one_encoder_one_decoder_and_one_training():
  encoder, decoder = shapes_of(ledger.FITS[0])
  for fit in ledger.FITS[1:]:
    others, same = shapes_of(fit)
    assert same == decoder
    # A posterior's deviations are outputs more, and nothing else differs.
    assert {k: v for k, v in others.items() if k != 'Dense_2'} == {
      k: v for k, v in encoder.items() if k != 'Dense_2'
    }
    double = 2 if fit.config is ledger.MATCHED_VAE else 1
    assert others['Dense_2']['bias'] == (double * encoder['Dense_2']['bias'][0],)
  configs = [fit.config.get_config() for fit in ledger.FITS]
  for leaf in ('batch_size', 'steps', 'learning_rate', 'b1', 'ema_decay'):
    assert len({config[leaf] for config in configs}) == 1, leaf
  for fit, config in zip(ledger.FITS, configs, strict=True):
    assert fit.changes.keys() <= set(config.keys())


def test_numbers_of_codes_are_closed_forms():
  rng = np.random.default_rng(0)
  raw = rng.normal(size=(4000, 2))
  raw = (raw - raw.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(raw.T)).T)
  mean, scale = np.array([0.5, -1.0]), np.array([[0.8, 0.0], [0.3, 0.6]])
  cov = scale @ scale.T
  codes = jnp.array(mean + raw @ scale.T, jnp.float32)
  found = jax.jit(ledger.code_numbers)(jax.random.key(0), codes)
  expected = (np.trace(cov) + mean @ mean - 2 - np.log(np.linalg.det(cov))) / 2
  kl = ledger.code_kl(found['code_mean'], found['code_cov'])
  np.testing.assert_allclose(kl, expected, rtol=1e-4)

  def kernel_mean(gap, cov):  # E k of a difference N(gap, cov), variance of k is 2
    total = cov + 2 * np.eye(2)
    return np.exp(-gap @ np.linalg.solve(total, gap) / 2) / np.sqrt(
      np.linalg.det(total / 2)
    )

  one = np.eye(2)
  expected = kernel_mean(0 * mean, 2 * one) + kernel_mean(0 * mean, 2 * cov)
  expected -= 2 * kernel_mean(mean, cov + one)
  np.testing.assert_allclose(found['code_mmd2'], expected, atol=0.02)
  at_prior = jnp.array(raw, jnp.float32)
  found = jax.jit(ledger.code_numbers)(jax.random.key(0), at_prior)
  assert abs(float(ledger.code_kl(found['code_mean'], found['code_cov']))) < 1e-4
  assert abs(float(found['code_mmd2'])) < 0.003


def test_codes_are_draws_and_samples_are_means_where_there_are_distributions():
  q = latent_priors.Gaussian(
    jnp.full((5000, 2), 3.0), jnp.log(jnp.full((5000, 2), 2.0))
  )
  queries = {'posterior': lambda *_: q, 'encode': lambda *_: q.mean}
  method = types.SimpleNamespace(queries=queries)
  codes = ledger.drawn_codes(method, None, jax.random.key(0), None)
  np.testing.assert_allclose(codes.std(0), 2.0, atol=0.1)
  method.queries = {'encode': queries['encode']}
  assert (ledger.drawn_codes(method, None, None, None) == 3.0).all()
  method.sample = lambda model, key, num, *, condition=None, mean=False: mean
  assert ledger.mean_samples(method, None, None, 2) is True
  method.sample = lambda model, key, num, *, condition=None: num
  assert ledger.mean_samples(method, None, None, 2) == 2


def test_cells_are_scaled_means_over_seeds():
  numbers = {'frechet': np.array([8.0, 10.0]), 'mmd2': np.array([0.001, 0.003])}
  found = ledger.cells(ledger.Row('a', numbers, 40, 3.4))
  assert found == [
    'a', '9.00 +- 1.00', '2.00 +- 1.00', '', '', '', '2', '40', '3'
  ]  # fmt: skip
  assert len(found) == len(ledger.HEADER)


@pytest.mark.slow
def test_all_rows_train_and_their_numbers_are_json(tmp_path, monkeypatch, capsys):
  # Of one device: on two cores four, which each factorize for the Frechet distance,
  # wait for one another.
  mesh = functools.partial(parallel.device_mesh, jax.devices()[:1])
  monkeypatch.setattr(parallel, 'device_mesh', mesh)
  tiny = ledger.Budget(2, {'digits': 2})
  monkeypatch.setitem(ledger.BUDGETS, 'smoke', tiny)
  numbers = ledger.run('smoke', out=tmp_path)
  tables = numbers.pop('tables')
  rows = json.loads(json.dumps(numbers))['rows']['digits']
  names = [row['name'] for row in rows]
  assert names == ['training images, prior', *(fit.name for fit in ledger.FITS)]
  for row in rows:
    for name in ledger.NUMBERS:
      missing = row['steps'] == 0 and name == 'reconstruction'
      assert missing or np.isfinite(row[name]).all() and len(row[name]) == 2
  assert len(tables['digits'].rows) == len(rows)
  picture = tmp_path / 'aae_against_vae_digits.png'
  assert picture.read_bytes()[:4] == b'\x89PNG'
  assert 'training images' in capsys.readouterr().out
