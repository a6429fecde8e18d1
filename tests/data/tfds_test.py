"""TensorFlow Datasets without TensorFlow: data sets built here, and real ones."""

import io
import itertools
import os
import pathlib
import shutil
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from PIL import Image

from gm_jax.data import dataset, registry, tfds

SUMS = {'mnist': 1_567_298_545, 'fashion_mnist': 3_431_114_169}
PIXELS = np.random.default_rng(0).integers(0, 256, (50, 6, 5, 3), dtype=np.uint8)


def encoded(pixels):
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'PNG')
  return io.BytesIO(file.getvalue())


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  """A data_dir with data sets of 40 and 10 images."""
  import tensorflow_datasets as library

  features = library.features

  class Base(library.core.GeneratorBasedBuilder):
    VERSION = library.core.Version('1.2.0')

    def _split_generators(self, dl_manager):
      del dl_manager
      return {'train': self._generate_examples(range(40)),
              'test': self._generate_examples(range(40, 50))}  # fmt: skip

    def _generate_examples(self, numbers):
      for i in numbers:
        yield i, self.example(i)

  def builder(name, kinds, example, **options):
    def info(self):
      return library.core.DatasetInfo(
        builder=self, features=features.FeaturesDict(kinds)
      )

    class_dict = {'_info': info, 'example': lambda self, i: example(i), 'name': name}
    made = type(name, (Base,), class_dict)(data_dir=str(path), **options)
    made.download_and_prepare()

  path = tmp_path_factory.mktemp('tfds')
  names = ['ant', 'bee', 'cow', 'dog']
  image, label = features.Image(shape=(6, 5, 3)), features.ClassLabel(names=names)
  both = {'picture': image, 'kind': label}
  record = {'file_format': 'array_record'}
  builder(
    'plain', both, lambda i: {'picture': encoded(PIXELS[i]), 'kind': i % 4}, **record
  )
  builder('words', {'kind': label}, lambda i: {'kind': i % 4}, **record)
  builder(
    'sizes',
    {'picture': features.Image(), 'id': np.int64},
    lambda i: {'picture': encoded(PIXELS[i, : 3 + i % 3]), 'id': 7 * (i % 10)},
    **record,
  )
  builder(
    'pair',
    {'left': image, 'right': image},
    lambda i: {'left': encoded(PIXELS[i]), 'right': encoded(255 - PIXELS[i])},
    **record,
  )
  return path


def load(root, name, **options):
  return tfds.tfds(name, str(root), **options)


def unsorted(x):
  flat = x.reshape(len(x), -1)
  return flat[np.lexsort(flat.T)]


@pytest.mark.parametrize('memory', [True, False])
def test_images_and_labels_are_those_that_were_built(root, memory):
  data = load(root, 'plain', memory=memory)
  assert data.spec.shape == (6, 5, 3) and data.spec.num_classes == 4
  assert data.spec.num_train == 40 and data.spec.num_levels == 256
  assert data.class_names == ('ant', 'bee', 'cow', 'dog')
  assert data.encode('label', 'Cow') == 2
  parts = [data.arrays(split) for split in ('train', 'test')]
  found = np.concatenate([p['x'] for p in parts])
  np.testing.assert_array_equal(unsorted(found), unsorted(PIXELS))
  number = [int(np.flatnonzero((x == PIXELS).all((1, 2, 3)))[0]) for x in found]
  labels = np.concatenate([p['label'] for p in parts])
  np.testing.assert_array_equal(labels, np.array(number) % 4)
  assert labels.dtype == np.int32 and found.dtype == np.uint8


def test_streamed_and_in_memory_are_the_same_at_any_start(root):
  loaded, streamed = (load(root, 'plain', memory=m) for m in (True, False))
  for start in (0, 3, 17):
    streams = [d.batches('train', 12, seed=5, start=start) for d in (loaded, streamed)]
    for a, b in itertools.islice(zip(*streams, strict=True), 6):
      np.testing.assert_array_equal(a['x'], b['x'])
      np.testing.assert_array_equal(a['label'], b['label'])


def test_validation_is_held_out_only_if_asked_for(root):
  with pytest.raises(ValueError, match=r"no split 'validation': .*\?validation=5000"):
    load(root, 'plain').arrays('validation')
  data = load(root, 'plain', validation=7)
  assert data.spec.num_train == 33
  found = [load(root, 'plain', validation=n).fingerprint for n in (7, 7, 0)]
  assert data.fingerprint == found[0] == found[1] != found[2]
  parts = [data.arrays(s)['x'] for s in ('train', 'validation')]
  train = load(root, 'plain').arrays('train')['x']
  np.testing.assert_array_equal(np.concatenate(parts), train)
  for wrong in (-1, 40, 10**12):
    with pytest.raises(ValueError, match='validation must be from 1 to 39'):
      load(root, 'plain', validation=wrong)


def test_features_are_found_or_named(root):
  with pytest.raises(dataset.DataError, match=r'no feature of images: kind \(ClassLab'):
    load(root, 'words')
  with pytest.raises(
    ValueError, match='several images, give image=left or image=right'
  ):
    load(root, 'pair')
  right = load(root, 'pair', image='right').arrays('train')
  left = load(root, 'pair', image='left').arrays('train')
  np.testing.assert_array_equal(right['x'], 255 - left['x'])
  assert list(right) == ['x']
  with pytest.raises(ValueError, match="image='up' is no feature: left"):
    load(root, 'pair', image='up')
  with pytest.raises(ValueError, match="image='kind' is no image"):
    load(root, 'plain', image='kind')
  with pytest.raises(ValueError, match="label='left' is no integer"):
    load(root, 'pair', image='left', label='left')


