"""Ancestral sampling of autoregressive models, one position after another.

A model offers its i-th conditional from a memory of the positions before,

  conditional(memory, i) -> parameters [B, ...],   update(memory, i, value) -> memory,

so that each new value costs one position's work and not a pass over all of them: a
transformer's memory is its cache of keys and values. `naive` does the same by full
passes, for models without a memory and for tests: with the same key it draws the same
values. B is the batch, T the number of positions, K the number of levels. Values are
int32 levels.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gm_jax.losses import likelihood

Array = jax.Array
Draw = Callable[[Array, Array], Array]  # (key, parameters [B, ...]) -> [B, ...]


def bernoulli(key: Array, logits: Array) -> Array:
  """Draws values of Bernoulli variables.

  Args:
    key: `[]` typed key.
    logits: `[B, ...]` log-odds of a one.

  Returns:
    `[B, ...]` int32 in {0, 1}.
  """
  return jax.random.bernoulli(key, jax.nn.sigmoid(logits)).astype(jnp.int32)


def categorical(key: Array, logits: Array) -> Array:
  """Draws values of categorical variables.

  Args:
    key: `[]` typed key.
    logits: `[B, ..., K]` unnormalized log-probabilities.

  Returns:
    `[B, ...]` int32 in [0, K).
  """
  return jax.random.categorical(key, logits).astype(jnp.int32)


def pixels(num_channels: int, num_levels: int) -> Draw:
  """Returns a function that draws pixels of the distribution of `likelihood.pixels`.

  A component is drawn, then its channels one after another: each is a logistic
  variable rounded to the nearest level, whose bin it falls into.

  Source: PixelCNN++, Salimans et al., 2017, arXiv:1701.05517, sections 2.1 and 2.2.

  Args:
    num_channels: C.
    num_levels: L >= 2.

  Returns:
    A function (key, parameters `[B, P]`) -> `[B, C]` int32 in [0, L).
  """

  def draw(key: Array, parameters: Array) -> Array:
    which_key, noise_key = jax.random.split(key)
    mixture = likelihood.pixel_mixture(parameters, num_channels)
    which = jax.random.categorical(which_key, mixture.weight_logits)
    mean, log_scale, coupling = jax.tree.map(
      lambda a: jnp.take_along_axis(a, which[:, None, None], axis=1)[:, 0], mixture[1:]
    )
    noise = jax.random.logistic(noise_key, mean.shape)
    top, levels, start = num_levels - 1, [], 0
    for c in range(num_channels):
      earlier = jnp.stack(levels, axis=1) if levels else jnp.zeros((len(mean), 0))
      total = mean[:, c] + (coupling[:, start : start + c] * earlier).sum(axis=1)
      value = total + jnp.exp(log_scale[:, c]) * noise[:, c]
      # Clipped, since the outermost bins extend to infinity.
      level = jnp.clip(jnp.round((value + 1.0) * (0.5 * top)), 0, top)
      levels.append(2.0 * level / top - 1.0)
      start += c
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
  """Draws every position by one step of a model with a memory.

  x_i ~ p(x_i | x_0 ... x_{i - 1}),  i = 0 ... T - 1

  Args:
    conditional: (memory, i) -> parameters `[B, ...]` of the i-th position, conditional
      on those before.
    update: (memory, i, value `[B, ...]`) -> memory that holds the i-th too.
    memory: at the beginning, a pytree; its leaves keep shapes and dtypes.
    key: `[]` typed key, folded with i for the i-th position.
    num_steps: T.
    draw: (key, parameters `[B, ...]`) -> values `[B, ...]`.

  Returns:
    `[B, T, ...]` values.
  """

  def step(memory, i):
    # Folded in, not split from the key: it does not depend on T, and is as in `naive`.
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
  """Draws every position by a full pass over all of them: O(T) passes.

  x_i ~ p(x_i | x_0 ... x_{i - 1}),  i = 0 ... T - 1

  Args:
    parameters: x `[B, T, *event]` -> `[B, T, ...]`, the i-th a function of x[:, :i].
    key: `[]` typed key, folded with i for the i-th position.
    num_steps: T.
    num: B.
    draw: (key, parameters `[B, ...]`) -> values `[B, *event]`.
    event: shape of one position's value, as the channels (C,) of a pixel.

  Returns:
    `[B, T, ...]` values.
  """

  def step(i, x):
    value = draw(jax.random.fold_in(key, i), parameters(x)[:, i])
    return x.at[:, i].set(value)

  # The zeros stand in for positions not drawn yet, which a causal model cannot see.
  x = jnp.zeros((num, num_steps, *event), jnp.int32)
  return jax.lax.fori_loop(0, num_steps, step, x)
