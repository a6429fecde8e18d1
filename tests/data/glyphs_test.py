"""Glyphs: functions of index and seed, drawn as their factors say, told apart."""

import hashlib
import itertools
import pathlib
import subprocess
import sys
import time

import matplotlib
import numpy as np
import pytest
from matplotlib import font_manager
from sklearn import svm

from gm_jax.data import dataset, glyph_drawing, glyph_factors, glyphs, registry

COLORED = glyph_factors.Kind(glyphs.ALPHABETS['all'], glyphs.FACES, 'RGB', 28, 0)
LARGE = glyph_factors.Kind('IHO', ('sans',), 'L', 64, 0)
PLAIN = dict.fromkeys(glyph_factors.RANGES, 0.0) | {'size': 0.52}


@pytest.fixture(autouse=True, scope='module')
def cache(tmp_path_factory):
  with pytest.MonkeyPatch.context() as patch:
    folder = tmp_path_factory.mktemp('glyphs')
    patch.setenv('GM_JAX_CACHE', str(folder))
    yield folder


def made(kind, first, num):
  return glyphs.draw(kind, glyph_factors.factors(kind, first, num))


def chosen(kind, num=1, **factors):
  """Factors that are 0, or in the middle, but for these."""
  ints = dict.fromkeys(('face', 'character', 'ink', 'ground'), 0)
  values = {**ints, **PLAIN, **factors}
  return glyph_factors.Factors(**{k: np.repeat(v, num) for k, v in values.items()})


def covered(character='I', **factors):
  """[64, 64] of a white character on black, from 0 to 1."""
  known = chosen(LARGE, character=LARGE.characters.index(character), **factors)
  return glyphs.draw(LARGE, known)[0, :, :, 0] / 255


def middle(image):
  """(x, y) of the center of mass, in pixels."""
  y, x = np.indices(image.shape)
  return np.array([(x * image).sum(), (y * image).sum()]) / image.sum()


def axis(image):
  """Degrees from upright, counterclockwise, of the long axis."""
  y, x = np.indices(image.shape)
  (cx, cy), total = middle(image), image.sum()
  xx, yy, xy = (
    (image * part).sum() / total
    for part in ((x - cx) ** 2, (y - cy) ** 2, (x - cx) * (cy - y))
  )
  return np.rad2deg(-0.5 * np.arctan2(2 * xy, yy - xx))


# The bytes are of index and seed alone.

DIGEST = """
import hashlib
from gm_jax.data import glyph_factors, glyphs
kind = glyph_factors.Kind(glyphs.ALPHABETS['all'], glyphs.FACES, 'RGB', 28, 0)
parts = [glyphs.draw(kind, glyph_factors.factors(kind, i, 1)) for i in range(40)[::-1]]
print(hashlib.sha256(b''.join(p.tobytes() for p in parts[::-1])).hexdigest())
"""


@pytest.mark.slow
def test_an_index_has_the_same_bytes_in_any_order_and_process():
  x = made(COLORED, 0, 40)
  for i in (39, 0, 17):
    np.testing.assert_array_equal(made(COLORED, i, 1)[0], x[i])
  run = subprocess.run(
    [sys.executable, '-c', DIGEST], capture_output=True, text=True, check=True
  )
  assert run.stdout.strip() == hashlib.sha256(x.tobytes()).hexdigest()
  other = made(COLORED._replace(seed=1), 0, 40)
  assert (x != other).any(axis=(1, 2, 3)).all()


def test_splits_are_ranges_of_the_same_indices_whatever_their_sizes():
  few, more = (registry.load(f'glyphs?num={num}') for num in (50, 60))
  for split, num in {'test': 2000, 'validation': 2000, 'train': 50}.items():
    a, b = few.arrays(split), more.arrays(split)
    assert len(a['x']) == num
    for key in a:
      np.testing.assert_array_equal(a[key], b[key][:num])
  kind = glyph_factors.Kind('0123456789', glyphs.FACES, 'L', 28, 0)
  np.testing.assert_array_equal(few.arrays('train')['x'], made(kind, 4000, 50))
  np.testing.assert_array_equal(few.arrays('validation', 9)['x'], made(kind, 2000, 9))


