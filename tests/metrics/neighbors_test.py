"""Nearest neighbors are those of float64 by differences, wherever the points are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import spatial

from gm_jax.metrics import neighbors

rng = np.random.default_rng(0)


@functools.partial(jax.jit, static_argnames=('num', 'chunk'))
def nearest(queries, points, num=5, chunk=16):
  return neighbors.nearest(queries, points, num=num, chunk=chunk)


def check(queries, points, **options):
  found = nearest(queries, points, **options)
  exact = spatial.distance.cdist(*(np.asarray(a, float) for a in (queries, points)))
  num = found.distances.shape[1]
  expected = np.sort(exact, axis=1)[:, :num]
  np.testing.assert_allclose(found.distances, expected, rtol=2e-6)
  # And they are the distances of the points that are named, which are different ones.
  named = np.take_along_axis(exact, np.asarray(found.indices), axis=1)
  np.testing.assert_allclose(found.distances, named, rtol=2e-6)
  assert all(len(set(row)) == num for row in found.indices.tolist())
  return found


def clouds(offset=0.0):
  x, y = rng.standard_normal((2, 50, 40))
  return (np.float32(part[:num] + offset) for part, num in ((x, 37), (y, 50)))


@pytest.mark.parametrize('offset', [0.0, 1e4])
def test_far_from_zero(offset):
  check(*clouds(offset))


def test_an_outlier_changes_no_other_neighbor():
  x, y = clouds()
  before = check(x, y)
  y[before.indices.max()] = 1e6
  after = check(x, y)
  same = (np.asarray(before.indices) != before.indices.max()).all(axis=1)
  assert 0 < same.sum() < 37
  np.testing.assert_array_equal(after.distances[same], before.distances[same])


def test_clusters_far_tighter_than_a_product_resolves():
  # |x|^2 is 1e4 times 40: squares of order 1e-6 are lost in it.
  centers = 100.0 * rng.standard_normal((3, 40))
  x, y = (
    np.float32(centers[np.arange(num) % 3] + 1e-4 * rng.standard_normal((num, 40)))
    for num in (37, 50)
  )
  found = check(x, y)
  assert found.distances.max() < 0.01


def test_copies_are_at_distance_zero_and_found():
  _, y = clouds(3.0)
  y[10:20] = y[0]
  found = check(y[:37], y)
  assert (np.asarray(found.distances[:, 0]) == 0.0).all()
  assert (np.asarray(found.distances[0]) == 0.0).all()
  np.testing.assert_array_equal(found.indices[1:10, 0], np.arange(1, 10))


def test_chunks_change_nothing():
  x, y = clouds()
  expected = nearest(x, y)
  for chunk in (7, 1024):
    found = nearest(x, y, chunk=chunk)
    for one, other in zip(found, expected, strict=True):
      np.testing.assert_array_equal(one, other)


def test_the_least_of_many_columns_by_groups_are_those_of_a_sort():
  values = jnp.asarray(rng.standard_normal((9, 640)), jnp.float32)
  found, columns = jax.jit(neighbors.smallest, static_argnums=1)(values, 10)
  np.testing.assert_array_equal(found, np.sort(values, axis=1)[:, :10])
  np.testing.assert_array_equal(columns, np.argsort(values, axis=1)[:, :10])


@pytest.mark.parametrize('dims', [1, 300, 2048])
def test_the_bound_of_a_product_holds(dims):
  # Of one sign, as activations are: partial sums grow and are rounded at their size.
  x, y = (np.float32(abs(rng.standard_normal((64, dims))) + 1.0) for _ in range(2))
  squares, slack = neighbors.bounded_squares(jnp.array(x), jnp.array(y))
  exact = spatial.distance.cdist(x.astype(float), y.astype(float), 'sqeuclidean')
  assert (abs(squares - exact) <= slack).all()


def test_what_is_not_finite_is_refused_or_is_nan():
  x, y = clouds()
  x[3, 0], x[5, 1] = np.nan, np.inf
  with pytest.raises(ValueError, match='queries must be finite, got 2 of 1480'):
    neighbors.nearest(x, y)
  found = np.isnan(nearest(x, y).distances)
  assert found[[3, 5]].all() and not np.delete(found, [3, 5], axis=0).any()
  x, y = clouds()
  y[7, 2] = np.inf
  assert np.isnan(nearest(x, y).distances).all()


@pytest.mark.parametrize(
  ('words', 'arrays', 'options'),
  [
    ('queries must be .number, D.', (np.ones(3), np.ones((3, 1))), {}),
    ('same D, got queries .2, 3., points .4, 2.', (np.ones((2, 3)), np.ones((4, 2))),
     {}),
    ('points has no numbers', (np.ones((2, 3)), np.ones((0, 3))), {}),
    ('num must be from 1 to 4', (np.ones((2, 3)), np.ones((4, 3))), {'num': 5}),
    ('num must be from 1 to 4', (np.ones((2, 3)), np.ones((4, 3))), {'num': 0}),
    ('chunk must be >= 1', (np.ones((2, 3)), np.ones((4, 3))), {'chunk': 0}),
  ],
)  # fmt: skip
def test_bad_arguments_raise(words, arrays, options):
  with pytest.raises(ValueError, match=words):
    neighbors.nearest(*arrays, **options)
