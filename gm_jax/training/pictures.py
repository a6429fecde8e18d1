"""Pictures of a trained state, by what kind of data it draws."""

import functools
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gm_jax import base, model_space
from gm_jax.training import conditioning, inference, options, plots
from gm_jax.training import setup as setup_lib

POINTS, TEXTS, ROLLS, PAIRS = 1000, 16, 9, 8  # samples in a picture
SIDE = 8  # rows of images, and columns, at most
PIXELS = 4096  # of a picture of large images, about, along a side
NAME = 25  # letters of a data set's name
GRID = 'grid'  # a task's array of images [rows, columns, ...], raw
OUTPUTS = 'outputs'  # a task's array of images [N, ...], raw
LEVELS = 1024  # of sequences that can be drawn as piano rolls


def painter(
  setup: setup_lib.Setup,
  phase: base.Phase,
  drawing: inference.Drawing = inference.PLAIN,
) -> Callable:
  """(path, state) -> None: a picture of the first seed, where there is one to draw.

  Images in a grid, points over those of the data, text as a page, other sequences of
  integers as piano rolls; of a model that translates, rows of input, output and the
  way back, of many domains with a row for each; of one that is given patches, rows of
  these, their mask and the image. Images of a few classes stand below the names of
  these. Of images that are neither gray nor color the channels stand side by side, see
  `plots`. There is no picture of anything else, which is decided before one is drawn.
  """
  found = (
    _translations(setup, phase, drawing)
    or _domains(setup, phase, drawing)
    or _placements(setup, phase, drawing)
    or _samples(setup, phase, drawing)
  )

  def paint(path: pathlib.Path, state: base.State) -> None:
    if found is None:
      return
    draw, picture = found
    drawn = draw(state)
    if jax.process_index():
      return  # one process is enough to write
    if setup.settings.num_seeds > 1:
      drawn = jax.tree.map(lambda x: x[0], drawn)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(path, drawn, f'step {int(state.step)}')

  return paint


def _samples(setup, phase, drawing) -> tuple[Callable, Callable] | None:
  """(state -> samples, (path, samples, title) -> None), where there are any."""
  found = _picture(setup, phase)
  if phase.method.sample is None or found is None:  # a phase may have no samples
    return None
  num, picture = found
  return inference.drawer(setup, phase, num, drawing), picture


def _translations(setup, phase, drawing) -> tuple[Callable, Callable] | None:
  """Images of two domains: input, output and the way back, a column an example."""
  method, part = phase.method, phase.spec.parts.get('y')
  spec, query = phase.spec, method.queries.get('translate')
  if query is None or part is None or len(spec.shape) != 3 or len(part.shape) != 3:
    return None
  query = options.with_options(method, drawing.options).queries['translate']
  raw = setup.data.arrays('test', PAIRS)
  test = model_space.forward(spec, jax.random.key(0), {'x': raw['x'], 'y': raw['y']})

  def draw(model, key):
    # `condition` is the domain to translate to: 1 from x to y, 0 from y to x.
    to_y = query(model, key, test['x'], condition=1)
    to_x = query(model, key, test['y'], condition=0)
    there = (to_y, query(model, key, to_y, condition=0))
    back = (to_x, query(model, key, to_x, condition=1))
    return {'x': (test['x'], *there), 'y': (test['y'], *back)}

  def picture(path, drawn, title):
    del title
    shapes = {x.shape[1:] for rows in drawn.values() for x in rows}
    size = tuple(max(sides) for sides in zip(*shapes, strict=True))
    rows = [_padded(x, size) for name in ('x', 'y') for x in drawn[name]]
    plots.image_grid(path, np.concatenate(rows), columns=len(rows[0]))

  return inference.compiled(setup, draw, drawing.averaged), picture


def _placements(setup, phase, drawing) -> tuple[Callable, Callable] | None:
  """Images of patches: these, their mask, the sample, and the real one where known.

  Each in a row of its own, a column an example.
  """
  method, spec, data = phase.method, phase.spec, setup.data
  part = spec.parts.get('condition')
  if method.card.condition != ('condition',) or 'sample_info' not in method.queries:
    return None
  if part is None or len(spec.shape) != 3 or part.shape[1:] != spec.shape:
    return None
  query = options.with_options(method, drawing.options).queries['sample_info']
  patches = conditioning.from_words(method.card, data, drawing.condition)(PAIRS)

  def draw(model, key):
    image, found = query(model, key, PAIRS, condition=patches)
    mask = 2 * jnp.broadcast_to(found['mask'], image.shape) - 1
    return [*jnp.moveaxis(jnp.asarray(patches), 1, 0), mask, image]

  def picture(path, rows, title):
    del title
    if not drawing.condition:
      test = {'x': data.arrays('test', PAIRS)['x']}
      real = model_space.forward(spec, jax.random.key(0), test)['x']
      rows = [*rows, np.resize(real, rows[0].shape)]
    plots.image_grid(path, np.concatenate(rows), columns=PAIRS)

  return inference.compiled(setup, draw, drawing.averaged), picture


