"""The edge of a run: what a resume changes, config files as people write them, output
that fails, and runs that are not the ones they were. Each wrong thing is one line."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import caches
from gm_jax.training import (
  checkpoint,
  experiment,
  launch,
  log,
  loop,
  setup,
  trained,
  workdir,
)

ROOT = pathlib.Path(__file__).resolve().parents[1]
STANDINS = ROOT / 'tests' / 'standins'
CONFIG = '''
  """A stand-in: written by a test."""
  {future}
  import dataclasses
  import jax
  import jax.numpy as jnp
  from experiments.configs.parts import runs
  from gm_jax import base, gradient
  import optax

  @dataclasses.dataclass
  class Sizes:
    width: int = 1

  CARD = base.Card(*['none'] * 3, 'none', 'none', ('regression',), 'none', 'any')

  def get_config(arg=None):
    config = runs.run('digits', steps=2, batch_size=8)
    for name in ('steps_per_dispatch', 'log_every', 'evaluate_every', 'sample_every'):
      config[name] = 2
    config.checkpoint_every = 2
    {leaf}
    return config

  def make_method(config, spec, *, wrap=lambda tx: tx):
    def loss_fn(params, extra, key, batch):
      loss = jnp.square(params['mean'] - batch['x'].mean())
      return loss, (extra, {metrics})
    init = lambda key, batch: ({{'mean': jnp.zeros(Sizes().width)[0]}}, {{}})
    return gradient.from_loss(loss_fn, wrap(optax.sgd(0.1)), init, card=CARD)

  def make_evaluation(config, data):
    return lambda method, model, key: {evaluation}
'''
PLAIN = {
  'future': '',
  'leaf': '',
  'metrics': '{}',
  'evaluation': "{'score': 1.0 * jnp.ones(())}",
}


def written(path, **parts):
  path.write_text(textwrap.dedent(CONFIG.format(**PLAIN | parts)))
  return experiment.module(path)


def small_ring(**changes):
  found = experiment.module(ROOT / 'experiments' / 'configs' / 'gan_ring.py')
  config = found.get_config()
  small = dict.fromkeys(('steps_per_dispatch', 'log_every', 'checkpoint_every'), 5)
  config.update(small | {'steps': 10, 'evaluate_every': 0, 'sample_every': 0} | changes)
  return found, config


@pytest.mark.drill
def test_a_finished_run_goes_on_at_a_rate_above_zero(tmp_path):
  found, config = small_ring()
  first = launch.train(found, config, tmp_path / 'run')
  config.steps = 20
  second = launch.train(found, config, tmp_path / 'run')
  moved = jax.tree.map(
    lambda a, b: float(jnp.abs(a - b).max()), first.params, second.params
  )
  assert min(jax.tree.leaves(moved)) > 1e-4
  config.update({'decay_steps': 20, 'steps': 40})
  with pytest.raises(setup.UsageError, match='rates would be 0 after step 20'):
    launch.train(found, config, tmp_path / 'run')


def test_a_dataclass_of_postponed_annotations_is_a_config(tmp_path):
  found = written(tmp_path / 'a.py', future='from __future__ import annotations')
  state = launch.train(found, found.get_config(), tmp_path / 'run')
  assert state.step == 2 and trained.load(tmp_path / 'run').step == 2


@pytest.mark.parametrize(
  ('parts', 'message'),
  [
    ({'leaf': 'config.array = jnp.zeros(3)'}, 'array must be a number, a name, or a'),
    (
      {'leaf': 'config.function = min'},
      'function must be a number, a name, or a tuple',
    ),
    (
      {'metrics': "{'each': batch['x'][:, 0, 0, 0]}"},
      "a number [], and 'each' is (8,)",
    ),
    ({'metrics': "{'step': loss}"}, "a metric cannot be called 'step'"),
    ({'evaluation': '1.0'}, 'an evaluation must give a dict of numbers by name'),
    ({'evaluation': "{'scores': jnp.ones(3)}"}, "a number [], and 'scores' is (3,)"),
  ],
)
def test_config_files_that_make_no_sense_are_one_line(parts, message, tmp_path):
  found = written(tmp_path / 'a.py', **parts)
  with pytest.raises(setup.UsageError) as error:
    launch.train(found, found.get_config(), tmp_path / 'run')
  assert message in str(error.value) and '\n' not in str(error.value)
  assert not (tmp_path / 'run').exists()


FAILS_LATE = """
  import numpy as np

  def make_evaluation(config, data):
    calls = []

    def host(mean):
      calls.append(mean)
      if len(calls) > 1:
        raise {error}
      return np.float32(mean)

    def evaluate(method, model, key):
      shape = jax.ShapeDtypeStruct((), 'float32')
      return {{'score': jax.pure_callback(host, shape, model.params['mean'])}}
    return evaluate
