"""Discrepancies between two sets of samples, from the samples alone.

x [N, D] are draws from p and y [M, D] draws from q; images are flattened by the
caller. A kernel is a function (x `[N, D]`, y `[M, D]`) -> `[N, M]`, positive definite.
Kernel widths are standard deviations or lengths in the unit of the data, never
variances: the lists of `sigma` in public GMMN code are variances, in some copies
standard deviations. Every discrepancy is a [] scalar and batch-coupled: an estimate
from the batch that is passed, which under sharded jit is the global one. What is named
`wasserstein` is the distance to its power p, whose gradient exists at zero.
"""

import functools
import itertools
from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp

from gm_jax.losses import shapes

Array = jax.Array
Kernel = Callable[[Array, Array], Array]


def _rows(x: Array, y: Array) -> tuple[Array, Array]:
  """Both as floats, once they are `[number, D]` with the same D."""
  x, y = shapes.floats(x=x, y=y)
  for name, rows in (('x', x), ('y', y)):
    message = f'{name} must be [number, D]: flatten images first'
    chex.assert_rank(rows, 2, custom_message=message, exception_type=ValueError)
  chex.assert_equal_shape(
    [x, y],
    dims=1,
    custom_message='x and y must have the same D',
    exception_type=ValueError,
  )
  return x, y


DIMS = 16  # dimensions of which a pass over the [N, M] distances takes differences
ROWS = 32  # of each array, of which `_middle` is the median


