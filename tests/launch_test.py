"""The launcher as its users meet it: mistakes, kills, signals, damage."""

import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import types

import jax
import numpy as np
import pytest

from gm_jax.training import experiment, launch, log, parallel, setup

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.configs import gan_digits, gan_ring, unrolled_gan_ring  # noqa: E402

MAIN = [sys.executable, str(ROOT / 'experiments' / 'main.py')]
RING = str(ROOT / 'experiments' / 'configs' / 'unrolled_gan_ring.py')
ENVIRONMENT = os.environ | {'JAX_NUM_CPU_DEVICES': '1', 'JAX_PLATFORMS': 'cpu'}
SMALL = {
  'steps': 40,
  'steps_per_dispatch': 10,
  'log_every': 10,
  'evaluate_every': 20,
  'sample_every': 40,
  'checkpoint_every': 20,
  'batch_size': 32,
  'num_unroll': 2,
  'decay_steps': 10**6,  # the same rates for any number of steps
}


def command(workdir, *args, **changes):
  leaves = [f'--config.{k}={v}' for k, v in (SMALL | changes).items()]
  cache = f'--compilation_cache={ROOT / ".cache" / "jax"}'
  return [*MAIN, f'--config={RING}', f'--workdir={workdir}', cache, *leaves, *args]


def call(args):
  return subprocess.run(
    args, capture_output=True, text=True, timeout=120, env=ENVIRONMENT, cwd=ROOT
  )


def config_of(experiment, **changes):
  config = experiment.get_config()
  config.update(changes)
  return config


def ring(**changes):
  return config_of(unrolled_gan_ring, **(SMALL | changes))


def plain_ring(**changes):
  """A run whose programs are the same in every test, and soon compiled."""
  small = {name: value for name, value in SMALL.items() if name != 'num_unroll'}
  return config_of(gan_ring, **(small | {'seeds': 2} | changes))


def a_process(*row):
  return pytest.param(*row, marks=pytest.mark.drill)


@pytest.mark.drill
@pytest.mark.parametrize(
  ('args', 'message'),
  [
    (['--config.num_unrol=3'], 'Did you mean "num_unroll"'),
    (['--config.num_unroll=-1'], 'num_unroll must be >= 0, got -1'),
    # The drills have more of these, and these too.
    a_process(
      ['--config.steps=many'], "invalid literal for int() with base 10: 'many'"
    ),
    a_process(['--mode=trian'], "no mode 'trian'; did you mean train? One of: train"),
    a_process(['extra'], "unknown argument 'extra'"),
    a_process(['--wrkdir=x'], "flag 'wrkdir'. Did you mean: workdir"),
    a_process(['--config=/no/such.py'], '--config=/no/such.py is no Python file'),
    a_process(['--config=experiments'], '--config=experiments is no Python file'),
    a_process(['--config=gan_rings'], 'did you mean gan_ring?'),
    a_process([f'--config={RING}:many'], 'invalid literal for int() with base 10'),
    a_process(['--workdir='], '--workdir is missing'),
  ],
)
def test_wrong_command_is_one_line_with_exit_code_2(args, message, tmp_path):
  done = call(command(tmp_path / 'run', *args))
  assert done.returncode == 2, done.stderr
  assert message in done.stderr
  assert len(done.stderr.splitlines()) == 1 and 'Traceback' not in done.stderr
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'data': 'toy:rings'}, "no data set 'toy:rings'; did you mean 'toy:ring'"),
    ({'num_unroll': -1}, 'num_unroll must be >= 0, got -1'),
    ({'unroll_fn': 'exact'}, "unroll_fn = 'exact' is not one of full"),
    ({'game': 'zero_sum'}, "game = 'zero_sum' is not one of hinge"),
    ({'g_learning_rate': 0.0}, 'learning rates must be > 0'),
    ({'clip': -1.0}, 'clip must be >= 0'),
    (
      {'warmup_steps': 40, 'decay_steps': -1},
      'steps of decay, 40, must be above warmup_steps = 40',
    ),
    ({'batch_size': 0}, 'batch_size must be at least 1'),
    ({'batch_size': 30}, 'a step draws 30 examples, which 4 devices'),
    ({'seeds': 0}, 'at least 1'),
    ({'log_every': 15}, 'log_every = 15 must be 0 or a multiple'),
    ({'best': 'modes'}, "best = 'modes' must be '+metric'"),
    ({'best': '+mods'}, 'evaluation gives high_quality, modes, reverse_kl'),
    ({'data': 'digits'}, 'samples have shape [2], the data [8, 8, 1]'),
    ({'data': 'toy:moons'}, 'has no modes to count; use toy:ring'),
    ({'keep_checkpoints': 0}, 'keep_checkpoints must be at least 1'),
    ({'b1': 1.5}, 'b1 must be in [0, 1)'),
    ({'best': '+modes', 'checkpoint_every': 30}, 'checkpoint_every a multiple'),
    ({'on_nan': 'restart', 'checkpoint_every': 0}, 'needs checkpoint_every > 0'),
    ({'ema_decay': 1.5}, 'ema_decay must be in [0, 1)'),
  ],
)
def test_config_that_makes_no_sense_is_refused_before_anything_is_written(
  changes, message, tmp_path
):
  with pytest.raises(setup.UsageError) as error:
    launch.train(unrolled_gan_ring, ring(**changes), tmp_path / 'run')
  assert message in str(error.value) and '\n' not in str(error.value)
  assert not (tmp_path / 'run').exists()


