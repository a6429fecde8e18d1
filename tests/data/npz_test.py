"""Arrays of a user: what they become, and what is said of those that cannot be used."""

import io
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.data import dataset, npz, registry, transforms

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (20, 4, 5), dtype=np.uint8)
POINTS = RNG.normal(size=(20, 3)).astype(np.float32)
LABELS = np.arange(20) % 3


def saved(tmp_path, **arrays):
  path = tmp_path / 'data.npz'
  np.savez(path, **arrays)
  return str(path)


def test_pixels_by_split(tmp_path):
  path = saved(tmp_path, x_train=PIXELS, y_train=LABELS, x_test=PIXELS[:7],
               y_test=LABELS[:7])  # fmt: skip
  data = npz.npz(path)
  assert data.spec.shape == (4, 5, 1) and data.spec.num_levels == 256
  assert data.spec.num_classes == 3 and data.spec.num_train == 20
  assert data.spec.transform.measure == 'mass' and data.spec.dtype == jnp.float32
  arrays = data.arrays('train')
  np.testing.assert_array_equal(arrays['x'][..., 0], PIXELS)
  np.testing.assert_array_equal(arrays['label'], LABELS)
  assert arrays['x'].dtype == np.uint8 and arrays['label'].dtype == np.int32
  with pytest.raises(ValueError, match=r"no split 'validation': .*save x_validation"):
    data.arrays('validation')


