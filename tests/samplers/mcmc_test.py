"""Hamiltonian Monte Carlo: what leaves a density as it is, and what NaN does not do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gm_jax.samplers import mcmc

QUARTIC = stats.gennorm(4)  # density proportional to exp(-z^4)


def quartic(z):
  return -jnp.sum(z**4, axis=-1)


def gaussian(z):
  return -0.5 * jnp.sum(jnp.square(z), axis=-1)


def banana(z):
  return -0.5 * jnp.square(z[:, 0]) - 2.0 * jnp.square(z[:, 1] - jnp.square(z[:, 0]))


def draws(key, *shape):
  """Draws of exp(-z^4): z^4 is a Gamma variable of shape 1/4."""
  size_key, sign_key = jax.random.split(key)
  size = jax.random.gamma(size_key, 0.25, shape) ** 0.25
  return size * jax.random.rademacher(sign_key, shape, float)


def run(log_prob, key, z, num, **sizes):
  """Positions after `num` transitions, and the information of each."""

  def step(z, key):
    return mcmc.hmc(log_prob, key, z, **sizes)

  return jax.lax.scan(step, z, jax.random.split(key, num))


@functools.cache
def states():
  keys = jax.random.split(jax.random.key(0))
  return jax.random.normal(keys[0], (7, 2)), jax.random.normal(keys[1], (7, 2))


def test_leapfrog_goes_back_where_it_came_from():
  z, m = states()
  walk = functools.partial(mcmc.leapfrog, banana, step_size=0.05, num_leapfrog=12)
  there, momentum = jax.jit(walk)(z, m)
  back, reversed_momentum = jax.jit(walk)(there, -momentum)
  assert float(jnp.abs(there - z).min(axis=0).max()) > 0.01
  np.testing.assert_allclose(back, z, atol=2e-5)
  np.testing.assert_allclose(reversed_momentum, -m, atol=2e-5)


def test_leapfrog_keeps_volumes():
  def flow(state):
    z, m = mcmc.leapfrog(
      banana, state[None, :2], state[None, 2:], step_size=0.1, num_leapfrog=3
    )
    return jnp.concatenate([z[0], m[0]])

  state = jnp.concatenate([s[0] for s in states()])
  jacobian = jax.jit(jax.jacfwd(flow))(state)
  assert float(jnp.abs(jacobian - jnp.eye(4)).max()) > 0.1
  np.testing.assert_allclose(jnp.linalg.det(jacobian), 1.0, rtol=1e-5)


def test_energy_error_falls_as_the_square_of_the_step():
  with jax.enable_x64(True):
    z, m = (jnp.asarray(np.asarray(s), float) for s in states())
    errors = []
    for step, num in ((0.02, 20), (0.01, 40), (0.005, 80)):
      walk = functools.partial(mcmc.leapfrog, banana, step_size=step, num_leapfrog=num)
      end, momentum = jax.jit(walk)(z, m)
      energy = gaussian(momentum) + banana(end) - gaussian(m) - banana(z)
      errors.append(np.abs(energy))
  for coarse, fine in zip(errors, errors[1:], strict=False):
    np.testing.assert_allclose(coarse / fine, 4.0, rtol=0.05)


def test_acceptance_and_decision_are_those_of_the_formula():
  z, _ = states()
  key, size, num = jax.random.key(3), np.linspace(0.1, 0.9, 7), 4
  hmc = functools.partial(mcmc.hmc, quartic, step_size=jnp.asarray(size))
  found, info = jax.jit(functools.partial(hmc, num_leapfrog=num))(key, z)
  momentum_key, accept_key = jax.random.split(key)
  position, step = np.asarray(z, float), size[:, None]
  momentum = start = np.asarray(jax.random.normal(momentum_key, (7, 2)), float)
  with np.errstate(over='ignore', invalid='ignore'):
    for _ in range(num):  # each step as it is written, two halves of the momentum
      momentum = momentum - 0.5 * step * 4 * position**3
      position = position + step * momentum
      momentum = momentum - 0.5 * step * 4 * position**3
    energy = (np.asarray(z, float) ** 4).sum(1) + 0.5 * (start**2).sum(1)
    change = energy - (position**4).sum(1) - 0.5 * (momentum**2).sum(1)
    expected = np.exp(np.minimum(np.nan_to_num(change, nan=-np.inf), 0.0))
  np.testing.assert_allclose(info.acceptance, expected, atol=1e-4)
  uniform = np.asarray(jax.random.uniform(accept_key, (7,)))
  accepted = uniform < expected
  assert 0 < accepted.sum() < 7 and np.abs(uniform - expected).min() > 1e-3
  np.testing.assert_array_equal(info.accepted, accepted)
  rows = np.where(accepted[:, None], position, z)
  np.testing.assert_allclose(found, rows, rtol=2e-4, atol=1e-5)
  np.testing.assert_allclose(info.log_prob, quartic(found), rtol=1e-5)


def test_a_density_is_left_as_it_is_by_steps_far_too_large():
  num = 20_000
  sizes = {'step_size': 0.9, 'num_leapfrog': 2}
  z = draws(jax.random.key(0), num, 1)
  end, info = jax.jit(lambda z: run(quartic, jax.random.key(1), z, 5, **sizes))(z)
  assert 0.3 < float(info.acceptance.mean()) < 0.8
  assert float((end == z).mean()) < 0.2  # most have moved
  assert stats.kstest(np.asarray(end)[:, 0], QUARTIC.cdf).pvalue > 0.01
  for power in (1, 2, 4):
    values = np.asarray(end, float)[:, 0] ** power
    error = values.std() / np.sqrt(num)
    assert abs(values.mean() - QUARTIC.moment(power)) < 4 * error, power
  # Without the decision it is another density.
  momentum = jax.random.normal(jax.random.key(2), z.shape)
  wrong, _ = mcmc.leapfrog(quartic, z, momentum, **sizes)
  second = np.asarray(wrong)[:, 0] ** 2
  assert not abs(second.mean() - QUARTIC.moment(2)) < 0.1


def test_chains_find_a_correlated_gaussian_from_afar():
  covariance = np.array([[1.0, 0.9], [0.9, 2.0]])
  precision = jnp.asarray(np.linalg.inv(covariance), jnp.float32)

  def log_prob(z):
    return -0.5 * jnp.einsum('ni,ij,nj->n', z - 1.0, precision, z - 1.0)

  start = jnp.full((4000, 2), -3.0)
  sizes = {'step_size': 0.4, 'num_leapfrog': 4}
  end, _ = jax.jit(lambda z: run(log_prob, jax.random.key(4), z, 25, **sizes))(start)
  np.testing.assert_allclose(end.mean(axis=0), 1.0, atol=4 * np.sqrt(2 / 4000))
  np.testing.assert_allclose(np.cov(end.T), covariance, atol=4 * 2 * np.sqrt(2 / 4000))


def cliff(value):
  """The standard normal to the left of 0.5, and `value` on its right."""
  return lambda z: jnp.where(z[:, 0] > 0.5, value, gaussian(z))


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_moves_no_chain(value):
  sizes = {'step_size': 0.5, 'num_leapfrog': 3}
  start = jnp.zeros((500, 1))
  end, info = jax.jit(lambda z: run(cliff(value), jax.random.key(5), z, 20, **sizes))(
    start
  )
  assert float(end.max()) <= 0.5 and float(end.min()) < -1.5
  assert np.isfinite(end).all() and np.isfinite(info.log_prob).all()
  assert float(info.acceptance.min()) == 0.0
  # It is the law of what is left.
  inside = stats.truncnorm(-np.inf, 0.5)
  assert abs(float(end.mean()) - inside.mean()) < 5 * inside.std() / np.sqrt(500)


def test_a_chain_where_the_density_is_nan_stays_and_one_without_density_leaves():
  start = jnp.array([[2.0], [0.4]])
  stay, info = mcmc.hmc(
    cliff(jnp.nan), jax.random.key(0), start, step_size=0.3, num_leapfrog=3
  )
  assert stay[0] == 2.0 and not info.accepted[0] and info.acceptance[0] == 0

  def wall(z):  # no density beyond, but a way back
    return jnp.where(z[:, 0] > 0.5, -jnp.inf, 0.0) + gaussian(z)

  end, _ = run(wall, jax.random.key(1), start, 10, step_size=0.5, num_leapfrog=3)
  assert float(end.max()) <= 0.5


def test_a_gradient_that_is_nan_moves_no_chain():
  def rooted(z):  # finite at 0, where its gradient is 0 times infinity
    return gaussian(z) - jnp.sqrt(jnp.square(z[:, 0]))

  start = jnp.array([[0.0], [1.0]])
  end, info = mcmc.hmc(rooted, jax.random.key(0), start, step_size=0.1, num_leapfrog=2)
  assert end[0] == 0.0 and not info.accepted[0]
  assert np.isfinite(end).all() and info.acceptance[1] > 0.5


def test_chains_of_any_shape_know_nothing_of_one_another():
  z = jax.random.normal(jax.random.key(0), (6, 2, 3))

  def log_prob(z):
    return -jnp.sum(z.reshape(len(z), -1) ** 4, axis=1)

  step = jax.jit(functools.partial(mcmc.hmc, log_prob, step_size=0.3, num_leapfrog=3))
  end, _ = step(jax.random.key(1), z)
  other, _ = step(jax.random.key(1), z.at[2].add(0.5))
  rest = np.arange(6) != 2
  np.testing.assert_array_equal(end[rest], other[rest])
  assert (np.asarray(end[2]) != np.asarray(other[2])).any()


def test_step_sizes_are_adapted_chain_by_chain_to_the_acceptance_wanted():
  scale = jnp.array([0.01, 0.1, 1.0]).repeat(40)[:, None]

  def log_prob(z):
    return gaussian(z / scale)

  def step(carry, key):
    z, sizes = carry
    z, info = mcmc.hmc(log_prob, key, z, step_size=sizes.step_size, num_leapfrog=3)
    sizes = mcmc.adapted(sizes, info.acceptance, largest=10.0)
    return (z, sizes), (info.acceptance, sizes.step_size)

  z = scale * jax.random.normal(jax.random.key(0), (120, 10))
  first = mcmc.adaptation(jnp.full(120, 0.1))
  keys = jax.random.split(jax.random.key(1), 600)
  _, (acceptance, sizes) = jax.jit(lambda: jax.lax.scan(step, (z, first), keys))()
  late = np.asarray(acceptance[400:]).reshape(200, 3, 40).mean((0, 2))
  np.testing.assert_allclose(late, 0.65, atol=0.02)
  found = np.asarray(sizes[-1]).reshape(3, 40).mean(1) / np.array([0.01, 0.1, 1.0])
  np.testing.assert_allclose(found, found.mean(), rtol=0.1)


def test_an_adaptation_is_the_rule_and_stops_at_the_largest():
  old = mcmc.adaptation(jnp.array([0.1, 0.1, 0.495]))
  new = mcmc.adapted(old, jnp.array([1.0, 0.2, 1.0]))
  np.testing.assert_allclose(new.step_size, [0.102, 0.098, 0.5], rtol=1e-6)
  np.testing.assert_allclose(new.acceptance, [0.685, 0.605, 0.685], rtol=1e-6)
  # One rejection does not undo a mean above the target.
  high = mcmc.Adaptation(jnp.array([0.1]), jnp.array([0.9]))
  np.testing.assert_allclose(mcmc.adapted(high, jnp.zeros(1)).step_size, 0.102)


def test_bad_arguments_are_one_line():
  z, m = states()
  with pytest.raises(ValueError, match='num_leapfrog must be >= 1, got 0'):
    mcmc.hmc(gaussian, jax.random.key(0), z, step_size=0.1, num_leapfrog=0)
  with pytest.raises(ValueError, match=r'log_prob must return \[N\]'):
    mcmc.hmc(
      lambda z: gaussian(z).sum(), jax.random.key(0), z, step_size=0.1, num_leapfrog=1
    )
  with pytest.raises(ValueError, match='momentum must be as position'):
    mcmc.leapfrog(gaussian, z, m[:3], step_size=0.1, num_leapfrog=1)
