"""Scikit-learn's handwritten digits: 1797 real 8x8 images of 17 levels, bundled.

The test set of the UCI repository's optical recognition of handwritten digits;
small enough to train on in seconds without any download.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from gm_jax import base
from gm_jax.data import dataset, transforms

NUM_LEVELS = 17
SHAPE = (8, 8, 1)
_SIZES = {'test': 360, 'validation': 180, 'train': 1257}


def digits(
  *, transform: Callable[[int], base.Transform] = transforms.scaling
) -> dataset.Dataset:
  """The digits, raw `x` [B, 8, 8, 1] uint8 of levels 0..16 and `label` [B] int32.

  Splits, fixed and stratified: 'train' 1257, 'validation' 180, 'test' 360.

  Source: Optical Recognition of Handwritten Digits, Alpaydin and Kaynak, 1998,
  UCI Machine Learning Repository, doi:10.24432/C50P49, as bundled by scikit-learn.

  Args:
    transform: factory of the way to model space, by the number of levels.

  Returns:
    A Dataset.
  """
  from sklearn import datasets  # heavy

  bunch = datasets.load_digits()
  raw = bunch.images.astype(np.uint8).reshape(-1, *SHAPE)
  label = bunch.target.astype(np.int32)
  splits = {
    split: {'x': raw[index], 'label': label[index]}
    for split, index in dataset.stratified(_SIZES, label).items()
  }
  spec = base.DataSpec(SHAPE, jnp.float32, NUM_LEVELS, 10, None, transform(NUM_LEVELS))
  return dataset.in_memory('digits', spec, splits)
