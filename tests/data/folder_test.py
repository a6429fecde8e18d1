"""Folders of images of every kind, and what is said of those that cannot be used."""

import itertools
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gm_jax.data import dataset, folder, images, registry, splits

RNG = np.random.default_rng(0)


def save(path, array, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(array).save(path, **options)
  return path


def gray(value, shape=(4, 6)):
  return np.full(shape, value, np.uint8)


@pytest.fixture
def pets(tmp_path):
  """Two classes, 20 and 10 images, each of one gray value."""
  for i in range(30):
    save(tmp_path / ('cat' if i < 20 else 'dog') / f'{i:02d}.png', gray(i))
  (tmp_path / 'Thumbs.db').write_bytes(b'none')
  (tmp_path / 'cat' / 'notes.txt').write_text('none')
  (tmp_path / 'cat' / '._00.png').write_text('none')
  (tmp_path / '.hidden').mkdir()
  return tmp_path


def failure(path, **options):
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    with pytest.raises(dataset.DataError) as caught:
      folder.folder(str(path), **options)
  assert '\n' not in str(caught.value)
  return str(caught.value)


@pytest.mark.parametrize('memory', [None, False])
def test_classes_are_sub_folders_and_shared_out(pets, memory):
  data = folder.folder(str(pets), memory=memory)
  assert data.spec.shape == (4, 6, 1) and data.spec.num_levels == 256
  assert data.spec.num_classes == 2 and data.spec.num_train == 24
  assert data.class_names == ('cat', 'dog')
  parts = {s: data.arrays(s) for s in ('train', 'validation', 'test')}
  counts = {s: np.bincount(p['label']).tolist() for s, p in parts.items()}
  assert counts == {'train': [16, 8], 'validation': [2, 1], 'test': [2, 1]}
  for part in parts.values():
    assert part['x'].dtype == np.uint8 and part['label'].dtype == np.int32
    np.testing.assert_array_equal(part['label'], part['x'][:, 0, 0, 0] >= 20)
  every = np.concatenate([p['x'][:, 0, 0, 0] for p in parts.values()])
  np.testing.assert_array_equal(np.sort(every), np.arange(30))
  again = folder.folder(str(pets), memory=memory).arrays('test')
  np.testing.assert_array_equal(again['x'], parts['test']['x'])


def test_splits_are_the_folders_own(pets, tmp_path):
  root = tmp_path / 'split'
  root.mkdir()
  for split, name in (('train', 'cat'), ('train', 'dog'), ('val', 'dog')):
    for i in range(3):
      save(root / split / name / f'{i}.png', gray(i))
  data = folder.folder(str(root))
  assert data.arrays('validation')['label'].tolist() == [1, 1, 1]
  assert data.spec.num_train == 6
  with pytest.raises(ValueError, match="no split 'test': .*make a sub-folder"):
    data.arrays('test')


def test_classes_sort_as_numbers_do(tmp_path):
  for name in ('10', '9', '2', 'b10', 'b9', 'a', 'B', 'b'):
    for i in range(3):
      save(tmp_path / name / f'{i}.png', gray(i))
  data = folder.folder(str(tmp_path))
  assert data.class_names == ('2', '9', '10', 'B', 'a', 'b', 'b9', 'b10')
  assert [int(data.encode('label', n)) for n in ('2', '10', 'b9', 'A')] == [0, 2, 6, 4]


@given(st.lists(st.text(st.characters(exclude_categories=['Nd']), max_size=6)))
def test_names_without_digits_sort_as_they_always_did(names):
  assert sorted(names, key=splits.natural_key) == sorted(names)


@given(st.lists(st.text('019ab-_', max_size=6)))
def test_natural_order_is_plain_but_for_the_numbers(names):
  found = sorted(names, key=splits.natural_key)
  assert sorted(found) == sorted(names)
  for a, b in itertools.pairwise(found):
    first = next(
      (i for i, (p, q) in enumerate(zip(a, b, strict=False)) if p != q), None
    )
    digits = [first is not None and c[first].isdigit() for c in (a, b)]
    if a > b:  # then the names differ first within numbers
      assert any(digits)
  numbers = [name for name in found if name.isdigit()]
  assert [int(n) for n in numbers] == sorted(int(n) for n in numbers)


def test_flat_folder_has_no_labels(tmp_path):
  for i in range(12):
    save(tmp_path / f'{i}.png', gray(i))
  data = folder.folder(str(tmp_path))
  assert list(data.arrays('train')) == ['x'] and data.spec.num_classes is None
  assert data.class_names is None
  assert len(data.arrays('test')['x']) == 2


def filled(tmp_path, count=10, shape=(4, 4)):
  for i in range(count):
    save(tmp_path / f'zz{i}.png', gray(i, shape))


def one(tmp_path, name, **options):
  """The pixels of one image among plain ones."""
  return images.decode(str(tmp_path / name), **{'size': None, 'mode': 'RGB', **options})


def test_palette_transparency_cmyk_and_gif(tmp_path):
  color = RNG.integers(0, 256, (4, 4, 3), dtype=np.uint8)
  Image.fromarray(color).quantize(16).save(tmp_path / 'palette.png')
  np.testing.assert_array_equal(one(tmp_path, 'palette.png'), color)

  rgba = np.zeros((4, 4, 4), np.uint8)
  rgba[:2] = [255, 0, 0, 128]
  save(tmp_path / 'rgba.png', rgba)
  found = one(tmp_path, 'rgba.png')
  assert (found[2:] == 255).all()  # clear black is white
  np.testing.assert_allclose(found[:2] - np.array([255.0, 127, 127]), 0, atol=1)

  la = np.stack([gray(0, (4, 4)), gray(0, (4, 4))], -1)
  save(tmp_path / 'la.png', la)
  assert (one(tmp_path, 'la.png', mode='L') == 255).all()

  keyed = Image.fromarray(gray(7, (4, 4)))
  keyed.save(tmp_path / 'keyed.png', transparency=7)
  assert (one(tmp_path, 'keyed.png', mode='L') == 255).all()

  cmyk = Image.fromarray(color).convert('CMYK')
  cmyk.save(tmp_path / 'cmyk.tif')
  np.testing.assert_array_equal(one(tmp_path, 'cmyk.tif'), color)

  frames = [Image.fromarray(gray(value, (4, 4))) for value in (9, 99)]
  frames[0].save(tmp_path / 'a.gif', save_all=True, append_images=frames[1:])
  assert (one(tmp_path, 'a.gif', mode='L') == 9).all()


@pytest.mark.parametrize('name', ['deep.png', 'deep.tif'])
def test_16_bits_become_8(tmp_path, name):
  deep = np.array([[0, 257, 128 * 257, 65535], [100, 200, 1000, 40000]], np.uint16)
  Image.fromarray(deep).save(tmp_path / name)
  np.testing.assert_array_equal(
    one(tmp_path, name, mode='L')[..., 0], np.rint(deep / 257)
  )
  assert images.header(str(tmp_path / name)) == ((2, 4), False)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('suffix', ['png', 'jpg'])
def test_image_is_made_upright(tmp_path, orientation, suffix):
  upright = np.zeros((16, 32), np.uint8)
  upright[:8, :16] = 255
  stored = {
    1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
    5: upright.T, 6: upright.T[::-1], 7: upright.T[::-1, ::-1], 8: upright.T[:, ::-1],
  }[orientation]  # fmt: skip
  exif = Image.Exif()
  exif[0x0112] = orientation
  path = save(tmp_path / f'a.{suffix}', np.ascontiguousarray(stored), exif=exif)
  found = images.decode(str(path), size=None, mode='L')[..., 0]
  np.testing.assert_allclose(found.astype(int), upright, atol=4)
  if suffix == 'jpg':
    assert images.header(str(path))[0] == (16, 32)


def test_resizing_is_a_central_crop_and_antialiased(tmp_path):
  wide = np.zeros((64, 128), np.uint8)
  wide[:, 32:96] = np.indices((64, 64)).sum(0) % 2 * 255  # a fine checkerboard
  path = str(save(tmp_path / 'a.png', wide))
  found = images.decode(path, size=8, mode='L')[..., 0]
  assert found.shape == (8, 8)
  assert np.abs(found.astype(int) - 127).max() <= 4  # gray, not aliased
  alone = save(tmp_path / 'b.png', np.ascontiguousarray(wide[:, 32:96]))
  alone = images.decode(str(alone), size=8, mode='L')[..., 0]
  np.testing.assert_array_equal(found, alone)
  exact = images.decode(path, size=64, mode='L')[..., 0]
  np.testing.assert_array_equal(exact, wide[:, 32:96])


def test_mode_and_size_by_the_headers(tmp_path):
  filled(tmp_path)
  assert folder.folder(str(tmp_path)).spec.shape == (4, 4, 1)
  assert folder.folder(str(tmp_path), mode='RGB').spec.shape == (4, 4, 3)
  Image.fromarray(gray(3, (4, 4))).convert('P').save(tmp_path / 'p.png')
  assert folder.folder(str(tmp_path)).spec.shape == (4, 4, 1)
  save(tmp_path / 'color.png', np.zeros((4, 4, 3), np.uint8))
  assert folder.folder(str(tmp_path)).spec.shape == (4, 4, 3)
  assert folder.folder(str(tmp_path), mode='L').spec.shape == (4, 4, 1)
  save(tmp_path / 'other.png', gray(0, (9, 5)))
  with pytest.raises(ValueError, match=r'differ in size \(color.png is 4x4, other.png'):
    folder.folder(str(tmp_path))
  spec = registry.load(f'folder:{tmp_path}?size=8&mode=RGB').spec
  assert spec.shape == (8, 8, 3)


def test_truncated_image(pets):
  noise = RNG.integers(0, 256, (64, 64), dtype=np.uint8)
  for name in ('bad.png', 'bad.jpg'):
    path = save(pets / 'cat' / name, noise)
    path.write_bytes(path.read_bytes()[:-700])
    assert failure(pets, size=4).startswith(f'cat/{name}: cannot be decoded: ')
    streamed = folder.folder(str(pets), size=4, memory=False)
    with pytest.raises(dataset.DataError, match=f'cat/{name}: cannot be decoded'):
      for _, _ in zip(range(20), streamed.batches('train', 8, seed=0), strict=False):
        pass
      streamed.arrays('test'), streamed.arrays('validation')
    path.unlink()


def test_image_by_its_suffix_alone(pets):
  (pets / 'dog' / 'no.JPG').write_text('no picture')
  assert failure(pets) == 'dog/no.JPG: not an image, whatever its suffix says'
  (pets / 'dog' / 'no.JPG').write_bytes(b'')
  assert failure(pets).startswith('dog/no.JPG: ')


def test_folders_that_hold_nothing_of_use(pets, tmp_path):
  (pets / 'emu').mkdir()
  assert failure(pets) == 'emu: a class without images'
  empty = tmp_path / 'empty'
  empty.mkdir()
  (empty / 'a.txt').write_text('')
  assert 'no images: .apng, .avif' in failure(empty)
  assert failure(tmp_path / 'none').endswith('no such folder')
  filled(empty, 9)
  assert '9 images: too few to split 80/10/10' in failure(empty)


def test_layouts_that_are_not_clear(pets):
  save(pets / 'cat' / 'kitten' / 'a.png', gray(0))
  assert failure(pets) == 'cat/kitten: a folder within a class; images only'
  save(pets / 'loose.png', gray(0))
  assert failure(pets) == 'loose.png: an image beside class folders'


def test_split_folders_that_do_not_agree(tmp_path):
  save(tmp_path / 'train' / 'cat' / 'a.png', gray(0))
  save(tmp_path / 'test' / 'dog' / 'a.png', gray(0))
  assert failure(tmp_path) == 'test/dog: train has no class of this name'
  (tmp_path / 'test' / 'dog').rename(tmp_path / 'test' / 'cat')
  assert folder.folder(str(tmp_path)).spec.num_train == 1
  (tmp_path / 'val').mkdir()
  assert failure(tmp_path) == 'val: no class folders, but train has them'
  save(tmp_path / 'val' / 'a.png', gray(0))
  assert failure(tmp_path) == 'val: no class folders, but train has them'
  (tmp_path / 'train' / 'cat' / 'a.png').unlink()
  (tmp_path / 'train' / 'cat').rmdir()
  assert failure(tmp_path) == 'train: no images'
  (tmp_path / 'validation').mkdir()
  assert 'both val and validation' in failure(tmp_path)
  (tmp_path / 'trial').mkdir()
  assert "'trial' is beside the folder train" in failure(tmp_path)


def test_links(pets, tmp_path_factory):
  outside = tmp_path_factory.mktemp('outside')
  target = save(outside / 'a.png', gray(0))
  (pets / 'cat' / 'in.png').symlink_to(pets / 'cat' / '00.png')
  assert folder.folder(str(pets)).spec.num_classes == 2
  for link, to in (('cat/out.png', target), ('out', outside)):
    (pets / link).symlink_to(to)
    assert failure(pets) == f'{link}: a link that leaves the folder'
    (pets / link).unlink()
  (pets / 'cat' / 'dead.png').symlink_to(pets / 'cat' / 'gone.png')
  assert failure(pets).startswith('cat/dead.png: neither a file nor a folder')
  (pets / 'cat' / 'dead.png').unlink()
  os.mkfifo(pets / 'cat' / 'pipe.png')
  assert failure(pets).startswith('cat/pipe.png: neither a file nor a folder')
  (pets / 'cat' / 'pipe.png').unlink()
  linked = outside / 'link'
  linked.symlink_to(pets)
  assert folder.folder(str(linked)).spec.num_classes == 2


@pytest.mark.parametrize('side', [2**13 + 1, 10_000, 20_000, 2**30])
def test_huge_header(pets, side):
  header = struct.pack('>II5B', side, side, 8, 0, 0, 0, 0)
  chunk = b'IHDR' + header
  crc = struct.pack('>I', zlib.crc32(chunk))
  (pets / 'cat' / 'huge.png').write_bytes(
    b'\x89PNG\r\n\x1a\n' + struct.pack('>I', 13) + chunk + crc
    + struct.pack('>I', 0) + b'IDAT' + struct.pack('>I', zlib.crc32(b'IDAT'))
  )  # fmt: skip
  expected = (
    'cat/huge.png: cannot be decoded: its header claims more than 64 megapixels'
  )
  assert failure(pets) == expected


def test_unreadable_file(pets, monkeypatch):
  path = pets / 'cat' / '03.png'
  if os.geteuid():
    path.chmod(0)
  else:  # root may read anything
    real = images.header

    def refused(file):
      if file.endswith('03.png'):
        raise PermissionError(13, 'Permission denied', file)
      return real(file)

    monkeypatch.setattr(images, 'header', refused)
  assert failure(pets) == 'cat/03.png: cannot be read: Permission denied'


def test_floats_are_no_pixels(tmp_path):
  filled(tmp_path)
  Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / 'f.tif')
  assert failure(tmp_path).endswith('f.tif: cannot be decoded: its pixels are floats')


def test_upright_size_is_that_of_the_pixels(tmp_path):
  filled(tmp_path, shape=(4, 6))
  exif = Image.Exif()
  exif[0x0112] = 6
  save(tmp_path / 'turned.png', gray(0), exif=exif)
  with pytest.raises(
    ValueError, match=r'turned.png is 4x6, zz0.png is 6x4\): give one'
  ):
    folder.folder(str(tmp_path))
