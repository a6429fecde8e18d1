"""The task of in-painting: completions drawn from a distribution that is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from gm_jax import base, diffusion
from gm_jax.data import transforms
from gm_jax.tasks import inpainting, results
from gm_jax.training import own_images
from gm_jax.training import setup as setup_lib

SHAPE = (4, 4, 1)
PLAIN = base.DataSpec(SHAPE, jnp.dtype('f4'), None, None, None, transforms.identity())
LEVELS = base.DataSpec(
  SHAPE, jnp.dtype('f4'), 17, 3, None, transforms.scaling(17), base.NOTHING
)
KEY, STD = jax.random.key(0), 0.3


def method_of(impute, **card):
  queries = {} if impute is None else {'impute': impute}
  return base.Method(diffusion.CARD._replace(**card), None, None, queries=queries)


def mirrored(model, key, x, observed, *, num, condition=None):
  """The lower half is the upper one and noise: a draw from the truth of `data`."""
  del condition
  noise = STD * jax.random.normal(key, (num, *x.shape))
  out = jnp.where(observed, x, jnp.roll(x, 2, axis=1) + noise)
  return out + model  # an error of every number


def data(num):
  rng = np.random.default_rng(0)
  upper = rng.normal(size=(num, 2, 4, 1))
  lower = upper + STD * rng.normal(size=upper.shape)
  return {'x': np.concatenate([upper, lower], axis=1).astype(np.float32)}


def test_errors_of_draws_from_the_truth_are_told_by_their_spread():
  """E error^2 = 2 V of one and (1 + 1/n) V of the mean of n, V the spread squared."""
  arrays, num, each = {'test': data(300)}, 300, 4
  task = jax.jit(lambda model: results.numbers(inpainting.inpaint(
    method_of(mirrored), model, KEY, arrays, PLAIN, num=num, completions=each
  )))  # fmt: skip
  found = {name: float(v) for name, v in task(0.0).items()}
  variance, size = STD**2, num * 8  # hidden numbers
  np.testing.assert_allclose(found['spread'] ** 2, variance, rtol=4 / np.sqrt(size))
  for name, factor in (('error', 2.0), ('error_of_mean', 1 + 1 / each)):
    np.testing.assert_allclose(found[name] ** 2, factor * variance, rtol=0.12)
  assert found['known_change'] == 0 and found['num'] == num
  # Of a method that moves all of it by a tenth.
  moved = {name: float(v) for name, v in task(0.1).items()}
  np.testing.assert_allclose(moved['known_change'], 0.1, rtol=1e-5)
  np.testing.assert_allclose(moved['spread'], found['spread'], rtol=1e-5)
  assert moved['error_of_mean'] > found['error_of_mean']


def test_arrays_are_raw_and_a_row_is_an_image_what_is_known_and_completions():
  raw = np.random.default_rng(1).integers(0, 17, (5, *SHAPE))
  arrays = {'test': {'x': raw, 'label': np.arange(5) % 3}}

  def impute(model, key, x, observed, *, num, condition=None):
    """Every hidden number is told by the class, 0 or 1 and 2 up to noise."""
    values = jnp.broadcast_to(condition[:, None, None, None] / 8 - 1, x.shape)
    return jnp.stack([jnp.where(observed, x, values)] * num)

  method = method_of(impute, condition=('label',))
  found = inpainting.inpaint(
    method, None, KEY, arrays, LEVELS, num=2, example=1, completions=3, mask='side'
  )
  np.testing.assert_array_equal(found.arrays['inputs'], raw[1:3])
  grid = np.asarray(found.arrays[results.GRID])
  assert grid.shape == (2, 5, *SHAPE)
  np.testing.assert_array_equal(grid[:, 0], raw[1:3])
  np.testing.assert_array_equal(grid[:, 1, :, :2], raw[1:3, :, :2])
  assert (grid[:, 1, :, 2:] == 8).all()  # gray
  np.testing.assert_array_equal(
    grid[:, 2:], found.arrays[results.OUTPUTS].reshape(2, 3, *SHAPE)
  )
  np.testing.assert_array_equal(grid[:, 2, :, :2], raw[1:3, :, :2])
  for image, label in zip(grid, (1, 2), strict=True):
    assert (image[2:, :, 2:] == label).all()
  # Another class than its own, and of one completion nothing is said of a spread.
  other = inpainting.inpaint(
    method, None, KEY, arrays, LEVELS, completions=1, mask='side',
    condition=lambda num: np.full(num, 2),
  )  # fmt: skip
  assert (other.arrays[results.OUTPUTS][:, :, 2:] == 2).all()
  assert 'spread' not in other.values and other.values['num'][0] == 5


def test_masks_hide_what_their_names_say():
  shape = (8, 8, 3)
  seen = {name: inpainting.observed_of(name, shape) for name in inpainting.MASKS}
  assert seen['half'][:4].all() and not seen['half'][4:].any()
  np.testing.assert_array_equal(seen['side'], seen['half'].T)
  assert not seen['center'][2:6, 2:6].any() and seen['center'].sum() == 48
  np.testing.assert_array_equal(seen['border'], ~seen['center'])
  assert seen['lines'][::2].all() and not seen['lines'][1::2].any()
  rows, columns = np.nonzero(~seen['box'])
  assert len(rows) == 16 and np.ptp(rows) == np.ptp(columns) == 3
  assert 16 < seen['random'].sum() < 48
  wide = inpainting.observed_of('center', (4, 12, 1))
  np.testing.assert_array_equal(np.nonzero(~wide[1])[0], range(3, 9))


@pytest.mark.parametrize(
  ('options', 'word'),
  [
    ({'mask': 'hole'}, "no mask 'hole'; there are: half"),
    ({'mask': np.ones((4, 5), bool)}, 'a mask of 4x5 .* images are of 4x4'),
    ({'mask': np.ones((4, 4), bool)}, 'hides nothing'),
    ({'mask': np.zeros((4, 4), bool)}, 'hides everything'),
    ({'num': 0}, 'num and completions must be >= 1'),
    ({'completions': 0}, 'got 8, 0 and 0'),
    ({'example': 6}, 'example from 0 to 5'),
    ({'split': 'validation'}, 'needs the validation split'),
  ],
)
def test_what_cannot_be_completed_is_one_line(options, word):
  with pytest.raises(ValueError, match=word) as error:
    inpainting.inpaint(
      method_of(mirrored), 0.0, KEY, {'test': data(6)}, PLAIN, **options
    )
  assert '\n' not in str(error.value)


def test_other_methods_other_data_and_other_sizes_are_one_line():
  call, arrays = inpainting.inpaint, {'test': data(3)}
  with pytest.raises(ValueError, match="needs the query 'impute'; the method has none"):
    call(method_of(None), None, KEY, arrays, PLAIN)
  points = PLAIN._replace(shape=(2,))
  with pytest.raises(ValueError, match=r'is of images .* is \[2\]'):
    call(method_of(mirrored), None, KEY, {'test': {'x': np.ones((3, 2))}}, points)
  large = {'test': {'x': np.ones((3, 8, 8, 1), np.float32)}}
  with pytest.raises(ValueError, match='images of 8x8x1 .* this model takes 4x4x1'):
    call(method_of(mirrored), 0.0, KEY, large, PLAIN)


def test_a_file_of_a_mask_is_true_where_the_image_is_known(tmp_path):
  seen = np.random.default_rng(0).random((5, 7)) < 0.5
  np.save(tmp_path / 'a.npy', seen[..., None])
  np.save(tmp_path / 'b.npy', seen.astype(int))
  Image.fromarray(seen.astype(np.uint8) * 255).save(tmp_path / 'c.png')
  for name in ('a.npy', 'b.npy', 'c.png'):
    np.testing.assert_array_equal(own_images.mask(str(tmp_path / name)), seen)
  assert own_images.mask('half') == 'half'
  np.save(tmp_path / 'd.npy', np.linspace(0, 1, 35).reshape(5, 7))
  np.save(tmp_path / 'e.npy', np.zeros((5, 7, 3)))
  (tmp_path / 'f.png').write_bytes(b'no picture')
  (tmp_path / 'g.npy').write_bytes(b'no array')
  for name, word in (
    ('d.npy', 'holds float64 .5, 7.; a mask is'), ('e.npy', r'\[5, 7, 3\]; a mask is'),
    ('f.png', 'cannot be read'), ('g.npy', 'cannot be read'),
    ('h.npy', 'No such file'), ('h.png', 'No such file'),
  ):  # fmt: skip
    with pytest.raises(setup_lib.UsageError, match=word) as error:
      own_images.mask(str(tmp_path / name))
    assert '\n' not in str(error.value)
