"""Transitions of chains beside blackjax's: of the same key the same move, or none."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.samplers import langevin, mcmc

NUM = 200
KEYS = jax.random.split(jax.random.key(0), NUM)  # of one chain each


@pytest.fixture(scope='module')
def blackjax():
  """The package, imported once and only here: nothing of gm_jax needs it."""
  return pytest.importorskip('blackjax', reason="not installed: 'gm_jax[test]'")


def banana(z):
  return -0.5 * jnp.square(z[:, 0]) - 2.0 * jnp.square(z[:, 1] - jnp.square(z[:, 0]))


def one(z):
  """The log-density of a chain [D]."""
  return banana(z[None])[0]


def start():
  return jax.random.normal(jax.random.key(1), (NUM, 2))


def ours(step, **sizes):
  """Positions, acceptance and decisions, each chain by its own key."""

  def move(key, z):
    z, info = step(banana, key, z[None], **sizes)
    return z[0], info.acceptance[0], info.accepted[0]

  return jax.jit(jax.vmap(move))(KEYS, start())


def theirs(algorithm):
  """The same by an algorithm of blackjax."""

  def move(key, z):
    state, info = algorithm.step(key, algorithm.init(z))
    return state.position, info.acceptance_rate, info.is_accepted

  return jax.jit(jax.vmap(move))(KEYS, start())


def assert_equal(found, expected):
  np.testing.assert_allclose(found[1], expected[1], rtol=1e-3, atol=1e-4)
  np.testing.assert_array_equal(found[2], expected[2])
  np.testing.assert_allclose(found[0], expected[0], rtol=1e-3, atol=1e-5)
  # Both are seen: moves and refusals, and probabilities between 0 and 1.
  moved = np.abs(np.asarray(found[0] - start())).max(axis=1) > 1e-3
  assert 0.2 < moved.mean() < 0.95
  inner = (found[1] > 0.01) & (found[1] < 0.99)
  assert inner.mean() > 0.2


@pytest.mark.parametrize('step_size', [0.05, 0.3])
def test_mala_moves_as_blackjax_does(blackjax, step_size):
  """Ours is a leapfrog step, theirs the ratio of two Gaussian proposals."""
  found = ours(langevin.mala, step_size=step_size)
  assert_equal(found, theirs(blackjax.mala(one, step_size)))


@pytest.mark.parametrize('num', [1, 7])
def test_hmc_moves_as_blackjax_does(blackjax, num):
  found = ours(mcmc.hmc, step_size=0.3, num_leapfrog=num)
  assert_equal(found, theirs(blackjax.hmc(one, 0.3, jnp.ones(2), num)))


def test_langevin_at_a_temperature_is_blackjaxs_step_of_stochastic_gradients(blackjax):
  step = functools.partial(langevin.langevin, step_size=0.07, temperature=0.3)
  found, acceptance, _ = ours(step)
  sgld = blackjax.sgld(lambda z, batch: jax.grad(one)(z))
  move = jax.vmap(lambda key, z: sgld.step(key, z, None, 0.07, 0.3))
  expected = jax.jit(move)(KEYS, start())
  assert (acceptance == 1).all() and np.abs(found - start()).mean() > 0.1
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