def test_batches_are_the_rows_in_order_and_raw():
  data = registry.load('glyphs?mode=RGB&size=32&num=64&alphabet=letters')
  batch, whole = next(data.batches('train', 64, seed=3)), data.arrays('train')
  index = dataset.order(64, 64, seed=3)(0)
  for key in whole:
    np.testing.assert_array_equal(batch[key], whole[key][index])
  assert batch['x'].dtype == np.uint8 and batch['x'].shape == (64, 32, 32, 3)
  x = np.asarray(dataset.transformed(data.spec, whole)['x'])
  assert x.shape[1:] == data.spec.shape and x.min() >= -1 and x.max() == 1
  assert data.spec.num_levels == 256 and data.spec.num_classes == 52
  assert data.spec.parts.keys() == {'condition', 'text', 'domain'}
  for key, part in data.spec.parts.items():
    assert whole[key].shape[1:] == part.shape and whole[key].dtype == part.dtype
    if part.num_levels:
      assert whole[key].min() >= 0 and whole[key].max() < part.num_levels


def test_factors_are_uniform_and_independent():
  known = glyph_factors.factors(COLORED, 0, 20_000)
  columns = [known.character / 61, known.face / 5, known.ink / 4, known.ground / 3]
  columns += [(glyph_factors.scaled(known, n) + 1) / 2 for n in glyph_factors.RANGES]
  values = np.stack(columns)
  np.testing.assert_allclose(values.mean(axis=1), 0.5, atol=0.012)
  np.testing.assert_allclose(values.min(axis=1), 0, atol=1e-3)
  np.testing.assert_allclose(values.max(axis=1), 1, atol=1e-3)
  correlation = np.corrcoef(values) - np.eye(len(values))
  assert np.abs(correlation).max() < 0.03


# Faces.


def test_faces_are_all_that_matplotlib_ships_with_the_whole_alphabet():
  root = pathlib.Path(matplotlib.get_data_path())
  shipped = {
    entry.fname
    for entry in font_manager.fontManager.ttflist
    if root in pathlib.Path(entry.fname).parents
  }
  whole = {path for path in shipped if glyph_drawing.holds_alphabet(path)}
  assert {glyph_drawing.find(face) for face in glyph_drawing.FACES} == whole
  names = {pathlib.Path(path).stem for path in shipped - whole}
  assert {'cmsy10', 'cmex10', 'STIXNonUni', 'STIXSizOneSymReg'} <= names


def test_no_two_faces_are_alike():
  faces = tuple(glyph_drawing.FACES)
  kind = glyph_factors.Kind('02468ABGQR', faces, 'L', 28, 0)
  num = len(kind.characters)
  known = chosen(kind, num * len(faces))._replace(
    face=np.repeat(np.arange(len(faces)), num),
    character=np.tile(np.arange(num), len(faces)),
  )
  x = glyphs.draw(kind, known).reshape(len(faces), num, -1) / 255
  for a, b in itertools.combinations(range(len(faces)), 2):
    distance = np.linalg.norm(x[a] - x[b], axis=1)
    assert distance.min() > 0.2 and distance.mean() > 1, (faces[a], faces[b])


def test_examples_of_an_index_differ_in_their_face_alone():
  sets = [registry.load(f'glyphs?num=9&faces={name}') for name in ('sans', 'serif')]
  several = registry.load('glyphs?num=9&faces=sans,serif')
  sans, serif, both = (data.arrays('test') for data in (*sets, several))
  face = glyph_factors.CAPTION.index('face')
  for key in ('label', 'condition'):
    np.testing.assert_array_equal(sans[key], serif[key])
    np.testing.assert_array_equal(sans[key], both[key])
  others = np.arange(len(glyph_factors.CAPTION)) != face
  np.testing.assert_array_equal(sans['text'][:, others], serif['text'][:, others])
  assert (sans['text'][:, face] != serif['text'][:, face]).all()
  assert (sans['x'] != serif['x']).any(axis=(1, 2, 3)).all()
  expected = np.where(both['domain'][:, None, None, None] == 0, sans['x'], serif['x'])
  np.testing.assert_array_equal(both['x'], expected)
  assert 'domain' not in sans and sets[0].domain_names is None
  assert several.domain_names == ('sans', 'serif')


def test_faces_are_domains_whose_pairs_are_known():
  sides = 'glyphs?num=20&faces=sans|glyphs?num=20&faces=cm-italic'
  two = registry.load(f'unpaired?paired=true:{sides}')
  pairs = two.arrays('pairs')
  for name, key in (('sans', 'x'), ('cm-italic', 'y')):
    single = registry.load(f'glyphs?num=20&faces={name}').arrays('test')
    np.testing.assert_array_equal(pairs[key], single['x'])
    np.testing.assert_array_equal(pairs['label'], single['label'])
  many = registry.load(f'domains?paired=true:{sides}')
  assert many.arrays('pairs')['x'].shape == (2000, 2, 28, 28, 1)
  np.testing.assert_array_equal(many.arrays('pairs')['label'], pairs['label'])
  batch = next(many.batches('train', 8, seed=0))
  assert batch.keys() == {'x', 'label', 'condition', 'text', 'domain'}


