"""Precision, recall, density and coverage against enumeration and expectations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import spatial

from gm_jax.metrics import prdc

rng = np.random.default_rng(0)


@functools.partial(jax.jit, static_argnames=('k', 'chunk'))
def ours(real, fake, k=5, chunk=16):
  return prdc.prdc(real, fake, k=k, chunk=chunk)


def enumerated(real, fake, k=5):
  """The definitions in float64, all pairs at once."""
  real, fake = np.asarray(real, float), np.asarray(fake, float)
  cdist = spatial.distance.cdist
  radii, fake_radii = (np.sort(cdist(a, a), axis=1)[:, k] for a in (real, fake))
  distances = cdist(real, fake)
  inside = distances < radii[:, None]
  recalled = (distances < fake_radii).any(axis=1).mean()
  density = inside.sum() / (k * len(fake))
  return inside.any(axis=0).mean(), recalled, density, inside.any(axis=1).mean()


def check(real, fake, **options):
  found = ours(real, fake, **options)
  k = options.get('k', 5)
  np.testing.assert_allclose(found, enumerated(real, fake, k), rtol=1e-6)
  return found


def clouds(offset=0.0, dims=40):
  real, fake = rng.standard_normal((2, 50, dims))
  return np.float32(real + offset), np.float32(0.9 * fake[:37] + 0.1 + offset)


@pytest.mark.parametrize('offset', [0.0, 1e4])
def test_enumerated(offset):
  check(*clouds(offset))


def test_clusters_far_tighter_than_a_product_resolves():
  centers = 100.0 * rng.standard_normal((3, 40))
  real, fake = (
    np.float32(centers[np.arange(num) % 3] + 1e-4 * part)
    for num, part in ((50, clouds()[0]), (37, clouds()[1]))
  )
  found = check(real, fake)
  assert 0.1 < found.coverage < 1


@pytest.mark.parametrize('dims', [2, 300])
def test_a_set_with_itself_has_one_in_all(dims):
  # Distances to the neighbor that bounds a ball are equal to the radius, and outside
  # to the last digit: with one digit less the density would be off by 1 / k.
  points, _ = clouds(1.0, dims)
  assert tuple(map(float, ours(points, points))) == (1.0, 1.0, 1.0, 1.0)
  shuffled = points[rng.permutation(50)]
  assert tuple(map(float, ours(points, shuffled))) == (1.0, 1.0, 1.0, 1.0)


def test_copies_of_the_data_and_collapse():
  real, fake = clouds()
  fake[:20] = real[:20]  # a model that remembers: its distances tie with radii
  check(real, fake)
  collapsed = np.repeat(real[:1], 37, axis=0)
  found = check(real, collapsed)
  # One point that is right: all precise, nothing recalled, for its ball is empty.
  assert found.precision == 1 and found.recall == 0 and found.coverage < 0.5


def test_a_dropped_mode_lowers_the_recall_and_outliers_the_precision():
  # Two clusters of integers: with k = 2 the radius is 1 inside and 2 at the ends.
  cluster = np.arange(20.0)
  real = np.concatenate([cluster, cluster + 1000.0])[:, None]
  dropped = cluster[:, None] + 0.25
  found = check(real, dropped, k=2)
  # Two balls hold each sample; the ends' larger ones hold one more in two places, and
  # the last sample, beyond its cluster, is in one.
  assert tuple(found[:2]) == (1.0, 0.5) and found.coverage == 0.5
  np.testing.assert_allclose(found.density, (2 * 20 + 2 - 1) / (2 * 20), rtol=1e-6)
  outliers = np.concatenate([real + 0.25, -1000.0 - np.arange(10.0)[:, None]])
  found = check(real, outliers, k=2)
  np.testing.assert_allclose(found.precision, 0.8, rtol=1e-6)
  assert found.recall == 1.0 and found.coverage == 1.0
  np.testing.assert_allclose(found.density, 2 * 41 / (2 * 50), rtol=1e-6)


def test_an_outlier_of_the_data_counts_in_the_precision_alone():
  real, fake = clouds()
  before = check(real, fake + 3.0)
  assert before.precision < 0.2
  real[7] = 1e6
  after = check(real, fake + 3.0)
  # Its ball holds all: the known fault of precision, that density mends.
  assert after.precision == 1.0
  np.testing.assert_allclose(after.density, before.density + 1 / 5, atol=0.05)


def test_expectations_over_independent_sets_of_one_distribution():
  # Of the N - 1 + M others about a point all orders are equally likely: the k nearest
  # are all of its own set with the probability below, and k M / N samples are expected
  # before the k-th of its own.
  num, k, repetitions = 100, 5, 60
  t = np.arange(k)
  covered = 1 - np.prod((num - 1 - t) / (2 * num - 1 - t))
  assert abs(covered - (1 - 2.0**-k)) < 0.005

  def one(key):
    return prdc.prdc(*jax.random.normal(key, (2, num, 3)), k=k, chunk=num)

  keys = jax.random.split(jax.random.key(0), repetitions)
  found = jax.jit(functools.partial(jax.lax.map, one))(keys)
  for values, expected in ((found.density, 1.0), (found.coverage, covered)):
    error = np.std(values, ddof=1) / np.sqrt(repetitions)
    assert error < 0.02
    assert abs(np.mean(values) - expected) < 3 * error
  # Precision and recall are the same statistic with the sets exchanged.
  error = np.std(found.precision - found.recall, ddof=1) / np.sqrt(repetitions)
  assert abs(np.mean(found.precision - found.recall)) < 3 * error


def test_chunks_change_nothing():
  real, fake = clouds()
  assert tuple(ours(real, fake, chunk=7)) == tuple(ours(real, fake))


def test_no_array_has_all_pairs():
  num, chunk = 50_000, 128
  x = jax.ShapeDtypeStruct((num, 4), jnp.float32)
  memory = ours.lower(x, x, chunk=chunk).compile().memory_analysis()
  # A dozen strips of rows; all pairs would be 10 GB.
  assert memory.temp_size_in_bytes < 12 * 4 * chunk * num


def test_what_is_not_finite_is_refused_or_is_nan():
  real, fake = clouds()
  for wrong in (np.nan, np.inf):
    spoiled = fake.copy()
    spoiled[3, 2] = wrong
    with pytest.raises(ValueError, match='fake must be finite, got 1 of 1480'):
      prdc.prdc(real, spoiled)
    assert np.isnan(ours(real, spoiled)).all()
    other = real.copy()
    other[3, 2] = wrong
    assert np.isnan(ours(other, fake)).all()


@pytest.mark.parametrize(
  ('words', 'arrays', 'options'),
  [
    ('k must be from 1 to 3', (np.ones((4, 2)), np.ones((9, 2))), {'k': 4}),
    ('k must be from 1 to 3', (np.ones((9, 2)), np.ones((4, 2))), {'k': 0}),
    ('real must be .number, D.', (np.ones((9, 2, 1)), np.ones((9, 2))), {}),
    ('same D', (np.ones((9, 2)), np.ones((9, 3))), {}),
    ('chunk must be', (np.ones((9, 2)), np.ones((9, 2))), {'chunk': 0}),
  ],
)
def test_bad_arguments_raise(words, arrays, options):
  with pytest.raises(ValueError, match=words):
    prdc.prdc(*arrays, **options)


@pytest.mark.parametrize('k', [3, 5])
def test_the_authors_package_gives_the_same(k):
  peer = pytest.importorskip('prdc', reason="not installed: 'gm_jax[bench]'")
  real, fake = clouds()
  expected = peer.compute_prdc(real, fake, k)
  found = ours(real, fake, k=k)._asdict()
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-4)


def test_torch_fidelity_gives_the_same_precision_and_recall():
  torch = pytest.importorskip('torch', reason="not installed: 'gm_jax[bench]'")
  reason = "not installed: 'gm_jax[bench]'"
  peer = pytest.importorskip('torch_fidelity.metric_prc', reason=reason)
  real, fake = clouds()
  sets = (torch.tensor(a) for a in (fake, real))  # samples first
  options = {'prc_neighborhood': 3, 'save_cpu_ram': False, 'verbose': False}
  expected = peer.prc_features_to_metric(*sets, prc_batch_size=100, **options)
  found = ours(real, fake, k=3)  # without ties d < r and d <= r are the same
  np.testing.assert_allclose(found.precision, expected['precision'], rtol=1e-4)
  np.testing.assert_allclose(found.recall, expected['recall'], rtol=1e-4)
