"""Divergences between known distributions: tables, densities on a grid, Gaussians.

Everything is in nats. p and q are probabilities [..., K], or densities on a grid
with the quadrature weights beside them; the sum runs over the last axis. What has
no mass costs nothing (0 ln 0 = 0) and sends no gradient, and mass where the other has
none costs +inf, also where its density only underflowed. Ratios of masses are taken as
logarithms: of a Gaussian's tail the ratio itself, or half of it, may have no float.
Standard deviations are `std`, never variances; covariances are `cov`.

A divergence is not a distance: `theory.axioms` measures which laws hold for which.
"""

import functools
import math

import chex
import jax
import jax.numpy as jnp
from jax.scipy import special

from gm_jax.losses import shapes

Array = jax.Array


@jax.custom_jvp
def log_ratio(p: Array, q: Array) -> Array:
  """The logarithm of p / q, which itself may over- or underflow.

  ln p - ln q, and ln(1 + (p - q) / q) where the two are near

  Args:
    p: `[...]` numbers >= 0.
    q: `[...]` numbers >= 0, not 0 where p is.

  Returns:
    `[...]` nats, good to float epsilon also where the ratio is near 1.
  """
  gap = p - q
  near = jnp.abs(gap) < 0.5 * q
  close = jnp.log1p(jnp.where(near, gap, 0.0) / jnp.where(near, q, 1.0))
  return jnp.where(near, close, jnp.log(p) - jnp.log(q))


@log_ratio.defjvp
def _log_ratio_jvp(primals, tangents):
  # Without the 1 / q^2 of a quotient's derivative, which overflows for q below 1e-19.
  (p, q), (dp, dq) = primals, tangents
  return log_ratio(p, q), dp / p - dq / q


FAR = 30.0  # above which exp overflows some way further on, and log(1 + exp) is linear


def log_mixture(log_ratio: Array, pi: float) -> Array:
  """The logarithm of a mixture over one of its parts.

  ln(m / p) = ln(pi + (1 - pi) exp(log_ratio)),  m = pi p + (1 - pi) q

  Args:
    log_ratio: `[...]` ln(q / p), in nats.
    pi: weight of p, in (0, 1).

  Returns:
    `[...]` nats, good to float epsilon also where the logarithm is near 0.
  """
  far = log_ratio > FAR
  x = jnp.where(far, FAR, log_ratio)
  excess = (1.0 - pi) * jnp.expm1(x)  # m / p - 1
  near = excess > -0.5
  close = jnp.log1p(jnp.where(near, excess, 0.0))
  # A sum of positive parts, where 1 + excess would cancel.
  low = jnp.log(pi + (1.0 - pi) * jnp.exp(jnp.where(near, 0.0, x)))
  y = jnp.where(far, log_ratio, FAR)
  high = y + jnp.log((1.0 - pi) + pi * jnp.exp(-y))
  return jnp.where(far, high, jnp.where(near, close, low))


def entropy(p: Array, *, weights: Array | float = 1.0) -> Array:
  """Shannon's entropy of probabilities, or a density's differential entropy.

  H(p) = -sum_i w_i p_i ln p_i

  Source: A Mathematical Theory of Communication, Shannon, 1948.

  Args:
    p: `[..., K]` probabilities, or densities at K points.
    weights: quadrature weights that broadcast against p; 1 for probabilities.

  Returns:
    `[...]` nats; of probabilities in [0, ln K].
  """
  (p,) = shapes.floats(p=p)
  # Double `where`, here and below: log of the inner 1 has a finite slope, so that no
  # inf times the outer zero becomes a NaN in the gradient.
  some = p > 0
  terms = jnp.where(some, -p * jnp.log(jnp.where(some, p, 1.0)), 0.0)
  return (weights * terms).sum(axis=-1)


def kl(p: Array, q: Array, *, weights: Array | float = 1.0) -> Array:
  """The Kullback-Leibler divergence KL(p || q).

  sum_i w_i p_i ln(p_i / q_i)

  Source: On Information and Sufficiency, Kullback and Leibler, 1951.

  Args:
    p: `[..., K]` probabilities, or densities at K points.
    q: `[..., K]` likewise.
    weights: as in `entropy`.

  Returns:
    `[...]` nats, +inf where p has mass that q has not.

  Raises:
    ValueError: p and q differ in shape, or are scalars.
  """
  p, q = shapes.floats(p=p, q=q)
  shapes.check_tables(p=p, q=q)
  some = p > 0
  safe_p, safe_q = jnp.where(some, p, 1.0), jnp.where(some, q, 1.0)
  terms = jnp.where(some, p * log_ratio(safe_p, safe_q), 0.0)
  return (weights * terms).sum(axis=-1)