def test_faces_may_share_what_is_tested_and_nothing_that_is_trained_on():
  sides = 'glyphs?num=20&faces=sans', 'glyphs?num=20&skip=20&faces=sans'
  first, second = map(registry.load, sides)
  whole = registry.load('glyphs?num=40&faces=sans').arrays('train')
  for key, expected in whole.items():
    halves = [data.arrays('train')[key] for data in (first, second)]
    np.testing.assert_array_equal(np.concatenate(halves), expected)
  for split in ('test', 'validation'):
    one, other = (data.arrays(split)['x'] for data in (first, second))
    np.testing.assert_array_equal(one, other)
  assert set(second.rows) == {'train', 'test', 'validation'}
  assert first.fingerprint != second.fingerprint
  joined = registry.load(f'domains?names=a,b:{"|".join(sides)}')
  assert joined.domain_names == ('a', 'b')
  with pytest.raises(ValueError, match='2 domains need as many names, got a'):
    registry.load(f'domains?names=a:{"|".join(sides)}')


# Factors are what is drawn.


def test_ink_and_ground_are_in_the_picture():
  kind = COLORED._replace(size=64, faces=('sans-bold',))
  known = glyph_factors.factors(kind, 0, 40)
  inks, grounds = (
    np.array(list(palette.values())) for palette in glyph_factors.PALETTES['RGB']
  )
  for image, ink, ground in zip(
    glyphs.draw(kind, known), inks[known.ink], grounds[known.ground], strict=True
  ):
    colors, counts = np.unique(image.reshape(-1, 3), axis=0, return_counts=True)
    order = counts.argsort()[::-1]
    np.testing.assert_array_equal(colors[order[0]], ground)
    np.testing.assert_array_equal(colors[order[1]], ink)
    span = np.stack([ink, ground])  # every pixel is between the two
    assert (image >= span.min(0)).all() and (image <= span.max(0)).all()


@pytest.mark.parametrize('character', ['I', 'H', 'O'])
def test_position_moves_the_center_of_mass(character):
  for x, y in ((0.0, 0.0), (0.08, 0.0), (0.0, -0.05), (-0.03, 0.08)):
    found = middle(covered(character, x=x, y=y))
    np.testing.assert_allclose(found, 31.5 + 64 * np.array([x, y]), atol=0.35)


def test_size_is_the_height_and_its_square_the_area():
  small, large = (covered('H', size=size) for size in (0.44, 0.6))
  assert large.sum() / small.sum() == pytest.approx((0.6 / 0.44) ** 2, rel=0.02)
  for image, size in ((small, 0.44), (large, 0.6)):
    assert image.sum(axis=0).max() == pytest.approx(64 * size, abs=1)


@pytest.mark.parametrize('angle', [-8.0, 0.0, 5.0])
def test_rotation_turns_and_slant_leans(angle):
  assert axis(covered(rotation=angle)) == pytest.approx(angle, abs=0.3)
  leaning = covered(slant=angle)  # rows are moved, and stay as wide
  rows = np.flatnonzero(leaning.sum(axis=1) > 3)[2:-2]
  centers = (leaning[rows] * np.arange(64)).sum(axis=1) / leaning[rows].sum(axis=1)
  slope = np.polyfit(-rows, centers, 1)[0]
  assert slope == pytest.approx(np.tan(np.deg2rad(angle)), abs=0.01)


def test_nothing_leaves_the_picture():
  faces, num = tuple(glyph_drawing.FACES), 500
  known = glyph_factors.factors(COLORED._replace(faces=faces), 0, num)
  corners = np.random.default_rng(0).integers(2, size=(len(glyph_factors.RANGES), num))
  ends = {
    name: np.where(side, *reversed(glyph_factors.RANGES[name]))
    for name, side in zip(glyph_factors.RANGES, corners, strict=True)
  }
  ends['size'] = np.full(num, max(glyph_factors.RANGES['size']))
  for name in ('size', 'x', 'y'):  # half of all in a picture twice as large
    ends[name] = ends[name] / 2
  placing = glyph_drawing.Placing(**ends)
  x = glyph_drawing.draw(faces, known.face, known.character, placing, size=128)
  inside = x[:, 32:96, 32:96].astype(int)
  assert x.sum(dtype=int) == inside.sum() > 0


# Words.


