"""Several domains in one set: every example once an epoch, pairs held back."""

import itertools

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from gm_jax import base
from gm_jax.data import dataset, domains, registry, splits, transforms

SIZES = {'one': 5, 'two': 11, 'three': 8}


def numbered(name, num, first, *, decodes=False, **changes):
  """Examples that hold their own number, and the number of their content as label."""

  def rows(begin, num):
    x = np.repeat(np.arange(begin, begin + num, dtype=np.uint8)[:, None], 2, axis=1)
    label = (np.arange(num) % 4).astype(np.int32)
    arrays = {'x': x, 'label': label, 'condition': x.astype(np.float32)}
    return dataset.array_rows(arrays)._replace(decodes=decodes)

  float32 = np.dtype(np.float32)
  part = base.Part((2,), float32, None, transforms.identity())
  way = transforms.scaling(256)
  spec = base.DataSpec((2,), float32, 256, 4, None, way, {'condition': part})
  by_split = {'train': rows(first, num), 'test': rows(first + 50, 6)}
  data = dataset.from_rows(name, spec._replace(**changes), by_split, memory=False)
  return data._replace(class_names=tuple('abcd'))


def sets(**options):
  return [
    numbered(name, num, 80 * i, **options)
    for i, (name, num) in enumerate(SIZES.items())
  ]


def take(data, num, batch_size=4, seed=0, split='train', **options):
  stream = data.batches(split, batch_size, seed=seed, **options)
  return list(itertools.islice(stream, num))


@pytest.mark.parametrize('decodes', [False, True])
@pytest.mark.parametrize('seed', [0, 7])
def test_an_epoch_has_every_example_of_every_domain_once(seed, decodes):
  data = domains.domains(*sets(decodes=decodes))
  assert data.spec.num_train == 24
  batches = take(data, 18, seed=seed)  # three epochs
  x = np.concatenate([b['x'][:, 0] for b in batches]).reshape(3, 24)
  domain = np.concatenate([b['domain'] for b in batches])
  every = [80 * i + j for i, num in enumerate(SIZES.values()) for j in range(num)]
  np.testing.assert_array_equal(np.sort(x), np.tile(every, (3, 1)))
  np.testing.assert_array_equal(x.ravel() // 80, domain)
  assert len(np.unique(x, axis=0)) == 3 and domain.dtype == np.int32
  for batch in batches:
    np.testing.assert_array_equal(batch['label'], batch['x'][:, 0] % 80 % 4)
    np.testing.assert_array_equal(batch['condition'], batch['x'])


@pytest.mark.parametrize('decodes', [False, True])
@pytest.mark.parametrize('count', [1, 2, 4])
def test_shards_are_parts_of_the_batches_and_any_start_resumes(count, decodes):
  data = domains.domains(*sets(decodes=decodes))
  whole = take(data, 9, 8)[5:]
  shards = [take(data, 4, 8, start=5, shard=(i, count)) for i in range(count)]
  for n, batch in enumerate(whole):
    assert sorted(batch) == ['condition', 'domain', 'label', 'x']
    for key in batch:
      parts = np.concatenate([shard[n][key] for shard in shards])
      np.testing.assert_array_equal(parts, batch[key])


def test_the_first_arrays_are_of_all_domains():
  data = domains.domains(*sets())
  arrays = data.arrays('test')
  np.testing.assert_array_equal(arrays['domain'], np.tile([0, 1, 2], 6))
  np.testing.assert_array_equal(arrays['x'][:, 0] % 80, 50 + np.arange(18) // 3)
  few = data.arrays('test', 5)
  for key in arrays:
    np.testing.assert_array_equal(few[key], arrays[key][:5])
  first = data.arrays('train', 9)['domain']
  assert np.bincount(first, minlength=3).tolist() == [2, 4, 3]  # as 5, 11 and 8


def test_the_domain_is_a_part_and_has_names():
  data = domains.domains(*sets())
  part = data.spec.parts['domain']
  assert part.shape == () and part.num_levels == 3 and part.dtype == np.int32
  assert data.domain_names == ('one', 'two', 'three')
  assert data.name == 'domains:one|two|three' and data.class_names == tuple('abcd')
  assert set(data.spec.parts) == {'domain', 'condition'}
  named = domains.domains(*sets(), names=['I', 'II', 'III'])
  assert named.domain_names == ('I', 'II', 'III') and named.encode('domain', 'ii') == 1
  found = dataset.transformed(data.spec, take(data, 1)[0])
  assert found['domain'].dtype == np.int32 and found['x'].dtype == np.float32


def test_arrays_that_differ_in_meaning_are_dropped():
  one, two, _ = sets()
  other = two._replace(class_names=tuple('efgh'))
  for data in (
    domains.domains(one, other),
    domains.domains(one, two._replace(spec=two.spec._replace(num_classes=9))),
  ):
    assert data.spec.num_classes is None and data.class_names is None
    assert sorted(take(data, 1)[0]) == ['condition', 'domain', 'x']
  data = domains.domains(one, two._replace(spec=two.spec._replace(parts={})))
  assert sorted(take(data, 1)[0]) == ['domain', 'label', 'x']
  assert set(data.spec.parts) == {'domain'}


def test_pairs_are_side_by_side_and_no_batch_has_them():
  data = domains.domains(*sets(), paired=True)
  pairs = data.arrays('pairs')
  assert pairs['x'].shape == (6, 3, 2) and len(data.arrays('pairs', 4)['x']) == 4
  np.testing.assert_array_equal(
    pairs['x'][..., 0], 50 + np.arange(6)[:, None] + [0, 80, 160]
  )
  np.testing.assert_array_equal(pairs['label'], np.arange(6) % 4)
  kept = set(pairs['x'].ravel().tolist())
  for batch in take(data, 20):
    assert not kept & set(batch['x'].ravel().tolist())
  with pytest.raises(ValueError, match="'pairs' is for evaluation"):
    data.batches(splits.PAIRS, 4, seed=0)
  with pytest.raises(ValueError, match="no split 'pairs': say paired=true"):
    domains.domains(*sets()).arrays('pairs')


def test_pairs_that_do_not_belong_together_are_refused():
  one, two, _ = sets()
  turned = {
    k: r._replace(get=lambda i, r=r: {**r.get(i), 'label': r.get(i)['label'] ^ 1})
    for k, r in two.rows.items()
  }
  other = dataset.from_rows('turned', two.spec, turned)._replace(
    class_names=two.class_names
  )
  with pytest.raises(ValueError, match=r'test examples 0 have labels \[0, 1\]'):
    domains.domains(one, other, paired=True).arrays('pairs')
  few = dataset.from_rows('few', two.spec, {**two.rows, 'test': two.rows['train']})
  with pytest.raises(ValueError, match='as many test examples, but have one 6, few 11'):
    domains.domains(one, few, paired=True)


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'shape': (3,)}, r'two has shape \[3\], one \[2\]'),
    ({'num_levels': None}, 'two has levels None, one 256'),
    ({'transform': transforms.identity()}, 'two has measure density, one mass'),
    ({'transform': transforms.levels(256)}, 'one and two have different transforms'),
    ({'dtype': np.dtype(np.int32)}, 'two has dtype int32, one float32'),
  ],
)
def test_domains_of_other_spaces_are_refused(changes, words):
  with pytest.raises(ValueError, match=f'of one space, but .*{words}'):
    domains.domains(numbered('one', 5, 0), numbered('two', 5, 80, **changes))


