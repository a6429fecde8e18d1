"""Every array of a batch goes to model space by its own transform and noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import base, model_space
from gm_jax.data import transforms

WAY = transforms.dequantization(16)
Y = base.Part((3,), jnp.float32, 16, transforms.dequantization(16))
NUMBERS = base.Part((2,), jnp.float32, None, transforms.identity())
TEXT = base.Part((4,), jnp.int32, 9, transforms.tokens())
SPEC = base.DataSpec(
  (3,), jnp.float32, 16, 2, None, WAY, {'y': Y, 'condition': NUMBERS, 'text': TEXT}
)
X = np.random.default_rng(0).integers(0, 16, (5, 3), dtype=np.uint8)
BATCH = {
  'x': X,
  'y': X,
  'condition': np.arange(10).reshape(5, 2),
  'text': np.full((5, 4), 8, np.uint8),
  'label': np.arange(5),
  'mask': X > 3,
}


def test_each_array_goes_by_its_part_and_comes_back():
  found = model_space.forward(SPEC, jax.random.key(0), BATCH)
  assert list(found) == list(BATCH)
  for key, part in SPEC.parts.items():
    assert found[key].dtype == part.dtype and found[key].shape[1:] == part.shape
    np.testing.assert_array_equal(part.transform.inverse(found[key]), BATCH[key])
  np.testing.assert_array_equal(WAY.inverse(found['x']), X)
  assert found['label'] is BATCH['label'] and found['mask'] is BATCH['mask']


def test_x_has_the_key_itself_and_the_others_keys_of_their_own():
  key = jax.random.key(1)
  found = model_space.forward(SPEC, key, BATCH)
  np.testing.assert_array_equal(found['x'], WAY.forward(key, X))
  assert (np.asarray(found['x']) != np.asarray(found['y'])).mean() > 0.9
  alone = model_space.forward(SPEC, key, {'y': X})
  np.testing.assert_array_equal(alone['y'], found['y'])  # whatever else there is
  other = model_space.forward(SPEC, jax.random.key(2), BATCH)
  assert (np.asarray(other['y']) != np.asarray(found['y'])).any()


@pytest.mark.parametrize('dtype', [np.int32, np.uint8, np.bool_, np.float32])
def test_numbers_are_floats_in_model_space(dtype):
  raw = np.array([[0, 1]], dtype)
  found = model_space.forward(SPEC, jax.random.key(0), {'condition': raw})
  assert found['condition'].dtype == jnp.float32
  np.testing.assert_array_equal(found['condition'], [[0, 1]])


def test_it_compiles():
  forward = jax.jit(lambda key, batch: model_space.forward(SPEC, key, batch))
  key = jax.random.key(0)
  found, expected = forward(key, BATCH), model_space.forward(SPEC, key, BATCH)
  jax.tree.map(np.testing.assert_allclose, found, expected)
