"""Any folder of images: a class is a sub-folder.

  cat/1.png dog/2.jpg                split, the same way every time, 80/10/10
  train/cat/1.png test/cat/2.png     as the folders say, where there is a `train`
  1.png 2.jpg                        no classes

Classes are numbered in the order of their names, where a run of digits counts as one
number: 2 comes before 10. What is no image by its suffix is ignored, and so is what is
hidden; what is an image by its suffix and cannot be one is an error. Images of formats
that are not decoded here, as .heic, are skipped, and a line says so. See `images` for
how pixels are made and damage is found.
"""

import collections
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from gm_jax import base
from gm_jax.data import dataset, images, transforms
from gm_jax.data import splits as splits_lib

SUFFIXES = frozenset([
  '.png', '.apng', '.jpg', '.jpeg', '.jpe', '.jfif', '.mpo', '.gif', '.bmp', '.dib',
  '.webp', '.tif', '.tiff', '.ppm', '.pgm', '.pbm', '.pnm', '.avif', '.jp2', '.tga',
])  # fmt: skip
# Of images too, which are not decoded here.
OTHERS = frozenset([
  '.heic', '.heif', '.hif', '.jxl', '.svg', '.psd', '.exr', '.hdr', '.raw', '.dng',
  '.cr2', '.cr3', '.nef', '.arw', '.orf', '.raf', '.rw2',
])  # fmt: skip
AVIF = '.avif'  # decoded where Pillow was built so
SAMPLE = 256  # files, at most, whose bytes are in the fingerprint
SPLITS = {'train': 'train', 'validation': 'validation', 'val': 'validation'}
SPLITS |= {'test': 'test'}


class Files(NamedTuple):
  """Images of a split: paths relative to the folder, and class numbers or None."""

  paths: list[str]
  labels: list[int] | None


def folder(
  path: str,
  *,
  size: int | None = None,
  mode: Literal['L', 'RGB'] | None = None,
  transform: Callable[[int], base.Transform] = transforms.scaling,
  memory: bool | None = None,
  whole: bool = False,
) -> dataset.Dataset:
  """Loads the images of a folder, raw `x` [B, H, W, C] uint8, and `label` [B] int32.

  Args:
    path: of the folder.
    size: H and W, by central crop and antialiased resize; may be left out where all
      images have one size.
    mode: 'L' for gray, 'RGB' for color; if None, 'RGB' where an image has color by
      its header.
    transform: factory of the way to model space, by the number of levels.
    memory: whether all is decoded at once; if None, where it takes at most 1 GiB.
    whole: whether images without splits are all 'train', as of a model's input.

  Returns:
    A Dataset.

  Raises:
    ValueError: the images differ in size and no size is given.
    DataError: the folder or a file cannot be used; the file is named.
  """
  images.check_size(size)
  root = os.path.realpath(path)
  if not os.path.isdir(root):
    raise dataset.DataError(f'{path}: no such folder')
  skipped = collections.Counter()
  splits, classes = _find(root, skipped, whole)
  if skipped:
    dataset.warn(f'{path}: {_skipped(skipped)}')
  num = sum(len(files.paths) for files in splits.values())
  right = 'put the images into one folder to have no classes'
  splits_lib.check_classes(len(classes), num, f'{path}: it', right)
  every = sorted(p for files in splits.values() for p in files.paths)
  sizes, colored = _headers(root, every)
  if size is None and len(set(sizes)) > 1:
    other = next(i for i, s in enumerate(sizes) if s != sizes[0])
    texts = [f'{every[i]} is {sizes[i][1]}x{sizes[i][0]}' for i in (0, other)]
    raise ValueError(
      f'{path}: images differ in size ({", ".join(texts)}): give one, as in ?size=32'
    )
  mode = mode or ('RGB' if colored else 'L')
  height, width = (size, size) if size else sizes[0]
  shape = (height, width, 1 if mode == 'L' else 3)
  rows = {
    split: _rows(root, files, shape, size, mode) for split, files in splits.items()
  }
  way = transform(256)
  spec = base.DataSpec(
    shape, transforms.dtype(way), 256, len(classes) or None, None, way
  )
  hint = 'make a sub-folder of that name'
  data = dataset.from_rows(
    f'folder:{path}',
    spec,
    rows,
    memory=memory,
    hint=hint,
    fingerprint=_fingerprint(root, splits),
  )
  return data._replace(class_names=tuple(classes) or None)