def test_adam_without_eps_root_is_refused_by_name(tmp_path, monkeypatch):
  import optax

  adam = optax.adam
  monkeypatch.setattr(optax, 'adam', lambda rate, b1, eps_root: adam(rate, b1=b1))
  with pytest.raises(setup.UsageError, match='eps_root'):
    launch.train(unrolled_gan_ring, ring(), tmp_path / 'run')


@pytest.fixture
def one_device(monkeypatch):
  """Runs on one of the devices; what several do is tried by parallel_test."""
  mesh = functools.partial(parallel.device_mesh, jax.devices()[:1])
  monkeypatch.setattr(parallel, 'device_mesh', mesh)


def test_train_evaluate_sample_and_what_may_change_on_resume(
  one_device, tmp_path, capsys
):
  workdir = tmp_path / 'run with spaces, größer'
  launch.train(gan_ring, plain_ring(), workdir)
  files = {path.name for path in workdir.iterdir()}
  assert files >= {'config.json', 'checkpoints', 'samples', 'train.csv', 'evaluate.csv'}
  before = {p: p.read_bytes() for p in workdir.rglob('*') if p.is_file()}
  with pytest.raises(setup.UsageError, match='num_critic = 1 there, 2 asked') as error:
    launch.train(gan_ring, plain_ring(num_critic=2), workdir)
  assert '--workdir' in str(error.value)
  parts = ('batch_size', 'make_evaluation', 'make_method')
  another = types.SimpleNamespace(**{part: getattr(gan_ring, part) for part in parts})
  another.__file__ = '/elsewhere/another.py'
  with pytest.raises(setup.UsageError, match='gan_ring there, another asked'):
    launch.train(another, plain_ring(), workdir)
  assert before == {p: p.read_bytes() for p in workdir.rglob('*') if p.is_file()}
  state = launch.train(gan_ring, plain_ring(steps=60, log_every=20), workdir)
  assert state.step == 60
  assert [row['step'] for row in log.read(workdir / 'evaluate.csv')] == [20, 40, 60]
  capsys.readouterr()

  values = launch.evaluate(gan_ring, plain_ring(), workdir)
  rows = log.read(workdir / 'evaluate.csv')
  np.testing.assert_allclose(values['high_quality'].mean(), rows[-1]['high_quality'])
  error = values['high_quality'].std(ddof=1) / np.sqrt(2)
  np.testing.assert_allclose(error, rows[-1]['high_quality_se'])
  assert 'step 60, 2 seed(s)' in capsys.readouterr().out
  samples = launch.sample(
    gan_ring, plain_ring(), workdir, request=launch.Request(num=300)
  )
  assert samples.shape == (2, 300, 2)
  assert np.abs(samples[0] - samples[1]).max() > 0.01
  np.testing.assert_array_equal(np.load(workdir / 'samples.npz')['x'], samples)
  with pytest.raises(setup.UsageError, match='num_samples must be at least 1'):
    launch.sample(gan_ring, plain_ring(), workdir, request=launch.Request(num=0))


@pytest.mark.slow
def test_looking_at_a_run_changes_nothing_in_its_record(one_device, tmp_path):
  launch.train(gan_ring, plain_ring(), tmp_path)
  before = (tmp_path / 'config.json').read_text()
  launch.evaluate(gan_ring, plain_ring(steps=20), tmp_path)
  assert (tmp_path / 'config.json').read_text() == before
  # Without further checkpoints a run still goes on from those it has.
  rows = (tmp_path / 'evaluate.csv').read_text()
  state = launch.train(gan_ring, plain_ring(checkpoint_every=0), tmp_path)
  assert state.step == 40 and (tmp_path / 'evaluate.csv').read_text() == rows
  (tmp_path / 'config.json').write_text('{"steps"')
  with pytest.raises(setup.UsageError, match='config.json is damaged'):
    launch.train(gan_ring, plain_ring(), tmp_path)


