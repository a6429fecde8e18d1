"""Training on a user's own data: the same pixels give the same run, however stored."""

import functools
import os
import pathlib
import subprocess
import sys

import chex
import jax
import numpy as np
import pytest
from PIL import Image

from gm_jax.data import registry
from gm_jax.metrics import features
from gm_jax.training import launch, log, parallel, setup

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.configs import gmmn_digits  # noqa: E402

SMALL = {
  'steps': 8,
  'steps_per_dispatch': 4,
  'log_every': 4,
  'evaluate_every': 8,
  'sample_every': 8,
  'checkpoint_every': 8,
  'batch_size': 16,
  'base_features': 8,
}


def config_of(data):
  config = gmmn_digits.get_config()
  config.update({**SMALL, 'data': data})
  return config


@pytest.fixture(autouse=True)
def brief_classifier_on_one_device(monkeypatch):
  """What distances are measured in is trained for a step: any features will do."""
  brief = functools.partial(features.train_classifier, steps=1)
  monkeypatch.setattr(features, 'train_classifier', brief)
  mesh = functools.partial(parallel.device_mesh, jax.devices()[:1])
  monkeypatch.setattr(parallel, 'device_mesh', mesh)


@pytest.fixture(scope='module')
def images():
  rng = np.random.default_rng(0)
  return {
    split: rng.integers(0, 256, (num, 8, 8), np.uint8)
    for split, num in (('train', 48), ('test', 24))
  }


@pytest.mark.slow
def test_folder_and_npz_of_the_same_images_train_to_the_same_state(images, tmp_path):
  npz, folder = tmp_path / 'own ä=1.npz', tmp_path / 'own pictures'
  np.savez(npz, **{f'x_{split}': x for split, x in images.items()})
  for split, x in images.items():
    (folder / split).mkdir(parents=True)
    for i, pixels in enumerate(x):
      Image.fromarray(pixels).save(folder / split / f'{i:03d}.png')
  states = []
  for name in (f'npz:{npz}', f'folder:{folder}'):
    workdir = tmp_path / name.split(':')[0]
    states.append(launch.train(gmmn_digits, config_of(name), workdir))
    values = launch.evaluate(gmmn_digits, config_of(name), workdir)
    row = log.read(workdir / 'evaluate.csv')[-1]
    np.testing.assert_allclose(values['mmd2'], row['mmd2'], rtol=1e-4)
    samples = launch.sample(
      gmmn_digits, config_of(name), workdir, request=launch.Request(num=10)
    )
    assert samples.shape == (10, 8, 8, 1) and samples.dtype == np.int32
    assert 0 <= samples.min() < samples.max() <= 255  # pixels, not model space
    with Image.open(workdir / 'samples' / '00000008.png') as picture:
      assert np.asarray(picture.convert('L')).std() > 1
  chex.assert_trees_all_equal(*states)


def test_digits_by_npz_are_the_digits(tmp_path):
  digits = registry.load('digits')
  arrays = {}
  for split in ('train', 'test'):
    for key, value in digits.arrays(split).items():
      arrays[f'{"y" if key == "label" else key}_{split}'] = value
  np.savez(tmp_path / 'digits.npz', **arrays)
  stored = registry.load(f'npz:{tmp_path / "digits.npz"}?levels=17')
  # All that a run knows of its data: transforms are the same, for the numbers are.
  plain = [data.spec._replace(transform=None) for data in (digits, stored)]
  assert plain[0] == plain[1]
  assert digits.spec.transform.measure == stored.spec.transform.measure
  raw = np.arange(17)
  np.testing.assert_array_equal(
    *(d.spec.transform.forward(None, raw) for d in (digits, stored))
  )
  for split in ('train', 'test'):
    chex.assert_trees_all_equal(digits.arrays(split), stored.arrays(split))
  batches = (data.batches('train', 500, seed=3, start=2) for data in (digits, stored))
  for pair, _ in zip(zip(*batches, strict=True), range(4), strict=False):
    chex.assert_trees_all_equal(*pair)


def test_text_is_no_image(tmp_path):
  (tmp_path / 'a.txt').write_text('to be or not to be ' * 500)
  with pytest.raises(setup.UsageError) as error:
    launch.train(gmmn_digits, config_of(f'text:{tmp_path / "a.txt"}'), tmp_path / 'r')
  assert '\n' not in str(error.value) and not (tmp_path / 'r').exists()


def tfds_folder():
  found = os.environ.get('GM_JAX_TFDS') or os.environ.get('TFDS_DATA_DIR')
  return pathlib.Path(found or pathlib.Path.home() / 'tensorflow_datasets')


@pytest.mark.slow
def test_unrolled_gan_on_real_fashion_mnist(tmp_path):
  if not (tfds_folder() / 'fashion_mnist').is_dir():
    pytest.skip(f'NOT TESTED: no fashion_mnist in {tfds_folder()}; set GM_JAX_TFDS')
  command = [
    sys.executable, str(ROOT / 'experiments' / 'main.py'),
    '--config=unrolled_gan_images:tfds:fashion_mnist',
    f'--data_dir={tfds_folder()}', f'--workdir={tmp_path / "run"}',
    f'--compilation_cache={ROOT / ".cache" / "jax"}', '--config.steps=100',
  ]  # fmt: skip
  environment = os.environ | {'JAX_NUM_CPU_DEVICES': '1'}
  for mode in ('train', 'evaluate', 'sample'):
    done = subprocess.run(
      [*command, f'--mode={mode}'], capture_output=True, text=True, timeout=900,
      env=environment, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
  files = {p.name for p in (tmp_path / 'run').iterdir()}
  assert files >= {'checkpoints', 'train.csv', 'evaluate.csv', 'samples.png'}
  samples = np.load(tmp_path / 'run' / 'samples.npz')['x']
  assert samples.shape == (64, 28, 28, 1)
  real = registry.load('tfds:fashion_mnist', data_dir=str(tfds_folder()))
  pixels = real.arrays('test', 1000)['x']
  noise = np.abs(pixels.mean(0) - 127.5).mean()
  # Garments on black, however blurred: nearer to the mean image than noise is.
  assert np.abs(samples.mean(0) - pixels.mean(0)).mean() < noise / 2
