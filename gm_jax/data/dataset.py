"""The one record of a data source, and how arrays in memory become one.

A `Dataset` gives batches as dicts of numpy or jax arrays in MODEL space, keyed
by the names in `base`. The order is a function of (seed, position) alone, so a
run resumes at any step without stored iterator state.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from gm_jax import base


class Dataset(NamedTuple):
  """A data source.

  name: as the user named it.
  spec: what a method may know of it.
  batches: (split, batch_size, *, seed, start=0) -> endless iterator of dicts;
    `start` counts batches already taken.
  arrays: (split, num) -> dict of arrays, the first `num` examples in a fixed
    order (all of them if num is None), for evaluation.
  """

  name: str
  spec: base.DataSpec
  batches: Callable[..., Iterator[dict]]
  arrays: Callable[[str, int | None], dict]


def identity_transform() -> base.Transform:
  """The transform of data that a model sees as it is (a density)."""
  return base.Transform(
    forward=lambda key, raw: raw,
    inverse=lambda x: x,
    log_det=lambda key, raw: jax.numpy.zeros(raw.shape[0]),
    measure='density',
  )


def permuted_indices(
  num: int, batch_size: int, *, seed: int, start: int = 0
) -> Iterator[np.ndarray]:
  """Endless [batch_size] index arrays, a fresh permutation every epoch.

  Batches run across the end of an epoch, so every example is seen once an
  epoch for any batch size. Stateless: the epoch's order depends on (seed,
  epoch) alone.

  Args:
    num: number of examples.
    batch_size: indices per batch.
    seed: of the order.
    start: batches already taken.
  """
  position, epoch, order = start * batch_size, -1, np.empty(0, int)
  while True:
    parts, missing = [], batch_size
    while missing:
      if position // num != epoch:
        epoch = position // num
        order = np.random.default_rng([seed, epoch]).permutation(num)
      part = order[position % num :][:missing]
      parts.append(part)
      position += len(part)
      missing -= len(part)
    yield np.concatenate(parts)


def in_memory(name: str, spec: base.DataSpec, splits: dict[str, dict]) -> Dataset:
  """A Dataset over arrays in memory.

  Args:
    name: of the data set.
    spec: its record; `num_train` is filled in from the 'train' split.
    splits: by split name, a dict of arrays [N, ...] in model space.
  """

  def find(split):
    if split not in splits:
      raise ValueError(f'{name} has no split {split!r}: one of {sorted(splits)}')
    return splits[split]

  def batches(split, batch_size, *, seed, start=0):
    data = find(split)
    num = len(data['x'])
    for index in permuted_indices(num, batch_size, seed=seed, start=start):
      yield {k: v[index] for k, v in data.items()}

  def arrays(split, num=None):
    return {k: v[:num] for k, v in find(split).items()}

  spec = spec._replace(num_train=len(find('train')['x']))
  return Dataset(name, spec, batches, arrays)
