"""Configs of diffusion models: what they measure, and what does not fit is one line."""

import importlib
import pathlib
import sys

import jax
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.configs import edm_digits, vdm_digits  # noqa: E402
from gm_jax import base  # noqa: E402
from gm_jax.data import registry  # noqa: E402

KEY = jax.random.key(0)


def test_the_deviation_is_measured_about_zero_and_that_of_other_data_is_refused():
  """0.8474 of the digits in [-1, 1], whose mean is not 0."""
  digits, ring = registry.load('digits'), registry.load('toy:ring')
  config = edm_digits.get_config()
  edm_digits.measure(config, digits)
  raw = np.asarray(digits.arrays('train')['x'], np.float64) / 16 * 2 - 1
  np.testing.assert_allclose(config.data_std, np.sqrt(np.mean(raw**2)), atol=1e-4)
  assert abs(raw.mean()) > 0.3
  with pytest.raises(ValueError, match='data_std = 0.8474, but .* 0 measures it'):
    edm_digits.measure(config, ring)
  config.data_std = 0.0
  edm_digits.measure(config, ring)
  x = ring.arrays('train', 10_000)['x']
  np.testing.assert_allclose(config.data_std, np.sqrt(np.mean(x**2)), rtol=0.02)


@pytest.mark.parametrize(
  ('name', 'changes', 'word'),
  [
    ('edm_digits', {'network': 'vit'}, "network = 'vit' is not one of"),
    ('edm_digits', {'data': 'toy:ring', 'network': 'unet'}, 'is of images'),
    ('ddpm_digits', {'betas': 'square'}, "betas = 'square' is not one of"),
    ('ddpm_digits', {'num_steps': 1}, 'num_steps must be >= 2, got 1'),
    ('ddpm_digits', {'betas': 'linear', 'num_steps': 10}, 'between 0 and 1'),
    ('ddpm_digits', {'predicts': 'flow'}, "predicts = 'flow' is not one of"),
    ('flow_matching_digits', {'coupling': 'best'}, "coupling = 'best' is not one of"),
    ('flow_matching_digits', {'times': 'normal'}, "times = 'normal' is not one of"),
    ('flow_matching_digits', {'condition': 'label', 'drop': 1.0}, 'must be in (0, 1)'),
    ('vdm_digits', {'data': 'digits'}, 'gives the model real numbers'),
    ('vdm_digits', {'schedule': 'cosine'}, "schedule = 'cosine' is not one of"),
    ('vdm_digits', {'low': 6.0}, 'low = 6 must be below high = 5'),
    ('vdm_digits', {'num_steps': -1}, 'num_steps must be >= 0, got -1'),
    ('vdm_digits', {'predicts': 'score'}, "predicts = 'score' is not one of"),
    ('vdm_digits', {'network': 'unet'}, "network = 'unet' is not one of"),
    ('vdm_digits', {'data': 'melodies'}, 'are not images'),
    ('score_sde_digits', {'process': 'vpe'}, "process = 'vpe' is not one of sub_vp"),
    ('score_sde_digits', {'weighting': 'g'}, "weighting = 'g' is not one of equal"),
    ('score_sde_digits', {'snr': 0.0}, 'snr must be > 0, got 0'),
    ('score_sde_digits', {'num_steps': 0}, 'num_steps must be >= 1, got 0'),
    ('rectified_flow_digits', {'reflows': -1}, 'reflows must be >= 0, got -1'),
    (
      'rectified_flow_digits',
      {'reflows': 3},
      'must leave some of steps = 9000',
    ),
    ('rectified_flow_digits', {'solver_steps': 0}, 'and repeats must be >= 1'),
    ('improved_ddpm_digits', {'data': 'digits'}, 'gives the model real numbers'),
    ('improved_ddpm_digits', {'bound_weight': -1.0}, 'bound_weight must be >= 0'),
    ('improved_ddpm_digits', {'betas': 'square'}, "betas = 'square' is not one of"),
    ('equilibrium_matching_digits', {'energy': 'sum'}, "energy = 'sum' is not one of"),
    ('equilibrium_matching_digits', {'momentum': 1.0}, 'momentum must be in [0, 1)'),
    ('equilibrium_matching_digits', {'step_size': 0.0}, 'step_size must be > 0'),
    ('equilibrium_matching_digits', {'threshold': 1.0}, 'threshold must be in [0, 1)'),
  ],
)
def test_what_does_not_fit_is_one_line(name, changes, word):
  module = importlib.import_module(f'experiments.configs.{name}')
  config = module.get_config()
  config.update(changes)
  with pytest.raises(ValueError) as error:
    module.make_method(config, registry.load(config.data).spec)
  assert word in str(error.value) and '\n' not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize('network', ['unet', 'dit'])
def test_networks_of_images_begin_with_a_loss_of_one_and_learn(network):
  """A network of 0 tells nothing: the targets have variance 1."""
  config, data = edm_digits.get_config(), registry.load('digits')
  config.update({'network': network, 'width': 16, 'num_blocks': 1})
  method = edm_digits.make_method(config, data.spec)
  x = data.spec.transform.forward(None, data.arrays('train')['x'])
  batch = {'x': x[:256]}
  state, losses = jax.jit(method.init)(jax.random.key(0), batch), []
  step = jax.jit(method.step)
  for i in range(30):
    state, metrics = step(state, jax.random.key(i), batch)
    losses.append(float(metrics['loss']))
  assert abs(losses[0] - 1) < 0.1 and np.mean(losses[-5:]) < losses[0] - 0.05


@pytest.mark.slow
@pytest.mark.parametrize('network', ['windows', 'mlp'])
def test_the_bound_of_a_network_of_0_is_that_of_pixels_alike(network):
  """D ln 17 where levels are known, and where they are not D / 2 of every nat of gamma.

  Reconstruction and prior of the ends -9 and 5 are below a nat.
  """
  config, data = vdm_digits.get_config(), registry.load('digits?transform=levels')
  x = data.spec.transform.forward(None, data.arrays('test')['x'])
  for predicts, expected in (('levels', 64 * np.log(17)), ('noise', 32 * 14)):
    config.update({'network': network, 'width': 16, 'predicts': predicts})
    method = vdm_digits.make_method(config, data.spec)
    state = method.init(jax.random.key(0), {'x': x[:2]})
    model = base.Model(state.params, state.extra)
    found = jax.jit(lambda x, m=method, model=model: -m.queries['elbo'](model, KEY, x))
    nats = np.asarray(found(x))
    error = nats.std() / np.sqrt(len(nats))
    assert -4 * error < nats.mean() - expected < 1 + 4 * error