def test_samples_of_another_shape_than_the_data_are_refused(tmp_path):
  config = config_of(gan_digits, data='toy:ring')
  with pytest.raises(setup.UsageError) as error:
    launch.train(gan_digits, config, tmp_path / 'run')
  assert '\n' not in str(error.value) and not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_log_of_a_run_stopped_between_two_logs_is_that_of_a_straight_one(
  one_device, tmp_path
):
  config = plain_ring(log_every=40, evaluate_every=0, sample_every=0, steps=80)
  launch.train(gan_ring, config, tmp_path)
  straight = log.read(tmp_path / 'train.csv')
  for step in (80, 60, 40):  # as if killed after the checkpoint at 20
    shutil.rmtree(tmp_path / 'checkpoints' / str(step), ignore_errors=True)
  launch.train(gan_ring, config, tmp_path)
  continued = log.read(tmp_path / 'train.csv')
  for row in straight + continued:
    row.pop('steps_per_second')
  assert straight == continued


@pytest.mark.drill
def test_interruption_before_training_is_one_line(tmp_path):
  for signum in (signal.SIGINT, signal.SIGTERM):
    run = subprocess.Popen(
      command(tmp_path / 'run', steps=10**6, checkpoint_every=0), env=ENVIRONMENT,
      cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(2)  # importing or preparing; on a fast machine, training
    run.send_signal(signum)
    error = run.communicate(timeout=60)[1]
    assert run.returncode == 128 + signum
    assert len(error.splitlines()) == 1 and 'stopped' in error


def test_workdir_that_is_not_a_run_is_left_alone(tmp_path):
  (tmp_path / 'thesis.tex').write_text('precious')
  with pytest.raises(setup.UsageError, match='not the workdir of a run'):
    launch.train(unrolled_gan_ring, ring(), tmp_path)
  assert [p.name for p in tmp_path.iterdir()] == ['thesis.tex']
  (tmp_path / 'file').write_text('')
  with pytest.raises(setup.UsageError, match='cannot write'):
    launch.train(unrolled_gan_ring, ring(), tmp_path / 'file' / 'run')
  with pytest.raises(setup.UsageError, match='has no checkpoints'):
    launch.sample(unrolled_gan_ring, ring(), tmp_path / 'nowhere')


@pytest.mark.slow
def test_best_checkpoint_by_a_named_metric_is_kept(one_device, tmp_path):
  config = plain_ring(
    steps=80, seed=3, sample_every=0, keep_checkpoints=1, best='-reverse_kl',
    data='toy:ring?std=1.0',
  )  # fmt: skip
  launch.train(gan_ring, config, tmp_path / 'run')
  rows = log.read(tmp_path / 'run' / 'evaluate.csv')
  best = min(rows, key=lambda row: row['reverse_kl'])
  kept = {p.name for p in (tmp_path / 'run' / 'checkpoints').iterdir()}
  assert kept == {str(int(best['step'])), '80'}
  values = launch.evaluate(
    gan_ring, config, tmp_path / 'run', request=launch.Request(best=True)
  )
  np.testing.assert_allclose(values['reverse_kl'].mean(), best['reverse_kl'], rtol=1e-3)


@pytest.mark.drill
def test_divergence_ends_with_one_line_and_writes_no_bad_checkpoint(tmp_path):
  done = call(command(tmp_path / 'run', checkpoint_every=10, g_learning_rate=1e38))
  assert done.returncode == 1, done.stderr
  assert 'is not finite after step' in done.stderr and 'Traceback' not in done.stderr
  assert not list((tmp_path / 'run' / 'checkpoints').iterdir())


def test_list_names_every_config():
  folder = ROOT / 'experiments' / 'configs'
  names = {p.stem for p in folder.glob('*.py')}
  assert {name for name, _ in experiment.describe(folder)} == names and len(names) >= 9


@pytest.mark.drill
def test_the_list_is_printed():
  names = [name for name, _ in experiment.describe(ROOT / 'experiments' / 'configs')]
  done = call([*MAIN, '--mode=list'])
  assert done.returncode == 0 and all(name in done.stdout for name in names)


def arrays(workdir):
  """Every array of the newest checkpoint, by name, read without the package."""
  import orbax.checkpoint as ocp

  steps = [int(p.name) for p in (workdir / 'checkpoints').iterdir()]
  path = workdir / 'checkpoints' / str(max(steps)) / 'state'
  return max(steps), ocp.StandardCheckpointer().restore(path.absolute())


def assert_same_end(one, other):
  (step, state), (other_step, other_state) = arrays(one), arrays(other)
  assert step == other_step and state.keys() == other_state.keys()
  for name, value in state.items():
    np.testing.assert_array_equal(value, other_state[name], err_msg=name)
  for name in ('train.csv', 'evaluate.csv'):
    rows, others = log.read(one / name), log.read(other / name)
    for row in rows + others:
      row.pop('steps_per_second', None)
    assert repr(rows) == repr(others)  # as text, where NaN equals NaN


@pytest.fixture(scope='module')
def straight(tmp_path_factory):
  """A run never interrupted, of 400 steps."""
  workdir = tmp_path_factory.mktemp('straight') / 'run'
  assert call(command(workdir, steps=400, seeds=2)).returncode == 0
  return workdir


@pytest.mark.slow
@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT])
def test_signals_write_a_checkpoint_and_say_how_to_go_on(straight, tmp_path, signum):
  workdir = tmp_path / 'run'
  run = subprocess.Popen(
    command(workdir, steps=400, seeds=2, checkpoint_every=200), env=ENVIRONMENT,
    cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
  )  # fmt: skip
  while not (workdir / 'train.csv').exists():
    time.sleep(0.01)
  run.send_signal(signum)
  assert run.wait() == 128 + signum
  error = run.stderr.read()
  assert 'Traceback' not in error and 'the same command goes on from there' in error
  assert any((workdir / 'checkpoints').iterdir())
  assert (
    call(command(workdir, steps=400, seeds=2, checkpoint_every=200)).returncode == 0
  )
  assert_same_end(straight, workdir)


