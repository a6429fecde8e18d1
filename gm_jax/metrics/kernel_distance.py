"""Kernel discrepancies of many samples, in memory linear in their number.

The estimates of `losses.discrepancy` with its kernels and notation: x [N, D]
from p, y [M, D] from q, widths as standard deviations in the unit of the data.
The Gram matrix is never held at once: rows are computed in chunks.
"""

import functools

import jax
import jax.numpy as jnp

from gm_jax import statistics
from gm_jax.losses import discrepancy, shapes
from gm_jax.metrics import rows

Array = jax.Array
WHOLE = 250  # rows whose Gram matrix is computed whole


def _mean_kernel(
  kernel: discrepancy.Kernel, x: Array, y: Array, chunk: int, drop_diagonal: bool
) -> Array:
  """The mean of kernel(x, y), of its off-diagonal part if asked, in row chunks."""
  num = x.shape[0]
  chunk = min(chunk, num)
  # Rounded up to full chunks, as `jax.lax.map` needs; the padding is cut off below.
  index = jnp.arange(-(-num // chunk) * chunk).reshape(-1, chunk)

  def row_means(rows):
    gram = kernel(x[jnp.minimum(rows, num - 1)], y)  # the last chunk is padded
    if drop_diagonal:
      gram = jnp.where(rows[:, None] == jnp.arange(y.shape[0]), 0.0, gram)
    return gram.sum(axis=1) / (y.shape[0] - drop_diagonal)

  return jax.lax.map(row_means, index).reshape(-1)[:num].mean()


def mmd2_unbiased(
  kernel: discrepancy.Kernel, x: Array, y: Array, *, chunk: int = 1024
) -> Array:
  """The unbiased estimate of the squared maximum mean discrepancy, in chunks.

  1/(N(N-1)) sum_{i != j} k(x_i, x_j) + 1/(M(M-1)) sum_{i != j} k(y_i, y_j)
    - 2/(NM) sum_{i, j} k(x_i, y_j)

  The value of `losses.discrepancy.mmd2_unbiased` in memory of order
  chunk * max(N, M). Batch-coupled. In float32 it is good to about 1e-6 of the
  kernel's scale, below which differences mean nothing.

  Source: A Kernel Two-Sample Test, Gretton et al., 2012, JMLR 13, eq. 3.

  Args:
    kernel: (x `[N, D]`, y `[M, D]`) -> `[N, M]`.
    x: `[N, D]` draws from p, N >= 2.
    y: `[M, D]` draws from q, M >= 2.
    chunk: rows at a time.

  Returns:
    `[]` in the unit of the kernel.

  Raises:
    ValueError: fewer than two rows, a chunk below 1, or a shape that the kernel
      refuses.
  """
  if min(x.shape[0], y.shape[0]) < 2:
    raise ValueError(
      f'x and y need two rows or more each, got {x.shape[0]} and {y.shape[0]}'
    )
  if chunk < 1:
    raise ValueError(f'chunk must be >= 1, got {chunk}')
  x, y = shapes.floats(x=x, y=y)
  within = _mean_kernel(kernel, x, x, chunk, True)
  within += _mean_kernel(kernel, y, y, chunk, True)
  return within - 2.0 * _mean_kernel(kernel, x, y, chunk, False)


def _sum_of_pairs(kernel: discrepancy.Kernel, x: Array) -> Array:
  """The sum of kernel(x_i, x_j) over i != j, nearly each pair computed once.

  A kernel is symmetric: what is off the diagonal of a Gram matrix of two halves is
  counted twice, and the halves are done likewise, down to `WHOLE` rows.
  """
  num = x.shape[0]
  if num <= WHOLE:
    return jnp.where(jnp.eye(num, dtype=bool), 0.0, kernel(x, x)).sum()
  halves = x[: num // 2], x[num // 2 :]
  within = sum(_sum_of_pairs(kernel, half) for half in halves)
  return within + 2.0 * kernel(*halves).sum()


def _cubic_about(center: Array) -> discrepancy.Kernel:
  """The cubic kernel (<x, y> / D + 1)^3 of rows less a center, but for some terms.

  k(x, y) - k(x, c) - k(c, y) + k(c, c): terms of one argument alone cancel in the
  unbiased MMD^2 whatever they are, and so do nearly all digits of k far from 0. With
  a = |c|^2 / D + 1, p = <c, x - c> / D, q likewise of y, g = <x - c, y - c> / D and
  u = a + p + q, k(x, y) = (g + u)^3 and the difference is

    g (g (g + 3 u) + 3 u^2) + 3 p q (a + u)

  in terms that are small where the rows are near the center.
  """
  multiply = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
  size = center.shape[0]
  a = jnp.square(center).sum() / size + 1.0

  def kernel(x: Array, y: Array) -> Array:
    p, q = multiply(x, center)[:, None] / size, multiply(y, center) / size
    g, u = multiply(x, y.T) / size, a + p + q
    return g * (g * (g + 3.0 * u) + 3.0 * u**2) + 3.0 * p * q * (a + u)

  return kernel


def kernel_distance(
  key: Array,
  real: Array,
  fake: Array,
  *,
  num_subsets: int = 100,
  subset_size: int = 1000,
  kernel: discrepancy.Kernel | None = None,
) -> tuple[Array, Array]:
  """The kernel distance of random subsets; on Inception's features, the KID.

  E over subsets of  MMD^2 unbiased,  k(x, y) = (<x, y> / D + 1)^3

  Each subset is drawn without replacement from its set, and the subsets anew from all
  rows. Unbiased: 0 in expectation where the two distributions are equal, for any
  number of rows, so that values of different numbers may be compared and one below 0
  is no mistake. The default kernel's is computed about a center, where float32 loses
  nothing to an offset of the features. Batch-coupled.

  Source: Demystifying MMD GANs, Binkowski et al., 2018, arXiv:1801.01401, section 4,
  whose code has 100 subsets of 1,000.

  Args:
    key: `[]` typed key of the subsets.
    real: `[N, D]` features of data, N >= `subset_size`.
    fake: `[M, D]` features of samples, M >= `subset_size`.
    num_subsets: of subsets, >= 1.
    subset_size: rows of each, >= 2.
    kernel: (x `[N, D]`, y `[M, D]`) -> `[N, M]`; by default as above.

  Returns:
    `[]` mean over the subsets, and `[]` its standard error, std / sqrt(num_subsets),
    NaN for one subset. Subsets share rows: the error says how well the mean is known
    of these two sets, and is too small for that of the two distributions. NaN where
    features are traced and not finite.

  Raises:
    ValueError: rows that are not [number, D] of one D or not finite, `subset_size` not
      in 2 to min(N, M), or no subsets.
  """
  real, fake = rows.check(real=real, fake=fake)
  least = min(real.shape[0], fake.shape[0])
  if not 2 <= subset_size <= least:
    raise ValueError(
      f'subset_size must be from 2 to {least}, the rows of the smaller set, got'
      f' {subset_size}'
    )
  if num_subsets < 1:
    raise ValueError(f'num_subsets must be >= 1, got {num_subsets}')
  sets = real, fake
  if kernel is None:
    center = jax.lax.stop_gradient(rows.middle(real))
    sets, kernel = (real - center, fake - center), _cubic_about(center)

  def of_subset(key):
    x, y = (
      of_set[jax.random.choice(k, of_set.shape[0], (subset_size,), replace=False)]
      for k, of_set in zip(jax.random.split(key), sets, strict=True)
    )
    within = _sum_of_pairs(kernel, x) + _sum_of_pairs(kernel, y)
    within /= subset_size * (subset_size - 1)
    return within - 2.0 * kernel(x, y).mean()

  values = jax.lax.map(of_subset, jax.random.split(key, num_subsets))
  return statistics.mean_and_error(rows.where_finite(values, real, fake))


def median_bandwidth(x: Array, *, max_points: int = 1000) -> Array:
  """The median distance between points, a kernel width where none is known.

  median_{i < j} |x_i - x_j|

  over at most `max_points` rows taken evenly from x, so that data sorted by class
  are covered too. Choose the width once, on data, and keep it: a width that
  follows the samples makes values incomparable. It is 0 where more than half of
  the pairs coincide, and `discrepancy.gaussian` refuses that.

  Source: A Kernel Two-Sample Test, Gretton et al., 2012, JMLR 13, section 8.

  Args:
    x: `[N, D]` points, N >= 2.
    max_points: how many rows at most.

  Returns:
    `[]` in the unit of the data; `float` of it is a `std` for
    `discrepancy.gaussian`.

  Raises:
    ValueError: fewer than two rows, or `max_points` below 2.
  """
  if min(x.shape[0], max_points) < 2:
    raise ValueError(
      f'x needs two rows or more and max_points 2 or more, got {x.shape[0]} rows'
      f' and max_points {max_points}'
    )
  points = x[:: -(-x.shape[0] // max_points)]
  pairs = jnp.triu_indices(points.shape[0], k=1)
  return jnp.median(discrepancy.distances(points, points)[pairs])
