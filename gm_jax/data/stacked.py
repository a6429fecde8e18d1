"""Three images in three channels: a set of 1000 modes that can be counted.

Three examples of a set of ten classes, drawn independently and with replacement,
become the channels of one image, labelled 100 a + 10 b + c by their classes a, b
and c. A classifier of the base set counts the modes that a generator reaches. The
modes are as even as the base set's classes: their distribution is the product of three
class frequencies.

Source: Unrolled Generative Adversarial Networks, Metz et al., 2017,
arXiv:1611.02163, section 3.3.1, where the base set is MNIST.
"""

import functools
import itertools
from collections.abc import Callable, Mapping

import numpy as np

from gm_jax import base
from gm_jax.data import dataset

CHANNELS, CLASSES = 3, 10
BATCHES, ARRAYS = 0, 1  # streams that never meet


def stacked(
  name: str, load: Callable[..., dataset.Dataset], **options
) -> dataset.Dataset:
  """Loads the stacked set of a base set given by name; see `stack`.

  Args:
    name: of the base set, as `load` knows it: 'digits', 'tfds:mnist'.
    load: (name, **options) -> the base Dataset.
    **options: of the base set.

  Returns:
    A Dataset.

  Raises:
    ValueError: the base set cannot be stacked.
  """
  return stack(load(name, **options))


def stack(data: dataset.Dataset) -> dataset.Dataset:
  """Makes an endless Dataset of images [H, W, 3] out of one of images [H, W, 1].

  Batch number n of a split is a function of (seed, split, n) alone; `arrays` draws
  from a stream of its own, always the same, and needs a `num`; fewer examples are
  the first of more. The base set's split is kept in memory from its first use.

  Args:
    data: ten classes, one channel.

  Returns:
    A Dataset with `x` [B, H, W, 3] raw and `label` [B] int32 below 1000, and with
    the transform and the levels of the base set.

  Raises:
    ValueError: more than one channel, or not ten classes.
  """
  shape, num_classes = data.spec.shape, data.spec.num_classes
  if len(shape) != 3 or shape[-1] != 1 or num_classes != CLASSES:
    raise ValueError(
      f'only images of one channel and {CLASSES} classes can be stacked, but'
      f' {data.name} has shape {list(shape)} and {num_classes or "no"} classes'
    )

  @functools.cache
  def images(split):
    arrays = data.arrays(split, None)
    return np.asarray(arrays['x']), np.asarray(arrays['label'])

  def draw(split, num, *, stream, rows=slice(None)):
    x, label = images(split)
    rng = np.random.default_rng([dataset.stream(split), *stream])
    index = rng.integers(len(label), size=(num, CHANNELS))[rows]
    channels = np.moveaxis(x[index][..., 0], 1, -1)  # [B, 3, H, W] -> [B, H, W, 3]
    places = CLASSES ** np.arange(CHANNELS)[::-1]
    return {'x': channels, 'label': (label[index] @ places).astype(np.int32)}

  def batches(split, batch_size, *, seed, start=0, shard=(0, 1)):
    rows = dataset.part(batch_size, shard)
    for position in itertools.count(start):
      stream = (BATCHES, seed, position)
      yield draw(split, batch_size, stream=stream, rows=rows)

  def arrays(split, num=None):
    if num is None:
      raise ValueError(f'stacked:{data.name} is endless: say how many examples (num)')
    return draw(split, num, stream=(ARRAYS,))

  spec = data.spec._replace(
    shape=(*shape[:-1], CHANNELS),
    num_classes=CLASSES**CHANNELS,
    num_train=None,
    parts=base.NOTHING,
  )
  fingerprint = dataset.checksum('stacked', data.fingerprint)
  return dataset.Dataset(
    f'stacked:{data.name}', spec, batches, arrays, fingerprint=fingerprint
  )


def unstacked(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Finds the base set's examples in some stacked ones, each of them once.

  Args:
    arrays: stacked `x` [N, H, W, 3] and `label` [N].

  Returns:
    `x` [M, H, W, 1] and `label` [M] int32, M <= 3 N, in a fixed order.
  """
  x = np.moveaxis(arrays['x'], -1, 1).reshape(-1, *arrays['x'].shape[1:3], 1)
  places = CLASSES ** np.arange(CHANNELS)[::-1]
  label = (arrays['label'][:, None] // places % CLASSES).astype(np.int32).ravel()
  rows = np.column_stack([x.reshape(len(x), -1), label])
  _, first = np.unique(rows, axis=0, return_index=True)
  return {'x': x[first], 'label': label[first]}
