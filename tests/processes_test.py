"""Several processes against one: the same numbers, killed, continued, refused."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from gm_jax.training import log

ROOT = pathlib.Path(__file__).resolve().parents[1]
RING = ROOT / 'experiments' / 'configs' / 'unrolled_gan_ring.py'
SMALL = {
  'steps': 60,
  'steps_per_dispatch': 10,
  'log_every': 10,
  'evaluate_every': 0,
  'sample_every': 60,
  'checkpoint_every': 20,
  'batch_size': 32,
  'num_unroll': 2,
  'decay_steps': 10**6,  # the same rates for any number of steps
}


def command(workdir, *flags, **changes):
  return [
    sys.executable, str(ROOT / 'experiments' / 'main.py'), f'--config={RING}',
    f'--workdir={workdir}', f'--compilation_cache={os.environ["GM_JAX_TEST_CACHE"]}',
    *(f'--config.{k}={v}' for k, v in (SMALL | changes).items()), *flags,
  ]  # fmt: skip


def environment(devices):
  return os.environ | {'JAX_NUM_CPU_DEVICES': str(devices), 'JAX_PLATFORMS': 'cpu'}


def call(args, devices=1):
  return subprocess.run(
    args, capture_output=True, text=True, timeout=300, env=environment(devices),
    cwd=ROOT,
  )  # fmt: skip


def parameters(workdir):
  """The newest checkpoint's parameters, read without the package."""
  import orbax.checkpoint as ocp

  newest = max(workdir.glob('checkpoints/*'), key=lambda p: int(p.name))
  state = ocp.StandardCheckpointer().restore((newest / 'state').absolute())
  return {k: v for k, v in state.items() if k.startswith('.params')}


@pytest.fixture(scope='module')
def straight(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('one') / 'run'
  done = call(command(workdir))
  assert done.returncode == 0, done.stderr
  return workdir


def assert_same_course(one, other):
  rows, others = log.read(one / 'train.csv'), log.read(other / 'train.csv')
  assert [row['step'] for row in others] == [10, 20, 30, 40, 50, 60]
  for row, another in zip(rows, others, strict=True):
    for name in ('discriminator_loss', 'generator_loss', 'unroll_gap'):
      np.testing.assert_allclose(row[name], another[name], rtol=2e-3, err_msg=name)
  ours, theirs = parameters(one), parameters(other)
  assert ours.keys() == theirs.keys() and ours
  for name, value in ours.items():
    np.testing.assert_allclose(value, theirs[name], atol=2e-3, err_msg=name)


@pytest.mark.slow
def test_two_processes_killed_go_on_as_one_of_four_devices_and_of_one(
  straight, tmp_path
):
  workdir = tmp_path / 'run'
  run = subprocess.Popen(
    command(workdir, '--local_processes=2', '--model_devices=2', steps=10**6),
    env=environment(2), cwd=ROOT, start_new_session=True,
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
  )  # fmt: skip
  while not (workdir / 'checkpoints' / '20').exists():
    assert run.poll() is None
    time.sleep(0.01)
  os.killpg(run.pid, signal.SIGKILL)
  run.wait()
  names = [p.name for p in workdir.glob('checkpoints/*')]
  reached = max(int(name) for name in names if name.isdecimal())
  assert 20 <= reached <= 40
  for devices, steps in ((4, 50), (1, 60)):
    done = call(command(workdir, steps=steps), devices)
    assert done.returncode == 0, done.stderr
    assert 'going on from step' in done.stdout
  assert_same_course(straight, workdir)


@pytest.mark.slow
def test_two_processes_are_stopped_by_one_signal_and_go_on(straight, tmp_path):
  workdir = tmp_path / 'run'
  run = subprocess.Popen(
    command(workdir, '--local_processes=2'), env=environment(2), cwd=ROOT,
    stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
  )  # fmt: skip
  while not (workdir / 'train.csv').exists():
    assert run.poll() is None
    time.sleep(0.01)
  run.send_signal(signal.SIGTERM)
  error = run.communicate(timeout=120)[1]
  assert run.returncode == 143, error
  assert 'the same command goes on from there' in error and 'Traceback' not in error
  done = call(command(workdir, '--local_processes=2'), 2)
  assert done.returncode == 0, done.stderr
  assert_same_course(straight, workdir)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--num_processes=2'], 'belong together'),
    pytest.param(
      ['--local_processes=2', '--config.batch_size=33'], 'make batch_size a multiple',
      marks=SLOW,
    ),
    pytest.param(['--local_processes=0'], 'not a positive integer', marks=SLOW),
    pytest.param(['--model_devices=3'], 'cannot be grouped by 3', marks=SLOW),
  ],
)  # fmt: skip
def test_wrong_processes_are_refused_in_one_line(tmp_path, flags, message):
  done = call(command(tmp_path / 'run', *flags), 2)
  assert done.returncode == 2, done.stderr
  lines = [line for line in done.stderr.splitlines() if 'Gloo' not in line]
  assert len(lines) == 1 and message in lines[0]
  assert not (tmp_path / 'run').exists()