def _fingerprint(root: str, splits: Mapping[str, Files]) -> str:
  """Makes a checksum of names and sizes of all files, and of the bytes of some."""
  paths = sorted(path for files in splits.values() for path in files.paths)
  sizes = [os.path.getsize(os.path.join(root, path)) for path in paths]
  some = paths[:: -(-len(paths) // SAMPLE)]
  contents = (pathlib.Path(root, path).read_bytes() for path in some)
  names = [path.replace(os.sep, '/') for path in paths]
  return dataset.checksum(names, sizes, *contents)


def _skipped(skipped: Mapping[str, int]) -> str:
  """Says which images were skipped."""
  listed = ', '.join(f'{num} of {suffix}' for suffix, num in sorted(skipped.items()))
  return f'skipped images, {listed}: convert them to PNG or JPEG to have them'


def _find(
  root: str, skipped: collections.Counter, whole: bool
) -> tuple[dict[str, Files], list[str]]:
  """Finds the files of every split, and the names of the classes.

  Args:
    root: of all paths.
    skipped: number of images that cannot be decoded, by suffix, to be added to.
    whole: whether what has no splits is one.
  """
  folders, files = _list(root, '', skipped)
  if 'train' not in folders:
    paths, labels, classes = _label(root, '', folders, files, None, skipped)
    if not paths:
      more = f'; {_skipped(skipped)}' if skipped else ''
      raise dataset.DataError(f'{root}: no images: {", ".join(sorted(SUFFIXES))}{more}')
    if whole:
      return {'train': Files(paths, labels)}, classes
    sizes = splits_lib.tenths(len(paths), f'{root}: {len(paths)} images')
    parts = splits_lib.stratify(sizes, None if labels is None else np.array(labels))
    return {
      split: Files(
        [paths[i] for i in index],
        None if labels is None else [labels[i] for i in index],
      )
      for split, index in parts.items()
    }, classes
  strange = [name for name in [*folders, *files] if name not in SPLITS]
  if strange:
    raise dataset.DataError(
      f'{root}: {strange[0]!r} is beside the folder train: expected {", ".join(SPLITS)}'
    )
  if len({SPLITS[name] for name in folders}) < len(folders):
    raise dataset.DataError(f'{root}: both val and validation: keep one')
  splits, classes = {}, None
  for name in sorted(folders, key=lambda name: name != 'train'):
    inner, inside = _list(root, name, skipped)
    paths, labels, classes = _label(root, name, inner, inside, classes, skipped)
    if not paths:
      more = f'; {_skipped(skipped)}' if skipped else ''
      raise dataset.DataError(f'{name}: no images{more}')
    splits[SPLITS[name]] = Files(paths, labels)
  return splits, classes


def _label(
  root: str,
  where: str,
  folders: Sequence[str],
  files: Sequence[str],
  known: list[str] | None,
  skipped: collections.Counter,
) -> tuple[list[str], list[int] | None, list[str]]:
  """Labels the images of a folder: paths, labels and names of classes.

  Args:
    root: of all paths.
    where: the folder, relative to it.
    folders: its sub-folders.
    files: its images.
    known: classes that there may be, those of 'train'; any if None.
    skipped: as in `_find`.
  """
  if folders and files:
    raise dataset.DataError(
      f'{os.path.join(where, files[0])}: an image beside class folders'
    )
  if not folders:
    if known:
      raise dataset.DataError(f'{where}: no class folders, but train has them')
    return [os.path.join(where, file) for file in files], None, []
  classes = list(folders) if known is None else known
  paths, labels = [], []
  for name in folders:
    inner = os.path.join(where, name)
    if name not in classes:
      raise dataset.DataError(f'{inner}: train has no class of this name')
    others = collections.Counter()
    deeper, found = _list(root, inner, others)
    if deeper:
      raise dataset.DataError(
        f'{os.path.join(inner, deeper[0])}: a folder within a class; images only'
      )
    if not found:
      more = f'; {_skipped(others)}' if others else ''
      raise dataset.DataError(f'{inner}: a class without images{more}')
    skipped.update(others)
    paths += [os.path.join(inner, file) for file in found]
    labels += [classes.index(name)] * len(found)
  return paths, labels, classes


def _list(
  root: str, where: str, skipped: collections.Counter
) -> tuple[list[str], list[str]]:
  """Lists the sub-folders, in natural order, and the images in a folder, sorted."""
  folders, files = [], []
  try:
    with os.scandir(os.path.join(root, where)) as found:
      entries = sorted(found, key=lambda entry: entry.name)
  except OSError as error:
    raise dataset.DataError(f'{where or root}: {error.strerror}') from error
  for entry in entries:
    suffix = os.path.splitext(entry.name)[1].lower()
    image = suffix in SUFFIXES and (suffix != AVIF or images.has_avif())
    # Not entry.is_dir(), which raises for links in a circle.
    is_folder = os.path.isdir(entry.path)
    if entry.name.startswith('.'):
      continue
    if not (image or is_folder):
      if suffix in OTHERS or suffix == AVIF:
        skipped[suffix] += 1
      continue
    path = os.path.join(where, entry.name)
    if entry.is_symlink():
      target = os.path.realpath(entry.path)
      if os.path.commonpath([target, root]) != root:
        raise dataset.DataError(f'{path}: a link that leaves the folder')
    if is_folder:
      folders.append(entry.name)
    elif os.path.isfile(entry.path):
      files.append(entry.name)
    else:
      raise dataset.DataError(f'{path}: neither a file nor a folder, or a dead link')
  return sorted(folders, key=splits_lib.natural_key), files


def _headers(root: str, paths: Sequence[str]) -> tuple[list[tuple[int, int]], bool]:
  """Reads (height, width) of every image, and whether any has color."""
  sizes, colored = [], False
  with images.no_bombs():
    for path in paths:
      try:
        size, color = images.header(os.path.join(root, path))
      except Exception as error:
        raise _unusable(path, error) from error
      sizes.append(size)
      colored |= color
  return sizes, colored


def _rows(root, files: Files, shape, size, mode) -> dataset.Rows:
  label = None if files.labels is None else np.array(files.labels, np.int32)

  def decode(path):
    try:
      pixels = images.decode(os.path.join(root, path), size=size, mode=mode)
    except Exception as error:
      raise _unusable(path, error) from error
    if pixels.shape != shape:
      found, expected = (f'{s[1]}x{s[0]}' for s in (pixels.shape, shape))
      raise dataset.DataError(f'{path}: is {found}, where others are {expected}')
    return pixels

  def get(index):
    arrays = {'x': np.stack([decode(files.paths[i]) for i in index])}
    return arrays if label is None else {**arrays, 'label': label[index]}

  return dataset.Rows(len(files.paths), get, decodes=True)


def _unusable(path: str, error: Exception) -> dataset.DataError:
  """Names the file where PIL raises an error of whatever type."""
  from PIL import UnidentifiedImageError  # heavy

  if isinstance(error, UnidentifiedImageError):
    return dataset.DataError(f'{path}: not an image, whatever its suffix says')
  if isinstance(error, OSError) and error.strerror:
    return dataset.DataError(f'{path}: cannot be read: {error.strerror}')
  why = ' '.join(str(error).split()).rstrip('.') or type(error).__name__
  return dataset.DataError(f'{path}: cannot be decoded: {why}')
