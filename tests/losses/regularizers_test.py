"""Terms beside a game against numpy, singular values and what they are made for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.losses import discrepancy, penalties, regularizers


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def draws(*shape, seed=0):
  return jnp.array(np.random.default_rng(seed).normal(size=shape))


def test_spectral_norm_is_half_the_squared_top_singular_value():
  weight = draws(3, 3, 4, 5)
  top = np.linalg.svd(np.asarray(weight).reshape(-1, 5))[1][0]
  np.testing.assert_allclose(regularizers.spectral_norm(weight), top**2 / 2)
  u, _, vt = np.linalg.svd(np.asarray(weight).reshape(-1, 5), full_matrices=False)
  slope = np.asarray(jax.grad(regularizers.spectral_norm)(weight)).reshape(-1, 5)
  np.testing.assert_allclose(slope, top * np.outer(u[:, 0], vt[0]), atol=1e-9)
  with pytest.raises(ValueError, match='inputs, outputs'):
    regularizers.spectral_norm(draws(3))


def test_orthogonal_vanishes_at_orthonormal_weights_and_counts_the_rest():
  q = jnp.array(np.linalg.qr(np.asarray(draws(12, 4)))[0])
  assert regularizers.orthogonal(q) == pytest.approx(0, abs=1e-20)
  stretched = q * jnp.array([1.0, 2.0, 3.0, 0.5])
  diagonal = (np.array([1.0, 4.0, 9.0, 0.25]) - 1) ** 2
  np.testing.assert_allclose(regularizers.orthogonal(stretched), diagonal.sum())
  free = functools.partial(regularizers.orthogonal, diagonal=False)
  assert free(stretched) == pytest.approx(0, abs=1e-20)
  weight = draws(2, 2, 3, 4)
  singular = np.linalg.svd(np.asarray(weight).reshape(-1, 4))[1]
  np.testing.assert_allclose(
    regularizers.orthogonal(weight), ((singular**2 - 1) ** 2).sum()
  )


def test_consistency_is_zero_for_an_invariant_critic():
  x = draws(6, 4)
  critic = lambda x: jnp.sort(x, axis=1) @ jnp.arange(4.0)  # noqa: E731
  flipped = x[:, ::-1]
  same = regularizers.consistency(critic(x), critic(flipped))
  np.testing.assert_allclose(same, 0)
  other = lambda x: x @ jnp.arange(4.0)  # noqa: E731
  expected = (np.asarray(other(x)) - np.asarray(other(flipped))) ** 2
  moved = regularizers.consistency(other(x), other(flipped))
  np.testing.assert_allclose(moved, expected)
  both = regularizers.balanced_consistency(
    other(x), other(flipped), critic(x), critic(flipped)
  )
  np.testing.assert_allclose(both, expected)
  with pytest.raises(ValueError, match='same B'):
    regularizers.consistency(other(x), other(x)[:2])
  with pytest.raises(ValueError, match=r'\[B\]'):
    regularizers.consistency(other(x)[:, None], other(x)[:, None])


def test_latent_diversity_of_a_linear_generator():
  weight, z, dz = draws(3, 5), draws(7, 3, seed=1), 0.03 * draws(7, 3, seed=2)
  value = regularizers.latent_diversity(z @ weight, (z + dz) @ weight)
  np.testing.assert_allclose(value, -((dz @ weight) ** 2).sum(1), rtol=1e-8)
  images = draws(2, 4, 4, 1)
  assert regularizers.latent_diversity(images, images + 1).tolist() == [-16.0, -16.0]
  with pytest.raises(ValueError, match='one shape'):
    regularizers.latent_diversity(images, images[:1])


def test_lecam_of_the_linear_critic_leads_to_a_triangular_divergence():
  # min over D of E_q D - E_p D + w (E_p (D - a)^2 + E_q (D + a)^2), anchors a and -a:
  # D = (p - q) / (p + q) (a + 1 / (2 w)), by setting the derivative to zero.
  p, q = jnp.array([0.5, 0.3, 0.2]), jnp.array([0.1, 0.3, 0.6])
  a, w = 0.4, 0.7

  def loss(d):
    term = regularizers.lecam(d, d, jnp.array(-a), jnp.array(a))
    first = jnp.square(d - a)
    np.testing.assert_allclose(term, first + jnp.square(d + a))
    return q @ d - p @ d + w * (p @ first + q @ jnp.square(d + a))

  best = (p - q) / (p + q) * (a + 1 / (2 * w))
  eager = jax.grad(lambda d: q @ d - p @ d + w * (p @ jnp.square(d - a)
                                                  + q @ jnp.square(d + a)))  # fmt: skip
  np.testing.assert_allclose(eager(best), 0, atol=1e-12)
  triangle = ((p - q) ** 2 / (p + q)).sum()
  gain = w * 2 * a**2 - loss(best)
  np.testing.assert_allclose(gain, w * (a + 1 / (2 * w)) ** 2 * triangle)


def test_lecam_pulls_each_side_to_the_others_anchor():
  real, fake = jnp.array([1.0, 2.0]), jnp.array([-1.0, 0.0])
  value = regularizers.lecam(real, fake, jnp.array(1.5), jnp.array(-0.5))
  np.testing.assert_allclose(value, [1.5**2 + 2.5**2, 2.5**2 + 1.5**2])
  anchor = jnp.array(0.0)
  for _ in range(1000):
    anchor = regularizers.lecam_anchor(anchor, real)
  np.testing.assert_allclose(anchor, 1.5, rtol=1e-4)
  once = regularizers.lecam_anchor(jnp.array(0.0), real, decay=0.9)
  np.testing.assert_allclose(once, 0.15)
  slope = jax.grad(lambda r: regularizers.lecam_anchor(jnp.array(0.0), r))(real)
  assert not slope.any()
  with pytest.raises(ValueError, match='decay'):
    regularizers.lecam_anchor(anchor, real, decay=1.0)


def test_lecam_takes_scalar_anchors():
  for anchors in ((jnp.zeros((4, 1)), 0.0), (0.0, jnp.zeros(4))):
    with pytest.raises(ValueError, match='anchor must be'):
      regularizers.lecam(jnp.zeros(4), jnp.zeros(4), *anchors)


def test_top_k_weights_give_the_mean_over_the_best():
  logits, losses = draws(10), draws(10, seed=1)
  best = np.argsort(-np.asarray(logits))
  for k in (1, 3, 10):
    weights = regularizers.top_k_weights(logits, k)
    np.testing.assert_allclose(weights.mean(), 1)
    expected = np.asarray(losses)[best[:k]].mean()
    np.testing.assert_allclose((weights * losses).mean(), expected)
    traced = jax.jit(regularizers.top_k_weights)(logits, k)
    np.testing.assert_allclose(traced, weights)
  tied = regularizers.top_k_weights(jnp.zeros(6), 2)
  assert (tied > 0).sum() == 2
  for k in (0, 11, 2.5, np.int64(0), np.int64(11)):
    with pytest.raises(ValueError, match=r'1\.\.10'):
      regularizers.top_k_weights(logits, k)


def test_feature_matching_is_the_linear_mmd():
  x, y = draws(8, 5), draws(6, 5, seed=1)
  linear = discrepancy.polynomial(degree=1, scale=1.0, offset=0.0)
  np.testing.assert_allclose(
    regularizers.feature_matching(x, y), discrepancy.mmd2_biased(linear, x, y)
  )
  with pytest.raises(ValueError, match='agree'):
    regularizers.feature_matching(x, y[:, :2])


def linear_critic(norm):
  direction = jnp.array([3.0, 4.0]) / 5
  return lambda x: norm * x @ direction


def test_one_sided_and_zero_centered_penalties_of_a_linear_critic():
  key, x, y = jax.random.key(0), draws(5, 2), draws(5, 2, seed=1)
  for norm in (0.0, 0.5, 1.0, 3.0):
    critic = linear_critic(norm)
    one = penalties.one_sided_gradient_penalty(critic, key, x, y)
    np.testing.assert_allclose(one, max(0, norm - 1) ** 2, atol=1e-12)
    zero = penalties.zero_centered_gradient_penalty(critic, key, x, y)
    np.testing.assert_allclose(zero, norm**2, atol=1e-12)
    two = penalties.gradient_penalty(critic, key, x, y)
    np.testing.assert_allclose(two, (norm - 1) ** 2, atol=1e-12)
    both = penalties.r1_r2(critic, x, y)
    np.testing.assert_allclose(both, 2 * norm**2, atol=1e-12)
  slope = jax.grad(
    lambda n: penalties.one_sided_gradient_penalty(linear_critic(n), key, x, y).sum()
  )
  assert slope(0.0) == 0 and slope(0.7) == 0 and slope(3.0) == pytest.approx(20)


def test_interpolation_is_uniform_and_one_fraction_an_example():
  # A critic x |-> |x|^2 / 2 has gradient x: the penalty shows where x_hat lies.
  real, fake = jnp.ones((20_000, 3)), jnp.zeros((20_000, 3))
  critic = lambda x: jnp.square(x).sum(axis=1) / 2  # noqa: E731
  squares = penalties.zero_centered_gradient_penalty(
    critic, jax.random.key(0), real, fake
  )
  fraction = np.sqrt(np.asarray(squares) / 3)  # one an example, else it is a mixture
  levels = np.quantile(fraction, np.linspace(0.05, 0.95, 19))
  np.testing.assert_allclose(levels, np.linspace(0.05, 0.95, 19), atol=0.015)
  assert fraction.min() >= 0 and fraction.max() <= 1


def test_r1_r2_differs_at_data_and_samples():
  critic = lambda x: jnp.square(x).sum(axis=1) / 2  # noqa: E731
  real, fake = draws(4, 3), draws(4, 3, seed=1)
  np.testing.assert_allclose(
    penalties.r1_r2(critic, real, fake), (real**2).sum(1) + (fake**2).sum(1)
  )
  with pytest.raises(ValueError, match='one shape'):
    penalties.r1_r2(critic, real, fake[:2])


def test_drift_is_the_square_of_the_output_and_pulls_it_to_0():
  logits = draws(4)
  np.testing.assert_allclose(regularizers.drift(logits), np.square(logits))
  slope = jax.grad(lambda r: regularizers.drift(r).sum())(logits)
  np.testing.assert_allclose(slope, 2 * logits)
  patches = draws(2, 3)
  expected = np.square(patches).mean(axis=1)
  np.testing.assert_allclose(regularizers.drift(patches), expected)
  with pytest.raises(ValueError, match='got a scalar'):
    regularizers.drift(1.0)
