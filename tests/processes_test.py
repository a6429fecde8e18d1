"""Several processes against one: the same numbers, killed, continued, refused."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from gm_jax.training import host, log

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments import processes  # noqa: E402

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


@pytest.mark.drill
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


# As XLA writes when process 0 is gone; what follows the second text is a stack.
XLA = """\
E1128 23:38:46.225069   23073 coordination_service_agent.cc:289] Polled an error
Additional GRPC error information from remote target coordination_service
F1128 23:38:46.225073   23073 client.h:80] Terminating process because
*** Check failure stack trace: ***
    @     0x7fc560440634  absl::lts_20260107::log_internal::LogMessage::SendToLog()
Fatal Python error: Aborted
"""
CRASH = 'F1128 23:38:46.225073   23073 layout.cc:80] Check failed\n  @ 0x7fc560440634\n'
SAYS = 'import os, sys; sys.stderr.write({text!r}); sys.stderr.flush(); {end}'


def says(text, end):
  return [sys.executable, '-c', SAYS.format(text=text, end=end)]


@pytest.mark.parametrize(
  ('children', 'code', 'said'),
  [
    ([('warning: slow\n', '')], 0, 'warning: slow\n'),
    ([('warning: slow\n' + XLA, 'os.abort()')], 1,
     f'warning: slow\nerror: {processes.GONE}\n'),
    ([('', 'os.kill(os.getpid(), 9)')], 137,
     'error: a process of this run was ended by SIGKILL; the same command goes on\n'),
    # One fails, and the other of it.
    ([(XLA, 'os.abort()'), ('error: no data\n', 'sys.exit(2)')], 2,
     'error: process 1: no data\n'),
    ([('error: no data\n', 'sys.exit(2)'), (XLA, 'os.abort()')], 2,
     'error: no data\n'),
    # A crash of another kind is shown as it is.
    ([(CRASH, 'os.abort()')], 134, CRASH +
     'error: a process of this run was ended by SIGABRT; the same command goes on\n'),
  ],
)  # fmt: skip
def test_of_processes_that_fail_one_line_is_heard(children, code, said, capsys):
  usual = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
  try:
    assert processes.watch([says(*child) for child in children]) == code
  finally:
    for signum, handler in usual.items():
      signal.signal(signum, handler)
  assert capsys.readouterr().err == said


def test_a_signal_told_twice_at_once_is_one_and_a_later_one_acts(monkeypatch):
  now = [0.0]
  monkeypatch.setattr(host.time, 'monotonic', lambda: now[0])
  # A shell starts what runs in the background with SIGINT ignored.
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    with pytest.raises(KeyboardInterrupt), host.signals() as received:
      signal.raise_signal(signal.SIGINT)
      signal.raise_signal(signal.SIGINT)
      assert received == [signal.SIGINT]
      now[0] = 1.5
      signal.raise_signal(signal.SIGINT)
  finally:
    signal.signal(signal.SIGINT, before)
  assert received == [signal.SIGINT]


def free_address():
  with socket.socket() as server:
    server.bind(('localhost', 0))
    return f'localhost:{server.getsockname()[1]}'


def by_hand(workdir, flags=((), ()), **changes):
  """Two processes started each by its own command, as on two machines."""
  address = [f'--coordinator={free_address()}', '--num_processes=2']
  return [
    subprocess.Popen(
      command(workdir, *address, f'--process_index={i}', *flags[i], **changes),
      env=environment(1), cwd=ROOT, text=True, stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
    )
    for i in range(2)
  ]  # fmt: skip


def child_of(process):
  args = ['ps', '-o', 'pid=', '--ppid', str(process.pid)]
  return int(subprocess.run(args, capture_output=True, text=True).stdout.split()[0])


@pytest.mark.drill
@pytest.mark.parametrize('whole', [True, False])
@pytest.mark.parametrize('victim', [0, 1])
def test_when_one_of_two_is_killed_the_other_ends_in_one_line(victim, whole, tmp_path):
  workdir = tmp_path / 'run'
  both = by_hand(workdir, steps=10**6)
  while not (workdir / 'checkpoints' / '20').exists():
    assert all(process.poll() is None for process in both)
    time.sleep(0.01)
  os.kill(both[victim].pid if whole else child_of(both[victim]), signal.SIGKILL)
  began = time.monotonic()
  error = both[1 - victim].communicate(timeout=60)[1]
  assert both[1 - victim].returncode == 1 and time.monotonic() - began < 20
  assert error == f'error: {processes.GONE}\n'
  killed = both[victim].communicate()[1]
  assert whole or ('ended by SIGKILL' in killed and len(killed.splitlines()) == 1)
  done = call(command(workdir))
  assert done.returncode == 0 and 'going on from step' in done.stdout, done.stderr


@pytest.mark.drill
@pytest.mark.parametrize('index', [0, 1])
def test_when_one_of_two_cannot_begin_each_says_one_line(index, tmp_path):
  flags = [(), ()]
  flags[index] = ['--data=npz:missing.npz']
  both = by_hand(tmp_path / 'run', flags)
  errors = [process.communicate(timeout=240)[1] for process in both]
  assert 'missing.npz' in errors[index] and len(errors[index].splitlines()) == 1
  assert errors[1 - index] == f'error: {processes.GONE}\n'
  assert both[index].returncode == 1 and both[1 - index].returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize(
  ('index', 'others'), [(0, 'the other processes'), (1, 'process 0 at {address}')]
)
def test_processes_that_nobody_answers_say_so_and_end(index, others, tmp_path):
  address = free_address()
  others = others.format(address=address)
  flags = [f'--coordinator={address}', '--num_processes=2', '--coordinator_timeout=5']
  done = call(command(tmp_path / 'run', *flags, f'--process_index={index}'))
  lines = done.stderr.splitlines()
  assert done.returncode == 1 and len(lines) == 2, done.stderr
  assert lines[0] == f'waiting for {others}, at most 5 s'
  assert lines[1].startswith(f'error: waited 5 s for {others}: start all of them')
  assert not (tmp_path / 'run').exists()
