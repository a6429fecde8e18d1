"""Langevin dynamics: exact transitions of quadratics, detailed balance, levels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gm_jax.samplers import langevin, mcmc

MEAN, VAR, NUM = 1.5, 0.4, 20_000
QUARTIC = stats.gennorm(4)  # density proportional to exp(-z^4)
KEY = jax.random.key(0)


def quadratic(z):
  """Of N(1.5, 0.4), by coordinates."""
  return -0.5 * jnp.square(z - MEAN).sum(axis=1) / VAR


def quartic(z):
  return -jnp.sum(z**4, axis=-1)


def run(step, z, num, key=KEY):
  return jax.lax.scan(lambda z, key: step(key, z), z, jax.random.split(key, num))


def close_to(values, mean, var):
  """Moments of draws of a Gaussian, within four standard errors."""
  values = np.asarray(values, float).ravel()
  assert abs(values.mean() - mean) < 4 * np.sqrt(var / len(values))
  assert abs(values.var() - var) < 4 * var * np.sqrt(2 / len(values))


@pytest.mark.parametrize(
  ('noise', 'temperature'),
  [({}, 1.0), ({'temperature': 0.3}, 0.3), ({'noise_scale': 0.2}, 0.2)],
)
def test_a_quadratic_has_the_recursion_and_the_biased_stationary_variance(
  noise, temperature
):
  size, start = 0.1, -2.0  # n = 0.2 is T = 0.04 / 0.2
  step = functools.partial(langevin.langevin, quadratic, step_size=size, **noise)
  many = jax.jit(lambda z, num: jax.lax.fori_loop(
    0, num, lambda i, z: step(jax.random.fold_in(KEY, i), z)[0], z))  # fmt: skip
  z = jnp.full((NUM, 1), start)
  mean, var = start, 0.0
  for num in range(1, 4):
    mean, var = mean - size / VAR * (mean - MEAN), (1 - size / VAR) ** 2 * var
    var += 2 * size * temperature
    close_to(many(z, num), mean, var)
  stationary = temperature * VAR / (1 - size / (2 * VAR))
  assert abs(stationary / (temperature * VAR) - 1) > 10 * np.sqrt(2 / NUM)
  close_to(many(z, 60), MEAN, stationary)


def test_chains_of_one_noise_come_nearer_by_exactly_the_factor_of_the_mean():
  size = jnp.array([0.05, 0.1, 0.2])
  step = functools.partial(langevin.langevin, quadratic, step_size=size)
  a, b = jax.random.normal(KEY, (2, 3, 4))
  (one, _), (other, _) = jax.jit(lambda: (step(KEY, a), step(KEY, b)))()
  factor = 1 - np.asarray(size)[:, None] / VAR
  np.testing.assert_allclose(one - other, factor * (a - b), atol=1e-6)
  noise = jax.random.normal(KEY, (3, 4))
  expected = a - size[:, None] * (a - MEAN) / VAR + jnp.sqrt(2 * size)[:, None] * noise
  np.testing.assert_allclose(one, expected, atol=1e-6)


def test_small_steps_leave_the_density_to_the_power_of_one_over_the_temperature():
  """Of exp(-z^4 / T) the second moment is sqrt(T) that of exp(-z^4)."""
  size, noise = 0.01, 0.02  # T = 0.02

  def step(key, z):
    return langevin.langevin(quartic, key, z, step_size=size, noise_scale=noise)

  temperature = langevin.implied_temperature(step_size=size, noise_scale=noise)
  np.testing.assert_allclose(temperature, 0.02)
  start = 0.3 * jax.random.normal(KEY, (4000, 1))
  end, _ = jax.jit(lambda z: run(step, z, 600))(start)
  squares = np.asarray(end, float) ** 2
  expected = np.sqrt(0.02) * QUARTIC.moment(2)
  error = squares.std() / np.sqrt(len(squares))
  assert abs(squares.mean() - expected) < 4 * error + 0.01 * expected


def test_published_chains_have_the_temperatures_that_are_stated():
  found = [
    langevin.implied_temperature(step_size=s, noise_scale=n)
    for s, n in ((1.0, 0.01), (10.0, 0.005))
  ]
  np.testing.assert_allclose(found, [5e-5, 1.25e-6])


GRID = np.linspace(-2.6, 2.6, 241)
NODES = np.linspace(-5.5, 5.5, 241)
TRANSITIONS = {
  'mala': functools.partial(langevin.mala, quartic, step_size=0.18),
  'hmc': functools.partial(mcmc.hmc, quartic, step_size=0.45, num_leapfrog=3),
}


def outcomes(monkeypatch, transition):
  """From x of a grid by momenta of another: x, mass, proposals and acceptance.

  The draws of the transition are replaced by the nodes of a quadrature, and those of
  its decision by 0, for which every proposal of any probability is taken.
  """
  x, m = (a.ravel() for a in np.meshgrid(GRID, NODES, indexing='ij'))
  monkeypatch.setattr(jax.random, 'normal', lambda *_: jnp.asarray(m)[:, None])
  monkeypatch.setattr(jax.random, 'uniform', lambda key, shape: jnp.zeros(shape))
  with jax.enable_x64(True):
    there, info = transition(KEY, jnp.asarray(x)[:, None])
  mass = np.exp(-(x**4) - 0.5 * m**2)
  return x, mass / mass.sum(), np.asarray(there)[:, 0], np.asarray(info.acceptance)


@pytest.mark.parametrize('name', TRANSITIONS)
def test_detailed_balance_and_invariance_by_quadrature(name, monkeypatch):
  x, mass, there, acceptance = outcomes(monkeypatch, TRANSITIONS[name])
  f, g = (lambda z: np.exp(-((z - 0.5) ** 2))), np.sin
  flow = (mass * acceptance * (f(x) * g(there) - g(x) * f(there))).sum()
  size = (mass * acceptance * np.abs(f(x) * g(there))).sum()
  assert abs(flow) < 5e-5 * size
  for h in (f, g, np.square):
    after = (mass * (acceptance * h(there) + (1 - acceptance) * h(x))).sum()
    np.testing.assert_allclose(after, (mass * h(x)).sum(), atol=2e-5)
  # Not so without the decision.
  assert abs((mass * np.square(there)).sum() - (mass * np.square(x)).sum()) > 0.02


def test_mala_accepts_by_the_densities_of_its_proposals():
  size = np.linspace(0.02, 0.5, 7)
  z = jax.random.normal(KEY, (7, 2))
  mala = functools.partial(langevin.mala, quartic, step_size=jnp.asarray(size))
  _, info = jax.jit(mala)(KEY, z)
  noise = np.asarray(jax.random.normal(jax.random.split(KEY)[0], (7, 2)), float)
  x, s = np.asarray(z, float), size[:, None]

  def log_q(there, here):
    mean = here - 4 * s * here**3
    return -((there - mean) ** 2).sum(1) / (4 * size)

  there = x - 4 * s * x**3 + np.sqrt(2 * s) * noise
  ratio = (x**4).sum(1) - (there**4).sum(1) + log_q(x, there) - log_q(there, x)
  assert (ratio < 0).any()
  np.testing.assert_allclose(
    info.acceptance, np.exp(np.minimum(ratio, 0)), rtol=1e-3, atol=1e-5
  )


def test_mala_leaves_a_density_as_it_is_and_the_unadjusted_chain_does_not():
  size = 0.12
  key, other = jax.random.split(KEY)
  z = jax.random.gamma(key, 0.25, (NUM, 1)) ** 0.25
  z *= jax.random.rademacher(other, z.shape, float)
  adjusted = functools.partial(langevin.mala, quartic, step_size=size)
  plain = functools.partial(langevin.langevin, quartic, step_size=size)
  (end, info), (wrong, _) = jax.jit(lambda: (run(adjusted, z, 6), run(plain, z, 6)))()
  assert 0.5 < float(info.acceptance.mean()) < 0.95
  np.testing.assert_allclose(info.log_prob[-1], quartic(end), rtol=1e-5)
  assert stats.kstest(np.asarray(end)[:, 0], QUARTIC.cdf).pvalue > 0.01
  for power in (1, 2, 4):
    values = np.asarray(end, float) ** power
    error = values.std() / np.sqrt(NUM)
    assert abs(values.mean() - QUARTIC.moment(power)) < 4 * error, power
  assert stats.kstest(np.asarray(wrong)[:, 0], QUARTIC.cdf).pvalue < 1e-4


SIGMAS, STEPS, SIZE = np.array([2.0, 0.7, 0.3]), 4, 0.02


def test_annealed_chains_of_a_gaussian_have_the_moments_of_the_exact_recursion():
  """The score of data N(m, v) at noise sigma is -(x - m) / (v + sigma^2)."""

  def score(x, sigma):
    return -(x - MEAN) / (VAR + jnp.square(sigma))[:, None]

  walk = functools.partial(
    langevin.annealed, score, KEY, sigmas=SIGMAS, step_size=SIZE, num_steps=STEPS
  )
  a, b = jnp.full((NUM, 1), -3.0), jnp.full((NUM, 1), 4.0)
  (one, info), (other, _), (cold, _) = jax.jit(
    lambda: (walk(a), walk(b), walk(a, temperature=0.0))
  )()
  mean, var, factor = -3.0, 0.0, 1.0
  for sigma in SIGMAS.repeat(STEPS):
    size = SIZE * (sigma / SIGMAS[-1]) ** 2
    shrink = 1 - size / (VAR + sigma**2)
    mean, var = MEAN + shrink * (mean - MEAN), shrink**2 * var + 2 * size
    factor *= shrink
  close_to(one, mean, var)
  np.testing.assert_allclose(cold, mean, rtol=1e-5)
  np.testing.assert_allclose(other - one, factor * (b - a), atol=1e-5)
  assert (info.acceptance == 1).all() and info.accepted.all() and info.log_prob is None


def test_a_step_that_is_not_finite_is_not_taken_and_is_counted():
  def cliff(z):
    return jnp.where(z[:, 0] > 5, jnp.nan, 1.0) * quadratic(z)

  start = jnp.array([[6.0], [0.0]])
  end, info = langevin.langevin(cliff, KEY, start, step_size=0.1)
  assert end[0] == 6 and not info.accepted[0] and info.acceptance[0] == 0
  assert np.isnan(info.log_prob[0]) and np.isfinite(info.log_prob[1])

  def score(x, sigma):
    return jnp.where(sigma[:, None] > 1, jnp.nan, 0.0) * (x > 5)

  end, info = langevin.annealed(
    score, KEY, start, sigmas=SIGMAS, num_steps=2, temperature=0.0
  )
  np.testing.assert_array_equal(end, start)
  np.testing.assert_allclose(info.acceptance, [2 / 3, 1])


def test_steps_that_are_not_positive_and_what_does_not_fit_are_one_line():
  z = jnp.ones((2, 3))
  chains = (
    functools.partial(langevin.langevin, quadratic),
    functools.partial(langevin.mala, quadratic),
    functools.partial(mcmc.hmc, quadratic, num_leapfrog=1),
    functools.partial(langevin.annealed, lambda x, s: x, sigmas=SIGMAS),
  )
  for chain in chains:
    for wrong in (0.0, -0.1, float('nan'), jnp.array([0.1, -0.1])):
      with pytest.raises(ValueError, match='step_size must be > 0, got'):
        chain(KEY, z, step_size=wrong)
  for chain in chains[:2]:
    summed = functools.partial(chain.func, lambda z: quadratic(z).sum())
    with pytest.raises(ValueError, match=r'log_prob must return \[N\]'):
      summed(KEY, z, step_size=0.1)
  with pytest.raises(ValueError, match='got both'):
    chains[0](KEY, z, step_size=0.1, temperature=1.0, noise_scale=0.1)
  with pytest.raises(ValueError, match='num_steps must be >= 1'):
    chains[3](KEY, z, num_steps=0)
  with pytest.raises(ValueError, match=r'levels \[L\]'):
    langevin.annealed(lambda x, s: x, KEY, z, sigmas=0.1)
  with pytest.raises(ValueError, match='score must be as the position'):
    langevin.annealed(lambda x, s: s, KEY, z, sigmas=SIGMAS)
