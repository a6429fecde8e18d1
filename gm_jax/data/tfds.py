"""Images that TensorFlow Datasets has prepared, read without TensorFlow.

The files must be in the array_record format, which can be read at any place. Nothing
is downloaded unless asked for: a data set that is not there is an error at once,
which says how to get it.

A damaged file is noticed where it is read: array_record has a checksum of every record.
"""

import importlib.util
import io
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from gm_jax import base
from gm_jax.data import dataset, images, transforms
from gm_jax.data import splits as splits_lib

_NAME = re.compile(r'\w+(/[\w.+-]+)?(:\d+\.\d+\.\d+)?', re.ASCII)
CHUNK = 1024  # records read at once
_VERSION = re.compile(r'\d+\.\d+\.\d+')


def tfds(
  name: str,
  data_dir: str | None = None,
  *,
  validation: int = 0,
  image: str | None = None,
  label: str | None = None,
  size: int | None = None,
  mode: Literal['L', 'RGB'] | None = None,
  transform: Callable[[int], base.Transform] = transforms.scaling,
  memory: bool | None = None,
  download: bool = False,
) -> dataset.Dataset:
  """Loads images of TensorFlow Datasets, raw `x` [B, H, W, C] uint8, `label` [B] int32.

  The splits are those that were prepared.

  Args:
    name: as TensorFlow Datasets has it, NAME[/CONFIG][:VERSION].
    data_dir: where it keeps its data; TFDS_DATA_DIR or ~/tensorflow_datasets if None.
    validation: how many of the last examples of 'train' to hold out as 'validation'.
    image: feature for `x`; if None, the only one of images.
    label: feature for `label`; if None, the only one of classes, if there is one. Of
      integers without classes, the classes are the distinct ones, sorted.
    size: H and W, by central crop and antialiased resize; if None, as prepared, made
      upright.
    mode: 'L' for gray, 'RGB' for color; if None, as prepared.
    transform: factory of the way to model space, by the number of levels.
    memory: whether all is decoded at once; if None, where it takes at most 1 GiB.
    download: whether to download and prepare what is not there; needs TensorFlow.

  Returns:
    A Dataset.

  Raises:
    ValueError: the name or an option makes no sense for this data set.
    DataError: it is not there, in another format, damaged, or without images.
  """
  images.check_size(size)
  if not _NAME.fullmatch(name):
    raise ValueError(f'tfds:{name} must be tfds:NAME[/CONFIG][:VERSION]')
  default = os.environ.get('TFDS_DATA_DIR', '~/tensorflow_datasets')
  data_dir = os.path.expanduser(data_dir or default)
  where = _find(name, data_dir)
  if where is None:
    where = _fetch(name, data_dir, download)
  info = _info(name, where, data_dir)
  image, label = _features(name, info.features, image, label)
  shape = _shape(name, info.features[image], size, mode)
  sources = _sources(name, where, info, validation)
  if size is None and 'train' in sources:
    shape = _upright_shape(f'{name} train', sources['train'], image, shape)
  classes, found = info.features[label] if label else None, None
  num_classes = getattr(classes, 'num_classes', None)
  class_names = tuple(getattr(classes, 'names', None) or ()) or None
  if label and num_classes is None:
    found, class_names = _distinct(name, sources, label)
    num_classes = len(found)
  rows = {
    split: _rows(f'{name} {split}', source, image, label, shape, size, found)
    for split, source in sources.items()
  }
  way = transform(256)
  spec = base.DataSpec(shape, transforms.dtype(way), 256, num_classes, None, way)
  hint = "hold some of 'train' out, as in ?validation=5000"
  fingerprint = dataset.checksum(
    info.full_name,
    sorted((s, i.num_examples, i.num_bytes) for s, i in info.splits.items()),
    [len(source) for _, source in sorted(sources.items())],
    image,
    label,
  )
  data = dataset.from_rows(
    f'tfds:{name}', spec, rows, memory=memory, hint=hint, fingerprint=fingerprint
  )
  return data._replace(class_names=class_names)


