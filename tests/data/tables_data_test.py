"""Tables of numbers: their splits, standardizing, and what each recipe does to rows."""

import numpy as np
import pytest

from gm_jax.data import dataset, registry, tables

RNG = np.random.default_rng(0)


def saved(tmp_path, **arrays):
  path = str(tmp_path / 'a.npz')
  np.savez(path, **arrays)
  return path


def rows(data):
  return {split: data.arrays(split)['x'] for split in data.rows}


def splits_of(tmp_path, x, recipe):
  np.save(tmp_path / 'a.npy', x)
  return rows(tables.table(str(tmp_path / 'a.npy'), recipe=recipe))


def test_splits_are_disjoint_and_hold_every_row_once(tmp_path):
  """Rows that name themselves: the first column counts them, the second is affine."""
  number = np.arange(1000.0)
  found = splits_of(tmp_path, np.stack([number, 3 * number + 1], axis=1), 'plain')
  assert {s: len(x) for s, x in found.items()} == {
    'train': 810, 'validation': 90, 'test': 100
  }  # fmt: skip
  # Standardized numbers keep their ranks.
  ranked = np.sort(np.concatenate([x[:, 0] for x in found.values()]))
  assert (np.diff(ranked) > 0.5 * np.diff(ranked).mean()).all()
  again = rows(registry.load(f'table:{tmp_path}/a.npy?seed=0'))
  other = rows(registry.load(f'table:{tmp_path}/a.npy?seed=1'))
  np.testing.assert_array_equal(again['test'], found['test'])
  assert (np.sort(other['test'][:, 0]) != np.sort(found['test'][:, 0])).any()


def test_moments_are_of_the_training_rows_alone():
  train, test = RNG.normal(5, 2, (400, 3)), RNG.normal(50, 9, (100, 3))
  found = tables.standardized({'train': train, 'test': test})
  np.testing.assert_allclose(found['train'].mean(axis=0), 0, atol=1e-12)
  np.testing.assert_allclose(found['train'].std(axis=0), 1)
  other = tables.standardized({'train': train, 'test': test[:2] + 1e6})
  np.testing.assert_array_equal(other['train'], found['train'])
  mean, std = train.mean(axis=0), train.std(axis=0)
  np.testing.assert_allclose(found['test'], (test - mean) / std)


def test_splits_of_the_file_are_kept(tmp_path):
  train, test = RNG.normal(size=(50, 2)), RNG.normal(size=(7, 2))
  found = rows(tables.table(saved(tmp_path, x_train=train, x_test=test)))
  assert {s: len(x) for s, x in found.items()} == {
    'train': 45, 'test': 7, 'validation': 5
  }  # fmt: skip
  # The order is kept: an affine map of each column.
  np.testing.assert_allclose(np.corrcoef(found['test'][:, 0], test[:, 0])[0, 1], 1)
  val = RNG.normal(size=(8, 2))
  path = saved(tmp_path, x_train=train, x_val=val, x_test=test)
  found = rows(tables.table(path))['train']
  np.testing.assert_allclose(found, (train - train.mean(0)) / train.std(0), atol=1e-5)


def test_power_spreads_each_column_over_the_step_of_its_measurement(tmp_path):
  """Noise on all but the minute leaves whole steps when it is taken away."""
  steps = np.array([0.001, 0.5, 0.01, 0.5, 1, 1, 1, 1])
  x = RNG.integers(0, 300, (4000, 8)) * steps
  found = tables.RECIPES['power']({'x': x}, np.random.default_rng(0))
  whole = np.concatenate(list(found.values()))
  assert whole.shape == (4000, 6)
  kept = x[:, [0, 2, 4, 5, 6, 7]]
  counts = whole / [0.001, 0.01, 1, 1, 1, 1]
  noise = counts - np.floor(counts + 1e-9)
  np.testing.assert_allclose(noise[:, :5].mean(axis=0), 0.5, atol=0.02)
  np.testing.assert_allclose(noise[:, :5].var(axis=0), 1 / 12, atol=0.005)
  np.testing.assert_allclose(noise[:, 5], 0, atol=1e-9)
  floors = np.floor(counts + 1e-9)
  raw = np.round(kept / [0.001, 0.01, 1, 1, 1, 1])
  np.testing.assert_array_equal(np.sort(floors, axis=0), np.sort(raw, axis=0))


