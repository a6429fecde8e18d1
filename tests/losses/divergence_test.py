"""Closed forms against quadrature, scipy and samples."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg, stats

from gm_jax.losses import divergence, f_divergence, mutual_information

X = np.linspace(-40.0, 40.0, 80_001)
STEP = X[1] - X[0]
PAIRS = [((0.0, 1.0), (1.0, 1.0)), ((-2.0, 0.5), (1.0, 2.0)), ((0.3, 3.0), (0.0, 1.5))]


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


@pytest.mark.parametrize(('first', 'second'), PAIRS)
def test_gaussian_forms_are_their_integrals(first, second):
  p, q = (jnp.array(stats.norm(m, s).pdf(X)) for m, s in (first, second))
  log_p, log_q = (stats.norm(m, s).logpdf(X) for m, s in (first, second))
  args = (*map(jnp.array, first), *map(jnp.array, second))
  np.testing.assert_allclose(
    divergence.gaussian_kl(*args), (np.asarray(p) * (log_p - log_q)).sum() * STEP,
    rtol=1e-7,
  )  # fmt: skip
  np.testing.assert_allclose(
    divergence.gaussian_squared_hellinger(*args),
    divergence.squared_hellinger(p, q, weights=STEP), rtol=1e-7,
  )  # fmt: skip
  np.testing.assert_allclose(
    divergence.gaussian_entropy(jnp.array(first[1])), stats.norm(*first).entropy()
  )


@pytest.mark.parametrize(
  ('ours', 'record', 'factor'),
  [(divergence.kl, f_divergence.KL, 1), (divergence.jensen_shannon,
    f_divergence.JENSEN_SHANNON, 0.5), (divergence.total_variation,
    f_divergence.TOTAL_VARIATION, 1), (divergence.squared_hellinger,
    f_divergence.SQUARED_HELLINGER, 1)],
)  # fmt: skip
def test_tables_agree_with_the_f_divergences(ours, record, factor):
  rng = np.random.default_rng(0)
  p, q = (jnp.array(rng.dirichlet(np.ones(7), 5)) for _ in range(2))
  expected = factor * f_divergence.evaluate(record, p, q)
  np.testing.assert_allclose(ours(p, q), expected, rtol=1e-9)
  # In batches as one by one.
  np.testing.assert_allclose(jax.vmap(ours)(p, q), ours(p, q), rtol=1e-12)


def test_weighted_jensen_shannon():
  rng = np.random.default_rng(1)
  p, q = (jnp.array(rng.dirichlet(np.ones(7))) for _ in range(2))
  for pi in (0.1, 0.5, 0.8):
    ours = divergence.jensen_shannon(p, q, pi=pi)
    record = f_divergence.weighted_jensen_shannon(pi)
    np.testing.assert_allclose(ours, f_divergence.evaluate(record, p, q))
    source = divergence.bernoulli_entropy(jnp.array(pi))
    assert 0 < ours < source
    apart = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
    np.testing.assert_allclose(divergence.jensen_shannon(*apart, pi=pi), source)
  with pytest.raises(ValueError, match='pi'):
    divergence.jensen_shannon(p, q, pi=1.0)


def test_coins():
  p, q = jnp.array([0.0, 0.2, 0.5, 1.0]), jnp.array([0.3, 0.2, 0.9, 0.6])
  expected = [stats.entropy([a, 1 - a], [b, 1 - b]) for a, b in zip(p, q, strict=True)]
  np.testing.assert_allclose(divergence.bernoulli_kl(p, q), expected, atol=1e-12)
  assert divergence.bernoulli_kl(jnp.array(0.5), jnp.array(0.0)) == math.inf
  entropies = [stats.entropy([a, 1 - a]) for a in p]
  np.testing.assert_allclose(divergence.bernoulli_entropy(p), entropies, atol=1e-12)


def test_wasserstein_of_gaussians():
  # On the line: (m1 - m2)^2 + (s1 - s2)^2.
  w = divergence.gaussian_wasserstein2_squared
  one = w(jnp.array([1.0]), jnp.array([[4.0]]), jnp.array([-1.0]), jnp.array([[0.25]]))
  np.testing.assert_allclose(one, 4 + 1.5**2, rtol=1e-10)
  rng = np.random.default_rng(0)
  a, b = (m @ m.T for m in rng.normal(size=(2, 5, 5)))
  mean = rng.normal(size=(2, 5))
  root = linalg.sqrtm(linalg.sqrtm(a) @ b @ linalg.sqrtm(a)).real
  expected = ((mean[0] - mean[1]) ** 2).sum() + np.trace(a + b - 2 * root)
  ours = w(jnp.array(mean[0]), jnp.array(a), jnp.array(mean[1]), jnp.array(b))
  np.testing.assert_allclose(ours, expected, rtol=1e-8)


@pytest.mark.parametrize('cov2', [2 * np.eye(3), np.diag([1.0, 2.0, 3.0])])
def test_gradient_of_wasserstein_is_one_less_the_optimal_map(cov2):
  # Equal eigenvalues, where the derivatives of eigh are NaN.
  w, zero, one = divergence.gaussian_wasserstein2_squared, jnp.zeros(3), jnp.ones(3)
  cov1, cov2 = jnp.eye(3), jnp.array(cov2)
  first, second = jax.grad(w, (1, 3))(zero, cov1, one, cov2)
  np.testing.assert_allclose(first, np.eye(3) - np.sqrt(cov2), atol=1e-10)
  inverse = np.diag(1 / np.sqrt(np.diag(cov2)))
  np.testing.assert_allclose(second, np.eye(3) - inverse, atol=1e-10)


def test_gradient_of_wasserstein_is_the_finite_difference_and_finite_if_singular():
  w, rng = divergence.gaussian_wasserstein2_squared, np.random.default_rng(3)
  cov1, cov2 = (jnp.array(m @ m.T) for m in rng.normal(size=(2, 4, 4)))
  zero, bump = jnp.zeros(4), rng.normal(size=(4, 4))
  bump = jnp.array(bump + bump.T)
  slopes = jax.grad(w, (1, 3))(zero, cov1, zero, cov2)
  for i, slope in enumerate(slopes):
    moved = [[cov1, cov2], [cov1, cov2]]
    for side, sign in zip(moved, (1, -1), strict=True):
      side[i] = side[i] + sign * 1e-6 * bump
    high, low = (w(zero, a, zero, b) for a, b in moved)
    np.testing.assert_allclose(jnp.vdot(slope, bump), (high - low) / 2e-6, rtol=1e-5)
  singular = jnp.diag(jnp.array([1.0, 2.0, 0.0, 0.0]))
  for pair in ((singular, cov1), (cov1, singular), (singular, singular)):
    first, second = jax.grad(w, (1, 3))(zero, pair[0], zero, pair[1])
    assert jnp.isfinite(first).all() and jnp.isfinite(second).all()


@pytest.mark.parametrize(
  'ours',
  [divergence.jensen_shannon, divergence.squared_hellinger, divergence.kl,
   lambda p, q: mutual_information.of_table(jnp.stack([p, q]) / 2)],
)  # fmt: skip
def test_what_has_no_mass_leaves_gradients_finite_and_the_others_as_they_are(ours):
  p, q = jnp.array([0.5, 0.5, 0.0]), jnp.array([0.3, 0.7, 0.0])
  slopes = jax.grad(ours, (0, 1))(p, q)
  dense = jax.grad(ours, (0, 1))(p[:2], q[:2])
  for with_zero, without in zip(slopes, dense, strict=True):
    np.testing.assert_allclose(with_zero[:2], without, atol=1e-12)
    assert jnp.isfinite(with_zero[2])  # of a table its row has one


def test_gradients_are_finite_differences_and_finite_at_zeros():
  p, q = jnp.array([0.2, 0.8, 0.0]), jnp.array([0.3, 0.3, 0.4])
  for ours in (divergence.kl, divergence.jensen_shannon):
    slope = jax.grad(ours, 1)(p, q)
    for i in range(3):
      bump = 1e-6 * jnp.eye(3)[i]
      difference = (ours(p, q + bump) - ours(p, q - bump)) / 2e-6
      np.testing.assert_allclose(slope[i], difference, atol=1e-6)


def test_shapes_are_checked():
  with pytest.raises(ValueError, match='one shape'):
    divergence.kl(jnp.ones(3), jnp.ones((3, 1)))
  for other in (jnp.ones((3, 1)), jnp.ones(4)):
    with pytest.raises(ValueError, match='one shape'):
      divergence.jensen_shannon(jnp.ones(3), other)
  with pytest.raises(ValueError, match='one shape'):
    divergence.total_variation(jnp.ones(()), jnp.ones(()))
