"""Pictures of what people have: any number of channels, any name, any letters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import figure as figures
from PIL import Image

from gm_jax import base
from gm_jax.data import dataset, transforms
from gm_jax.training import inference, pictures, plots
from gm_jax.training import setup as setup_lib

NAMES = ['a$x_$b', r'\frac{', '$', '^_{}%#&~', '_hidden', 'a\nb', 'caf\u00e9 \udcff']


def pixels(path):
  return np.asarray(Image.open(path).convert('RGB'), int)


def stand_in(spec, arrays, samples, **fields):
  """A Setup and a Phase whose method draws these samples, in model space."""
  data = dataset.in_memory('data', spec, {'train': arrays, 'test': arrays})
  data = data._replace(**fields)
  condition = ('label',) if spec.num_classes else ()
  card = base.Card(
    'none', 'none', 'none', 'exact', 'one_pass', (), 'none', 'any', condition
  )

  def sample(model, key, num, *, condition=None):
    drawn = jnp.resize(samples, (num, *spec.shape))
    return drawn if condition is None else drawn * 0 + condition[:, None, None, None]

  method = base.Method(card, None, None, sample)
  settings = setup_lib.loop.Settings(steps=1)
  return (
    setup_lib.Setup(data, settings, 1, None, None, None),
    base.Phase(method, 1, spec),
  )


def state():
  empty = jnp.zeros(())
  return base.State(jnp.int32(3), {'w': empty}, {}, (), ())


def image_spec(channels, way, *, levels=None, classes=None):
  return base.DataSpec((4, 5, channels), jnp.float32, levels, classes, None, way)


@pytest.mark.parametrize('channels', [2, 4, 5, 12])
def test_channels_stand_side_by_side_in_gray(tmp_path, channels):
  images = np.random.default_rng(0).uniform(-1, 1, (3, 8, 8, channels))
  plots.image_grid(tmp_path / 'a.png', images, columns=2)
  found, shown = pixels(tmp_path / 'a.png'), min(channels, plots.CHANNELS)
  cell, gap = 64, plots.GAP // 2
  wide = shown * (cell + gap) - gap + plots.GAP
  assert found.shape == (2 * (cell + plots.GAP) + plots.GAP, 2 * wide + plots.GAP, 3)
  for i, image in enumerate(images):
    for c in range(shown):
      y = plots.GAP + i // 2 * (cell + plots.GAP)
      x = plots.GAP + i % 2 * wide + c * (cell + gap)
      block = found[y : y + cell : 8, x : x + cell : 8]
      expected = np.round((image[..., c, None] + 1) * 127.5)
      np.testing.assert_allclose(block, expected + 0 * block, atol=1)


@pytest.mark.parametrize('name', NAMES)
def test_names_are_never_mathematics(tmp_path, name):
  points = np.zeros((3, 2))
  plots.scatter_panels(tmp_path / 'a.png', {name: [(name, points)]})
  plots.curves(tmp_path / 'b.png', {name: ([0, 1], [1, 2])}, xlabel=name, ylabel=name)
  image = np.zeros((1, 8, 8, 1))
  plots.side_by_side(tmp_path / 'c.png', {name: image})
  plots.image_grid(tmp_path / 'd.png', image, heads=[name])
  plots.page(tmp_path / 'e.png', [name])
  assert len(list(tmp_path.iterdir())) == 5


def test_dollars_are_drawn_as_dollars(tmp_path):
  image = np.zeros((1, 64, 64, 1))
  for i, name in enumerate(('$l$', 'l')):
    plots.side_by_side(tmp_path / f'{i}.png', {name: image})
  dark = [(pixels(tmp_path / f'{i}.png')[: plots.STRIP] < 128).sum() for i in (0, 1)]
  assert dark[0] > 2 * dark[1]


def test_label_that_begins_with_an_underscore_has_its_line_in_the_legend(tmp_path):
  for i, label in enumerate(('_m', ' ')):
    lines = {label: ([0, 1], [0, 1])}
    plots.curves(tmp_path / f'{i}.png', lines, xlabel='', ylabel='')
  assert (pixels(tmp_path / '0.png') != pixels(tmp_path / '1.png')).any()


def test_letters_without_a_glyph_are_said_once(tmp_path, capfd, recwarn):
  plots._say_boxes.cache_clear()
  for i in range(3):
    plots.page(tmp_path / f'{i}.png', ['\u6570\u5b57\x00\x07', '\u65e5\u672c', 'abc'])
  lines = capfd.readouterr().err.splitlines()
  assert lines == [
    'warning: letters that the font of pictures lacks are drawn as boxes'
  ]
  assert not recwarn.list
  assert (pixels(tmp_path / '0.png') < 128).sum() > 20


def test_other_warnings_of_a_picture_are_not_swallowed(tmp_path):
  figure = figures.Figure(figsize=(1, 1))
  with pytest.warns(UserWarning, match='Tight layout not applied'):
    axis = figure.subplots()
    axis.set_ylabel('y' * 500)
    axis.set_title('x\n' * 100)
    plots._save(tmp_path / 'a.png', figure, pad=1.0)


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_painter_draws_images_of_any_number_of_channels(tmp_path, channels):
  spec = image_spec(channels, transforms.scaling(256), levels=256)
  raw = np.full((6, *spec.shape), 200, np.uint8)
  samples = spec.transform.forward(None, raw)
  setup, phase = stand_in(spec, {'x': raw}, samples)
  pictures.painter(setup, phase)(tmp_path / 'a.png', state())
  found = pixels(tmp_path / 'a.png')
  assert set(np.unique(found)) == {200, 255}


def test_float_images_are_drawn_by_their_transform(tmp_path):
  spec = image_spec(1, transforms.interval(0.0, 255.0))
  raw = np.full((6, *spec.shape), 51, np.float32)
  setup, phase = stand_in(spec, {'x': raw}, spec.transform.forward(None, raw))
  pictures.painter(setup, phase)(tmp_path / 'a.png', state())
  assert set(np.unique(pixels(tmp_path / 'a.png'))) == {51, 255}


def test_classes_have_their_names_above_them(tmp_path):
  spec = image_spec(1, transforms.identity(), classes=2)
  arrays = {
    'x': np.zeros((6, *spec.shape), np.float32),
    'label': np.arange(6, dtype=np.int32) % 2,
  }
  found = []
  for names in (('cat', 'a long name of a class'), None):
    setup, phase = stand_in(spec, arrays, jnp.zeros(()), class_names=names)
    pictures.painter(setup, phase)(tmp_path / 'a.png', state())
    found.append(pixels(tmp_path / 'a.png'))
  np.testing.assert_array_equal(found[0][plots.STRIP :], found[1])
  strip, half = found[0][: plots.STRIP], found[1].shape[1] // 2
  assert (strip[:, :half] < 128).any() and (strip[:, half + plots.GAP :] < 128).any()
  assert (strip[:, half - 2 : half + 2] > 200).all()  # none runs into another's


@pytest.mark.parametrize('asked', [False, True])
def test_patches_mask_painted_and_real_image_stand_below_each_other(tmp_path, asked):
  way = transforms.scaling(256)
  part = base.Part((2, 4, 5, 1), jnp.float32, 256, way)
  spec = image_spec(1, way, levels=256)._replace(parts={'condition': part})
  patches = (
    np.zeros((9, *part.shape), np.uint8) + np.uint8([10, 60])[:, None, None, None]
  )
  arrays = {'x': np.full((9, *spec.shape), 250, np.uint8), 'condition': patches}
  setup, phase = stand_in(spec, arrays, jnp.zeros(()))

  def sample_info(model, key, num, *, condition=None):
    image = 0 * condition[:, 0] + 150 / 127.5 - 1
    return image, {'mask': jnp.full((num, 4, 5, 1), 0.4)}

  card = phase.method.card._replace(condition=('condition',))
  queries = {'sample_info': sample_info}
  phase = phase._replace(method=phase.method._replace(card=card, queries=queries))
  np.save(tmp_path / 'mine.npy', patches[:3] + np.uint8(20))
  words = (str(tmp_path / 'mine.npy'),) if asked else ()
  drawing = inference.Drawing(condition=words)
  pictures.painter(setup, phase, drawing)(tmp_path / 'a.png', state())
  rows = [30, 80, 102, 150] if asked else [10, 60, 102, 150, 250]
  column = pixels(tmp_path / 'a.png')[:, plots.GAP, 0]
  assert column[column < 255].tolist() == np.repeat(rows, (column < 255).sum() // len(
    rows)).tolist()  # fmt: skip


def test_domains_of_different_channels_are_drawn_together():
  found = [
    pictures._padded(np.zeros((2, 3, 3, c)), (4, 5, 4)).shape for c in (1, 2, 3, 4)
  ]
  assert found == [(2, 4, 5, 4)] * 4


@pytest.mark.parametrize(
  ('shape', 'levels'), [((2000, 3000, 3), 256), ((3000, 5, 2), 256)]
)
def test_pictures_of_large_images_stay_small(shape, levels):
  way = transforms.identity()
  spec = base.DataSpec(shape, jnp.float32, levels, None, None, way)
  card = base.Card('none', 'none', 'none', 'exact', 'one_pass', (), 'none', 'any')
  phase = base.Phase(base.Method(card, None, None), 1, spec)
  data = dataset.Dataset('data', spec, None, None)
  setup = setup_lib.Setup(data, None, 1, None, None, None)
  num, draw = pictures._picture(setup, phase)
  columns = draw.args[2]
  shown = 2 if shape[2] == 2 else 1
  assert columns * shape[1] * shown <= max(pictures.PIXELS, shape[1] * shown)
  assert num // columns * shape[0] <= max(pictures.PIXELS, shape[0])


def test_long_sequences_and_texts_are_cut(tmp_path):
  plots.page(tmp_path / 'a.png', ['x' * 100_000])
  plots.rolls(tmp_path / 'b.png', np.zeros((1, 100_000), int), 2)
  sizes = [pixels(tmp_path / f'{name}.png').shape[1] for name in 'ab']
  assert max(sizes) < 5000


def test_interval_is_an_affine_density():
  way = transforms.interval(-2.0, 6.0)
  raw = np.array([[-2.0, 6.0, 2.0]])
  x = way.forward(None, raw)
  np.testing.assert_allclose(x, [[-1, 1, 0]])
  np.testing.assert_allclose(way.inverse(x), raw)
  slope = jax.jacobian(lambda r: way.forward(None, r[None])[0])(jnp.array(raw[0]))
  np.testing.assert_allclose(
    way.log_det(None, raw), [np.linalg.slogdet(slope)[1]], rtol=1e-6
  )
  with pytest.raises(ValueError, match='must be low < high, got 1, 1'):
    transforms.interval(1.0, 1.0)
