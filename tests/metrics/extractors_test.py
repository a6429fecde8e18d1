"""Images in one form, resizing, features in chunks, kept statistics, protocols."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from gm_jax import caches
from gm_jax.metrics import extractors, frechet

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (11, 6, 5, 1)).astype(np.uint8)


def projection(params, x):
  features = x.reshape(len(x), -1) @ params
  return features, features[:, :3]


def linear(mark='linear', scale=1.0):
  params = jnp.asarray(scale * np.random.default_rng(1).normal(size=(30, 4)), 'float32')
  return extractors.Extractor('a projection', 'none', params, projection, mark, chunk=4)


def test_intervals_become_0_to_255():
  x = np.array([-1, 0, 0.5, 1], 'f').reshape(1, 2, 2, 1)
  found = extractors.as_images(x, interval=(-1, 1), rounded=False)
  np.testing.assert_allclose(found.ravel(), [0, 127.5, 191.25, 255])
  found = extractors.as_images(x, interval=(-1, 1))
  assert found.dtype == np.uint8
  np.testing.assert_array_equal(found.ravel(), [0, 128, 191, 255])
  levels = np.arange(17, dtype=np.int32)[:, None, None, None]
  found = extractors.as_images(levels, interval=(0, 16)).ravel()
  np.testing.assert_array_equal(found, np.rint(np.arange(17) * 255 / 16))
  assert extractors.as_images(IMAGES, interval=(0, 255)) is IMAGES
  beyond = extractors.scaled(np.array([-3.0, 3.0]), (-1, 1))
  np.testing.assert_array_equal(beyond, [0, 255])


@pytest.mark.parametrize(
  ('x', 'message'),
  [
    (np.zeros((4, 3, 32, 32)), r'seems to be \[N, C, H, W\]'),
    (np.zeros((4, 1, 28, 28)), r'seems to be \[N, C, H, W\]'),
    (np.zeros((4, 8, 8, 4)), 'C 1 or 3'),
    (np.zeros((4, 64)), 'C 1 or 3'),
    (np.zeros((0, 8, 8, 1)), 'no pixels'),
    (np.linspace(0, 1, 64).reshape(1, 8, 8, 1), r'seem to be in \[0, 1\]'),
    (np.linspace(0, 255, 64).reshape(1, 8, 8, 1), 'values from 0 to 255, expected'),
    (np.full((1, 8, 8, 1), np.nan), 'not finite'),
  ],
)
def test_other_layouts_and_intervals_are_named(x, message):
  with pytest.raises(ValueError, match=message):
    extractors.as_images(x, interval=(-1, 1))


@pytest.mark.parametrize('side', [9, 400])
def test_the_clean_resize_is_that_of_pillow(side):
  x = np.random.default_rng(0).integers(0, 256, (side, side + 4)).astype(np.float32)
  found = extractors.CLEAN.fn(x[None, :, :, None])[0, :, :, 0]
  bicubic = Image.Resampling.BICUBIC
  expected = np.asarray(Image.fromarray(x).resize((299, 299), bicubic))
  np.testing.assert_allclose(found, expected, atol=0.02)  # of 255


def test_features_do_not_depend_on_chunks():
  extractor = linear()
  found, logits = extractors.extract(extractor, IMAGES)
  expected = IMAGES.reshape(11, -1).astype('f') @ np.asarray(extractor.params)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-2)
  np.testing.assert_array_equal(logits, found[:, :3])
  whole, _ = extractors.extract(extractor._replace(chunk=100), IMAGES)
  np.testing.assert_allclose(whole, found, rtol=1e-5, atol=1e-3)


@pytest.fixture
def folder(monkeypatch, tmp_path):
  monkeypatch.setenv('GM_JAX_CACHE', str(tmp_path / 'kept'))
  return tmp_path / 'kept'


def same(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_statistics_are_kept_by_data_and_features(folder, monkeypatch):
  first = extractors.statistics(linear(), IMAGES)
  same(first, extractors.summary(*extractors.extract(linear(), IMAGES)))
  mean, cov = frechet.moments(jnp.asarray(first.features))
  np.testing.assert_allclose(first.moments[0], mean, rtol=1e-5)
  np.testing.assert_allclose(first.moments[1], cov, rtol=1e-4, atol=1e-2)
  assert len(list(folder.iterdir())) == 1
  with monkeypatch.context() as patch:
    patch.setattr(extractors, 'extract', None)  # not to be called
    same(extractors.statistics(linear(), IMAGES.copy()), first)
  others = IMAGES.copy()
  others[7, 2, 2] ^= 1
  assert not np.array_equal(extractors.statistics(linear(), others)[0], first[0])
  double = extractors.statistics(linear('double', 2.0), IMAGES)
  np.testing.assert_allclose(double.features, 2 * first.features, rtol=1e-5)
  extractors.statistics(linear(), IMAGES[:5])
  assert len(list(folder.iterdir())) == 4


def test_damaged_files_are_replaced(folder):
  first = extractors.statistics(linear(), IMAGES)
  (path,) = folder.iterdir()
  good = dict(np.load(path))
  damages = [
    lambda: path.write_bytes(path.read_bytes()[:200]),
    lambda: np.savez(path, **good | {'features': good['features'][:3]}),
    lambda: np.savez(path, **good | {'mean': good['mean'] * np.nan}),
    lambda: np.savez(path, **{k: v for k, v in good.items() if k != 'mean'}),
    lambda: np.savez(path, **good | {'covariance': good['covariance'][0]}),
  ]
  for damage in damages:
    damage()
    same(extractors.statistics(linear(), IMAGES), first)
    same(caches.read(path), good)


def test_functions_are_not_kept_and_folders_need_not_be_there(folder, monkeypatch):
  extractors.statistics(extractors.pixels(), IMAGES)
  assert not folder.exists()
  folder.write_text('a file')
  monkeypatch.setenv('GM_JAX_CACHE', str(folder / 'below'))
  extractors.statistics(linear(), IMAGES)


def test_moments_of_very_many_features_are_not_made(monkeypatch):
  monkeypatch.setattr(extractors, 'MOMENTS', 29)
  assert extractors.summary(IMAGES.reshape(11, -1).astype('f')).moments is None


def test_features_that_are_not_finite_are_refused():
  extractor = extractors.from_function('nothing', lambda x: x[:, 0, 0] * jnp.nan)
  with pytest.raises(ValueError, match='nothing: features that are not finite'):
    extractors.extract(extractor, IMAGES)


def test_a_protocol_is_one_line():
  extractor = extractors.pixels()
  line = extractors.Protocol(extractor, 360, 300, 'test', (8, 9), True).line()
  assert line == (
    'features: pixels in [0, 1]; resize: none from 8x9; real: 360 (test); fake: 300;'
    ' rounded to 8 bits'
  )
  line = extractors.Protocol(extractor, 9, 7, 'all', (8, 8), False).line()
  assert line.endswith('real: 9 (all); fake: 7; not rounded')


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('inceptoin:w.npz', 'no features .* one of: pixels, classifier, inception:FILE'),
    ('inception', 'no features'),
    ('inception:/nowhere.npz', '/nowhere.npz: no such file'),
    ('inception:/w.npz?resize=fast', 'after the . comes resize=clean or'),
  ],
)
def test_unknown_features_are_one_line(text, message):
  with pytest.raises(ValueError, match=message):
    extractors.by_name(text, lambda: None)


def test_fingerprints_change_with_what_they_are_of():
  tree = {'a': jnp.arange(5000.0), 'b': 'text'}
  first = extractors.fingerprint(tree)
  assert first == extractors.fingerprint({'b': 'text', 'a': np.arange(5000, dtype='f')})
  changed = tree['a'].at[2500].add(1e-3)  # which no repr shows
  for other in ({'c': tree['a'], 'b': 'text'}, tree | {'a': changed}, tree | {'b': ''}):
    assert extractors.fingerprint(other) != first
