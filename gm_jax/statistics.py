"""A mean and its standard error, once for all: over examples, seeds or repetitions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def mean_and_error(values: Any, axis: int | None = 0) -> tuple[Any, Any]:
  """The mean along an axis and its standard error, std / sqrt(N).

  The standard deviation divides by N - 1. An infinity or a NaN among the values gives
  its mean, infinite or NaN, and an error that is NaN; so does a single value, whose
  error is not known, and is in numpy.

  Args:
    values: numbers; numpy gives numpy and jax gives jax, traced or not.
    axis: of the repetitions, N long; None for all values.

  Returns:
    The mean and the standard error, without that axis.

  Raises:
    ValueError: there are no values along the axis.
  """
  xp = jnp if isinstance(values, jax.Array) else np
  values = xp.asarray(values)
  num = values.size if axis is None else values.shape[axis]
  if not num:
    raise ValueError(f'a mean needs a value or more, got shape {list(values.shape)}')
  mean = values.mean(axis=axis)
  if num == 1:
    # By numpy: JAX_DEBUG_NANS takes a NaN made on a device for a mistake.
    return mean, np.full(mean.shape, np.nan, xp.result_type(mean, np.float32))
  with np.errstate(invalid='ignore'):  # an infinity less itself
    return mean, values.std(axis=axis, ddof=1) / np.sqrt(num)


def text(mean: Any, error: Any = None, form: str = '.4g', error_form: str = '') -> str:
  """'mean +- error'; the mean alone where the error is None or not finite.

  Args:
    mean: [] number.
    error: [] its standard error, or None.
    form: of the mean, as in `format`.
    error_form: of the error; as the mean's if empty.
  """
  if error is None or not np.isfinite(error):
    return f'{mean:{form}}'
  return f'{mean:{form}} +- {error:{error_form or form}}'
