"""Translators from the launcher: one's own files, what does not fit, papers' sizes."""

import importlib
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.configs import star_gan_glyphs  # noqa: E402
from gm_jax import base  # noqa: E402
from gm_jax.data import dataset, registry, transforms  # noqa: E402
from gm_jax.training import conditioning, launch, own_images, setup  # noqa: E402

SMALL = {
  'steps': 4, 'batch_size': 4, 'base_features': 2, 'd_features': 2, 'num_blocks': 1,
  'kernel_size': 3, 'steps_per_dispatch': 2, 'log_every': 2, 'evaluate_every': 4,
  'sample_every': 4, 'checkpoint_every': 4,
}  # fmt: skip


def experiment_of(name):
  return importlib.import_module(f'experiments.configs.{name}')


def config_of(name, data, **changes):
  config = experiment_of(name).get_config()
  config.update({**SMALL, 'data': data, **changes})
  return config


def pixels(seed, num=40, shape=(8, 8, 1)):
  return np.random.default_rng(seed).integers(0, 256, (num, *shape), np.uint8)


@pytest.fixture(scope='module')
def two(tmp_path_factory):
  """A CycleGAN of a file with x and y, trained a little: its config and workdir."""
  folder = tmp_path_factory.mktemp('two')
  np.savez(folder / 'a.npz', x=pixels(0), y_image=pixels(1))
  config = config_of('cycle_gan_glyphs', f'npz:{folder / "a.npz"}')
  launch.train(experiment_of('cycle_gan_glyphs'), config, folder / 'run')
  return config, folder / 'run'


@pytest.fixture(scope='module')
def many(tmp_path_factory):
  """A StarGAN of a file with domains, likewise."""
  folder = tmp_path_factory.mktemp('many')
  styles = np.array(['noto', 'twemoji', 'openmoji', 'blob'] * 15)
  np.savez(folder / 'a.npz', x=pixels(0, 60), domain=styles)
  config = config_of(
    'star_gan_glyphs', f'npz:{folder / "a.npz"}', num_critic=1, d_halvings=2
  )
  launch.train(experiment_of('star_gan_glyphs'), config, folder / 'run')
  return config, folder / 'run'


def asked(name, run, *words, images='', **options):
  config, workdir = run
  drawing = launch.Request().drawing._replace(condition=words, options=options)
  request = launch.Request(drawing=drawing, images=images)
  launch.MODES['translate'](experiment_of(name), config, workdir, request=request)
  with np.load(workdir / 'translate.npz') as file:
    return {key: file[key][0] for key in file.files}


@pytest.mark.slow
def test_a_file_of_two_domains_is_measured_in_pairs(two):
  config, workdir = two
  experiment = experiment_of('cycle_gan_glyphs')
  found = launch.evaluate(experiment, config, workdir)
  assert set(found) == {'to_y', 'to_x', 'back_to_x', 'back_to_y', 'unchanged'}
  test = registry.load(config.data).arrays('test')
  gap = np.abs(test['x'].astype(float) - test['y']).mean() / 127.5
  np.testing.assert_allclose(found['unchanged'], gap, rtol=1e-5)
  with Image.open(workdir / 'samples' / '00000004.png') as image:
    assert image.size[1] > 300  # six rows: input, output, back again, both ways


