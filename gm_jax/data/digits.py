"""Scikit-learn's handwritten digits: 1797 real 8x8 images of 17 levels, bundled.

The test set of the UCI repository's optical recognition of handwritten digits;
small enough to train on in seconds without any download.
"""

from collections.abc import Callable

import numpy as np

from gm_jax import base
from gm_jax.data import dataset, splits, transforms

NUM_LEVELS = 17
SIZE = 8
_SIZES = {'test': 360, 'validation': 180, 'train': 1257}
CHANGES = ('negative', 'bold')


def digits(
  *,
  labels: int | None = None,
  crop: int = 8,
  change: str = '',
  transform: Callable[[int], base.Transform] = transforms.scaling,
) -> dataset.Dataset:
  """Loads the digits, raw `x` [B, H, H, 1] uint8 of levels 0..16 and `label` [B] int32.

  Splits, fixed and stratified: 'train' 1257, 'validation' 180, 'test' 360.

  Source: Optical Recognition of Handwritten Digits, Alpaydin and Kaynak, 1998,
  UCI Machine Learning Repository, doi:10.24432/C50P49, as bundled by scikit-learn.

  Args:
    labels: how many labels of the train split are told, as many of each class; all
      others are -1. None tells all; other splits always tell theirs.
    crop: H, pixels of the middle that are kept of each row and column.
    change: what is done to every image, for translation: 'negative', 16 less the
      level, 'bold', of each pixel the largest level of it and its left and upper
      neighbors, or nothing.
    transform: factory of the way to model space, by the number of levels.

  Returns:
    A Dataset.

  Raises:
    ValueError: `labels` is no multiple of 10, or more than every class can have, or
      `crop` is not from 1 to 8, or no such change is known.
  """
  from sklearn import datasets  # heavy

  bunch = datasets.load_digits()
  if not 1 <= crop <= SIZE:
    raise ValueError(f'crop must be from 1 to {SIZE}, got {crop}')
  if change and change not in CHANGES:
    raise ValueError(f'change must be one of {", ".join(CHANGES)}, got {change!r}')
  inside = slice((SIZE - crop) // 2, (SIZE - crop) // 2 + crop)
  raw = _changed(bunch.images.astype(np.uint8), change)[:, inside, inside, None]
  label = bunch.target.astype(np.int32)
  arrays = {
    split: {'x': raw[index], 'label': label[index]}
    for split, index in splits.stratify(_SIZES, label).items()
  }
  if labels is not None:
    arrays['train']['label'] = _hide_labels(arrays['train']['label'], labels)
  way = transform(NUM_LEVELS)
  shape, dtype = (crop, crop, 1), transforms.dtype(way)
  spec = base.DataSpec(shape, dtype, NUM_LEVELS, 10, None, way)
  data = dataset.in_memory('digits', spec, arrays)
  return data._replace(class_names=tuple('0123456789'))


def _changed(images: np.ndarray, change: str) -> np.ndarray:
  """Images [N, 8, 8] of levels, changed."""
  if change == 'negative':
    return (NUM_LEVELS - 1 - images).astype(images.dtype)
  if change == 'bold':
    above = np.pad(images, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    left = np.pad(images, ((0, 0), (0, 0), (1, 0)))[:, :, :-1]
    return np.maximum(images, np.maximum(above, left))
  return images


def _hide_labels(label: np.ndarray, num: int) -> np.ndarray:
  """Replaces labels by -1 after the first num / 10 of each class."""
  each, rest = divmod(num, 10)
  if rest or not 0 < each <= np.bincount(label).min():
    most = 10 * np.bincount(label).min()
    raise ValueError(f'labels must be a multiple of 10, 10 to {most}, got {num}')
  rank = np.zeros_like(label)
  for one in range(10):
    of_class = label == one
    rank[of_class] = np.arange(of_class.sum())
  return np.where(rank < each, label, -1)
