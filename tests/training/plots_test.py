"""Pictures: the pixels of the files show the data."""

import sys

import numpy as np
import pytest
from PIL import Image

from gm_jax.training import plots


def _pixels(path):
  assert path.stat().st_size < 200_000
  return np.asarray(Image.open(path).convert('RGB'), int)


def _near(pixels, color, tolerance=12):
  rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
  return np.all(np.abs(pixels - rgb) <= tolerance, -1)


@pytest.mark.parametrize('size, channels', [(8, 1), (28, 1), (32, 3), (100, 3)])
def test_image_grid_shows_each_image_pixel_by_pixel(tmp_path, size, channels):
  key = np.random.default_rng(0)
  images = key.uniform(-1, 1, (5, size, size, channels)).astype(np.float32)
  images[0], images[1] = -1, 1
  path = tmp_path / 'grid.png'
  plots.image_grid(path, images, columns=3)
  factor = max(1, round(plots.CELL / size))
  wide = size * factor + plots.GAP
  pixels = _pixels(path)
  assert pixels.shape == (2 * wide + plots.GAP, 3 * wide + plots.GAP, 3)
  for i, image in enumerate(images):
    y = i // 3 * wide + plots.GAP
    x = i % 3 * wide + plots.GAP
    shown = pixels[y : y + factor * size : factor, x : x + factor * size : factor]
    np.testing.assert_allclose(shown, (image + 1) * 127.5 + 0 * shown, atol=0.51)
    crisp = shown.repeat(factor, 0).repeat(factor, 1)
    block = pixels[y : y + factor * size, x : x + factor * size]
    np.testing.assert_array_equal(block, crisp)


def test_image_grid_of_bad_values_and_shapes(tmp_path):
  values = np.array([np.nan, 7, -np.inf], np.float32)
  images = np.broadcast_to(values[:, None, None, None], (3, 8, 8, 1))
  plots.image_grid(tmp_path / 'new' / 'a.png', images, columns=3)
  pixels = _pixels(tmp_path / 'new' / 'a.png')
  centers = pixels[36, [36, 36 + 68, 36 + 2 * 68], 0]
  np.testing.assert_array_equal(centers, [128, 255, 0])
  for wrong in (np.zeros((3, 8, 8)), np.zeros((0, 8, 8, 1)), np.zeros((2, 8, 8, 0))):
    with pytest.raises(ValueError, match='images must be'):
      plots.image_grid(tmp_path / 'b.png', wrong)
  assert not (tmp_path / 'b.png').exists()


def test_side_by_side_shows_each_set_under_its_name(tmp_path):
  black, gray = -np.ones((4, 8, 8, 1)), np.zeros((6, 8, 8, 1))
  path = tmp_path / 'both.png'
  plots.side_by_side(path, {'1 $\\bad': black, 'samples': gray}, columns=2)
  pixels = _pixels(path)
  width = 2 * 68 + plots.GAP
  assert pixels.shape == (plots.STRIP + 3 * 68 + plots.GAP, 2 * width + 16, 3)
  y = plots.STRIP + plots.GAP + 32
  assert (pixels[y, plots.GAP + 32] == 0).all()
  assert (pixels[y, width + 16 + plots.GAP + 32] == 128).all()
  assert (pixels[-36, 36] == 255).all()  # the first set has no third row
  for x in (0, width + 16):
    assert (pixels[: plots.STRIP, x : x + 60] < 100).any()


def test_sets_go_on_below_after_so_many(tmp_path):
  shades = {str(i): np.full((1, 8, 8, 1), i / 2 - 1) for i in range(3)}
  path = tmp_path / 'three.png'
  plots.side_by_side(path, shades, sets=2)
  pixels = _pixels(path)
  width = 68 + plots.GAP
  line = plots.STRIP + width
  assert pixels.shape == (2 * line, 2 * width + 16, 3)
  middle = plots.STRIP + 34
  for i, (y, x) in enumerate(((middle, 34), (middle, width + 50), (line + middle, 34))):
    assert abs(int(pixels[y, x, 0]) - round(255 * i / 4)) <= 1
  assert (pixels[line + middle, 100:] == 255).all()


