"""Arrays that a user saved with `numpy.savez`.

  x, y                                  split, the same way every time, 80/10/10
  x_train, y_train, x_test, y_test      as the names say; validation likewise

Other arrays that are taken, by either scheme: `images` for x; `label`, `labels` for y;
`text`, `caption`, `captions`; `domain`, `domains`; `condition`; `mask`; and `y_image`,
`y_images` for a second domain, whose examples belong to those of x. Strings become
their UTF-8 bytes, padded with zeros. Anything else in the file is ignored, unless its
name is nearly one of these. Nothing in the file is ever executed.
"""

import difflib
from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np

from gm_jax import base
from gm_jax.data import arrays_file, dataset, transforms, words
from gm_jax.data import splits as splits_lib

KEYS = {
  'x': 'x', 'images': 'x', 'image': 'x', 'y': 'label', 'label': 'label',
  'labels': 'label', 'text': 'text', 'caption': 'text', 'captions': 'text',
  'domain': 'domain', 'domains': 'domain', 'condition': 'condition', 'mask': 'mask',
  'y_image': 'y', 'y_images': 'y',
}  # fmt: skip
SUFFIXES = {'': '', '_train': 'train', '_validation': 'validation'}
SUFFIXES |= {'_val': 'validation', '_test': 'test'}
FLOAT, INT = jnp.dtype(jnp.float32), jnp.dtype(jnp.int32)
NAMES = {
  k + s: (key, split) for k, key in KEYS.items() for s, split in SUFFIXES.items()
}


def npz(
  path: str,
  *,
  levels: int | None = None,
  transform: Callable[[int], base.Transform] | None = None,
) -> dataset.Dataset:
  """Loads the arrays of a file, raw `x` [B, ...] and whatever else it holds.

  Integers are pixels: uint8 [N, H, W] gets a channel axis, and has 256 levels unless
  said otherwise. Floats are real numbers, and the model sees them as they are. So it is
  with `y_image` too, and the options hold for whichever of the two is of integers.

  Args:
    path: of the .npz file.
    levels: K of integers 0..K-1; 256 for uint8 and 2 for bool if None.
    transform: factory of the way to model space, by the number of levels, for
      integers; `transforms.scaling` if None.

  Returns:
    A Dataset.

  Raises:
    ValueError: an option does not fit the kind of x.
    DataError: the file or an array cannot be used; the array is named.
  """
  if levels is not None and not 2 <= levels <= transforms.MAX_LEVELS:
    raise ValueError(f'levels must be from 2 to {transforms.MAX_LEVELS}, got {levels}')
  splits, names = _by_split(path, arrays_file.read(path, _is_wanted))
  for split, arrays in splits.items():
    _check_lengths(path, arrays, names[split])
  kinds = {key: array.dtype.kind for key, array in splits['train'].items()}
  floats = {key: kinds[key] == 'f' for key in ('x', 'y') if key in kinds}
  if all(floats.values()) and (levels or transform):
    option = 'levels' if levels else 'transform'
    raise ValueError(f'{path}: x is of floats, for which there is no option {option!r}')
  for split, arrays in splits.items():
    for key, array in arrays.items():
      try:
        arrays[key] = _CLEAN[key](
          array, levels, floats.get(key, array.dtype.kind == 'f')
        )
      except ValueError as error:
        raise dataset.DataError(f'{path}: {names[split][key]}: {error}') from error
  _check_alike(path, splits, names)
  if '' in names:
    splits = _cut(path, splits['train'])
  strings = kinds.get('text') in ('U', 'S')
  data = _make(path, splits, levels, transform, least_tokens=256 if strings else 0)
  return data._replace(tokenize=words.tokenize_bytes) if strings else data


