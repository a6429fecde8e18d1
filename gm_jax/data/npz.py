"""Arrays that a user saved with `numpy.savez`.

  x, y                                  split, the same way every time, 80/10/10
  x_train, y_train, x_test, y_test      as the names say; validation likewise
  train_images, train_labels, ...       the same, the split in front

Other arrays that are taken, by either scheme: `images` for x; `label`, `labels` for y;
`text`, `caption`, `captions`; `domain`, `domains`; `condition`; `mask`; and `y_image`,
`y_images` for a second domain, whose examples belong to those of x. Strings become
their UTF-8 bytes, padded with zeros. Anything else in the file is ignored, unless its
name is nearly one of these. Nothing in the file is ever executed.

Classes are the distinct labels of all splits, integers or strings, numbered in their
order; the labels are the names of the classes. Domains likewise.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence

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
SPLITS = {'train': 'train', 'validation': 'validation', 'val': 'validation'}
SPLITS |= {'test': 'test'}
# Of float images: those of many files, by what becomes -1 and 1.
INTERVALS = ((0.0, 1.0), (0.0, 255.0))
LISTED = 20  # names in an error, at most
FLOAT, INT = jnp.dtype(jnp.float32), jnp.dtype(jnp.int32)
NAMES = {name: (key, '') for name, key in KEYS.items()}
for _word, _split in SPLITS.items():
  NAMES |= {f'{name}_{_word}': (key, _split) for name, key in KEYS.items()}
  NAMES |= {f'{_word}_{name}': (key, _split) for name, key in KEYS.items()}


def npz(
  path: str,
  *,
  levels: int | None = None,
  transform: Callable[[int], base.Transform] | None = None,
  interval: Sequence[float] | None = None,
  whole: bool = False,
) -> dataset.Dataset:
  """Loads the arrays of a file, raw `x` [B, ...] and whatever else it holds.

  Images [N, H, W] get a channel axis. Integers are pixels: uint8 has 256 levels unless
  said otherwise. Floats are real numbers, and the model sees them as they are, except
  where they are images [N, H, W, C] and clearly from 0 to 1 or from 0 to 255: these are
  scaled to [-1, 1], as pixels are, and a line says so. So it is with `y_image` too, and
  the options hold for whichever of the two is of integers, or of floats.

  Args:
    path: of the .npz file.
    levels: K of integers 0..K-1; 256 for uint8 and 2 for bool if None.
    transform: factory of the way to model space, by the number of levels, for
      integers; `transforms.scaling` if None.
    interval: low, high of floats, which become -1 and 1 to the model; found for images
      if None. -1, 1 leaves them as they are.
    whole: whether arrays without splits are all 'train', as of a model's input.

  Returns:
    A Dataset.

  Raises:
    ValueError: an option does not fit the kind of x.
    DataError: the file or an array cannot be used; the array is named.
  """
  if levels is not None and not 2 <= levels <= transforms.MAX_LEVELS:
    raise ValueError(f'levels must be from 2 to {transforms.MAX_LEVELS}, got {levels}')
  if interval is not None and len(interval) != 2:
    raise ValueError(f'interval must be two numbers, got {len(interval)}')
  held = []
  found = arrays_file.read(path, lambda *where: _is_wanted(*where, held))
  splits, names = _by_split(path, found, held)
  for split, arrays in splits.items():
    _check_lengths(path, arrays, names[split])
  kinds = {key: array.dtype.kind for key, array in splits['train'].items()}
  floats = {key: kinds[key] == 'f' for key in ('x', 'y') if key in kinds}
  if all(floats.values()) and (levels or transform):
    option = 'levels' if levels else 'transform'
    raise ValueError(f'{path}: x is of floats, for which there is no option {option!r}')
  if interval is not None and not any(floats.values()):
    raise ValueError(
      f"{path}: x is of integers, for which there is no option 'interval'"
    )
  for split, arrays in splits.items():
    for key, array in arrays.items():
      try:
        arrays[key] = _CLEAN[key](
          array, levels, floats.get(key, array.dtype.kind == 'f')
        )
      except ValueError as error:
        raise dataset.DataError(f'{path}: {names[split][key]}: {error}') from error
  _check_alike(path, splits, names)
  classes = {
    key: _number(f'{path}: {names["train"][key]}', key, splits)
    for key in ('label', 'domain')
    if key in kinds
  }
  ways = {}
  for key, is_float in floats.items():
    if is_float:
      arrays = [arrays[key] for arrays in splits.values()]
      ways[key] = _real_way(f'{path}: {names["train"][key]}', arrays, interval)
    else:
      ways[key] = transform or transforms.scaling
  if '' in names and not whole:
    splits = _cut(path, splits['train'])
  strings = kinds.get('text') in ('U', 'S')
  data = _make(path, splits, levels, ways, classes, least_tokens=256 if strings else 0)
  return data._replace(
    tokenize=words.tokenize_bytes if strings else None,
    class_names=classes.get('label'),
    domain_names=classes.get('domain'),
  )


def _make(path, splits, levels, ways, classes, *, least_tokens) -> dataset.Dataset:
  train = splits['train']
  spaces = {key: _image_space(train[key], levels, way) for key, way in ways.items()}
  sizes = {key: len(names) for key, names in classes.items()}
  if 'text' in train:
    most = max(int(arrays['text'].max()) for arrays in splits.values())
    sizes['text'] = max(1 + most, least_tokens)
  parts = {key: base.Part(*space) for key, space in spaces.items() if key != 'x'}
  if 'condition' in train:
    shape = train['condition'].shape[1:]
    parts['condition'] = base.Part(shape, FLOAT, None, transforms.identity())
  for key in ('domain', 'text'):
    if key in train:
      parts[key] = base.Part(train[key].shape[1:], INT, sizes[key], transforms.tokens())
  for arrays in splits.values():
    for key in spaces:
      if arrays[key].dtype == bool:
        arrays[key] = arrays[key].astype(np.uint8)
  shape, dtype, num_levels, way = spaces['x']
  spec = base.DataSpec(shape, dtype, num_levels, sizes.get('label'), None, way, parts)
  rows = {split: dataset.array_rows(arrays) for split, arrays in splits.items()}
  hint = 'save x_validation and x_test, or x alone to have it split'
  return dataset.from_rows(f'npz:{path}', spec, rows, hint=hint)


def _image_space(array: np.ndarray, levels, way) -> tuple:
  """Finds the fields of a `Part` for pixels or other numbers [N, ...].

  Args:
    array: pixels or floats.
    levels: of pixels, or None.
    way: to model space, of pixels by the number of levels.
  """
  shape = array.shape[1:]
  if array.dtype.kind == 'f':
    return shape, FLOAT, None, way
  num_levels = levels or (2 if array.dtype == bool else 256)
  way = way(num_levels)
  return shape, transforms.dtype(way), num_levels, way


def _real_way(
  what: str, arrays: Sequence[np.ndarray], interval: Sequence[float] | None
) -> base.Transform:
  """Chooses the way of floats to model space, and says so where nobody asked for it."""
  if interval is not None:
    low, high = interval
    as_it_is = (low, high) == (-1, 1)
    return transforms.identity() if as_it_is else transforms.interval(low, high)
  low, high = min(a.min() for a in arrays), max(a.max() for a in arrays)
  if arrays[0].ndim != 4 or (low >= -1 and high <= 1 and low < -0.01):
    return transforms.identity()
  for least, most in INTERVALS:
    slack = 0.01 * (most - least)  # of images that were resized, say
    if low >= least - slack and (least + most) / 2 < high <= most + slack:
      dataset.warn(
        f'{what}: floats from {least:g} to {most:g} are scaled to [-1, 1];'
        ' ?interval=-1,1 leaves them as they are'
      )
      return transforms.interval(least, most)
  if low < -1 or high > 1:
    dataset.warn(
      f'{what}: floats from {low:.4g} to {high:.4g} stay as they are, and a network'
      f' that ends in tanh reaches -1 to 1; ?interval={low:.4g},{high:.4g} scales them'
    )
  return transforms.identity()


def _number(what: str, key: str, splits: Mapping) -> tuple[str, ...]:
  """Numbers the labels of all splits as classes, in their place; returns the names."""
  found, names = splits_lib.classes([arrays[key] for arrays in splits.values()])
  num = sum(len(arrays[key]) for arrays in splits.values())
  right = 'leave them out, or save numbers that are no classes as `condition`'
  splits_lib.check_classes(len(found), num, what, right)
  for arrays in splits.values():
    arrays[key] = splits_lib.to_classes(arrays[key], found)
  return names


def _is_wanted(path: str, name: str, held: list[str]) -> bool:
  """Tells whether an array is taken; a name that is nearly right is an error.

  Args:
    path: of the file.
    name: of the array.
    held: all names, to be added to.
  """
  held.append(name)
  if name in NAMES:
    return True
  near = difflib.get_close_matches(name, NAMES, 1, 0.8)
  if near:
    raise dataset.DataError(f'{path}: no use for {name!r}; did you mean {near[0]!r}?')
  return False


def _by_split(path: str, found: Mapping, held: Sequence[str]) -> tuple[dict, dict]:
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
      have = ', '.join([*held[:LISTED], *(['...'] if held[LISTED:] else [])])
      raise dataset.DataError(f'{path}: no {wanted}; there is {have or "no array"}')
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
  for arrays in splits.values():
    if set(arrays) != set(train):
      odd = sorted(set(arrays) ^ set(train))[0]
      raise dataset.DataError(f'{path}: {odd} is given for some splits, not for all')
  if 'text' in train:
    longest = max(arrays['text'].shape[1] for arrays in splits.values())
    for arrays in splits.values():
      short = longest - arrays['text'].shape[1]
      arrays['text'] = np.pad(arrays['text'], ((0, 0), (0, short)))
  for split, arrays in splits.items():
    for key, array in arrays.items():
      if array.dtype.kind == train[key].dtype.kind == 'U':
        continue  # strings, of any length
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
    x = _finite(x)
    return x[..., None] if x.ndim == 3 else x
  if levels is None and x.dtype not in (np.uint8, bool):
    raise ValueError(f'{x.dtype} needs the number of levels, as in ?levels=256')
  if levels is not None:
    low, high = int(x.min()), int(x.max())
    if low < 0 or high >= levels:
      wrong = low if low < 0 else high
      raise ValueError(f'levels must be from 0 to {levels - 1}, got {wrong}')
    x = x.astype(np.uint8 if levels <= 256 else np.int32)
  return x[..., None] if x.ndim == 3 else x


def _condition(x: np.ndarray, *_) -> np.ndarray:
  return _finite(x[:, None] if x.ndim == 1 else x)


def _finite(x: np.ndarray) -> np.ndarray:
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
  """Makes labels [N], int64 or strings, of [N] or [N, 1]."""
  if label.dtype.kind not in 'uiUS':
    raise ValueError(f'expected integers or strings, got {label.dtype}')
  if label.ndim == 2 and label.shape[1] == 1:
    label = label[:, 0]
  if label.ndim != 1:
    raise ValueError(
      f'expected [N], one label an example, got {list(label.shape)}; save several'
      ' numbers an example as `condition`'
    )
  if label.dtype.kind in 'US':
    return np.char.decode(label, 'utf-8') if label.dtype.kind == 'S' else label
  if label.min() < 0 or label.max() >= 2**63:
    wrong = label.min() if label.min() < 0 else label.max()
    raise ValueError(f'classes must be from 0 on, got {wrong}')
  return label.astype(np.int64)


def _mask(mask: np.ndarray, *_) -> np.ndarray:
  if mask.dtype.kind not in 'bui' or not ((mask == 0) | (mask == 1)).all():
    raise ValueError('expected True and False, or 1 and 0')
  return mask.astype(bool)


def _text(text: np.ndarray, *_) -> np.ndarray:
  """Makes int32 tokens of [N] strings, by their UTF-8 bytes, or of [N, T] tokens."""
  if text.dtype.kind in 'ui' and text.ndim == 2 and text.min() >= 0:
    return text.astype(np.int32)
  if text.dtype.kind in 'US' and text.ndim == 2 and text.shape[1] == 1:
    text = text[:, 0]
  if text.dtype.kind not in 'US' or text.ndim != 1:
    raise ValueError(f'expected [N] strings, got {list(text.shape)} {text.dtype}')
  encoded = text if text.dtype.kind == 'S' else np.char.encode(text, 'utf-8')
  encoded = np.ascontiguousarray(encoded, f'S{max(1, encoded.dtype.itemsize)}')
  return encoded.view(np.uint8).reshape(len(text), -1).astype(np.int32)


_CLEAN = {
  'x': _clean_x, 'y': _clean_x, 'label': _classes, 'domain': _classes, 'text': _text,
  'condition': _condition, 'mask': _mask,
}  # fmt: skip