def test_images_of_many_sizes_need_one(root):
  with pytest.raises(ValueError, match=r'differ in size: give one, as in \?size=32'):
    load(root, 'sizes')
  data = load(root, 'sizes', size=3, mode='L', label='id')
  assert data.spec.shape == (3, 3, 1) and data.spec.num_classes == 10
  assert data.class_names == tuple(str(7 * i) for i in range(10))
  arrays = data.arrays('train')
  for i in range(0, 40, 3):  # of height 3: only cropped
    crop = np.asarray(Image.fromarray(PIXELS[i, :3, 1:4]).convert('L'))
    (at,) = np.flatnonzero((arrays['x'][..., 0] == crop).all((1, 2)))
    assert arrays['label'][at] == i % 10


def test_version_and_config_in_the_name(root, tmp_path):
  assert load(root, 'plain:1.2.0').spec.num_train == 40
  with pytest.raises(dataset.DataError, match='plain:1.1.0 is not in'):
    load(root, 'plain:1.1.0')
  for config in ('a', 'b'):
    shutil.copytree(root / 'plain' / '1.2.0', tmp_path / 'plain' / config / '1.2.0')
  with pytest.raises(ValueError, match='has configs: a, b; name one, as plain/CONFIG'):
    load(tmp_path, 'plain')
  assert load(tmp_path, 'plain/a').spec.num_train == 40
  shutil.copytree(root / 'plain' / '1.2.0', tmp_path / 'plain' / '1.2.0')
  assert load(tmp_path, 'plain').spec.num_train == 40


def test_absent_set_is_an_error_at_once_with_the_command(tmp_path):
  start = time.monotonic()
  with pytest.raises(dataset.DataError) as caught:
    load(tmp_path, 'cifar10')
  found = str(caught.value)
  assert time.monotonic() - start < 1 and '\n' not in found
  assert '?download=true' in found and 'TensorFlow is installed' in found
  assert f"tfds.builder('cifar10', data_dir='{tmp_path}'" in found
  assert "file_format='array_record').download_and_prepare()" in found


@pytest.mark.skipif(
  'tensorflow' in sys.modules or shutil.which('saved_model_cli') is not None,
  reason='TensorFlow is installed: it would download',
)
def test_download_without_tensorflow_fails_at_once(tmp_path):
  start = time.monotonic()
  with pytest.raises(dataset.DataError, match='TensorFlow must be installed'):
    load(tmp_path, 'cifar10', download=True)
  assert time.monotonic() - start < 10


def test_tfrecord_is_refused_with_what_to_do(root, tmp_path):
  shutil.copytree(root / 'plain', tmp_path / 'plain')
  file = tmp_path / 'plain' / '1.2.0' / 'dataset_info.json'
  file.write_text(file.read_text().replace('array_record', 'tfrecord'))
  with pytest.raises(dataset.DataError, match='prepared as tfrecord, and array_record'):
    load(tmp_path, 'plain')


def test_damaged_sets_are_named(root, tmp_path):
  shutil.copytree(root / 'plain', tmp_path / 'plain')
  folder = tmp_path / 'plain' / '1.2.0'
  shard = next(folder.glob('*train.array_record*'))
  whole = shard.read_bytes()
  for content in (whole[: len(whole) // 2], b'', None):
    shard.unlink() if content is None else shard.write_bytes(content)
    with pytest.raises(dataset.DataError) as caught:
      load(tmp_path, 'plain')
    assert '\n' not in str(caught.value)
  (folder / 'features.json').write_text('{')
  with pytest.raises(dataset.DataError, match='1.2.0 cannot be opened'):
    load(tmp_path, 'plain')


@pytest.mark.drill
def test_tensorflow_is_never_imported(root):
  code = (
    'import sys; from gm_jax.data import registry;'
    f"d = registry.load('tfds:plain?memory=false', data_dir={str(root)!r});"
    "next(d.batches('train', 4, seed=0));"
    "sys.exit('tensorflow' in sys.modules)"
  )
  assert subprocess.run([sys.executable, '-c', code], timeout=120).returncode == 0


def real(name):
  """The data_dir that holds a real data set; else the test is skipped, aloud."""
  places = [os.environ.get('GM_JAX_TFDS'), os.environ.get('TFDS_DATA_DIR')]
  places = [place for place in places if place] or ['~/tensorflow_datasets']
  for place in map(os.path.expanduser, places):
    if pathlib.Path(place, name).is_dir():
      return place
  reason = f'NOT TESTED: {name} is in none of {places}; set GM_JAX_TFDS to a data_dir'
  warnings.warn(reason, stacklevel=2)
  pytest.skip(reason)


@pytest.mark.slow
@pytest.mark.parametrize('name', SUMS)
def test_real_images_by_content(name):
  data = registry.load(f'tfds:{name}?validation=5000', data_dir=real(name))
  parts = {split: data.arrays(split) for split in ('train', 'validation', 'test')}
  sizes = {split: len(p['label']) for split, p in parts.items()}
  assert sizes == {'train': 55_000, 'validation': 5000, 'test': 10_000}
  total = sum(int(parts[s]['x'].sum(dtype=np.int64)) for s in ('train', 'validation'))
  assert total == SUMS[name]
  assert np.bincount(parts['test']['label']).min() >= 890
  streamed = registry.load(f'tfds:{name}?memory=false', data_dir=real(name))
  found, expected = (next(d.batches('test', 64, seed=1)) for d in (streamed, data))
  np.testing.assert_array_equal(found['x'], expected['x'])
