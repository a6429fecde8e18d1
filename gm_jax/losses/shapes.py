"""Checks of shapes, ranges and dtypes at the door of a loss.

`[B]` against `[B, 1]` broadcasts to `[B, B]` in silence, the commonest bug of losses.
Shapes and dtypes are static and are checked under `jax.jit` too; values are checked
where they are concrete, and pass where they are traced.
"""

import functools
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

Array = jax.Array


def floats(**values: Array | float) -> tuple[Array, ...]:
  """The one door of numbers into a loss: integers and booleans become floats.

  Pixels in uint8 and one-hot tables are numbers, but their own arithmetic is not that
  of numbers: in uint8, 16^2 is 0 and 0 - 1 is 255. Codes, which are names and no
  numbers, go through `check_integers` or `check_levels`.

  Args:
    **values: `[...]` arrays of any shape, by the name in the message.

  Returns:
    The arrays `[...]` in their order: floats as they are, integers and booleans in
    JAX's default float.

  Raises:
    ValueError: what holds no real numbers, as complex ones, keys or strings.
  """
  return tuple(_float(name, value) for name, value in values.items())


def _float(name: str, value: Array | float) -> Array:
  try:
    array = jnp.asarray(value)
  except TypeError as error:
    raise ValueError(f'{name} must be real numbers, got {type(value)}') from error
  if jnp.issubdtype(array.dtype, jnp.floating):
    return array
  if jnp.issubdtype(array.dtype, jnp.integer) or array.dtype == bool:
    return array.astype(float)
  raise ValueError(f'{name} must be real numbers, got {array.dtype}')


def over_patches(loss: Callable[[Array, Array], Array]) -> Callable:
  """Extends a loss of logits `[B]` to critics that give a logit a patch.

  To the loss logits are floats, whatever they came as, and every patch is an example,
  so that averages over a batch, as of relativistic average games, run over all patches.

  Args:
    loss: (real_logits `[N]`, fake_logits `[N]`) -> `[N]`.

  Returns:
    The same for `[B]`, or for `[B, ...]` of one shape: then `[B]`, means over patches.
  """

  @functools.wraps(loss)
  def extended(real_logits: Array, fake_logits: Array) -> Array:
    both = {'real_logits': real_logits, 'fake_logits': fake_logits}
    real_logits, fake_logits = floats(**both)
    if jnp.ndim(real_logits) < 2 or jnp.shape(real_logits) != jnp.shape(fake_logits):
      return loss(real_logits, fake_logits)  # which says what is wrong, if anything
    flat = (jnp.ravel(logits) for logits in (real_logits, fake_logits))
    return loss(*flat).reshape(len(real_logits), -1).mean(axis=1)

  return extended


def check_examples(**values: Array) -> None:
  """Raises unless all arrays are vectors `[B]` of one length.

  Args:
    **values: `[B]` arrays, one number an example, by the name in the message.

  Raises:
    ValueError: a rank other than 1, or two batch sizes.
  """
  for name, value in values.items():
    message = f'{name} must be [B], one number an example, or [B, P] like the other'
    chex.assert_rank(value, 1, custom_message=message, exception_type=ValueError)
  chex.assert_equal_shape(
    list(values.values()),
    custom_message=f'{" and ".join(values)} must be [B] with the same B',
    exception_type=ValueError,
  )


def check_tables(**tables: Array) -> None:
  """Raises unless all arrays have one shape, which is not that of a scalar.

  Args:
    **tables: `[..., K]` arrays, by the name in the message.

  Raises:
    ValueError: two shapes, or scalars.
  """
  shapes = {name: jnp.shape(table) for name, table in tables.items()}
  if len(set(shapes.values())) > 1 or not all(shapes.values()):
    raise ValueError(f'expected arrays [..., K] of one shape, got {shapes}')


def check_positive(**numbers: float | Array) -> None:
  """Raises unless every number is positive.

  Args:
    **numbers: `[]` numbers, by the name in the message; a traced one passes.

  Raises:
    ValueError: a number that is not > 0.
  """
  for name, number in numbers.items():
    # `not number > 0` and no `number <= 0`: NaN is refused too.
    if not isinstance(number, jax.core.Tracer) and not number > 0:
      raise ValueError(f'{name} must be > 0, got {number}')


def check_finite(**values: Array) -> None:
  """Raises unless every number is finite.

  Args:
    **values: `[...]` arrays of any shape, by the name in the message; a traced one
      passes.

  Raises:
    ValueError: a NaN or an infinity.
  """
  for name, value in values.items():
    if isinstance(value, jax.core.Tracer):
      continue
    # A concrete array stays concrete even where the caller is being traced.
    with jax.ensure_compile_time_eval():
      wrong = int(jnp.size(value) - jnp.isfinite(value).sum())
    if wrong:
      raise ValueError(
        f'{name} must be finite, got {wrong} of {jnp.size(value)} numbers that are NaN'
        ' or infinite'
      )


def check_equal(**values: Array) -> None:
  """Raises unless all arrays have one shape, with an axis of examples.

  Args:
    **values: `[B, ...]` arrays, by the name in the message.

  Raises:
    ValueError: two shapes, or scalars.
  """
  shapes = {name: jnp.shape(value) for name, value in values.items()}
  if len(set(shapes.values())) > 1 or not all(shapes.values()):
    raise ValueError(f'expected arrays [B, ...] of one shape, got {shapes}')


def check_integers(**values: Array) -> None:
  """Raises unless every array has an integer dtype.

  Args:
    **values: `[...]` arrays of any shape, by the name in the message.

  Raises:
    ValueError: another dtype, floats that happen to be integers included.
  """
  for name, value in values.items():
    if not jnp.issubdtype(jnp.result_type(value), jnp.integer):
      raise ValueError(
        f'{name} must be integers, got {jnp.result_type(value)}: levels, not'
        ' pixels scaled to [-1, 1]'
      )


def check_levels(num_levels: int, **values: Array) -> None:
  """Raises unless every array holds levels: integers in [0, num_levels).

  Args:
    num_levels: number of levels, K.
    **values: arrays of any shape, by the name in the message; of a traced one only
      the dtype is checked.

  Raises:
    ValueError: a dtype that is not an integer's, or a value outside [0, K).
  """
  check_integers(**values)
  for name, value in values.items():
    if isinstance(value, jax.core.Tracer) or not jnp.size(value):
      continue
    # A concrete array stays concrete even where the caller is being traced.
    with jax.ensure_compile_time_eval():
      low, high = int(jnp.min(value)), int(jnp.max(value))
    if low < 0 or high >= num_levels:
      wrong = low if low < 0 else high
      raise ValueError(f'{name} must be from 0 to {num_levels - 1}, got {wrong}')
