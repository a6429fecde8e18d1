"""Kernels and MMD against float64 loops and closed forms for Gaussians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.losses import discrepancy


def _samples(num, mean, std, dim=3, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.array(mean + std * rng.normal(size=(num, dim)), jnp.float32)


def gaussian_mmd2(mean_gap, std1, std2, length, dim):
  """MMD^2 of isotropic Gaussians, mean_gap the same in every coordinate."""

  def c(variance, squared_gap):
    total = length**2 + variance
    return (length**2 / total) ** (dim / 2) * np.exp(-squared_gap / (2 * total))

  cross = c(std1**2 + std2**2, dim * mean_gap**2)
  return c(2 * std1**2, 0) + c(2 * std2**2, 0) - 2 * cross


def _naive_mmd2(kernel, x, y):
  """The U-statistic by loops over pairs in float64."""
  x, y = np.array(x, float), np.array(y, float)
  n, m = len(x), len(y)
  xx = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j)
  yy = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j)
  xy = sum(kernel(a, b) for a in x for b in y)
  return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)


NAIVE = {
  'gaussian': (
    discrepancy.gaussian(std=0.8),
    lambda a, b: np.exp(-((a - b) ** 2).sum() / (2 * 0.8**2)),
  ),
  'rational_quadratic': (
    discrepancy.rational_quadratic(alphas=(0.2, 1.0, 5.0)),
    lambda a, b: sum(
      (1 + ((a - b) ** 2).sum() / (2 * alpha)) ** -alpha for alpha in (0.2, 1.0, 5.0)
    ),
  ),
  'inverse_multiquadric': (
    discrepancy.inverse_multiquadric(lengths=(0.3, 1.0, 4.0)),
    lambda a, b: sum(c / (c + ((a - b) ** 2).sum()) for c in (0.09, 1.0, 16.0)),
  ),
}


@pytest.mark.parametrize('name', NAIVE)
def test_kernels_and_mmd_are_the_float64_loops(name):
  kernel, naive = NAIVE[name]
  x, y = _samples(13, 0.0, 1.0), _samples(9, 0.5, 0.7, seed=1)
  gram = [[naive(a, b) for b in np.array(y, float)] for a in np.array(x, float)]
  np.testing.assert_allclose(kernel(x, y), gram, rtol=1e-5, atol=1e-7)
  value = discrepancy.mmd2_unbiased(kernel, x, y)
  np.testing.assert_allclose(value, _naive_mmd2(naive, x, y), rtol=1e-5, atol=1e-6)
  jitted = jax.jit(discrepancy.mmd2_unbiased, static_argnums=0)(kernel, x, y)
  np.testing.assert_allclose(jitted, value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('name', NAIVE)
def test_kernels_are_positive_definite_and_symmetric(name):
  kernel, _ = NAIVE[name]
  x = _samples(30, 0.0, 1.0)
  gram = np.array(kernel(x, x), float)
  np.testing.assert_allclose(gram, gram.T, atol=1e-6)
  assert np.linalg.eigvalsh(gram).min() > -1e-5
  np.testing.assert_allclose(
    np.diag(gram), 1.0 if name == 'gaussian' else 3.0, rtol=1e-5
  )


def test_rational_quadratic_tends_to_the_gaussian_of_unit_width():
  x, y = _samples(5, 0.0, 1.0), _samples(4, 0.3, 1.0, seed=1)
  np.testing.assert_allclose(
    discrepancy.rational_quadratic(alphas=[1e4])(x, y),
    discrepancy.gaussian(std=1.0)(x, y),
    rtol=5e-3,
  )


def test_inverse_multiquadric_is_the_rational_quadratic_of_alpha_1():
  x, y = _samples(5, 0.0, 1.0), _samples(4, 0.3, 1.0, seed=1)
  np.testing.assert_allclose(
    discrepancy.inverse_multiquadric(lengths=[np.sqrt(2)])(x, y),
    discrepancy.rational_quadratic(alphas=[1.0])(x, y),
    rtol=1e-6,
  )


def test_unbiased_on_gaussians():
  # 400 independent pairs of 20 samples; the U-statistic has no bias at any size,
  # where the V-statistic would be off by about 2 (1 - E k) / 20 = 0.07.
  truth = gaussian_mmd2(0.7, 1.0, 0.6, np.sqrt(2), 3)
  np.testing.assert_allclose(truth, 0.246050, atol=1e-6)
  x = _samples(8000, 0.0, 1.0).reshape(400, 20, 3)
  y = _samples(8000, 0.7, 0.6, seed=1).reshape(400, 20, 3)
  kernel = discrepancy.gaussian(std=np.sqrt(2))
  values = jax.vmap(lambda x, y: discrepancy.mmd2_unbiased(kernel, x, y))(x, y)
  error = float(values.std()) / np.sqrt(400)
  assert error < 0.006
  assert abs(float(values.mean()) - truth) < 3 * error


def test_zero_mean_and_both_signs_where_the_distributions_are_equal():
  x = _samples(6000, 0.0, 1.0).reshape(300, 20, 3)
  y = _samples(6000, 0.0, 1.0, seed=1).reshape(300, 20, 3)
  kernel = discrepancy.gaussian(std=1.0)
  values = jax.vmap(lambda x, y: discrepancy.mmd2_unbiased(kernel, x, y))(x, y)
  assert abs(float(values.mean())) < 3 * float(values.std()) / np.sqrt(300)
  assert 0.2 < float((values < 0).mean()) < 0.9


def test_distances_survive_a_large_offset_in_float32():
  x, y = _samples(20, 3000.0, 1.0), _samples(15, 3000.5, 1.0, seed=1)
  exact = np.array(x, float)[:, None] - np.array(y, float)
  np.testing.assert_allclose(
    discrepancy.squared_distances(x, y), (exact**2).sum(-1), rtol=1e-4, atol=1e-4
  )
  assert (discrepancy.squared_distances(x, x) >= 0).all()
  np.testing.assert_allclose(
    np.diag(discrepancy.squared_distances(x, x)), 0.0, atol=1e-4
  )


@pytest.mark.parametrize('name', NAIVE)
def test_gradient_is_the_finite_difference(name):
  kernel, _ = NAIVE[name]
  with jax.enable_x64(True):
    x = jnp.array(np.array(_samples(6, 0.0, 1.0), float))
    y = jnp.array(np.array(_samples(5, 0.5, 1.0, seed=1), float))
    for argument in (0, 1):  # the centering on y must not show in either
      value = jax.jit(lambda *a: discrepancy.mmd2_unbiased(kernel, *a))
      gradient = jax.grad(value, argument)(x, y)
      for i in ((0, 0), (4, 2)):
        moved = [(x, y), (x, y)]
        for side, sign in enumerate((1, -1)):
          arrays = [x, y]
          arrays[argument] = arrays[argument].at[i].add(sign * 1e-6)
          moved[side] = arrays
        difference = (value(*moved[0]) - value(*moved[1])) / 2e-6
        np.testing.assert_allclose(gradient[i], difference, atol=1e-8)


def test_gradient_moves_samples_towards_the_data():
  kernel = discrepancy.gaussian(std=2.0)
  x, y = _samples(50, 0.0, 1.0), _samples(50, 1.5, 1.0, seed=1)
  gradient = jax.grad(lambda y: discrepancy.mmd2_unbiased(kernel, x, y))(y)
  assert (gradient.mean(axis=0) > 0).all()  # a descent step lowers their mean


def test_bad_arguments_raise():
  for std in (0.0, -1.0, float('nan')):
    with pytest.raises(ValueError, match='std'):
      discrepancy.gaussian(std=std)
  for alphas in ((), (1.0, 0.0), (-1.0,)):
    with pytest.raises(ValueError, match='alphas'):
      discrepancy.rational_quadratic(alphas=alphas)
  for lengths in ((), (1.0, 0.0), (-1.0,)):
    with pytest.raises(ValueError, match='lengths'):
      discrepancy.inverse_multiquadric(lengths=lengths)
  kernel, x = discrepancy.gaussian(std=1.0), _samples(4, 0.0, 1.0)
  with pytest.raises(ValueError, match='two rows'):
    discrepancy.mmd2_unbiased(kernel, x[:1], x)
  with pytest.raises(ValueError, match='flatten'):
    discrepancy.mmd2_unbiased(kernel, x[..., None], x)
  with pytest.raises(ValueError, match='same D'):
    discrepancy.mmd2_unbiased(kernel, x, x[:, :2])
