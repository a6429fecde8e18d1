"""Data as people have them: turned, damaged, oddly named, few, of any labels."""

import io
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from array_record.python import array_record_data_source, array_record_module
from PIL import Image, PngImagePlugin

from gm_jax.data import dataset, folder, images, npz, registry, splits, tfds, toy
from gm_jax.tasks import quality

RNG = np.random.default_rng(0)
TURNED = 6  # the camera lay on its side
FORMATS = [
  ('png', 'L'), ('png', 'RGBA'), ('png', 'I;16'), ('jpg', 'RGB'), ('jfif', 'L'),
  ('mpo', 'RGB'), ('tif', 'L'), ('tif', 'RGB'), ('tif', 'RGBA'), ('tif', 'I;16'),
  ('webp', 'RGBA'), ('avif', 'L'), ('avif', 'RGB'),
]  # fmt: skip
UPRIGHT = np.repeat(np.repeat([[255, 0], [0, 0]], 8, 0), 16, 1).astype(np.uint8)


def stored(orientation):
  """UPRIGHT as it lies in a file of this orientation, [16, 32] or [32, 16]."""
  return np.ascontiguousarray({1: UPRIGHT, 3: UPRIGHT[::-1, ::-1],
                               TURNED: UPRIGHT.T[::-1]}[orientation])  # fmt: skip


def encoded(suffix, mode='L', orientation=TURNED, pixels=None):
  pixels = stored(orientation) if pixels is None else pixels
  if mode == 'I;16':
    image = Image.fromarray(pixels.astype(np.uint16) * 257)
  else:
    image = Image.fromarray(pixels).convert(mode)
  exif = Image.Exif()
  exif[images.ORIENTATION] = orientation
  file = io.BytesIO()
  image.save(file, Image.registered_extensions()[f'.{suffix}'], exif=exif)
  return file.getvalue()


def saved(path, **arrays):
  np.savez(path / 'a.npz', **arrays)
  return str(path / 'a.npz')


def message(call, *args, kind=dataset.DataError, **options):
  with pytest.raises(kind) as caught:
    call(*args, **options)
  assert '\n' not in str(caught.value)
  return str(caught.value)


@pytest.mark.parametrize('orientation', [3, TURNED])
@pytest.mark.parametrize(('suffix', 'mode'), FORMATS)
def test_pixels_and_sizes_are_upright_in_every_format(
  tmp_path, suffix, mode, orientation
):
  if suffix == 'avif' and not images.has_avif():
    pytest.skip('this build of Pillow decodes no AVIF')
  path = tmp_path / f'a.{suffix}'
  path.write_bytes(encoded(suffix, mode, orientation))
  assert images.header(str(path))[0] == (16, 32)
  small = images.decode(io.BytesIO(encoded(suffix, mode, 1)), size=8, mode='L')
  for target in ('L', 'RGB'):
    for file in (str(path), io.BytesIO(path.read_bytes())):
      found = images.decode(file, size=None, mode=target)
      assert np.abs(found.astype(int) - UPRIGHT[..., None]).max() <= 8
  found = images.decode(str(path), size=8, mode='L')
  assert np.abs(found.astype(int) - small).max() <= 8
  for i in range(10):
    shutil.copy(path, tmp_path / f'{i}.{suffix}')
  assert folder.folder(str(tmp_path)).spec.shape[:2] == (16, 32)


def test_orientation_that_stands_after_the_pixels_counts(tmp_path):
  plain = encoded('png', orientation=1, pixels=stored(TURNED))
  exif = Image.Exif()
  exif[images.ORIENTATION] = TURNED
  file = io.BytesIO()
  PngImagePlugin.putchunk(file, b'eXIf', exif.tobytes().removeprefix(b'Exif\0\0'))
  end = plain.index(b'IEND') - 4
  before = plain.index(b'eXIf') - 4
  after = before + 12 + int.from_bytes(plain[before : before + 4], 'big')
  path = tmp_path / 'a.png'
  path.write_bytes(plain[:before] + plain[after:end] + file.getvalue() + plain[end:])
  assert images.header(str(path))[0] == (16, 32)
  np.testing.assert_array_equal(
    images.decode(str(path), size=None, mode='L')[..., 0], UPRIGHT
  )