def jensen_shannon(
  p: Array, q: Array, *, pi: float = 0.5, weights: Array | float = 1.0
) -> Array:
  """The Jensen-Shannon divergence: the information of a draw about its source.

  JSD(p, q) = pi KL(p || m) + (1 - pi) KL(q || m),  m = pi p + (1 - pi) q
            = I(X; Y) = H(m) - pi H(p) - (1 - pi) H(q)

  for Y ~ Bernoulli(pi) and X drawn from p where Y = 1, else from q. It lies in
  [0, H(Y)], so in [0, ln 2] for the fair mixture; its root is a metric.

  Source: Divergence Measures Based on the Shannon Entropy, Lin, 1991.

  Args:
    p: `[..., K]` probabilities, or densities at K points.
    q: `[..., K]` likewise.
    pi: weight of p, in (0, 1).
    weights: as in `entropy`.

  Returns:
    `[...]` nats.

  Raises:
    ValueError: p and q differ in shape or are scalars, or `pi` outside (0, 1).
  """
  if not 0.0 < pi < 1.0:
    raise ValueError(f'pi must be in (0, 1), got {pi}')
  p, q = shapes.floats(p=p, q=q)
  shapes.check_tables(p=p, q=q)
  return (weights * _jensen_shannon_each(pi, p, q)).sum(axis=-1)


