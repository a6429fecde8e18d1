"""Samplers of diffusion by exact denoisers: orders, exact transitions, moments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import denoisers, processes, times
from gm_jax.samplers import diffusion

MEAN, VAR = 0.5, 0.49
EDM, VP = processes.edm(), processes.variance_preserving()
LINE = processes.rectified()
DETERMINISTIC = {
  'ddim': (diffusion.ddim, 1), 'euler': (diffusion.euler, 1),
  'heun': (diffusion.heun, 2), 'dpm_solver': (diffusion.dpm_solver, 2),
}  # fmt: skip


def gaussian(process, mean=MEAN, var=VAR):
  """E[x | x_t] of N(mean, var), number by number."""

  def denoise(x_t, t):
    alpha, sigma = (processes.along(f(t), x_t) for f in (process.alpha, process.sigma))
    gain = alpha * var / (alpha**2 * var + sigma**2)
    return mean + gain * (x_t - alpha * mean)

  return denoise


@functools.cache
def compiled(sampler, process, grid, **options):
  """The sampler of the Gaussian, of any number of steps."""
  run = functools.partial(sampler, gaussian(process), process, **options)
  return jax.jit(lambda key, x, num: run(key, x, grid(process), num))


def slope(sampler, process, grid, num):
  """Of the map from noise to samples, which is a line for Gaussian data."""
  x = jnp.array([[-1.0], [1.0]]) * process.sigma(jnp.asarray(process.last))
  low, high = compiled(sampler, process, grid)(jax.random.key(0), x, num)[:, 0]
  return (high - low) / 2


@pytest.mark.parametrize('name', DETERMINISTIC)
def test_deterministic_samplers_converge_at_their_order(name):
  """The deviation of N(0, 0.49) from 80 to 0.002, as Karras' steps are made denser."""
  sampler, order = DETERMINISTIC[name]
  exact = np.sqrt(VAR / (1 + VAR / 80**2))
  error = [abs(slope(sampler, EDM, times.karras, n) - exact) for n in (20, 40, 80)]
  for coarse, fine in zip(error, error[1:], strict=False):
    assert abs(np.log2(coarse / fine) - order) < 0.25
  assert error[-1] < (0.03, 0.003)[order - 1]


@pytest.mark.parametrize('name', DETERMINISTIC)
def test_other_processes_reach_the_same_deviation(name):
  sampler, order = DETERMINISTIC[name]
  for process, grid in ((VP, times.even_log_snr), (LINE, times.even)):
    alpha, sigma = (
      f(jnp.asarray(process.last)) for f in (process.alpha, process.sigma)
    )
    exact = np.sqrt(VAR) * sigma / np.sqrt(alpha**2 * VAR + sigma**2)
    coarse, fine = (abs(slope(sampler, process, grid, n) - exact) for n in (50, 100))
    assert fine < 0.02 and (fine < 0.6 * coarse or fine < 1e-3)


def test_on_a_straight_line_and_in_sigma_the_implicit_model_is_eulers_method():
  for process, grid in ((LINE, times.even), (EDM, times.karras)):
    found = [slope(f, process, grid, 7) for f in (diffusion.ddim, diffusion.euler)]
    np.testing.assert_allclose(*found, rtol=1e-4)


def moments_of_ddim(process, grid, num, eta):
  """Mean and variance of the samples, by the recursion in float64."""
  t = np.asarray(grid(process)(jnp.arange(num), num), np.float64)
  alpha, sigma = (np.asarray(f(t), np.float64) for f in (process.alpha, process.sigma))
  mean, var = 0.0, sigma[0] ** 2
  for i in range(num):
    gain = alpha[i] * VAR / (alpha[i] ** 2 * VAR + sigma[i] ** 2)
    slope, shift = gain, MEAN * (1 - gain * alpha[i])  # D = slope x + shift
    if i == num - 1:
      return slope * mean + shift, slope**2 * var
    ratio = alpha[i] / alpha[i + 1]
    v = (sigma[i + 1] / sigma[i]) ** 2 * (sigma[i] ** 2 - (ratio * sigma[i + 1]) ** 2)
    kept = np.sqrt(sigma[i + 1] ** 2 - eta**2 * v) / sigma[i]
    a = alpha[i + 1] * slope + kept * (1 - alpha[i] * slope)
    b = (alpha[i + 1] - kept * alpha[i]) * shift
    mean, var = a * mean + b, a**2 * var + eta**2 * v
  raise AssertionError


def draws(sampler, process, grid, num_steps, shape=(20_000, 1), **options):
  """Samples as numbers."""
  start, key = jax.random.split(jax.random.key(1))
  x = diffusion.noise(process, start, shape)
  run = compiled(sampler, process, grid, **options)
  return np.asarray(run(key, x, num_steps), np.float64).ravel()


def assert_moments(x, mean, var, slack=0.0):
  """Within four standard errors of both."""
  assert abs(x.mean() - mean) < 4 * np.sqrt(var / len(x)) + slack
  assert abs(x.var() / var - 1) < 4 * np.sqrt(2 / len(x)) + slack