def test_captions_say_the_factors():
  kind = COLORED._replace(faces=('serif', 'mono'))
  known = chosen(kind, character=10, x=-0.07, y=-0.07, size=0.45)
  (tokens,) = glyph_factors.captions(kind, known)
  assert glyph_factors.caption(tokens) == 'a small red serif A on white, upper left'
  known = glyph_factors.factors(COLORED, 0, 500)
  inks, grounds = map(tuple, glyph_factors.PALETTES['RGB'])
  for i, tokens in enumerate(glyph_factors.captions(COLORED, known)):
    a, size, ink, face, character, on, ground, row, column = (
      glyph_factors.caption(tokens).replace(',', '').split()
    )
    assert (a, on) == ('a', 'on')
    assert ink == inks[known.ink[i]] and ground == grounds[known.ground[i]]
    assert face == COLORED.faces[known.face[i]]
    assert character == COLORED.characters[known.character[i]]
    for word, name in ((size, 'size'), (row, 'y'), (column, 'x')):
      value = glyph_factors.scaled(known, name)[i]
      third = glyph_factors.THIRDS[name].index(word)
      assert -1 + third * 2 / 3 <= value <= -1 + (third + 1) * 2 / 3


def test_captions_are_tokenized_as_the_sets_own():
  data = registry.load('glyphs?mode=RGB&num=9&alphabet=letters')
  text = data.arrays('test', 50)['text']
  for tokens in text:
    caption = glyph_factors.caption(tokens)
    np.testing.assert_array_equal(data.encode('text', caption), tokens)
    turned = 'A' + caption[1:].replace(',', '')
    np.testing.assert_array_equal(data.encode('text', turned), tokens)
  assert data.encode('label', 'a') == 26 and data.encode('label', 'A') == 0
  assert data.encode('domain', 'serif') == 2
  assert len(set(glyph_factors.VOCABULARY)) == len(glyph_factors.VOCABULARY)


def test_any_sentence_is_tokenized_and_words_that_are_unknown_are_left_out(capfd):
  def words_of(text):
    tokens = registry.load('glyphs?num=9').encode('text', text)
    return ' '.join(glyph_factors.VOCABULARY[token] for token in tokens).strip()

  assert words_of('a small gren serif A') == 'a small serif A'
  line = capfd.readouterr().err
  assert line.startswith("warning: no word 'gren'; did you mean 'green'?")
  assert line.count('\n') == 1 and line.endswith('it is left out\n')
  assert words_of('a bold red serif A, upper left') == 'a red serif-bold A upper left'
  assert words_of('A Bold red serif A.') == 'a red serif-bold A'
  assert words_of('A red serif "7"!') == 'a red serif 7'
  assert words_of('A red, upper left') == 'A red upper left'  # the letter: no other
  assert words_of('A small red serif') == 'a small red serif'
  assert words_of('an italic 7') == '7'  # of no face
  assert words_of('nonsense') == ''
  with pytest.raises(ValueError, match='at least one word'):
    words_of(' ')


def test_held_out_combinations_are_a_split_and_nowhere_else():
  options = 'num=3000&mode=RGB&alphabet=all&faces=all'
  data = registry.load(f'glyphs?{options}&hold_out=red:A,serif:7,left:pink')
  whole = registry.load(f'glyphs?{options}')
  index = {word: i for i, word in enumerate(glyph_factors.VOCABULARY)}

  def held(text):
    found = np.zeros(len(text), bool)
    for pair in (('red', 'A'), ('serif', '7'), ('left', 'pink')):
      found |= np.all([(text == index[w]).any(axis=1) for w in pair], axis=0)
    return found

  splits = ('test', 'validation', 'train')
  texts = {split: whole.arrays(split)['text'] for split in splits}
  for split in splits:
    kept = data.arrays(split)
    np.testing.assert_array_equal(kept['text'], texts[split][~held(texts[split])])
  out, every = data.arrays('held_out'), np.concatenate([*texts.values()])
  np.testing.assert_array_equal(out['text'], every[held(every)])
  assert len(out['text']) > 100
  pixels = np.concatenate([whole.arrays(split)['x'] for split in splits])
  np.testing.assert_array_equal(out['x'], pixels[held(every)])
  assert data.spec.num_train == len(data.arrays('train')['x']) < 3000
  with pytest.raises(ValueError, match="no split 'held_out'"):
    whole.arrays('held_out')


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ('faces=serf', "no face 'serf'; did you mean 'serif'? There are: all, sans"),
    ('faces=sans,sans', "faces='sans,sans' names a face twice"),
    ('faces=sans,', "no face ''"),
    ('alphabet=capital', "did you mean 'capitals'?"),
    ('mode=rgb', "did you mean 'RGB'?"),
    ('size=15', 'size must be from 16 to 256, got 15'),
    ('num=0', 'num must be from 1 to 1000000, got 0'),
    ('seed=-1', 'seed must be from 0'),
    ('skip=-1', 'skip must be from 0'),
    ('hold_out=red:7', "no word 'red'; did you mean"),
    ('hold_out=serf:7', "no word 'serf'; did you mean 'serif'? There are: white, si"),
    ('hold_out=serif', "hold_out has 'serif', expected two words with a colon"),
    ('hold_out=serif:7,', "hold_out has '', expected two words"),
    ('hold_out=1:7', 'two words for the character: no example has both'),
    ('hold_out=white:black,silver:black,white:gray,silver:gray', 'leaves nothing of'),
  ],
)
def test_what_makes_no_sense_is_said_in_one_line(options, message):
  with pytest.raises(ValueError) as caught:
    registry.load(f'glyphs?{options}')
  assert message in str(caught.value) and '\n' not in str(caught.value)


