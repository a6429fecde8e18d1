"""Distances within classes, against closed forms and the definition."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.metrics import diversity


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
