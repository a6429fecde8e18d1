"""Discrepancies between two sets of samples, from the samples alone.

x [N, D] are draws from p and y [M, D] draws from q; images are flattened by the
caller. A kernel is a function (x [N, D], y [M, D]) -> [N, M], positive definite.
Kernel widths are standard deviations or lengths in the unit of the data, never
variances. Every discrepancy is a [] scalar and batch-coupled: an estimate from
the batch it is given, which under sharded jit is the global one.
"""

from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp

Array = jax.Array
Kernel = Callable[[Array, Array], Array]


def squared_distances(x: Array, y: Array) -> Array:
  """Squared Euclidean distances between the rows of two arrays.

  |x - y|^2 = |x|^2 + |y|^2 - 2 <x, y>

  on rows with the mean of y taken away, so that a common offset costs no digits,
  with the product at full precision on every device, and rounding below zero cut
  off. The error is of the order of float epsilon times the squared spread.

  Args:
    x: [N, D].
    y: [M, D].

  Returns:
    [N, M], in the unit of the data squared.

  Raises:
    ValueError: an argument is not of rank 2, or the two differ in D.
  """
  for name, rows in (('x', x), ('y', y)):
    message = f'{name} must be [number, D]: flatten images first'
    chex.assert_rank(rows, 2, custom_message=message, exception_type=ValueError)
  chex.assert_equal_shape(
    [x, y],
    dims=1,
    custom_message='x and y must have the same D',
    exception_type=ValueError,
  )
  center = jax.lax.stop_gradient(y.mean(axis=0))
  x, y = x - center, y - center
  product = jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
  norms = jnp.square(x).sum(axis=1)[:, None] + jnp.square(y).sum(axis=1)
  return jnp.maximum(norms - 2.0 * product, 0.0)


def gaussian(*, std: float) -> Kernel:
  """The Gaussian kernel.

  k(x, y) = exp(-|x - y|^2 / (2 std^2))

  Source: A Kernel Two-Sample Test, Gretton et al., 2012, JMLR 13. The lists of
  `sigma` in public GMMN code are variances, in some copies standard deviations.

  Args:
    std: a number, the kernel's standard deviation in the unit of the data.

  Returns:
    The kernel, (x [N, D], y [M, D]) -> [N, M] in (0, 1].

  Raises:
    ValueError: `std` is not positive.
  """
  if not std > 0:
    raise ValueError(f'std must be > 0, got {std}')

  def kernel(x: Array, y: Array) -> Array:
    return jnp.exp(-squared_distances(x, y) / (2.0 * std**2))

  return kernel


def rational_quadratic(*, alphas: Sequence[float]) -> Kernel:
  """A sum of rational quadratic kernels of unit length.

  k(x, y) = sum_a (1 + |x - y|^2 / (2 a))^(-a)

  A mixture of Gaussian kernels over all widths, with heavy tails for small a; as
  a grows it becomes the Gaussian kernel with std 1. Scale the data to change the
  length.

  Source: Demystifying MMD GANs, Binkowski et al., 2018, arXiv:1801.01401, where
  alphas are (0.2, 0.5, 1, 2, 5).

  Args:
    alphas: one positive number a kernel, dimensionless.

  Returns:
    The kernel, (x [N, D], y [M, D]) -> [N, M] in (0, number of alphas].

  Raises:
    ValueError: there are no alphas, or one is not positive.
  """
  alphas = tuple(alphas)
  if not alphas or not all(a > 0 for a in alphas):
    raise ValueError(f'alphas must be one or more numbers > 0, got {alphas}')

  def kernel(x: Array, y: Array) -> Array:
    squares = squared_distances(x, y)
    terms = (jnp.exp(-a * jnp.log1p(squares / (2.0 * a))) for a in alphas)
    return sum(terms, start=jnp.zeros_like(squares))

  return kernel


def _mean(gram: Array) -> Array:
  # In two steps: a float32 sum of N * M terms at once would lose digits.
  return gram.mean(axis=1).mean()


def _mean_off_diagonal(gram: Array) -> Array:
  num = gram.shape[0]
  off_diagonal = jnp.where(jnp.eye(num, dtype=bool), 0.0, gram)
  return (off_diagonal.sum(axis=1) / (num - 1)).mean()


def mmd2_unbiased(kernel: Kernel, x: Array, y: Array) -> Array:
  """The unbiased estimate of the squared maximum mean discrepancy.

  1/(N(N-1)) sum_{i != j} k(x_i, x_j) + 1/(M(M-1)) sum_{i != j} k(y_i, y_j)
    - 2/(NM) sum_{i, j} k(x_i, y_j)

  Being unbiased it is negative about half of the time where p = q.
  Batch-coupled. For many samples see `metrics.kernel_distance`.

  Source: A Kernel Two-Sample Test, Gretton et al., 2012, JMLR 13, eq. 3.

  Args:
    kernel: (x [N, D], y [M, D]) -> [N, M].
    x: [N, D] draws from p, N >= 2.
    y: [M, D] draws from q, M >= 2.

  Returns:
    [] in the unit of the kernel.

  Raises:
    ValueError: fewer than two rows, or a shape that the kernel refuses.
  """
  if min(x.shape[0], y.shape[0]) < 2:
    raise ValueError(
      f'x and y need two rows or more each, got {x.shape[0]} and {y.shape[0]}'
    )
  within = _mean_off_diagonal(kernel(x, x)) + _mean_off_diagonal(kernel(y, y))
  return within - 2.0 * _mean(kernel(x, y))
