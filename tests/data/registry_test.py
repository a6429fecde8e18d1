"""Names and options: what they mean, and what is said of those that mean nothing."""

import os
import string

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gm_jax.data import dataset, digits, registry, toy, transforms


def message(name, **options):
  with pytest.raises(ValueError) as caught:
    registry.load(name, **options)
  assert '\n' not in str(caught.value)
  return str(caught.value)


def test_options_come_by_name_or_by_keyword():
  by_name = registry.load('toy:ring?num_modes=3&std=1e-4&radius=1')
  by_keyword = registry.load('toy:ring', num_modes=3, std='1e-4', radius=1.0)
  for data in (by_name, by_keyword):
    angle = np.arctan2(*data.arrays('test', 200)['x'].T[::-1])
    np.testing.assert_allclose(
      np.unique(np.round(angle, 2)), [-2.09, 0, 2.09], atol=0.011
    )
  radii = registry.load('toy:concentric_rings?radii=3,5&std=1e-3').arrays('test', 99)
  np.testing.assert_array_equal(
    np.unique(np.round(np.linalg.norm(radii['x'], axis=-1))), [3, 5]
  )


@pytest.mark.parametrize('name', toy.TOYS)
def test_every_toy_is_endless_and_a_density(name):
  spec = registry.load(f'toy:{name}').spec
  assert spec.num_train is None and spec.transform.measure == 'density'


@pytest.mark.parametrize('transform', transforms.PIXELS)
def test_transform_is_chosen_by_name(transform):
  found = registry.load(f'digits?transform={transform}').spec.transform
  expected = transforms.PIXELS[transform](17)
  raw, key = np.arange(17)[:, None], jax.random.key(0)
  assert found.measure == expected.measure
  np.testing.assert_array_equal(found.forward(key, raw), expected.forward(key, raw))
  by_keyword = registry.load('digits', transform=transforms.PIXELS[transform])
  assert by_keyword.spec.transform.measure == expected.measure


@pytest.mark.parametrize(
  ('name', 'near'),
  [
    ('digit', 'digits'),
    ('toy:rign', 'toy:ring'),
    ('fodler:/some/where', 'folder:'),
    ('tdfs:mnist', 'tfds:'),
    ('', 'digits'),
  ],
)
def test_unknown_name_suggests_the_nearest(name, near):
  found = message(name)
  if name:
    assert f'did you mean {near!r}' in found
  assert all(f'toy:{each}' in found for each in toy.TOYS)
  assert all(f'{kind}:' in found for kind in registry.KINDS if kind in registry._NEEDS)


@pytest.mark.parametrize(
  ('name', 'words'),
  [
    ('toy:ring?num_mode=3', "did you mean 'num_modes'? There are: num_modes, rad"),
    ('toy:ring?num_modes=3.5', "num_modes='3.5' must be an integer"),
    ('toy:ring?std=wide', "std='wide' must be a number"),
    ('toy:ring?std=nan', "std='nan' must be a number"),
    ('toy:ring?std', "option 'std' must be name=value"),
    ('toy:ring?std=1&std=2', "option 'std' is given twice"),
    ('toy:ring?num_modes=0', 'num_modes must be from 1'),
    ('toy:concentric_rings?radii=1,,2', 'numbers with commas between'),
    (
      'digits?transform=logits',
      "one of scaling, levels, dequantization, logit; did you mean 'l",
    ),
    ('glyphs?alphabet=capital', 'must be one of digits, capitals, letters, all; did'),
    ('glyphs?face=serif', "no option 'face'; did you mean 'faces'?"),
    ('digits?dequantize=true', 'There are: change, crop, labels, transform'),
    ('folder:/x?memory=yes', 'must be one of true, false'),
    ('folder:/x?mode=rgb', "one of L, RGB; did you mean 'RGB'?"),
    ('folder:/x?size=0', 'size must be from 1 to 4096, got 0'),
    ('text:/x?length=0', 'length must be from 1'),
    ('npz:/x?levels=1', 'levels must be from 2'),
    ('tfds:../up', 'must be tfds:NAME[/CONFIG][:VERSION]'),
    ('folder:', "'folder:' names no data: folder:PATH"),
    ('digits:3', "did you mean 'digits'?"),
    ('stacked:toy:ring', 'only images of one channel'),
    ('stacked:digits?size=3', "no option 'size'"),
    ('unpaired:', "'unpaired:' names no data: unpaired:NAME|NAME"),
    ('unpaired', "'unpaired' names no data: unpaired:NAME|NAME"),
    ('unpaired:digits', "one data set, 'digits'; expected unpaired:NAME|NAME"),
    ('domains:digits', "one data set, 'digits'; expected domains:NAME|NAME|..."),
    ('unpaired:digits|digts', "no data set 'digts'; did you mean 'digits'?"),
    ('unpaired:digts|digits', "no data set 'digts'; did you mean 'digits'?"),
    ('unpaired:digits|digits|manual', 'names 3 data sets; expected unpaired:'),
    ('unpaired:digits|digits?size=3', "digits: no option 'size'"),
    ('unpaired:digits?size=3|digits', "digits: no option 'size'"),
    ('unpaired?pairs=true:digits|digits', "no option 'pairs'; did you mean 'paired'?"),
    ('unpaired?paired=yes:digits|digits', 'must be one of true, false'),
    ('domains:digits|unpaired:digits|digits', "joins 'unpaired:digits', which is it"),
    ('static:unpaired:digits|digits', 'unpaired:static:NAME|static:NAME'),
  ],
)
def test_what_makes_no_sense_is_said_in_one_line(name, words):
  assert words in message(name)


