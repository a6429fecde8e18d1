"""Weights of pretrained networks, out of an .npz file that the user names.

Nothing is downloaded, and nothing in a file is executed. What is wrong with a file is
one line.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np


def names(path: str | pathlib.Path, network: str) -> set[str]:
  """Lists the arrays of a file.

  Args:
    path: of the .npz file.
    network: the name of what the weights are of, for messages.

  Raises:
    ValueError: no such file, or one that cannot be read.
  """
  with _opened(path, network) as file:
    return set(file.files)


def read(
  path: str | pathlib.Path, wanted: Mapping[str, tuple[int, ...]], network: str
) -> dict[str, np.ndarray]:
  """Reads arrays of known shapes.

  Args:
    path: of the .npz file.
    wanted: shapes by name; other arrays in the file are ignored.
    network: the name of what the weights are of, for messages.

  Returns:
    Arrays by name, float32 and finite.

  Raises:
    ValueError: no such file, one that cannot be read, or that of another network.
  """
  there = names(path, network)
  missing = [name for name in wanted if name not in there]
  if missing:
    more = f' and {len(missing) - 1} others' if len(missing) > 1 else ''
    raise ValueError(
      f'{path}: not the weights of {network}: it lacks {missing[0]}{more}'
    )
  with _opened(path, network) as file:
    arrays = {name: file[name] for name in wanted}
  for name, shape in wanted.items():
    array = arrays[name]
    if array.shape != shape or array.dtype.kind != 'f':
      raise ValueError(
        f'{path}: {name} is {array.dtype} {list(array.shape)}, and that of {network}'
        f' is float {list(shape)}: weights of another network'
      )
    arrays[name] = array.astype(np.float32)
    if not np.isfinite(arrays[name]).all():
      raise ValueError(f'{path}: {name} has values that are not finite')
  return arrays


@contextlib.contextmanager
def _opened(path, network) -> Iterator:
  if not os.path.isfile(path):
    raise ValueError(f'{path}: no such file of weights of {network}')
  try:
    with np.load(path, allow_pickle=False) as file:
      yield file
  except Exception as error:  # of many types, where bytes are damaged
    raise ValueError(f'{path}: not an .npz file, or a damaged one') from error