@jax.custom_jvp
def _sum_of_squared_differences(x: Array, y: Array) -> Array:
  """The squared distances `[N, M]`, some dimensions at a time: no [N, M, D] array."""
  size = max(1, min(DIMS, x.shape[1]))
  blocks = -(-x.shape[1] // size)

  def cut(rows):  # [N, D] -> [blocks, size, N], in which zeros are added
    padded = jnp.pad(rows, ((0, 0), (0, blocks * size - rows.shape[1])))
    return padded.T.reshape(blocks, size, len(rows))

  def add(total, block):
    for one, other in zip(*block, strict=True):
      total += jnp.square(one[:, None] - other[None, :])
    return total, None

  zero = jnp.zeros((len(x), len(y)), jnp.result_type(x, y))
  return jax.lax.scan(add, zero, (cut(x), cut(y)))[0]


def _middle(x: Array, y: Array) -> Array:
  """A point `[D]` among the rows that a few outliers do not move: a median of some."""
  some = [rows[:: -(-len(rows) // ROWS)] for rows in (x, y) if len(rows)]
  return jnp.sort(jnp.concatenate(some), axis=0)[(sum(map(len, some)) - 1) // 2]


@_sum_of_squared_differences.defjvp
def _sum_of_squared_differences_jvp(primals, tangents):
  # 2 <x_i - y_j, dx_i - dy_j> as matrix products: differences kept for a gradient would
  # be the [N, M, D] array. It is linear in the rows, so that of a float's digits an
  # offset costs few, and one from their middle fewer.
  (x, y), (dx, dy) = primals, tangents
  center = jax.lax.stop_gradient(_middle(x, y))
  a, b = x - center, y - center
  product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
  within = (a * dx).sum(axis=1)[:, None] + (b * dy).sum(axis=1)
  tangent = 2.0 * (within - product(a, dy.T) - product(dx, b.T))
  return _sum_of_squared_differences(x, y), tangent


def squared_distances(x: Array, y: Array) -> Array:
  """Squared Euclidean distances between the rows of two arrays.

  sum_d (x_d - y_d)^2

  by differences: an entry is good to float epsilon times itself, whatever offset the
  rows have in common and wherever the others are, and no [N, M, D] array is made. The
  form |x|^2 + |y|^2 - 2 <x, y> has an error of epsilon times the squared spread of all
  rows, so that one outlier spoils every entry. On a CPU the differences cost once to
  twice as much as it, 1.2 to 1.7 times in an MMD^2 of 64 to 1,000 rows; on an
  accelerator, whose matrix units they leave idle, more. The gradient is made of matrix
  products: its error is epsilon times the distance from the rows' middle.

  Args:
    x: `[N, D]`.
    y: `[M, D]`.

  Returns:
    `[N, M]`, in the unit of the data squared.

  Raises:
    ValueError: an argument is not of rank 2, or the two differ in D.
  """
  x, y = _rows(x, y)
  dtype = jnp.promote_types(jnp.result_type(x, y), jnp.float32)
  return _sum_of_squared_differences(x.astype(dtype), y.astype(dtype))


def gaussian(*, std: float) -> Kernel:
  """The Gaussian kernel.

  k(x, y) = exp(-|x - y|^2 / (2 std^2))

  Source: A Kernel Two-Sample Test, Gretton et al., 2012, JMLR 13. The lists of
  `sigma` in public GMMN code are variances, in some copies standard deviations.

  Args:
    std: the kernel's standard deviation in the unit of the data; may be traced.

  Returns:
    The kernel, (x `[N, D]`, y `[M, D]`) -> `[N, M]` in (0, 1].

  Raises:
    ValueError: `std` is not positive.
  """
  shapes.check_positive(std=std)

  def kernel(x: Array, y: Array) -> Array:
    return jnp.exp(-squared_distances(x, y) / (2.0 * std**2))

  return kernel


def gaussian_mixture(*, stds: Sequence[float]) -> Kernel:
  """A sum of Gaussian kernels, one a width.

  k(x, y) = sum_s exp(-|x - y|^2 / (2 s^2))

  Source: Generative Moment Matching Networks, Li et al., 2015, arXiv:1502.02761.
  The authors' code has 2 sigma where 2 s^2 stands here: its list [2, 5, 10, 20, 40,
  80] for MNIST holds variances, stds of their square roots.

  Args:
    stds: one positive standard deviation a kernel, in the unit of the data.

  Returns:
    The kernel, (x `[N, D]`, y `[M, D]`) -> `[N, M]` in (0, number of stds].

  Raises:
    ValueError: there are no stds, or one is not positive.
  """
  stds = tuple(stds)
  if not stds or not all(std > 0 for std in stds):
    raise ValueError(f'stds must be one or more numbers > 0, got {stds}')

  def kernel(x: Array, y: Array) -> Array:
    squares = squared_distances(x, y)
    terms = (jnp.exp(-squares / (2.0 * std**2)) for std in stds)
    return sum(terms, start=jnp.zeros_like(squares))

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
    The kernel, (x `[N, D]`, y `[M, D]`) -> `[N, M]` in (0, number of alphas].

  Raises:
    ValueError: there are no alphas, or one is not positive.
  """
  alphas = tuple(alphas)
  if not alphas or not all(a > 0 for a in alphas):
    raise ValueError(f'alphas must be one or more numbers > 0, got {alphas}')

  def kernel(x: Array, y: Array) -> Array:
    squares = squared_distances(x, y)
    # The power as exp and log1p: squares far below a keep their digits.
    terms = (jnp.exp(-a * jnp.log1p(squares / (2.0 * a))) for a in alphas)
    return sum(terms, start=jnp.zeros_like(squares))

  return kernel


def inverse_multiquadric(*, lengths: Sequence[float]) -> Kernel:
  """A sum of inverse multiquadric kernels, one a length.

  k(x, y) = sum_l l^2 / (l^2 + |x - y|^2)

  Of heavy tails: rows far from all others still have a gradient towards them. With
  length sqrt(2) it is `rational_quadratic` of alpha 1.

  Source: Wasserstein Auto-Encoders, Tolstikhin et al., 2018, arXiv:1711.01558, section
  4, which has C = 2 Z s^2 for l^2, the squared distance expected of two draws from
  N(0, s^2 I) in Z dimensions; the authors' code sums over C times 0.1, 0.2, 0.5, 1, 2,
  5 and 10.

  Args:
    lengths: one positive length a kernel, in the unit of the data.

  Returns:
    The kernel, (x `[N, D]`, y `[M, D]`) -> `[N, M]` in (0, number of lengths].

  Raises:
    ValueError: there are no lengths, or one is not positive.
  """
  lengths = tuple(lengths)
  if not lengths or not all(length > 0 for length in lengths):
    raise ValueError(f'lengths must be one or more numbers > 0, got {lengths}')

  def kernel(x: Array, y: Array) -> Array:
    squares = squared_distances(x, y)
    terms = (1.0 / (1.0 + squares / length**2) for length in lengths)
    return sum(terms, start=jnp.zeros_like(squares))

  return kernel


def polynomial(
  *, degree: int = 3, scale: float | None = None, offset: float = 1.0
) -> Kernel:
  """The polynomial kernel; its defaults are those of the kernel inception distance.

  k(x, y) = (scale <x, y> + offset)^degree

  Not characteristic: it compares moments up to `degree` and no more.

  Source: Demystifying MMD GANs, Binkowski et al., 2018, arXiv:1801.01401,
  section 4.

  Args:
    degree: an integer >= 1.
    scale: > 0, in 1 / unit of the data squared; 1 / D if None.
    offset: >= 0.

  Returns:
    The kernel, (x `[N, D]`, y `[M, D]`) -> `[N, M]`.

  Raises:
    ValueError: a number out of its range.
  """
  if degree < 1 or int(degree) != degree:
    raise ValueError(f'degree must be an integer >= 1, got {degree}')
  if offset < 0 or scale is not None and not scale > 0:
    raise ValueError(f'scale must be > 0 and offset >= 0, got {scale} and {offset}')

  def kernel(x: Array, y: Array) -> Array:
    x, y = _rows(x, y)
    product = jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
    factor = 1.0 / x.shape[1] if scale is None else scale
    return (factor * product + offset) ** int(degree)

  return kernel


def distances(x: Array, y: Array) -> Array:
  """Euclidean distances between rows, with a gradient of 0 where two coincide.

  To the gradient rows coincide where the direction from one to the other is lost to
  rounding, at 1e-6 of their distance from the middle of all; to the value where they
  are equal.

  Args:
    x: `[N, D]`.
    y: `[M, D]`.

  Returns:
    `[N, M]` in the unit of the data.

  Raises:
    ValueError: an argument is not of rank 2, or the two differ in D.
  """
  x, y = _rows(x, y)
  squares = squared_distances(x, y)
  fixed = jax.lax.stop_gradient((x, y, squares))
  center = _middle(*fixed[:2])
  norms = (jnp.square(rows - center).sum(axis=1) for rows in fixed[:2])
  rounding = (16.0 * jnp.finfo(squares.dtype).eps) ** 2 * sum(jnp.ix_(*norms))
  apart = fixed[2] > rounding
  # The inner `where` keeps the infinite slope of sqrt at 0 out of the gradient, where
  # times the outer zero it would be NaN.
  return jnp.where(apart, jnp.sqrt(jnp.where(apart, squares, 1.0)), jnp.sqrt(fixed[2]))


def distance_induced(*, origin: Array | float = 0.0) -> Kernel:
  """The kernel whose squared MMD is half of the energy distance.

  k(x, y) = (|x - o| + |y - o| - |x - y|) / 2

  Unbounded and without a width. Both estimates of the MMD are the same for any
  origin o; take one near the data, for far from them the three terms cancel.

  Source: Equivalence of distance-based and RKHS-based statistics in hypothesis
  testing, Sejdinovic et al., 2013, arXiv:1207.6076.

  Args:
    origin: `[D]` or `[]` the point o, in the unit of the data.

  Returns:
    The kernel, (x `[N, D]`, y `[M, D]`) -> `[N, M]` in the unit of the data.
  """

  def kernel(x: Array, y: Array) -> Array:
    x, y = _rows(x, y)
    point = jnp.broadcast_to(jnp.asarray(origin, y.dtype), (1, y.shape[1]))
    from_origin = distances(x, point) + distances(y, point).T
    return (from_origin - distances(x, y)) / 2.0

  return kernel


def deep(kernel: Kernel, features: Callable[[Array], Array]) -> Kernel:
  """A kernel of features.

  k(phi(x), phi(y))

  Characteristic only if the features are injective (and the kernel is).

  Source: MMD GAN, Li et al., 2017, arXiv:1705.08584.

  Args:
    kernel: (phi(x) `[N, K]`, phi(y) `[M, K]`) -> `[N, M]`.
    features: phi, `[N, ...]` -> `[N, K]`.

  Returns:
    The kernel, (x `[N, ...]`, y `[M, ...]`) -> `[N, M]`.
  """

  def of_features(x: Array, y: Array) -> Array:
    x, y = shapes.floats(x=x, y=y)
    return kernel(features(x), features(y))

  return of_features


def _mean(gram: Array) -> Array:
  # In two steps: a float32 sum of N * M terms at once would lose digits.
  return gram.mean(axis=1).mean()


def _mean_off_diagonal(gram: Array) -> Array:
  num = gram.shape[0]
  # Masked rather than subtracted: the mean less the diagonal's would cancel.
  off_diagonal = jnp.where(jnp.eye(num, dtype=bool), 0.0, gram)
  return (off_diagonal.sum(axis=1) / (num - 1)).mean()


def mmd2_biased(kernel: Kernel, x: Array, y: Array) -> Array:
  """The biased estimate of the squared maximum mean discrepancy.

  1/N^2 sum_{i, j} k(x_i, x_j) + 1/M^2 sum_{i, j} k(y_i, y_j)
    - 2/(NM) sum_{i, j} k(x_i, y_j)

  The squared distance of two empirical means in the kernel's space, never negative
  but for rounding; its gradient in the samples differs from that of `mmd2_unbiased`
  only in how it repels them from one another. Batch-coupled.

  Source: A Kernel Two-Sample Test, Gretton et al., 2012, JMLR 13, eq. 5.

  Args:
    kernel: (x `[N, D]`, y `[M, D]`) -> `[N, M]`.
    x: `[N, D]` draws from p.
    y: `[M, D]` draws from q.

  Returns:
    `[]` in the unit of the kernel.

  Raises:
    ValueError: a shape that the kernel refuses.
  """
  within = _mean(kernel(x, x)) + _mean(kernel(y, y))
  return within - 2.0 * _mean(kernel(x, y))


def mmd_biased(kernel: Kernel, x: Array, y: Array) -> Array:
  """The root of `mmd2_biased`, whose gradient at 0 is 0 and not infinite.

  Batch-coupled.

  Source: Generative Moment Matching Networks, Li et al., 2015, arXiv:1502.02761,
  section 3.3, where it is what the network minimizes.

  Args:
    kernel: (x `[N, D]`, y `[M, D]`) -> `[N, M]`.
    x: `[N, D]` draws from p.
    y: `[M, D]` draws from q.

  Returns:
    `[]` in the root of the kernel's unit.

  Raises:
    ValueError: a shape that the kernel refuses.
  """
  squared = mmd2_biased(kernel, x, y)
  positive = squared > 0  # the double where of `distances`
  return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


def mmd2_linear(kernel: Kernel, x: Array, y: Array) -> Array:
  """The unbiased estimate of the squared MMD in linear time, of larger variance.

  2/N sum_i k(x_2i, x_2i+1) + k(y_2i, y_2i+1) - k(x_2i, y_2i+1) - k(x_2i+1, y_2i)

  Batch-coupled, in pairs of neighbors; the last of an odd number is left out.

  Source: A Kernel Two-Sample Test, Gretton et al., 2012, JMLR 13, lemma 14.

  Args:
    kernel: (x `[N, D]`, y `[M, D]`) -> `[N, M]`.
    x: `[N, D]` draws from p, N >= 2.
    y: `[N, D]` draws from q.

  Returns:
    `[]` in the unit of the kernel.

  Raises:
    ValueError: x and y differ in shape, or have fewer than two rows.
  """
  x, y = shapes.floats(x=x, y=y)
  if x.shape != y.shape or x.shape[0] < 2:
    raise ValueError(f'x and y must both be [N >= 2, D], got {x.shape} and {y.shape}')

  def kernel_of_pairs(a, b):
    # A row at a time, for a kernel gives all N^2 pairs of what it is called on.
    return jax.vmap(lambda a, b: kernel(a[None], b[None])[0, 0])(a, b)

  even, odd = slice(0, x.shape[0] // 2 * 2, 2), slice(1, None, 2)
  within = kernel_of_pairs(x[even], x[odd]) + kernel_of_pairs(y[even], y[odd])
  across = kernel_of_pairs(x[even], y[odd]) + kernel_of_pairs(x[odd], y[even])
  return (within - across).mean()


def mmd2_unbiased(kernel: Kernel, x: Array, y: Array) -> Array:
  """The unbiased estimate of the squared maximum mean discrepancy.

  1/(N(N-1)) sum_{i != j} k(x_i, x_j) + 1/(M(M-1)) sum_{i != j} k(y_i, y_j)
    - 2/(NM) sum_{i, j} k(x_i, y_j)

  Being unbiased it is negative about half of the time where p = q.
  Batch-coupled. For many samples see `metrics.kernel_distance`.

  Source: A Kernel Two-Sample Test, Gretton et al., 2012, JMLR 13, eq. 3.

  Args:
    kernel: (x `[N, D]`, y `[M, D]`) -> `[N, M]`.
    x: `[N, D]` draws from p, N >= 2.
    y: `[M, D]` draws from q, M >= 2.

  Returns:
    `[]` in the unit of the kernel.

  Raises:
    ValueError: fewer than two rows, or a shape that the kernel refuses.
  """
  if min(x.shape[0], y.shape[0]) < 2:
    raise ValueError(
      f'x and y need two rows or more each, got {x.shape[0]} and {y.shape[0]}'
    )
  within = _mean_off_diagonal(kernel(x, x)) + _mean_off_diagonal(kernel(y, y))
  return within - 2.0 * _mean(kernel(x, y))


def energy_distance(x: Array, y: Array) -> Array:
  """The energy distance of two empirical distributions.

  2 E|X - Y| - E|X - X'| - E|Y - Y'|

  Twice `mmd2_biased` of `distance_induced`; on the line, 2 int (F - G)^2.
  Batch-coupled. The name is sometimes given to its root, which is a metric.

  Source: Energy statistics: a class of statistics based on distances, Szekely and
  Rizzo, 2013.

  Args:
    x: `[N, D]` draws from p.
    y: `[M, D]` draws from q.

  Returns:
    `[]` in the unit of the data, never negative but for rounding.

  Raises:
    ValueError: an argument is not of rank 2, or the two differ in D.
  """
  within = _mean(distances(x, x)) + _mean(distances(y, y))
  return 2.0 * _mean(distances(x, y)) - within


def wasserstein_1d(x: Array, y: Array, *, power: float = 1.0) -> Array:
  """The Wasserstein distance W_p^p between samples on the line.

  int_0^1 |F_x^-1(u) - F_y^-1(u)|^p du

  by sorting; the two may differ in number. Batch-coupled.

  Args:
    x: `[N]` draws from p.
    y: `[M]` draws from q.
    power: p >= 1.

  Returns:
    `[]` in the unit of the data to the power p.

  Raises:
    ValueError: a rank other than 1, no samples, or `power` below 1.
  """
  if not power >= 1:
    raise ValueError(f'power must be >= 1, got {power}')
  x, y = shapes.floats(x=x, y=y)
  if x.ndim != 1 or y.ndim != 1 or not x.size or not y.size:
    raise ValueError(f'x and y must be [N] and [M], got {x.shape} and {y.shape}')
  dtype = jnp.result_type(x, y, jnp.float32)
  x, y = x.astype(dtype), y.astype(dtype)
  num, other = len(x), len(y)
  # Levels at which a quantile function steps, in units of 1 / (N M): as integers they
  # are exact, and N and M are static, so that this loop is no part of the program.
  levels = sorted(
    {*range(other, num * other, other), *range(num, num * other + 1, num)}
  )
  widths = [(b - a) / (num * other) for a, b in itertools.pairwise([0, *levels])]
  # Between two levels both functions are constant: order statistic ceil(u N) of x.
  quantile_x = jnp.sort(x)[jnp.array([(level - 1) // other for level in levels])]
  quantile_y = jnp.sort(y)[jnp.array([(level - 1) // num for level in levels])]
  return (jnp.array(widths, dtype) * jnp.abs(quantile_x - quantile_y) ** power).sum()


def sliced_wasserstein(
  key: Array, x: Array, y: Array, *, num_projections: int = 100, power: float = 2.0
) -> Array:
  """The mean of W_p^p over random directions.

  E_{|w| = 1} W_p^p(<w, x>, <w, y>)

  For isotropic Gaussians and p = 2 it is |m1 - m2|^2 / D + (s1 - s2)^2.
  Batch-coupled.

  Source: Sliced and Radon Wasserstein Barycenters of Measures, Bonneel et al., 2015.

  Args:
    key: `[]` typed key of the directions.
    x: `[N, D]` draws from p.
    y: `[M, D]` draws from q.
    num_projections: directions drawn.
    power: p >= 1.

  Returns:
    `[]` in the unit of the data to the power p.

  Raises:
    ValueError: wrong shapes, `power` or `num_projections` below 1.
  """
  x, y = _rows(x, y)
  if num_projections < 1:
    raise ValueError(f'num_projections must be >= 1, got {num_projections}')
  # The distance of neither depends on the center: an offset would cost digits.
  center = jax.lax.stop_gradient(_middle(x, y))
  x, y = x - center, y - center
  # A normalized Gaussian vector is uniform on the sphere.
  direction = jax.random.normal(key, (num_projections, x.shape[1]), x.dtype)
  direction /= jnp.linalg.norm(direction, axis=1, keepdims=True)

  def distance_along(w):
    along = (
      jnp.matmul(rows, w, precision=jax.lax.Precision.HIGHEST) for rows in (x, y)
    )
    return wasserstein_1d(*along, power=power)

  return jax.vmap(distance_along)(direction).mean()


def _soft_minimum(cost: Array, potential: Array, epsilon: float) -> Array:
  """The soft minimum -eps ln E_j exp((g_j - C_ij) / eps), `[N]`."""
  inner = (potential[None, :] - cost) / epsilon
  return -epsilon * (jax.nn.logsumexp(inner, axis=1) - jnp.log(cost.shape[1]))


def sinkhorn_potentials(
  cost: Array, *, epsilon: float, num_iterations: int = 200
) -> tuple[Array, Array]:
  """The dual potentials of entropic transport between uniform weights.

  f_i = -eps ln 1/M sum_j exp((g_j - C_ij) / eps)   and g_j likewise

  in the log domain, from f = 0. The second equation holds exactly at the end; the
  plan exp((f_i + g_j - C_ij) / eps) / (NM) meets the other marginal up to an error
  that shrinks by a constant factor an iteration, slowly where epsilon is far below
  the costs.

  Source: Sinkhorn Distances: Lightspeed Computation of Optimal Transport, Cuturi,
  2013, arXiv:1306.0895.

  Args:
    cost: `[N, M]`.
    epsilon: > 0, in the unit of the cost; may be traced, to anneal it.
    num_iterations: times that both equations are applied.

  Returns:
    `[N]` f and `[M]` g, in the unit of the cost; their gradient is stopped.

  Raises:
    ValueError: cost not of rank 2, `epsilon` <= 0 or `num_iterations` below 1.
  """
  chex.assert_rank(
    cost, 2, custom_message='cost must be [N, M]', exception_type=ValueError
  )
  shapes.check_positive(epsilon=epsilon)
  (cost,) = shapes.floats(cost=cost)
  if num_iterations < 1:
    raise ValueError(f'num_iterations must be >= 1, got {num_iterations}')
  # The envelope theorem needs potentials without a gradient (`entropic_transport`); a
  # loop of no gradient may also be a fori_loop, whose memory does not grow.
  cost = jax.lax.stop_gradient(cost)

  def iterate(_, potentials):
    f = _soft_minimum(cost, potentials[1], epsilon)
    return f, _soft_minimum(cost.T, f, epsilon)

  zeros = jnp.zeros_like(cost[:, 0]), jnp.zeros_like(cost[0])
  return jax.lax.fori_loop(0, num_iterations, iterate, zeros)


def entropic_transport(
  x: Array,
  y: Array,
  *,
  epsilon: float,
  num_iterations: int = 200,
  cost: Callable[[Array, Array], Array] = squared_distances,
) -> Array:
  """The cost of transport with an entropic term.

  min_P <P, C> + eps KL(P || a b^T)  over plans P with marginals a = 1/N, b = 1/M

  by its dual at the potentials of `sinkhorn_potentials`. Its gradient is that of
  the dual with the potentials held: at convergence <P, dC>, right by the envelope
  theorem and without a pass back through the iterations. Biased: it is not least
  where p = q; `sinkhorn_divergence` is. Batch-coupled.

  Source: Learning Generative Models with Sinkhorn Divergences, Genevay et al., 2018,
  arXiv:1706.00292.

  Args:
    x: `[N, D]` draws from p.
    y: `[M, D]` draws from q.
    epsilon: > 0, in the unit of the cost (for the default, of the data squared).
    num_iterations: of Sinkhorn's algorithm.
    cost: (x `[N, D]`, y `[M, D]`) -> `[N, M]`.

  Returns:
    `[]` in the unit of the cost.

  Raises:
    ValueError: wrong shapes, `epsilon` <= 0 or `num_iterations` below 1.
  """
  (costs,) = shapes.floats(cost=cost(x, y))
  f, g = sinkhorn_potentials(costs, epsilon=epsilon, num_iterations=num_iterations)
  # The dual E f + E g - eps (E plan - 1), the last term zero once g is exact: it stays
  # for its gradient, which is the whole <P, dC>.
  plan = jnp.exp((f[:, None] + g[None, :] - costs) / epsilon)
  return f.mean() + g.mean() - epsilon * (plan.mean() - 1.0)


def sinkhorn_divergence(
  x: Array,
  y: Array,
  *,
  epsilon: float,
  num_iterations: int = 200,
  cost: Callable[[Array, Array], Array] = squared_distances,
) -> Array:
  """Entropic transport without its bias: 0 where the samples are the same.

  S(x, y) = OT(x, y) - OT(x, x) / 2 - OT(y, y) / 2

  Between W_2^2 (epsilon -> 0) and half of an MMD^2 with the kernel -C (epsilon ->
  inf). Batch-coupled.

  Source: Interpolating between Optimal Transport and MMD using Sinkhorn
  Divergences, Feydy et al., 2019, arXiv:1810.08278, eq. 3.

  Args:
    x: `[N, D]` draws from p.
    y: `[M, D]` draws from q.
    epsilon: as in `entropic_transport`.
    num_iterations: of Sinkhorn's algorithm.
    cost: symmetric, (x `[N, D]`, y `[M, D]`) -> `[N, M]`.

  Returns:
    `[]` in the unit of the cost, never negative but for rounding and iterations.

  Raises:
    ValueError: wrong shapes, `epsilon` <= 0 or `num_iterations` below 1.
  """

  def transport(x, y):
    return entropic_transport(
      x, y, epsilon=epsilon, num_iterations=num_iterations, cost=cost
    )

  return transport(x, y) - (transport(x, x) + transport(y, y)) / 2.0