# Drawn once.


def test_pixels_are_kept_and_damaged_files_replaced(tmp_path, monkeypatch):
  monkeypatch.setenv('GM_JAX_CACHE', str(tmp_path))
  name = 'glyphs?num=30'
  expected = registry.load(name).arrays('train')['x']
  (file,) = tmp_path.iterdir()
  kept = file.read_bytes()
  with monkeypatch.context() as patch:
    patch.setattr(glyph_drawing, 'draw', None)
    np.testing.assert_array_equal(registry.load(name).arrays('train')['x'], expected)
  for damaged in (b'', kept[:5000], kept[:9000] + b'\1' + kept[9001:]):
    file.write_bytes(damaged)
    np.testing.assert_array_equal(registry.load(name).arrays('train')['x'], expected)
    assert file.read_bytes() == kept
  for other in ('seed=1', 'size=29', 'mode=RGB', 'alphabet=capitals', 'faces=sans'):
    before = len(list(tmp_path.iterdir()))
    assert len(registry.load(f'{name}&{other}').arrays('train')['x']) == 30
    assert len(list(tmp_path.iterdir())) == before + 1


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
  (tmp_path / 'file').write_text('')
  monkeypatch.setenv('GM_JAX_CACHE', str(tmp_path / 'file' / 'below'))
  assert len(registry.load('glyphs?num=5').arrays('train')['x']) == 5


def test_what_does_not_fit_in_memory_is_drawn_by_batches(monkeypatch):
  name = 'glyphs?num=40&hold_out=serif:7'
  fits = registry.load(name)
  expected = [next(fits.batches('train', 16, seed=1)), fits.arrays('held_out', 5)]
  monkeypatch.setattr(dataset, 'MEMORY', 10_000)
  monkeypatch.setattr(glyphs, '_cached', None)
  data = registry.load(name)
  found = [next(data.batches('train', 16, seed=1)), data.arrays('held_out', 5)]
  for a, b in zip(found, expected, strict=True):
    for key in b:
      np.testing.assert_array_equal(a[key], b[key])


# Told apart.


def standardized(x):
  """Pixels without what ink and ground are: from 0 to 1 in every picture."""
  x = x.reshape(len(x), -1).astype(np.float32)
  low, high = x.min(axis=1, keepdims=True), x.max(axis=1, keepdims=True)
  return (x - low) / (high - low)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('alphabet', 'what', 'num'),
  [
    ('digits', 'label', 2000),
    ('capitals', 'label', 4000),
    ('digits', 'domain', 4000),
    pytest.param('capitals', 'domain', 9000, marks=pytest.mark.slow),
  ],
)
def test_a_classifier_reaches_95_percent(alphabet, what, num):
  data = registry.load(f'glyphs?alphabet={alphabet}&num={num}')
  train, test = data.arrays('train'), data.arrays('test', 1000)
  machine = svm.SVC(C=10, gamma=0.02).fit(standardized(train['x']), train[what])
  accuracy = (machine.predict(standardized(test['x'])) == test[what]).mean()
  assert accuracy >= 0.95


@pytest.mark.slow
def test_60_000_are_drawn_in_under_a_minute(tmp_path, monkeypatch):
  monkeypatch.setenv('GM_JAX_CACHE', str(tmp_path))
  began = time.perf_counter()
  assert len(registry.load('glyphs?num=60000').arrays('train')['x']) == 60_000
  assert time.perf_counter() - began < 60
