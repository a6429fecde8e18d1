"""Stacked images hold three examples of their base, and their label's digits."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gm_jax import base
from gm_jax.data import dataset, registry, stacked, transforms

NUM = 40  # examples of the fake base set, four a class


def fake(*, shape=(2, 2, 1), num_classes=10):
  """Ten even classes; every pixel of an image is the example's own number."""

  def split(first):
    number = np.arange(first, first + NUM)
    x = np.broadcast_to(number.reshape(-1, 1, 1, 1), (NUM, *shape))
    return {'x': x.astype(np.uint8), 'label': (number % 10).astype(np.int32)}

  spec = base.DataSpec(
    shape, jnp.float32, 256, num_classes, None, transforms.scaling(256)
  )
  splits = {'train': split(0), 'test': split(100)}
  return dataset.in_memory('fake', spec, splits)


def take(data, num, *, batch_size=6, split='train', seed=0, **options):
  stream = data.batches(split, batch_size, seed=seed, **options)
  return list(itertools.islice(stream, num))


def joined(batches):
  return {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}


def assert_same(first, second):
  jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize('name', ['stacked:digits', 'stacked:digits?transform=logit'])
def test_channels_are_examples_of_the_digits_with_the_labels_digits(name):
  data = registry.load(name)
  digits = registry.load(name.removeprefix('stacked:'))
  for split in ('train', 'validation', 'test'):
    known = digits.arrays(split)
    classes = {
      x.tobytes(): c for x, c in zip(*map(known.get, ('x', 'label')), strict=True)
    }
    arrays = data.arrays(split, 50)
    assert arrays['x'].shape == (50, 8, 8, 3) and arrays['x'].dtype == known['x'].dtype
    assert arrays['label'].dtype == np.int32
    found = [
      [classes[np.ascontiguousarray(x[..., [c]]).tobytes()] for c in range(3)]
      for x in arrays['x']
    ]
    np.testing.assert_array_equal(np.array(found) @ [100, 10, 1], arrays['label'])


def test_spec_is_the_bases_but_for_shape_classes_and_number():
  data, digits = (registry.load(n) for n in ('stacked:digits', 'digits'))
  assert data.name == 'stacked:digits'
  assert data.spec.shape == (8, 8, 3)
  assert data.spec.num_classes == 1000 and data.spec.num_train is None
  assert data.spec.num_levels == digits.spec.num_levels
  assert data.spec.transform.measure == digits.spec.transform.measure
  raw = data.arrays('train', 7)['x']
  x = dataset.transformed(data.spec, {'x': raw})['x']
  assert x.shape == (7, 8, 8, 3) and x.min() >= -1 and x.max() <= 1
  np.testing.assert_array_equal(data.spec.transform.inverse(x), raw)


def test_modes_and_examples_are_uniform_and_channels_independent():
  batch = take(stacked.stack(fake()), 1, batch_size=60_000)[0]
  modes = np.bincount(batch['label'], minlength=1000)
  assert stats.chisquare(modes).pvalue > 1e-3
  examples = np.bincount(batch['x'][:, 0, 0].ravel(), minlength=NUM)
  assert stats.chisquare(examples).pvalue > 1e-3
  first, second = batch['x'][:, 0, 0, 0].astype(int), batch['x'][:, 0, 0, 1]
  pairs = np.bincount(NUM * first + second, minlength=NUM**2)
  assert stats.chisquare(pairs).pvalue > 1e-3


def test_modes_of_the_digits_are_the_product_of_their_class_frequencies():
  data, digits = (registry.load(n) for n in ('stacked:digits', 'digits'))
  fraction = np.bincount(digits.arrays('train')['label'], minlength=10) / 1257
  expected = np.einsum('a,b,c->abc', fraction, fraction, fraction).ravel()
  label = data.arrays('train', 50_000)['label']
  counts = np.bincount(label, minlength=1000)
  assert stats.chisquare(counts, 50_000 * expected).pvalue > 1e-3


