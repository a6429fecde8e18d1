"""Increasing functions of a number, by parameters that a network gives; pure.

A `Monotone` takes each number x with parameters of its own to y, and y back to x, with
the logarithm of the derivative on either way. Couplings and autoregressive maps
(`bijectors`) are made of these. With parameters 0 each is the identity, but for that of
Glow. Derivatives are of numbers: logs are not summed yet.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gm_jax import base


class Monotone(NamedTuple):
  """An increasing function of every number, and its inverse."""

  num_params: int  # P of each number
  # (params [..., P], x [...]) -> (y [...], log dy/dx [...])
  forward: Callable[[base.Array, base.Array], tuple[base.Array, base.Array]]
  # (params [..., P], y [...]) -> (x [...], log dx/dy [...])
  inverse: Callable[[base.Array, base.Array], tuple[base.Array, base.Array]]


def additive() -> Monotone:
  """y = x + t, which keeps volumes.

  Source: NICE: Non-linear Independent Components Estimation, Dinh et al., 2014,
  arXiv:1410.8516, section 3.2.
  """
  return Monotone(
    1,
    lambda params, x: (x + params[..., 0], jnp.zeros_like(x)),
    lambda params, y: (y - params[..., 0], jnp.zeros_like(y)),
  )


def affine(limit: float = 3.0) -> Monotone:
  """y = x exp(s) + t, scale first, with s = limit tanh(raw / limit).

  The limit keeps one layer from scaling by more than exp(limit): an s without bound
  diverges where the data are few.

  Source: Density Estimation using Real NVP, Dinh et al., 2017, arXiv:1605.08803,
  equation 4, whose code multiplies a tanh by a scale that it learns.

  Args:
    limit: > 0, of |s|.

  Raises:
    ValueError: a limit that is not above 0.
  """
  limited = _limited(limit)

  def forward(params, x):
    log_scale, shift = limited(params[..., 0]), params[..., 1]
    return x * jnp.exp(log_scale) + shift, log_scale

  def inverse(params, y):
    log_scale, shift = limited(params[..., 0]), params[..., 1]
    return (y - shift) * jnp.exp(-log_scale), -log_scale

  return Monotone(2, forward, inverse)


def standardization(limit: float = 3.0) -> Monotone:
  """y = (x - m) exp(-a), with a = limit tanh(raw / limit): the mean first.

  What is normal with mean m and deviation exp(a) becomes standard normal.

  Source: Masked Autoregressive Flow for Density Estimation, Papamakarios et al., 2017,
  arXiv:1705.07057, equation 4, which has no limit.

  Args:
    limit: > 0, of |a|.

  Raises:
    ValueError: a limit that is not above 0.
  """
  limited = _limited(limit)

  def forward(params, x):
    log_std, mean = limited(params[..., 0]), params[..., 1]
    return (x - mean) * jnp.exp(-log_std), -log_std

  def inverse(params, y):
    log_std, mean = limited(params[..., 0]), params[..., 1]
    return y * jnp.exp(log_std) + mean, log_std

  return Monotone(2, forward, inverse)


def _limited(limit: float) -> Callable[[base.Array], base.Array]:
  """The function limit tanh(raw / limit), checked."""
  if not 0 < limit < math.inf:
    raise ValueError(f'limit must be > 0, got {limit}')
  return lambda raw: limit * jnp.tanh(raw / limit)


def sigmoid_affine() -> Monotone:
  """y = (x + t) sigmoid(s + 2), shift first: at s = t = 0 a scale of 0.88.

  Source: Glow: Generative Flow with Invertible 1x1 Convolutions, Kingma and Dhariwal,
  2018, arXiv:1807.03039; the order and the 2 are of its code.
  """

  def forward(params, x):
    log_scale = jax.nn.log_sigmoid(params[..., 0] + 2.0)
    return (x + params[..., 1]) * jnp.exp(log_scale), log_scale

  def inverse(params, y):
    log_scale = jax.nn.log_sigmoid(params[..., 0] + 2.0)
    return y * jnp.exp(-log_scale) - params[..., 1], -log_scale

  return Monotone(2, forward, inverse)


class Bin(NamedTuple):
  """The piece of a spline that a number falls into, [...] each."""

  left: base.Array  # its place among the x
  width: base.Array
  bottom: base.Array  # its place among the y
  height: base.Array
  slope: base.Array  # at its left end
  next_slope: base.Array


def rational_quadratic(
  num_bins: int = 8, box: float = 3.0, *, min_size: float = 1e-3
) -> Monotone:
  """A spline of K rational quadratic pieces on [-box, box], the identity outside.

  Knots x_k, y_k with slopes d_k; with s = height / width of a piece and
  r = (x - x_k) / width

    y = y_k + height [s r^2 + d_k r (1 - r)] / [s + (d_{k+1} + d_k - 2 s) r (1 - r)]

  The slopes at both ends of the box are 1, for every parameter, so that y and its
  derivative go on smoothly; those inside are softplus, 1 at parameter 0.

  Source: Neural Spline Flows, Durkan et al., 2019, arXiv:1906.04032, section 3.1.

  Args:
    num_bins: K.
    box: half the width of the square in which it is no identity, in the unit of x.
    min_size: least slope, and least part of the box that a piece has.

  Returns:
    A function of 3 K - 1 parameters: widths, heights, slopes between the pieces.

  Raises:
    ValueError: less than two pieces, a box that is not above 0, or least sizes that
      fill it.
  """
  if num_bins < 2:
    raise ValueError(f'num_bins must be >= 2, got {num_bins}')
  if not 0 < box < math.inf:
    raise ValueError(f'box must be > 0, got {box}')
  if not 0 < min_size * num_bins < 1:
    raise ValueError(f'min_size must lie in (0, 1 / num_bins), got {min_size}')
  at_zero = math.log(math.expm1(1.0 - min_size))  # softplus of it is 1 - min_size

  def knots(raw):
    sizes = min_size + (1.0 - min_size * num_bins) * jax.nn.softmax(raw)
    inner = 2.0 * box * jnp.cumsum(sizes, axis=-1)[..., :-1] - box
    end = jnp.full_like(inner[..., :1], box)  # exactly, whatever the sum rounds to
    return jnp.concatenate([-end, inner, end], axis=-1)

  def find(params, value, by_height):
    """The piece in which a number of the box lies."""
    x, y = knots(params[..., :num_bins]), knots(params[..., num_bins : 2 * num_bins])
    slopes = min_size + jax.nn.softplus(params[..., 2 * num_bins :] + at_zero)
    one = jnp.ones_like(slopes[..., :1])
    slopes = jnp.concatenate([one, slopes, one], axis=-1)
    inner = (y if by_height else x)[..., 1:-1]
    index = (value[..., None] >= inner).sum(axis=-1, keepdims=True)

    def pick(a):
      return jnp.take_along_axis(a, index, axis=-1)[..., 0]

    left, bottom = pick(x[..., :-1]), pick(y[..., :-1])
    sizes = pick(jnp.diff(x)), pick(jnp.diff(y))
    ends = pick(slopes[..., :-1]), pick(slopes[..., 1:])
    return Bin(left, sizes[0], bottom, sizes[1], *ends)

  def log_slope(at, r):
    """log dy/dx at a place r in [0, 1] of a piece."""
    steep, rest = at.height / at.width, r * (1.0 - r)
    numerator = at.next_slope * r**2 + 2.0 * steep * rest + at.slope * (1.0 - r) ** 2
    bent = steep + (at.next_slope + at.slope - 2.0 * steep) * rest
    return 2.0 * (jnp.log(steep) - jnp.log(bent)) + jnp.log(numerator)

  def inside(value):
    # Clipped before the search, so that no gradient outside is NaN.
    return jnp.abs(value) < box, jnp.clip(value, -box, box)

  def forward(params, x):
    within, clipped = inside(x)
    at = find(params, clipped, by_height=False)
    r = (clipped - at.left) / at.width
    steep, rest = at.height / at.width, r * (1.0 - r)
    bent = steep + (at.next_slope + at.slope - 2.0 * steep) * rest
    y = at.bottom + at.height * (steep * r**2 + at.slope * rest) / bent
    return jnp.where(within, y, x), jnp.where(within, log_slope(at, r), 0.0)

  def inverse(params, y):
    within, clipped = inside(y)
    at = find(params, clipped, by_height=True)
    steep, above = at.height / at.width, clipped - at.bottom
    bend = at.next_slope + at.slope - 2.0 * steep
    a = at.height * (steep - at.slope) + above * bend
    b = at.height * at.slope - above * bend
    c = -steep * above
    root = jnp.sqrt(jnp.maximum(b**2 - 4.0 * a * c, 0.0))
    r = jnp.clip(2.0 * c / (-b - root), 0.0, 1.0)
    x = at.left + r * at.width
    return jnp.where(within, x, y), jnp.where(within, -log_slope(at, r), 0.0)

  return Monotone(3 * num_bins - 1, forward, inverse)