def test_gas_drops_the_first_of_columns_that_say_the_same(tmp_path):
  a, b = RNG.normal(size=(2, 300))
  x = np.stack([a, b, 2 * a + 1e-3 * b, -a], axis=1)  # -a is correlated by -1: stays
  found = tables.RECIPES['gas']({'x': x}, RNG)
  np.testing.assert_array_equal(np.concatenate(list(found.values())), x[:, 1:])
  np.testing.assert_array_equal(found['test'], x[270:, 1:])
  assert len(found['validation']) == 27


def test_hepmass_has_rows_of_class_1_and_no_discrete_columns():
  label = np.arange(200) % 2
  discrete = RNG.integers(0, 3, 200)
  x = np.stack([label, *RNG.normal(size=(2, 200)), discrete], axis=1)
  more = np.concatenate([x, np.full((200, 1), 9.0)], axis=1)
  found = tables.RECIPES['hepmass']({'train': x, 'test': more}, RNG)
  np.testing.assert_array_equal(found['train'], x[1::2, 1:3][:90])
  np.testing.assert_array_equal(found['validation'], x[1::2, 1:3][90:])
  np.testing.assert_array_equal(found['test'], x[1::2, 1:3])


def test_published_splits_are_not_shuffled_and_bsds300_is_as_it_is(tmp_path):
  x = RNG.normal(size=(100, 3))
  mini = tables.RECIPES['miniboone']({'x': x}, RNG)
  np.testing.assert_array_equal(np.concatenate(list(mini.values())), x)
  path = saved(tmp_path, x_train=x + 3, x_validation=x, x_test=x)
  found = rows(tables.table(path, recipe='bsds300'))
  np.testing.assert_array_equal(found['train'], np.float32(x + 3))


GOOD = RNG.normal(size=(40, 3))
BAD = GOOD.copy()
BAD[3, 2] = np.nan


@pytest.mark.parametrize(
  ('arrays', 'recipe', 'words'),
  [
    ({'x': BAD}, 'plain', 'x: 1 values are not finite, the first at [3, 2]'),
    ({'x': GOOD[:, :1]}, 'plain', 'expected numbers [N, D], D 2 or more, got [40, 1]'),
    ({'x': GOOD[0]}, 'plain', 'expected numbers [N, D], D 2 or more, got [3]'),
    ({'x': GOOD.astype(str)}, 'plain', 'expected numbers [N, D]'),
    ({'x': GOOD[:12]}, 'plain', '12 rows are too few'),
    ({'x': GOOD * [1, 0, 1]}, 'plain', 'column 1 is constant'),
    ({'y': GOOD}, 'plain', 'no x, nor x_train and x_test'),
    ({'x': GOOD, 'x_test': GOOD}, 'plain', 'both of x, x_test'),
    ({'x_train': GOOD, 'x_test': GOOD[:, :2]}, 'plain', 'different numbers of columns'),
    ({'x': GOOD}, 'power', 'POWER has 8 columns, got 3'),
    ({'x': GOOD}, 'hepmass', 'HEPMASS needs x_train and x_test'),
    ({'x_train': GOOD, 'x_test': GOOD}, 'hepmass', 'is the class, and none is 1'),
    ({'x_train': GOOD, 'x_test': GOOD}, 'gas', 'GAS is one array'),
    ({'x': GOOD}, 'bsds300', 'BSDS300 needs'),
    ({'x': GOOD * [1, 1, 0] + [[0, 0, 1]] * GOOD[:, :1]}, 'gas', None),
  ],
)
def test_what_cannot_be_used_is_one_line(tmp_path, arrays, recipe, words):
  path = saved(tmp_path, **arrays)
  if words is None:  # dropped, and then used
    assert tables.table(path, recipe=recipe).spec.shape == (2,)
    return
  with pytest.raises(dataset.DataError) as error:
    tables.table(path, recipe=recipe)
  line = str(error.value)
  assert line.startswith(path) and words in line and '\n' not in line


def test_files_that_are_none(tmp_path):
  for name in ('none.npy', 'none.npz'):
    with pytest.raises(dataset.DataError, match=f'{name}: no such file'):
      tables.table(str(tmp_path / name))
  path = tmp_path / 'a.npy'
  np.save(path, GOOD)
  path.write_bytes(path.read_bytes()[:-100])  # the header claims more than there is
  with pytest.raises(dataset.DataError, match='damaged'):
    tables.table(str(path))
  np.save(path, np.array([{}, 1], object), allow_pickle=True)
  with pytest.raises(dataset.DataError, match='not a .npy file of numbers'):
    tables.table(str(path))
  with pytest.raises(ValueError, match="did you mean 'power'"):
    registry.load('table:/x.npy?recipe=pover')
