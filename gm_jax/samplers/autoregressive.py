"""Ancestral sampling of a model that gives one number after another.

A model offers its i-th conditional from what it remembers of the numbers before,

  conditional(memory, i) -> parameters [B, ...],   update(memory, i, value) -> memory,

so that each new number costs one number's work and not a pass over all of them. `naive`
does the same by full passes, for models that remember nothing and for tests: with the
same key it draws the same numbers.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gm_jax.losses import likelihood

Array = jax.Array
Draw = Callable[[Array, Array], Array]  # (key, parameters [B, ...]) -> [B, ...]


def bernoulli(key: Array, logits: Array) -> Array:
  """Values [B] in {0, 1}, int32, from logits [B]."""
  return jax.random.bernoulli(key, jax.nn.sigmoid(logits)).astype(jnp.int32)


def categorical(key: Array, logits: Array) -> Array:
  """Values [B] in [0, K), int32, from logits [B, K]."""
  return jax.random.categorical(key, logits).astype(jnp.int32)


def pixels(num_channels: int, num_levels: int) -> Draw:
  """Pixels [B, C], int32, from the parameters [B, P] of `likelihood.pixels`.

  A component is drawn, then its channels one after another: of a logistic law, whose
  nearest level is that of the bin it falls into.
  """

  def draw(key: Array, parameters: Array) -> Array:
    which_key, noise_key = jax.random.split(key)
    mixture = likelihood.pixel_mixture(parameters, num_channels)
    which = jax.random.categorical(which_key, mixture.weight_logits)
    mean, log_scale, coupling = jax.tree.map(
      lambda a: jnp.take_along_axis(a, which[:, None, None], axis=1)[:, 0], mixture[1:]
    )
    noise = jax.random.logistic(noise_key, mean.shape)
    top, levels, at = num_levels - 1, [], 0
    for c in range(num_channels):
      earlier = jnp.stack(levels, axis=1) if levels else jnp.zeros((len(mean), 0))
      total = mean[:, c] + (coupling[:, at : at + c] * earlier).sum(axis=1)
      value = total + jnp.exp(log_scale[:, c]) * noise[:, c]
      level = jnp.clip(jnp.round((value + 1.0) * (0.5 * top)), 0, top)
      levels.append(2.0 * level / top - 1.0)
      at += c
    scaled = jnp.stack(levels, axis=1)
    return jnp.round((scaled + 1.0) * (0.5 * top)).astype(jnp.int32)

  return draw


def cached(
  conditional: Callable[[Any, Array], Array],
  update: Callable[[Any, Array, Array], Any],
  memory: Any,
  key: Array,
  num_steps: int,
  *,
  draw: Draw,
) -> Array:
  """Draws num_steps numbers, each by one step.

  Args:
    conditional: (memory, i) -> parameters of the i-th number given those before.
    update: (memory, i, value [B]) -> memory that knows it too.
    memory: at the beginning; its leaves keep shapes and dtypes.
    key: folded with i for the i-th number.
    num_steps: T.
    draw: values from parameters.

  Returns:
    [B, T, ...] values.
  """

  def step(memory, i):
    value = draw(jax.random.fold_in(key, i), conditional(memory, i))
    return update(memory, i, value), value

  _, values = jax.lax.scan(step, memory, jnp.arange(num_steps))
  return jnp.moveaxis(values, 0, 1)


def naive(
  parameters: Callable[[Array], Array],
  key: Array,
  num_steps: int,
  num: int,
  *,
  draw: Draw,
  event: tuple[int, ...] = (),
) -> Array:
  """Draws num_steps numbers, each by a full pass over all that there are.

  Args:
    parameters: x [B, T] -> [B, T, ...], the i-th of x[:, :i] alone.
    key: folded with i for the i-th number.
    num_steps: T.
    num: B.
    draw: values from parameters.
    event: shape of what counts as a number, as the channels (C,) of a pixel.

  Returns:
    [B, T, ...] values.
  """

  def step(i, x):
    value = draw(jax.random.fold_in(key, i), parameters(x)[:, i])
    return x.at[:, i].set(value)

  x = jnp.zeros((num, num_steps, *event), jnp.int32)
  return jax.lax.fori_loop(0, num_steps, step, x)
