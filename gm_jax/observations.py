"""Observation models p(x | z): what a decoder's outputs say of the data.

A decoder gives parameters `[B, ...]`; an `Observation` knows their shape, the
log-likelihood of data under them, how data are drawn, and the one datum that stands for
all of them. Those of integers have a mass, those of real numbers a density, and the
two do not compare. Levels are integers in [0, L).
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gm_jax import base
from gm_jax.losses import likelihood, shapes, variational
from gm_jax.samplers import autoregressive as sampler

Shape = tuple[int, ...]


class Observation(NamedTuple):
  """A distribution of data, by the parameters that a decoder gives."""

  parameters: Callable[[Shape], Shape]  # shape of an example -> that of its parameters
  log_prob: Callable[[base.Array, base.Array], base.Array]  # parameters, x -> [B] nats
  draw: Callable[[base.Array, base.Array], base.Array]  # (key, parameters) -> x
  mean: Callable[[base.Array], base.Array]  # parameters -> x; of levels, the nearest
  measure: base.Measure

  def check_parameters(self, parameters: base.Array, x: base.Array) -> None:
    """Raises ValueError unless a decoder's output has the shape that data x need."""
    expected = self.parameters(x.shape[1:])
    if parameters.shape[1:] != expected:
      raise ValueError(
        f'the decoder must give [B, {", ".join(map(str, expected))}], the parameters'
        f' of the observation, got {list(parameters.shape)}'
      )


def bernoulli() -> Observation:
  """Zeros and ones, by a logit each."""
  return Observation(
    parameters=lambda shape: shape,
    log_prob=likelihood.bernoulli,
    draw=sampler.bernoulli,
    mean=lambda logits: (logits > 0).astype(jnp.int32),
    measure='mass',
  )


def categorical(num_levels: int) -> Observation:
  """Levels, by L logits each.

  Args:
    num_levels: L.
  """

  def mean(logits):
    levels = jnp.arange(num_levels, dtype=logits.dtype)
    return _nearest(jax.nn.softmax(logits) @ levels, num_levels)

  return Observation(
    parameters=lambda shape: (*shape, num_levels),
    log_prob=likelihood.categorical,
    draw=sampler.categorical,
    mean=mean,
    measure='mass',
  )


def logistics(num_channels: int, num_levels: int, num_components: int) -> Observation:
  """Pixels of levels, by a mixture of discretized logistics each.

  The channels of a pixel depend on one another as in PixelCNN++: see
  `likelihood.pixels`. One component is the discretized logistic itself.

  Args:
    num_channels: C, the last axis of the data.
    num_levels: L.
    num_components: K of the mixture.
  """
  size = likelihood.num_pixel_parameters(num_components, num_channels)
  draw_pixels = sampler.pixels(num_channels, num_levels)

  def draw(key, parameters):
    flat = draw_pixels(key, parameters.reshape(-1, size))
    return flat.reshape(*parameters.shape[:-1], num_channels)

  def mean(parameters):
    # Channel by channel: a mean has what the means of the channels before it add.
    mixture = likelihood.pixel_mixture(parameters, num_channels)
    weights = jax.nn.softmax(mixture.weight_logits)[..., None]
    means, start = [], 0
    for c in range(num_channels):
      earlier = jnp.stack(means, axis=-1) if means else mixture.mean[..., :0]
      coupling = mixture.coupling[..., start : start + c]
      means.append(mixture.mean[..., c] + (coupling * earlier).sum(axis=-1))
      start += c
    levels = (weights * jnp.stack(means, axis=-1)).sum(axis=-2)
    return _nearest((levels + 1.0) * (0.5 * (num_levels - 1)), num_levels)

  return Observation(
    parameters=lambda shape: (*shape[:-1], size),
    log_prob=functools.partial(likelihood.pixels, num_levels=num_levels),
    draw=draw,
    mean=mean,
    measure='mass',
  )


def gaussian() -> Observation:
  """Real numbers, by a mean and the logarithm of a standard deviation each.

  The two stand along a last axis of 2. With a deviation that is learned a density has
  no upper bound where data lie on a lattice or repeat.
  """

  def split(parameters):
    return parameters[..., 0], parameters[..., 1]

  def log_prob(parameters, x):
    mean, log_std = split(parameters)
    shapes.check_equal(mean=mean, x=x)
    each = variational.gaussian_log_prob_each(mean, log_std, x)
    return each.reshape(len(each), -1).sum(axis=1)

  def draw(key, parameters):
    mean, log_std = split(parameters)
    return mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape, mean.dtype)

  return Observation(
    parameters=lambda shape: (*shape, 2),
    log_prob=log_prob,
    draw=draw,
    mean=lambda parameters: parameters[..., 0],
    measure='density',
  )


def fixed_gaussian(std: float) -> Observation:
  """Real numbers, by a mean each and one standard deviation.

  Args:
    std: > 0, in the unit of the data.

  Raises:
    ValueError: a deviation that is not above 0.
  """
  if not 0 < std < math.inf:
    raise ValueError(f'std must be > 0, got {std}')

  def draw(key, mean):
    return mean + std * jax.random.normal(key, mean.shape, mean.dtype)

  return Observation(
    parameters=lambda shape: shape,
    log_prob=lambda mean, x: likelihood.gaussian(mean, std, x),
    draw=draw,
    mean=lambda mean: mean,
    measure='density',
  )


def _nearest(x: base.Array, num_levels: int) -> base.Array:
  return jnp.clip(jnp.round(x), 0, num_levels - 1).astype(jnp.int32)