@pytest.mark.parametrize('eta', [0.5, 1.0])
def test_stochastic_steps_have_the_moments_of_their_transitions(eta):
  """At 8 steps, where the samples are not yet the data."""
  x = draws(diffusion.ddim, VP, times.even, 8, eta=eta)
  mean, var = moments_of_ddim(VP, times.even, 8, eta)
  assert abs(var / VAR - 1) > 0.05
  assert_moments(x, mean, var)


def test_ancestral_sampling_is_eta_of_one_or_has_more_noise():
  x = draws(diffusion.ancestral, VP, times.even, 8)
  assert_moments(x, *moments_of_ddim(VP, times.even, 8, 1.0))
  more = draws(diffusion.ancestral, VP, times.even, 8, fraction=1.0)
  assert more.var() > 1.02 * x.var()


def test_many_stochastic_steps_reach_the_data():
  for sampler, process, grid, num, options in (
    (diffusion.ancestral, VP, times.even_log_snr, 400, {}),
    (diffusion.heun, EDM, times.karras, 100, {'churn': 40.0, 'low': 0.05}),
  ):
    assert_moments(draws(sampler, process, grid, num, **options), MEAN, VAR, 0.01)


def test_corrections_bring_the_moments_nearer():
  """Langevin's steps leave the distribution at their time, up to their length."""
  shape, num, options = (2000, 16), 15, {'num_corrections': 4, 'snr': 0.1}
  plain = draws(diffusion.ancestral, VP, times.even, num, shape)
  moved = draws(diffusion.predictor_corrector, VP, times.even, num, shape, **options)
  assert abs(moved.var() / VAR - 1) < 0.7 * abs(plain.var() / VAR - 1)
  assert abs(moved.mean() - MEAN) < 0.02


def test_churn_outside_its_interval_is_none():
  x = jnp.array([[-80.0], [40.0]])
  plain = compiled(diffusion.heun, EDM, times.karras)
  outside = compiled(diffusion.heun, EDM, times.karras, churn=10.0, low=1e3)
  arguments = jax.random.key(0), x, 9
  np.testing.assert_allclose(plain(*arguments), outside(*arguments), rtol=1e-4)


def test_a_mixture_keeps_its_weights_and_modes():
  """Two narrow Gaussians, a quarter and three quarters, by the exact denoiser."""
  centers, weights, var = jnp.array([-1.0, 1.0]), jnp.array([0.25, 0.75]), 0.01

  def denoise(x_t, t):
    alpha, sigma = (processes.along(f(t), x_t) for f in (VP.alpha, VP.sigma))
    total = alpha**2 * var + sigma**2
    away = x_t - alpha * centers  # [B, 2]
    parts = jax.nn.softmax(jnp.log(weights) - 0.5 * away**2 / total, axis=1)
    each = centers + alpha * var / total * away
    return jnp.sum(parts * each, axis=1, keepdims=True)

  def run(key, x):
    grid = times.even_log_snr(VP)
    return diffusion.dpm_solver(denoise, VP, key, x, grid, 60)

  x = diffusion.noise(VP, jax.random.key(2), (10_000, 1))
  x = np.asarray(jax.jit(run)(jax.random.key(0), x)).ravel()
  right = x > 0
  assert abs(right.mean() - 0.75) < 4 * np.sqrt(0.75 * 0.25 / len(x))
  for side, center in ((~right, -1.0), (right, 1.0)):
    assert abs(x[side].mean() - center) < 0.01
    assert abs(x[side].std() - 0.1) < 0.01


@pytest.mark.parametrize('name', ['ddim', 'heun', 'dpm_solver'])
def test_one_program_does_for_every_number_of_steps_and_one_is_the_denoiser(name):
  sampler, traced = DETERMINISTIC[name][0], []

  def denoise(x_t, t):
    traced.append(t)
    return gaussian(EDM)(x_t, t)

  grid = times.karras(EDM)
  run = jax.jit(lambda x, num: sampler(denoise, EDM, None, x, grid, num))
  x = jnp.array([[-80.0], [40.0]])
  one = run(x, 1)
  count = len(traced)
  run(x, 5), run(x, 9)
  assert len(traced) == count
  expected = gaussian(EDM)(x, jnp.array([80.0, 80.0]))
  np.testing.assert_allclose(one, expected, rtol=1e-5)


def test_no_steps_are_refused():
  with pytest.raises(ValueError, match='num_steps must be >= 1, got 0'):
    diffusion.ddim(gaussian(VP), VP, None, jnp.zeros((1, 1)), times.even(VP), 0)


def test_noise_has_the_deviation_of_the_last_time():
  x = diffusion.noise(EDM, jax.random.key(0), (10_000,))
  assert abs(x.std() / 80 - 1) < 0.03
  assert denoisers.score(EDM, 0 * x, x, jnp.asarray(80.0)).std() < 0.02
