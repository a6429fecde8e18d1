"""The MMD GAN's step, from the papers' formulas."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compiled import compiled

from gm_jax import priors
from gm_jax.losses import discrepancy, penalties
from gm_jax.methods import mmd_gan
from gm_jax.models import mlp

KERNEL = discrepancy.rational_quadratic(alphas=(0.5, 2.0))
RATE, WEIGHT = 0.05, 0.7


def penalty(witness, key, real, fake):
  """Penalizes at the middle, so that a test may do the same by hand."""
  del key
  return WEIGHT * penalties.r1(witness, (real + fake) / 2)


def make(weight_of=penalty):
  return compiled(mmd_gan.mmd_gan(
    mlp.MLP((2,)), mlp.MLP((3,)), optax.sgd(RATE), optax.sgd(RATE),
    prior=lambda key, num: Z[:num], kernel=KERNEL, penalty=weight_of,
  ))  # fmt: skip


Z = jax.random.normal(jax.random.key(9), (6, 2))
X = 1.0 + jax.random.normal(jax.random.key(8), (6, 2))


def linear(weights, x):
  return x @ weights['Dense_0']['kernel'] + weights['Dense_0']['bias']


def k(a, b):
  return sum((1 + jnp.sum((a - b) ** 2) / (2 * s)) ** -s for s in (0.5, 2.0))


def mmd2(c, x, y):
  """The unbiased estimate, over the pairs of the definition."""
  x, y = linear(c, x), linear(c, y)
  first, second = np.array([(i, j) for i in range(6) for j in range(6) if i != j]).T
  within = jax.vmap(k)(x[first], x[second]) + jax.vmap(k)(y[first], y[second])
  first, second = np.array([(i, j) for i in range(6) for j in range(6)]).T
  return within.mean() - 2 * jax.vmap(k)(x[first], y[second]).mean()


mmd2_of = jax.jit(mmd2)


def witness(c, at, x, y):
  at, x, y = linear(c, at), linear(c, x), linear(c, y)
  to = jax.vmap(k, (None, 0))
  return to(at, x).mean() - to(at, y).mean()


def critic_loss(c, x, y):
  slopes = jax.vmap(jax.grad(witness, 1), (None, 0, None, None))(c, (x + y) / 2, x, y)
  return WEIGHT * (slopes**2).sum(-1).mean() - mmd2(c, x, y)


def test_both_players_move_as_the_formulas_say():
  method = make()
  state = method.init(jax.random.key(0), {'x': X})
  after, metrics = method.step(state, jax.random.key(1), {'x': X})
  g, c = state.params['generator'], state.params['discriminator']
  fake = linear(g, Z)
  loss, grads = jax.jit(jax.value_and_grad(critic_loss))(c, X, fake)
  new_c = jax.tree.map(lambda p, d: p - RATE * d, c, grads)
  g_loss = jax.value_and_grad(lambda g: mmd2(new_c, X, linear(g, Z)))
  g_value, g_grads = jax.jit(g_loss)(g)
  new_g = jax.tree.map(lambda p, d: p - RATE * d, g, g_grads)
  np.testing.assert_allclose(metrics['discriminator_loss'], loss, rtol=1e-4)
  np.testing.assert_allclose(metrics['mmd2'], mmd2_of(c, X, fake), rtol=1e-4)
  np.testing.assert_allclose(metrics['generator_loss'], g_value, rtol=1e-4)
  chex.assert_trees_all_close(
    after.params['discriminator'], new_c, rtol=1e-4, atol=1e-7
  )
  chex.assert_trees_all_close(after.params['generator'], new_g, rtol=1e-4, atol=1e-7)


def test_the_critic_raises_and_the_generator_lowers_the_discrepancy():
  method = make(None)
  state = method.init(jax.random.key(0), {'x': X})
  after = method.step(state, jax.random.key(1), {'x': X})[0]
  critic, new_critic = (s.params['discriminator'] for s in (state, after))
  fake, new_fake = (linear(s.params['generator'], Z) for s in (state, after))
  before, raised = mmd2_of(critic, X, fake), mmd2_of(new_critic, X, fake)
  assert before < raised and mmd2_of(new_critic, X, new_fake) < raised


def test_critic_steps_below_one_are_refused():
  with pytest.raises(ValueError, match='num_critic must be >= 1, got 0'):
    functools.partial(mmd_gan.mmd_gan, num_critic=0)(
      mlp.MLP((2,)), mlp.MLP((3,)), optax.sgd(1.0), optax.sgd(1.0),
      prior=priors.normal(2), kernel=KERNEL,
    )  # fmt: skip