def _logs_over_mixture(pi: float, p: Array, q: Array) -> tuple[Array, Array]:
  """ln(p / m) and ln(q / m), each 0 where its own mass is."""
  both = (p > 0) & (q > 0)
  ratio = log_ratio(jnp.where(both, p, 1.0), jnp.where(both, q, 1.0))
  # m itself is not formed: pi p underflows where p is near the smallest float.
  left = jnp.where(both, -log_mixture(-ratio, pi), -math.log(pi))
  right = jnp.where(both, -log_mixture(ratio, 1.0 - pi), -math.log(1.0 - pi))
  return jnp.where(p > 0, left, 0.0), jnp.where(q > 0, right, 0.0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _jensen_shannon_each(pi: float, p: Array, q: Array) -> Array:
  """The terms pi p ln(p / m) + (1 - pi) q ln(q / m) of the sum."""
  left, right = _logs_over_mixture(pi, p, q)
  return pi * (p * left) + (1.0 - pi) * (q * right)


@_jensen_shannon_each.defjvp
def _jensen_shannon_each_jvp(pi, primals, tangents):
  # What comes through m cancels, and in floats it would not where a mass is tiny.
  left, right = _logs_over_mixture(pi, *primals)
  tangent = pi * left * tangents[0] + (1.0 - pi) * right * tangents[1]
  return _jensen_shannon_each(pi, *primals), tangent


def total_variation(p: Array, q: Array, *, weights: Array | float = 1.0) -> Array:
  """The total variation distance, the greatest gap of an event's probability.

  1/2 sum_i w_i |p_i - q_i|

  Args:
    p: `[..., K]` probabilities, or densities at K points.
    q: `[..., K]` likewise.
    weights: as in `entropy`.

  Returns:
    `[...]` in [0, 1].

  Raises:
    ValueError: p and q differ in shape, or are scalars.
  """
  p, q = shapes.floats(p=p, q=q)
  shapes.check_tables(p=p, q=q)
  return (weights * jnp.abs(p - q)).sum(axis=-1) / 2.0


def squared_hellinger(p: Array, q: Array, *, weights: Array | float = 1.0) -> Array:
  """The squared Hellinger distance, without a factor 1/2.

  sum_i w_i (sqrt p_i - sqrt q_i)^2

  Args:
    p: `[..., K]` probabilities, or densities at K points.
    q: `[..., K]` likewise.
    weights: as in `entropy`.

  Returns:
    `[...]` in [0, 2]; its root is a metric.

  Raises:
    ValueError: p and q differ in shape, or are scalars.
  """
  p, q = shapes.floats(p=p, q=q)
  shapes.check_tables(p=p, q=q)
  gap = _root_of_mass(p) - _root_of_mass(q)
  return (weights * jnp.square(gap)).sum(axis=-1)


def _root_of_mass(p: Array) -> Array:
  """The square root of p >= 0, with a gradient of 0 at 0 in place of inf."""
  some = p > 0
  return jnp.where(some, jnp.sqrt(jnp.where(some, p, 1.0)), 0.0)


def bernoulli_entropy(p: Array) -> Array:
  """The entropy of a Bernoulli variable.

  -p ln p - (1 - p) ln(1 - p)

  Args:
    p: `[...]` probabilities.

  Returns:
    `[...]` nats, in [0, ln 2].
  """
  (p,) = shapes.floats(p=p)
  # ln(1 - p) as log1p(-p): of a small p, 1 - p has few digits.
  some = p < 1
  rest = -(1.0 - p) * jnp.log1p(-jnp.where(some, p, 0.0))
  return special.entr(p) + jnp.where(some, rest, special.entr(1.0 - p))


def bernoulli_kl(p: Array, q: Array) -> Array:
  """The KL divergence of two Bernoulli variables, elementwise.

  p ln(p / q) + (1 - p) ln((1 - p) / (1 - q))

  Args:
    p: `[...]` probabilities.
    q: `[...]` probabilities that broadcast against p.

  Returns:
    `[...]` nats, +inf where q excludes what p allows.
  """
  p, q = jnp.broadcast_arrays(*shapes.floats(p=p, q=q))
  one, zero = p > 0, p < 1
  on_one = p * log_ratio(jnp.where(one, p, 1.0), jnp.where(one, q, 1.0))
  on_zero = (1.0 - p) * _log_ratio_of_rests(
    jnp.where(zero, p, 0.0), jnp.where(zero, q, 0.0)
  )
  return jnp.where(one, on_one, 0.0) + jnp.where(zero, on_zero, 0.0)


def _log_ratio_of_rests(p: Array, q: Array) -> Array:
  """ln((1 - p) / (1 - q)), by q - p: of small ones, 1 - p and 1 - q have few digits."""
  gap, rest = q - p, 1.0 - q
  near = jnp.abs(gap) < 0.5 * rest
  close = jnp.log1p(jnp.where(near, gap, 0.0) / jnp.where(near, rest, 1.0))
  return jnp.where(near, close, jnp.log1p(-p) - jnp.log1p(-q))


def gaussian_entropy(std: Array) -> Array:
  """The differential entropy of N(., std^2).

  1/2 ln(2 pi e) + ln std

  Args:
    std: `[...]` standard deviations, > 0.

  Returns:
    `[...]` nats, negative for a small std.
  """
  (std,) = shapes.floats(std=std)
  return 0.5 * (1.0 + math.log(2.0 * math.pi)) + jnp.log(std)


def gaussian_kl(mean1: Array, std1: Array, mean2: Array, std2: Array) -> Array:
  """The KL divergence of two Gaussians on the line, elementwise.

  KL(N(m1, s1^2) || N(m2, s2^2)) =

  ln(s2 / s1) + (s1^2 + (m1 - m2)^2) / (2 s2^2) - 1/2

  A diagonal Gaussian's is the sum over its axes, which the caller takes.

  Args:
    mean1: `[...]` of the first.
    std1: `[...]` standard deviation of the first, > 0.
    mean2: `[...]` of the second.
    std2: `[...]` standard deviation of the second, > 0.

  Returns:
    `[...]` nats.
  """
  mean1, std1, mean2, std2 = shapes.floats(
    mean1=mean1, std1=std1, mean2=mean2, std2=std2
  )
  # Ratios before squares: a small std squared would underflow.
  ratio = log_ratio(std1, std2)
  squares = jnp.expm1(2.0 * ratio) + jnp.square((mean1 - mean2) / std2)
  return 0.5 * squares - ratio


def gaussian_squared_hellinger(
  mean1: Array, std1: Array, mean2: Array, std2: Array
) -> Array:
  """The squared Hellinger distance of two Gaussians on the line, elementwise.

  2 - 2 sqrt(2 s1 s2 / (s1^2 + s2^2)) exp(-(m1 - m2)^2 / (4 (s1^2 + s2^2)))

  Args:
    mean1: `[...]` of the first.
    std1: `[...]` standard deviation of the first, > 0.
    mean2: `[...]` of the second.
    std2: `[...]` standard deviation of the second, > 0.

  Returns:
    `[...]` in [0, 2].
  """
  mean1, std1, mean2, std2 = shapes.floats(
    mean1=mean1, std1=std1, mean2=mean2, std2=std2
  )
  # s1 / s2 + s2 / s1 = 2 + (s1 - s2)^2 / (s1 s2): no variance is formed, which would
  # underflow, and nothing cancels where the two are near.
  excess = jnp.square(jnp.sinh(0.5 * log_ratio(std1, std2)))
  scale = std1 * jnp.sqrt(1.0 + jnp.square(std2 / std1))
  gap = 0.5 * (mean1 - mean2) / scale
  return -2.0 * jnp.expm1(-0.5 * jnp.log1p(2.0 * excess) - jnp.square(gap))


def _matmul(*factors: Array) -> Array:
  multiply = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
  return functools.reduce(multiply, factors)


def _root(cov: Array) -> tuple[Array, Array]:
  """The symmetric square root and its pseudo-inverse.

  Eigenvalues are taken for rounding where below D epsilon times the largest.
  """
  values, vectors = jnp.linalg.eigh(cov)
  roots = jnp.sqrt(jnp.maximum(values, 0.0))
  some = values > len(values) * jnp.finfo(cov.dtype).eps * values[-1]
  inverse = jnp.where(some, 1.0 / jnp.where(some, roots, 1.0), 0.0)
  return _matmul(vectors * roots, vectors.T), _matmul(vectors * inverse, vectors.T)


@jax.custom_jvp
def _cross(cov1: Array, cov2: Array) -> Array:
  """The trace of (S1^(1/2) S2 S1^(1/2))^(1/2), as a sum of singular values."""
  product = _matmul(_root(cov1)[0], _root(cov2)[0])
  return jnp.linalg.svd(product, compute_uv=False).sum()


@_cross.defjvp
def _cross_jvp(primals, tangents):
  # Half of the optimal map from one to the other, S^(-1/2) |.| S^(-1/2): the
  # derivatives of eigh and svd are NaN where eigenvalues coincide.
  (root1, inverse1), (root2, inverse2) = map(_root, primals)
  u, s, vt = jnp.linalg.svd(_matmul(root1, root2))
  maps = (
    _matmul(inverse1, u * s, u.T, inverse1),
    _matmul(inverse2, vt.T * s, vt, inverse2),
  )
  tangent = sum(jnp.vdot(m, t) for m, t in zip(maps, tangents, strict=True)) / 2.0
  return s.sum(), tangent


def gaussian_wasserstein2_squared(
  mean1: Array, cov1: Array, mean2: Array, cov2: Array
) -> Array:
  """The squared Wasserstein-2 distance between two Gaussians.

  |m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr (S1^(1/2) S2 S1^(1/2))^(1/2)

  The last trace is the sum of the singular values of S1^(1/2) S2^(1/2), whose
  squares are the eigenvalues of S1^(1/2) S2 S1^(1/2). There is no square root of
  an asymmetric matrix with its imaginary parts, nor one of an eigenvalue that
  should be zero and is rounding: covariances may be singular, and float32 gives
  about 1e-5 of the traces. The gradient in S1 is I - T with T the optimal map, where
  S1 has full rank; directions in which it has none get no gradient from T.

  Source: The Frechet Distance between Multivariate Normal Distributions, Dowson
  and Landau, 1982.

  Args:
    mean1: `[D]` of the first.
    cov1: `[D, D]` covariance of the first, symmetric.
    mean2: `[D]` of the second.
    cov2: `[D, D]` covariance of the second, symmetric.

  Returns:
    `[]` in the unit of the means squared; rounding below zero is cut off.

  Raises:
    ValueError: means that are not [D] or covariances that are not [D, D].
  """
  mean1, cov1, mean2, cov2 = shapes.floats(
    mean1=mean1, cov1=cov1, mean2=mean2, cov2=cov2
  )
  chex.assert_rank(
    mean1, 1, custom_message='mean1 must be [D]', exception_type=ValueError
  )
  dim = mean1.shape[0]
  for name, array, shape in (
    ('mean2', mean2, (dim,)),
    ('cov1', cov1, (dim, dim)),
    ('cov2', cov2, (dim, dim)),
  ):
    message = f'{name} must be {shape} beside mean1 {mean1.shape}'
    chex.assert_shape(array, shape, custom_message=message, exception_type=ValueError)
  cross = _cross(cov1, cov2)
  distance = jnp.square(mean1 - mean2).sum() + jnp.trace(cov1) + jnp.trace(cov2)
  return jnp.maximum(distance - 2.0 * cross, 0.0)
