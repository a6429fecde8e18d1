"""Classes that are held out are in no other split, and nothing is lost."""

import numpy as np
import pytest

from gm_jax.data import dataset, registry


def test_splits_are_those_of_the_whole_without_the_classes():
  whole, data = registry.load('digits'), registry.load('classes:digits?without=8,3')
  kept = (0, 1, 2, 4, 5, 6, 7, 9)
  assert data.spec.num_classes == 8 and data.class_names == tuple(map(str, kept))
  outside = []
  for split in ('test', 'validation', 'train'):
    arrays, mine = whole.arrays(split), data.arrays(split)
    inside = np.isin(arrays['label'], kept)
    np.testing.assert_array_equal(mine['x'], arrays['x'][inside])
    np.testing.assert_array_equal(
      np.array(kept)[mine['label']], arrays['label'][inside]
    )
    outside.append(arrays['x'][~inside])
  held_out = data.arrays('held_out')
  np.testing.assert_array_equal(held_out['x'], np.concatenate(outside))
  assert set(held_out['label']) == {-1} and held_out['label'].dtype == np.int32
  assert data.spec.num_train == len(data.arrays('train')['x']) == 1257 - len(outside[2])
  batch = next(data.batches('train', 512, seed=0))
  assert set(batch['label']) == set(range(8))
  other = registry.load('classes:digits?without=8')
  assert len({d.fingerprint for d in (whole, data, other)}) == 3


def test_options_of_the_set_and_zeros_and_ones():
  data = registry.load('classes:digits?without=9&transform=levels')
  assert data.spec.transform.measure == 'mass' and data.spec.num_levels == 17
  binary = registry.load('dynamic:classes:digits?without=9')
  held_out = binary.arrays('held_out')['x']
  assert set(np.unique(held_out)) == {0, 1}
  assert len(held_out) == len(
    registry.load('classes:digits?without=9').arrays('held_out')['x']
  )


@pytest.mark.parametrize(
  ('name', 'word'),
  [
    ('classes:digits?without=10', "no class '10'; did you mean '1'"),
    ('classes:digits', "no class ''"),
    ('classes:digits?without=0,1,2,3,4,5,6,7,8', 'keeps 1 of its 10 classes'),
    ('classes:dynamic:digits?without=1', 'dynamic:classes:NAME'),
    ('classes:toy:ring?without=1', 'classes are taken out of a set that has some'),
    ('classes:digits?without=9&labels=100', 'labels of train are not told'),
    ('classes:digits?withot=1', "no option 'withot'"),
  ],
)
def test_what_cannot_be_is_one_line(name, word):
  with pytest.raises((ValueError, dataset.DataError), match=word):
    registry.load(name)