def _make(path, splits, levels, transform, *, least_tokens) -> dataset.Dataset:
  train = splits['train']

  def count(key):
    num = 1 + max(int(arrays[key].max()) for arrays in splits.values())
    return max(num, least_tokens) if key == 'text' else num

  spaces = {
    key: _image_space(train[key], levels, transform)
    for key in ('x', 'y')
    if key in train
  }
  parts = {key: base.Part(*space) for key, space in spaces.items() if key != 'x'}
  if 'condition' in train:
    shape = train['condition'].shape[1:]
    parts['condition'] = base.Part(shape, FLOAT, None, transforms.identity())
  for key in ('domain', 'text'):
    if key in train:
      parts[key] = base.Part(train[key].shape[1:], INT, count(key), transforms.tokens())
  for arrays in splits.values():
    for key in spaces:
      if arrays[key].dtype == bool:
        arrays[key] = arrays[key].astype(np.uint8)
  shape, dtype, num_levels, way = spaces['x']
  num_classes = count('label') if 'label' in train else None
  spec = base.DataSpec(shape, dtype, num_levels, num_classes, None, way, parts)
  rows = {split: dataset.array_rows(arrays) for split, arrays in splits.items()}
  hint = 'save x_validation, or save x alone to have it split'
  return dataset.from_rows(f'npz:{path}', spec, rows, hint=hint)


def _image_space(array: np.ndarray, levels, transform) -> tuple:
  """Finds the fields of a `Part` for pixels or other numbers [N, ...]."""
  shape = array.shape[1:]
  if array.dtype.kind == 'f':
    return shape, FLOAT, None, transforms.identity()
  num_levels = levels or (2 if array.dtype == bool else 256)
  way = (transform or transforms.scaling)(num_levels)
  return shape, transforms.dtype(way), num_levels, way


def _is_wanted(path: str, name: str) -> bool:
  """Tells whether an array is taken; a name that is nearly right is an error."""
  if name in NAMES:
    return True
  near = difflib.get_close_matches(name, NAMES, 1, 0.8)
  if near:
    raise dataset.DataError(f'{path}: no use for {name!r}; did you mean {near[0]!r}?')
  return False


def _by_split(path: str, found: Mapping) -> tuple[dict, dict]:
  """Sorts arrays by split and batch key, and likewise their names in the file.

  Where the file has no splits, all is 'train', and the names have the key '' too.
  """
  splits, names = {}, {}
  for name, array in found.items():
    key, split = NAMES[name]
    if key in names.setdefault(split, {}):
      raise dataset.DataError(f'{path}: both {names[split][key]} and {name}: keep one')
    names[split][key] = name
    splits.setdefault(split or 'train', {})[key] = array
  if len(names) > 1 and '' in names:
    named = next(n for split, by_key in names.items() if split for n in by_key.values())
    alone = next(iter(names[''].values()))
    raise dataset.DataError(f'{path}: both {alone} and {named}: split all or none')
  if '' in names:
    names['train'] = names['']
  for split in ['train', *splits]:
    if 'x' not in splits.get(split, {}):
      wanted = f'x_{split}' + (' and no x' if split == 'train' else '')
      wanted = 'x' if '' in names else wanted
      have = ', '.join(found) or 'nothing of use'
      raise dataset.DataError(f'{path}: no {wanted}; there is {have}')
  return splits, names


def _check_lengths(path: str, arrays: Mapping, names: Mapping) -> None:
  for key, array in arrays.items():
    if not array.ndim or not len(array):
      raise dataset.DataError(f'{path}: {names[key]}: empty, shape {array.shape}')
    if len(array) != len(arrays['x']):
      raise dataset.DataError(
        f'{path}: {names[key]} has {len(array)} examples, but {names["x"]} has'
        f' {len(arrays["x"])}'
      )


def _check_alike(path: str, splits: dict, names: Mapping) -> None:
  """Checks that splits have one set of keys, shapes and kinds; pads texts alike."""
  train = splits['train']
  longest = max((s['text'].shape[1] for s in splits.values() if 'text' in s), default=0)
  for split, arrays in splits.items():
    if set(arrays) != set(train):
      odd = sorted(set(arrays) ^ set(train))[0]
      raise dataset.DataError(f'{path}: {odd} is given for some splits, not for all')
    if longest:
      short = longest - arrays['text'].shape[1]
      arrays['text'] = np.pad(arrays['text'], ((0, 0), (0, short)))
    for key, array in arrays.items():
      kinds = [(a.shape[1:], a.dtype) for a in (array, train[key])]
      if kinds[0] != kinds[1]:
        texts = [f'{list(shape)} {dtype}' for shape, dtype in kinds]
        raise dataset.DataError(
          f'{path}: {names[split][key]} has examples {texts[0]}, but'
          f' {names["train"][key]} {texts[1]}'
        )


