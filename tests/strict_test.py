"""Every config where JAX is told to look for NaN, or to compute in 64 bits.

Nothing uses NaN on a device to say that a number is missing, so JAX_DEBUG_NANS finds
what went wrong and nothing else. With JAX_ENABLE_X64 a config trains, or one line says
why it cannot.
"""

import functools
import pathlib

import jax
import pytest

from gm_jax.training import experiment, launch, parallel, setup

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / 'experiments' / 'configs'
EVERY = {'log_every': 2, 'evaluate_every': 4, 'sample_every': 4, 'checkpoint_every': 4}
PHASES = ('autoencoder_steps', 'encoder_steps', 'stage_steps')

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


def small(name):
  """The experiment and its config, of a few steps; every phase has two."""
  found = experiment.module(CONFIGS / f'{name}.py')
  config = found.get_config()
  phases = {leaf: 2 for leaf in PHASES if leaf in config}
  steps = max(4, 2 * (len(phases) + 1))
  config.update(EVERY | phases | {'steps': steps, 'steps_per_dispatch': 2, 'best': ''})
  return found, config


@pytest.mark.parametrize('flag', ['jax_debug_nans'], indirect=True)
@pytest.mark.parametrize('name', experiment.names(CONFIGS))
def test_no_config_has_nan_on_a_device(name, flag, tmp_path):
  found, config = small(name)
  assert launch.train(found, config, tmp_path / 'run').step == config.steps


@pytest.mark.parametrize('flag', ['jax_enable_x64'], indirect=True)
@pytest.mark.parametrize('name', experiment.names(CONFIGS))
def test_in_64_bits_a_config_trains_or_one_line_says_why_not(name, flag, tmp_path):
  found, config = small(name)
  config.evaluate_every = 0  # an evaluation is traced, by the dtypes of its arrays
  try:
    setup.prepare(found, config, evaluates=True)
    assert launch.train(found, config, tmp_path / 'run').step == config.steps
  except setup.UsageError as error:
    assert 'run without JAX_ENABLE_X64' in str(error) and '\n' not in str(error)
