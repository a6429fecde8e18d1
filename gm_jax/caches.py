"""The folder in which results that take long are kept: programs, classifiers."""

import os
import pathlib
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


def folder(name: str = '') -> pathlib.Path | None:
  """Where things of a name are kept, made by who writes there first.

  Args:
    name: of a folder inside, or '' for all.

  Returns:
    The folder that `GM_JAX_CACHE` names, for all of them, else one of this name in
    `~/.cache/gm_jax`; None for a user without a home.
  """
  chosen = os.environ.get('GM_JAX_CACHE')
  if chosen:
    return pathlib.Path(chosen)
  try:
    return pathlib.Path.home() / '.cache' / 'gm_jax' / name
  except RuntimeError:
    return None


def write(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Replaces a file atomically; does nothing where that is not possible.

  Args:
    path: of the .npz file; its folder is made.
    arrays: by name.
  """
  temporary = None
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
      temporary = file.name
      np.savez(file, **arrays)
    os.replace(temporary, path)
  except OSError:
    if temporary is not None:
      pathlib.Path(temporary).unlink(missing_ok=True)


def read(path: pathlib.Path) -> dict[str, np.ndarray] | None:
  """Reads the arrays of such a file; None where it cannot be used, for any reason."""
  try:
    with np.load(path, allow_pickle=False) as file:
      return {name: file[name] for name in file.files}
  except Exception:  # whatever a damaged file can raise
    return None


def fingerprint(parts: Iterable[Any]) -> str:
  """Makes eight hexadecimal digits of arrays, or of what has a `repr` that says all."""
  checksum = 0
  for part in parts:
    if isinstance(part, np.ndarray):
      checksum = zlib.crc32(f'{part.dtype.str}{part.shape}'.encode(), checksum)
      part = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
    else:
      part = repr(part).encode()
    checksum = zlib.crc32(part, checksum)
  return f'{checksum:08x}'
