"""Makes data sets of aligned emoji, .npz files that `npz:` reads.

  python experiments/emoji.py IN.npz OUT.npz [--size=32] [--styles=noto,twemoji] \
      [--by_style]

IN has `images` [S, N, H, W, 3] uint8, `styles` [S], `caption` [N] and `base` [N], the
emoji of which one is a variant. OUT has x, text and label of train, validation and
test: captions with their style, as 'red heart, noto', and the style as the class.
Variants of one base stand in one split, for they are nearly the same picture; a tenth
of the bases each is for validation and test. With --by_style there is a file a style,
OUT_STYLE.npz of x and text alone: the styles share the bases of the training split, so
that no emoji is trained on in two of them, and all have the same test pictures, in one
order. Exit codes: 0 done, 1 a file cannot be used, 2 the command.
"""

import pathlib
import sys

import numpy as np
from absl import app, flags

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gm_jax.data import arrays_file, dataset  # noqa: E402

_SIZE = flags.DEFINE_integer('size', 32, 'Pixels of a side, a divisor of the input.')
_STYLES = flags.DEFINE_list('styles', [], 'Which styles; all by default.')
_BY_STYLE = flags.DEFINE_bool('by_style', False, 'One file a style, for translation.')
NEEDED = ('images', 'styles', 'caption', 'base')
SEED = 0


def splits(base: np.ndarray) -> dict[str, np.ndarray]:
  """Indices by split, all of one base together; a tenth of the bases for each test."""
  names = np.unique(base)
  order = np.random.default_rng(SEED).permutation(len(names))
  tenth = max(1, len(names) // 10)
  chosen = {'test': order[:tenth], 'validation': order[tenth : 2 * tenth]}
  chosen['train'] = order[2 * tenth :]
  return {
    split: np.flatnonzero(np.isin(base, names[which]))
    for split, which in chosen.items()
  }


def checked(arrays: dict[str, np.ndarray], size: int, styles: list[str]) -> list[str]:
  """The styles that are wanted, all of them if none is named.

  Raises:
    ValueError: arrays are missing or do not match, a size or a style that is none.
  """
  missing = [name for name in NEEDED if name not in arrays]
  if missing:
    raise ValueError(f'no array {missing[0]!r}; it needs {", ".join(NEEDED)}')
  images = arrays['images']
  if images.ndim != 5 or images.dtype != np.uint8:
    raise ValueError(f'images must be uint8 [S, N, H, W, C], got {images.shape}')
  for name, axis in (('styles', 0), ('caption', 1), ('base', 1)):
    if arrays[name].shape != images.shape[axis : axis + 1]:
      raise ValueError(
        f'{name} has {len(arrays[name])}, but images have {images.shape[axis]}'
      )
  height, width = images.shape[2:4]
  if height != width or size < 1 or height % size:
    raise ValueError(f'size must divide {height} x {width} images, got {size}')
  known = [str(style) for style in arrays['styles']]
  for style in styles:
    if style not in known:
      raise ValueError(f'no style {style!r}; there are: {", ".join(known)}')
  return styles or known


def of_style(
  arrays: dict[str, np.ndarray], style: str, index: np.ndarray, size: int
) -> dict[str, np.ndarray]:
  """Pictures x `[N, size, size, C]` of a style, each the mean of squares; captions."""
  images = arrays['images'][list(arrays['styles']).index(style), index]
  ratio, channels = images.shape[1] // size, images.shape[3]
  squares = images.reshape(-1, size, ratio, size, ratio, channels)
  x = np.round(squares.mean(axis=(2, 4))).astype(np.uint8)
  return {'x': x, 'text': np.array([f'{t}, {style}' for t in arrays['caption'][index]])}


def captioned(
  arrays: dict[str, np.ndarray], *, size: int, styles: list[str]
) -> dict[str, np.ndarray]:
  """The arrays of OUT.

  Raises:
    ValueError: arrays are missing or do not match, a size or a style that is none.
  """
  styles, out = checked(arrays, size, styles), {}
  for split, index in splits(arrays['base']).items():
    found = [of_style(arrays, style, index, size) for style in styles]
    for name in ('x', 'text'):
      out[f'{name}_{split}'] = np.concatenate([each[name] for each in found])
    out[f'label_{split}'] = np.repeat(styles, len(index))
  return out


def by_style(
  arrays: dict[str, np.ndarray], *, size: int, styles: list[str]
) -> dict[str, dict[str, np.ndarray]]:
  """The arrays of each style's file.

  Raises:
    ValueError: arrays are missing or do not match, a size or a style that is none, or
      fewer bases than styles.
  """
  styles, parts = checked(arrays, size, styles), splits(arrays['base'])
  names, number = np.unique(arrays['base'][parts['train']], return_inverse=True)
  if len(names) < len(styles):
    raise ValueError(f'{len(styles)} styles cannot share {len(names)} emoji')
  out = {}
  for i, style in enumerate(styles):
    mine = parts | {'train': parts['train'][number % len(styles) == i]}
    out[style] = {
      f'{name}_{split}': a
      for split, index in mine.items()
      for name, a in of_style(arrays, style, index, size).items()
    }
  return out


def main(argv):
  if len(argv) != 3 or not argv[2].endswith('.npz'):
    words = ' '.join(argv[1:]) or 'none'
    print(f'error: expected IN.npz OUT.npz, got {words}', file=sys.stderr)
    sys.exit(2)
  size, styles = _SIZE.value, _STYLES.value
  try:
    arrays = arrays_file.read(argv[1], lambda path, name: name in NEEDED)
    if _BY_STYLE.value:
      found = by_style(arrays, size=size, styles=styles)
      files = {f'{argv[2][:-4]}_{style}.npz': out for style, out in found.items()}
    else:
      files = {argv[2]: captioned(arrays, size=size, styles=styles)}
    for path, out in files.items():
      np.savez(path, **out)
      counts = ', '.join(f'{len(v)} {k[2:]}' for k, v in out.items() if k[:2] == 'x_')
      print(f'{path}: {counts}, of {size} pixels')
  except (dataset.DataError, ValueError, OSError) as error:
    print('error:', ' '.join(str(error).split()), file=sys.stderr)
    sys.exit(1)


if __name__ == '__main__':
  app.run(main)
