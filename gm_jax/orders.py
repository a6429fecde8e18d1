"""Orders of the dimensions of an example, for autoregressive models.

An order is a permutation `[D]` of positions in the flat example: `order[i]` is the
position that comes i-th.
"""

import math
from collections.abc import Sequence

import numpy as np


def rows(shape: Sequence[int]) -> np.ndarray:
  """The order row by row, channels of a pixel together: that of memory.

  Args:
    shape: of an example.

  Returns:
    `[D]` int64 permutation.
  """
  return np.arange(math.prod(shape))


def columns(shape: Sequence[int]) -> np.ndarray:
  """The order column by column of images `[H, W, ...]`.

  Args:
    shape: of an example, of two axes or more.

  Returns:
    `[D]` int64 permutation.

  Raises:
    ValueError: fewer than two axes.
  """
  if len(shape) < 2:
    raise ValueError(f'columns need examples of two axes or more, got {tuple(shape)}')
  return np.arange(math.prod(shape)).reshape(shape).swapaxes(0, 1).reshape(-1)


def checked(order: Sequence[int] | np.ndarray | None, num: int) -> np.ndarray:
  """Returns the order as an array, or that of memory if None.

  Args:
    order: `[D]` permutation, or None.
    num: D.

  Returns:
    `[D]` int64 permutation.

  Raises:
    ValueError: it is no permutation of 0 ... num - 1.
  """
  if order is None:
    return np.arange(num)
  array = np.asarray(order)
  if array.shape != (num,) or not np.array_equal(np.sort(array), np.arange(num)):
    raise ValueError(
      f'order must be a permutation of 0 ... {num - 1}, got an array of shape'
      f' {array.shape}'
    )
  return array.astype(np.int64)


def inverse(order: np.ndarray) -> np.ndarray:
  """The inverse permutation: `inverse(order)[order[i]] == i`.

  Args:
    order: `[D]` permutation.

  Returns:
    `[D]` permutation, the place of each position in the order.
  """
  return np.argsort(order)
