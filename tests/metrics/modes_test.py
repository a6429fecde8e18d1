"""Mode coverage of samples laid out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.metrics import modes

ANGLES = 2 * np.pi * np.arange(8) / 8
RING = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)
STD = 0.01
coverage = jax.jit(modes.coverage)
stacked_coverage = jax.jit(modes.stacked_coverage, static_argnames='num_modes')


def _at(counts, means=RING):
  """counts[k] samples exactly at mean k."""
  return np.repeat(means, np.array(counts), axis=0)


def test_all_modes_evenly():
  result = coverage(_at([25] * 8), RING, STD)
  assert int(result.modes) == 8 and result.modes.dtype == jnp.int32
  assert float(result.high_quality) == 1.0
  np.testing.assert_allclose(result.reverse_kl, 0.0, atol=1e-6)


def test_samples_of_the_mixture_itself():
  rng = np.random.default_rng(0)
  samples = _at([500] * 8) + STD * rng.normal(size=(4000, 2)).astype('f')
  result = coverage(samples, RING, STD)
  assert int(result.modes) == 8
  # Within 3 standard deviations in the plane: 1 - exp(-9/2), which is 0.98889.
  fraction = 1 - np.exp(-4.5)
  error = np.sqrt(fraction * (1 - fraction) / 4000)
  assert abs(float(result.high_quality) - fraction) < 4 * error


def test_seven_modes_with_one_of_double_weight():
  # A ring drawn with both end points has seven angles, the first one twice.
  slip = np.linspace(0, 2 * np.pi, 8)
  means = np.stack([np.cos(slip), np.sin(slip)], axis=1).astype(np.float32)
  samples = _at([25] * 8, means)
  seven = coverage(samples, means[:7], STD)
  assert int(seven.modes) == 7
  # q = (2/8, 1/8 x 6) against 1/7 each.
  q = np.array([2] + [1] * 6) / 8
  np.testing.assert_allclose(seven.reverse_kl, (q * np.log(7 * q)).sum(), rtol=1e-5)
  # Against the true ring only the angle 0 agrees (2 of its samples' 8 shares).
  eight = coverage(samples, RING, STD)
  assert int(eight.modes) == 1
  np.testing.assert_allclose(eight.high_quality, 2 / 8)
  np.testing.assert_allclose(eight.reverse_kl, np.log(8), rtol=1e-6)


def test_collapse_to_one_mode_is_log_k():
  result = coverage(_at([200] + [0] * 7), RING, STD)
  assert int(result.modes) == 1
  np.testing.assert_allclose(result.reverse_kl, np.log(8), rtol=1e-6)


def test_a_mode_needs_min_hits():
  samples = _at([19, 20, 21, 0, 0, 0, 0, 0])
  assert int(coverage(samples, RING, STD).modes) == 2
  assert int(coverage(samples, RING, STD, min_hits=21).modes) == 1
  assert int(coverage(samples, RING, STD, min_hits=1).modes) == 3
  # Modes with few hits still count in the histogram.
  q = np.array([19, 20, 21]) / 60
  np.testing.assert_allclose(
    coverage(samples, RING, STD).reverse_kl, (q * np.log(8 * q)).sum(), rtol=1e-5
  )


def test_the_threshold_is_a_radius_and_includes_its_edge():
  means, std = np.array([[0.0, 0.0], [100.0, 0.0]]), 0.5
  # Distances 1.5 (edge), 1.5 again, just out, and a corner whose coordinates are
  # each within 3 standard deviations though the distance is not.
  samples = np.array([[1.5, 0.0], [100.0, -1.5], [1.5001, 0.0], [1.4, 1.4]])
  result = coverage(samples, means, std, min_hits=1)
  assert float(result.high_quality) == 0.5
  assert int(result.modes) == 2
  wider = coverage(samples, means, std, min_hits=1, threshold=4.0)
  assert float(wider.high_quality) == 1.0


def test_each_sample_counts_for_its_nearest_mode_only():
  means = np.array([[0.0], [1.0]])  # closer to one another than 3 std
  result = coverage(np.full((30, 1), 0.4), means, 1.0)
  assert int(result.modes) == 1
  np.testing.assert_allclose(result.reverse_kl, np.log(2), rtol=1e-6)


def test_weights_of_the_modes():
  means = np.array([[0.0], [10.0]])
  samples = _at([60, 20], means)
  even = coverage(samples, means, 1.0, weights=np.array([3.0, 1.0]))
  np.testing.assert_allclose(even.reverse_kl, 0.0, atol=1e-6)
  uneven = coverage(samples, means, 1.0, weights=np.array([1.0, 3.0]))
  np.testing.assert_allclose(uneven.reverse_kl, 0.5 * np.log(3), rtol=1e-5)


@pytest.mark.parametrize('value', [50.0, np.nan, np.inf])
def test_no_hits(value):
  result = coverage(np.full((40, 2), value), RING, STD)
  assert int(result.modes) == 0
  assert float(result.high_quality) == 0.0
  assert float(result.reverse_kl) == np.inf


def test_under_jit_and_vmap_over_seeds():
  seeds = np.stack([_at([25] * 8), _at([200] + [0] * 7), _at([100, 100] + [0] * 6)])
  results = jax.jit(jax.vmap(lambda s: modes.coverage(s, RING, STD)))(seeds)
  np.testing.assert_array_equal(results.modes, [8, 1, 2])
  np.testing.assert_allclose(results.reverse_kl, np.log([1, 8, 4]), atol=1e-6)


def test_wrong_shapes_raise():
  with pytest.raises(ValueError, match='samples must be of rank 2'):
    modes.coverage(RING[0], RING, STD)
  with pytest.raises(ValueError, match='must agree'):
    modes.coverage(RING[:, :1], RING, STD)
  with pytest.raises(ValueError, match='must agree'):
    modes.coverage(RING, RING, STD, weights=np.ones(7))


def test_even_labels_have_every_mode_and_no_divergence():
  result = stacked_coverage(np.tile(np.arange(1000), 3))
  assert int(result.modes) == 1000 and result.modes.dtype == jnp.int32
  np.testing.assert_allclose(result.reverse_kl, 0.0, atol=1e-6)


@pytest.mark.parametrize('num', [1, 7, 250])
def test_labels_even_over_some_modes_only_are_log_of_the_ratio(num):
  result = stacked_coverage(np.resize(np.arange(num) * 4, 1750))
  assert int(result.modes) == num
  np.testing.assert_allclose(result.reverse_kl, np.log(1000 / num), rtol=1e-6)


def test_the_divergence_is_of_the_labels_from_uniform_and_not_the_other():
  labels = np.repeat(np.arange(3), [6, 3, 1])
  p = np.array([0.6, 0.3, 0.1])
  result = stacked_coverage(labels, num_modes=3)
  np.testing.assert_allclose(result.reverse_kl, (p * np.log(3 * p)).sum(), rtol=1e-6)
  other = -np.log(3 * p).mean()
  assert abs(float(result.reverse_kl) - other) > 0.03


def test_labels_outside_count_for_no_mode():
  labels = np.array([0, 1, -1, 2, 99])
  result = stacked_coverage(labels, num_modes=2)
  assert int(result.modes) == 2
  np.testing.assert_allclose(result.reverse_kl, 0.0, atol=1e-6)
  assert float(stacked_coverage(np.array([5]), num_modes=2).reverse_kl) == np.inf
  assert float(stacked_coverage(np.zeros(0, int)).reverse_kl) == np.inf


@pytest.mark.parametrize('num', [25_600, 5_000])
def test_even_draws_of_finite_number_have_the_known_bias(num):
  draws = np.random.default_rng(0).integers(1000, size=(40, num))
  result = jax.jit(jax.vmap(modes.stacked_coverage))(draws)
  # 2 N KL is chi-square of K - 1 degrees, to the next order 1 + (K - 1) / (6 N).
  bias = 999 / (2 * num) * (1 + 999 / (6 * num))
  error = np.sqrt(2 * 999) / (2 * num) / np.sqrt(40)
  assert abs(float(result.reverse_kl.mean()) - bias) < 5 * error
  expected = 1000 * (1 - (1 - 1 / 1000) ** num)
  assert abs(float(result.modes.mean()) - expected) < 1


def test_stacked_labels_read_channels_as_decimal_digits():
  digits = np.random.default_rng(0).integers(10, size=(20, 3))
  images = jnp.asarray(digits, jnp.float32)[:, None, None]  # a channel is its class

  def classify(x):
    return -jnp.abs(x[:, 0, 0] - jnp.arange(10))

  labels = modes.stacked_labels(classify, images)
  np.testing.assert_array_equal(labels, digits @ [100, 10, 1])
  assert labels.dtype == jnp.int32
  np.testing.assert_array_equal(
    modes.stacked_labels(classify, images[..., :2]), digits[:, :2] @ [10, 1]
  )


def test_wrong_stacked_shapes_raise():
  with pytest.raises(ValueError, match='labels must be of rank 1'):
    modes.stacked_coverage(np.zeros((3, 1), int))
  with pytest.raises(ValueError, match='num_modes'):
    modes.stacked_coverage(np.zeros(3, int), num_modes=0)
  with pytest.raises(ValueError, match='rank 4'):
    modes.stacked_labels(lambda x: x, np.zeros((3, 8, 8)))
  with pytest.raises(ValueError, match='must give'):
    modes.stacked_labels(lambda x: x[:, 0, 0], np.zeros((3, 8, 8, 3)))
