"""The launcher's modes: train, evaluate, sample, list.

An experiment is a module as `training.setup` describes, a working directory a
folder as `training.workdir` does. The same command again goes on where the last
one stopped.
"""

import ast
import json
import os
import pathlib
import warnings
from typing import Any

import jax
import numpy as np

from gm_jax import base
from gm_jax.training import inference, log, loop
from gm_jax.training import setup as setup_lib
from gm_jax.training import workdir as workdir_lib

DEFAULT = setup_lib.DEFAULT


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
  with workdir_lib.claimed(workdir, config):
    try:
      return _train(setup, config, workdir)
    except BrokenPipeError:  # of the standard output
      raise
    except OSError as error:
      raise workdir_lib.WriteError(
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
    checkpoints = workdir_lib.checkpoints(config, workdir)
  bar = log.progress(setup.settings.steps)
  scores = inference.once(lambda method: inference.scorer(setup, method))
  pictures = inference.once(lambda method: inference.painter(setup, method))

  def restore(template):
    restored = (
      workdir_lib.restored(checkpoints, workdir, template) if checkpoints else None
    )
    done = restored[0] if restored else 0
    if primary:
      try:
        logger.trim(done)
      except ValueError as error:
        raise workdir_lib.RunError(str(error)) from error
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
  phases = setup.make_phases(0)
  if len(phases) > 1 and state.step <= phases[-2].until:
    raise setup_lib.UsageError(
      f'step {int(state.step)} is not in the last phase, after {phases[-2].until},'
      ' which is what is evaluated: train on'
    )
  values = inference.scorer(setup, method)(state)
  record = {
    k: [float(x) if np.isfinite(x) else None for x in np.atleast_1d(v)]
    for k, v in values.items()
  }
  path = pathlib.Path(workdir) / 'evaluation.json'
  with workdir_lib.writing(path):
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
  if method.sample is None:
    raise setup_lib.UsageError(
      f'at step {int(state.step)} the model has no samples: train a later phase'
    )
  samples = inference.drawer(setup, method, num)(state)
  workdir = pathlib.Path(workdir)
  with workdir_lib.writing(workdir / 'samples.npz'):
    with log.replacing(workdir / 'samples.npz') as temporary, temporary.open('wb') as f:
      np.savez(f, x=samples)
    inference.painter(setup, method)(workdir / 'samples.png', state)
  print(workdir / 'samples.npz')
  print(workdir / 'samples.png')
  one = samples if setup.settings.num_seeds == 1 else samples[0]
  for text in inference.texts(setup, one[: inference.TEXTS]):
    print(f'---\n{text}')
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
  # A full disk, a program that another process is still writing: it is compiled anew.
  warnings.filterwarnings('ignore', 'Error (read|writ)ing persistent compilation cache')


def describe(folder: str | pathlib.Path) -> list[tuple[str, str]]:
  """The configs in a folder: (file name, first line of its text)."""
  rows = []
  for path in sorted(pathlib.Path(folder).glob('*.py')):
    tree = ast.parse(path.read_text())
    if any(getattr(node, 'name', '') == 'get_config' for node in tree.body):
      rows.append((path.name, (ast.get_docstring(tree) or '').split('\n')[0]))
  return rows


def _restored(setup, config, workdir, best):
  """The method and state of a checkpoint of a finished or stopped run."""
  workdir = pathlib.Path(workdir)
  if not (workdir / 'checkpoints').is_dir():
    raise setup_lib.UsageError(
      f'{workdir} has no checkpoints; run --mode=train there first'
    )
  workdir_lib.check_owner(workdir, config)
  checkpoints = workdir_lib.checkpoints(config, workdir)
  step = checkpoints.best_step() if best else None
  if best and step is None:
    raise setup_lib.UsageError(
      "no best checkpoint: the config's `best` names no metric"
    )
  phases = setup.make_phases(0)
  restored = workdir_lib.restored(
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
