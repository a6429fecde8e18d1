"""Beyond the table of wrong_test: names, leaves and bytes that nobody thought of.

Whatever comes, the answer is a UsageError or a DataError (of a run's own files, a
RunError) in one line, or success; soon; and nothing is written.
"""

import functools
import json
import pathlib
import sys
import zlib
from unittest import mock

import hypothesis
import matplotlib.font_manager  # noqa: F401 lists its fonts in the real home
import numpy as np
import pytest
from hypothesis import strategies as st

from gm_jax.data import dataset, registry
from gm_jax.training import checkpoint, launch, log, setup

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.configs import gan_ring  # noqa: E402

pytestmark = pytest.mark.drill
TINY = {
  'steps': 10,
  'steps_per_dispatch': 1,
  'log_every': 1,
  'evaluate_every': 0,
  'sample_every': 0,
  'checkpoint_every': 0,
  'batch_size': 8,
}


def examples(number):
  """Of a property; the same ones each time, and none may hang."""
  return hypothesis.settings(
    max_examples=number, deadline=20_000, derandomize=True, database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
  )  # fmt: skip


def answer(fn, *errors):
  """The result, or the error, which is one of these and has one line."""
  try:
    return fn()
  except errors as error:
    assert str(error) and '\n' not in str(error) and len(str(error)) < 5000
    return error


def contents(folder):
  return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob('*')}


@pytest.fixture
def here(tmp_path, tmp_path_factory, monkeypatch):
  """An empty current folder that is the home, too; what is cached lies elsewhere."""
  monkeypatch.setenv('GM_JAX_CACHE', str(tmp_path_factory.mktemp('cache')))
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.delenv('TFDS_DATA_DIR', raising=False)
  return tmp_path


TEXT = st.text(max_size=12)
KINDS = st.sampled_from(
  [*registry.KINDS, 'toy:ring', 'toy:moons', 'stacked:digits', '']
)
OPTIONS = st.sampled_from(
  ['std', 'num_modes', 'size', 'mode', 'levels', 'transform', 'length', 'validation']
)
VALUES = st.one_of(
  TEXT,
  st.integers().map(str),
  st.floats().map(str),
  st.sampled_from(['true', 'L', 'logit', '1,2', '1e999', '-0']),
)
SUFFIX = st.lists(st.tuples(st.one_of(OPTIONS, TEXT), VALUES), max_size=2).map(
  lambda pairs: '?' + '&'.join(f'{key}={value}' for key, value in pairs)
)
NAMES = st.one_of(
  TEXT, st.tuples(KINDS, st.sampled_from([':', '', '?']), TEXT).map(''.join)
)


def test_any_data_name(here):
  @examples(200)
  @hypothesis.given(st.tuples(NAMES, st.one_of(st.just(''), SUFFIX)).map(''.join))
  def check(name):
    config = gan_ring.get_config()
    config.update(TINY | {'data': name})
    answer(lambda: setup.prepare(gan_ring, config), setup.UsageError, dataset.DataError)
    assert not list(here.iterdir())

  check()


LEAVES = sorted(set(gan_ring.get_config()) - {'data'})
ANYTHING = st.one_of(
  st.none(),
  st.booleans(),
  st.integers(-3, 100),
  st.sampled_from([2**31, 2**63, 10**20, -(10**20)]),
  st.floats(),
  TEXT,
  st.lists(st.integers(), max_size=2),
)


def test_any_value_of_any_leaf(here):
  @examples(60)
  @hypothesis.given(st.dictionaries(st.sampled_from(LEAVES), ANYTHING, max_size=2))
  def check(changes):
    config = gan_ring.get_config()
    config.update(TINY)
    with config.ignore_type():
      config.update(changes)
    answer(lambda: setup.prepare(gan_ring, config), setup.UsageError)
    assert not list(here.iterdir())

  check()


def damaged(whole):
  """Bytes: any, or the whole ones cut short, changed or with others put in."""
  at = st.integers(0, len(whole) - 1)
  return st.one_of(
    st.binary(max_size=200),
    at.map(lambda end: whole[:end]),
    st.lists(st.tuples(at, st.binary(min_size=1, max_size=8)), max_size=4).map(
      lambda patches: functools.reduce(_patched, patches, whole)
    ),
  )


def _patched(content, patch):
  at, new = patch
  return content[:at] + new + content[at + len(new) :]


