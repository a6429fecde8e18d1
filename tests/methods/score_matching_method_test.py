"""Score matching: a Gaussian is found by every objective, and a step written out."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax import base, priors
from gm_jax.losses import score_matching as losses
from gm_jax.methods import score_matching
from gm_jax.models import mlp

MEAN, STD = 0.5, 0.7
NOISE = priors.normal(2, std=1.5)
KEY = jax.random.key(0)


class Gaussian(nn.Module):
  """The f by which E is a Gaussian's energy without its constant."""

  @nn.compact
  def __call__(self, x, *, train=False):
    mean = self.param('mean', nn.initializers.zeros, ())
    log_std = self.param('log_std', nn.initializers.zeros, ())
    energy = 0.5 * jnp.square((x - mean) * jnp.exp(-log_std)).sum(axis=1)
    return (energy + NOISE.log_prob(x))[:, None]


@functools.partial(jax.jit, static_argnums=0)
def trained(objective):
  method = score_matching.score_matching(
    Gaussian(), NOISE, optax.adam(optax.linear_schedule(0.1, 0.0, 200)),
    shape=(2,), objective=objective,
  )  # fmt: skip

  def step(state, key):
    data_key, key = jax.random.split(key)
    x = MEAN + STD * jax.random.normal(data_key, (1024, 2))
    return method.step(state, key, {'x': x})

  state = method.init(KEY, {'x': jnp.zeros((1, 2))})
  state, metrics = jax.lax.scan(step, state, jax.random.split(KEY, 200))
  model = base.Model(state.params, state.extra)
  log_z = method.queries['log_partition'](model, KEY)
  return state.params['energy']['params'], metrics['loss'], log_z


@pytest.mark.parametrize(
  ('objective', 'noise'),
  [
    (score_matching.implicit, 0.0),
    (losses.sliced, 0.0),
    (score_matching.denoising(0.4), 0.4),
  ],
)
def test_a_gaussian_is_found_by_every_objective(objective, noise):
  """By denoising that of the noisy data; the least value is known: D = 2 terms."""
  params, loss, (log_z, error) = trained(objective)
  var = STD**2 + noise**2
  np.testing.assert_allclose(params['mean'], MEAN, atol=0.03)
  np.testing.assert_allclose(jnp.exp(2 * params['log_std']), var, rtol=0.06)
  # -1 / (2 v) a number; half of Var(e given x_t) / sigma^2 where there is noise.
  least = STD**2 / (noise**2 * var) if noise else -1 / var
  np.testing.assert_allclose(loss[-50:].mean(), least, rtol=0.03)
  expected = np.log(2 * np.pi) + 2 * float(params['log_std'])
  assert abs(log_z - expected) < 4 * error


def test_a_step_has_the_loss_of_the_score_by_differences():
  method = score_matching.score_matching(
    mlp.MLP((8, 1), activation=nn.tanh), NOISE, optax.sgd(0.1), shape=(2,),
    objective=score_matching.implicit,
  )  # fmt: skip
  x = np.random.default_rng(0).normal(size=(4, 2))
  with jax.enable_x64(True):
    state = jax.jit(method.init)(KEY, {'x': jnp.asarray(x)})
    model = base.Model(state.params, state.extra)
    _, metrics = jax.jit(method.step)(state, KEY, {'x': jnp.asarray(x)})
    energy = jax.jit(method.queries['energy'])

    def at(*moves):
      return np.asarray(energy(model, None, jnp.asarray(x + np.array(moves))))

    size, total = 1e-4, 0.0
    for d in np.eye(2) * size:
      up, here, down = at(*d), at(0.0, 0.0), at(*-d)
      total += 0.5 * ((up - down) / (2 * size)) ** 2  # |s|^2 / 2
      total -= (up - 2 * here + down) / size**2  # the trace of minus the Hessian
  np.testing.assert_allclose(float(metrics['loss']), total.mean(), rtol=1e-5)


def test_what_does_not_fit_is_one_line():
  method = score_matching.score_matching(
    mlp.MLP((2,)), NOISE, optax.sgd(0.1), shape=(2,)
  )
  with pytest.raises(ValueError, match='std of the noise must be > 0, got 0'):
    score_matching.denoising(0.0)
  for size, word in ((3, r'x must be \[B, 2\]'), (2, r'energy must be \[B, 1\]')):
    with pytest.raises(ValueError, match=word):
      jax.eval_shape(
        lambda x: method.step(method.init(KEY, {'x': x}), KEY, {'x': x}),
        jnp.zeros((4, size)),
      )
