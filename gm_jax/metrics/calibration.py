"""Whether a classifier's probabilities are as often right as they say.

Logits are `[B, C]`, of which log-probabilities are a kind; labels `[B]`, integers from
0 to C - 1. The confidence is the probability of the class that is guessed.

Source: On Calibration of Modern Neural Networks, Guo et al., 2017, arXiv:1706.04599,
equations 2 to 5; Verification of Forecasts Expressed in Terms of Probability, Brier,
1950, Monthly Weather Review 78.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gm_jax.losses import shapes

Array = jax.Array


class Reliability(NamedTuple):
  """Accuracy and confidence in each bin of the confidence, (i / K, (i + 1) / K].

  count: [K] int, of examples.
  confidence: [K] their mean; NaN of an empty bin, as is the next.
  accuracy: [K] the fraction of them that is right.
  """

  count: Array
  confidence: Array
  accuracy: Array


def reliability(logits: Array, label: Array, *, num_bins: int = 15) -> Reliability:
  """The diagram of reliability, of bins of equal width. Batch-coupled.

  Args:
    logits: `[B, C]`.
    label: `[B]`.
    num_bins: K.

  Returns:
    Of each bin its count, mean confidence and accuracy.

  Raises:
    ValueError: shapes or labels that are not as above, or no bins.
  """
  count, confidence, right = _binned(logits, label, num_bins)
  with_any = jnp.where(count > 0, count, jnp.nan)
  return Reliability(count, confidence / with_any, right / with_any)


def expected_calibration_error(
  logits: Array, label: Array, *, num_bins: int = 15
) -> Array:
  """The gap of confidence and accuracy, averaged over bins. Batch-coupled.

  sum_k (n_k / B) |accuracy_k - confidence_k|

  Of a calibrated model it is not 0 but, about, sum_k sqrt(2 v_k / pi) / B, with v_k the
  sum of c (1 - c) in a bin, c the confidence: it falls as 1 / sqrt(B), and grows with
  the number of bins. Bins are of equal width.

  Args:
    logits: `[B, C]`.
    label: `[B]`.
    num_bins: K.

  Returns:
    `[]`.

  Raises:
    ValueError: shapes or labels that are not as above, or no bins.
  """
  _, confidence, right = _binned(logits, label, num_bins)
  return jnp.abs(confidence - right).sum() / len(logits)


def brier(logits: Array, label: Array) -> Array:
  """Brier's score, the squared distance of probabilities from the truth.

  sum_c (p_c - [c = label])^2, between 0 and 2

  Args:
    logits: `[B, C]`.
    label: `[B]`.

  Returns:
    `[B]`.

  Raises:
    ValueError: shapes or labels that are not as above.
  """
  logits, label = _checked(logits, label)
  truth = jax.nn.one_hot(label, logits.shape[1], dtype=logits.dtype)
  return jnp.square(jax.nn.softmax(logits) - truth).sum(axis=1)


def negative_log_likelihood(logits: Array, label: Array) -> Array:
  """-log p(label | x).

  Args:
    logits: `[B, C]`.
    label: `[B]`.

  Returns:
    `[B]` nats.

  Raises:
    ValueError: shapes or labels that are not as above.
  """
  logits, label = _checked(logits, label)
  found = jnp.take_along_axis(jax.nn.log_softmax(logits), label[:, None], axis=1)
  return -found[:, 0]


def _binned(logits, label, num_bins) -> tuple[Array, Array, Array]:
  """Counts of bins, and sums of confidences and of right guesses in them."""
  logits, label = _checked(logits, label)
  if num_bins < 1:
    raise ValueError(f'num_bins must be >= 1, got {num_bins}')
  confidence = jax.nn.softmax(logits).max(axis=1)
  right = (logits.argmax(axis=1) == label).astype(logits.dtype)
  # The upper end belongs to a bin. A NaN is in none, and must not vanish.
  index = jnp.clip(jnp.ceil(confidence * num_bins) - 1, 0, num_bins - 1)
  index = jnp.where(jnp.isnan(confidence), 0, index).astype(jnp.int32)

  def summed(values):
    return jnp.zeros(num_bins, values.dtype).at[index].add(values)

  return summed(jnp.ones_like(label)), summed(confidence), summed(right)


def _checked(logits: Array, label: Array) -> tuple[Array, Array]:
  (logits,) = shapes.floats(logits=logits)
  if logits.ndim != 2 or not logits.size:
    raise ValueError(f'logits must be [B, C], got {logits.shape}')
  shapes.check_levels(logits.shape[1], label=label)
  label = jnp.asarray(label, jnp.int32)
  if label.shape != logits.shape[:1]:
    raise ValueError(f'label must be [{len(logits)}], got {label.shape}')
  return logits, label
