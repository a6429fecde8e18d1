"""Codes, reconstructions and traversals of a known encoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import base
from gm_jax.data import transforms
from gm_jax.tasks import codes, results, traversal

WAY = transforms.scaling(17)
SPEC = base.DataSpec((2, 2, 1), jnp.float32, 17, None, 200, WAY)
X = np.random.default_rng(0).integers(0, 17, (200, 2, 2, 1)).astype(np.uint8)
ARRAYS = {'test': {'x': X, 'label': np.arange(200) % 3}}


def encode(model, key, x, *, condition=None):
  """The first two pixels, the second twice."""
  return x.reshape(len(x), -1)[:, :2] * jnp.array([1.0, 2.0])


def decode(model, key, z, *, condition=None):
  flat = z / jnp.array([1.0, 2.0])
  return jnp.concatenate([flat, flat], axis=1).reshape(-1, 2, 2, 1)


def reconstruct(model, key, x, *, condition=None):
  return decode(model, key, encode(model, key, x))


CARD = base.Card('none', 'none', 'none', 'none', 'none', ('reconstruction',),
                 'continuous', 'any')  # fmt: skip
METHOD = base.Method(
  CARD, None, None,
  queries={'encode': encode, 'decode': decode, 'reconstruct': reconstruct},
)  # fmt: skip
ARGS = (METHOD, base.Model({}, {}), jax.random.key(0), ARRAYS, SPEC)


def test_codes_are_the_encoder_s_in_the_order_of_the_split():
  found = codes.encode(*ARGS)
  scaled = X.reshape(200, 4) / 8.0 - 1.0
  np.testing.assert_allclose(found.arrays['z'], scaled[:, :2] * [1, 2], atol=1e-6)
  np.testing.assert_array_equal(found.arrays['label'], ARRAYS['test']['label'])
  assert results.numbers(found) == {'num': 200}


def test_reconstructions_are_raw_and_stand_below_their_data():
  found = codes.reconstruct(*ARGS)
  again = np.asarray(found.arrays['reconstruction'])
  np.testing.assert_array_equal(again.reshape(200, 4)[:, 2:], X.reshape(200, 4)[:, :2])
  np.testing.assert_array_equal(found.arrays['x'], X)
  assert found.arrays['grid'].shape == (2, 16, 2, 2, 1)
  np.testing.assert_array_equal(found.arrays['grid'][0], X[:16])
  lower = X.reshape(200, 4) / 8.0 - 1.0
  error = np.sqrt(((lower[:, :2] - lower[:, 2:]) ** 2).sum() / (200 * 4))
  np.testing.assert_allclose(found.values['reconstruction'][0], error, rtol=1e-5)


def test_traversals_move_one_dimension_the_widest_first():
  found = traversal.traverse(*ARGS, steps=3, extent=0.5, example=7)
  np.testing.assert_array_equal(found.arrays['dimension'], [1, 0])
  z = np.asarray(codes.encode(*ARGS).arrays['z'])
  np.testing.assert_allclose(found.arrays['spread'], z.std(axis=0)[::-1], rtol=1e-5)
  grid = np.asarray(found.arrays['grid'], int)
  assert grid.shape == (2, 3, 2, 2, 1)
  # In the first row the first pixel stays the example's and the second moves.
  np.testing.assert_array_equal(grid[0, :, 0, 0, 0], [X[7, 0, 0, 0]] * 3)
  ends = z.mean(axis=0) + np.outer([-0.5, 0, 0.5], z.std(axis=0))
  raw = np.round((ends[:, 1] / 2 + 1) * 8)
  np.testing.assert_allclose(grid[0, :, 0, 1, 0], raw, atol=1)
  np.testing.assert_array_equal(grid[1, :, 0, 1, 0], [X[7, 0, 1, 0]] * 3)


@pytest.mark.parametrize(
  ('options', 'message'),
  [({'steps': 1}, 'steps must be >= 2'), ({'extent': 0.0}, 'extent > 0'),
   ({'example': 200}, r'example must be in \[0, 200\)'),
   ({'examples': 0}, 'examples >= 1')],
)  # fmt: skip
def test_options_out_of_range_are_named(options, message):
  with pytest.raises(ValueError, match=message):
    traversal.traverse(*ARGS, **options)


def test_what_a_method_lacks_is_named():
  without = (METHOD._replace(queries={}), *ARGS[1:])
  with pytest.raises(ValueError, match="needs the query 'encode'; the method has none"):
    codes.encode(*without)


PRIOR = {
  'label': jax.random.randint(jax.random.key(1), (2000,), 0, 4),
  'continuous': jax.random.uniform(jax.random.key(2), (2000, 2), minval=-1.0),
  'noise': jax.random.normal(jax.random.key(3), (2000, 3)),
}


def drawing(z):
  """Pixels: the class, the two numbers, the first noise, each in the levels' range."""
  columns = z['label'] / 8.0, *z['continuous'].T / 2, jnp.tanh(z['noise'][:, 0])
  return jnp.stack([c - 0.0 for c in columns], axis=1).reshape(-1, 2, 2, 1)