def _domains(setup, phase, drawing) -> tuple[Callable, Callable] | None:
  """Images of many domains: input, every domain and the way back, a column each."""
  method, part = phase.method, phase.spec.parts.get('domain')
  query = method.queries.get('translate')
  if query is None or part is None or len(phase.spec.shape) != 3:
    return None
  query = options.with_options(method, drawing.options).queries['translate']
  raw = setup.data.arrays('test', PAIRS)
  test = model_space.forward(phase.spec, jax.random.key(0), {'x': raw['x']})['x']
  own = np.asarray(raw['domain'], np.int32)
  # Back again in the image's own style, where the method has several.
  style = {'reference': test} if 'reference' in options.keywords(query) else {}

  def draw(model, key):
    each = [query(model, key, test, condition=d) for d in range(part.num_levels)]
    return (test, *each[:SIDE], query(model, key, each[-1], condition=own, **style))

  def picture(path, drawn, title):
    del title
    plots.image_grid(path, np.concatenate(drawn), columns=len(test))

  return inference.compiled(setup, draw, drawing.averaged), picture


def _padded(x: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
  """Images [N, H, W, C] in [-1, 1] in the upper left of a larger black square.

  Gray ones get as many channels, all alike; others without have them black.
  """
  height, width, channels = size
  x = np.broadcast_to(x, (*x.shape[:3], channels)) if x.shape[3] == 1 else x
  lengths = zip(size, x.shape[1:], strict=True)
  margins = ((0, 0), *((0, most - length) for most, length in lengths))
  return np.pad(x, margins, constant_values=-1.0)


def texts(setup: setup_lib.Setup, samples: np.ndarray) -> list[str]:
  """The strings of tokens [num, T]; none where the data are no text."""
  vocabulary = setup.data.vocabulary
  return [''.join(vocabulary[t] for t in one) for one in samples] if vocabulary else []


def _picture(setup, phase) -> tuple[int, Callable] | None:
  """How many samples, and (path, samples, title) -> None, or None at all."""
  data, spec = setup.data, phase.spec
  shape, levels = spec.shape, spec.num_levels
  if len(shape) == 3:
    classes = spec.num_classes or 0
    by_class = 'label' in phase.method.card.condition and 1 < classes <= 16
    rows = max(1, min(SIDE, PIXELS // shape[0]))
    columns = max(1, min(SIDE, PIXELS // (shape[1] * _num_shown(shape[2]))))
    columns = classes if by_class else columns
    heads = (data.class_names or ()) if by_class else ()
    way = data.spec.transform  # of one image size, whatever the phase's
    return rows * columns, functools.partial(_images, levels, way, columns, heads)
  if shape == (2,):
    real = data.arrays('test', POINTS)['x']
    name = data.name if len(data.name) <= NAME else f'...{data.name[-NAME:]}'

    def points(path, samples, title):
      plots.scatter_panels(path, {name: [(title, samples)]}, reference=real)

    return POINTS, points
  if len(shape) == 1 and data.vocabulary:
    return TEXTS, lambda path, samples, _: plots.page(path, texts(setup, samples))
  if len(shape) == 1 and levels and levels <= LEVELS:
    return ROLLS, lambda path, samples, _: plots.rolls(path, samples, levels)
  return None


def grid(setup: setup_lib.Setup, path: pathlib.Path, images: base.Array) -> None:
  """Draws raw images `[rows, columns, H, W, C]`."""
  rows = np.asarray(images).reshape(-1, *images.shape[2:])
  spec = setup.data.spec
  _images(spec.num_levels, spec.transform, images.shape[1], (), path, rows, '')


def files(setup: setup_lib.Setup, folder: pathlib.Path, images: base.Array) -> None:
  """Writes raw images `[N, H, W, C]` of 1 or 3 channels, a PNG file each, by number."""
  from PIL import Image  # heavy

  folder.mkdir(parents=True, exist_ok=True)
  levels = setup.data.spec.num_levels
  if levels is None:
    images = setup.data.spec.transform.forward(jax.random.key(0), images)
    low, high = -1.0, 1.0
  else:
    low, high = 0.0, levels - 1.0
  scaled = (np.asarray(images) - low) * (255 / (high - low))
  pixels = np.clip(np.round(scaled), 0, 255)
  for number, image in enumerate(pixels.astype(np.uint8)):
    image = image[..., 0] if image.shape[-1] == 1 else image
    Image.fromarray(image).save(folder / f'{number:05d}.png')


def _num_shown(channels: int) -> int:
  """Counts the pictures that an image of so many channels is drawn as."""
  return 1 if channels in (1, 3) else min(channels, plots.CHANNELS)


def _images(levels, way, columns, heads, path, samples, title) -> None:
  if levels:
    scaled = 2 * samples / (levels - 1) - 1
  else:  # floats, of which the transform draws no noise
    scaled = way.forward(jax.random.key(0), samples)
  plots.image_grid(path, scaled, columns=columns, heads=heads)
