"""The order of batches, and rows in memory against rows that stream."""

import itertools
import threading

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gm_jax import base
from gm_jax.data import dataset, splits, transforms

SPEC = base.DataSpec((2,), jnp.float32, 256, 3, None, transforms.scaling(256))


def table(num, seed=0):
  rng = np.random.default_rng(seed)
  x = rng.integers(0, 256, (num, 2), dtype=np.uint8)
  return {'x': x, 'label': np.arange(num, dtype=np.int32)}


def decoding(arrays):
  """Rows that are decoded, as from files."""
  return dataset.array_rows(arrays)._replace(decodes=True)


def made(memory=None):
  rows = {'train': decoding(table(23)), 'test': decoding(table(7, 1))}
  return dataset.from_rows('made', SPEC, rows, memory=memory, hint='ask for less')


def take(data, num, batch_size=8, split='train', **options):
  options = {'seed': 3, **options}
  return list(itertools.islice(data.batches(split, batch_size, **options), num))


def assert_same(found, expected):
  for a, b in zip(found, expected, strict=True):
    assert list(a) == list(b)
    for key in a:
      assert a[key].dtype == b[key].dtype
      np.testing.assert_array_equal(a[key], b[key])


@settings(deadline=None, max_examples=60)
@given(
  num=st.integers(1, 40),
  batch_size=st.integers(1, 50),
  seed=st.integers(0, 2**40),
  start=st.integers(0, 60),
)
def test_each_epoch_is_a_permutation_and_any_start_resumes(
  num, batch_size, seed, start
):
  batches = -(-num * 4 // batch_size)
  indices = dataset.order(num, batch_size, seed=seed)
  straight = [indices(position) for position in range(batches + start)]
  assert all(index.shape == (batch_size,) for index in straight)
  epochs = np.concatenate(straight)[: 4 * num].reshape(4, num)
  np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(num), (4, 1)))
  if num > 20:
    assert len(np.unique(epochs, axis=0)) == 4
  resumed = dataset.order(num, batch_size, seed=seed)
  for position in reversed(range(start, start + batches)):
    np.testing.assert_array_equal(resumed(position), straight[position])


def test_order_far_ahead_is_at_hand():
  at = dataset.order(60_000, 128, seed=0)
  assert at(10**9).shape == (128,)
  assert (at(0) != dataset.order(60_000, 128, seed=1)(0)).any()


@pytest.mark.parametrize('start', [0, 1, 13])
def test_streamed_batches_are_those_in_memory(start):
  loaded, streamed = made(memory=True), made(memory=False)
  straight = take(loaded, 20)
  assert_same(take(streamed, 7, start=start), straight[start : start + 7])
  assert_same(take(loaded, 7, start=start), straight[start : start + 7])
  assert_same([streamed.arrays('test')], [loaded.arrays('test')])
  assert_same([streamed.arrays('test', 3)], [loaded.arrays('test', 3)])
  np.testing.assert_array_equal(loaded.arrays('train')['x'], table(23)['x'])


@pytest.mark.parametrize('memory', [True, False])
@pytest.mark.parametrize('count', [1, 2, 4])
def test_shards_are_parts_of_the_same_global_batch(count, memory):
  data = made(memory)
  whole = take(data, 5, start=2)
  parts = [take(data, 5, start=2, shard=(i, count)) for i in range(count)]
  joined = [
    {key: np.concatenate([p[key] for p in group]) for key in group[0]}
    for group in zip(*parts, strict=True)
  ]
  assert_same(joined, whole)
  assert len(parts[0][0]['x']) == 8 // count


@pytest.mark.parametrize(
  ('batch_size', 'shard', 'words'),
  [
    (8, (0, 3), 'multiple of the 3 shards, got 8'),
    (0, (0, 1), 'positive multiple'),
    (8, (2, 2), r'index < count, got \(2, 2\)'),
    (8, (-1, 2), 'index < count'),
  ],
)
def test_wrong_shards_are_refused_before_anything_is_drawn(batch_size, shard, words):
  with pytest.raises(ValueError, match=words):
    made().batches('train', batch_size, seed=0, shard=shard)


def test_missing_split_is_refused_with_a_hint():
  for call in (lambda d: d.arrays('valid'), lambda d: take(d, 1, split='valid')):
    with pytest.raises(ValueError) as caught:
      call(made())
    assert str(caught.value) == (
      "made has no split 'valid': one of ['test', 'train']; ask for less"
    )


def test_size_decides_what_is_kept_in_memory(monkeypatch):
  calls = []
  rows = dataset.Rows(
    100, lambda i: calls.append(len(i)) or {'x': np.zeros((len(i), 2))}, decodes=True
  )
  # 1600 bytes in all.
  for limit, loaded in ((1600, True), (1599, False)):
    monkeypatch.setattr(dataset, 'MEMORY', limit)
    calls.clear()
    dataset.from_rows('rows', SPEC, {'train': rows})
    assert (sum(calls) >= 100) == loaded


def failing(index):
  if 5 in index:
    raise dataset.DataError('row 5: damaged')
  return {'x': np.zeros((len(index), 2), np.uint8)}


def test_damage_is_raised_at_the_start_in_memory_and_by_the_iterator_streamed():
  rows = {'train': dataset.Rows(50, failing, decodes=True)}
  with pytest.raises(dataset.DataError, match='^row 5: damaged$'):
    dataset.from_rows('rows', SPEC, rows, memory=True)
  data = dataset.from_rows('rows', SPEC, rows, memory=False)
  with pytest.raises(dataset.DataError, match='row 5: damaged'):
    take(data, 7)


def test_streams_that_are_dropped_leave_no_threads():
  take(made(memory=False), 2)
  before = threading.active_count()
  for _ in range(5):
    take(made(memory=False), 2)
  assert threading.active_count() <= before + 2 * dataset.AHEAD


def test_splits_divide_the_classes_alike_and_the_same_way_every_time():
  label = np.random.default_rng(1).choice(4, 1000, p=[0.5, 0.3, 0.15, 0.05])
  sizes = splits.tenths(1000, 'labels')
  parts = splits.stratify(sizes, label)
  assert {k: len(v) for k, v in parts.items()} == sizes
  every = np.concatenate(list(parts.values()))
  np.testing.assert_array_equal(np.sort(every), np.arange(1000))
  for split, size in sizes.items():
    count = np.bincount(label[parts[split]], minlength=4)
    assert np.abs(count - np.bincount(label) * size / 1000).max() <= 1.5
  again = splits.stratify(sizes, label)
  assert all((parts[k] == again[k]).all() for k in parts)
  plain = splits.stratify(sizes)
  assert not (np.sort(plain['test']) == np.sort(parts['test'])).all()


def test_too_few_to_split():
  assert splits.tenths(10, '')['train'] == 6
  with pytest.raises(
    dataset.DataError, match=r'^9 pictures: too few to split 80/10/10'
  ):
    splits.tenths(9, '9 pictures')
