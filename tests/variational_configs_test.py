"""Variational configs: networks of what the data are, wrong leaves, the launcher."""

import importlib
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.data import registry
from gm_jax.training import launch

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.configs.parts import variational  # noqa: E402

VAE, IWAE, LADDER = 'vae_digits', 'iwae_digits', 'ladder_vae_digits'
TOP_DOWN, LEVELS = 'top_down_vae_digits', 'digits?transform=levels'
NOISY = 'digits?transform=dequantization'


def made(name, data=None, **changes):
  experiment = importlib.import_module(f'experiments.configs.{name}')
  config = experiment.get_config()
  config.update({'data': data or config.data, **changes})
  return experiment.make_method(config, registry.load(config.data).spec)


@pytest.mark.parametrize(
  ('name', 'data', 'leaf', 'value', 'message'),
  [
    (VAE, LEVELS, 'likelihood', 'gaussian', 'a density on it has no bound'),
    (VAE, LEVELS, 'likelihood', 'bernoulli', 'has 17 levels, and this model needs 2'),
    (VAE, NOISY, 'likelihood', 'logistics', 'it needs integers'),
    (VAE, LEVELS, 'likelihood', 'poisson', 'is not one of bernoulli, categorical'),
    (VAE, NOISY, 'likelihood', 'fixed_gaussian', 'std must be > 0, got 0'),
    (VAE, LEVELS, 'prior', 'laplace', 'is not one of mixture, normal, vamp'),
    (VAE, LEVELS, 'beta', -1.0, 'beta must be > 0'),
    (VAE, LEVELS, 'latent_size', 0, 'latent_size must be >= 1'),
    (IWAE, LEVELS, 'num_draws', 0, 'num_draws must be >= 1'),
    (IWAE, LEVELS, 'estimator', 'reinforce', 'is not one of dreg, plain, stl'),
    (LADDER, LEVELS, 'sizes', '8+x', 'sizes must be numbers >= 1 with . between'),
    (LADDER, LEVELS, 'beta_warmup', -1, 'beta_warmup must be >= 0'),
    (TOP_DOWN, LEVELS, 'skip_above', 0.0, 'limit must be > 0'),
    (TOP_DOWN, 'toy:ring', 'features', 4, 'are not images'),
    ('beta_tcvae_glyphs', 'toy:ring', 'beta', 2.0, 'no number of training examples'),
    ('semi_supervised_vae_digits', LEVELS, 'alpha', -1.0, 'alpha >= 0'),
  ],
)
def test_a_leaf_that_does_not_fit_is_one_line(name, data, leaf, value, message):
  changes = {leaf: value, **({'std': 0.0} if value == 'fixed_gaussian' else {})}
  with pytest.raises(ValueError, match=message) as error:
    made(name, data, **changes)
  assert '\n' not in str(error.value)


def test_levels_are_scaled_where_they_are_integers_alone():
  config = importlib.import_module('experiments.configs.vae_digits').get_config()
  assert variational.levels_of(registry.load(LEVELS).spec) == 17
  config.likelihood = 'fixed_gaussian'
  spec = registry.load(NOISY).spec
  net = variational.networks(config, spec)
  assert variational.levels_of(spec) is None and net.encoder.num_levels is None


@pytest.mark.parametrize('data', [LEVELS, NOISY])
def test_pseudo_inputs_begin_and_stay_in_the_range_of_the_data(data):
  config = importlib.import_module('experiments.configs.vae_digits').get_config('vamp')
  spec = registry.load(data).spec
  prior = variational.prior(config, spec)
  inputs = prior.init(jax.random.key(0))['pseudo_inputs']
  low, high = (0, 16) if data == LEVELS else (-1, 1)
  assert inputs.shape == (50, 8, 8, 1)
  assert abs(inputs.mean() - (low + high) / 2) < 0.1 * (high - low)
  seen = []

  def encode(u):
    seen.append(u)
    flat = jnp.zeros((len(u), 16))
    return variational.latent_priors.Gaussian(flat, flat)

  prior.log_prob({'pseudo_inputs': 100.0 * inputs}, encode, jnp.zeros((1, 16)))
  assert seen[0].min() == low and seen[0].max() == high


@pytest.mark.slow
@pytest.mark.parametrize('name', [VAE, LADDER])
def test_every_mode_of_the_launcher_serves_a_trained_model(name, tmp_path):
  experiment = importlib.import_module(f'experiments.configs.{name}')
  config = experiment.get_config()
  config.update({
    'steps': 40, 'steps_per_dispatch': 10, 'log_every': 10, 'evaluate_every': 20,
    'checkpoint_every': 20, 'sample_every': 40,
  })  # fmt: skip
  if 'beta_warmup' in config:
    config.beta_warmup = 10
  half = config.copy_and_resolve_references()
  half.steps = 20
  launch.train(experiment, half, tmp_path)
  launch.train(experiment, config, tmp_path)  # goes on from step 20
  z, x = (
    {k: np.asarray(v) for k, v in np.load(tmp_path / f'{mode}.npz').items()}
    for mode in ('encode', 'reconstruct')
    if launch.MODES[mode](experiment, config, tmp_path) is not None
  )
  codes = [v for k, v in z.items() if k.startswith('z')]
  assert all(np.isfinite(c).all() and c.shape[1] == 360 for c in codes)
  raw = registry.load(LEVELS).arrays('test')['x']
  np.testing.assert_array_equal(x['x'][0], raw)
  assert x['reconstruction'].min() >= 0 and x['reconstruction'].max() <= 16
  assert (tmp_path / 'reconstruct.png').read_bytes()[:4] == b'\x89PNG'
  launch.sample(experiment, config, tmp_path)
  launch.evaluate(experiment, config, tmp_path)
  found = json.loads((tmp_path / 'evaluation.json').read_text())
  assert found['nll_bound'][0] < 64 * np.log(17)  # of levels that are all alike
  if name == VAE:
    launch.MODES['traverse'](experiment, config, tmp_path)
    assert (tmp_path / 'traverse.png').exists()
