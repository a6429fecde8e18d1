"""Orders in which a model takes the numbers of an example, one after another.

An order is a permutation `[D]` of positions in the flat example: `order[i]` is the
position that comes i-th.
"""

import math
from collections.abc import Sequence

import numpy as np


def rows(shape: Sequence[int]) -> np.ndarray:
  """Row by row, channels of a pixel together: as the example lies in memory."""
  return np.arange(math.prod(shape))


def columns(shape: Sequence[int]) -> np.ndarray:
  """Column by column of images [H, W, ...]; the first axes exchanged.

  Raises:
    ValueError: fewer than two axes.
  """
  if len(shape) < 2:
    raise ValueError(f'columns need examples of two axes or more, got {tuple(shape)}')
  return np.arange(math.prod(shape)).reshape(shape).swapaxes(0, 1).reshape(-1)


def checked(order: Sequence[int] | np.ndarray | None, num: int) -> np.ndarray:
  """A given order, or that of memory if None.

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
  """When each position comes: `inverse(order)[order[i]] == i`."""
  return np.argsort(order)