def _find(name: str, data_dir: str) -> str | None:
  """Finds the folder of a prepared data set: the newest version, unless one is named.

  It is looked for by hand: the library's own search asks the network.
  """
  name, _, version = name.partition(':')
  folder = os.path.join(data_dir, name)
  configs = [folder]
  if '/' not in name and os.path.isdir(folder):
    configs += sorted(e.path for e in os.scandir(folder) if e.is_dir())
  found = []
  for config in configs:
    names = os.listdir(config) if os.path.isdir(config) else []
    versions = [v for v in names if _VERSION.fullmatch(v) and version in ('', v)]
    versions.sort(key=lambda v: [int(n) for n in v.split('.')])
    paths = [os.path.join(config, v) for v in versions]
    paths = [p for p in paths if os.path.isfile(os.path.join(p, 'dataset_info.json'))]
    found += paths[-1:]
  own = os.path.dirname(found[0]) == folder if found else False
  if len(found) > 1 and not own:
    known = ', '.join(os.path.basename(os.path.dirname(path)) for path in found)
    raise ValueError(f'tfds:{name} has configs: {known}; name one, as {name}/CONFIG')
  return found[0] if found else None


def _command(name: str, data_dir: str) -> str:
  return (
    'python -c "import tensorflow_datasets as tfds;'
    f" tfds.builder('{name}', data_dir='{data_dir}', file_format='array_record')"
    '.download_and_prepare()"'
  )


def _fetch(name: str, data_dir: str, download: bool) -> str:
  """Downloads and prepares a data set, where that is allowed; returns its folder."""
  if not download:
    raise dataset.DataError(
      f'{name} is not in {data_dir}; add ?download=true, or get it where TensorFlow is'
      f' installed by: {_command(name, data_dir)}'
    )
  if importlib.util.find_spec('tensorflow') is None:
    raise dataset.DataError(
      f'{name} cannot be prepared here, for which TensorFlow must be installed; where'
      f' it is: {_command(name, data_dir)}'
    )
  import tensorflow_datasets  # heavy

  try:
    builder = tensorflow_datasets.builder(
      name, data_dir=data_dir, file_format='array_record'
    )
    builder.download_and_prepare()
  except Exception as error:  # of the network, of the disk, of any builder
    raise dataset.DataError(f'{name} cannot be downloaded: {_line(error)}') from error
  return str(builder.data_dir)


def _info(name: str, where: str, data_dir: str) -> Any:
  import tensorflow_datasets  # heavy

  try:
    info = tensorflow_datasets.builder_from_directory(where).info
  except Exception as error:  # of many types, where files are damaged
    raise dataset.DataError(f'{where} cannot be opened: {_line(error)}') from error
  found = info.file_format.value if info.file_format else 'no format'
  if found != 'array_record':
    raise dataset.DataError(
      f'{where} is prepared as {found}, and array_record is needed; remove it and run,'
      f' where TensorFlow is installed: {_command(name, data_dir)}'
    )
  return info


def _features(
  name: str, features: Mapping, image: str | None, label: str | None
) -> tuple[str, str | None]:
  """Finds the features of images and of classes."""
  import tensorflow_datasets  # heavy

  kinds = tensorflow_datasets.features
  found = {key: type(feature).__name__ for key, feature in features.items()}
  known = ', '.join(f'{key} ({kind})' for key, kind in sorted(found.items()))
  for option, key in (('image', image), ('label', label)):
    if key is not None and key not in found:
      raise ValueError(f'tfds:{name}: {option}={key!r} is no feature: {known}')
  if image is None:
    pictures = [k for k, f in features.items() if isinstance(f, kinds.Image)]
    if not pictures:
      raise dataset.DataError(f'{name} has no feature of images: {known}')
    if len(pictures) > 1:
      choices = ' or '.join(f'image={k}' for k in sorted(pictures))
      raise ValueError(f'tfds:{name}: several images, give {choices}')
    image = pictures[0]
  elif not isinstance(features[image], kinds.Image):
    raise ValueError(f'tfds:{name}: image={image!r} is no image: {known}')
  if label is None:
    classes = [k for k, f in features.items() if isinstance(f, kinds.ClassLabel)]
    return image, classes[0] if len(classes) == 1 else None
  if features[label].shape != () or features[label].np_dtype.kind not in 'iu':
    raise ValueError(f'tfds:{name}: label={label!r} is no integer: {known}')
  return image, label


def _shape(name: str, feature: Any, size: int | None, mode: str | None) -> tuple:
  if np.dtype(feature.np_dtype) != np.uint8:
    raise dataset.DataError(f'{name} has images of {feature.np_dtype}, expected uint8')
  height, width, channels = feature.shape
  if size is None and None in (height, width):
    raise ValueError(f'tfds:{name}: images differ in size: give one, as in ?size=32')
  gray = channels == 1 if mode is None else mode == 'L'
  return (size or height, size or width, 1 if gray else 3)


