"""`python -m gm_jax.metrics`: folders and files, tables, and mistakes in one line."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from gm_jax.metrics import __main__ as command

PIXELS = '--features=pixels'


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  """Two sets of images, each as a folder of PNG files and as an .npz file."""
  root = tmp_path_factory.mktemp('images')
  for seed, name in enumerate(('real', 'fake')):
    x = np.random.default_rng(seed).integers(0, 256, (30, 6, 8, 3)).astype(np.uint8)
    np.savez(root / f'{name}.npz', x=x)
    (root / name).mkdir()
    for i, image in enumerate(x):
      Image.fromarray(image).save(root / name / f'{i}.png')
  np.savez(root / 'gray.npz', x=x[..., :1])
  np.savez(root / 'small.npz', x=x[:, :4])
  np.savez(root / 'floats.npz', x=(x / 255).astype('f'))
  np.savez(root / 'swapped.npz', x=x.transpose(0, 3, 1, 2))
  np.savez(root / 'wide.npz', x=(x / 20.0 - 5).astype('f'))
  np.savez(root / 'one.npz', x=x[:1])
  (root / 'one').mkdir()
  Image.fromarray(x[0]).save(root / 'one' / '0.png')
  (root / 'empty').mkdir()
  (root / 'text').mkdir()
  (root / 'text' / 'a.txt').write_text('no image')
  (root / 'damaged').mkdir()
  for i in range(12):
    (root / 'damaged' / f'{i}.png').write_bytes(b'\x89PNG\r\n\x1a\n nothing')
  (root / 'plain.npz').write_text('no archive')
  return root


def called(capsys, *args):
  code = command.main([str(arg) for arg in args])
  return code, *capsys.readouterr()


def values(path):
  return json.loads(path.read_text())['values']


def test_folders_and_files_are_the_same(data, tmp_path, capsys):
  tables = []
  for ending in ('', '.npz'):
    path = tmp_path / f'out{ending}.json'
    real, fake = (data / f'{name}{ending}' for name in ('real', 'fake'))
    more = (PIXELS, '--metrics=frechet,prdc', f'--json={path}')
    code, out, err = called(capsys, real, fake, *more)
    assert (code, err) == (0, '')
    assert 'features: pixels in [0, 1]; resize: none from 6x8; real: 30 (all)' in out
    tables.append(values(path))
    assert all(f'{name} ' in out for name in tables[0])
  assert tables[0].keys() == tables[1].keys()
  for name, value in tables[0].items():  # images in another order
    np.testing.assert_allclose(tables[1][name], value, rtol=1e-3, atol=1e-6)


def test_a_set_and_its_copy(data, tmp_path, capsys):
  copy = tmp_path / 'copy.npz'
  copy.write_bytes((data / 'real.npz').read_bytes())
  path, picture = tmp_path / 'out.json', tmp_path / 'n.png'
  names = '--metrics=frechet,prdc,neighbors'
  more = (PIXELS, names, f'--json={path}', f'--picture={picture}')
  assert called(capsys, data / 'real', copy, *more)[0] == 0
  found = values(path)
  assert found.pop('frechet') < 1e-4 and found.pop('neighbor_distance') == 0
  assert set(found.values()) == {1.0}
  with Image.open(picture) as image:
    pixels = np.asarray(image)
    scale = pixels.shape[1] // (8 * 9)
    np.testing.assert_array_equal(
      pixels[:, : 8 * scale], pixels[:, 9 * scale : 17 * scale]
    )


def test_floats_from_0_to_1_are_pixels(data, tmp_path, capsys):
  path = tmp_path / 'out.json'
  args = (data / 'fake', data / 'floats.npz', PIXELS, '--metrics=frechet,prdc')
  assert called(capsys, *args, f'--json={path}')[0] == 0
  assert values(path)['frechet'] < 1e-4 and values(path)['coverage'] == 1


def test_fewer_are_drawn_by_a_seed(data, capsys):
  args = (data / 'real.npz', data / 'fake.npz', PIXELS, '--metrics=neighbors')
  args = (*args, '--num=20')
  out = called(capsys, *args)[1]
  assert 'real: 20 (of 30, drawn by seed 0); fake: 20' in out
  assert called(capsys, *args)[1] == out
  assert called(capsys, *args, '--seed=1')[1] != out


@pytest.mark.parametrize(
  ('real', 'fake', 'more', 'message'),
  [
    ('real', 'real', [], 'A and B are the same'),
    ('real', 'nothing', [], 'no such folder or file'),
    ('real', 'nothing.npz', [], 'no such file'),
    ('real', 'empty', [], 'no images'),
    ('real', 'text', [], 'no images'),
    ('real', 'plain.npz', [], 'not an .npz file'),
    ('real', 'damaged', [], 'cannot be decoded'),
    ('real', 'one', [], '1 images: too few'),
    ('real', 'one.npz', [], '1 examples: too few'),
    ('real', 'gray.npz', [], 'A are 6x8x3 and of B 6x8x1'),
    ('real', 'small.npz', [], 'A are 6x8x3 and of B 4x8x3'),
    ('real', 'swapped.npz', [], 'seems to be [N, C, H, W]'),
    ('real', 'wide.npz', [], 'values from -5 to 7.75, expected from -1 to 1'),
    ('real', 'fake', ['--metrics=frechet,lpips'], "no metric 'lpips'"),
    ('real', 'fake', ['--metrics='], "no metric ''"),
    ('real', 'fake', ['--features=inception:/no.npz'], '/no.npz: no such file'),
    ('real', 'fake', ['--features=classifier'], 'has no classes'),
    ('real', 'fake', ['--num=0'], '--num must be 1 or more'),
    ('real', 'fake', ['--num=1', PIXELS], 'frechet needs 2 real images'),
    ('real', 'fake', ['--k=30', PIXELS], 'k must be from 1 to 29'),
    ('real', 'fake', ['--json=/nowhere/a.json'], 'its folder does not exist'),
    ('real', 'fake', ['--picture=a.png'], 'add it to --metrics'),
  ],
)
def test_a_mistake_is_one_line(data, capsys, real, fake, more, message):
  code, out, err = called(capsys, data / real, data / fake, *more)
  lines = err.splitlines()
  assert code and not out and lines[-1].startswith('error: ')
  assert message in lines[-1]
  assert all(line.startswith(('error: ', 'warning: ')) for line in lines)


@pytest.mark.parametrize('args', [[], ['a'], ['a', 'b', '--num=x'], ['a', 'b', '--no']])
def test_usage_is_one_line(capsys, args):
  with pytest.raises(SystemExit) as ended:
    command.main(args)
  assert ended.value.code == 2
  assert capsys.readouterr().err.count('\n') == 1


def test_names_of_metrics_in_the_help_are_those_that_there_are():
  from gm_jax.metrics import scores

  assert command.METRICS.split(', ') == list(scores.SCORES)


@pytest.mark.slow
def test_a_classifier_of_sub_folders(tmp_path, capsys, monkeypatch):
  monkeypatch.setenv('GM_JAX_CACHE', str(tmp_path / 'kept'))
  from sklearn import datasets

  digits = datasets.load_digits()
  x = np.rint(digits.images * (255 / 16)).astype(np.uint8)
  for i, (image, label) in enumerate(zip(x[:1000], digits.target, strict=False)):
    folder = tmp_path / 'real' / str(label)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / f'{i}.png')
  np.savez(tmp_path / 'fake.npz', x=x[1000:])
  args = (tmp_path / 'real', tmp_path / 'fake.npz', '--metrics=frechet,inception_score')
  code, out, err = called(capsys, *args, f'--json={tmp_path / "out.json"}')
  assert code == 0 and 'small classifier of real' in out and 'classifier real' in err
  found = values(tmp_path / 'out.json')
  assert 8 < found['inception_score'] <= 10
  again = called(capsys, *args)[1]
  assert again == out  # the classifier and the statistics are read


@pytest.mark.slow
def test_the_program_starts_and_ends(data):
  run = [sys.executable, '-m', 'gm_jax.metrics']
  paths = [str(data / 'real'), str(data / 'fake')]
  done = subprocess.run([*run, *paths, PIXELS], capture_output=True, text=True)
  assert done.returncode == 0 and not done.stderr and 'kernel_distance' in done.stdout
  done = subprocess.run([*run, *paths, '--num=0'], capture_output=True, text=True)
  assert done.returncode == 1 and done.stderr.count('\n') == 1
  code = 'import sys, gm_jax.metrics.__main__; print("jax" in sys.modules)'
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
  assert done.stdout == 'False\n'  # so that --help takes no time
  assert jax.__version__
