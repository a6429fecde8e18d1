"""Characters drawn by Pillow from the typefaces that Matplotlib ships.

Each character of a face is drawn once, large; an example is an affine map of that mask
onto a canvas of 4 x 4 samples a pixel, averaged. With g the place within a character,
from the middle of its box, y down, in heights of a capital of its face,

  place in the picture = 1/2 + position + size R(rotation) S(slant) g,

S a shear that moves what is above to the right, R counterclockwise.

A face is in `FACES` only if its font holds the whole alphabet: a symbol font has other
drawings at the same codes, which the names of its glyphs tell.
"""

import functools
import math
import string
from collections.abc import Mapping
from concurrent import futures
from typing import Any, NamedTuple

import numpy as np

from gm_jax.data import dataset

CHARACTERS = string.digits + string.ascii_letters
SAMPLES = 4  # of a pixel, in each direction
LONGEST = 1.1  # side of a character's box, in heights of a capital; longer is shrunk
_DIGITS = ('zero', 'one', 'two', 'three', 'four')
_DIGITS += ('five', 'six', 'seven', 'eight', 'nine')
_MARGIN = 2  # pixels of nothing around a mask, so that its edge is smooth


class Style(NamedTuple):
  """The properties by which Matplotlib's font manager finds a face."""

  family: str
  slant: str = 'normal'
  weight: str = 'normal'


_FAMILIES = {'sans': 'DejaVu Sans', 'serif': 'DejaVu Serif', 'mono': 'DejaVu Sans Mono'}
_FAMILIES |= {'stix': 'STIXGeneral'}
_CUTS = {'': ('normal', 'normal'), '-bold': ('normal', 'bold')}
_CUTS |= {'-italic': ('italic', 'normal'), '-bold-italic': ('italic', 'bold')}
_COMPUTER_MODERN = {'cm-roman': 'cmr10', 'cm-bold': 'cmb10', 'cm-italic': 'cmti10'}
_COMPUTER_MODERN |= {'cm-sans': 'cmss10', 'cm-typewriter': 'cmtt10'}
FACES: Mapping[str, Style] = {
  f'{name}{cut}': Style(family, *style)
  for name, family in _FAMILIES.items()
  for cut, style in _CUTS.items()
} | {name: Style(family) for name, family in _COMPUTER_MODERN.items()}


class Mask(NamedTuple):
  """A character of a face, drawn large."""

  image: Any  # Pillow's, of one channel
  center: tuple[float, float]  # of the character's box, in pixels
  scale: float  # pixels to heights of a capital


class Placing(NamedTuple):
  """Where and how characters stand; floats `[N]`."""

  slant: np.ndarray  # degrees to the right
  size: np.ndarray  # height of a capital, of the picture's side
  x: np.ndarray  # middle from the picture's, of its side, to the right
  y: np.ndarray  # the same, downwards
  rotation: np.ndarray  # degrees, counterclockwise


@functools.cache
def find(face: str) -> str:
  """Finds the font file of a face among those that Matplotlib ships.

  Raises:
    DataError: this Matplotlib has no such font, or not with the whole alphabet.
  """
  import matplotlib
  from matplotlib import font_manager  # heavy

  style = FACES[face]
  wanted = font_manager.FontProperties(
    family=style.family, style=style.slant, weight=style.weight
  )
  shipped = matplotlib.get_data_path()
  try:
    path = font_manager.findfont(wanted, directory=shipped, fallback_to_default=False)
  except ValueError as error:
    raise dataset.DataError(f'glyphs: Matplotlib has no font {style.family}') from error
  if not holds_alphabet(path):
    raise dataset.DataError(f'glyphs: {style.family} lacks a part of the alphabet')
  return str(path)


def holds_alphabet(path: str) -> bool:
  """Tells whether a font draws each of CHARACTERS as what it is.

  Args:
    path: of the font file.
  """
  from matplotlib import ft2font  # heavy

  font = ft2font.FT2Font(str(path))
  codes = font.get_charmap()
  names = dict(zip(string.digits, _DIGITS, strict=True))
  return all(
    ord(c) in codes and font.get_glyph_name(codes[ord(c)]) == names.get(c, c)
    for c in CHARACTERS
  )


