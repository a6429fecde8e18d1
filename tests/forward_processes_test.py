"""Forward processes: identities, inverses, equations, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import processes

ALL = {
  'variance_preserving': processes.variance_preserving(),
  'cosine': processes.cosine(),
  'variance_exploding': processes.variance_exploding(),
  'sub_variance_preserving': processes.sub_variance_preserving(),
  'edm': processes.edm(),
  'rectified': processes.rectified(),
  'rectified with noise': processes.rectified(0.05),
  'trigonometric': processes.trigonometric(),
  'betas': processes.from_betas(processes.linear_betas()),
}
each = pytest.mark.parametrize('name', ALL)


def inside(process, num=50):
  """Times away from the ends, where the ratio may be infinite."""
  u = np.linspace(0.01, 0.99, num)
  return process.first + (process.last - process.first) * u


@each
def test_the_ratio_is_that_of_alpha_and_sigma_and_time_is_its_inverse(name):
  with jax.enable_x64(True):
    process = ALL[name]
    t = jnp.asarray(inside(process))
    found = process.log_snr(t)
    expected = 2 * (jnp.log(process.alpha(t)) - jnp.log(process.sigma(t)))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(process.time(found), t, rtol=1e-8)
    assert processes.checked(process) is process


@each
def test_in_float32_small_times_keep_their_noise(name):
  """1 - alpha^2 cancels there; sigma is as in float64, to five digits."""
  process = ALL[name]
  t = np.maximum(process.first, 1e-3 * process.last) * np.linspace(1, 1.5, 5)
  found = process.sigma(jnp.asarray(t, jnp.float32))
  with jax.enable_x64(True):
    expected = process.sigma(jnp.asarray(t))
  np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
  'name', ['variance_preserving', 'cosine', 'trigonometric', 'betas']
)
def test_squares_sum_to_one(name):
  t = inside(ALL[name])
  total = ALL[name].alpha(t) ** 2 + ALL[name].sigma(t) ** 2
  np.testing.assert_allclose(total, 1.0, rtol=1e-5)


@each
def test_the_equation_has_the_variance_of_the_process(name):
  """Of data of variance 1: d var / dt = 2 f var + g^2, and g^2 = -sigma^2 lambda'."""
  if name == 'betas':
    return  # the ratio is linear between its times, alpha is not smooth
  with jax.enable_x64(True):
    process = ALL[name]
    t = jnp.asarray(inside(process, 7))

    def variance(t):
      return process.alpha(t) ** 2 + process.sigma(t) ** 2

    f, square = processes.drift_and_diffusion(process, t)
    step = 1e-5 * t
    slope = (variance(t + step) - variance(t - step)) / (2 * step)
    scale = jnp.abs(2 * f * variance(t)) + square
    assert (jnp.abs(slope - 2 * f * variance(t) - square) < 1e-6 * scale).all()
    ratio = (process.log_snr(t + step) - process.log_snr(t - step)) / (2 * step)
    np.testing.assert_allclose(square, -(process.sigma(t) ** 2) * ratio, rtol=1e-6)


def test_steps_of_betas_are_products():
  """By a product in float64; beta_t of 1,000 steps goes from 1e-4 to 0.02."""
  betas = processes.linear_betas(1000)
  assert betas[0] == 1e-4 and betas[-1] == 0.02
  process = processes.from_betas(betas)
  t = np.array([1, 10, 500, 1000]) / 1000
  expected = [np.prod(1 - betas[:i]) for i in (1, 10, 500, 1000)]
  np.testing.assert_allclose(process.alpha(t) ** 2, expected, rtol=2e-5)
  # Few steps go as far, about: a fourth of them with betas four times as large.
  few = processes.from_betas(processes.linear_betas(250))
  assert abs(few.log_snr(1.0) - process.log_snr(1.0)) < 0.3


def test_cosine_betas_have_the_alphas_of_the_cosine():
  process = processes.from_betas(processes.cosine_betas(100))
  t = np.array([0.01, 0.3, 0.9])
  np.testing.assert_allclose(process.alpha(t), ALL['cosine'].alpha(t), rtol=1e-4)


def test_noised_data_have_the_mean_and_variance_of_the_process():
  process, t = ALL['cosine'], jnp.array([0.2, 0.8])
  noise = jax.random.normal(jax.random.key(0), (2, 100_000))
  x = processes.noised(process, jnp.full((2, 100_000), 3.0), noise, t)
  error = process.sigma(t) / np.sqrt(100_000)
  assert (jnp.abs(x.mean(axis=1) - 3 * process.alpha(t)) < 4 * error).all()
  np.testing.assert_allclose(x.std(axis=1), process.sigma(t), rtol=0.01)


def test_what_does_not_fall_is_refused():
  flat = processes.from_log_snr(lambda t: 5 - 10 * jnp.minimum(t, 0.5), lambda r: r)
  with pytest.raises(ValueError, match='must fall .* at t = 0.5'):
    processes.checked(flat)


@pytest.mark.parametrize(
  ('make', 'word'),
  [
    (lambda: processes.variance_preserving(2.0, 1.0), 'low <= high'),
    (lambda: processes.sub_variance_preserving(0.0, 1.0), 'low <= high'),
    (lambda: processes.variance_exploding(1.0, 0.5), 'low < high'),
    (lambda: processes.edm(first=0.0), 'first < last'),
    (lambda: processes.from_betas([0.1, 1.0]), 'between 0 and 1'),
    (lambda: processes.from_betas([0.1]), 'at least two'),
  ],
)
def test_wrong_schedules_are_one_line(make, word):
  with pytest.raises(ValueError, match=word):
    make()
