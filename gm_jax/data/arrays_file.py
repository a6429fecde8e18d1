"""Arrays out of an .npz file that may be damaged or hostile.

`numpy.load` allocates what a header claims before it reads; here a header is first
held against what the file can hold. Objects are refused: to read them is to run them.
The file has a checksum of every array, which is checked where the array is read, and
the names of all arrays twice, which are compared.
"""

import contextlib
import math
import os
import zipfile
from collections.abc import Callable

import numpy as np

from gm_jax.data import dataset

RATIO = 1032  # at most, of bytes to deflated bytes


def read(path: str, wanted: Callable[[str, str], bool]) -> dict[str, np.ndarray]:
  """Reads the arrays of a file, by name.

  Args:
    path: of an .npz file.
    wanted: (path, name) -> whether an array is read.

  Raises:
    DataError: the file or an array cannot be read.
  """
  if not os.path.isfile(path):
    raise dataset.DataError(f'{path}: no such file')
  try:
    with zipfile.ZipFile(path) as archive:
      members = {
        m.filename.removesuffix('.npy'): m
        for m in archive.infolist()
        if m.filename.endswith('.npy')
      }
      for member in archive.infolist():
        # Raises where its two names differ; of the rest `_array` says which it is.
        with contextlib.suppress(NotImplementedError, RuntimeError):
          archive.open(member).close()
      names = [name for name in members if wanted(path, name)]
      return {name: _array(path, name, archive, members[name]) for name in names}
  except zipfile.BadZipFile as error:
    raise dataset.DataError(f'{path}: not an .npz file, or a damaged one') from error
  except OSError as error:
    raise dataset.DataError(f'{path}: cannot be read: {error.strerror}') from error


def _array(path, name, archive, member) -> np.ndarray:
  try:
    with archive.open(member) as file:
      _check_header(file, member)
    with archive.open(member) as file:
      array = np.lib.format.read_array(file, allow_pickle=False)
      file.read()  # to the very end, where the checksum is checked
      return array
  except MemoryError as error:
    raise dataset.DataError(
      f'{path}: {name}: {member.file_size / 2**30:.1f} GiB do not fit in memory'
    ) from error
  except Exception as error:  # of many types, where bytes are damaged
    why = ' '.join(str(error).split()).rstrip('.') or type(error).__name__
    raise dataset.DataError(f'{path}: {name}: cannot be read: {why}') from error


def _check_header(file, member: zipfile.ZipInfo) -> None:
  """Raises ValueError unless the header claims just what the member can hold."""
  version = np.lib.format.read_magic(file)
  read_header = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
  }.get(version)
  if read_header is None:
    raise ValueError(f'format {version}, expected 1.0 or 2.0')
  shape, _, dtype = read_header(file)
  if dtype.hasobject:
    raise ValueError('it holds Python objects; save numbers or strings')
  if min(shape, default=0) < 0:
    raise ValueError(f'its header claims the shape {shape}')
  claimed, held = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
  if claimed != held:
    raise ValueError(f'its header claims {claimed} bytes, the file holds {held}')
  if member.file_size > RATIO * member.compress_size + RATIO:
    raise ValueError(f'{member.compress_size} bytes cannot unpack to {held}')
