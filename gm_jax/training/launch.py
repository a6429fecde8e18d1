"""The launcher's modes: train, evaluate, sample, list.

An experiment is a module as `training.setup` describes.

The working directory holds `config.json`, `checkpoints/`, `samples/`,
`train.csv`, `evaluate.csv` and TensorBoard events, and nothing is written
elsewhere. The same command again goes on where the last one stopped.
"""

import ast
import contextlib
import errno
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from gm_jax import base
from gm_jax.training import checkpoint, host, log, loop, parallel
from gm_jax.training import setup as setup_lib

DEFAULT = setup_lib.DEFAULT
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, not the command
LOCK = '.lock'  # held by the one run that trains here
# What may differ when a run goes on: how long, and how often it looks up.
CHANGEABLE = frozenset(
  ('steps', 'log_every', 'evaluate_every', 'sample_every', 'checkpoint_every')
)


class WriteError(Exception):
  """The working directory could not be written to; one line says why."""


class RunError(Exception):
  """What is in the working directory cannot be used; one line says why."""


def train(
  experiment: Any,
  config: Any,
  workdir: str | pathlib.Path,
  options: setup_lib.Options = DEFAULT,
) -> base.State:
  """Trains to the end, from the newest checkpoint in `workdir` if there is one.

  Of several processes the first writes; all read the same `workdir`.

  Args:
    experiment: a module as this module's text describes.
    config: its ConfigDict.
    workdir: of the run; created where missing.
    options: what depends on the machine.

  Returns:
    The last state.

  Raises:
    setup.UsageError: a config or a workdir that cannot be used; nothing was written.
    dataset.DataError: the data cannot be used.
    loop.Diverged, loop.Stopped: see `loop.train`; the message says how to go on.
    WriteError: the disk is full, say; older checkpoints are as they were.
    RunError: checkpoints or logs are damaged; they are as they were.
  """
  setup = setup_lib.prepare(experiment, config, options)
  workdir = pathlib.Path(workdir)
  with _claimed(workdir, config):
    try:
      return _train(setup, config, workdir)
    except BrokenPipeError:  # of the standard output
      raise
    except OSError as error:
      raise WriteError(
        f'cannot write to {workdir}: {error.strerror or error}; checkpoints from'
        ' before are as they were'
      ) from error


def _train(setup, config, workdir) -> base.State:
  """`train`, in a workdir that is this run's."""
  primary = jax.process_index() == 0
  logger = log.Log(workdir)
  saves = setup.settings.checkpoint_every > 0
  checkpoints = None
  if saves or (workdir / 'checkpoints').is_dir():
    checkpoints = _checkpoints(config, workdir)
  bar = log.progress(setup.settings.steps)
  scores = setup_lib.once(lambda method: setup_lib.scorer(setup, method))
  pictures = setup_lib.once(lambda method: setup_lib.painter(setup, method))

  def restore(template):
    restored = _read(checkpoints, workdir, template) if checkpoints else None
    done = restored[0] if restored else 0
    if primary:
      try:
        logger.trim(done)
      except ValueError as error:
        raise RunError(str(error)) from error
    if restored and primary:
      over = '' if done < setup.settings.steps else ': no step is left to do'
      print(f'going on from step {done}{over}', flush=True)
    return restored

  def show(step, metrics):
    if not primary:
      return
    logger.write('train', step, _flat(metrics))
    logger.console(step, {k: np.mean(v) for k, v in metrics.items()})

  def evaluate(method, state):
    means = _flat(scores(method)(state))
    if primary:
      logger.write('evaluate', int(state.step), means)
      logger.console(int(state.step), means)
    return means

  def sample(method, state):
    path = workdir / 'samples' / f'{int(state.step):08d}.png'
    pictures(method)(path, state)

  def save(*args):
    if primary:
      checkpoints.save(*args)

  try:
    state = loop.train(
      setup.make_phases,
      setup_lib.batches(setup),
      setup.settings,
      loop.Callbacks(
        log=show,
        evaluate=evaluate if setup.evaluation else None,
        sample=sample,
        save=save if checkpoints and saves else None,
        restore=restore,
        tick=bar.at if primary else None,
      ),
      mesh=setup.layout.mesh,
      split_seeds=setup.layout.split_seeds,
    )
  finally:
    logger.close()
    bar.close()
    if checkpoints:
      checkpoints.close()
  return state