def test_damage_beside_the_pixels_does_no_harm(tmp_path):
  path = tmp_path / 'a.jpg'
  path.write_bytes(encoded('jpg').replace(b'Exif\0\0MM', b'Exif\0\0??'))
  assert images.header(str(path))[0] == (32, 16)
  assert images.decode(str(path), size=None, mode='L').shape == (32, 16, 1)


def test_every_flipped_byte_of_a_png_is_noticed():
  pixels = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)
  whole = encoded('png', 'RGB', 1, pixels)
  wrong = OSError, SyntaxError, ValueError, Image.DecompressionBombError
  for i in range(len(whole) - 12):  # up to IEND, which says nothing
    with pytest.raises(wrong):
      damaged = whole[:i] + bytes([whole[i] ^ 0x10]) + whole[i + 1 :]
      images.decode(io.BytesIO(damaged), size=None, mode='RGB')


def test_images_that_are_not_decoded_are_named(tmp_path, capsys, monkeypatch):
  for name in ('cat', 'dog'):
    (tmp_path / name).mkdir()
    for i in range(6):
      (tmp_path / name / f'{i}.JFIF').write_bytes(encoded('jpg', orientation=1))
  for path in ('cat/a.HEIC', 'cat/b.heic', 'dog/c.svg', 'dog/notes.txt'):
    (tmp_path / path).write_bytes(b'?')
  data = folder.folder(str(tmp_path))
  assert sum(data.rows[split].num for split in data.rows) == 12
  assert capsys.readouterr().err == (
    f'warning: {tmp_path}: skipped images, 2 of .heic, 1 of .svg: convert them to PNG'
    ' or JPEG to have them\n'
  )
  (tmp_path / 'emu').mkdir()
  (tmp_path / 'emu' / 'a.avif').write_bytes(b'?')
  monkeypatch.setattr(images, 'has_avif', lambda: False)
  expected = 'emu: a class without images; skipped images, 1 of .avif: convert'
  assert message(folder.folder, str(tmp_path)).startswith(expected)
  for name in ('cat', 'dog', 'emu'):
    shutil.rmtree(tmp_path / name)
  (tmp_path / 'a.heic').write_bytes(b'?')
  assert '; skipped images, 1 of .heic' in message(folder.folder, str(tmp_path))


class Records(list):
  """Encoded examples, as a source of TensorFlow Datasets gives them."""

  def __getitems__(self, index):
    return [self[i] for i in index]


def records(files, labels=None):
  from tensorflow_datasets.proto import tf_example_pb2

  out = Records()
  for i, file in enumerate(files):
    example = tf_example_pb2.Example()
    example.features.feature['image'].bytes_list.value.append(file)
    if labels is not None:
      example.features.feature['label'].int64_list.value.append(int(labels[i]))
    out.append(example.SerializeToString())
  return out


def test_encoded_images_are_upright_and_of_one_size():
  source = records([encoded('png')] * 3 + [encoded('png', pixels=UPRIGHT)])
  shape = tfds._upright_shape('set', source, 'image', (32, 16, 1))
  assert shape == (16, 32, 1)
  rows = tfds._rows('set', source, 'image', None, shape, None, None)
  found = rows.get(np.arange(3))['x']
  np.testing.assert_array_equal(found, np.stack([UPRIGHT[..., None]] * 3))
  expected = 'set: an image is 16x32, where the first is 32x16: give one size, as in '
  assert message(rows.get, np.arange(4)).startswith(expected)


