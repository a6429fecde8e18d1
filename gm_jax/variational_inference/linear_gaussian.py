"""The linear-Gaussian model, whose evidence, posterior and every ELBO are closed forms.

z ~ N(0, I) and x | z ~ N(W z + b, s^2 I), with W `[D, Z]` and s a standard deviation.
Given x, the latents have the precision P = I + W^T W / s^2, which is the same for every
x. In nats.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gm_jax.losses import shapes

Array = jax.Array
LN_2PI = math.log(2.0 * math.pi)
_product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


class LinearGaussian(NamedTuple):
  """The model z ~ N(0, I), x | z ~ N(W z + b, s^2 I)."""

  weights: Array  # W [D, Z]
  bias: Array  # b [D]
  std: Array | float  # s [] > 0


class Gaussian(NamedTuple):
  """Gaussians N(mean, scale scale^T), one an example."""

  mean: Array  # [B, Z]
  scale: Array  # [Z, Z] of all or [B, Z, Z], lower triangular, its diagonal > 0


def _precision(model: LinearGaussian) -> Array:
  """The posterior's precision I + W^T W / s^2, [Z, Z]."""
  scaled = model.weights / model.std
  return jnp.eye(scaled.shape[1], dtype=scaled.dtype) + _product(scaled.T, scaled)


def _linear_term(model: LinearGaussian, x: Array) -> Array:
  """The precision times the posterior's mean, W^T (x - b) / s^2, [B, Z]."""
  return _product(_centered(model, x), model.weights) / model.std**2


def _centered(model: LinearGaussian, x: Array) -> Array:
  shapes.check_positive(std=model.std)
  (x,) = shapes.floats(x=x)
  if x.ndim != 2 or x.shape[1] != len(model.weights):
    raise ValueError(f'x must be [B, {len(model.weights)}], got {list(x.shape)}')
  return x - model.bias


def _log_diagonal(scale: Array) -> Array:
  return jnp.log(jnp.diagonal(scale, axis1=-2, axis2=-1)).sum(axis=-1)


def posterior(model: LinearGaussian, x: Array) -> Gaussian:
  """The exact posterior p(z | x) of the linear-Gaussian model.

  N(P^-1 W^T (x - b) / s^2, P^-1),  P = I + W^T W / s^2

  Args:
    model: with Z latents and D dimensions of data.
    x: `[B, D]`.

  Returns:
    Gaussians of `[B, Z]` and one scale `[Z, Z]`.

  Raises:
    ValueError: x is not [B, D], or s is not > 0.
  """
  covariance = jnp.linalg.inv(_precision(model))
  mean = _product(_linear_term(model, x), covariance)
  return Gaussian(mean, jnp.linalg.cholesky(covariance))


def evidence(model: LinearGaussian, x: Array) -> Array:
  """The exact evidence log p(x) = log N(x; b, W W^T + s^2 I).

  By the posterior's mean m and precision P, without a determinant of [D, D]:

  -(|x - b - W m|^2 / s^2 + |m|^2 + ln |P| + D ln(2 pi s^2)) / 2

  Args:
    model: with D dimensions of data.
    x: `[B, D]`.

  Returns:
    `[B]` nats.

  Raises:
    ValueError: x is not [B, D], or s is not > 0.
  """
  mean, _ = posterior(model, x)
  rest = _centered(model, x) - _product(mean, model.weights.T)
  squares = jnp.square(rest / model.std).sum(-1) + jnp.square(mean).sum(-1)
  log_det = 2.0 * _log_diagonal(jnp.linalg.cholesky(_precision(model)))
  constant = x.shape[1] * (LN_2PI + 2.0 * jnp.log(model.std))
  return -0.5 * (squares + log_det + constant)