def _sources(name: str, where: str, info: Any, validation: int) -> dict[str, Any]:
  """Opens the sources of encoded examples by split."""
  import tensorflow_datasets  # heavy

  wanted = {split: split for split in info.splits if split != 'all'}
  if validation:
    num = info.splits['train'].num_examples if 'train' in wanted else 0
    if 'validation' in wanted:
      raise ValueError(f'tfds:{name} has a split validation: leave the option out')
    if not 0 < validation < num:
      raise ValueError(f'tfds:{name}: validation must be from 1 to {num - 1}')
    wanted |= {
      'train': f'train[:-{validation}]',
      'validation': f'train[-{validation}:]',
    }
  builder = tensorflow_datasets.builder_from_directory(where)
  method = tensorflow_datasets.decode.DeserializeMethod.RAW_BYTES
  sources = {}
  for split, part in wanted.items():
    try:
      source = builder.as_data_source(split=part, deserialize_method=method)
      source[0]  # opens the file
    except Exception as error:  # of many types, where files are missing or damaged
      raise dataset.DataError(f'{where}: {split}: {_line(error)}') from error
    sources[split] = source
  return sources


def _read(source, index: np.ndarray) -> list[Any]:
  """Reads the features of examples."""
  from tensorflow_datasets.proto import tf_example_pb2  # heavy

  records = source.__getitems__(index.tolist())
  return [tf_example_pb2.Example.FromString(r).features.feature for r in records]


def _upright_shape(what: str, source, image: str, shape: tuple) -> tuple:
  """Finds the shape of images by the first one: the record has it as it was stored."""
  try:
    (first,) = _read(source, np.arange(1))
    encoded = io.BytesIO(first[image].bytes_list.value[0])
    pixels = images.decode(encoded, size=None, mode='L')
  except Exception as error:  # of many types, where bytes are damaged
    raise dataset.DataError(f'{what}: cannot be decoded: {_line(error)}') from error
  return (*pixels.shape[:2], shape[-1])


def _distinct(name: str, sources: Mapping, label: str) -> tuple[np.ndarray, tuple]:
  """Finds the classes of integers that have none: labels [K], and their names."""
  labels = []
  for split, source in sources.items():
    try:
      for first in range(0, len(source), CHUNK):
        index = np.arange(first, min(first + CHUNK, len(source)))
        labels.append(_labels(_read(source, index), label))
    except Exception as error:  # of many types, where bytes are damaged
      what = f'{name} {split}: cannot be decoded'
      raise dataset.DataError(f'{what}: {_line(error)}') from error
  found, names = splits_lib.classes(labels)
  num = sum(map(len, labels))
  splits_lib.check_classes(
    len(found), num, f'tfds:{name}: label={label}', 'name another feature'
  )
  return found, names


def _labels(features: list[Any], label: str) -> np.ndarray:
  values = [feature[label].int64_list.value[0] for feature in features]
  return np.array(values, np.int64)


def _rows(what, source, image, label, shape, size, classes) -> dataset.Rows:
  def get(index):
    try:
      features = _read(source, index)
      encoded = [feature[image].bytes_list.value[0] for feature in features]
      arrays = {'x': _pixels(encoded, shape, size)}
      if label is not None:
        labels = _labels(features, label)
        if classes is not None:
          labels = splits_lib.to_classes(labels, classes)
        arrays['label'] = labels.astype(np.int32)
      return arrays
    except dataset.DataError as error:
      raise dataset.DataError(f'{what}: {error}') from error
    except Exception as error:  # of many types, where bytes are damaged
      raise dataset.DataError(f'{what}: cannot be decoded: {_line(error)}') from error

  return dataset.Rows(len(source), get, decodes=True)


def _pixels(encoded, shape, size) -> np.ndarray:
  """Decodes images, [N, *shape] uint8."""
  mode = 'L' if shape[-1] == 1 else 'RGB'
  found = [images.decode(io.BytesIO(file), size=size, mode=mode) for file in encoded]
  for pixels in found:
    if pixels.shape != shape:
      sizes = [f'{s[1]}x{s[0]}' for s in (pixels.shape, shape)]
      raise dataset.DataError(
        f'an image is {sizes[0]}, where the first is {sizes[1]}: give one size, as in'
        ' ?size=32'
      )
  return np.stack(found)


def _line(error: Exception) -> str:
  return ' '.join(str(error).split()).rstrip('.')[:300] or type(error).__name__
