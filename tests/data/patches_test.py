"""Patches are cut where the contrast is, resized as Pillow does, and tell no place."""

import itertools

import jax
import numpy as np
import pytest
from PIL import Image

from gm_jax.data import dataset, patches, registry

GLYPHS = 'patches:glyphs?num=300&faces=serif'


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('GM_JAX_CACHE', str(tmp_path / 'cache'))


def by_brute_force(x, sizes):
  """Every window of every example, one by one."""
  found = np.zeros((*sizes.shape[:2], 4), int)
  for i, image in enumerate(x.astype(float)):
    taken = np.zeros(image.shape[:2], bool)
    for p, (h, w) in enumerate(sizes[i]):
      best = -1.0
      for top, left in itertools.product(
        range(len(image) - h + 1), range(image.shape[1] - w + 1)
      ):
        window = np.s_[top : top + h, left : left + w]
        contrast = np.sqrt(image[window].var(axis=(0, 1)).sum())
        score = round(contrast * (1 - taken[window].mean()), 6)
        if score > best:
          best, found[i, p] = score, (top, left, h, w)
      top, left, h, w = found[i, p]
      taken[top : top + h, left : left + w] = True
  return found


@pytest.mark.parametrize('channels', [1, 3])
def test_boxes_are_those_of_most_contrast_that_no_other_covers(channels):
  rng = np.random.default_rng(0)
  x = rng.integers(0, 256, (5, 9, 8, channels), np.uint8)
  sizes = rng.integers(2, 5, (5, 3, 2))
  np.testing.assert_array_equal(patches.boxes(x, sizes), by_brute_force(x, sizes))
  x = (x / 255).astype(np.float32)
  np.testing.assert_array_equal(patches.boxes(x, sizes), by_brute_force(x, sizes))


def test_an_even_image_has_its_boxes_at_the_top_left():
  found = patches.boxes(np.full((1, 9, 9, 1), 7, np.uint8), np.full((1, 2, 2), 3))
  np.testing.assert_array_equal(found[..., :2], 0)


