"""Shapes asserted at the door: [B] against [B, 1] would broadcast in silence."""

import chex
import jax
import jax.numpy as jnp

Array = jax.Array


def check_examples(**values: Array) -> None:
  """Raises ValueError unless each is [B], one number an example, of one B."""
  for name, value in values.items():
    message = f'{name} must be [B], one number an example'
    chex.assert_rank(value, 1, custom_message=message, exception_type=ValueError)
  chex.assert_equal_shape(
    list(values.values()),
    custom_message=f'{" and ".join(values)} must be [B] with the same B',
    exception_type=ValueError,
  )


def check_tables(**tables: Array) -> None:
  """Raises ValueError unless all are [..., K] of one shape."""
  shapes = {name: jnp.shape(table) for name, table in tables.items()}
  if len(set(shapes.values())) > 1 or not all(shapes.values()):
    raise ValueError(f'expected arrays [..., K] of one shape, got {shapes}')


def check_positive(**numbers: float | Array) -> None:
  """Raises ValueError unless each is > 0; a traced one passes."""
  for name, number in numbers.items():
    if not isinstance(number, jax.core.Tracer) and not number > 0:
      raise ValueError(f'{name} must be > 0, got {number}')


def check_equal(**values: Array) -> None:
  """Raises ValueError unless all are [B, ...] of one shape."""
  shapes = {name: jnp.shape(value) for name, value in values.items()}
  if len(set(shapes.values())) > 1 or not all(shapes.values()):
    raise ValueError(f'expected arrays [B, ...] of one shape, got {shapes}')


def check_whole(**values: Array) -> None:
  """Raises ValueError unless each is of whole numbers, by dtype."""
  for name, value in values.items():
    if not jnp.issubdtype(jnp.result_type(value), jnp.integer):
      raise ValueError(
        f'{name} must be whole numbers, got {jnp.result_type(value)}: levels, not'
        ' pixels scaled to [-1, 1]'
      )


def check_levels(num_levels: int, **values: Array) -> None:
  """Raises ValueError unless each is whole and in [0, K); a traced one may lie."""
  check_whole(**values)
  for name, value in values.items():
    if isinstance(value, jax.core.Tracer) or not jnp.size(value):
      continue
    with jax.ensure_compile_time_eval():
      low, high = int(jnp.min(value)), int(jnp.max(value))
    if low < 0 or high >= num_levels:
      wrong = low if low < 0 else high
      raise ValueError(f'{name} must be from 0 to {num_levels - 1}, got {wrong}')
