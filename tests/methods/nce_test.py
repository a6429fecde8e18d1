"""Noise-contrastive estimation: a Gaussian and its normalizer; estimates by a grid."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax import base, priors
from gm_jax.methods import nce
from gm_jax.models import mlp

MEAN, STD = 0.5, 0.7
NOISE = priors.normal(1, std=1.5)
KEY = jax.random.key(0)


class Gaussian(nn.Module):
  """The f by which E is a Gaussian's energy without its constant."""

  @nn.compact
  def __call__(self, x, *, train=False):
    mean = self.param('mean', nn.initializers.zeros, ())
    log_std = self.param('log_std', nn.initializers.zeros, ())
    return 0.5 * jnp.square((x - mean) * jnp.exp(-log_std)) + NOISE.log_prob(x)[:, None]


def test_a_gaussian_and_its_normalizer_are_found():
  method = nce.nce(
    Gaussian(), NOISE, optax.adam(optax.linear_schedule(0.1, 0.0, 200)),
    shape=(1,), num_noise=4,
  )  # fmt: skip

  def step(state, key):
    data_key, key = jax.random.split(key)
    x = MEAN + STD * jax.random.normal(data_key, (2048, 1))
    return method.step(state, key, {'x': x})

  @jax.jit
  def train():
    state = method.init(KEY, {'x': jnp.zeros((1, 1))})
    return jax.lax.scan(step, state, jax.random.split(KEY, 200))

  state, _ = train()
  found = state.params['energy']['params']
  np.testing.assert_allclose(found['mean'], MEAN, atol=0.03)
  np.testing.assert_allclose(jnp.exp(found['log_std']), STD, atol=0.03)
  log_z = 0.5 * np.log(2 * np.pi) + np.log(STD)
  np.testing.assert_allclose(state.params['log_partition'], log_z, atol=0.05)


METHOD = nce.nce(
  mlp.MLP((8, 1), activation=nn.tanh, kernel_init=nn.initializers.normal(2.0)),
  NOISE, optax.sgd(0.1), shape=(1,), num_noise=3,
)  # fmt: skip
GRID = np.linspace(-9.0, 9.0, 4001, dtype=np.float32)[:, None]


@functools.cache
def grid_model():
  """A network as it was initialized, and its density on the grid, of mass one."""
  state = jax.jit(METHOD.init)(KEY, {'x': jnp.asarray(GRID[:2])})
  model = base.Model(state.params, state.extra)
  energy = np.asarray(jax.jit(METHOD.queries['energy'])(model, None, GRID), float)
  mass = np.exp(-energy) * (GRID[1, 0] - GRID[0, 0])
  return state, model, energy, mass


def test_the_normalizer_is_that_of_a_grid_within_its_error():
  _, model, energy, mass = grid_model()
  log_z = np.log(mass.sum())
  keys = jax.random.split(KEY, 200)
  many = jax.vmap(lambda k: METHOD.queries['log_partition'](model, k, num_samples=500))
  values, errors = jax.jit(many)(keys)
  wrong = np.asarray(values, float) - log_z
  np.testing.assert_allclose(wrong.std(), errors.mean(), rtol=0.2)
  assert abs(wrong.mean()) < 4 * wrong.std() / np.sqrt(200) + wrong.std() ** 2
  estimate = functools.partial(METHOD.queries['log_prob_estimate'], num_samples=500)
  value, error = jax.jit(estimate)(model, keys[0], GRID[:3])
  np.testing.assert_allclose(value, -energy[:3] - values[0], rtol=1e-5)
  np.testing.assert_allclose(error, errors[0].repeat(3), rtol=1e-5)


def test_samples_follow_the_density_of_the_grid():
  _, model, _, mass = grid_model()
  mass = mass / mass.sum()
  x, info = jax.jit(lambda: METHOD.queries['sample_info'](
    model, KEY, 4000, num_steps=10, step_size=0.1))()  # fmt: skip
  for power in (1, 2):
    mean = (mass * GRID[:, 0].astype(float) ** power).sum()
    values = np.asarray(x, float) ** power
    assert abs(values.mean() - mean) < 4 * values.std() / np.sqrt(4000)
  assert info['acceptance'].shape == (4000,) and 0.5 < info['acceptance'].mean() < 1


def test_a_step_has_the_loss_written_out():
  state, model, energy, _ = grid_model()
  x = GRID[1900:1904]
  _, metrics = jax.jit(METHOD.step)(state, KEY, {'x': x})
  drawn = np.asarray(NOISE(KEY, 12))

  def log_ratio(x):
    energy = np.asarray(jax.jit(METHOD.queries['energy'])(model, None, x), float)
    return -energy - np.asarray(NOISE.log_prob(x), float)  # log Z is 0 at first

  data = np.log1p(np.exp(np.log(3) - log_ratio(x))).mean()
  noise = np.log1p(np.exp(log_ratio(drawn) - np.log(3))).sum() / 4
  np.testing.assert_allclose(metrics['loss'], data + noise, rtol=1e-4)


def test_what_does_not_fit_is_one_line():
  state, model, *_ = grid_model()
  with pytest.raises(ValueError, match='num_noise must be >= 1, got 0'):
    nce.nce(Gaussian(), NOISE, optax.sgd(0.1), shape=(1,), num_noise=0)
  with pytest.raises(ValueError, match=r'x must be \[B, 1\]'):
    METHOD.step(state, KEY, {'x': jnp.zeros((4, 2))})
  with pytest.raises(ValueError, match='num_samples must be >= 2'):
    METHOD.queries['log_partition'](model, KEY, num_samples=1)
  with pytest.raises(ValueError, match='step_size must be > 0'):
    METHOD.sample(model, KEY, 2, step_size=0.0)
  with pytest.raises(ValueError, match='std must be > 0, got 0'):
    priors.normal(1, std=0)
  wide = nce.nce(mlp.MLP((2,)), NOISE, optax.sgd(0.1), shape=(1,))
  with pytest.raises(ValueError, match=r'energy must be \[B, 1\]'):
    jax.eval_shape(
      lambda x: wide.step(wide.init(KEY, {'x': x}), KEY, {'x': x}), GRID[:2]
    )