def saved(path, **arrays):
  np.savez(path, **arrays)
  return path.read_bytes()


def test_any_bytes_as_npz(here):
  rng = np.random.default_rng(0)
  path = here / 'x.npz'
  whole = saved(path, x=rng.normal(size=(20, 2)), y=np.arange(20) % 3)

  @examples(400)
  @hypothesis.given(damaged(whole))
  def check(content):
    path.write_bytes(content)
    answer(lambda: registry.load('npz:x.npz'), dataset.DataError, ValueError)
    assert contents(here) == {path: content}

  check()


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'GIF', 'BMP', 'TIFF', 'WEBP'])
def test_any_bytes_as_images(kind, here):
  from PIL import Image

  rng = np.random.default_rng(0)
  for index in range(10):
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(f'{index}.png')
  path = here / f'bad.{kind.lower()}'
  Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path, kind)
  whole = path.read_bytes()
  before = contents(here)

  @examples(100)
  @hypothesis.given(damaged(whole))
  def check(content):
    path.write_bytes(content)
    answer(lambda: registry.load('folder:.?size=8'), dataset.DataError)
    assert contents(here) == before | {path: content}

  check()


def test_any_bytes_as_text(here):
  path = here / 'a.txt'

  @examples(200)
  @hypothesis.given(
    st.one_of(st.binary(), damaged('größer als ein Fass '.encode() * 9))
  )
  def check(content):
    path.write_bytes(content)
    answer(lambda: registry.load('text:a.txt?length=4'), dataset.DataError)
    assert contents(here) == {path: content}

  check()


JSON = st.recursive(
  st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT),
  lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)
  ),
  max_leaves=6,
)


def test_any_bytes_as_config_json_and_csv(here):
  config = gan_ring.get_config()
  config.update(TINY)
  prepared = setup.prepare(gan_ring, config)
  whole = json.dumps(config.to_dict()).encode()
  path = here / 'run' / 'config.json'
  (here / 'run' / 'checkpoints').mkdir(parents=True)
  table = here / 'train.csv'

  @examples(200)
  @hypothesis.given(
    st.one_of(damaged(whole), JSON.map(lambda v: json.dumps(v).encode()))
  )
  def check(content):
    path.write_bytes(content)
    table.write_bytes(content)
    before = contents(here)
    with mock.patch.object(setup, 'prepare', lambda *args, **kwargs: prepared):
      for mode in (launch.train, launch.sample):
        if json_of(content) != config.to_dict():
          assert isinstance(
            answer(lambda mode=mode: mode(gan_ring, config, here / 'run'),
                   setup.UsageError),
            setup.UsageError,
          )  # fmt: skip
    answer(lambda: log.read(table), ValueError)
    assert contents(here) == before

  check()


def json_of(content):
  try:
    return json.loads(content)
  except ValueError:
    return None


def test_any_bytes_as_checkpoint_records(here):
  # A score is read when the folder is opened, the rest by restoring.
  state = {'w': np.arange(6, dtype=np.float32)}
  made = checkpoint.Checkpoints(here / 'c')
  made.save(1, state, {'attempt': 0})
  made.close()
  record = here / 'c' / '1' / 'record' / 'metadata'
  whole = record.read_bytes()

  def sealed(content):
    text = json.dumps(content, sort_keys=True)
    return json.dumps(content | {'seal': zlib.crc32(text.encode())}).encode()

  leaf = json.loads(whole)['leaves'][0]
  leaves = st.one_of(JSON, st.lists(st.one_of(JSON, st.just(leaf)), max_size=2))
  records = st.fixed_dictionaries(
    {'step': st.just(1), 'meta': JSON, 'metrics': JSON, 'leaves': leaves}
  )

  @examples(25)
  @hypothesis.given(st.one_of(damaged(whole), records.map(sealed)))
  @hypothesis.example(sealed({'step': 1, 'meta': [], 'metrics': [], 'leaves': []}))
  def check(content):
    record.write_bytes(content)
    checkpoints = checkpoint.Checkpoints(here / 'c', best=('loss', 'min'))
    restored = answer(
      lambda: checkpoints.restore(state), checkpoint.Damaged, ValueError
    )
    checkpoints.close()
    if isinstance(restored, tuple):
      np.testing.assert_array_equal(restored[1]['w'], state['w'])

  check()