def test_sets_that_cannot_be_domains_are_refused():
  one, two, _ = sets()
  with pytest.raises(ValueError, match='at least two data sets, got 1'):
    domains.domains(one)
  with pytest.raises(ValueError, match='domains:one|two has domains already'):
    domains.domains(domains.domains(one, two), two)
  with pytest.raises(ValueError, match='only one of one and ring is endless'):
    domains.domains(one, registry.load('toy:ring'))
  with pytest.raises(ValueError, match='join first, draw then, as in dynamic:domains'):
    domains.domains(*[registry.load('dynamic:digits')] * 2)


@pytest.mark.slow
def test_endless_domains_are_drawn_evenly_and_apart():
  data = registry.load('domains:toy:ring?num_modes=2|toy:ring|toy:grid')
  batch = take(data, 1, 6000)[0]
  assert stats.chisquare(np.bincount(batch['domain'])).pvalue > 1e-3
  ring = registry.toy_density('toy:ring?num_modes=2')
  near = np.linalg.norm(batch['x'][:, None] - ring.means, axis=-1).min(1) < 0.2
  assert near[batch['domain'] == 0].all() and not near[batch['domain'] == 1].all()
  whole = take(data, 8, 8)
  parts = [take(data, 3, 8, start=5, shard=(i, 2)) for i in range(2)]
  for n in range(3):
    for key in ('x', 'domain'):
      found = np.concatenate([part[n][key] for part in parts])
      np.testing.assert_array_equal(found, whole[5 + n][key])
  assert data.arrays('test', 7)['domain'].tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_folders_by_name_are_domains_with_pairs(tmp_path):
  for face, shift in (('serif', 0), ('sans', 100)):
    for split, first, num in (('train', 0, 9), ('test', 50, 4)):
      (tmp_path / face / split).mkdir(parents=True)
      for i in range(num):
        pixels = np.full((4, 4), first + i + shift, np.uint8)
        Image.fromarray(pixels).save(tmp_path / face / split / f'{i}.png')
  for memory in ('true', 'false'):
    sides = [f'folder:{tmp_path / f}?memory={memory}' for f in ('serif', 'sans')]
    data = registry.load(f'domains?paired=true:{"|".join(sides)}')
    pairs = data.arrays('pairs')['x'][..., 0, 0, 0].astype(int)
    np.testing.assert_array_equal(pairs, [[50 + i, 150 + i] for i in range(4)])
    assert data.domain_names == tuple(sides)
    seen = np.concatenate([b['x'][:, 0, 0, 0] for b in take(data, 9, 2)])
    np.testing.assert_array_equal(np.sort(seen), [*range(9), *range(100, 109)])
