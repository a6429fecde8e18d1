"""Rows at the door of a metric, and in chunks behind it."""

import chex
import jax
import jax.numpy as jnp

from gm_jax.losses import shapes

Array = jax.Array

MIDDLE = 64  # rows of which `middle` is a median


def check(**sets: Array) -> tuple[Array, ...]:
  """Sets of rows as floats, once they are `[number, D]` of one D and finite.

  Args:
    **sets: `[number, D]` arrays, by the name in the message.

  Returns:
    The arrays in their order, in float32 at least.

  Raises:
    ValueError: a rank other than 2, no numbers, two D, or numbers that are not finite
      in an array that is not traced.
  """
  arrays = shapes.floats(**sets)
  for name, array in zip(sets, arrays, strict=True):
    message = f'{name} must be [number, D]: flatten images first'
    chex.assert_rank(array, 2, custom_message=message, exception_type=ValueError)
    if not array.size:
      raise ValueError(f'{name} has no numbers: its shape is {list(array.shape)}')
  if len({array.shape[1] for array in arrays}) > 1:
    found = ', '.join(f'{n} {list(a.shape)}' for n, a in zip(sets, arrays, strict=True))
    raise ValueError(f'{" and ".join(sets)} must have the same D, got {found}')
  shapes.check_finite(**dict(zip(sets, arrays, strict=True)))
  dtype = jnp.promote_types(jnp.result_type(*arrays), jnp.float32)
  return tuple(array.astype(dtype) for array in arrays)


def where_finite(values: Array, *sets: Array) -> Array:
  """The values, or NaN where any number of the sets is not finite.

  Args:
    values: `[...]` floats.
    *sets: arrays of any shape.

  Returns:
    `[...]`: a broken sampler, traced, gets no good value.
  """
  finite = jnp.stack([jnp.isfinite(array).all() for array in sets]).all()
  return jnp.where(finite, values, jnp.nan)


def chunks(num: int, chunk: int) -> Array:
  """Indices of rows in chunks of one size; the last row fills up the last chunk.

  Args:
    num: of rows.
    chunk: rows at a time, cut to `num`.

  Returns:
    `[chunks, min(chunk, num)]` int32 indices, of which the first `num`, in order, are
    the rows.

  Raises:
    ValueError: a chunk below 1.
  """
  if chunk < 1:
    raise ValueError(f'chunk must be >= 1, got {chunk}')
  chunk = min(chunk, num)
  index = jnp.arange(-(-num // chunk) * chunk).reshape(-1, chunk)
  return jnp.minimum(index, num - 1)


def middle(x: Array) -> Array:
  """A point among rows, of which a few outliers move it little: a median of some.

  Args:
    x: `[N, D]`.

  Returns:
    `[D]`.
  """
  some = x[:: -(-x.shape[0] // MIDDLE)]
  return jnp.sort(some, axis=0)[some.shape[0] // 2]