def evaluate(
  experiment: Any,
  config: Any,
  workdir: str | pathlib.Path,
  options: setup_lib.Options = DEFAULT,
  *,
  best: bool = False,
) -> dict[str, np.ndarray]:
  """Scores a trained model; prints mean and standard error over seeds.

  Args:
    experiment: a module as this module's text describes.
    config: its ConfigDict.
    workdir: of a run that has a checkpoint.
    options: what depends on the machine.
    best: the checkpoint that was best by the config's metric, not the newest.

  Returns:
    Scores by name, [S] over seeds; also written to `evaluation.json`.

  Raises:
    setup.UsageError: no checkpoint, or an experiment without evaluation.
    RunError: checkpoints are damaged.
  """
  setup = setup_lib.prepare(experiment, config, options)
  if setup.evaluation is None:
    raise setup_lib.UsageError('this experiment has no make_evaluation')
  method, state = _restored(setup, config, workdir, best)
  values = setup_lib.scorer(setup, method)(state)
  record = {
    k: [float(x) if np.isfinite(x) else None for x in np.atleast_1d(v)]
    for k, v in values.items()
  }
  path = pathlib.Path(workdir) / 'evaluation.json'
  with _writing(path):
    path.write_text(json.dumps({'step': int(state.step), **record}, indent=2) + '\n')
  print(f'step {int(state.step)}, {setup.settings.num_seeds} seed(s)')
  for name, value in values.items():
    print(f'  {name:<24} {_mean_and_error(value)}')
  return values


def sample(
  experiment: Any,
  config: Any,
  workdir: str | pathlib.Path,
  options: setup_lib.Options = DEFAULT,
  *,
  num: int = 64,
  best: bool = False,
) -> np.ndarray:
  """Draws from a trained model into `samples.npz`, and a picture of some.

  The samples are as the data are: pixels in their levels, points as they come.

  Args:
    experiment: a module as this module's text describes.
    config: its ConfigDict.
    workdir: of a run that has a checkpoint.
    num: how many.
    best: the checkpoint that was best by the config's metric, not the newest.

  Returns:
    [num, ...]; with a leading axis of seeds where there are several.

  Raises:
    setup.UsageError: no checkpoint, num < 1, or more than memory can hold.
    RunError: checkpoints are damaged.
  """
  if num < 1:
    raise setup_lib.UsageError(f'num_samples must be at least 1, got {num}')
  setup = setup_lib.prepare(experiment, config, options)
  setup_lib.check_memory(setup, num, f'num_samples = {num}')
  method, state = _restored(setup, config, workdir, best)
  samples = setup_lib.drawer(setup, method, num)(state)
  workdir = pathlib.Path(workdir)
  with _writing(workdir / 'samples.npz'):
    with log.replacing(workdir / 'samples.npz') as temporary, temporary.open('wb') as f:
      np.savez(f, x=samples)
    setup_lib.painter(setup, method)(workdir / 'samples.png', state)
  print(workdir / 'samples.npz')
  print(workdir / 'samples.png')
  return samples


def use_compilation_cache(folder: str = '') -> None:
  """Keeps compiled programs in a folder, `~/.cache/gm_jax` by default.

  Raises:
    setup.UsageError: the folder cannot be written to; none is used where that is
      the default one.
  """
  given, folder = folder, folder or str(pathlib.Path.home() / '.cache' / 'gm_jax')
  path = pathlib.Path(folder).absolute()
  nearest = next(p for p in (path, *path.parents) if os.path.exists(p))
  if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
    if not given:
      return
    raise setup_lib.UsageError(
      f'no folder of compiled programs can be at {folder}: {nearest} is no folder'
      ' that can be written to; another or none, as --compilation_cache='
    )
  jax.config.update('jax_compilation_cache_dir', folder)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)


def describe(folder: str | pathlib.Path) -> list[tuple[str, str]]:
  """The configs in a folder: (file name, first line of its text)."""
  rows = []
  for path in sorted(pathlib.Path(folder).glob('*.py')):
    tree = ast.parse(path.read_text())
    if any(getattr(node, 'name', '') == 'get_config' for node in tree.body):
      rows.append((path.name, (ast.get_docstring(tree) or '').split('\n')[0]))
  return rows


