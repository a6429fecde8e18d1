"""Mode coverage of samples laid out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.metrics import modes

ANGLES = 2 * np.pi * np.arange(8) / 8
RING = jnp.array(np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1), jnp.float32)
STD = 0.01


def _at(counts, means=RING):
  """counts[k] samples exactly at mean k."""
  return jnp.repeat(means, np.array(counts), axis=0)


def test_all_modes_evenly():
  result = modes.coverage(_at([25] * 8), RING, STD)
  assert int(result.modes) == 8 and result.modes.dtype == jnp.int32
  assert float(result.high_quality) == 1.0
  np.testing.assert_allclose(result.reverse_kl, 0.0, atol=1e-6)


def test_samples_of_the_mixture_itself():
  rng = np.random.default_rng(0)
  samples = _at([500] * 8) + STD * rng.normal(size=(4000, 2)).astype('f')
  result = modes.coverage(samples, RING, STD)
  assert int(result.modes) == 8
  # Within 3 standard deviations in the plane: 1 - exp(-9/2), which is 0.98889.
  share = 1 - np.exp(-4.5)
  error = np.sqrt(share * (1 - share) / 4000)
  assert abs(float(result.high_quality) - share) < 4 * error


def test_seven_modes_with_one_of_double_weight():
  # A ring drawn with both end points has seven angles, the first one twice.
  slip = np.linspace(0, 2 * np.pi, 8)
  means = jnp.array(np.stack([np.cos(slip), np.sin(slip)], axis=1), jnp.float32)
  samples = _at([100] * 8, means)
  seven = modes.coverage(samples, means[:7], STD)
  assert int(seven.modes) == 7
  # q = (2/8, 1/8 x 6) against 1/7 each.
  q = np.array([2] + [1] * 6) / 8
  np.testing.assert_allclose(seven.reverse_kl, (q * np.log(7 * q)).sum(), rtol=1e-5)
  # Against the true ring only the angle 0 agrees (2 of its samples' 8 shares).
  eight = modes.coverage(samples, RING, STD)
  assert int(eight.modes) == 1
  np.testing.assert_allclose(eight.high_quality, 2 / 8)
  np.testing.assert_allclose(eight.reverse_kl, np.log(8), rtol=1e-6)


def test_collapse_to_one_mode_is_log_k():
  result = modes.coverage(_at([200] + [0] * 7), RING, STD)
  assert int(result.modes) == 1
  np.testing.assert_allclose(result.reverse_kl, np.log(8), rtol=1e-6)


def test_a_mode_needs_min_hits():
  samples = _at([19, 20, 21, 0, 0, 0, 0, 0])
  assert int(modes.coverage(samples, RING, STD).modes) == 2
  assert int(modes.coverage(samples, RING, STD, min_hits=21).modes) == 1
  assert int(modes.coverage(samples, RING, STD, min_hits=1).modes) == 3
  # Modes with few hits still count in the histogram.
  q = np.array([19, 20, 21]) / 60
  np.testing.assert_allclose(
    modes.coverage(samples, RING, STD).reverse_kl, (q * np.log(8 * q)).sum(), rtol=1e-5
  )


def test_the_threshold_is_a_radius_and_includes_its_edge():
  means, std = jnp.array([[0.0, 0.0], [100.0, 0.0]]), 0.5
  # Distances 1.5 (edge), 1.5 again, just out, and a corner whose coordinates are
  # each within 3 standard deviations though the distance is not.
  samples = jnp.array([[1.5, 0.0], [100.0, -1.5], [1.5001, 0.0], [1.4, 1.4]])
  result = modes.coverage(samples, means, std, min_hits=1)
  assert float(result.high_quality) == 0.5
  assert int(result.modes) == 2
  wider = modes.coverage(samples, means, std, min_hits=1, threshold=4.0)
  assert float(wider.high_quality) == 1.0


def test_each_sample_counts_for_its_nearest_mode_only():
  means = jnp.array([[0.0], [1.0]])  # closer to one another than 3 std
  result = modes.coverage(jnp.full((30, 1), 0.4), means, 1.0)
  assert int(result.modes) == 1
  np.testing.assert_allclose(result.reverse_kl, np.log(2), rtol=1e-6)


def test_weights_of_the_modes():
  means = jnp.array([[0.0], [10.0]])
  samples = _at([60, 20], means)
  even = modes.coverage(samples, means, 1.0, weights=jnp.array([3.0, 1.0]))
  np.testing.assert_allclose(even.reverse_kl, 0.0, atol=1e-6)
  uneven = modes.coverage(samples, means, 1.0, weights=jnp.array([1.0, 3.0]))
  np.testing.assert_allclose(uneven.reverse_kl, 0.5 * np.log(3), rtol=1e-5)


@pytest.mark.parametrize('value', [50.0, np.nan, np.inf])
def test_no_hits(value):
  result = modes.coverage(jnp.full((40, 2), value), RING, STD)
  assert int(result.modes) == 0
  assert float(result.high_quality) == 0.0
  assert float(result.reverse_kl) == np.inf


def test_under_jit_and_vmap_over_seeds():
  seeds = jnp.stack([_at([25] * 8), _at([200] + [0] * 7), _at([100, 100] + [0] * 6)])
  results = jax.jit(jax.vmap(lambda s: modes.coverage(s, RING, STD)))(seeds)
  np.testing.assert_array_equal(results.modes, [8, 1, 2])
  np.testing.assert_allclose(results.reverse_kl, np.log([1, 8, 4]), atol=1e-6)


def test_wrong_shapes_raise():
  with pytest.raises(ValueError, match='samples must be of rank 2'):
    modes.coverage(RING[0], RING, STD)
  with pytest.raises(ValueError, match='must agree'):
    modes.coverage(RING[:, :1], RING, STD)
  with pytest.raises(ValueError, match='must agree'):
    modes.coverage(RING, RING, STD, weights=jnp.ones(7))