def _cut(path: str, arrays: Mapping) -> dict[str, dict]:
  num = len(arrays['x'])
  sizes = splits_lib.tenths(num, f'{path}: {num} examples')
  parts = splits_lib.stratify(sizes, arrays.get('label'))
  return {
    split: {key: array[index] for key, array in arrays.items()}
    for split, index in parts.items()
  }


def _clean_x(x: np.ndarray, levels: int | None, floats: bool) -> np.ndarray:
  if x.dtype.kind not in 'buif':
    raise ValueError(f'expected numbers, got {x.dtype}')
  if (x.dtype.kind == 'f') != floats:
    raise ValueError(f'{x.dtype}, where that of train is of another kind')
  if x.ndim < 2 or not all(x.shape):
    raise ValueError(f'expected [N, D] or [N, H, W, C], got {list(x.shape)}')
  if floats:
    return _finite(x)
  if levels is None and x.dtype not in (np.uint8, bool):
    raise ValueError(f'{x.dtype} needs the number of levels, as in ?levels=256')
  if levels is not None:
    low, high = int(x.min()), int(x.max())
    if low < 0 or high >= levels:
      wrong = low if low < 0 else high
      raise ValueError(f'levels must be from 0 to {levels - 1}, got {wrong}')
    x = x.astype(np.uint8 if levels <= 256 else np.int32)
  return x[..., None] if x.ndim == 3 else x


def _finite(x: np.ndarray, *_) -> np.ndarray:
  if x.dtype.kind not in 'fbui':
    raise ValueError(f'expected numbers, got {x.dtype}')
  with np.errstate(over='ignore'):
    x = np.ascontiguousarray(x, np.float32)
  wrong = ~np.isfinite(x)
  if wrong.any():
    first = np.unravel_index(wrong.argmax(), x.shape)
    raise ValueError(
      f'{wrong.sum()} values are not finite in float32, the first at'
      f' {list(map(int, first))}'
    )
  return x


def _classes(label: np.ndarray, *_) -> np.ndarray:
  if label.dtype.kind not in 'ui':
    raise ValueError(f'expected integers, got {label.dtype}')
  if label.ndim != 1:
    raise ValueError(f'expected [N], got {list(label.shape)}')
  if label.min() < 0 or label.max() >= 2**31:
    wrong = label.min() if label.min() < 0 else label.max()
    raise ValueError(f'classes must be from 0 on, got {wrong}')
  return label.astype(np.int32)


def _mask(mask: np.ndarray, *_) -> np.ndarray:
  if mask.dtype.kind not in 'bui' or not ((mask == 0) | (mask == 1)).all():
    raise ValueError('expected True and False, or 1 and 0')
  return mask.astype(bool)


def _text(text: np.ndarray, *_) -> np.ndarray:
  """Makes int32 tokens of [N] strings, by their UTF-8 bytes, or of [N, T] tokens."""
  if text.dtype.kind in 'ui' and text.ndim == 2 and text.min() >= 0:
    return text.astype(np.int32)
  if text.dtype.kind not in 'US' or text.ndim != 1:
    raise ValueError(f'expected [N] strings, got {list(text.shape)} {text.dtype}')
  encoded = text if text.dtype.kind == 'S' else np.char.encode(text, 'utf-8')
  encoded = np.ascontiguousarray(encoded, f'S{max(1, encoded.dtype.itemsize)}')
  return encoded.view(np.uint8).reshape(len(text), -1).astype(np.int32)


_CLEAN = {
  'x': _clean_x, 'y': _clean_x, 'label': _classes, 'domain': _classes, 'text': _text,
  'condition': _finite, 'mask': _mask,
}  # fmt: skip
