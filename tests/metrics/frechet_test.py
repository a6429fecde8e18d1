"""The Frechet distance against closed forms and against scipy's sqrtm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

from gm_jax.metrics import frechet

distance, between = jax.jit(frechet.frechet_distance), jax.jit(frechet.frechet)


def _covariance(dim, rank, seed):
  factor = np.random.default_rng(seed).normal(size=(dim, rank))
  return factor @ factor.T / rank


def _by_sqrtm(mean1, cov1, mean2, cov2):
  cross = linalg.sqrtm(cov1 @ cov2).real
  return ((mean1 - mean2) ** 2).sum() + np.trace(cov1 + cov2 - 2 * cross)


def _f32(*arrays):
  return [jnp.array(a, jnp.float32) for a in arrays]


def test_isotropic_and_diagonal_gaussians():
  # Sum over axes of (m1 - m2)^2 + (s1 - s2)^2.
  mean1, mean2 = np.array([1.0, -2.0, 0.5]), np.array([0.0, 1.0, 0.5])
  std1, std2 = np.array([1.0, 2.0, 0.1]), np.array([3.0, 0.5, 0.1])
  arrays = _f32(mean1, np.diag(std1**2), mean2, np.diag(std2**2))
  expected = ((mean1 - mean2) ** 2 + (std1 - std2) ** 2).sum()
  np.testing.assert_allclose(frechet.frechet_distance(*arrays), expected, rtol=1e-5)
  np.testing.assert_allclose(distance(*arrays), expected, rtol=1e-5)


def test_covariances_that_do_not_commute():
  cov1, cov2 = _covariance(6, 12, 0), _covariance(6, 9, 1)
  mean1, mean2 = np.arange(6) / 3, np.ones(6)
  arrays = _f32(mean1, cov1, mean2, cov2)
  expected = _by_sqrtm(mean1, cov1, mean2, cov2)
  assert abs(np.linalg.norm(cov1 @ cov2 - cov2 @ cov1)) > 0.1
  np.testing.assert_allclose(distance(*arrays), expected, rtol=1e-4)
  swapped = distance(arrays[2], arrays[3], arrays[0], arrays[1])
  np.testing.assert_allclose(swapped, expected, rtol=1e-4)


def test_image_of_a_gaussian_under_its_optimal_map():
  # If T is positive definite, N(0, S) is carried to N(0, T S T) at the cost
  # tr((T - 1) S (T - 1)), and no transport is cheaper (Brenier).
  cov, transport = _covariance(5, 8, 0), _covariance(5, 10, 1) + 0.1 * np.eye(5)
  pushed = transport @ cov @ transport
  cost = np.trace((transport - np.eye(5)) @ cov @ (transport - np.eye(5)))
  zero = np.zeros(5)
  value = distance(*_f32(zero, cov, zero, pushed))
  np.testing.assert_allclose(value, cost, rtol=1e-4)


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_singular_covariances_in_float32(seed):
  # Rank 4 in 32 dimensions, where eigenvalues that are rounding would add
  # 28 sqrt(epsilon) each to the trace of the root.
  factor = np.random.default_rng(seed).normal(size=(2, 32, 4))
  cov1, cov2 = (f @ f.T for f in factor)
  zero = np.zeros(32)
  # |B1^T B2|_* is the exact cross term of S = B B^T.
  nuclear = np.linalg.svd(factor[0].T @ factor[1], compute_uv=False).sum()
  expected = np.trace(cov1) + np.trace(cov2) - 2 * nuclear
  value = distance(*_f32(zero, cov1, zero, cov2))
  np.testing.assert_allclose(value, expected, atol=2e-5 * np.trace(cov1))
  same = distance(*_f32(zero, cov1, zero, cov1))
  assert 0.0 <= float(same) < 2e-5 * np.trace(cov1)
  degenerate = distance(*_f32(zero, cov1, zero, np.zeros((32, 32))))
  np.testing.assert_allclose(degenerate, np.trace(cov1), rtol=1e-5)


def test_moments_are_numpys():
  features = np.random.default_rng(0).normal(size=(50, 4)) * [1, 2, 3, 4] + 20.0
  mean, cov = frechet.moments(jnp.array(features, jnp.float32))
  np.testing.assert_allclose(mean, features.mean(axis=0), rtol=1e-5)
  np.testing.assert_allclose(cov, np.cov(features.T), rtol=1e-4, atol=1e-4)


def test_features_end_to_end():
  rng = np.random.default_rng(0)
  first, second = rng.normal(size=(60, 8)), 0.5 * rng.normal(size=(20, 8)) + 1.0
  expected = _by_sqrtm(first.mean(0), np.cov(first.T), second.mean(0), np.cov(second.T))
  np.testing.assert_allclose(between(*_f32(first, second)), expected, rtol=1e-4)
  shifted = between(*_f32(first, first + 0.25))
  np.testing.assert_allclose(shifted, 8 * 0.25**2, rtol=1e-3)


def test_bad_arguments_raise():
  mean, cov = jnp.zeros(3), jnp.eye(3)
  with pytest.raises(ValueError, match='mean1'):
    frechet.frechet_distance(mean[:, None], cov, mean, cov)
  with pytest.raises(ValueError, match='cov2'):
    frechet.frechet_distance(mean, cov, mean, jnp.eye(4))
  with pytest.raises(ValueError, match='features must be'):
    frechet.moments(mean)
  with pytest.raises(ValueError, match='two rows'):
    frechet.moments(mean[None])