def draw(
  faces: tuple[str, ...],
  face: np.ndarray,
  character: np.ndarray,
  placing: Placing,
  *,
  size: int,
) -> np.ndarray:
  """Draws how much of each pixel is ink.

  Args:
    faces: names of faces.
    face: `[N]` ints, of `faces`.
    character: `[N]` ints, of CHARACTERS.
    placing: floats `[N]`.
    size: pixels of a side.

  Returns:
    `[N, size, size]` uint8, 255 where all of it is ink.
  """
  # Before the threads, which would each draw the same masks.
  masks = {
    (f, c): _mask(find(faces[f]), CHARACTERS[c], _capital(size))
    for f, c in sorted(set(zip(face.tolist(), character.tolist(), strict=True)))
  }
  out = np.empty((len(face), size, size), np.uint8)
  maps = _inverse_maps(placing)

  def fill(chunk):
    for i in chunk:
      mask = masks[int(face[i]), int(character[i])]
      out[i] = _place(mask, maps[i], size)

  chunks = np.array_split(np.arange(len(face)), max(1, len(face) // 256))
  with futures.ThreadPoolExecutor(2) as pool:
    list(pool.map(fill, chunks))
  return out


def _capital(size: int) -> int:
  """Finds how many pixels high the masks' capitals are, for a picture's side."""
  return max(24, SAMPLES * size // 2)


@functools.lru_cache(4096)
def _mask(path: str, character: str, capital: int) -> Mask:
  from PIL import Image, ImageDraw, ImageFont  # heavy

  em = _em(path, capital)
  font = ImageFont.truetype(path, em, layout_engine=ImageFont.Layout.BASIC)
  left, top, right, bottom = font.getbbox(character)
  width, height = math.ceil(right - left), math.ceil(bottom - top)
  image = Image.new('L', (width + 2 * _MARGIN, height + 2 * _MARGIN))
  ImageDraw.Draw(image).text(
    (_MARGIN - left, _MARGIN - top), character, font=font, fill=255
  )
  center = (_MARGIN + width / 2, _MARGIN + height / 2)
  shrunk = min(1.0, LONGEST * capital / max(width, height))
  return Mask(image, center, shrunk / capital)


@functools.cache
def _em(path: str, capital: int) -> float:
  """Finds the font size at which capitals are so many pixels high."""
  from PIL import ImageFont  # heavy

  em = 1000
  font = ImageFont.truetype(path, em, layout_engine=ImageFont.Layout.BASIC)
  _, top, _, bottom = font.getbbox('H')
  return em * capital / (bottom - top)


def _inverse_maps(placing: Placing) -> np.ndarray:
  """Maps places to g: matrices and offsets `[N, 2, 3]`, in sides of the picture."""
  slant, angle = np.deg2rad(placing.slant), np.deg2rad(placing.rotation)
  cos, sin, zero, one = np.cos(angle), np.sin(angle), 0 * angle, 1 + 0 * angle
  turn = np.array([[cos, sin], [-sin, cos]])  # y is down
  shear = np.array([[one, -np.tan(slant)], [zero, one]])
  forward = np.einsum('ijn,jkn->nik', turn, shear) * placing.size[:, None, None]
  inverse = np.linalg.inv(forward)
  middle = np.stack([placing.x, placing.y], axis=1) + 0.5
  offset = -np.einsum('nij,nj->ni', inverse, middle)
  return np.concatenate([inverse, offset[:, :, None]], axis=2)


def _place(mask: Mask, inverse: np.ndarray, size: int) -> np.ndarray:
  """Draws one mask, `[size, size]`; `inverse` [2, 3] takes places to g."""
  from PIL import Image  # heavy

  side = size * SAMPLES
  matrix = inverse[:, :2] / (side * mask.scale)
  offset = inverse[:, 2] / mask.scale + mask.center
  (a, b), (d, e) = matrix.tolist()
  c, f = offset.tolist()
  big = mask.image.transform(
    (side, side),
    Image.Transform.AFFINE,
    (a, b, c, d, e, f),
    resample=Image.Resampling.BILINEAR,
  )
  return np.asarray(big.reduce(SAMPLES))
