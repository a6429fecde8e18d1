"""Log-likelihoods log p(x | parameters) of the output layers that models have.

Each takes parameters and data with a leading axis of examples and sums over what an
example is made of: [B] nats. Of discrete data they are logarithms of masses, of real
data those of densities; `bits_per_dimension` converts either and must be told which.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gm_jax.losses import shapes

Array = jax.Array
_LOG_2 = math.log(2.0)


def _summed(each: Array) -> Array:
  return each.reshape(each.shape[0], -1).sum(axis=1)


def bernoulli_each(logits: Array, x: Array) -> Array:
  """log p of each number in {0, 1}, nats, of the shape of both; see `bernoulli`."""
  return x * logits - jax.nn.softplus(logits)


def bernoulli(logits: Array, x: Array) -> Array:
  """log p(x), x_d in {0, 1} with P(x_d = 1) = sigmoid(logit_d).

  Args:
    logits: [B, ...].
    x: [B, ...] 0 or 1, whole or real; what lies between is read as a probability, as in
      a cross-entropy, and the result is no likelihood then.

  Returns:
    [B] nats, of a mass.

  Raises:
    ValueError: shapes that differ, or whole numbers seen to be neither 0 nor 1.
  """
  shapes.check_equal(logits=logits, x=x)
  if jnp.issubdtype(jnp.result_type(x), jnp.integer):
    shapes.check_levels(2, x=x)
  return _summed(bernoulli_each(logits, x))


def gaussian(mean: Array, std: Array | float, x: Array) -> Array:
  """log p(x), x_d ~ N(mean_d, std_d^2).

  Args:
    mean: [B, ...].
    std: > 0, [B, ...] or a number.
    x: [B, ...].

  Returns:
    [B] nats, of a density.

  Raises:
    ValueError: shapes that differ.
  """
  std = jnp.broadcast_to(jnp.asarray(std, mean.dtype), mean.shape)
  shapes.check_equal(mean=mean, x=x)
  squares = jnp.square((x - mean) / std)
  return _summed(-0.5 * squares - jnp.log(std) - 0.5 * math.log(2.0 * math.pi))


def categorical(logits: Array, x: Array) -> Array:
  """log p(x), x_d in {0 ... K - 1} with probabilities softmax(logits_d).

  Args:
    logits: [B, ..., K].
    x: [B, ...] whole numbers in [0, K); others are not checked inside a compiled
      function, and read as the nearest.

  Returns:
    [B] nats, of a mass.

  Raises:
    ValueError: `logits` is not `x` with one more axis, or x is not whole or, where that
      can be seen, not in [0, K).
  """
  shapes.check_levels(logits.shape[-1], x=x)
  if logits.shape[:-1] != x.shape:
    raise ValueError(f'logits must be [*x, K], got {logits.shape} and {x.shape}')
  picked = jnp.take_along_axis(logits, x[..., None], axis=-1, mode='clip')[..., 0]
  return _summed(picked - jax.nn.logsumexp(logits, axis=-1))


def log1mexp(t: Array) -> Array:
  """log(1 - exp(-t)), t > 0, accurate near 0 and far from it."""
  near = t < _LOG_2
  small, large = jnp.where(near, t, 1.0), jnp.where(near, 1.0, t)
  return jnp.where(near, jnp.log(-jnp.expm1(-small)), jnp.log1p(-jnp.exp(-large)))


def discretized_logistic_each(
  mean: Array, log_scale: Array, x: Array, *, num_levels: int
) -> Array:
  """log P(x) of each number, x a level whose bin a logistic law fills.

  Level l stands at v = 2 l / (L - 1) - 1 in [-1, 1] and its bin reaches half a step
  h = 1 / (L - 1) to either side; the outermost bins reach to infinity, so that the L
  masses sum to one. With a = (v + h - mean) / s and b = (v - h - mean) / s,

    P = sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)),

  the last form exact where the first cancels: no case distinction by size is needed.

  Source: PixelCNN++, Salimans et al., 2017, arXiv:1701.05517, section 2.1.

  Args:
    mean: in model space, [-1, 1] or beyond; shape of x.
    log_scale: ln s; shape of x.
    x: whole numbers in [0, L).
    num_levels: L >= 2.

  Returns:
    As x, nats, each of a mass.

  Raises:
    ValueError: x is not whole or, where that can be seen, not in [0, L); shapes that
      do not broadcast; or L < 2.
  """
  if num_levels < 2:
    raise ValueError(f'num_levels must be >= 2, got {num_levels}')
  shapes.check_levels(num_levels, x=x)
  half = 1.0 / (num_levels - 1)
  at = 2.0 * half * x - 1.0 - mean
  inverse = jnp.exp(-log_scale)
  upper, lower = (at + half) * inverse, (at - half) * inverse
  above = jnp.where(x >= num_levels - 1, 0.0, jax.nn.log_sigmoid(upper))
  below = jnp.where(x <= 0, 0.0, jax.nn.log_sigmoid(-lower))
  inside = (x > 0) & (x < num_levels - 1)
  width = jnp.where(inside, 2.0 * half * inverse, 1.0)
  return above + below + jnp.where(inside, log1mexp(width), 0.0)


def discretized_logistic(
  mean: Array, log_scale: Array, x: Array, *, num_levels: int
) -> Array:
  """The sum of `discretized_logistic_each` over an example, [B] nats, of a mass."""
  shapes.check_equal(mean=mean, log_scale=log_scale, x=x)
  each = discretized_logistic_each(mean, log_scale, x, num_levels=num_levels)
  return _summed(each)


def mixture_of_discretized_logistics(
  weight_logits: Array, mean: Array, log_scale: Array, x: Array, *, num_levels: int
) -> Array:
  """log P(x), each position a mixture of `discretized_logistic_each` over channels.

    P(x_p) = sum_k softmax(w_p)_k prod_c P(x_pc | mean_pkc, s_pkc)

  A channel's mean may depend on the channels before it: that is the caller's matter.

  Source: PixelCNN++, Salimans et al., 2017, arXiv:1701.05517, section 2.

  Args:
    weight_logits: [B, ..., K].
    mean: [B, ..., K, C].
    log_scale: [B, ..., K, C].
    x: [B, ..., C] whole numbers in [0, L).
    num_levels: L >= 2.

  Returns:
    [B] nats, of a mass.

  Raises:
    ValueError: other shapes, x not whole, or L < 2.
  """
  shapes.check_equal(mean=mean, log_scale=log_scale)
  expected = (*weight_logits.shape, x.shape[-1])
  if mean.shape != expected or weight_logits.shape[:-1] != x.shape[:-1]:
    raise ValueError(
      'weight_logits, mean and x must be [B, ..., K], [B, ..., K, C] and [B, ..., C],'
      f' got {weight_logits.shape}, {mean.shape} and {x.shape}'
    )
  each = discretized_logistic_each(
    mean, log_scale, x[..., None, :], num_levels=num_levels
  ).sum(axis=-1)
  weights = jax.nn.log_softmax(weight_logits)
  return _summed(jax.nn.logsumexp(weights + each, axis=-1))


class PixelMixture(NamedTuple):
  """The parameters of a pixel's law; see `pixels`."""

  weight_logits: Array  # [..., K]
  mean: Array  # [..., K, C], without what the channels before it add
  log_scale: Array  # [..., K, C]
  coupling: Array  # [..., K, C (C - 1) / 2], of channel c on 0 ... c - 1, in order


