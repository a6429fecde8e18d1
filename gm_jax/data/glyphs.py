"""Characters in many typefaces, of which every factor of variation is known.

Example i is a pure function of i and a seed, and all of it but its face is the same
whatever faces there are: `glyphs?faces=serif` and `glyphs?faces=sans` are two domains
whose examples of one index belong together. What varies stands in `glyph_factors`, how
a character is drawn in `glyph_drawing`; nothing of one leaves the picture.

Pixels are kept once they are drawn, in the folder that the environment names in
GM_JAX_CACHE, by default ~/.cache/gm_jax/glyphs.
"""

import functools
import hashlib
import pathlib
import string
import threading
from collections.abc import Callable, Mapping
from typing import Literal

import jax.numpy as jnp
import numpy as np

from gm_jax import base, caches
from gm_jax.data import arrays_file, dataset, glyph_drawing, glyph_factors, transforms

VERSION = 1  # of what is drawn, for the files that keep it
ALPHABETS = {
  'digits': string.digits,
  'capitals': string.ascii_uppercase,
  'letters': string.ascii_uppercase + string.ascii_lowercase,
  'all': string.digits + string.ascii_uppercase + string.ascii_lowercase,
}
FACES = ('sans', 'sans-bold', 'serif', 'serif-bold', 'mono-bold', 'cm-italic')
HELD_OUT, SKIPPED = 'held_out', 'skipped'
SIZES = {'test': 2000, 'validation': 2000}  # the first indices, before those of 'train'
MAX_NUM = 10**6
_CHUNK = 4096  # examples colored at once


def glyphs(
  *,
  size: int = 28,
  mode: Literal['L', 'RGB'] = 'L',
  alphabet: Literal['digits', 'capitals', 'letters', 'all'] = 'digits',
  faces: str = '',
  num: int = 20_000,
  skip: int = 0,
  seed: int = 0,
  hold_out: str = '',
  transform: Callable[[int], base.Transform] = transforms.scaling,
) -> dataset.Dataset:
  """Draws characters, raw `x` [B, H, H, C] uint8, with all that is known of them.

  `label` [B] int32 is the character; `domain` [B] int32 the face, where there are
  several; `condition` [B, 5] float32 slant, size, x, y and rotation, with -1 and 1 the
  ends of `glyph_factors.RANGES`; `text` [B, 9] int32 the caption, such as 'a small red
  serif A on white, upper left', by its words.

  Splits, disjoint by index: 'test' 2,000, 'validation' 2,000, 'train' `num`. With
  `hold_out`, examples that have both words of a pair are taken out of all three, and
  are a fourth split, 'held_out'.

  Args:
    size: H, from 16 to 256.
    mode: 'L' for gray, light on dark, or 'RGB' for colors on something light.
    alphabet: the characters; 'letters' are capitals and small ones, 'all' has digits.
    faces: names with commas between, of `glyph_drawing.FACES`, or 'all'; six if empty.
    num: training examples, before any are held out.
    skip: indices between the validation split and the first training example, so that
      two sets may share what they are tested on and nothing that they are trained on.
    seed: of the factors.
    hold_out: pairs of a caption's words with commas between, as 'red:A,serif:7'.
    transform: factory of the way to model space, by the number of levels.

  Returns:
    A Dataset.

  Raises:
    ValueError: a number out of range, an unknown face or word.
    DataError: Matplotlib lacks a font.
  """
  for name, value, least, most in (
    ('size', size, 16, 256), ('num', num, 1, MAX_NUM), ('skip', skip, 0, MAX_NUM),
    ('seed', seed, 0, 2**63 - 1),
  ):  # fmt: skip
    if not least <= value <= most:
      raise ValueError(f'{name} must be from {least} to {most}, got {value}')
  kind = glyph_factors.Kind(ALPHABETS[alphabet], _faces(faces), mode, size, seed)
  sizes = {**SIZES, **({SKIPPED: skip} if skip else {}), 'train': num}
  known = glyph_factors.factors(kind, 0, sum(sizes.values()))
  splits = _splits(sizes, glyph_factors.held_out(kind, known, hold_out))
  beside, parts = _beside(kind, known)
  pixels, decodes = _pixels(kind, known, list(sizes.values()))

  def rows(index):
    def get(i):
      chosen = index[i]
      return {'x': pixels(chosen), **{k: v[chosen] for k, v in beside.items()}}

    return dataset.Rows(len(index), get, decodes)

  way = transform(256)
  spec = base.DataSpec(
    (size, size, _channels(kind)),
    transforms.dtype(way),
    num_levels=256,
    num_classes=len(kind.characters),
    num_train=None,
    transform=way,
    parts=parts,
  )
  drawn = VERSION, *kind, num, hold_out, transform.__name__, *([skip] if skip else [])
  data = dataset.from_rows(
    'glyphs',
    spec,
    {split: rows(index) for split, index in splits.items()},
    fingerprint=dataset.checksum('glyphs', repr(drawn)),
  )
  return data._replace(
    class_names=tuple(kind.characters),
    domain_names=kind.faces if 'domain' in parts else None,
    tokenize=glyph_factors.tokenize,
  )