def test_one_set_is_split_by_class(tmp_path):
  x = np.arange(200, dtype=np.float64)[:, None] * [1, 2]
  labels = np.repeat([0, 1], 100)
  data = npz.npz(saved(tmp_path, x=x, y=labels))
  assert data.spec.num_levels is None and data.spec.transform.measure == 'density'
  parts = {split: data.arrays(split) for split in ('train', 'validation', 'test')}
  assert [len(p['x']) for p in parts.values()] == [160, 20, 20]
  for arrays in parts.values():
    assert arrays['x'].dtype == np.float32
    assert np.bincount(arrays['label']).tolist() == [len(arrays['x']) // 2] * 2
  every = np.concatenate([p['x'] for p in parts.values()])
  np.testing.assert_array_equal(every[every[:, 0].argsort()], x)


def test_every_key_by_its_other_names(tmp_path):
  captions = np.array(['naïve', 'ab', ''] + ['x'] * 17)
  path = saved(
    tmp_path, images_train=POINTS, labels_train=LABELS, captions_train=captions,
    domains_train=LABELS, condition_train=POINTS, mask_train=POINTS > 0,
    note=np.array('left alone'), images_val=POINTS, labels_val=LABELS,
    captions_val=np.array(['a']*20), domains_val=LABELS, condition_val=POINTS,
    mask_val=POINTS > 0,
  )  # fmt: skip
  data = npz.npz(path)
  arrays = data.arrays('train')
  assert set(arrays) == {'x', 'label', 'text', 'domain', 'condition', 'mask'}
  text = arrays['text']
  assert text.dtype == np.int32 and text.shape == (20, 6)
  assert bytes(text[0].astype(np.uint8)).decode() == 'naïve'
  np.testing.assert_array_equal(text[1:3], [[97, 98, 0, 0, 0, 0], [0] * 6])
  assert arrays['mask'].dtype == bool
  np.testing.assert_array_equal(arrays['condition'], POINTS)
  assert data.arrays('validation')['text'].shape == (20, 6)


def test_parts_are_the_spaces_of_what_stands_beside_x(tmp_path):
  path = saved(
    tmp_path, x=POINTS, y_image=PIXELS, text=np.array(['ab', 'c'] * 10),
    condition=LABELS[:, None] * [1, 2], domain=LABELS, label=LABELS, mask=POINTS > 0,
  )  # fmt: skip
  data = npz.npz(path, transform=transforms.dequantization)  # of y, the integers
  parts = data.spec.parts
  found = {
    k: (p.shape, jnp.dtype(p.dtype).name, p.num_levels) for k, p in parts.items()
  }
  assert found == {
    'y': ((4, 5, 1), 'float32', 256),
    'condition': ((2,), 'float32', None),
    'text': ((2,), 'int32', 256),
    'domain': ((), 'int32', 3),
  }
  assert data.spec.transform.measure == parts['y'].transform.measure == 'density'
  batch = next(data.batches('train', 8, seed=0))
  assert batch['y'].dtype == np.uint8
  model = dataset.transformed(data.spec, batch)
  for key, part in parts.items():
    assert model[key].dtype == part.dtype and model[key].shape[1:] == part.shape
    np.testing.assert_array_equal(part.transform.inverse(model[key]), batch[key])
  # Integers of a condition are floats; each y is that of its x.
  np.testing.assert_array_equal(model['condition'][:, 0], batch['label'])
  index = [int(np.flatnonzero((x == POINTS).all(1))[0]) for x in batch['x']]
  np.testing.assert_array_equal(batch['y'][..., 0], PIXELS[index])


def test_number_of_tokens_is_that_of_all_splits(tmp_path):
  tokens = np.tile(np.arange(20)[:, None], 3)
  data = npz.npz(saved(tmp_path, x_train=POINTS, x_test=POINTS, text_train=tokens,
                       text_test=tokens + 7))  # fmt: skip
  assert data.spec.parts['text'].num_levels == 27


def test_the_longest_text_may_stand_in_any_split(tmp_path):
  """Also in one that the file has before the training split."""
  data = npz.npz(saved(
    tmp_path, x_test=POINTS, text_test=np.array(['longest'] * len(POINTS)),
    x_train=POINTS, text_train=np.array(['short'] * len(POINTS)),
  ))  # fmt: skip
  text = data.arrays('train')['text']
  assert text.shape[1] == 7 and bytes(text[0, :5].astype(np.uint8)) == b'short'


@pytest.mark.parametrize('dtype', ['bool', 'int64', 'uint16', 'uint8'])
def test_levels_of_integers(tmp_path, dtype):
  x = (PIXELS > 127).astype(dtype)
  data = npz.npz(saved(tmp_path, x=x), levels=None if dtype == 'bool' else 2)
  assert data.spec.num_levels == 2
  batch = next(data.batches('train', 8, seed=0))['x']
  assert batch.dtype == np.uint8
  model = np.asarray(dataset.transformed(data.spec, {'x': batch})['x'])
  np.testing.assert_array_equal(np.unique(model), [-1, 1])


def test_transform_option(tmp_path):
  path = saved(tmp_path, x=PIXELS)
  spec = registry.load(f'npz:{path}?transform=dequantization').spec
  assert spec.transform.measure == 'density'
  path = saved(tmp_path, x=POINTS)
  for options in ({'transform': transforms.logit}, {'levels': 3}):
    with pytest.raises(
      ValueError, match='x is of floats, for which there is no option'
    ):
      npz.npz(path, **options)


def changed(array, index, value):
  array = array.copy()
  array[index] = value
  return array


BAD = {
  'object': (
    {'x': np.array([{}, None] * 9, object)},
    r'x: cannot be read: it holds Python objects',
  ),
  'object label': (
    {'x': POINTS, 'y': np.array([0, 'a'] * 10, object)},
    'y: cannot be read: it holds Python objects',
  ),
  'nan': (
    {'x': changed(changed(POINTS, (3, 2), np.nan), (7, 0), np.inf)},
    r'x: 2 values are not finite in float32, the first at \[3, 2\]',
  ),
  'overflow': ({'x': POINTS.astype(float) * 1e300}, 'x: .* not finite in float32'),
  'lengths': ({'x': POINTS, 'labels': LABELS[:9]}, 'labels has 9 examples, but x'),
  'no x': ({'y': LABELS}, 'no x; there is y'),
  'no train': ({'x_test': POINTS}, 'no x_train and no x; there is x_test'),
  'no x_test': ({'x_train': POINTS, 'y_test': LABELS}, 'no x_test; there is'),
  'nothing': ({'foo': LABELS}, 'no x_train and no x; there is foo'),
  'ints': ({'x': LABELS[:, None]}, r'x: int64 needs the number of levels, .*\?levels='),
  'empty': ({'x': POINTS[:0]}, r'x: empty, shape \(0, 3\)'),
  'scalar': ({'x': np.float32(3)}, r'x: empty, shape \(\)'),
  'no event': ({'x': POINTS[:, 0]}, r'x: expected \[N, D\] or .*, got \[20\]'),
  'width 0': ({'x': POINTS[:, :0]}, r'x: expected .*, got \[20, 0\]'),
  'near name': ({'x': POINTS, 'y_trian': LABELS}, "'y_trian'; did you mean 'y_train'?"),
  'float labels': ({'x': POINTS, 'y': LABELS / 2}, 'y: expected integers or str'),
  'columns': ({'x': POINTS, 'y': POINTS > 0}, r'y: expected integers or str.* bool'),
  'negative': ({'x': POINTS, 'y': LABELS - 1}, 'y: classes must be from 0 on, got -1'),
  'complex': ({'x': POINTS * 1j}, 'x: expected numbers, got complex64'),
  'strings': ({'x': np.array([['a']] * 20)}, 'x: expected numbers, got <U1'),
  'captions': ({'x': POINTS, 'text': POINTS}, r'text: expected \[N\] strings, got'),
  'y of ints': (
    {'x': POINTS, 'y_image': LABELS[:, None]},
    r'y_image: int64 needs the number of levels',
  ),
  'y in one split': (
    {'x_train': POINTS, 'x_test': POINTS, 'y_image_test': POINTS},
    'y is given for some splits, not for all',
  ),
  'words': (
    {'x': POINTS, 'condition': np.array(['a'] * 20)},
    'condition: expected numbers, got <U1',
  ),
  'mask': ({'x': POINTS, 'mask': LABELS}, 'mask: expected True and False'),
  'both': ({'x': POINTS, 'images': POINTS}, 'both x and images: keep one'),
  'mixed': ({'x': POINTS, 'x_test': POINTS}, 'both x and x_test: split all or none'),
  'too few': ({'x': POINTS[:9]}, '9 examples: too few to split'),
  'shapes': (
    {'x_train': POINTS, 'x_test': POINTS[:, :2]},
    r'x_test has examples \[2\] float32, but x_train \[3\] float32',
  ),
  'kinds': (
    {'x_train': POINTS, 'x_test': PIXELS[..., 0]},
    'x_test: uint8, where that of train is of another kind',
  ),
  'label missing': (
    {'x_train': POINTS, 'y_train': LABELS, 'x_test': POINTS},
    'label is given for some splits, not for all',
  ),
}  # fmt: skip


@pytest.mark.parametrize('case', BAD)
def test_array_that_cannot_be_used_is_named(tmp_path, case):
  arrays, words = BAD[case]
  path = saved(tmp_path, **arrays)
  with pytest.raises(dataset.DataError, match=words) as caught:
    npz.npz(path)
  assert str(caught.value).startswith(path) and '\n' not in str(caught.value)


@pytest.mark.parametrize(('value', 'found'), [(-1, -1), (5, 5)])
def test_level_out_of_range_is_named(tmp_path, value, found):
  x = changed(np.zeros((20, 3), int), (4, 1), value)
  with pytest.raises(
    dataset.DataError, match=f'x: levels must be from 0 to 4, got {found}'
  ):
    npz.npz(saved(tmp_path, x=x), levels=5)


def test_missing_file_and_what_is_no_zip(tmp_path):
  with pytest.raises(dataset.DataError, match='none.npz: no such file'):
    npz.npz(str(tmp_path / 'none.npz'))
  path = tmp_path / 'x.npz'
  np.save(tmp_path / 'x.npy', POINTS)
  for content in (b'', b'hello', (tmp_path / 'x.npy').read_bytes()):
    path.write_bytes(content)
    with pytest.raises(dataset.DataError, match='not an .npz file'):
      npz.npz(str(path))


@pytest.mark.parametrize('compressed', [False, True])
def test_damage_anywhere_is_found(tmp_path, compressed):
  path = tmp_path / 'x.npz'
  (np.savez_compressed if compressed else np.savez)(path, x=POINTS, y=LABELS)
  whole = path.read_bytes()
  for length in range(0, len(whole), 37):  # truncated
    path.write_bytes(whole[:length])
    with pytest.raises(dataset.DataError, match=r'not an \.npz file'):
      npz.npz(str(path))
  # Wherever bytes are flipped, the array is read right or an error is raised.
  for position in range(0, len(whole), 7):
    path.write_bytes(
      whole[:position] + bytes([whole[position] ^ 0x5A]) + whole[position + 1 :]
    )
    try:
      data = npz.npz(str(path))
    except dataset.DataError as error:
      assert '\n' not in str(error)
    else:
      every = [data.arrays(s)['x'] for s in ('train', 'validation', 'test')]
      found = np.concatenate(every)
      assert (np.sort(found, axis=None) == np.sort(POINTS, axis=None)).all()


def test_header_that_claims_more_than_the_file_holds(tmp_path):
  path = tmp_path / 'x.npz'
  for shape, claim in (
    ((10**12, 3), r'\d+ bytes'),
    ((2**62, 2**62), r'\d+ bytes'),
    ((5, -3), r'the shape \(5, -3\)'),
    ((19, 3), '228 bytes, the file holds'),
  ):
    file = io.BytesIO()
    header = {'descr': '<f4', 'fortran_order': False, 'shape': shape}
    np.lib.format.write_array_header_1_0(file, header)
    with zipfile.ZipFile(path, 'w') as archive:
      archive.writestr('x.npy', file.getvalue() + POINTS.tobytes())
    with pytest.raises(dataset.DataError, match=f'x: .*its header claims {claim}'):
      npz.npz(str(path))


def test_member_that_could_not_unpack_to_what_it_claims(tmp_path):
  path = tmp_path / 'x.npz'
  file = io.BytesIO()
  header = {'descr': '|u1', 'fortran_order': False, 'shape': (2**31, 2)}
  np.lib.format.write_array_header_1_0(file, header)
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('x.npy', file.getvalue())
    size = 2**32 + len(file.getvalue())
    archive.infolist()[0].file_size = size  # in the central directory alone
  with pytest.raises(dataset.DataError, match='cannot unpack to'):
    npz.npz(str(path))