@pytest.mark.slow
def test_domains_by_name_and_ones_own_images(two, many, tmp_path):
  for number in range(3):
    Image.fromarray(pixels(number, 1, (8, 8))[0]).save(tmp_path / f'{number}.png')
  found = asked('cycle_gan_glyphs', two, 'y', images=f'folder:{tmp_path}')
  assert found['inputs'].shape == found['outputs'].shape == (3, 8, 8, 1)
  assert 'back' in found
  path = two[1] / 'translate' / '00002.png'
  np.testing.assert_array_equal(
    np.asarray(Image.open(path)), found['outputs'][2, ..., 0]
  )
  assert (two[1] / 'translate.png').exists()
  record = json.loads((two[1] / 'translate.json').read_text())
  assert record['num'] == [3] and record['request']['images'] == f'folder:{tmp_path}'
  other = asked('cycle_gan_glyphs', two, 'x', images=f'folder:{tmp_path}')
  assert not np.array_equal(other['outputs'], found['outputs'])
  # Of the run's own data the images of the other domain are taken.
  test = registry.load(two[0].data).arrays('test')
  for word, source in (('x', 'y'), ('y', 'x')):
    own = asked('cycle_gan_glyphs', two, word)
    np.testing.assert_array_equal(own['inputs'], test[source])
  np.savez(tmp_path / 'own.npz', x=pixels(5, 2))
  for word in ('twemoji', '3'):
    found = asked('star_gan_glyphs', many, word, images=f'npz:{tmp_path / "own.npz"}')
    assert found['outputs'].shape == (2, 8, 8, 1) and 'back' not in found
  assert 'back' in asked('star_gan_glyphs', many, 'noto')


def test_a_domain_is_asked_for_by_name_or_number(tmp_path):
  styles = np.array(['noto', 'twemoji', 'blob'] * 20)
  np.savez(tmp_path / 'a.npz', x=pixels(0, 60), domain=styles)
  np.savez(tmp_path / 'b.npz', x=pixels(0), y_image=pixels(1))
  many, two = (registry.load(f'npz:{tmp_path / name}.npz') for name in 'ab')
  ask = conditioning.domain
  assert ask(many, ['twemoji']) == ask(many, ['domain=2']) == 2  # names are sorted
  assert ask(two, ['x']) == ask(two, ['0']) == 0 and ask(two, ['y']) == 1
  assert ask(two, []) is None
  for data, words, word in (
    (many, ['twemojy'], "did you mean 'twemoji'"),
    (many, ['9'], '9'),
    (many, ['noto', 'blob'], 'one domain at a time'),
    (two, ['serif'], r'must be x \(or 0\) or y'),
  ):
    with pytest.raises(ValueError, match=word) as error:
      ask(data, words)
    assert '\n' not in str(error.value)


def test_all_of_ones_own_images_are_taken_however_few(tmp_path):
  np.savez(tmp_path / 'own.npz', x=pixels(0, 2))
  found = own_images.load(f'npz:{tmp_path / "own.npz"}')
  np.testing.assert_array_equal(found['x'], pixels(0, 2))
  for number in range(3):
    Image.fromarray(pixels(number, 1, (8, 8))[0]).save(tmp_path / f'{number}.png')
  found = own_images.load(f'folder:{tmp_path}')
  expected = np.stack([pixels(number, 1, (8, 8))[0] for number in range(3)])
  np.testing.assert_array_equal(found['x'][..., 0], expected)
  assert len(own_images.load('glyphs?num=9&size=16')['x']) == 2000  # the test split


@pytest.mark.parametrize(
  ('shape', 'name', 'word'),
  [
    ((8,), 'npz:{}', 'images of 256 levels'),
    ((8, 8, 1), 'npz:{}.none', '(?i)no such file'),
    ((8, 8, 1), 'nzp:{}', 'did you mean'),
  ],
)
def test_images_that_cannot_be_used_are_one_line(tmp_path, shape, name, word):
  np.savez(tmp_path / 'own.npz', x=pixels(0, 2, shape))
  with pytest.raises((setup.UsageError, dataset.DataError), match=word) as error:
    own_images.load(name.format(tmp_path / 'own.npz'))
  assert '\n' not in str(error.value)


def test_noise_below_zero_is_refused_by_its_name():
  config = star_gan_glyphs.get_config('plain')
  assert (config.noise, config.steps) == (0.0, 1200)
  config.noise = -1.0
  way = transforms.scaling(256)
  spec = base.DataSpec((32, 32, 1), jnp.float32, 256, 10, None, way)
  with pytest.raises(ValueError, match='noise must be >= 0, got -1'):
    star_gan_glyphs.make_method(config, spec)