def num_pixel_parameters(num_components: int, num_channels: int) -> int:
  """P of `pixels`: K (1 + 2 C + C (C - 1) / 2)."""
  pairs = num_channels * (num_channels - 1) // 2
  return num_components * (1 + 2 * num_channels + pairs)


def pixel_mixture(parameters: Array, num_channels: int) -> PixelMixture:
  """A network's outputs [..., P] as the parameters of pixels.

  log_scale is bounded below by -7, as in the paper's code; coupling is a tanh.

  Raises:
    ValueError: P is no multiple of 1 + 2 C + C (C - 1) / 2.
  """
  each = num_pixel_parameters(1, num_channels)
  if parameters.shape[-1] % each:
    raise ValueError(
      f'parameters must have a multiple of {each} for {num_channels} channels, got'
      f' {parameters.shape[-1]}'
    )
  parts = parameters.reshape(*parameters.shape[:-1], -1, each)
  cuts = [1, 1 + num_channels, 1 + 2 * num_channels]
  weight, mean, log_scale, coupling = jnp.split(parts, cuts, axis=-1)
  log_scale = jnp.maximum(log_scale, -7.0)
  return PixelMixture(weight[..., 0], mean, log_scale, jnp.tanh(coupling))


def pixels(parameters: Array, x: Array, *, num_levels: int) -> Array:
  """log P(x), a pixel a mixture of discretized logistics, its channels in turn.

  In a component the mean of channel c is m_c + sum_{d < c} a_cd v_d, v_d in [-1, 1] the
  level of the channel d before it.

  Source: PixelCNN++, Salimans et al., 2017, arXiv:1701.05517, sections 2.1 and 2.2.

  Args:
    parameters: [B, ..., P] as of `pixel_mixture`.
    x: [B, ..., C] whole numbers in [0, L).
    num_levels: L >= 2.

  Returns:
    [B] nats, of a mass.

  Raises:
    ValueError: shapes that do not fit, x not whole, or L < 2.
  """
  shapes.check_whole(x=x)
  channels = x.shape[-1]
  weights, mean, log_scale, coupling = pixel_mixture(parameters, channels)
  scaled = (2.0 * x / (num_levels - 1) - 1.0)[..., None, :]
  added, at = [jnp.zeros_like(mean[..., 0])], 0
  for c in range(1, channels):
    added.append((coupling[..., at : at + c] * scaled[..., :c]).sum(axis=-1))
    at += c
  mean = mean + jnp.stack(added, axis=-1)
  return mixture_of_discretized_logistics(
    weights, mean, log_scale, x, num_levels=num_levels
  )


def bits_per_dimension(
  nats: Array, num_dims: int, *, measure: str, log_det: Array | float = 0.0
) -> Array:
  """-log2 p of the raw data a dimension, from nats in model space.

    -(log p(x) + log |dx / draw|) / (D ln 2)

  Args:
    nats: [...] log p in model space; of a bound the result bounds from above.
    num_dims: D >= 1, numbers an example has.
    measure: 'mass', of discrete data, whose `log_det` must be 0, or 'density'.
    log_det: [...] of the way to model space, from its record, never by hand.

  Returns:
    [...] bits.

  Raises:
    ValueError: another measure, D < 1, or a mass with a log-determinant.
  """
  if measure not in {'mass', 'density'}:
    raise ValueError(f"measure must be 'mass' or 'density', got {measure!r}")
  if num_dims < 1:
    raise ValueError(f'num_dims must be >= 1, got {num_dims}')
  if measure == 'mass' and not isinstance(log_det, (int, float)):
    raise ValueError('a mass has no log-determinant: log_det must be 0')
  if measure == 'mass' and log_det:
    raise ValueError(f'a mass has no log-determinant: log_det must be 0, got {log_det}')
  return -(nats + log_det) / (num_dims * _LOG_2)
