"""Precision, recall, density and coverage of samples, by nearest neighbors.

What lies within the balls about the points of one set, each ball as large as the
distance to the point's k-th nearest neighbor in its own set, is where that set is.
The numbers depend on k, on the features and on how many there are of either set:
report these together. No N x M array is made.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gm_jax.losses import discrepancy
from gm_jax.metrics import neighbors, rows

Array = jax.Array

MANY = 16  # doubtful distances of one row, above which all are found by differences


class PRDC(NamedTuple):
  """How far samples lie where data do, and data where samples do."""

  precision: Array  # [] fraction of samples in a ball of the data
  recall: Array  # [] fraction of the data in a ball of the samples
  density: Array  # [] balls of the data about a sample, over k: 1 where equal
  coverage: Array  # [] fraction of the data whose ball holds a sample


def prdc(real: Array, fake: Array, *, k: int = 5, chunk: int = 1024) -> PRDC:
  """Improved precision and recall, density and coverage.

  With r_i the distance from real_i to its k-th nearest neighbor among the other real
  points, r'_j likewise among the fake, and d_ij between the two sets,

    precision = mean_j  any_i d_ij < r_i      density  = 1/k mean_j sum_i [d_ij < r_i]
    recall    = mean_i  any_j d_ij < r'_j     coverage = mean_i any_j d_ij < r_i

  A set with itself has 1 in all four, unless k points or more coincide. Of independent
  sets from one distribution the expectation of the density is 1, and that of the
  coverage, for N = M, near 1 - 2^-k. Batch-coupled. Balls are open, as in the authors'
  code of the second source; that of the first has d <= r, which differs where distances
  are equal. One outlier among the data has a huge ball: it adds to the precision, and
  by much less to the density.

  Distances are exact to rounding wherever the points are (`metrics.neighbors`); memory
  is of order chunk * max(N, M).

  Source: Improved Precision and Recall Metric for Assessing Generative Models,
  Kynkaanniemi et al., 2019, arXiv:1904.06991, and Reliable Fidelity and Diversity
  Metrics for Generative Models, Naeem et al., 2020, arXiv:2002.09797.

  Args:
    real: `[N, D]` features of data, N > k.
    fake: `[M, D]` features of samples, M > k.
    k: of the neighbor that bounds a ball, the point itself not counted.
    chunk: rows at a time.

  Returns:
    `[]` precision, recall, density and coverage; NaN where they are traced and any
    number is not finite.

  Raises:
    ValueError: rows that are not [number, D] of one D, k not in 1 to min(N, M) - 1, a
      chunk below 1, or numbers that are not finite.
  """
  real, fake = rows.check(real=real, fake=fake)
  least = min(real.shape[0], fake.shape[0])
  if not 1 <= k < least:
    raise ValueError(
      f'k must be from 1 to {least - 1}, less than the rows of either set, got {k}'
    )
  radii, fake_radii = (
    neighbors.nearest_squares(x, x, num=k + 1, chunk=chunk)[1][:, -1]
    for x in (real, fake)
  )
  center = rows.middle(real)
  near = fake - center

  def count(held, index):
    x, radius = real[index], radii[index][:, None]
    bounded = neighbors.bounded_squares(x - center, near)

    def doubtful(squares):
      gaps = jnp.abs(squares - radius), jnp.abs(squares - fake_radii)
      return jnp.minimum(*gaps) <= bounded.slack

    def settled():
      return _settle(bounded.squares, doubtful(bounded.squares), x, fake)

    few = doubtful(bounded.squares).sum(axis=1).max() <= MANY
    squares = jax.lax.cond(few, settled, lambda: discrepancy.squared_distances(x, fake))
    inside = squares < radius
    held |= inside.any(axis=0)  # the last row again, in the padding, adds nothing
    return held, (inside.sum(axis=1), (squares < fake_radii).any(axis=1))

  held = jnp.zeros(fake.shape[0], bool)
  held, parts = jax.lax.scan(count, held, rows.chunks(real.shape[0], chunk))
  counts, recalled = (part.reshape(-1)[: real.shape[0]] for part in parts)
  # Summed as floats: there may be more pairs than an int32 counts.
  density = counts.astype(real.dtype).sum() / (k * fake.shape[0])
  values = held.mean(), recalled.mean(), density, (counts > 0).mean()
  return PRDC(*(rows.where_finite(value, radii, fake_radii) for value in values))


def _settle(squares: Array, doubtful: Array, x: Array, y: Array) -> Array:
  """Squares [N, M] of which the doubtful entries are found by differences.

  One of each row a round: there are few.
  """
  lines, columns = jnp.arange(x.shape[0]), jnp.arange(y.shape[0])

  def settle(carry):
    squares, doubtful = carry
    first = jnp.where(doubtful, columns, y.shape[0] - 1).min(axis=1)
    # A row without doubt settles its last column, which is right as well.
    squares = squares.at[lines, first].set(neighbors.squares_of_pairs(x, y[first]))
    return squares, doubtful.at[lines, first].set(False)

  return jax.lax.while_loop(lambda c: c[1].any(), settle, (squares, doubtful))[0]
