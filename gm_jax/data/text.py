"""Characters of a text file as tokens, in windows of a fixed length.

The file is cut, in order, into 90% 'train', 5% 'validation' and 5% 'test'. Training
windows begin at every character; those of evaluation follow one another without
overlap, so that their log-probabilities sum to that of the text they cover, each
window taken alone.
"""

import functools
import os
import pathlib
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from gm_jax import base
from gm_jax.data import dataset, transforms, words

_BOM = b'\xef\xbb\xbf'
MAX_LENGTH = 2**20


def manual(*, length: int = 64) -> dataset.Dataset:
  """Loads the pages of the Python manual that `help()` shows; no file needed.

  Half a million characters, more or less, as this version of Python has them: numbers
  of two versions are of two data sets. Part of the standard library, PSF license.

  Args:
    length: T, characters in a window.
  """
  from pydoc_data import topics  # long

  pages = (topics.topics[name] for name in sorted(topics.topics))
  return _make('manual', '\n\n'.join(pages), length)


def text(path: str, *, length: int = 64) -> dataset.Dataset:
  """Loads the characters of a UTF-8 file, raw `x` [B, T] int32.

  A token is the place of a character in the vocabulary: every character of the whole
  file, validation and test text too, in the order of Unicode.

  Args:
    path: of the file.
    length: T, characters in a window.

  Returns:
    A Dataset with a vocabulary; its measure is a mass.

  Raises:
    DataError: no such file, not UTF-8, or too short for the splits.
  """
  _check_length(length)
  return _make(f'text:{path}', _read(path), length)


def _check_length(length: int) -> None:
  if not 1 <= length <= MAX_LENGTH:
    raise ValueError(f'length must be from 1 to {MAX_LENGTH}, got {length}')


def _make(name: str, string: str, length: int) -> dataset.Dataset:
  _check_length(length)
  points = np.frombuffer(string.encode('utf-32-le'), '<u4')
  num = len(points)
  held = num // 20
  if held < length:
    raise dataset.DataError(
      f'{name.removeprefix("text:")}: {num} characters are too few: a twentieth must'
      f' hold a window of {length}, so {20 * length} are needed, or a smaller length'
    )
  characters, tokens = np.unique(points, return_inverse=True)
  tokens = tokens.astype(np.int32)
  cuts = np.split(tokens, [num - 2 * held, num - held])
  splits = {
    'train': _windows(cuts[0], length, 1),
    'validation': _windows(cuts[1], length, length),
    'test': _windows(cuts[2], length, length),
  }
  vocabulary = tuple(map(chr, characters.tolist()))
  spec = base.DataSpec(
    (length,), jnp.int32, len(vocabulary), None, None, transforms.tokens()
  )
  fingerprint = dataset.checksum(length, string.encode('utf-32-le'))
  data = dataset.from_rows(name, spec, splits, vocabulary, fingerprint=fingerprint)
  tokenize = functools.partial(words.tokenize_characters, vocabulary=vocabulary)
  return data._replace(tokenize=tokenize)


def decode(tokens: np.ndarray, vocabulary: Sequence[str]) -> str:
  """Turns tokens [T] into the string they stand for.

  Raises:
    ValueError: a token is not in the vocabulary.
  """
  tokens = np.asarray(tokens)
  wrong = tokens[(tokens < 0) | (tokens >= len(vocabulary))]
  if len(wrong):
    raise ValueError(f'tokens must be from 0 to {len(vocabulary) - 1}, got {wrong[0]}')
  return ''.join(vocabulary[token] for token in tokens)


def _windows(tokens: np.ndarray, length: int, stride: int) -> dataset.Rows:
  views = np.lib.stride_tricks.sliding_window_view(tokens, length)[::stride]
  return dataset.Rows(len(views), lambda index: {'x': views[index]})


def _read(path: str) -> str:
  if not os.path.isfile(path):
    raise dataset.DataError(f'{path}: no such file')
  try:
    data = pathlib.Path(path).read_bytes()
  except OSError as error:
    raise dataset.DataError(f'{path}: cannot be read: {error.strerror}') from error
  if not data:
    raise dataset.DataError(f'{path}: empty')
  skipped = len(_BOM) if data.startswith(_BOM) else 0
  try:
    return data[skipped:].decode('utf-8')
  except UnicodeDecodeError as error:
    raise dataset.DataError(
      f'{path}: not UTF-8 text: byte {error.start + skipped} is'
      f' 0x{data[error.start + skipped]:02x}'
    ) from error
