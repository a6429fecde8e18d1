"""Every config where JAX is told to look for NaN, or to compute in 64 bits.

Nothing uses NaN on a device to say that a number is missing, so JAX_DEBUG_NANS finds
what went wrong and nothing else. With JAX_ENABLE_X64 what a config compiles is traced,
or one line says why it cannot be.
"""

import functools
import os
import pathlib
import subprocess
import sys

import chex
import jax
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.configs.parts import evaluations  # noqa: E402
from gm_jax.data import registry  # noqa: E402
from gm_jax.metrics import features  # noqa: E402
from gm_jax.training import experiment, launch, loop, parallel, setup  # noqa: E402
from gm_jax.training import step as step_lib  # noqa: E402

MAIN, CONFIGS = ROOT / 'experiments' / 'main.py', ROOT / 'experiments' / 'configs'
EVERY = {'log_every': 2, 'evaluate_every': 4, 'sample_every': 4, 'checkpoint_every': 4}
PHASES = ('autoencoder_steps', 'encoder_steps', 'stage_steps')
# Evaluations that are given samples and nothing else: one config tries each for all.
OF_SAMPLES = {
  evaluations.images: 'gan_digits', evaluations.mixture_modes: 'gan_ring',
  evaluations.images_of_classes: 'conditional_gan_digits',
  evaluations.images_or_classes: 'edm_digits',
  evaluations.images_or_stacked: 'dcgan_images',
}  # fmt: skip
# Of a network that grows once, in the fade and after it.
GROWS = {'first_size': 16, 'stage_images': 64, 'batch_size': 32, 'steps': 6}

FEW = 200  # examples that an evaluation is given

pytestmark = pytest.mark.slow


@pytest.fixture
def flag(request, monkeypatch):
  """Sets a flag of JAX for all threads, as the environment does; on one device."""
  mesh = functools.partial(parallel.device_mesh, jax.devices()[:1])
  monkeypatch.setattr(parallel, 'device_mesh', mesh)
  jax.config.update(request.param, True)
  yield
  jax.config.update(request.param, False)
  jax.clear_caches()


@pytest.fixture(autouse=True)
def brief_evaluations(monkeypatch):
  """Of few examples, and nothing is trained to read them: the programs are the same."""
  load = registry.load

  def loaded(*args, **options):
    data = load(*args, **options)

    def few(split, num=None):
      return data.arrays(split, min(num or FEW, FEW))

    return data._replace(arrays=few)

  def untrained(key, images, *args, network, **options):
    del args, options
    params = jax.jit(network.init)(key, images[:1])
    of_images = functools.partial(network.apply, method='features')
    return features.Classifier(params, network.apply, of_images, np.float32(0.0))

  def of_name(key, name, train, test, *, num_classes, **options):
    del name, test, options
    return untrained(key, *train, network=features.ConvNet(num_classes))

  monkeypatch.setattr(registry, 'load', loaded)
  monkeypatch.setattr(features, 'train_classifier', untrained)
  monkeypatch.setattr(features, 'cached_classifier', of_name)


def small(name):
  """The experiment and its config, of a few steps; every phase has two."""
  found = experiment.module(CONFIGS / f'{name}.py')
  config = found.get_config()
  phases = {leaf: 2 for leaf in PHASES if leaf in config}
  steps = max(4, 2 * (len(phases) + 1))
  config.update(EVERY | phases | {'steps': steps, 'steps_per_dispatch': 2, 'best': ''})
  if OF_SAMPLES.get(getattr(found, 'make_evaluation', None), name) != name:
    config.evaluate_every = 0
  if 'first_size' in config:
    config.update(GROWS)
  return found, config


@pytest.mark.parametrize('flag', ['jax_debug_nans'], indirect=True)
@pytest.mark.parametrize('name', experiment.names(CONFIGS))
def test_no_config_has_nan_on_a_device(name, flag, tmp_path):
  found, config = small(name)
  assert launch.train(found, config, tmp_path / 'run').step == config.steps


@pytest.mark.parametrize('flag', ['jax_enable_x64'], indirect=True)
@pytest.mark.parametrize('name', experiment.names(CONFIGS))
def test_in_64_bits_a_config_is_traced_or_one_line_says_why_not(name, flag):
  # By the dtypes of its arrays, whose disagreement is all that 64 bits can bring.
  found, config = small(name)
  try:
    made = setup.prepare(found, config, evaluates=True)
  except setup.UsageError as error:
    assert 'run without JAX_ENABLE_X64' in str(error) and '\n' not in str(error)
    return
  phases, batches = made.make_phases(0), setup.batches(made)
  settings, key = made.settings, jax.random.key(0)
  for phase in phases:
    state = loop.template(phases, batches, settings, phase.until)
    batch = next(batches(phase, 0, 0))
    batch = jax.tree.map(lambda x: np.stack([x, x]), dict(batch))
    steps = step_lib.train_step(
      phase.method, spec=phase.spec, ema_decay=settings.ema_decay
    )
    after, _ = jax.eval_shape(steps, state, key, batch)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)


def test_in_64_bits_a_run_trains(tmp_path):
  """As a process, whose JAX begins in 64 bits."""
  found = 'unrolled_gan_ring'
  command = [sys.executable, MAIN, f'--config={found}', f'--workdir={tmp_path / "run"}']
  _, config = small(found)
  leaves = [
    f'--config.{n}={config[n]}' for n in ('steps', 'steps_per_dispatch', *EVERY)
  ]
  environment = os.environ | {'JAX_ENABLE_X64': '1'}
  subprocess.run([*command, *leaves], env=environment, check=True, timeout=300)
  assert (tmp_path / 'run' / 'checkpoints' / str(config.steps)).is_dir()