GENERATOR = METHOD._replace(
  card=CARD._replace(condition=('label',)),
  queries={
    'prior': lambda model, key, num, *, condition=None: PRIOR,
    'decode': lambda model, key, z, *, condition=None: drawing(z),
  },
)


def test_a_generator_s_codes_are_moved_each_by_itself_and_its_noise_is_not():
  found = traversal.traverse(GENERATOR, *ARGS[1:], steps=3, example=5, examples=2)
  kind = found.values['rows'][1]
  assert kind == 'codes label 0 to 3, continuous 0, continuous 1, 2 rows each'
  np.testing.assert_array_equal(found.arrays['dimension'], [0, 0, 0, 0, 1, 1])
  grid = np.asarray(found.arrays['grid'], int).reshape(6, 4, 4)  # [rows, columns, D]

  def raw(x):
    return np.asarray(WAY.inverse(jnp.asarray(x)), int)

  np.testing.assert_array_equal(grid[:2, :, 0], [raw(np.arange(4) / 8.0)] * 2)
  std = np.asarray(PRIOR['continuous']).std(axis=0)
  mean = np.asarray(PRIOR['continuous']).mean(axis=0)
  for i in (0, 1):
    at = mean[i] + 2.5 * std[i] * np.linspace(-1, 1, 4)
    for row in (2 + 2 * i, 3 + 2 * i):
      np.testing.assert_allclose(grid[row, :, 1 + i], raw(at / 2), atol=1)
  own = raw(drawing({k: v[5:7] for k, v in PRIOR.items()})).reshape(2, 4)
  for row in range(6):  # all but the moved one are the example's
    kept = [d for d in range(4) if d != row // 2]
    for d in kept:
      np.testing.assert_array_equal(grid[row, :, d], own[row % 2, d])


def test_a_prior_without_parts_is_moved_in_every_dimension():
  z = jax.random.normal(jax.random.key(4), (50, 2)) * jnp.array([0.1, 0.4])
  queries = {
    'prior': lambda model, key, num, *, condition=None: z,
    'decode': lambda model, key, z, *, condition=None: jnp.concatenate(
      [z, z], 1
    ).reshape(-1, 2, 2, 1),
  }
  method = METHOD._replace(queries=queries)
  found = traversal.traverse(method, *ARGS[1:], steps=2)
  np.testing.assert_array_equal(found.arrays['dimension'], [1, 0])
  np.testing.assert_allclose(found.values['spread_largest'][0], z.std(0)[1], rtol=1e-5)
  with pytest.raises(ValueError, match=r'example must be in \[0, 50\)'):
    traversal.traverse(method, *ARGS[1:], example=50)
