"""Configs of flows: what is refused, the known density beside, the papers' sizes."""

import importlib
import math
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.data import registry
from gm_jax.tasks import results
from gm_jax.training import step as step_lib

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def config_of(name, arg=None, **changes):
  module = importlib.import_module(f'experiments.configs.{name}')
  config = module.get_config(arg)
  for leaf, value in changes.items():
    config[leaf] = value
  return module, config


@pytest.mark.parametrize(
  ('name', 'arg', 'changes', 'message'),
  [
    ('glow_digits', None, {'levels': 4}, '8 x 8 are no multiples of 16'),
    (
      'glow_digits',
      None,
      {'data': 'digits?transform=levels'},
      'gives the model a latt',
    ),
    ('glow_digits', None, {'data': 'toy:moons'}, 'are not images'),
    ('glow_digits', None, {'mixing': 'rotate'}, "mixing = 'rotate' is not one of"),
    (
      'maf_digits',
      None,
      {'data': 'digits?transform=scaling'},
      'gives the model a latt',
    ),
    ('maf_digits', 'affine', {}, "the argument = 'affine' is not one of"),
    ('spline_flow_toy', None, {'layers': 'cubic'}, "layers = 'cubic' is not one of"),
    ('spline_flow_toy', None, {'num_bins': 1}, 'num_bins must be >= 2, got 1'),
    ('spline_flow_toy', None, {'box': 0.5}, 'of the numbers lie outside: box = '),
    ('spline_flow_toy', None, {'num_layers': 0}, 'num_layers must be >= 1, got 0'),
    ('variational_flow_digits', None, {'data': 'digits'}, 'and it needs integers'),
    ('flow_vae_digits', None, {'latent_size': 1}, 'a flow needs two codes'),
    ('flow_vae_digits', None, {'posterior': 'iaf'}, "posterior = 'iaf' is not one of"),
  ],
)
def test_what_does_not_fit_is_one_line(name, arg, changes, message):
  with pytest.raises(ValueError) as error:
    module, config = config_of(name, arg, **changes)
    data = registry.load(config.data)
    getattr(module, 'measure', lambda config, data: None)(config, data)
    module.make_method(config, data.spec)
  assert message in str(error.value) and '\n' not in str(error.value)


def test_single_numbers_have_no_couplings(tmp_path):
  path = tmp_path / 'one.npz'
  np.savez(path, x_train=np.zeros((9, 1)), x_test=np.zeros((9, 1)))
  module, config = config_of('spline_flow_toy', data=f'npz:{path}')
  with pytest.raises(ValueError, match='single numbers; a coupling needs two'):
    module.make_method(config, registry.load(config.data).spec)


def test_a_flow_without_layers_lacks_the_divergence_of_its_gaussian():
  """At first every spline is the identity: the flow is the Gaussian of the batch."""
  module, config = config_of('spline_flow_toy')
  data = registry.load(config.data)
  method = module.make_method(config, data.spec)
  x = data.arrays('train', 5000)['x']
  model = step_lib.model(jax.jit(method.init)(jax.random.key(0), {'x': jnp.asarray(x)}))
  found = results.numbers(
    module.make_evaluation(config, data)(method, model, jax.random.key(1))
  )
  # Of a diagonal Gaussian, whose cross entropy is that of its moments.
  test = data.arrays('test', 2000)['x']
  z = (test - x.mean(axis=0)) / x.std(axis=0)
  nats = 0.5 * (z**2).sum(axis=1) + np.log(x.std(axis=0)).sum() + math.log(2 * math.pi)
  np.testing.assert_allclose(found['nll_density'], nats.mean(), rtol=1e-3)
  np.testing.assert_allclose(
    found['kl_estimate'], nats.mean() - found['entropy_estimate'], atol=2e-3
  )
  assert found['kl_estimate'] > 0.3


@pytest.mark.slow
def test_the_papers_sizes_lower_at_its_batch():
  """Glow of 32 x 32 pixels: 3 levels of 32 steps, 512 channels."""
  module, config = config_of('glow_digits', 'paper')
  method = module.make_method(config, registry.load(config.data).spec)
  x = jnp.zeros((64, 32, 32, 3))
  state = jax.eval_shape(method.init, jax.random.key(0), {'x': x})
  step = jax.jit(method.step)
  assert 'func' in step.lower(state, jax.random.key(1), {'x': x}).as_text()
  count = 2 * 32 * 32 * 3  # mean and deviation of the noise
  for level, c in enumerate((12, 24, 48)):
    coupling = 9 * (c // 2) * 512 + 512 + 512 * 512 + 512 + 9 * 512 * c + 2 * c
    count += 32 * (2 * c + 2 * c * c + c + coupling) + (level < 2) * coupling
  assert sum(leaf.size for leaf in jax.tree.leaves(state.params)) == count
