"""The one record of a data source, and how rows by index become one.

A `Dataset` gives batches as dicts of numpy arrays of RAW data (pixels, points,
tokens), keyed by the names in `base`; `transformed` takes them to model space, as
a compiled train step does on the device. The order is a function of (seed,
position) alone, so a run resumes at any step without stored iterator state, and
any number of processes read parts of the same global batches.

A source is a `Rows` for each split. What must be decoded is decoded into memory at
the start if all of it takes at most 1 GiB, else batch by batch in threads, a few
ahead; the batches are the same.
"""

import functools
import itertools
import math
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
from typing import NamedTuple

import jax
import numpy as np

from gm_jax import base, model_space
from gm_jax.data import words as words_lib

MEMORY = 2**30  # bytes of decoded data that are kept in memory
CHUNK = 2**23  # bytes decoded by a thread at once
AHEAD = 8  # batches decoded ahead
CHECKED = 2**30  # bytes of a split that are in its checksum; of more, a sample
BLOCK = 2**24  # bytes read at once for a checksum
SAMPLE = 16  # examples that are decoded for a checksum


class DataError(Exception):
  """Files that cannot be used; one line says why."""


def warn(text: str) -> None:
  """Says in one line what a user should know of data that are used nevertheless."""
  print('warning:', ' '.join(text.split()), file=sys.stderr, flush=True)


class Rows(NamedTuple):
  """The examples of a split, by index.

  num: how many.
  get: ([n] ints) -> dict of arrays [n, ...], from any thread.
  decodes: whether `get` reads or decodes, rather than gathers.
  """

  num: int
  get: Callable[[np.ndarray], dict]
  decodes: bool = False


class Dataset(NamedTuple):
  """A data source.

  name: as the user named it.
  spec: what a method may know of it; its shape and dtype are of model space.
  batches: (split, batch_size, *, seed, start=0, shard=(0, 1)) -> endless iterator
    of dicts of numpy arrays, raw; `start` counts batches already taken, and
    `shard` = (index, count) takes the index-th of count equal parts of each batch.
  arrays: (split, num=None) -> dict of numpy arrays, raw, the first `num` examples
    in a fixed order (all of them if num is None), for evaluation.
  vocabulary: the characters of `x` by token, for text, else None.
  class_names: of `label`, by class, where they have names.
  domain_names: of `domain`, likewise.
  tokenize: string -> [n] int32 tokens, of `text` or of an x that is text; None where
    strings mean nothing.
  rows: examples by split and index, where they can be had so.
  fingerprint: equal for equal data, wherever they lie; whether data were exchanged, and
    no proof against who means to deceive. See `checksum`.
  """

  name: str
  spec: base.DataSpec
  batches: Callable[..., Iterator[dict]]
  arrays: Callable[..., dict]
  vocabulary: tuple[str, ...] | None = None
  class_names: tuple[str, ...] | None = None
  domain_names: tuple[str, ...] | None = None
  tokenize: Callable[[str], np.ndarray] | None = None
  rows: Mapping[str, Rows] | None = None
  fingerprint: str = ''

  def encode(self, key: str, words: str) -> np.ndarray:
    """Turns words into the raw array of one example; see `words.encode`."""
    return words_lib.encode(self, key, words)


def transformed(
  spec: base.DataSpec, arrays: Mapping, key: base.Array | None = None
) -> dict:
  """Takes arrays to model space; see `model_space.forward`.

  Args:
    spec: whose transforms are applied.
    arrays: raw, by batch key.
    key: of the noise, if there is any; a fixed one if None.
  """
  key = jax.random.key(0) if key is None else key
  return model_space.forward(spec, key, arrays)


def order(num: int, batch_size: int, *, seed: int) -> Callable[[int], np.ndarray]:
  """Makes the function (number of a batch) -> [batch_size] indices.

  A fresh permutation every epoch. Batches run across the end of an epoch, so every
  example is seen once an epoch for any batch size.

  Args:
    num: number of examples.
    batch_size: indices per batch.
    seed: of the order.
  """

  @functools.lru_cache(2)  # a batch may hold the end of one epoch and the next's start
  def epoch(number):
    return np.random.default_rng([seed, number]).permutation(num)

  def indices(position):
    first = position * batch_size
    last = first + batch_size
    epochs = range(first // num, (last - 1) // num + 1)
    parts = [epoch(e)[max(first - e * num, 0) : last - e * num] for e in epochs]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)

  return indices


def stream(split: str) -> int:
  """Turns a split's name into a number: no two splits share random numbers."""
  return int.from_bytes(split.encode(), 'big')


def derive_seed(seed: int, name: str, number: int = 0) -> int:
  """Derives a seed of at most 31 bits for a second order beside the seed's own."""
  sequence = np.random.SeedSequence([seed, stream(name), number])
  return int(sequence.generate_state(1)[0] >> 1)