def test_unstacked_examples_are_the_bases_each_once():
  found = stacked.unstacked(registry.load('stacked:digits').arrays('train', 8000))
  digits = registry.load('digits').arrays('train')

  def rows(arrays):
    table = np.column_stack([arrays['x'].reshape(-1, 64), arrays['label']])
    return np.unique(table, axis=0)

  np.testing.assert_array_equal(rows(found), rows(digits))
  assert len(found['x']) == len(rows(digits)) and found['x'].shape[1:] == (8, 8, 1)
  assert found['label'].dtype == np.int32


@pytest.mark.parametrize('start', [1, 5, 1000])
def test_a_stream_goes_on_from_any_batch(start):
  data = stacked.stack(fake())
  whole = data.batches('train', 6, seed=3)
  rest = list(itertools.islice(whole, start, start + 4))
  assert_same(rest, take(data, 4, seed=3, start=start))


@pytest.mark.parametrize('count', [2, 3])
def test_shards_make_the_global_batch(count):
  data = stacked.stack(fake())
  shards = [take(data, 3, shard=(i, count)) for i in range(count)]
  parts = [joined([shard[n] for shard in shards]) for n in range(3)]
  assert_same(parts, take(data, 3))


def test_splits_and_seeds_and_batches_differ_and_the_same_are_the_same():
  data = stacked.stack(fake())
  assert joined(take(data, 20))['x'].max() < NUM
  assert joined(take(data, 20, split='test'))['x'].min() >= 100
  first, again, other = (joined(take(data, 4, seed=s)) for s in (0, 0, 1))
  assert_same(first, again)
  assert not np.array_equal(first['x'], other['x'])
  a, b = take(data, 2)
  assert not np.array_equal(a['x'], b['x'])
  # Not even which examples are drawn is shared between splits.
  test = joined(take(data, 4, split='test'))
  assert not np.array_equal(first['x'], test['x'] - 100)


def test_arrays_are_a_fixed_draw_of_which_fewer_are_the_first():
  data = stacked.stack(fake())
  many = data.arrays('test', 5000)
  assert_same(many, stacked.stack(fake()).arrays('test', 5000))
  assert_same(jax.tree.map(lambda a: a[:17], many), data.arrays('test', 17))
  assert not np.array_equal(take(data, 1, split='test')[0]['x'], many['x'][:6])
  with pytest.raises(ValueError, match='num'):
    data.arrays('test')


@pytest.mark.parametrize(
  ('change', 'word'),
  [({'shape': (2, 2, 3)}, 'one channel'), ({'num_classes': 4}, '4 classes'),
   ({'num_classes': None}, 'no classes'), ({'shape': (2,)}, 'one channel')],
)  # fmt: skip
def test_a_base_without_one_channel_and_ten_classes_is_refused(change, word):
  data = fake()
  data = data._replace(spec=data.spec._replace(**change))
  with pytest.raises(ValueError, match=word):
    stacked.stack(data)


@pytest.mark.parametrize(
  ('name', 'word'),
  [('stacked:toy:ring', 'one channel'), ('stacked:stacked:digits', 'one channel'),
   ('stacked:', 'names no data'), ('stacked:digts', 'digits')],
)  # fmt: skip
def test_wrong_names_are_refused(name, word):
  with pytest.raises(ValueError, match=word):
    registry.load(name)


def test_wrong_splits_and_shards_are_refused():
  data = stacked.stack(fake())
  with pytest.raises(ValueError, match='nosplit'):
    next(data.batches('nosplit', 4, seed=0))
  with pytest.raises(ValueError, match='shard'):
    next(data.batches('train', 6, seed=0, shard=(2, 2)))
  with pytest.raises(ValueError, match='batch_size'):
    next(data.batches('train', 6, seed=0, shard=(0, 4)))
