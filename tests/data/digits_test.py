"""The digits are scikit-learn's own; order, noise and names of data sets."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn import datasets

from gm_jax.data import dataset, digits, registry, toy

SPLITS = {'train': 1257, 'validation': 180, 'test': 360}


@pytest.fixture(scope='module')
def plain():
  return digits.digits()


@pytest.fixture(scope='module')
def noisy():
  return digits.digits(dequantize=True)


def take(data, num, batch_size=5, **options):
  stream = data.batches('train', batch_size, **options)
  return list(itertools.islice(stream, num))


@pytest.mark.parametrize('name', ['plain', 'noisy'])
def test_splits_partition_scikit_learns_images(name, request):
  data = request.getfixturevalue(name)
  splits = {split: data.arrays(split, None) for split in SPLITS}
  assert {split: len(arrays['x']) for split, arrays in splits.items()} == SPLITS
  assert data.spec.num_train == 1257
  found = np.concatenate(
    [
      np.column_stack([data.spec.transform.inverse(a['x']).reshape(-1, 64), a['label']])
      for a in splits.values()
    ]
  )
  bunch = datasets.load_digits()
  expected = np.column_stack([bunch.data, bunch.target])
  assert found[:, :64].sum() == bunch.data.sum()
  # Equal as multisets: nothing is lost, and nothing stands in two splits.
  np.testing.assert_array_equal(
    found[np.lexsort(found.T)], expected[np.lexsort(expected.T)]
  )


def test_splits_hold_the_classes_in_proportion(plain):
  total = np.bincount(datasets.load_digits().target)
  for split, size in SPLITS.items():
    count = np.bincount(plain.arrays(split, None)['label'], minlength=10)
    assert np.abs(count - total * size / 1797).max() <= 1.5


def test_plain_levels_are_a_lattice(plain):
  x = plain.arrays('train', None)['x']
  assert x.dtype == np.float32 and x.min() == -1 and x.max() == 1
  np.testing.assert_array_equal(np.unique(x), np.arange(17) / 8 - 1)
  transform = plain.spec.transform
  assert transform.measure == 'mass'
  raw = transform.inverse(x)
  np.testing.assert_array_equal(transform.forward(jax.random.key(0), raw), x)
  assert not transform.log_det(jax.random.key(0), raw).any()
  np.testing.assert_array_equal(transform.inverse(jnp.array([-9.0, 9.0])), [0, 16])


def test_dequantization_is_uniform_and_always_undone(noisy):
  transform = noisy.spec.transform
  assert transform.measure == 'density'
  # 2^20 draws a level: the ends of every level are among them.
  raw = jnp.broadcast_to(jnp.arange(17)[:, None], (17, 2**20))
  x = jax.jit(transform.forward)(jax.random.key(0), raw)
  assert (transform.inverse(x) == raw).all()
  noise = np.asarray((x[:3, :20_000] + 1) * 8.5 - raw[:3, :20_000])
  for level in noise:
    assert stats.kstest(level, 'uniform').pvalue > 1e-4
  np.testing.assert_array_equal(transform.inverse(jnp.array([-9.0, 9.0])), [0, 16])


def test_log_det_is_that_of_the_jacobian(noisy):
  transform, key = noisy.spec.transform, jax.random.key(0)
  raw = noisy.spec.transform.inverse(noisy.arrays('test', 2)['x'])

  def forward(flat):
    return transform.forward(key, flat.reshape(1, 8, 8, 1)).ravel()

  jacobian = jax.jacfwd(forward)(raw[0].ravel().astype(jnp.float32))
  found = transform.log_det(key, raw)
  assert found.shape == (2,)
  np.testing.assert_allclose(found, np.linalg.slogdet(jacobian)[1], rtol=1e-5)
  np.testing.assert_allclose(found, 64 * math.log(2 / 17), rtol=1e-6)


@pytest.mark.parametrize('name', ['plain', 'noisy'])
def test_batches_resume_bitwise(name, request):
  data = request.getfixturevalue(name)
  straight = take(data, 6, seed=7)
  for found, expected in zip(take(data, 2, seed=7, start=4), straight[4:], strict=True):
    for field in ('x', 'label'):
      np.testing.assert_array_equal(found[field], expected[field])
  assert not np.array_equal(take(data, 1, seed=8)[0]['x'], straight[0]['x'])


def test_noise_is_fresh_in_every_epoch_and_fixed_for_evaluation(noisy):
  inverse = noisy.spec.transform.inverse
  first, second = take(noisy, 2, batch_size=1257, seed=0)
  first, second = (
    x[np.lexsort(np.asarray(inverse(x)).reshape(-1, 64).T)]
    for x in (np.asarray(first['x']), np.asarray(second['x']))
  )
  np.testing.assert_array_equal(inverse(first), inverse(second))
  assert (first == second).mean() < 1e-3
  few = noisy.arrays('test', 10)
  np.testing.assert_array_equal(few['x'], noisy.arrays('test', None)['x'][:10])


def test_permuted_indices_show_each_example_once_an_epoch():
  num, batch_size = 10, 4
  stream = dataset.permuted_indices(num, batch_size, seed=0)
  epochs = np.concatenate(list(itertools.islice(stream, 10))).reshape(4, num)
  np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(num), (4, 1)))
  assert len(np.unique(epochs, axis=0)) == 4
  for start in range(10):
    resumed = next(dataset.permuted_indices(num, batch_size, seed=0, start=start))
    np.testing.assert_array_equal(resumed, epochs.ravel()[start * 4 :][:4])
  wide = next(dataset.permuted_indices(3, 8, seed=0))
  assert sorted(wide[:3]) == sorted(wide[3:6]) == [0, 1, 2]


def test_load_by_name_passes_options():
  assert registry.load('digits', dequantize=True).spec.transform.measure == 'density'
  data = registry.load('toy:ring', num_modes=3, std=1e-4, radius=1.0)
  angle = np.arctan2(*data.arrays('test', 200)['x'].T[::-1])
  np.testing.assert_allclose(
    np.unique(np.round(angle, 2)), [-2.09, 0, 2.09], atol=0.011
  )
  for name in toy.TOYS:
    spec = registry.load(f'toy:{name}').spec
    assert spec.num_train is None and spec.transform.measure == 'density'


@pytest.mark.parametrize('name,near', [('digit', 'digits'), ('toy:rign', 'toy:ring')])
def test_unknown_name_suggests_the_nearest(name, near):
  with pytest.raises(ValueError) as caught:
    registry.load(name)
  message = str(caught.value)
  assert f"did you mean '{near}'" in message and '\n' not in message
  assert all(f'toy:{each}' in message for each in toy.TOYS)
