"""The launcher's mode `inpaint`: what it writes, and what it refuses and writes not."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.configs import edm_digits  # noqa: E402
from gm_jax.data import registry  # noqa: E402
from gm_jax.training import launch  # noqa: E402
from gm_jax.training import setup as setup_lib  # noqa: E402


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A config and the workdir in which it was trained, hardly."""
  config = edm_digits.get_config('label')
  config.update({'steps': config.steps_per_dispatch, 'width': 16, 'num_blocks': 1})
  for leaf in ('evaluate', 'sample'):
    config[f'{leaf}_every'] = 0
  folder = tmp_path_factory.mktemp('edm') / 'run'
  launch.train(edm_digits, config, folder)
  return config, folder


def asked(run, *words, **options):
  config, workdir = run
  options = {'num_steps': 3, 'num': 3, 'completions': 2, 'jump': 1, **options}
  drawing = launch.Request().drawing._replace(condition=words, options=options)
  request = launch.Request(drawing=drawing)
  launch.MODES['inpaint'](edm_digits, config, workdir, request=request)
  with np.load(workdir / 'inpaint.npz') as file:
    return {key: file[key][0] for key in file.files}


@pytest.mark.slow
def test_completions_are_written_as_arrays_a_picture_and_files(run, tmp_path):
  seen = np.random.default_rng(0).random((8, 8)) < 0.5
  np.save(tmp_path / 'mask.npy', seen)
  found = asked(run, mask=str(tmp_path / 'mask.npy'))
  np.testing.assert_array_equal(found['mask'], seen)
  raw = registry.load('digits').arrays('test')['x'][:3]
  np.testing.assert_array_equal(found['inputs'], raw)
  out = found['outputs'].reshape(3, 2, 8, 8)
  np.testing.assert_array_equal(
    out[:, :, seen], raw[:, seen, 0][:, None].repeat(2, axis=1)
  )
  assert not np.array_equal(out[:, 0], out[:, 1])
  folder = run[1]
  assert len(list((folder / 'inpaint').glob('*.png'))) == 6
  with Image.open(folder / 'inpaint.png') as image:
    assert image.size[0] > 1.2 * image.size[1]  # four columns of three
  record = json.loads((folder / 'inpaint.json').read_text())
  assert record['known_change'] == [0.0] and record['error'][0] > 0
  # The same again, another class, another in-painter.
  again = asked(run, mask=str(tmp_path / 'mask.npy'))
  np.testing.assert_array_equal(again['outputs'], found['outputs'])
  for words, options in (
    (('3',), {}), ((), {'inpainter': 'particles', 'num_particles': 2}),
    (('3',), {'guidance': 3.0}),
  ):  # fmt: skip
    other = asked(run, *words, mask=str(tmp_path / 'mask.npy'), **options)
    assert not np.array_equal(other['outputs'], found['outputs'])


@pytest.mark.slow
def test_what_does_not_fit_is_one_line_and_nothing_is_written(run, tmp_path):
  config, folder = run
  for name in ('inpaint.npz', 'inpaint.json', 'inpaint.png'):
    (folder / name).unlink(missing_ok=True)
  np.save(tmp_path / 'wide.npy', np.eye(8, 9))
  np.save(tmp_path / 'ones.npy', np.ones((8, 8)))
  np.save(tmp_path / 'zeros.npy', np.zeros((8, 8)))
  before = sorted(p.name for p in folder.iterdir())
  for options, word in (
    ({'mask': str(tmp_path / 'wide.npy')}, 'a mask of 8x9 .* images are of 8x8'),
    ({'mask': str(tmp_path / 'ones.npy')}, 'hides nothing'),
    ({'mask': str(tmp_path / 'zeros.npy')}, 'hides everything'),
    ({'mask': str(tmp_path / 'none.npy')}, 'cannot be read'),
    ({'mask': 'hole'}, "no mask 'hole'; there are: half"),
    ({'inpainter': 'magic'}, "no inpainter 'magic'"),
    ({'num_steps': 0}, 'num_steps must be >= 1'),
    ({'inpainter': 'particles', 'num_particles': 0}, 'num_particles must be >= 1'),
    ({'masks': 'half'}, "no option 'masks'; did you mean 'mask'"),
    ({'guidance': 2.0, 'weak': 'none'}, 'weak must be one of'),
  ):
    with pytest.raises(setup_lib.UsageError, match=word) as error:
      asked(run, **options)
    assert '\n' not in str(error.value)
  with pytest.raises(setup_lib.UsageError, match="no label 'eleven'"):
    asked(run, 'eleven')
  request = launch.Request(images='glyphs?size=8')
  with pytest.raises(setup_lib.UsageError, match='this run are of 17 levels'):
    launch.MODES['inpaint'](edm_digits, config, folder, request=request)
  assert sorted(p.name for p in folder.iterdir()) == before


@pytest.mark.slow
def test_the_command_refuses_by_one_line(run):
  main = [sys.executable, ROOT / 'experiments' / 'main.py', f'--workdir={run[1]}']
  done = subprocess.run(
    [*main, '--mode=inpaint', '--options=mask=hole'],
    capture_output=True, text=True, timeout=300,
  )  # fmt: skip
  assert done.returncode == 2 and done.stderr.count('\n') == 1, done.stderr
  assert "no mask 'hole'" in done.stderr