def test_flipped_bytes_of_records_are_noticed(tmp_path):
  path = str(tmp_path / 'a.array_record')
  examples = records([encoded('bmp', pixels=RNG.integers(0, 256, (4, 4, 3), np.uint8))
                      for _ in range(6)], range(6))  # fmt: skip
  writer = array_record_module.ArrayRecordWriter(path, 'group_size:1,uncompressed')
  for example in examples:
    writer.write(example)
  writer.close()
  with open(path, 'rb') as file:
    whole = file.read()
  first = whole.index(b'BM')
  for i in (first, first + 60, first + 100, whole.index(b'label') + 9):
    with open(path, 'wb') as file:
      file.write(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
    source = array_record_data_source.ArrayRecordDataSource([path])
    rows = tfds._rows('set train', source, 'image', 'label', (4, 4, 3), None, None)
    assert 'set train: cannot be decoded: ' in message(rows.get, np.arange(6))


def test_integers_of_prepared_sets_become_classes():
  labels = np.array([900, 7] * 6)
  source = records([encoded('png', orientation=1)] * 12, labels)
  found, names = tfds._distinct('set', {'train': source[:0], 'test': source}, 'label')
  assert names == ('7', '900')
  rows = tfds._rows('set', source, 'image', 'label', (16, 32, 1), None, found)
  np.testing.assert_array_equal(rows.get(np.arange(4))['label'], [1, 0, 1, 0])
  many = {'train': records([b''] * 12, range(12))}
  assert '12 classes for 12 examples' in message(tfds._distinct, 'set', many, 'label')


PIXELS = RNG.integers(0, 256, (20, 4, 4), dtype=np.uint8)


@pytest.mark.parametrize(
  ('labels', 'names'),
  [
    (np.array([900_000, 7]), ('7', '900000')),
    (np.array([3, 1], np.uint64), ('1', '3')),
    (np.array([[2], [0]], np.uint8), ('0', '2')),
    (np.array(['b10', 'b9']), ('b9', 'b10')),
    (np.array(['\u00e9'.encode(), b'a']), ('a', '\u00e9')),
  ],
)
def test_classes_are_the_distinct_labels(tmp_path, labels, names):
  labels = np.concatenate([labels] * 10)
  data = npz.npz(saved(tmp_path, x=PIXELS, y=labels, domain=labels))
  assert data.spec.num_classes == data.spec.parts['domain'].num_levels == 2
  assert data.class_names == data.domain_names == names
  for split in ('train', 'validation', 'test'):
    arrays = data.arrays(split)
    for x, label in zip(arrays['x'], arrays['label'], strict=True):
      (at,) = np.flatnonzero((PIXELS[..., None] == x).all((1, 2, 3)))
      word = labels[at].item() if labels.ndim == 1 else labels[at, 0].item()
      assert names[label] == (word.decode() if isinstance(word, bytes) else str(word))
    assert arrays['label'].dtype == np.int32
  assert data.encode('label', names[1]) == data.encode('domain', names[1]) == 1


def test_classes_are_those_of_all_splits(tmp_path):
  data = npz.npz(saved(tmp_path, x_train=PIXELS, y_train=np.array(['a', 'c'] * 10),
                       x_test=PIXELS[:2], y_test=np.array(['bcd', 'a'])))  # fmt: skip
  assert data.class_names == ('a', 'bcd', 'c')
  assert data.arrays('test')['label'].tolist() == [1, 0]


def test_number_that_is_no_class_is_refused_with_the_classes(tmp_path):
  data = npz.npz(saved(tmp_path, x=PIXELS, y=np.array([7, 900_000] * 10)))
  found = message(data.encode, 'label', '70', kind=ValueError)
  assert found == "no label '70'; did you mean '7'? There are: 7, 900000"


def test_labels_that_are_no_classes_are_refused(tmp_path):
  path = saved(tmp_path, x=PIXELS, y=np.arange(20) * 1000)
  assert message(npz.npz, path) == (
    f'{path}: y has 20 classes for 20 examples, and a class needs two or more: leave'
    ' them out, or save numbers that are no classes as `condition`'
  )
  path = saved(tmp_path, x=PIXELS, y=np.zeros((20, 14), int))
  assert 'got [20, 14]; save several numbers an example as `con' in message(
    npz.npz, path
  )
  for i in range(12):
    (tmp_path / f'{i}').mkdir()
    (tmp_path / f'{i}' / 'a.png').write_bytes(encoded('png', orientation=1))
  assert '12 classes for 12 examples, and a class needs two or more: put' in message(
    folder.folder, str(tmp_path)
  )


def test_names_with_the_split_in_front(tmp_path):
  arrays = {}
  for i, split in enumerate(('train', 'val', 'test')):
    arrays[f'{split}_images'] = PIXELS[i:]
    arrays[f'{split}_labels'] = (np.arange(20 - i)[:, None] % 3).astype(np.uint8)
  data = npz.npz(saved(tmp_path, **arrays))
  assert data.spec.num_classes == 3 and data.spec.num_train == 20
  for i, split in enumerate(('train', 'validation', 'test')):
    found = data.arrays(split)
    np.testing.assert_array_equal(found['x'][..., 0], PIXELS[i:])
    np.testing.assert_array_equal(found['label'], np.arange(20 - i) % 3)
  path = saved(tmp_path, train_images=PIXELS, x_train=PIXELS)
  assert 'both train_images and x_train: keep one' in message(npz.npz, path)


def test_names_of_no_use_are_listed(tmp_path):
  path = saved(tmp_path, pixel_table=PIXELS, kinds=PIXELS)
  assert message(npz.npz, path) == (
    f'{path}: no x_train and no x; there is pixel_table, kinds'
  )


def test_number_an_example_is_a_condition_of_one(tmp_path):
  data = npz.npz(saved(tmp_path, x=PIXELS, condition=np.arange(20)))
  assert data.spec.parts['condition'].shape == (1,)
  assert data.arrays('train')['condition'].shape == (16, 1)
  np.testing.assert_array_equal(data.encode('condition', '2.5'), [2.5])


@pytest.mark.parametrize(
  ('low', 'high', 'words', 'ends'),
  [
    (0, 1, 'floats from 0 to 1 are scaled to [-1, 1]; ?interval=-1,1 leaves', (-1, 1)),
    (0, 255, 'floats from 0 to 255 are scaled to [-1, 1]; ?interval=-1,1', (-1, 1)),
    (-1, 1, '', (-1, 1)),
    (-2, 2, 'floats from -2 to 2 stay as they are, and a network that', (-2, 2)),
    (0, 9, 'floats from 0 to 9 stay as they are, and', (0, 9)),
    (0, 0.25, '', (0, 0.25)),
  ],
)
def test_scaling_of_float_images_is_said(tmp_path, capsys, low, high, words, ends):
  x = np.linspace(low, high, 20 * 16).reshape(20, 4, 4)
  data = npz.npz(saved(tmp_path, x=x, y_image=x[..., None], condition=x * 100))
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == (2 if words else 0)
  for line, name in zip(lines, ('x', 'y_image'), strict=False):
    assert line.startswith(f'warning: {tmp_path}/a.npz: {name}: {words}')
  assert data.spec.shape == (4, 4, 1)
  raw = np.concatenate([data.arrays(s)['x'] for s in ('train', 'validation', 'test')])
  np.testing.assert_allclose(np.sort(raw, None), x.ravel(), rtol=1e-6)
  model = dataset.transformed(data.spec, {'x': raw, 'y': raw, 'condition': raw})
  for key, part in {'x': data.spec, **data.spec.parts}.items():
    wanted = (low, high) if key == 'condition' else ends
    np.testing.assert_allclose(
      [model[key].min(), model[key].max()], wanted, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(part.transform.inverse(model[key]), raw, atol=1e-4)


def test_scaling_of_floats_can_be_chosen(tmp_path, capsys):
  path = saved(tmp_path, x=np.linspace(0, 1, 320).reshape(20, 4, 4, 1))
  for option, ends in (('-1,1', (0, 1)), ('0,2', (-1, 0))):
    data = registry.load(f'npz:{path}?interval={option}')
    x = dataset.transformed(data.spec, {'x': jnp.array([[[[0.0]]], [[[1.0]]]])})['x']
    assert tuple(x.ravel().tolist()) == ends
  points = saved(tmp_path, x=np.linspace(0, 255, 60).reshape(20, 3))
  assert npz.npz(points).spec.transform.forward(None, 255.0) == 255  # no images
  assert capsys.readouterr().err == ''
  for option, words in (('1,1', 'must be low < high, got 1, 1'), ('1', 'two numbers')):
    with pytest.raises(ValueError, match=words):
      registry.load(f'npz:{path}?interval={option}')
  path = saved(tmp_path, x=PIXELS)
  with pytest.raises(ValueError, match="of integers, for which there is no option 'in"):
    npz.npz(path, interval=(0, 1))


@pytest.mark.parametrize('num', range(10, 45))
def test_every_split_has_what_it_needs(num):
  sizes = splits.tenths(num, 'examples')
  assert sum(sizes.values()) == num and min(sizes.values()) >= 2
  assert sizes['train'] >= 3 * sizes['test'] and sizes['test'] == max(2, num // 10)


def test_single_test_image_is_too_few(tmp_path):
  data = npz.npz(saved(tmp_path, x_train=PIXELS, x_test=PIXELS[:1]))
  arrays = {split: data.arrays(split) for split in ('train', 'test')}
  assert "the split 'test' has a single image, and distances need two" in message(
    quality.image_distances, arrays, data.spec, kind=ValueError
  )


def test_flipped_bytes_of_arrays_are_noticed(tmp_path):
  x, y = PIXELS[:10, :2, :2], np.arange(10) % 2
  path = saved(tmp_path, x=x, y=y)
  with open(path, 'rb') as file:
    whole = file.read()
  expected = np.sort(x.reshape(10, -1).sum(1) * 2 + y)
  names = [i for i in range(len(whole)) if whole[i : i + 5] in (b'x.npy', b'y.npy')]
  for i in sorted({*names, *range(0, len(whole), 23)}):
    with open(path, 'wb') as file:
      file.write(whole[:i] + bytes([whole[i] ^ 0x11]) + whole[i + 1 :])
    try:
      data = npz.npz(path)
    except dataset.DataError as error:
      assert '\n' not in str(error)
    else:
      parts = [data.arrays(split) for split in ('train', 'validation', 'test')]
      found = [p['x'].reshape(len(p['x']), -1).sum(1) * 2 + p['label'] for p in parts]
      np.testing.assert_array_equal(np.sort(np.concatenate(found)), expected)


def fingerprints(*names, **options):
  return [registry.load(name, **options).fingerprint for name in names]


def test_every_data_set_has_a_fingerprint_that_is_its_own():
  names = [
    'digits', 'digits?labels=100', 'digits?crop=6', 'melodies', 'manual',
    'manual?length=32', 'stacked:digits', 'dynamic:digits', 'static:digits',
    'unpaired:digits|melodies', 'unpaired:melodies|digits', 'domains:digits|digits',
    'patches:digits',
    *(f'toy:{name}' for name in toy.TOYS), 'toy:ring?std=0.1',
    'toy:moons?std=0.2', 'domains:toy:ring|toy:grid',
  ]  # fmt: skip
  found = fingerprints(*names)
  assert all(found) and len(set(found)) == len(names)
  assert fingerprints(*names[:-1]) == found[:-1]


def test_fingerprint_of_a_toy_is_that_of_its_options():
  first, *others = fingerprints(
    'toy:ring', 'toy:ring?num_modes=8&std=0.02', 'toy:ring?std=0.02', 'toy:ring?std=.03'
  )
  assert [first == other for other in others] == [True, True, False]


def test_fingerprint_of_files_is_of_their_content(tmp_path):
  def both(x, where, **options):
    there = tmp_path / where
    there.mkdir()
    (there / 'a').mkdir()
    for i, pixels in enumerate(x):
      Image.fromarray(pixels).save(there / 'a' / f'{i}.bmp')
    names = f'npz:{saved(there, x=x)}', f'folder:{there / "a"}'
    return [registry.load(name, **options).fingerprint for name in names]

  changed = PIXELS.copy()
  changed[3, 2, 1] ^= 1
  first = both(PIXELS, 'one')
  assert both(PIXELS, 'two') == first  # wherever it lies
  assert all(a != b for a, b in zip(both(changed, 'three'), first, strict=True))
  path = tmp_path / 'one' / 'a'
  assert folder.folder(str(path), memory=False).fingerprint == first[1]
  (path / '3.bmp').rename(path / '33.bmp')
  assert folder.folder(str(path)).fingerprint != first[1]


def test_fingerprint_of_much_data_is_of_a_sample(monkeypatch):
  def fingerprint(x):
    spec = registry.load('digits').spec
    return dataset.in_memory('many', spec, {'train': {'x': x}}).fingerprint

  x = RNG.integers(0, 256, (100, 10), np.uint8)
  monkeypatch.setattr(dataset, 'BLOCK', 50)
  whole = fingerprint(x)
  monkeypatch.setattr(dataset, 'BLOCK', 2**20)
  assert fingerprint(x[:99]) != fingerprint(x)
  monkeypatch.setattr(dataset, 'CHECKED', 200)
  sampled = fingerprint(x)
  assert sampled != fingerprint(255 - x) and whole != sampled
  assert fingerprint(x) == sampled
