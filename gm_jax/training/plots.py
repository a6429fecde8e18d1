"""Pictures of a run, as PNG files: samples, points, curves.

Each function draws on a figure of its own (no pyplot, no global state) and
replaces its file in one go. Images are `[N, H, W, C]` in [-1, 1]: one channel is gray,
three are color, and of any other number the channels stand side by side, each gray, the
first eight of more. The colors tell apart for color-blind readers (Okabe and Ito's).
Text is drawn as it is written, never as mathematics; letters that the font lacks are
boxes, and one line says so.
"""

import functools
import math
import os
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gm_jax.training import log

COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
DPI = 100
CELL = 64  # small images are enlarged to about this many pixels
GAP = 4
STRIP = 18  # height of a line of text
LINE = 512  # letters of a text that are drawn, at most
ROLL = 512  # numbers of a piano roll that are drawn, at most
LETTER = 7  # width of one, at most, on average
CHANNELS = 8  # shown of an image that is neither gray nor color, at most
NO_GLYPH = re.compile('Glyph [0-9]+ .*missing from|Matplotlib currently does not supp')

Path = str | os.PathLike[str]


def image_grid(
  path: Path,
  images: Any,
  *,
  columns: int | None = None,
  heads: Sequence[str] = (),
) -> None:
  """Draws images in rows, each enlarged by a whole factor so that it stays crisp.

  Args:
    path: the PNG file.
    images: `[N, H, W, C]` in [-1, 1].
    columns: images in a row; by default about a square.
    heads: above the columns, cut to their width; none if empty.

  Raises:
    ValueError: if the images are not `[N, H, W, C]`.
  """
  pixels = _mosaic(images, columns)
  if not heads:
    _draw(path, pixels, ())
    return
  wide = (pixels.shape[1] - GAP) // len(heads)
  most = max(1, wide // LETTER)
  texts = [(GAP + i * wide, 0, head[:most]) for i, head in enumerate(heads)]
  strip = np.full((STRIP, *pixels.shape[1:]), 255, np.uint8)
  _draw(path, np.concatenate([strip, pixels]), texts)


def side_by_side(
  path: Path,
  images: Mapping[str, Any],
  *,
  columns: int | None = None,
  sets: int | None = None,
) -> None:
  """Draws several sets of images beside each other, each under its name.

  Args:
    path: the PNG file.
    images: `[N, H, W, C]` in [-1, 1], by name.
    columns: images in a row of each set; by default about a square.
    sets: beside each other, before the next ones begin below; all if None.

  Raises:
    ValueError: if a set is not `[N, H, W, C]`.
  """
  blocks = [_mosaic(block, columns) for block in images.values()]
  gap, across = 4 * GAP, sets or len(blocks)
  lines = [blocks[i : i + across] for i in range(0, len(blocks), across)]
  heights = [STRIP + max(len(block) for block in line) for line in lines]
  width = max(sum(b.shape[1] + gap for b in line) - gap for line in lines)
  pixels = np.full((sum(heights), width, 3), 255, np.uint8)
  texts, names, top = [], iter(images), 0
  for line, height in zip(lines, heights, strict=True):
    left = 0
    for block in line:
      below = top + STRIP
      pixels[below : below + len(block), left : left + block.shape[1]] = block
      texts.append((left + GAP, top, next(names)))
      left += block.shape[1] + gap
    top += height
  _draw(path, pixels, texts)


def scatter_panels(
  path: Path,
  rows: Mapping[str, Sequence[tuple[str, Any]]],
  *,
  reference: Any = None,
  limits: tuple[float, float] | None = None,
) -> None:
  """Draws samples of the plane through training: a row a variant, a column a step.

  Args:
    path: the PNG file.
    rows: by the row's name, pairs of a title and points `[N, 2]`.
    reference: `[M, 2]` points of the data, drawn pale behind, or None.
    limits: of both axes; by default those of the reference with a margin, else
      of the bulk of all points. A panel says how many points fall outside.
  """
  from matplotlib.figure import Figure

  points = [np.asarray(p) for row in rows.values() for _, p in row]
  low, high = limits or _limits(points if reference is None else [reference])
  columns = max(len(row) for row in rows.values())
  figure = Figure(figsize=(1.6 * columns + 0.3, 1.75 * len(rows)), dpi=DPI)
  axes = figure.subplots(len(rows), columns, squeeze=False)
  for line, (name, row) in zip(axes, rows.items(), strict=True):
    for axis in line[len(row) :]:
      axis.set_axis_off()
    for axis, (title, samples) in zip(line, row, strict=False):
      if reference is not None:
        axis.scatter(*np.asarray(reference).T, s=3, c='#BBBBBB', linewidths=0)
      _scatter(axis, np.asarray(samples), low, high)
      axis.set_title(title, fontsize=8, pad=3)
    line[0].set_ylabel(name, fontsize=8)
  _save(path, figure, pad=0.4)


def curves(
  path: Path,
  lines: Mapping[str, Sequence[Any]],
  *,
  xlabel: str,
  ylabel: str,
) -> None:
  """Draws lines over one pair of axes.

  Args:
    path: the PNG file.
    lines: by label, (x `[N]`, y `[N]`) or (x, y, half width of a band `[N]`).
    xlabel: the quantity and unit along x.
    ylabel: the quantity and unit along y.
  """
  from matplotlib.figure import Figure

  beside = len(lines) > 5  # a legend among so many lines would hide some
  figure = Figure(figsize=(7.6 if beside else 5.6, 3.4), dpi=DPI)
  axis = figure.subplots()
  styles = ('-', '--', ':')
  drawn: list[Any] = []
  for i, (x, y, *band) in enumerate(lines.values()):
    color, style = COLORS[i % len(COLORS)], styles[i // len(COLORS) % len(styles)]
    marker = 'o' if len(x) < 20 else None
    drawn += axis.plot(x, y, style, c=color, lw=1.5, marker=marker, ms=3)
    for width in band:
      y, width = np.asarray(y), np.asarray(width)
      axis.fill_between(x, y - width, y + width, color=color, alpha=0.2, lw=0)
  axis.set(xlabel=xlabel, ylabel=ylabel)
  axis.spines[['top', 'right']].set_visible(False)
  axis.grid(alpha=0.25)
  if lines:
    place = {'loc': 'center left', 'bbox_to_anchor': (1.0, 0.5)}
    where: dict[str, Any] = place if beside else {}
    # Named afterwards: matplotlib leaves out what begins with an underscore.
    legend = axis.legend(drawn, '?' * len(drawn), fontsize=8, frameon=False, **where)
    for text, label in zip(legend.get_texts(), lines, strict=True):
      text.set_text(label)
  _save(path, figure, pad=1.08)


def heat_maps(
  path: Path,
  panels: Mapping[str, tuple[Any, Sequence[Sequence[str]]]],
  *,
  x: tuple[str, Sequence[str]],
  y: tuple[str, Sequence[str]],
  columns: int,
  limits: tuple[float, float],
  label: str,
) -> None:
  """Draws tables of numbers as colors, with a text in each cell and one color bar.

  Args:
    path: the PNG file.
    panels: by title, values `[Y, X]` and the cells' texts; rows count upwards.
    x: the name of the horizontal axis and of its X places.
    y: the name of the vertical axis and of its Y places.
    columns: panels beside each other.
    limits: values of the first and the last color.
    label: what the colors mean.
  """
  from matplotlib.figure import Figure

  lines = math.ceil(len(panels) / columns)
  width, height = 0.85 * len(x[1]) + 0.5, 0.55 * len(y[1]) + 0.7
  size = (width * columns + 1.2, height * lines)
  figure = Figure(figsize=size, dpi=DPI, layout='constrained')
  axes = figure.subplots(lines, columns, squeeze=False)
  for axis in axes.ravel()[len(panels) :]:
    axis.set_axis_off()
  for axis, (title, (values, texts)) in zip(axes.flat, panels.items(), strict=False):
    low, high = limits
    image = axis.imshow(values, 'viridis', vmin=low, vmax=high, origin='lower',
                        aspect='auto')  # fmt: skip
    for (i, j), value in np.ndenumerate(np.asarray(values)):
      color = 'black' if value > (low + 2 * high) / 3 else 'white'
      axis.text(j, i, texts[i][j], color=color, fontsize=7, ha='center', va='center')
    axis.set_title(title, fontsize=9)
    axis.set_xticks(range(len(x[1])), x[1], fontsize=8)
    axis.set_yticks(range(len(y[1])), y[1], fontsize=8)
    axis.set_xlabel(x[0], fontsize=8)
    axis.set_ylabel(y[0], fontsize=8)
  figure.colorbar(image, ax=axes, label=label)
  _save(path, figure, pad=None)


def rolls(path: Path, tokens: Any, num_levels: int) -> None:
  """Draws sequences as piano rolls: time to the right, the number upwards.

  Args:
    path: the PNG file.
    tokens: `[N, T]` integers in [0, num_levels), of which the first ROLL are drawn.
    num_levels: rows of a roll.
  """
  tokens = np.asarray(tokens)[:, :ROLL]
  image = np.full((len(tokens), num_levels, tokens.shape[1]), 0.8, np.float32)
  index = np.arange(len(tokens))[:, None], num_levels - 1 - tokens
  image[(*index, np.arange(tokens.shape[1]))] = -1.0
  image_grid(path, image.repeat(4, 1).repeat(4, 2)[..., None])


def page(path: Path, texts: Sequence[str]) -> None:
  """Draws texts below each other, line ends as arrows, in a monospaced type.

  Args:
    path: the PNG file.
    texts: in the order of the page, each on a line of its own, cut to LINE letters.
  """
  lines = [text.replace('\n', '\u21b5').replace('\t', ' ') for text in texts]
  lines = [line if len(line) <= LINE else line[:LINE] + '...' for line in lines]
  width = 20 + LETTER * max(map(len, lines))
  pixels = np.full((STRIP * len(lines) + GAP, width, 3), 255, np.uint8)
  places = [(GAP, i * STRIP, line) for i, line in enumerate(lines)]
  _draw(path, pixels, places, family='monospace')


def _mosaic(images: Any, columns: int | None) -> np.ndarray:
  """The images on white, as uint8 pixels."""
  images = np.asarray(images, np.float32)
  if images.ndim != 4 or not images.size:
    raise ValueError(f'images must be [N, H, W, C], got {images.shape}')
  images = np.nan_to_num(np.clip(images, -1, 1))
  images = np.round((images + 1) * 127.5).astype(np.uint8)
  factor = max(1, round(CELL / max(images.shape[1:3])))
  images = images.repeat(factor, 1).repeat(factor, 2)
  if images.shape[-1] not in (1, 3):
    images = _beside(images)
  num, height, width, _ = images.shape
  columns = min(num, columns or math.ceil(math.sqrt(num)))
  tall, wide = height + GAP, width + GAP
  shape = (math.ceil(num / columns) * tall + GAP, columns * wide + GAP, 3)
  pixels = np.full(shape, 255, np.uint8)
  for i, image in enumerate(images):
    y, x = i // columns * tall + GAP, i % columns * wide + GAP
    pixels[y : y + height, x : x + width] = image
  return pixels


def _beside(images: np.ndarray) -> np.ndarray:
  """The first channels of images, gray and side by side, `[N, H, W', 1]`."""
  num, height, width, channels = images.shape
  channels = min(channels, CHANNELS)
  padded = np.full((num, height, channels, width + GAP // 2), 255, np.uint8)
  padded[..., :width] = np.moveaxis(images[..., :channels], 3, 2)
  return padded.reshape(num, height, -1, 1)[:, :, : -(GAP // 2)]


def _draw(path: Path, pixels: np.ndarray, texts: Sequence[tuple], **style) -> None:
  """Saves the pixels one to one, with text at (x, y) from the top left."""
  from matplotlib.figure import Figure

  height, width, _ = pixels.shape
  figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
  figure.figimage(pixels)
  for x, y, text in texts:
    place = {'x': x / width, 'y': 1 - (y + STRIP / 2) / height}
    figure.text(**place, s=text, va='center', fontsize=8, **style)
  _save(path, figure)


def _limits(points: Sequence[Any]) -> tuple[float, float]:
  values = np.concatenate([np.asarray(p, np.float32).ravel() for p in points])
  values = values[np.isfinite(values)]
  if not values.size:
    return -1.0, 1.0
  low, high = np.percentile(values, [0.5, 99.5])
  margin = 0.15 * (high - low) or 1.0
  return float(low - margin), float(high + margin)


def _scatter(axis: Any, points: np.ndarray, low: float, high: float) -> None:
  inside = np.all((points >= low) & (points <= high), -1)
  axis.scatter(*points[inside].T, s=3, c=COLORS[0], linewidths=0)
  axis.set(xlim=(low, high), ylim=(low, high), xticks=[], yticks=[], aspect='equal')
  if not inside.all():
    count = f'{(~inside).sum()} outside'
    axis.text(
      0.97, 0.03, count, ha='right', fontsize=6, c=COLORS[1], transform=axis.transAxes
    )


def _save(path: Path, figure: Any, *, pad: float | None = None) -> None:
  """Writes a figure, with every text in it as it is written.

  Args:
    path: the PNG file.
    figure: all of whose text may be a user's.
    pad: around the axes, in sizes of the font; None where there are none.
  """
  from matplotlib import text as text_lib

  for text in figure.findobj(text_lib.Text):
    text.set(parse_math=False, usetex=False, text=_drawable(text.get_text()))
  with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter('always')
    if pad is not None:
      figure.tight_layout(pad=pad)
    with log.replacing(path) as temporary:
      figure.savefig(temporary, format='png', dpi=DPI)
  for warning in found:
    if NO_GLYPH.match(str(warning.message)):
      _say_boxes()
    else:
      about = warning.category, warning.filename, warning.lineno
      warnings.warn_explicit(str(warning.message), *about)


@functools.cache  # once for all pictures
def _say_boxes() -> None:
  text = 'warning: letters that the font of pictures lacks are drawn as boxes'
  print(text, file=sys.stderr, flush=True)


def _drawable(text: str) -> str:
  """A string without what is no character, as a file's name may have."""
  return text.encode('utf-8', 'replace').decode('utf-8')
