"""Calibration by enumeration, and of a model that is calibrated at its known rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.metrics import calibration


def test_numbers_are_those_of_counting():
  rng = np.random.default_rng(0)
  logits, label = rng.normal(size=(50, 4)) * 2, rng.integers(0, 4, 50)
  p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  error, confidence = 0.0, p.max(1)
  right = p.argmax(1) == label
  found = calibration.reliability(logits, label, num_bins=7)
  for k in range(7):
    inside = (confidence > k / 7) & (confidence <= (k + 1) / 7)
    assert found.count[k] == inside.sum()
    if inside.any():
      gap = right[inside].mean() - confidence[inside].mean()
      np.testing.assert_allclose(
        found.accuracy[k] - found.confidence[k], gap, atol=1e-5
      )
      error += inside.sum() / 50 * abs(gap)
    else:
      assert np.isnan(found.accuracy[k]) and np.isnan(found.confidence[k])
  value = calibration.expected_calibration_error(logits, label, num_bins=7)
  np.testing.assert_allclose(value, error, rtol=1e-5)
  brier = ((p - np.eye(4)[label]) ** 2).sum(1)
  np.testing.assert_allclose(calibration.brier(logits, label), brier, rtol=1e-4)
  nll = calibration.negative_log_likelihood(logits, label)
  np.testing.assert_allclose(nll, -np.log(p[np.arange(50), label]), rtol=1e-5)
  # Log-probabilities are logits.
  np.testing.assert_allclose(
    calibration.negative_log_likelihood(np.log(p), label), nll, rtol=1e-4, atol=1e-6
  )


@pytest.mark.slow
def test_the_error_of_a_calibrated_model_falls_at_its_rate():
  """Labels drawn by the model: E = sum_k sqrt(2 v_k / pi) / B, v_k of c (1 - c)."""
  keys, expected, means = jax.random.split(jax.random.key(0)), [], []
  for num in (1000, 16_000):
    logits = 1.5 * jax.random.normal(keys[0], (num, 3))
    draws = jax.random.categorical(keys[1], logits, shape=(100, num))
    ece = jax.jit(jax.vmap(calibration.expected_calibration_error, in_axes=(None, 0)))
    means.append(float(ece(logits, draws).mean()))
    c = np.asarray(jax.nn.softmax(logits).max(axis=1))
    index = np.ceil(c * 15).astype(int) - 1
    variances = np.bincount(index, c * (1 - c), minlength=15)
    expected.append(np.sqrt(2 * variances / np.pi).sum() / num)
  np.testing.assert_allclose(means, expected, rtol=0.06)
  np.testing.assert_allclose(expected[0] / expected[1], 4.0, rtol=0.1)


def test_an_overconfident_model_is_off_by_its_confidence():
  """Half right and sure: 1/2, and a coin that says so: 0."""
  label = jnp.array([0, 1] * 8)
  sure = jnp.tile(jnp.array([40.0, 0.0]), (16, 1))
  error = calibration.expected_calibration_error
  np.testing.assert_allclose(error(sure, label), 0.5, atol=1e-6)
  np.testing.assert_allclose(error(0 * sure, label), 0.0, atol=1e-6)
  np.testing.assert_allclose(calibration.brier(sure, label).mean(), 1.0, atol=1e-6)
  assert jnp.isnan(error(sure.at[3, 0].set(jnp.nan), label))


def test_wrong_input_is_one_line():
  logits, label = jnp.zeros((4, 3)), jnp.zeros(4, jnp.int32)
  with pytest.raises(ValueError, match='label must be from 0 to 2'):
    calibration.brier(logits, label - 1)
  with pytest.raises(ValueError, match=r'label must be \[4\]'):
    calibration.negative_log_likelihood(logits, label[:3])
  with pytest.raises(ValueError, match=r'logits must be \[B, C\]'):
    calibration.reliability(logits[0], label)
  with pytest.raises(ValueError, match='num_bins must be >= 1'):
    calibration.expected_calibration_error(logits, label, num_bins=0)
