"""The inception score: a classifier is sure of each sample, and not of all alike.

On the logits of Inception-v3 (1,000 classes) it is the number of that name; on those
of any other classifier it is one of its own, to be reported with the classifier, the
number of samples and of splits.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from gm_jax.losses import divergence, shapes
from gm_jax.metrics import rows

Array = jax.Array


def inception_score(logits: Array, *, num_splits: int = 10) -> tuple[Array, Array]:
  """The inception score, its mean and standard deviation over splits.

  exp E_x KL(p(y | x) || p(y)) = exp(H(p(y)) - E_x H(p(y | x))),  p(y) = E_x p(y | x)

  in each split, from 1 (all predictions alike) to K (certain and balanced). Split s of
  S has rows floor(s N / S) to floor((s + 1) N / S): of an N that S does not divide no
  row is left out, and splits differ by one row at most. Rows are taken in their order:
  shuffle samples that are sorted by class. Biased downwards for few rows a split, as
  p(y) is of the split itself. Batch-coupled.

  Source: Improved Techniques for Training GANs, Salimans et al., 2016,
  arXiv:1606.03498, section 4, with ten splits.

  Args:
    logits: `[N, K]` of a classifier, of the samples.
    num_splits: S, at most N.

  Returns:
    `[]` mean over the splits, `[]` standard deviation over them, whose squares are
    divided by S as in the authors' code: the spread of splits, and no error of the
    mean. NaN where logits are traced and NaN or inf.

  Raises:
    ValueError: logits that are not [N, K] with N, K >= 1, or NaN or inf, or
      `num_splits` not in 1 to N.
  """
  (logits,) = shapes.floats(logits=logits)
  message = 'logits must be [N, K]'
  chex.assert_rank(logits, 2, custom_message=message, exception_type=ValueError)
  num = logits.shape[0]
  if not logits.size:
    raise ValueError(f'logits must be [N, K], got {list(logits.shape)}: no numbers')
  if not 1 <= num_splits <= num:
    raise ValueError(f'num_splits must be from 1 to N = {num}, got {num_splits}')
  # A class that is ruled out has -inf, and rightly the probability 0.
  shapes.check_finite(logits=jnp.where(logits == -jnp.inf, 0.0, logits))
  logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
  p = jax.nn.softmax(logits, axis=1)
  # Row i is of the split s whose floor(s N / S) is the last at or before i.
  edges = np.arange(num_splits + 1) * num // num_splits
  member = np.repeat(np.arange(num_splits), np.diff(edges))
  counts = jnp.asarray(np.diff(edges), p.dtype)

  def average(values):
    sums = jax.ops.segment_sum(
      values, member, num_segments=num_splits, indices_are_sorted=True
    )
    return (sums.T / counts).T

  information = divergence.entropy(average(p)) - average(divergence.entropy(p))
  scores = rows.where_finite(jnp.exp(information), p)
  return scores.mean(), scores.std()
