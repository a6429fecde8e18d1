"""Each augmentation keeps what it says it keeps, and is as large as it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gm_jax import augmentation

KEY = jax.random.key(0)
X = jax.random.uniform(jax.random.key(1), (400, 8, 8, 3), minval=-1.0)


def spread(values, low, high):
  """Draws fill the interval, and stay inside."""
  values = np.asarray(values).ravel()
  assert values.min() >= low - 1e-5 and values.max() <= high + 1e-5
  width = high - low
  assert values.min() < low + 0.03 * width and values.max() > high - 0.03 * width
  np.testing.assert_allclose(values.mean(), (low + high) / 2, atol=0.1 * width)


def test_brightness_moves_all_pixels_alike():
  moved = augmentation.brightness(KEY, X) - X
  np.testing.assert_allclose(moved, moved[:, :1, :1, :1] + 0 * X, atol=1e-6)
  spread(moved[:, 0, 0, 0], -0.5, 0.5)


def test_saturation_scales_about_the_mean_over_channels():
  y = augmentation.saturation(KEY, X)
  np.testing.assert_allclose(y.mean(3), X.mean(3), atol=1e-6)
  scale = (y - y.mean(3, keepdims=True)).std((1, 2, 3)) / (
    X - X.mean(3, keepdims=True)
  ).std((1, 2, 3))
  spread(scale, 0.0, 2.0)
  gray = X[..., :1]  # one channel: nothing to do
  np.testing.assert_allclose(augmentation.saturation(KEY, gray), gray, atol=1e-6)


def test_contrast_scales_about_the_mean_of_the_image():
  y = augmentation.contrast(KEY, X)
  np.testing.assert_allclose(y.mean((1, 2, 3)), X.mean((1, 2, 3)), atol=1e-6)
  spread(y.std((1, 2, 3)) / X.std((1, 2, 3)), 0.5, 1.5)


def test_noise_is_gaussian_and_each_number_s_own():
  moved = np.asarray(augmentation.noise(0.3)(KEY, X) - X) / 0.3
  assert stats.kstest(moved.ravel()[::4], 'norm').pvalue > 1e-3
  # Of 400 images, neighboring pixels and channels: correlations of 1 / sqrt(N).
  for a, b in ((moved[1:], moved[:-1]), (moved[:, 1:], moved[:, :-1]),
               (moved[..., 1:], moved[..., :-1])):  # fmt: skip
    assert abs((a * b).mean()) < 5 / np.sqrt(a.size)
  np.testing.assert_array_equal(augmentation.noise(0.0)(KEY, X), X)
  with pytest.raises(ValueError, match='std must be >= 0, got -1'):
    augmentation.noise(-1)


def test_translation_is_one_of_the_moves_and_all_of_them_come():
  y = np.asarray(augmentation.translation(KEY, X))
  padded = np.pad(X, ((0, 0), (1, 1), (1, 1), (0, 0)))  # an eighth of 8 is 1
  counts = np.zeros((3, 3), int)
  for i in range(len(X)):
    matches = [
      (u, v)
      for u in range(3)
      for v in range(3)
      if np.array_equal(y[i], padded[i, u : u + 8, v : v + 8])
    ]
    assert len(matches) == 1
    counts[matches[0]] += 1
  assert np.abs(counts - 400 / 9).max() < 4 * np.sqrt(400 * 8 / 81)


def test_cutout_hides_one_rectangle_of_half_of_each_side():
  hidden = np.asarray((augmentation.cutout(KEY, X) == 0).all(3))
  kept = np.where(hidden[..., None], 0.0, X)
  np.testing.assert_array_equal(augmentation.cutout(KEY, X), kept)
  rows, columns = hidden.any(2), hidden.any(1)
  np.testing.assert_array_equal(hidden, rows[:, :, None] & columns[:, None, :])
  for side in (rows, columns):
    size = side.sum(1)
    assert size.max() == 4 and size.min() == 2  # at the border a half of it is outside
    edges = np.abs(np.diff(side.astype(int), axis=1)).sum(1)
    assert (edges <= 2).all()  # in one piece
  assert len({tuple(r) for r in rows.tolist()}) == 9  # centers 0 to 8


def test_composed_parts_have_keys_of_their_own():
  twice = augmentation.compose(augmentation.brightness, augmentation.brightness)
  first, second = jax.random.split(KEY)
  expected = augmentation.brightness(second, augmentation.brightness(first, X))
  np.testing.assert_array_equal(twice(KEY, X), expected)


@pytest.mark.parametrize('p', [0.0, 0.3, 1.0])
def test_so_many_examples_are_augmented_as_the_probability_says(p):
  y = augmentation.with_probability(lambda key, x: x + 5.0, jnp.array(p))(KEY, X)
  changed = np.asarray((y != X).any((1, 2, 3)))
  np.testing.assert_allclose(y, X + 5.0 * changed[:, None, None, None], atol=1e-6)
  assert abs(changed.mean() - p) <= 4 * np.sqrt(p * (1 - p) / 400)


@pytest.mark.parametrize('name', ['color', 'translation', 'cutout', 'everything'])
def test_gradient_passes_through(name):
  augment = getattr(augmentation, name)
  x = X[:3]
  way = jax.random.normal(jax.random.key(2), x.shape)
  _, slope = jax.jvp(lambda x: augment(KEY, x), (x,), (way,))
  step = 1e-3
  change = (augment(KEY, x + step * way) - augment(KEY, x - step * way)) / (2 * step)
  np.testing.assert_allclose(slope, change, atol=2e-3)
  assert float(jnp.abs(slope).max()) > 0.1


def test_points_are_no_images():
  with pytest.raises(ValueError, match='images .B, H, W, C.'):
    augmentation.brightness(KEY, jnp.zeros((4, 2)))
