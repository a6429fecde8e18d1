"""Two domains in one set: orders of their own, spaces of their own, pairs held back."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gm_jax import base
from gm_jax.data import dataset, registry, transforms, unpaired


def numbered(name, num, *, shape=(2,), levels=256, way=transforms.scaling, test=6):
  """Examples whose every number is their own index; labels, and one more array."""

  def split(first, num):
    index = np.arange(first, first + num)
    x = np.broadcast_to(index.reshape(-1, *[1] * len(shape)), (num, *shape))
    label = (index % 3).astype(np.int32)
    return {'x': x.astype(np.uint8), 'label': label, 'mask': x > 3}

  way = way(levels)
  spec = base.DataSpec(shape, transforms.dtype(way), levels, 3, None, way)
  splits = {'train': split(0, num), 'test': split(200, test)}
  data = dataset.in_memory(name, spec, splits)
  return data._replace(class_names=('a', 'b', 'c'))


def joined(num_x=7, num_y=12, **options):
  way = transforms.dequantization
  y = numbered('two', num_y, shape=(3, 1), levels=64, way=way)
  return unpaired.unpaired(numbered('one', num_x), y, **options)


def take(data, num, batch_size=4, split='train', seed=0, **options):
  stream = data.batches(split, batch_size, seed=seed, **options)
  return list(itertools.islice(stream, num))


def order(batches, key):
  """The indices of examples in the order of the batches."""
  return np.concatenate([b[key].reshape(len(b[key]), -1)[:, 0] for b in batches])


@settings(deadline=None, max_examples=30)
@given(
  num_x=st.integers(1, 30),
  num_y=st.integers(1, 30),
  batch_size=st.integers(1, 20),
  seed=st.integers(0, 2**40),
)
def test_each_domain_has_every_example_once_in_each_epoch_of_its_own(
  num_x, num_y, batch_size, seed
):
  count = -(-3 * max(num_x, num_y) // batch_size)
  batches = take(joined(num_x, num_y), count, batch_size, seed=seed)
  for key, num in (('x', num_x), ('y', num_y)):
    epochs = order(batches, key)[: 3 * num].reshape(3, num)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(num), (3, 1)))


def test_the_orders_are_unlike_each_other_and_change_with_the_seed():
  data = unpaired.unpaired(numbered('one', 100), numbered('two', 100))
  for seed in range(5):
    batches = take(data, 50, seed=seed)
    x, y = order(batches, 'x')[:100], order(batches, 'y')[:100]
    assert (x == y).mean() < 0.1  # one in a hundred meets its like by chance
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.4
  first, again, other = (order(take(data, 20, seed=s), 'y') for s in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert (first != other).any()


@pytest.mark.parametrize('count', [1, 2, 4])
@pytest.mark.parametrize('start', [0, 3, 1000])
def test_shards_are_parts_of_the_batches_and_any_start_resumes(count, start):
  data = joined()
  whole = list(itertools.islice(data.batches('train', 8, seed=5), start, start + 4))
  shards = [
    take(data, 4, 8, seed=5, start=start, shard=(i, count)) for i in range(count)
  ]
  for n, batch in enumerate(whole):
    assert sorted(batch) == ['label', 'mask', 'x', 'y']
    for key in batch:
      parts = np.concatenate([shard[n][key] for shard in shards])
      np.testing.assert_array_equal(parts, batch[key])


def test_labels_and_the_rest_are_those_of_x():
  data = joined()
  for batch in take(data, 9):
    np.testing.assert_array_equal(batch['label'], batch['x'][:, 0] % 3)
    np.testing.assert_array_equal(batch['mask'], batch['x'] > 3)
  assert data.spec.num_classes == 3 and data.spec.num_train == 7
  assert data.class_names == ('a', 'b', 'c') and data.name == 'unpaired:one|two'
  assert data.rows is None


def test_y_has_a_space_of_its_own():
  spec = joined().spec
  part = spec.parts['y']
  assert spec.shape == (2,) and part.shape == (3, 1)
  assert spec.num_levels == 256 and part.num_levels == 64
  assert (spec.transform.measure, part.transform.measure) == ('mass', 'density')
  batch = take(joined(), 1, 8)[0]
  found = dataset.transformed(spec, batch, jax.random.key(3))
  assert found['y'].dtype == part.dtype and found['y'].shape == (8, 3, 1)
  np.testing.assert_allclose(found['x'], 2 * batch['x'] / 255 - 1, atol=1e-6)
  lattice = (np.asarray(found['y']) + 1) * 32
  np.testing.assert_array_equal(np.floor(lattice), batch['y'])
  assert (lattice != np.floor(lattice)).any()  # noise of y, none of x
  np.testing.assert_array_equal(part.transform.inverse(found['y']), batch['y'])
  np.testing.assert_array_equal(spec.transform.inverse(found['x']), batch['x'])
  np.testing.assert_array_equal(found['label'], batch['label'])


def test_pairs_are_the_aligned_test_examples_and_no_batch_has_them():
  data = joined(paired=True)
  pairs = data.arrays('pairs')
  np.testing.assert_array_equal(pairs['x'][:, 0], pairs['y'][:, 0, 0])
  np.testing.assert_array_equal(pairs['x'][:, 0], np.arange(200, 206))
  assert len(data.arrays('pairs', 2)['y']) == 2
  kept = set(pairs['x'].ravel().tolist()) | set(pairs['y'].ravel().tolist())
  for batch in take(data, 30):
    assert not kept & {*batch['x'].ravel().tolist(), *batch['y'].ravel().tolist()}
  for each in (data, joined()):
    with pytest.raises(ValueError, match="'pairs' is for evaluation, by arrays"):
      each.batches('pairs', 4, seed=0)
  with pytest.raises(ValueError, match="no split 'pairs': say paired=true"):
    joined().arrays('pairs')


def test_arrays_have_as_many_of_both_domains():
  x, y = numbered('one', 7, test=9), numbered('two', 12, test=5)
  data = unpaired.unpaired(x, y)
  assert {len(a) for a in data.arrays('test').values()} == {5}
  assert {len(a) for a in data.arrays('test', 3).values()} == {3}
  assert {len(a) for a in data.arrays('train').values()} == {7}


def test_sets_that_cannot_be_joined_are_refused():
  data = joined()
  with pytest.raises(ValueError, match='has a second domain already'):
    unpaired.unpaired(data, numbered('one', 5))
  sets = numbered('one', 7, test=9), numbered('two', 12, test=5)
  with pytest.raises(ValueError, match='as many test examples, but have one 9, two 5'):
    unpaired.unpaired(*sets, paired=True)
  ring = registry.load('toy:ring')
  with pytest.raises(ValueError, match='ring is endless: it has no pairs'):
    unpaired.unpaired(ring, ring, paired=True)
  with pytest.raises(ValueError, match="one has no split 'valid'"):
    data.batches('valid', 4, seed=0)


def test_endless_sets_of_one_kind_are_drawn_apart():
  data = registry.load('unpaired:toy:ring|toy:ring?num_modes=3')
  batch = take(data, 1, 64)[0]
  assert batch['x'].shape == batch['y'].shape == (64, 2)
  assert not np.isclose(batch['x'], batch['y']).any()
  assert data.spec.parts['y'].dtype == jnp.float32
  assert {len(a) for a in data.arrays('test', 10).values()} == {10}