def draw(kind: glyph_factors.Kind, known: glyph_factors.Factors) -> np.ndarray:
  """Draws examples of known factors, `[N, H, H, C]` uint8.

  Args:
    kind: of the set.
    known: their factors.
  """
  numbers = {name: getattr(known, name) for name in glyph_factors.RANGES}
  characters = [glyph_drawing.CHARACTERS.index(c) for c in kind.characters]
  covered = glyph_drawing.draw(
    kind.faces,
    known.face,
    np.array(characters)[known.character],
    glyph_drawing.Placing(**numbers),
    size=kind.size,
  )
  inks, grounds = (
    np.array(list(colors.values()), np.uint32)
    for colors in glyph_factors.PALETTES[kind.mode]
  )
  out = np.empty((*covered.shape, _channels(kind)), np.uint8)
  for i in range(0, len(out), _CHUNK):
    chunk = slice(i, i + _CHUNK)
    amount = covered[chunk, :, :, None].astype(np.uint32)
    ink = inks[known.ink[chunk], None, None]
    ground = grounds[known.ground[chunk], None, None]
    out[chunk] = (amount * ink + (255 - amount) * ground + 127) // 255
  return out


def _channels(kind: glyph_factors.Kind) -> int:
  return 1 if kind.mode == 'L' else 3


def _faces(names: str) -> tuple[str, ...]:
  """Reads the option `faces`."""
  if not names:
    return FACES
  if names == 'all':
    return tuple(glyph_drawing.FACES)
  chosen = tuple(names.split(','))
  for name in chosen:
    if name not in glyph_drawing.FACES:
      options = ['all', *glyph_drawing.FACES]
      raise ValueError(
        f'glyphs: no face {name!r}; {glyph_factors.suggest(name, options)}'
      )
  if len(set(chosen)) < len(chosen):
    raise ValueError(f'glyphs: faces={names!r} names a face twice')
  return chosen


def _splits(sizes: Mapping[str, int], held: np.ndarray) -> dict[str, np.ndarray]:
  """Divides indices into ranges, without those held out, which are one more split."""
  ends = np.cumsum(list(sizes.values()))[:-1]
  ranges = dict(zip(sizes, np.split(np.arange(len(held)), ends), strict=True))
  held[ranges.pop(SKIPPED, [])] = False
  splits = {split: r[~held[r]] for split, r in ranges.items()}
  if held.any():
    splits[HELD_OUT] = np.flatnonzero(held)
  for split, index in splits.items():
    if not len(index):
      raise ValueError(f'glyphs: hold_out leaves nothing of the split {split!r}')
  return splits


def _beside(
  kind: glyph_factors.Kind, known: glyph_factors.Factors
) -> tuple[dict[str, np.ndarray], dict[str, base.Part]]:
  """Makes the arrays beside x by batch key, and the spaces of those that have one."""
  integer = jnp.dtype(jnp.int32)
  numbers = [glyph_factors.scaled(known, name) for name in glyph_factors.RANGES]
  captions = glyph_factors.captions(kind, known)
  arrays = {
    'label': known.character.astype(np.int32),
    'condition': np.stack(numbers, axis=1).astype(np.float32),
    'text': captions,
  }
  parts = {
    'condition': base.Part(
      (len(numbers),), jnp.dtype(jnp.float32), None, transforms.identity()
    ),
    'text': base.Part(
      captions.shape[1:], integer, len(glyph_factors.VOCABULARY), transforms.tokens()
    ),
  }
  if len(kind.faces) > 1:
    arrays['domain'] = known.face.astype(np.int32)
    parts['domain'] = base.Part((), integer, len(kind.faces), transforms.tokens())
  return arrays, parts


def _pixels(
  kind: glyph_factors.Kind, known: glyph_factors.Factors, sizes: list[int]
) -> tuple[Callable[[np.ndarray], np.ndarray], bool]:
  """Makes the function from indices to pixels; True if it draws whenever it is called.

  What fits in memory is drawn, or read, when a split is first asked for.
  """

  def draw_rows(index):
    return draw(kind, glyph_factors.Factors(*(each[index] for each in known)))

  shape = (kind.size, kind.size, _channels(kind))
  if sum(sizes) * np.prod(shape) > dataset.MEMORY:
    return draw_rows, True
  ends = np.cumsum(sizes)
  lock = threading.Lock()

  @functools.cache
  def table(number):
    return _cached(kind, ends[number] - sizes[number], sizes[number], draw_rows)

  def gather(index):
    number = np.searchsorted(ends, index, side='right')
    out = np.empty((len(index), *shape), np.uint8)
    for each in np.unique(number):
      mine = number == each
      with lock:  # threads that come together are not all to draw
        pixels = table(int(each))
      out[mine] = pixels[index[mine] - (ends[each] - sizes[each])]
    return out

  return gather, False


def _cached(
  kind: glyph_factors.Kind, first: int, num: int, draw_rows: Callable
) -> np.ndarray:
  """Reads the pixels of `num` indices from the first, or draws and keeps them."""
  path = _cache_file(kind, int(first), num)
  try:
    pixels = arrays_file.read(str(path), lambda path, name: name == 'x')['x']
    if pixels.shape == (num, kind.size, kind.size, _channels(kind)):
      return pixels.astype(np.uint8, casting='equiv', copy=False)
  except (dataset.DataError, KeyError, TypeError):
    pass  # none yet, or a damaged one, which is replaced
  pixels = draw_rows(np.arange(first, first + num))
  if path:
    caches.write(path, {'x': pixels})
  return pixels


def _cache_file(kind: glyph_factors.Kind, first: int, num: int) -> pathlib.Path | None:
  import matplotlib
  import PIL  # heavy
  from PIL import features

  libraries = matplotlib.__version__, PIL.__version__, features.version('freetype2')
  settings = repr((VERSION, libraries, tuple(kind), first, num))
  folder = caches.folder('glyphs')
  name = hashlib.sha256(settings.encode()).hexdigest()[:16]
  return folder and folder / f'glyphs-{name}.npz'