def test_patches_are_crops_resized_as_pillow_does():
  rng = np.random.default_rng(0)
  x = rng.integers(0, 256, (4, 20, 16, 3), np.uint8)
  found = np.array(
    [
      [[0, 0, 6, 5], [14, 11, 6, 5]],
      [[3, 4, 2, 9], [1, 1, 19, 15]],
      [[0, 0, 20, 16], [5, 5, 7, 7]],
      [[9, 0, 11, 3], [0, 9, 4, 4]],
    ]
  )
  out = patches.cut(x, found)
  assert out.shape == (4, 2, 20, 16, 3) and out.dtype == np.uint8
  for i, p in itertools.product(range(4), range(2)):
    top, left, h, w = found[i, p]
    crop = Image.fromarray(x[i, top : top + h, left : left + w])
    expected = crop.resize((16, 20), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(out[i, p], np.asarray(expected), atol=1)
  np.testing.assert_array_equal(out[2, 0], x[2])  # the whole image is itself
  real = patches.cut(x / np.float32(255), found)
  assert real.dtype == np.float32
  np.testing.assert_allclose(real * 255, out, atol=0.51)


def test_a_patch_tells_neither_its_place_nor_its_scale():
  # One drawing at three places, and enlarged: its patches are the same pixels.
  small = np.random.default_rng(0).integers(0, 256, (4, 4), np.uint8)
  x, found = np.zeros((4, 24, 24, 1), np.uint8), np.zeros((4, 1, 4), int)
  for i, (top, left) in enumerate([(0, 0), (3, 17), (20, 9)]):
    x[i, top : top + 4, left : left + 4, 0] = small
    found[i] = top, left, 4, 4
  x[3, :8, 4:16, 0] = small.repeat(2, axis=0).repeat(3, axis=1)
  found[3] = 0, 4, 8, 12
  out = patches.cut(x, found)
  np.testing.assert_array_equal(out[1:3], out[:1].repeat(2, axis=0))
  blocks = [out[i, 0, :, :, 0].reshape(4, 6, 4, 6).mean(axis=(1, 3)) for i in (0, 3)]
  assert np.corrcoef(*map(np.ravel, blocks))[0, 1] > 0.95


def test_the_set_has_the_patches_masks_and_all_that_the_other_has():
  data, plain = registry.load(GLYPHS), registry.load(GLYPHS.partition(':')[2])
  found, known = data.arrays('test', 40), plain.arrays('test', 40)
  for name in ('x', 'label', 'text'):
    np.testing.assert_array_equal(found[name], known[name])
  assert data.class_names == plain.class_names
  assert found['condition'].shape == (40, 3, 28, 28, 1)
  assert found['condition'].dtype == np.uint8
  assert found['mask'].shape == (40, 28, 28, 3) and found['mask'].dtype == bool
  rows, columns = (found['mask'].any(axis=a).sum(axis=1) for a in (2, 1))
  area = found['mask'].sum(axis=(1, 2))
  np.testing.assert_array_equal(area, rows * columns)  # boxes
  assert rows.min() == columns.min() == 6 and rows.max() == columns.max() == 10
  assert len(np.unique(rows)) == 5
  # At strokes: the pixels under a mask vary far more than others do.
  union = found['mask'].any(axis=3)
  spread = [found['x'][..., 0][m].std() for m in (union, ~union)]
  assert spread[0] > 1.5 * spread[1]
  x = dataset.transformed(data.spec, found)
  assert x['mask'].dtype == np.float32 and set(np.unique(x['mask'])) == {0, 1}
  assert x['condition'].min() >= -1 and x['condition'].max() <= 1
  for name in ('condition', 'mask'):
    assert data.spec.parts[name].shape == x[name].shape[1:]
    assert data.spec.parts[name].dtype == x[name].dtype


def test_batches_have_the_patches_that_the_arrays_have_in_every_epoch_and_shard():
  data = registry.load(GLYPHS.replace('num=300', 'num=20'))
  arrays = data.arrays('train')
  known = {
    x.tobytes(): c for x, c in zip(arrays['x'], arrays['condition'], strict=True)
  }
  batches = list(itertools.islice(data.batches('train', 8, seed=3), 6))
  for batch in batches:
    for x, c in zip(batch['x'], batch['condition'], strict=True):
      np.testing.assert_array_equal(known[x.tobytes()], c)
  again = list(itertools.islice(data.batches('train', 8, seed=3, start=2), 4))
  jax.tree.map(np.testing.assert_array_equal, batches[2:], again)
  halves = [next(data.batches('train', 8, seed=3, shard=(i, 2))) for i in (0, 1)]
  joined = jax.tree.map(lambda *a: np.concatenate(a), *halves)
  jax.tree.map(np.testing.assert_array_equal, batches[0], joined)
  test = data.arrays('test', 20)
  assert (test['mask'].sum((1, 2)) != arrays['mask'].sum((1, 2))).any()  # own sizes


def test_images_of_files_have_patches_too(tmp_path):
  rng = np.random.default_rng(0)
  x = rng.integers(0, 256, (12, 16, 16, 3), np.uint8)
  (tmp_path / 'pics').mkdir()
  for i, pixels in enumerate(x):
    Image.fromarray(pixels).save(tmp_path / 'pics' / f'{i}.png')
  np.savez(tmp_path / 'a.npz', x=x)
  np.savez(tmp_path / 'b.npz', x=x[..., :1] / 255.0)
  for name, channels in ((f'folder:{tmp_path}/pics', 3), (f'npz:{tmp_path}/a.npz', 3),
                         (f'npz:{tmp_path}/b.npz', 1)):  # fmt: skip
    data = registry.load(f'patches:{name}?parts=2&largest=0.5')
    batch = next(data.batches('train', 4, seed=0))
    assert batch['condition'].shape == (4, 2, 16, 16, channels)
    assert batch['condition'].dtype == batch['x'].dtype
    x = dataset.transformed(data.spec, batch)
    assert -1 <= x['condition'].min() < x['condition'].max() <= 1
    assert data.spec.parts['condition'].num_levels == data.spec.num_levels


def test_options_are_of_the_patches_or_of_the_other_set_and_make_the_fingerprint():
  names = ['patches:digits', 'patches:digits?parts=2', 'patches:digits?crop=6',
           'patches:digits?largest=0.5', 'digits']  # fmt: skip
  found = [registry.load(name).fingerprint for name in names]
  assert len(set(found)) == len(names)
  assert registry.load('patches:digits?crop=6&parts=2').spec.parts[
    'condition'
  ].shape == (2, 6, 6, 1)


@pytest.mark.parametrize(
  ('name', 'word'),
  [
    ('patches:', "'patches:' names no data: patches:NAME"),
    ('patches:toy:ring', r'out of images \[H, W, C\], but ring has'),
    ('patches:manual', 'out of images'),
    ('patches:dynamic:digits', 'cut patches first, as in dynamic:patches:NAME'),
    ('patches:digits?parts=0', 'parts must be from 1 to 16, got 0'),
    ('patches:digits?parts=three', "parts='three' must be an integer"),
    ('patches:digits?smallest=0.5', '0 < smallest <= largest <= 1, got 0.5 and 0.35'),
    ('patches:digits?smallest=0.1&largest=0.2', 'too small for patches'),
    ('patches:digits?part=2', "no option 'part'"),
    ('patches:digts', "did you mean 'digits'"),
  ],
)
def test_what_makes_no_sense_is_one_line(name, word):
  with pytest.raises(ValueError, match=word) as error:
    registry.load(name)
  assert '\n' not in str(error.value)