def part(batch_size: int, shard: tuple[int, int]) -> slice:
  """Finds the rows of a global batch that a shard (index, count) takes."""
  index, count = shard
  if not 0 <= index < count:
    raise ValueError(f'shard must be (index, count) with index < count, got {shard}')
  if batch_size < 1 or batch_size % count:
    raise ValueError(
      f'batch_size must be a positive multiple of the {count} shards, got {batch_size}'
    )
  return slice(index * batch_size // count, (index + 1) * batch_size // count)


def array_rows(arrays: Mapping[str, np.ndarray]) -> Rows:
  """Makes rows of arrays in memory, each [N, ...]."""
  num = len(next(iter(arrays.values())))
  return Rows(num, lambda index: {k: v.take(index, 0) for k, v in arrays.items()})


def checksum(*parts) -> str:
  """Makes a fingerprint, eight hexadecimal digits: the CRC-32 of all parts in order.

  Args:
    *parts: bytes; arrays, of which shape and type count too; or what has a `repr` that
      says all.
  """
  crc = 0
  for part in parts:
    if isinstance(part, np.ndarray):
      crc = zlib.crc32(f'{part.dtype.str}{part.shape}'.encode(), crc)
      part = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
    elif not isinstance(part, bytes):
      part = repr(part).encode('utf-8', 'surrogatepass')
    crc = zlib.crc32(part, zlib.crc32(b'%d' % len(part), crc))
  return f'{crc:08x}'


def _fingerprint(spec: base.DataSpec, splits: Mapping[str, Rows]) -> str:
  """Makes the checksum of the raw arrays of all splits, at most CHECKED bytes of each.

  Of more bytes, or of rows that must be decoded, evenly spaced examples are taken.
  """
  sums = []
  for split, rows in sorted(splits.items()):
    size = sum(v.nbytes for v in rows.get(np.arange(min(1, rows.num))).values())
    most = SAMPLE if rows.decodes else max(1, CHECKED // max(1, size))
    index = np.arange(0, rows.num, -(-rows.num // most) or 1)
    length = max(1, BLOCK // max(1, size))
    for first in range(0, len(index), length):
      found = rows.get(index[first : first + length])
      sums.append(checksum(*(part for item in sorted(found.items()) for part in item)))
    sums.append((split, rows.num))
  return checksum(spec.shape, spec.num_levels, spec.num_classes, sums)


def in_memory(
  name: str,
  spec: base.DataSpec,
  splits: Mapping[str, Mapping[str, np.ndarray]],
  vocabulary: tuple[str, ...] | None = None,
) -> Dataset:
  """Makes a Dataset of raw arrays in memory, by split and key; see `from_rows`."""
  rows = {split: array_rows(arrays) for split, arrays in splits.items()}
  return from_rows(name, spec, rows, vocabulary)


def from_rows(
  name: str,
  spec: base.DataSpec,
  splits: Mapping[str, Rows],
  vocabulary: tuple[str, ...] | None = None,
  *,
  memory: bool | None = None,
  hint: str = '',
  fingerprint: str = '',
) -> Dataset:
  """Makes a Dataset of rows, decoded into memory or streamed.

  Args:
    name: of the data set.
    spec: its record; `num_train` is filled in from the 'train' split.
    splits: rows by split.
    vocabulary: of text.
    memory: whether what must be decoded is decoded into memory at once; if None,
      where it takes at most MEMORY bytes.
    hint: what to tell one who asks for a split that is not there.
    fingerprint: of the data; of the arrays if empty.

  Returns:
    A Dataset.
  """
  if memory is None:
    memory = sum(map(_num_bytes, splits.values())) <= MEMORY
  if memory:
    splits = {split: _decode(rows) for split, rows in splits.items()}

  def find(split):
    if split not in splits:
      more = f'; {hint}' if hint else ''
      raise ValueError(f'{name} has no split {split!r}: one of {sorted(splits)}{more}')
    return splits[split]

  def batches(split, batch_size, *, seed, start=0, shard=(0, 1)):
    rows, mine = find(split), part(batch_size, shard)
    indices = order(rows.num, batch_size, seed=seed)

    def batch(position):
      return rows.get(indices(position)[mine])

    if rows.decodes:
      return _read_ahead(batch, start)
    return map(batch, itertools.count(start))

  def arrays(split, num=None):
    rows = find(split)
    num = rows.num if num is None else min(num, rows.num)
    rows = _decode(rows._replace(num=num)) if num else rows
    return rows.get(np.arange(num))

  spec = spec._replace(num_train=find('train').num)
  fingerprint = fingerprint or _fingerprint(spec, splits)
  return Dataset(
    name, spec, batches, arrays, vocabulary, rows=dict(splits), fingerprint=fingerprint
  )


def _num_bytes(rows: Rows) -> int:
  """Counts the bytes of all rows by the first one; 0 if nothing need be decoded."""
  if not rows.decodes:
    return 0
  return rows.num * sum(v.nbytes for v in rows.get(np.arange(1)).values())


def _decode(rows: Rows) -> Rows:
  """Brings rows into memory."""
  if not rows.decodes:
    return rows
  first = rows.get(np.arange(1))
  table = {k: np.empty((rows.num, *v.shape[1:]), v.dtype) for k, v in first.items()}
  length = max(16, CHUNK // sum(v.nbytes for v in first.values()))
  chunks = np.array_split(np.arange(rows.num), math.ceil(rows.num / length))

  def fill(chunk):
    for name, value in rows.get(chunk).items():
      table[name][chunk[0] : chunk[0] + len(chunk)] = value

  with futures.ThreadPoolExecutor(_num_threads()) as pool:
    _wait([pool.submit(fill, chunk) for chunk in chunks])
  return array_rows(table)


def _num_threads() -> int:
  # More than there are cores only contend for the interpreter.
  return max(2, min(16, os.cpu_count() or 2))


def _wait(jobs: Iterable[futures.Future]) -> None:
  """Waits for the jobs in order; at an error, those not begun are given up."""
  try:
    for job in jobs:
      job.result()
  except BaseException:
    for job in jobs:
      job.cancel()
    raise


def _read_ahead(batch: Callable[[int], dict], start: int) -> Iterator[dict]:
  """Yields batch(start), batch(start + 1), ..., some made ahead by threads."""
  import grain  # heavy

  positions = grain.MapDataset.range(start, 2**62)
  options = grain.ReadOptions(_num_threads(), prefetch_buffer_size=AHEAD)
  return iter(positions.map(batch).to_iter_dataset(options))