@pytest.mark.slow
def test_damaged_checkpoint_is_passed_over_with_a_warning(straight, tmp_path):
  workdir = tmp_path / 'run'
  assert call(command(workdir, steps=300, seeds=2)).returncode == 0
  newest = max((workdir / 'checkpoints').iterdir(), key=lambda p: int(p.name))
  largest = max(newest.rglob('*'), key=lambda p: p.stat().st_size * p.is_file())
  content = bytearray(largest.read_bytes())
  content[len(content) // 2] ^= 0xFF
  largest.write_bytes(content)
  done = call(command(workdir, steps=400, seeds=2))
  assert done.returncode == 0 and 'going on from step 280' in done.stdout
  assert 'Checkpoint 300 is damaged, passed over' in done.stderr
  assert_same_end(straight, workdir)


@pytest.mark.slow
def test_demo_runs_end_to_end(tmp_path):
  done = subprocess.run(
    [sys.executable, str(ROOT / 'experiments' / 'demo.py'), '--scale=0.02',
     f'--out={tmp_path / "demo"}', f'--json={tmp_path / "demo.json"}'],
    capture_output=True, text=True, timeout=500, env=ENVIRONMENT, cwd=ROOT,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  path = pathlib.Path(done.stdout.splitlines()[-1])
  page = path.read_text()
  for words in ('full gradient', 'partial gradient', 'critic steps', 'equal operations',
                'Frechet', 'jax', 'data:image/png;base64'):  # fmt: skip
    assert words in page
  assert 'http://' not in page and 'https://' not in page
  shown = json.loads((ROOT / 'docs' / 'results' / 'demo.json').read_text())['tables']
  made = json.loads((tmp_path / 'demo.json').read_text())
  assert made['command'] == 'python experiments/demo.py --scale=0.02'
  for name, table in made['tables'].items():
    assert table['header'] == shown[name]['header']
    assert [row[0] for row in table['rows']] == [r[0] for r in shown[name]['rows']]


@pytest.mark.drill
def test_demo_replaces_no_folder_but_its_own(tmp_path):
  (tmp_path / 'thesis.tex').write_text('precious')
  for args, message in (
    ([f'--out={tmp_path}'], 'holds something else'),
    (['--scale=0', f'--out={tmp_path / "new"}'], '--scale must be > 0'),
  ):
    done = call([sys.executable, str(ROOT / 'experiments' / 'demo.py'), *args])
    assert done.returncode == 1 and message in done.stderr
    assert 'Traceback' not in done.stderr
  assert [p.name for p in tmp_path.iterdir()] == ['thesis.tex']