"""


def written_to_fail_late(path, error):
  """A config whose evaluation raises when it is called for the second time."""
  path.write_text(
    textwrap.dedent(CONFIG.format(**PLAIN))
    + textwrap.dedent(FAILS_LATE.format(error=error))
  )
  return experiment.module(path)


@pytest.mark.parametrize(
  ('error', 'said'),
  [
    ("ValueError('no such\\nthing')", 'ValueError: no such thing (a.py, line 4'),
    pytest.param('1 / 0', 'ZeroDivisionError: division by', marks=pytest.mark.slow),
    pytest.param("KeyError('f')", "KeyError: 'f' (a.py,", marks=pytest.mark.slow),
  ],
)
def test_an_evaluation_that_fails_late_is_named_and_loses_nothing(
  error, said, tmp_path
):
  found = written_to_fail_late(tmp_path / 'a.py', error)
  config = found.get_config()
  config.update({'steps': 6, 'sample_every': 0, 'checkpoint_every': 6})
  with pytest.raises(loop.Failed) as failed:
    launch.train(found, config, tmp_path / 'run')
  text = str(failed.value)
  assert text.startswith(f'the evaluation at step 4 failed: {said}')
  assert '\n' not in text and len(text) < 150
  # Though no checkpoint was due, the run goes on from there, to where it would be.
  end = launch.train(found, config, tmp_path / 'run')
  config.evaluate_every = 0
  straight = launch.train(found, config, tmp_path / 'straight')
  assert end.params['mean'] == straight.params['mean']
  assert [row['step'] for row in log.read(tmp_path / 'run' / 'train.csv')] == [2, 4, 6]


def test_a_picture_that_fails_is_named_and_loses_nothing(monkeypatch, tmp_path):
  found, config = small_ring(sample_every=5, checkpoint_every=10)

  def painter(*args):
    def paint(path, state):
      raise KeyError(path.stem)

    return paint

  monkeypatch.setattr(launch.pictures, 'painter', painter)
  with pytest.raises(loop.Failed, match='the picture of samples at step 5 failed: Key'):
    launch.train(found, config, tmp_path / 'run')
  assert (tmp_path / 'run' / 'checkpoints' / '5').is_dir()


@pytest.mark.drill
def test_an_evaluation_that_is_switched_off_is_not_made(tmp_path):
  path = tmp_path / 'same.npz'
  np.savez(path, x=np.zeros((60, 8, 8, 1), np.uint8))
  found = experiment.module(ROOT / 'experiments' / 'configs' / 'gan_digits.py')
  config = found.get_config()
  config.update(dict.fromkeys(('steps', 'steps_per_dispatch', 'log_every'), 2))
  config.update({'data': f'npz:{path}', 'evaluate_every': 2, 'sample_every': 0,
                 'checkpoint_every': 2})  # fmt: skip
  with pytest.raises(Exception, match='evaluate_every=0 trains without it'):
    launch.train(found, config, tmp_path / 'run')
  config.evaluate_every = 0
  assert launch.train(found, config, tmp_path / 'run').step == 2


def test_a_state_that_widens_is_named_before_training(tmp_path):
  text = (
    CONFIG.format(**PLAIN)
    .replace(
      "{'mean': jnp.zeros(Sizes().width)[0]}", "{'mean': jnp.zeros((), 'bfloat16')}"
    )
    .replace('wrap(optax.sgd(0.1))', 'wrap(optax.scale(jnp.float32(0.1)))')
  )
  text = text.replace('return gradient.from_loss', 'method = gradient.from_loss')
  text = text.replace(
    'card=CARD)',
    """card=CARD)
    widen = lambda x: x.astype('float32')
    wide = lambda s: s._replace(params=jax.tree.map(widen, s.params))
    def step(state, key, batch):
      new, metrics = method.step(state, key, batch)
      return wide(new), metrics
    return method._replace(step=step)""",
  )
  path = tmp_path / 'a.py'
  path.write_text(textwrap.dedent(text))
  found = experiment.module(path)
  with pytest.raises(setup.UsageError, match='from bfloat16.* into float32'):
    launch.train(found, found.get_config(), tmp_path / 'run')


@pytest.mark.parametrize('name', ['gan_digits', 'markov_digits'])
def test_what_64_bits_break_is_one_line_that_says_so(name):
  found = experiment.module(ROOT / 'experiments' / 'configs' / f'{name}.py')
  config = found.get_config()
  config.batch_size = 32
  with jax.enable_x64(True), pytest.raises(setup.UsageError) as error:
    setup.prepare(found, config)
  text = str(error.value)
  assert text.endswith('; run without JAX_ENABLE_X64') and '\n' not in text


@pytest.fixture(scope='module')
def ring_run(tmp_path_factory):
  """A finished run of the ring, not to be changed."""
  found, config = small_ring()
  folder = tmp_path_factory.mktemp('ring') / 'run'
  launch.train(found, config, folder)
  return found, config, folder


@pytest.mark.slow
def test_a_renamed_checkpoint_is_not_believed(ring_run, tmp_path):
  found, config, folder = ring_run
  copy = shutil.copytree(folder, tmp_path / 'run')
  (copy / 'checkpoints' / '10').rename(copy / 'checkpoints' / '15')
  config = config.copy_and_resolve_references()
  config.steps = 20
  # Passed over by name, and what is before it goes on.
  state = launch.train(found, config, copy)
  assert state.step == 20
  saved = checkpoint.Checkpoints(copy / 'checkpoints')
  assert saved.restore(jax.eval_shape(lambda: state))[0] == 20


@pytest.mark.parametrize(
  ('meta', 'message'),
  [
    ({'attempt': 'many', 'unlogged': {}}, "attempt = 'many', which must be an integer"),
    ({'attempt': 0, 'unlogged': {'loss': 3}}, 'metrics that are no lists'),
  ],
)
def test_a_record_that_makes_no_sense_is_one_line(meta, message, ring_run, tmp_path):
  found, config, folder = ring_run
  copy = shutil.copytree(folder, tmp_path / 'run')
  saved = checkpoint.Checkpoints(copy / 'checkpoints')
  prepared = setup.prepare(found, config)
  template = loop.template(
    prepared.make_phases(0), setup.batches(prepared), prepared.settings, 10
  )
  _, state, _ = saved.restore(template)
  shutil.rmtree(copy / 'checkpoints')
  checkpoint.Checkpoints(copy / 'checkpoints').save(10, state, meta)
  with pytest.raises(workdir.RunError) as error:
    launch.train(found, config, copy)
  assert message in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize(
  'name',
  [
    'checkpoints',
    'metadata',
    pytest.param('10', marks=pytest.mark.slow),
    pytest.param('state', marks=pytest.mark.slow),
  ],
)
def test_what_may_not_be_read_is_named_and_no_damage(
  name, ring_run, tmp_path, monkeypatch
):
  found, config, folder = ring_run
  copy = shutil.copytree(folder, tmp_path / 'run')
  monkeypatch.setattr(
    checkpoint.os, 'access', lambda path, mode: pathlib.Path(path).name != name
  )
  files = set(copy.rglob('*'))
  for mode in (launch.evaluate, launch.sample, launch.train):
    with pytest.raises(workdir.RunError) as error:
      mode(found, config, copy)
    text = str(error.value)
    assert text.startswith(f'cannot read {copy / "checkpoints"}') and '\n' not in text
    assert f'{name}: Permission denied' in text
  assert set(copy.rglob('*')) - files <= {copy / workdir.LOCK}


def test_other_data_of_the_same_name_are_noticed(tmp_path):
  found = written(tmp_path / 'a.py')
  rng, path = np.random.default_rng(0), tmp_path / 'a.npz'
  np.savez(path, x=rng.integers(0, 256, (60, 8, 8, 1), dtype=np.uint8))
  config = found.get_config()
  config.data = f'npz:{path}'
  launch.train(found, config, tmp_path / 'run')
  config.steps = 4
  np.savez(path, x=rng.integers(0, 256, (60, 8, 8, 1), dtype=np.uint8))
  with pytest.raises(setup.UsageError, match='other data of the same name'):
    launch.train(found, config, tmp_path / 'run')


def test_a_user_without_a_home_has_no_caches(monkeypatch):
  monkeypatch.delenv('GM_JAX_CACHE', raising=False)

  def no_home():
    raise RuntimeError('Could not determine home directory.')

  monkeypatch.setattr(pathlib.Path, 'home', no_home)
  assert caches.folder('classifiers') is None
  launch.use_compilation_cache()  # none, and no error


MAIN = [sys.executable, str(ROOT / 'experiments' / 'main.py')]
ENVIRONMENT = os.environ | {'JAX_NUM_CPU_DEVICES': '1', 'JAX_PLATFORMS': 'cpu'}


@pytest.mark.skipif(not pathlib.Path('/dev/full').exists(), reason='no /dev/full here')
def test_output_that_cannot_be_written_is_one_line():
  with open('/dev/full', 'w') as full:
    done = subprocess.run(
      [*MAIN, '--mode=list'], stdout=full, stderr=subprocess.PIPE, text=True,
      env=ENVIRONMENT,
    )  # fmt: skip
  assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
  assert 'No space left on device' in done.stderr


@pytest.mark.drill
def test_output_that_is_cut_is_one_line_and_a_bogus_backend_none(tmp_path):
  child = subprocess.Popen(
    [*MAIN, '--mode=list'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    env=ENVIRONMENT,
  )  # fmt: skip
  child.stdout.close()
  lines = child.stderr.read().splitlines()
  assert child.wait() == 1 and len(lines) == 1 and 'was closed' in lines[0]
  leaves = [f'--config.{k}=2' for k in ('steps', 'steps_per_dispatch', 'sample_every',
            'log_every')]  # fmt: skip
  leaves += ['--config.evaluate_every=0', '--config.checkpoint_every=0']
  done = subprocess.run(
    [*MAIN, '--config=gan_ring', f'--workdir={tmp_path / "run"}', *leaves],
    capture_output=True, text=True, env=ENVIRONMENT | {'MPLBACKEND': 'bogus'},
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert (tmp_path / 'run' / 'samples' / '00000002.png').exists()


@pytest.mark.drill
@pytest.mark.skipif(
  os.getuid() == 0 and not shutil.which('setpriv'), reason='root may read all'
)
@pytest.mark.parametrize(
  ('name', 'code', 'said'),
  [
    ('checkpoints', 1, 'cannot read {path}: Permission denied'),
    ('checkpoints/10', 1, 'cannot read {path}: Permission denied'),
    ('checkpoints/10/record', 1, 'cannot read {path}: Permission denied'),
    ('config.json', 2, 'cannot read {path}: Permission denied'),
    ('.', 2, 'cannot read {path}/run.json: Permission denied'),
  ],
)
def test_without_the_right_to_read_one_line_says_what(
  name, code, said, ring_run, tmp_path
):
  copy = shutil.copytree(ring_run[2], tmp_path / 'run')
  (copy / name).chmod(0)
  plain = ['setpriv', '--bounding-set=-dac_override,-dac_read_search']
  try:
    for mode in ('evaluate', 'sample', 'train'):
      done = subprocess.run(
        [*(plain if os.getuid() == 0 else []), *MAIN, f'--workdir={copy}',
         f'--mode={mode}'], capture_output=True, text=True, env=ENVIRONMENT,
      )  # fmt: skip
      assert done.returncode == code and len(done.stderr.splitlines()) == 1
      assert said.format(path=copy / name) in done.stderr
  finally:
    (copy / name).chmod(0o755)


@pytest.mark.drill
def test_the_launcher_says_in_one_line_which_evaluation_failed(tmp_path):
  written_to_fail_late(tmp_path / 'a.py', "KeyError('f')")
  command = [*MAIN, f'--config={tmp_path / "a.py"}', f'--workdir={tmp_path / "run"}']
  command += ['--config.steps=6', '--config.sample_every=0']
  done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
  assert done.returncode == 1
  assert done.stderr.startswith("error: the evaluation at step 4 failed: KeyError: 'f'")
  assert done.stderr.endswith('the same command goes on from the last checkpoint\n')
  assert len(done.stderr.splitlines()) == 1
  done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
  assert done.returncode == 0 and 'going on from step 4' in done.stdout, done.stderr


@pytest.mark.drill
def test_with_64_bits_one_line_says_what_is_wrong(tmp_path):
  leaves = [f'--config.{k}=2' for k in ('steps', 'steps_per_dispatch')]
  leaves += [
    f'--config.{k}_every=0' for k in ('evaluate', 'sample', 'log', 'checkpoint')
  ]
  done = subprocess.run(
    [*MAIN, '--config=gan_digits', f'--workdir={tmp_path / "run"}', *leaves],
    capture_output=True, text=True, env=ENVIRONMENT | {'JAX_ENABLE_X64': '1'},
  )  # fmt: skip
  lines = done.stderr.splitlines()
  assert done.returncode == 0 or (done.returncode == 2 and len(lines) == 1), done.stderr


@pytest.mark.drill
def test_local_processes_end_with_the_one_that_started_them(tmp_path):
  leaves = ['--config.steps=1000000', '--config.steps_per_dispatch=10',
            '--config.log_every=10', '--config.evaluate_every=0']  # fmt: skip
  starter = subprocess.Popen(
    [*MAIN, '--config=gan_ring', f'--workdir={tmp_path / "run"}', '--local_processes=2',
     '--config.sample_every=0', '--config.checkpoint_every=0', *leaves],
    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=ENVIRONMENT,
  )  # fmt: skip
  starter.stdout.readline()  # a first log: both are at work
  children = subprocess.run(
    ['ps', '-o', 'pid=', '--ppid', str(starter.pid)], capture_output=True, text=True
  ).stdout.split()
  assert len(children) == 2
  starter.send_signal(signal.SIGKILL)
  starter.wait()
  deadline = time.monotonic() + 20
  left = children
  while left and time.monotonic() < deadline:
    time.sleep(0.5)
    left = [pid for pid in left if pathlib.Path(f'/proc/{pid}/cmdline').exists()]
  assert not left


@pytest.mark.slow
def test_processes_of_unlike_configs_are_told_apart(tmp_path):
  import socket

  with socket.socket() as server:
    server.bind(('localhost', 0))
    address = f'--coordinator=localhost:{server.getsockname()[1]}'
  children = []
  for index, seed in enumerate((0, 1)):
    leaves = [f'--config.seed={seed}', '--config.steps=100']
    children.append(subprocess.Popen(
      [*MAIN, '--config=gan_ring', f'--workdir={tmp_path / "run"}', address,
       '--num_processes=2', f'--process_index={index}', *leaves],
      stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    ))  # fmt: skip
  for child in children:
    said = child.communicate(timeout=240)[1]
    assert child.returncode == 2 and 'differ in config or data' in said, said
  assert not (tmp_path / 'run' / 'config.json').exists()


def test_the_record_of_a_run_is_json(ring_run):
  _, _, folder = ring_run
  record = json.loads((folder / 'run.json').read_text())
  assert record['experiment'].endswith('gan_ring.py') and record['data']
