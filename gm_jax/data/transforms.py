"""Ways from raw data to model space and back: pure factories of `base.Transform`.

Raw pixels are integers 0..K-1 of K levels, and a model sees x in [-1, 1] or, after
`logit`, in R. A transform that only relabels the levels keeps a mass, log-determinant
0; one that spreads every level over an interval by noise u on (0, 1) makes a density,
and then, with q that of x and P the mass of raw that it implies,

  E_u[log q(x) + log |dx / d raw|] <= log P(raw),

by Jensen's inequality: an exact density of x bounds the mass of raw from below.
`log_det` is in nats, [B], and draws the noise that `forward` draws from the same key.

Source: A Note on the Evaluation of Generative Models, Theis et al., 2016,
arXiv:1511.01844, section 3.1.
"""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from gm_jax import base

MAX_LEVELS = 2**16


def identity() -> base.Transform:
  """Makes x = raw, a density: of points and other numbers, floats in model space."""
  return base.Transform(
    forward=lambda key, raw: _real(raw),
    inverse=lambda x: x,
    log_det=lambda key, raw: jnp.zeros(raw.shape[0]),
    measure='density',
  )


def interval(low: float, high: float) -> base.Transform:
  """Makes x = 2 (raw - low) / (high - low) - 1, a density: of floats in an interval.

  log |dx / d raw| = D log(2 / (high - low)), for every raw.

  Args:
    low: what becomes -1.
    high: what becomes 1.

  Raises:
    ValueError: unless low < high, both finite.
  """
  if not -math.inf < low < high < math.inf:
    raise ValueError(f'an interval must be low < high, got {low:g}, {high:g}')
  width = high - low

  def log_det(key, raw):
    size = math.prod(raw.shape[1:]) * math.log(2 / width)
    return jnp.full(raw.shape[0], size)

  return base.Transform(
    forward=lambda key, raw: 2 * (_real(raw) - low) / width - 1,
    inverse=lambda x: (x + 1) / 2 * width + low,
    log_det=log_det,
    measure='density',
  )


def tokens() -> base.Transform:
  """Makes x = raw, a mass: of int32 tokens."""
  return base.Transform(
    forward=lambda key, raw: jnp.asarray(raw, jnp.int32),
    inverse=lambda x: jnp.asarray(x, jnp.int32),
    log_det=lambda key, raw: jnp.zeros(raw.shape[0]),
    measure='mass',
  )


def levels(num_levels: int) -> base.Transform:
  """Makes x = raw, a mass: of pixels as integers 0..K-1, int32.

  Args:
    num_levels: K.
  """
  _check_levels(num_levels)
  return tokens()


def dtype(transform: base.Transform) -> jnp.dtype:
  """Finds the dtype of x where raw is pixels."""
  key = jax.eval_shape(lambda: jax.random.key(0))
  raw = jax.ShapeDtypeStruct((1, 1), jnp.uint8)
  return jax.eval_shape(transform.forward, key, raw).dtype


def scaling(num_levels: int) -> base.Transform:
  """Makes x = 2 raw / (K - 1) - 1, the levels on a lattice from -1 to 1; a mass.

  Args:
    num_levels: K.

  Returns:
    A Transform; its inverse rounds to the nearest level.
  """
  _check_levels(num_levels)
  top = num_levels - 1

  def forward(key, raw):
    # An integer over an integer: -1 and 1 are met, and the lattice is symmetric.
    return (2 * _real(raw) - top) / top

  def inverse(x):
    return _levels(jnp.round((x + 1) * (top / 2)), num_levels)

  return base.Transform(
    forward, inverse, lambda key, raw: jnp.zeros(raw.shape[0]), 'mass'
  )


