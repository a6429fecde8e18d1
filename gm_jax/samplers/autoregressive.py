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

Array = jax.Array
Draw = Callable[[Array, Array], Array]  # (key, parameters [B, ...]) -> values [B]


def bernoulli(key: Array, logits: Array) -> Array:
  """Values [B] in {0, 1}, int32, from logits [B]."""
  return jax.random.bernoulli(key, jax.nn.sigmoid(logits)).astype(jnp.int32)


def categorical(key: Array, logits: Array) -> Array:
  """Values [B] in [0, K), int32, from logits [B, K]."""
  return jax.random.categorical(key, logits).astype(jnp.int32)


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
    [B, T] values.
  """

  def step(memory, i):
    value = draw(jax.random.fold_in(key, i), conditional(memory, i))
    return update(memory, i, value), value

  _, values = jax.lax.scan(step, memory, jnp.arange(num_steps))
  return values.T


def naive(
  parameters: Callable[[Array], Array],
  key: Array,
  num_steps: int,
  num: int,
  *,
  draw: Draw,
) -> Array:
  """Draws num_steps numbers, each by a full pass over all that there are.

  Args:
    parameters: x [B, T] -> [B, T, ...], the i-th of x[:, :i] alone.
    key: folded with i for the i-th number.
    num_steps: T.
    num: B.
    draw: values from parameters.

  Returns:
    [B, T] values.
  """

  def step(i, x):
    value = draw(jax.random.fold_in(key, i), parameters(x)[:, i])
    return x.at[:, i].set(value)

  x = jnp.zeros((num, num_steps), jnp.int32)
  return jax.lax.fori_loop(0, num_steps, step, x)