def test_domains_of_different_shapes_are_one_line(tmp_path):
  np.savez(tmp_path / 'a.npz', x=pixels(0))
  np.savez(tmp_path / 'b.npz', x=pixels(1, shape=(12, 12, 1)))
  sides = '|'.join(f'npz:{tmp_path / name}.npz' for name in 'ab')
  for name, kind, word in (
    ('cycle_gan_glyphs', 'unpaired', 'domains of one shape'),
    ('star_gan_glyphs', 'domains', 'domains must be of one space'),
  ):
    with pytest.raises(setup.UsageError, match=word) as error:
      setup.prepare(experiment_of(name), config_of(name, f'{kind}:{sides}'))
    assert '\n' not in str(error.value)


def spec_of(size):
  way = transforms.scaling(256)
  space = (size, size, 3), jnp.float32, 256
  parts = {'y': base.Part(*space, way), 'domain': base.Part((), jnp.int32, 8, way)}
  return base.DataSpec(*space, None, None, way, parts)


# The papers' batches, and the examples that a step takes.
PAPERS = {
  'cycle_gan_glyphs': (1, 1), 'star_gan_glyphs': (16, 80), 'star_gan_v2_glyphs': (8, 16)
}  # fmt: skip


def of_the_paper(name, size=None):
  experiment = experiment_of(name)
  config = experiment.get_config('paper')
  spec = spec_of(size or {'star_gan_glyphs': 128}.get(name, 256))
  num = getattr(experiment, 'batch_size', lambda c: c.batch_size)(config)
  return config, spec, experiment.make_method(config, spec), num


def batch_of(spec, num):
  x = jax.random.uniform(jax.random.key(0), (num, *spec.shape), minval=-1.0)
  return {'x': x, 'y': -x, 'domain': jnp.arange(num) % 8}


@pytest.mark.slow
@pytest.mark.parametrize('name', PAPERS)
def test_the_papers_sizes_lower_at_its_batch(name):
  config, spec, method, num = of_the_paper(name)
  assert (config.batch_size, num) == PAPERS[name]
  batch = jax.eval_shape(lambda: batch_of(spec, num))
  state = jax.eval_shape(method.init, jax.random.key(0), batch)
  assert 'func' in jax.jit(method.step).lower(state, jax.random.key(1), batch).as_text()


@pytest.mark.slow
@pytest.mark.parametrize('name', ['cycle_gan_glyphs', 'star_gan_glyphs'])
def test_the_papers_networks_step_at_two(name):
  # Of 128 pixels: they fit any size, and at CycleGAN's 256 a step needs 14 GB.
  config, spec, method, _ = of_the_paper(name, 128)
  batch = batch_of(spec, 2 * config.get('num_critic', 1))
  state = jax.jit(method.init)(jax.random.key(0), batch)
  after, metrics = jax.jit(method.step)(state, jax.random.key(1), batch)
  assert all(np.isfinite(m) for m in metrics.values()) and after.step == 1


@pytest.mark.slow
def test_the_command_translates_a_folder_and_refuses_what_is_none(two, tmp_path):
  for number in range(3):
    Image.fromarray(pixels(number, 1, (8, 8))[0]).save(tmp_path / f'{number}.png')
  main = [sys.executable, ROOT / 'experiments' / 'main.py', f'--workdir={two[1]}']

  def call(*flags):
    return subprocess.run([*main, *flags], capture_output=True, text=True, timeout=300)

  done = call('--mode=translate', '--condition=y', f'--images=folder:{tmp_path}')
  assert done.returncode == 0, done.stderr
  assert 'translate.png' in done.stdout
  for flags in (
    ('--mode=translate', '--condition=z'),
    ('--mode=evaluate', f'--images=folder:{tmp_path}'),
    ('--mode=translate', '--condition=y', f'--images=folder:{tmp_path}/none'),
  ):
    done = call(*flags)
    assert done.returncode in (1, 2) and done.stderr.count('\n') == 1, done.stderr