def elbo(model: LinearGaussian, q: Gaussian, x: Array) -> Array:
  """The ELBO of any Gaussian q under the linear-Gaussian model, in closed form.

  E_q log p(x | z) = -(|x - b - W m|^2 + |W L|^2) / (2 s^2) - D ln(2 pi s^2) / 2
  KL(q || p(z)) = (|m|^2 + |L|^2 - Z) / 2 - sum ln L_ii

  Args:
    model: of D dimensions of data and Z latents.
    q: N(m, L L^T), an example's each.
    x: `[B, D]`.

  Returns:
    `[B]` nats, at most `evidence`.

  Raises:
    ValueError: x is not [B, D], or s is not > 0.
  """
  rest = _centered(model, x) - _product(q.mean, model.weights.T)
  spread = jnp.square(_product(model.weights, q.scale)).sum((-2, -1))
  errors = (jnp.square(rest).sum(-1) + spread) / model.std**2
  constant = x.shape[1] * (LN_2PI + 2.0 * jnp.log(model.std))
  squares = jnp.square(q.mean).sum(-1) + jnp.square(q.scale).sum((-2, -1))
  prior_term = 0.5 * (squares - q.mean.shape[-1]) - _log_diagonal(q.scale)
  return -0.5 * (errors + constant) - prior_term


def kl(q: Gaussian, p: Gaussian) -> Array:
  """The KL divergence of Gaussians of any covariance.

  (|L_p^-1 L_q|^2 + |L_p^-1 (m_q - m_p)|^2 - Z) / 2 + ln |L_p| - ln |L_q|

  Args:
    q: N(m_q, L_q L_q^T).
    p: N(m_p, L_p L_p^T), of as many dimensions.

  Returns:
    `[B]` nats, at least 0 but for rounding.
  """
  shapes.check_equal(q_mean=q.mean, p_mean=p.mean)
  full = (*q.mean.shape, q.mean.shape[-1])
  scales = (jnp.broadcast_to(scale, full) for scale in (q.scale, p.scale))
  right = jnp.concatenate([next(scales), (q.mean - p.mean)[..., None]], axis=-1)
  solved = jax.scipy.linalg.solve_triangular(next(scales), right, lower=True)
  log_ratio = _log_diagonal(p.scale) - _log_diagonal(q.scale)
  return 0.5 * (jnp.square(solved).sum((-2, -1)) - q.mean.shape[-1]) + log_ratio


def mean_field(model: LinearGaussian, x: Array) -> Gaussian:
  """The best q whose dimensions are independent, in closed form.

  Its means are the posterior's; its variances are 1 / P_ii, which are no larger than
  the posterior's own (P^-1)_ii: a mean field is too sure of itself.

  Source: Pattern Recognition and Machine Learning, Bishop, 2006, section 10.1.2.

  Args:
    model: of D dimensions of data and Z latents.
    x: `[B, D]`.

  Returns:
    Gaussians of `[B, Z]` and one diagonal scale `[Z, Z]`.

  Raises:
    ValueError: x is not [B, D], or s is not > 0.
  """
  mean = posterior(model, x).mean
  return Gaussian(mean, jnp.diag(1.0 / jnp.sqrt(jnp.diag(_precision(model)))))


def ascent(
  model: LinearGaussian, x: Array, *, num_sweeps: int
) -> tuple[Gaussian, Array]:
  """Coordinate ascent from the prior to `mean_field`.

  m_i <- m_i + (h_i - (P m)_i) / P_ii for i = 1, ..., Z,  h = W^T (x - b) / s^2

  the Gauss-Seidel iteration of P m = h. It always converges, the more slowly the more
  latents are correlated given x.

  Source: Variational Inference: A Review for Statisticians, Blei et al., 2017,
  arXiv:1601.00670, section 2.4.

  Args:
    model: of D dimensions of data and Z latents.
    x: `[B, D]`.
    num_sweeps: times that all dimensions are updated, one after another.

  Returns:
    The last q; the ELBO `[num_sweeps + 1, B]` nats at the start and after each sweep.

  Raises:
    ValueError: x is not [B, D], or s is not > 0.
  """
  linear, precision = _linear_term(model, x), _precision(model)
  variance = 1.0 / jnp.diag(precision)
  scale = jnp.diag(jnp.sqrt(variance))

  def update(i, mean):
    rest = linear[:, i] - _product(mean, precision[i])
    return mean.at[:, i].add(rest * variance[i])

  def sweep(mean, _):
    mean = jax.lax.fori_loop(0, len(precision), update, mean)
    return mean, elbo(model, Gaussian(mean, scale), x)

  first = Gaussian(jnp.zeros_like(linear), jnp.eye(len(precision), dtype=linear.dtype))
  mean, elbos = jax.lax.scan(sweep, first.mean, length=num_sweeps)
  start = elbo(model, first, x)
  return Gaussian(mean, scale), jnp.concatenate([start[None], elbos])
