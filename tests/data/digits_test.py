"""The digits are scikit-learn's own."""

import itertools

import numpy as np
import pytest
from sklearn import datasets

from gm_jax.data import dataset, digits, transforms

SPLITS = {'train': 1257, 'validation': 180, 'test': 360}


@pytest.fixture(scope='module')
def data():
  return digits.digits()


def test_splits_partition_scikit_learns_images(data):
  splits = {split: data.arrays(split) for split in SPLITS}
  assert {split: len(arrays['x']) for split, arrays in splits.items()} == SPLITS
  assert data.spec.num_train == 1257 and data.spec.num_classes == 10
  found = np.concatenate(
    [np.column_stack([a['x'].reshape(-1, 64), a['label']]) for a in splits.values()]
  )
  bunch = datasets.load_digits()
  expected = np.column_stack([bunch.data, bunch.target])
  assert found[:, :64].sum() == bunch.data.sum()
  # Equal as multisets: nothing is lost, and nothing stands in two splits.
  np.testing.assert_array_equal(
    found[np.lexsort(found.T)], expected[np.lexsort(expected.T)]
  )


def test_splits_hold_the_classes_in_proportion(data):
  total = np.bincount(datasets.load_digits().target)
  for split, size in SPLITS.items():
    count = np.bincount(data.arrays(split)['label'], minlength=10)
    assert np.abs(count - total * size / 1797).max() <= 1.5


def test_crops_are_the_middle():
  few, all_of_it = digits.digits(crop=4), digits.digits()
  x = all_of_it.arrays('test')['x']
  np.testing.assert_array_equal(few.arrays('test')['x'], x[:, 2:6, 2:6])
  assert few.spec.shape == (4, 4, 1)
  with pytest.raises(ValueError, match='crop must be from 1 to 8, got 9'):
    digits.digits(crop=9)


def test_changed_digits_are_those_of_their_definition(data):
  """Negatives add up to 16; bold ones are the largest of three levels."""
  x = data.arrays('test')['x']
  negative = digits.digits(change='negative').arrays('test')
  np.testing.assert_array_equal(negative['x'] + x, np.full_like(x, 16))
  bold = digits.digits(change='bold').arrays('test')['x']
  for row, column in np.ndindex(8, 8):
    around = x[:, max(row - 1, 0) : row + 1, column], x[:, row, max(column - 1, 0)]
    expected = np.maximum(around[0].max(axis=1), around[1])
    np.testing.assert_array_equal(bold[:, row, column], expected)
  np.testing.assert_array_equal(negative['label'], data.arrays('test')['label'])
  with pytest.raises(ValueError, match="one of negative, bold, got 'thin'"):
    digits.digits(change='thin')


def test_only_so_many_labels_are_told_and_those_are_true(data):
  few = digits.digits(labels=100)
  labels, all_labels = few.arrays('train')['label'], data.arrays('train')['label']
  known = labels >= 0
  np.testing.assert_array_equal(np.bincount(labels[known]), [10] * 10)
  np.testing.assert_array_equal(labels[known], all_labels[known])
  np.testing.assert_array_equal(few.arrays('train')['x'], data.arrays('train')['x'])
  assert (labels[~known] == -1).all() and labels.dtype == np.int32
  for split in ('validation', 'test'):
    np.testing.assert_array_equal(
      few.arrays(split)['label'], data.arrays(split)['label']
    )


@pytest.mark.parametrize('labels', [0, 5, 105, -10, 1230])
def test_other_numbers_of_labels_are_refused(labels):
  with pytest.raises(ValueError, match='multiple of 10, 10 to 12'):
    digits.digits(labels=labels)


def test_batches_are_raw_and_the_models_are_on_the_lattice(data):
  batch = next(data.batches('train', 5, seed=0))
  assert batch['x'].dtype == np.uint8 and batch['x'].shape == (5, 8, 8, 1)
  assert batch['label'].dtype == np.int32
  x = np.asarray(dataset.transformed(data.spec, data.arrays('test'))['x'])
  assert x.dtype == data.spec.dtype and x.shape[1:] == data.spec.shape
  np.testing.assert_array_equal(np.unique(x), np.arange(17) / 8 - 1)


def test_noise_is_of_the_transform_alone():
  noisy, plain = digits.digits(transform=transforms.dequantization), digits.digits()
  assert noisy.spec.transform.measure == 'density'
  streams = (d.batches('train', 64, seed=2) for d in (noisy, plain))
  for a, b in itertools.islice(zip(*streams, strict=True), 3):
    np.testing.assert_array_equal(a['x'], b['x'])
