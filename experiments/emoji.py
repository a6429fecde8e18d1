"""Makes a captioned data set of aligned emoji: one .npz that `npz:` reads.

  python experiments/emoji.py IN.npz OUT.npz [--size=32] [--styles=noto,twemoji]

IN has `images` [S, N, H, W, 3] uint8, `styles` [S], `caption` [N] and `base` [N], the
emoji of which one is a variant. OUT has x, text and label of train, validation and
test: captions with their style, as 'red heart, noto', and the style as the class.
Variants of one base stand in one split, for they are nearly the same picture; a tenth
of the bases each is for validation and test. Exit codes: 0 done, 1 a file cannot be
used, 2 the command.
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


def captioned(
  arrays: dict[str, np.ndarray], *, size: int, styles: list[str]
) -> dict[str, np.ndarray]:
  """The arrays of OUT.

  Raises:
    ValueError: arrays are missing or do not match, a size or a style that is none.
  """
  missing = [name for name in NEEDED if name not in arrays]
  if missing:
    raise ValueError(f'no array {missing[0]!r}; it needs {", ".join(NEEDED)}')
  images, caption = arrays['images'], arrays['caption']
  if images.ndim != 5 or images.dtype != np.uint8:
    raise ValueError(f'images must be uint8 [S, N, H, W, C], got {images.shape}')
  for name, axis in (('styles', 0), ('caption', 1), ('base', 1)):
    if arrays[name].shape != images.shape[axis : axis + 1]:
      raise ValueError(
        f'{name} has {len(arrays[name])}, but images have {images.shape[axis]}'
      )
  height, width, channels = images.shape[2:]
  if height != width or size < 1 or height % size:
    raise ValueError(f'size must divide {height} x {width} images, got {size}')
  known = [str(style) for style in arrays['styles']]
  for style in styles:
    if style not in known:
      raise ValueError(f'no style {style!r}; there are: {", ".join(known)}')
  styles, ratio, out = styles or known, height // size, {}
  for split, index in splits(arrays['base']).items():
    taken = images[[known.index(style) for style in styles]][:, index]
    taken = taken.reshape(-1, size, ratio, size, ratio, channels)
    out[f'x_{split}'] = np.round(taken.mean(axis=(2, 4))).astype(np.uint8)
    out[f'text_{split}'] = np.array(
      [f'{text}, {style}' for style in styles for text in caption[index]]
    )
    out[f'label_{split}'] = np.repeat(styles, len(index))
  return out


def main(argv):
  if len(argv) != 3 or not argv[2].endswith('.npz'):
    words = ' '.join(argv[1:]) or 'none'
    print(f'error: expected IN.npz OUT.npz, got {words}', file=sys.stderr)
    sys.exit(2)
  try:
    arrays = arrays_file.read(argv[1], lambda path, name: name in NEEDED)
    out = captioned(arrays, size=_SIZE.value, styles=_STYLES.value)
    np.savez(argv[2], **out)
  except (dataset.DataError, ValueError, OSError) as error:
    print('error:', ' '.join(str(error).split()), file=sys.stderr)
    sys.exit(1)
  counts = ', '.join(f'{len(v)} {k[2:]}' for k, v in out.items() if k[:2] == 'x_')
  print(f'{argv[2]}: {counts}, of {_SIZE.value} pixels')


if __name__ == '__main__':
  app.run(main)