def test_option_given_in_both_ways_is_refused():
  assert "option 'std' is given twice" in message('toy:ring?std=1', std=2.0)


@pytest.mark.parametrize(
  'folder', ['two words', 'a=b&c=d', 'Größe Ω 数', 'what?', 'a?size=3', '#%41:x']
)
def test_paths_may_hold_anything(tmp_path, folder):
  path = tmp_path / folder / 'x y.npz'
  path.parent.mkdir()
  np.savez(path, x=np.zeros((10, 3), np.float32))
  data = registry.load(f'npz:{path}?')
  assert data.spec.num_train == 6
  if '?' not in folder:
    assert registry.load(f'npz:{path}').spec.shape == (3,)
  np.savez(path, x=np.zeros((10, 3), np.int64))
  assert registry.load(f'npz:{path}?levels=5').spec.num_levels == 5


def test_stacked_sets_take_the_options_of_their_base():
  spec = registry.load('stacked:digits?transform=logit').spec
  assert spec.shape == (8, 8, 3) and spec.transform.measure == 'density'


@pytest.mark.parametrize(
  'name',
  [
    'unpaired:digits?transform=levels&crop=6|toy:ring?std=0.1',
    'unpaired?paired=true:digits|stacked:digits',
    'unpaired:dynamic:digits|static:digits?crop=4',
    'domains:digits|digits?labels=100|digits',
    'domains?paired=true:digits|digits',
    'dynamic:domains:digits|digits?labels=100',
    'unpaired?paired=true:glyphs?num=9&faces=sans|glyphs?num=9&mode=RGB&faces=serif',
  ],
)
def test_names_of_joined_sets_load_what_they_name(name, tmp_path, monkeypatch):
  monkeypatch.setenv('GM_JAX_CACHE', str(tmp_path))
  if 'paired' in name and 'stacked' in name:
    assert 'endless' in message(name)
    return
  data = registry.load(name)
  assert data.name == name
  again = registry.load(data.name)
  assert again.spec.shape == data.spec.shape and set(again.spec.parts)
  found, expected = (next(d.batches('train', 8, seed=2)) for d in (again, data))
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_each_side_has_its_own_options_and_paths_may_hold_bars(tmp_path):
  path = tmp_path / 'a|b?c' / 'd|digit.npz'
  path.parent.mkdir()
  np.savez(path, x=np.zeros((10, 3), np.int64))
  data = registry.load(f'unpaired:npz:{path}?levels=5|digits?crop=6&transform=levels')
  part = data.spec.parts['y']
  assert data.spec.shape == (3,) and data.spec.num_levels == 5
  assert part.shape == (6, 6, 1) and part.dtype == np.int32
  turned = registry.load(f'unpaired:digits|npz:{path}?levels=5')
  assert turned.spec.shape == (8, 8, 1) and turned.spec.parts['y'].num_levels == 5
  by_keyword = registry.load('domains:digits|digits', paired=True)
  assert by_keyword.arrays('pairs')['x'].shape == (360, 2, 8, 8, 1)


TEXT = st.text(st.characters(), max_size=40)
ODD = st.sampled_from(
  [
    '',
    '=',
    '&',
    '?',
    '|',
    '|digits',
    '|toy:ring',
    'size=',
    'memory=true',
    'std=1',
    'transform=logit',
    'levels=-1',
  ]
  + ['std=1e-320', 'num_modes=99999999999999999999', 'side=7', 'length=9' * 3, '\0']
)
KIND = st.sampled_from([*registry.KINDS, *(f'toy:{t}' for t in ('ring', 'grid'))])


@settings(deadline=None, max_examples=300)
@given(
  kind=st.one_of(KIND, TEXT),
  rest=st.one_of(st.just(''), TEXT.map(lambda t: ':/none/such/' + t)),
  suffix=st.one_of(st.just(''), st.lists(st.one_of(ODD, TEXT)).map('&'.join)),
)
def test_no_name_does_anything_but_load_or_say_why(kind, rest, suffix):
  # In memory only what is small, and nothing of the machine's own.
  name = kind + rest + ('?' + suffix if suffix else '')
  try:
    data = registry.load(name, data_dir='/none/such')
  except (ValueError, dataset.DataError) as error:
    assert '\n' not in str(error) or '\n' in name
  else:
    assert data.spec.shape


@given(st.text(string.printable, max_size=30))
def test_suffix_is_what_the_last_mark_introduces(path):
  plain, options = registry._options(f'folder:{path}?size=32&mode=L', {})
  assert plain == f'folder:{path}' and options == {'size': '32', 'mode': 'L'}
  assert registry._options(f'folder:{path}?', {}) == (f'folder:{path}', {})


def test_data_dir_is_for_tensorflow_datasets(tmp_path):
  with pytest.raises(dataset.DataError, match=os.path.basename(tmp_path)):
    registry.load('tfds:mnist', data_dir=str(tmp_path))
  assert registry.load('digits', data_dir=str(tmp_path)).name == digits.digits().name