def test_scatter_panels_show_points_reference_and_what_is_outside(tmp_path):
  rng = np.random.default_rng(0)
  reference = rng.normal(size=(400, 2))
  rows = {
    'plain': [('step 0', reference * 0.1), ('step 9', reference * 0.3)],
    'unrolled': [('step 0', np.full((10, 2), [50.0, np.nan]))],
  }
  path = tmp_path / 'points.png'
  plots.scatter_panels(path, rows, reference=reference)
  pixels = _pixels(path)
  height, width, _ = pixels.shape
  top, left = pixels[: height // 2], pixels[:, : width // 2]
  assert _near(pixels, '#BBBBBB').sum() > 300
  assert _near(top, plots.COLORS[0]).sum() > 100
  below = left[height // 2 :]
  assert _near(below, plots.COLORS[0]).sum() == 0
  assert _near(below, plots.COLORS[1], 60).sum() > 5  # '10 outside'
  assert _near(top, plots.COLORS[1], 60).sum() == 0
  empty = pixels[height // 2 :, width // 2 + 20 :]
  assert (empty == 255).all()
  plots.scatter_panels(path, {'a': [('t', reference)]}, limits=(-1, 1))
  assert _near(_pixels(path), plots.COLORS[0]).sum() > 100


def test_scatter_points_stand_where_they_should(tmp_path):
  path = tmp_path / 'points.png'
  corner = np.tile([0.5, 0.5], (3, 1))
  plots.scatter_panels(path, {'': [('', corner)]}, limits=(-1, 1))
  pixels = _pixels(path)
  ys, xs = np.nonzero(_near(pixels, plots.COLORS[0], 60))
  dark = np.argwhere((pixels < 60).all(-1))  # the frame
  (top, left), (bottom, right) = dark.min(0), dark.max(0)
  assert abs((xs.mean() - left) / (right - left) - 0.75) < 0.02
  assert abs((ys.mean() - top) / (bottom - top) - 0.25) < 0.02


def test_rolls_have_a_dark_cell_for_every_note_at_its_height(tmp_path):
  path = tmp_path / 'rolls.png'
  plots.rolls(path, np.array([[0, 4, 2, 2, 1]]), 5)
  pixels = _pixels(path)[plots.GAP : -plots.GAP, plots.GAP : -plots.GAP, 0]
  size = len(pixels) // 5
  dark = pixels[size // 2 :: size, size // 2 :: size] < 60
  np.testing.assert_array_equal(np.argmax(dark[::-1], axis=0), [0, 4, 2, 2, 1])
  assert dark.sum() == 5


def test_pages_have_a_line_for_every_text(tmp_path):
  path = tmp_path / 'page.png'
  plots.page(path, ['one $x$', 'two\n', '', 'four'])
  dark = (_pixels(path) < 128).all(-1)
  lines = dark[: 4 * plots.STRIP].reshape(4, plots.STRIP, -1).any((1, 2))
  np.testing.assert_array_equal(lines, [True, True, False, True])


def test_curves_have_colors_and_a_band(tmp_path):
  x = np.arange(1, 60)
  lines = {'falls': (x, 1 / x), 'rises': (x, x / 60, 0.1 + 0 * x)}
  path = tmp_path / 'curves.png'
  plots.curves(path, lines, xlabel='step', ylabel='nats')
  pixels = _pixels(path)
  assert all(_near(pixels, color).sum() > 100 for color in plots.COLORS[:2])
  assert _near(pixels, '#F7DFCC').sum() > 1000  # the band, a fifth of the color
  many = {str(i): (x, x + i) for i in range(9)}
  plots.curves(path, many, xlabel='', ylabel='')
  wide = _pixels(path)  # with room for a legend beside the lines
  assert wide.shape[0] == pixels.shape[0] and wide.shape[1] > 1.3 * pixels.shape[1]
  assert (wide[10:-10, -100:] < 128).all(-1).any()


def test_heat_maps_have_a_color_for_every_value(tmp_path):
  values = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
  texts = [[''] * 3, [''] * 3]
  path = tmp_path / 'maps.png'
  axes = {'x': ('x', 'abc'), 'y': ('y', 'de'), 'limits': (0.0, 1.0), 'label': ''}
  plots.heat_maps(path, {'one': (values, texts)}, columns=1, **axes)
  first, last = (_near(_pixels(path), color) for color in ('#440154', '#FDE725'))
  # Of six cells one is full; the bar adds a little of each.
  assert 4 < first.sum() / last.sum() < 5.5
  rows, columns = np.nonzero(first)
  yellow = np.argwhere(last[:, : columns.max() // 2])
  assert yellow[:, 0].mean() > rows.mean()  # the first row is the lowest


def test_no_global_figure_and_no_leftovers(tmp_path):
  plots.curves(tmp_path / 'a.png', {}, xlabel='x', ylabel='y')
  assert [p.name for p in tmp_path.iterdir()] == ['a.png']
  assert not getattr(sys.modules.get('matplotlib.pyplot'), 'get_fignums', list)()