def dequantization(num_levels: int) -> base.Transform:
  """Makes x = 2 (raw + u) / K - 1 with u uniform on (0, 1)^D; a density.

  The log-determinant is D log(2 / K) nats.

  Source: RNADE: The Real-valued Neural Autoregressive Density-estimator, Uria et al.,
  2013, arXiv:1306.0186, section 5.1, for the noise; see the module for the bound.

  Args:
    num_levels: K.

  Returns:
    A Transform; its inverse is right for every draw.
  """
  _check_levels(num_levels)

  def forward(key, raw):
    return (_real(raw) + _noise(key, raw.shape, num_levels)) * (2 / num_levels) - 1

  def inverse(x):
    return _levels(jnp.floor((x + 1) * (num_levels / 2)), num_levels)

  def log_det(key, raw):
    return jnp.full(raw.shape[0], math.prod(raw.shape[1:]) * math.log(2 / num_levels))

  return base.Transform(forward, inverse, log_det, 'density')


def logit(num_levels: int, *, alpha: float = 0.05) -> base.Transform:
  """Makes x = logit(p), p = alpha + (1 - 2 alpha) (raw + u) / K; a density.

  The noise u is uniform on (0, 1)^D, and

  log |dx / d raw| = sum_d log((1 - 2 alpha) / K) - log p_d - log(1 - p_d).

  Source: Density Estimation using Real NVP, Dinh et al., 2017, arXiv:1605.08803,
  section 4.1, alpha = 0.05 and the last level short of 1, as in Masked Autoregressive
  Flow for Density Estimation, Papamakarios et al., 2017, arXiv:1705.07057, section 4.3,
  which takes alpha = 1e-6 for MNIST and 0.05 for CIFAR-10.

  Args:
    num_levels: K.
    alpha: what keeps the logits finite, in (0, 1/2).

  Returns:
    A Transform from levels to all of R; its inverse is right for every draw.
  """
  _check_levels(num_levels)
  if not 0 < alpha < 0.5:
    raise ValueError(f'alpha must lie in (0, 0.5), got {alpha}')
  width = (1 - 2 * alpha) / num_levels

  def p_and_rest(key, raw):
    """Finds p and 1 - p, not by subtraction, so that both logs are right."""
    position = _real(raw) + _noise(key, raw.shape, num_levels)
    return alpha + width * position, alpha + width * (num_levels - position)

  def forward(key, raw):
    p, rest = p_and_rest(key, raw)
    return jnp.log(p) - jnp.log(rest)

  def inverse(x):
    return _levels(jnp.floor((jax.nn.sigmoid(x) - alpha) / width), num_levels)

  def log_det(key, raw):
    p, rest = p_and_rest(key, raw)
    each = math.log(width) - jnp.log(p) - jnp.log(rest)
    return each.reshape(raw.shape[0], -1).sum(-1)

  return base.Transform(forward, inverse, log_det, 'density')


# By the names that a data set's option `transform` knows.
PIXELS: Mapping[str, Callable[[int], base.Transform]] = {
  'scaling': scaling,
  'levels': levels,
  'dequantization': dequantization,
  'logit': logit,
}


def _check_levels(num_levels: int) -> None:
  if not 2 <= num_levels <= MAX_LEVELS:
    raise ValueError(f'num_levels must be from 2 to {MAX_LEVELS}, got {num_levels}')


def _real(raw: base.Array) -> base.Array:
  """Makes floats of numbers; float64 stays, for those who differentiate in it."""
  return jnp.asarray(raw, jnp.promote_types(jnp.float32, jnp.asarray(raw).dtype))


def _noise(key: base.Array, shape: tuple[int, ...], num_levels: int) -> base.Array:
  """Draws uniformly from the midpoints of 2^b intervals of (0, 1), [*shape].

  With b = 20 - log2 K, at most 16, float32 holds raw + u with bits to spare: no
  rounding on the way there or back moves a draw into the next level.
  """
  bits = min(16, 20 - (num_levels - 1).bit_length())
  whole = jax.random.bits(key, shape, 'uint16') >> (16 - bits)
  return (whole.astype(jnp.float32) + 0.5) / 2**bits


def _levels(x: base.Array, num_levels: int) -> base.Array:
  return jnp.clip(x, 0, num_levels - 1).astype(jnp.int32)