def _check_owner(workdir: pathlib.Path, config: Any) -> None:
  """Raises if the workdir is another config's, or no run's; reads only."""
  path = workdir / 'config.json'
  if not os.path.exists(path):
    if os.path.isdir(workdir) and set(os.listdir(workdir)) - {LOCK}:
      raise setup_lib.UsageError(
        f'{workdir} is not empty and not the workdir of a run (no config.json); use'
        ' a new or empty --workdir'
      )
    return
  try:
    found = json.loads(path.read_text())
    if not isinstance(found, dict):
      raise ValueError('not a config')
  except (ValueError, OSError) as error:
    raise setup_lib.UsageError(
      f'{path} is damaged ({error}); write the config of the run there again, or use'
      ' another --workdir'
    ) from error
  asked = json.loads(json.dumps(config.to_dict()))
  differing = [
    f'{k} = {found.get(k)!r} there, {asked.get(k)!r} asked'
    for k in sorted(found.keys() | asked.keys())
    if k not in CHANGEABLE and found.get(k) != asked.get(k)
  ]
  if differing:
    raise setup_lib.UsageError(
      f'{workdir} belongs to another config ({"; ".join(differing)}); use another'
      f' --workdir; on resume only {", ".join(sorted(CHANGEABLE))} may change'
    )


@contextlib.contextmanager
def _claimed(workdir: pathlib.Path, config: Any) -> Iterator[None]:
  """Makes the workdir this config's and this process's, or raises if it is another's.

  Of several processes the first does so for all.
  """
  with contextlib.ExitStack() as stack:
    wrong = None
    if jax.process_index() == 0:
      try:
        _claim(stack, workdir, config)
      except (setup_lib.UsageError, WriteError) as error:
        wrong = error
    if parallel.any_process(wrong is not None):
      raise wrong or setup_lib.UsageError('process 0 cannot use the workdir')
    yield


def _claim(stack, workdir, config) -> None:
  _check_owner(workdir, config)
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    stack.enter_context(host.lock(workdir / LOCK))
    with log.replacing(workdir / 'config.json') as temporary:
      temporary.write_text(json.dumps(config.to_dict(), indent=2) + '\n')
  except host.Locked as error:
    raise setup_lib.UsageError(
      f'another run is at work in {workdir} ({error}); wait for it, or use another'
      ' --workdir'
    ) from error
  except OSError as error:
    kind = WriteError if error.errno in FULL else setup_lib.UsageError
    raise kind(
      f'cannot write to {workdir}: {error.strerror}; use another --workdir'
    ) from error


@contextlib.contextmanager
def _writing(path: pathlib.Path) -> Iterator[None]:
  try:
    yield
  except OSError as error:
    raise WriteError(f'cannot write {path}: {error.strerror or error}') from error


def _checkpoints(config: Any, workdir: pathlib.Path) -> checkpoint.Checkpoints:
  best = None
  if config.best:
    best = (config.best[1:], 'max' if config.best[0] == '+' else 'min')
  return checkpoint.Checkpoints(
    workdir / 'checkpoints', keep=config.keep_checkpoints, best=best
  )


def _restored(setup, config, workdir, best):
  """The method and state of a checkpoint of a finished or stopped run."""
  workdir = pathlib.Path(workdir)
  if not (workdir / 'checkpoints').is_dir():
    raise setup_lib.UsageError(
      f'{workdir} has no checkpoints; run --mode=train there first'
    )
  _check_owner(workdir, config)
  checkpoints = _checkpoints(config, workdir)
  step = checkpoints.best_step() if best else None
  if best and step is None:
    raise setup_lib.UsageError(
      "no best checkpoint: the config's `best` names no metric"
    )
  phases = setup.make_phases(0)
  restored = _read(
    checkpoints,
    workdir,
    lambda at: loop.template(phases, setup_lib.batches(setup), setup.settings, at),
    step,
  )
  checkpoints.close()
  if restored is None:
    raise setup_lib.UsageError(
      f'{workdir} has no complete checkpoint; run --mode=train there first'
    )
  step, state, _ = restored
  phase = next((p for p in phases if step <= p.until), phases[-1])
  return phase.method, state


def _read(checkpoints, workdir, template, step=None):
  try:
    return checkpoints.restore(template, step=step)
  except (checkpoint.Damaged, ValueError) as error:
    raise RunError(
      f'{workdir}/checkpoints: {error}; all is as it was: bring back what it was'
      ' written as, or use another --workdir'
    ) from error


def _flat(metrics: dict) -> dict[str, float]:
  """Means, and beside them standard errors where there are several seeds."""
  flat = {k: float(np.mean(v)) for k, v in metrics.items()}
  with np.errstate(invalid='ignore'):  # an inf among the seeds: the error is NaN
    errors = {
      f'{k}_se': float(np.std(v, ddof=1) / np.sqrt(np.size(v)))
      for k, v in metrics.items()
      if np.size(v) > 1
    }
  return flat | errors


def _mean_and_error(value: np.ndarray) -> str:
  flat = _flat({'x': value})
  error = f' +- {flat["x_se"]:.2g} (standard error)' if 'x_se' in flat else ''
  return f'{flat["x"]:.6g}{error}'
