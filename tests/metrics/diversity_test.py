"""Mean distances of pairs and within classes against all pairs and closed forms."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import spatial

from gm_jax.metrics import diversity

KEY = jax.random.key(0)
rng = np.random.default_rng(0)


def absolute(a, b):
  return jnp.abs(a - b).reshape(len(a), -1).sum(axis=1)


@functools.partial(jax.jit, static_argnames=('num_pairs', 'chunk'))
def found(key, x, num_pairs=1000, chunk=64):
  return diversity.mean_pairwise_distance(
    key, x, absolute, num_pairs=num_pairs, chunk=chunk
  )


def test_the_mean_is_that_of_all_pairs_within_its_error():
  x = rng.standard_normal((12, 2, 3, 1)).astype(np.float32)
  expected = spatial.distance.pdist(x.reshape(12, -1), 'cityblock')
  means, errors = jax.vmap(lambda k: found(k, x))(jax.random.split(KEY, 50))
  # Pairs are drawn independently: the error is the deviation of all over a root.
  np.testing.assert_allclose(errors.mean(), expected.std() / 1000**0.5, rtol=0.05)
  np.testing.assert_allclose(means.std(ddof=1), errors.mean(), rtol=0.4)
  assert abs(means.mean() - expected.mean()) < 3 * errors.mean() / 50**0.5


def test_no_row_is_paired_with_itself():
  # The distance of two is the only one, and 0 of a pair of equals would lower it.
  mean, error = found(KEY, jnp.array([[0.0], [3.0]]))
  np.testing.assert_allclose((mean, error), (3.0, 0.0), atol=1e-6)
  assert tuple(map(float, found(KEY, jnp.ones((2, 1))))) == (0.0, 0.0)


def test_chunks_and_an_offset_change_nothing():
  x = rng.integers(0, 9, (12, 3)).astype(np.float32)  # exact, with the offset too
  expected = found(KEY, x, num_pairs=100)
  for chunk in (33, 1000):
    np.testing.assert_array_equal(found(KEY, x, num_pairs=100, chunk=chunk), expected)
  np.testing.assert_array_equal(found(KEY, x + 1e4, num_pairs=100), expected)


def test_a_sample_that_is_nan_makes_the_mean_nan():
  assert np.isnan(found(KEY, jnp.array([[1.0], [jnp.nan]]))[0])


@pytest.mark.parametrize(
  ('words', 'x', 'options'),
  [
    ('two rows or more', np.ones((1, 3)), {}),
    ('two rows or more', np.float32(1.0), {}),
    ('num_pairs must be >= 2', np.ones((4, 3)), {'num_pairs': 1}),
    ('chunk must be >= 1', np.ones((4, 3)), {'chunk': 0}),
  ],
)
def test_bad_arguments_raise(words, x, options):
  with pytest.raises(ValueError, match=words):
    diversity.mean_pairwise_distance(KEY, x, absolute, **options)


def test_a_distance_of_another_shape_is_refused():
  with pytest.raises(ValueError, match='distance must be .B. = .64., got .64, 3.'):
    diversity.mean_pairwise_distance(KEY, np.ones((4, 3)), lambda a, b: a - b)


def test_gaussians_have_the_distance_of_the_formula():
  label = jnp.arange(3000) % 2
  std = jnp.where(label == 0, 0.5, 2.0)
  x = (
    std[:, None] * jax.random.normal(jax.random.key(0), (3000, 5))
    + 100 * label[:, None]
  )
  found = diversity.within_classes(x, label, num_classes=2)
  ratio = 2 * math.gamma(3) / math.gamma(2.5)
  np.testing.assert_allclose(found, [0.5 * ratio, 2.0 * ratio], rtol=0.02)


@pytest.mark.parametrize('chunk', [3, 7, 256])
def test_it_is_the_mean_over_pairs_whatever_the_chunk(chunk):
  x = jax.random.normal(jax.random.key(1), (17, 2, 3))
  label = np.array([0, 1, 2, 0, 1] * 3 + [0, 0], np.uint8)
  label[2] = 3  # alone of its class
  found = diversity.within_classes(x, label, num_classes=5, chunk=chunk)
  for k in (0, 1, 2):
    own = np.asarray(x)[label == k].reshape(-1, 6)
    pairs = [np.linalg.norm(a - b) for i, a in enumerate(own) for b in own[:i]]
    np.testing.assert_allclose(found[k], np.mean(pairs), rtol=1e-5)
  assert np.isnan(found[3]) and np.isnan(found[4])


def test_copies_have_none_and_other_shapes_are_refused():
  x = jnp.repeat(jax.random.normal(jax.random.key(2), (2, 4)), 5, axis=0)
  found = diversity.within_classes(x, jnp.arange(10) // 5, num_classes=2)
  np.testing.assert_allclose(found, 0, atol=1e-6)
  with pytest.raises(ValueError, match=r'label must be \[N\]'):
    diversity.within_classes(x, jnp.zeros((10, 1), jnp.int32), num_classes=2)
