"""The launcher's modes: train, evaluate, sample, card, and a mode a task.

An experiment is a module as `training.setup` describes, a working directory a
folder as `training.workdir` does. The same command again goes on where the last
one stopped. A task joins by one row of `TASKS`.
"""

import contextlib
import functools
import json
import os
import pathlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from gm_jax import base, caches
from gm_jax.tasks import (
  classification,
  codes,
  decoders,
  density,
  image_scores,
  inpainting,
  outliers,
  quality,
  translation,
  traversal,
)
from gm_jax.training import experiment as experiment_lib
from gm_jax.training import inference, log, loop, modes, parallel, pictures
from gm_jax.training import setup as setup_lib
from gm_jax.training import workdir as workdir_lib

DEFAULT = setup_lib.DEFAULT
sample, card = modes.sample, modes.card
Request, PLAIN = modes.Request, modes.PLAIN
MEASURED = 50_000  # images of a split that metrics are given, at most


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
    loop.Diverged, loop.Failed, loop.Stopped: see `loop.train`; the message says how to
      go on.
    WriteError: the disk is full, say; older checkpoints are as they were.
    RunError: checkpoints or logs are damaged; they are as they were.
  """
  setup = setup_lib.prepare(experiment, config, options)
  workdir = pathlib.Path(workdir)
  record = experiment_lib.record(experiment, options, setup.data)
  ours = json.dumps([config.to_dict(), record['data'], jax.process_count()])
  if not parallel.same_everywhere(ours):
    raise setup_lib.UsageError(
      'the processes of this run differ in config or data; start all of them with the'
      ' same command, and the same data'
    )
  with workdir_lib.claimed(workdir, config, record):
    try:
      return _train(setup, experiment, config, workdir)
    except BrokenPipeError:  # of the standard output
      raise
    except OSError as error:
      raise workdir_lib.WriteError(
        f'cannot write to {workdir}: {error.strerror or error}; checkpoints from'
        ' before are as they were'
      ) from error


def _train(setup, experiment, config, workdir) -> base.State:
  """`train`, in a workdir that is this run's."""
  primary = jax.process_index() == 0
  logger = log.Log(workdir)
  saves = setup.settings.checkpoint_every > 0
  checkpoints = None
  if saves or (workdir / 'checkpoints').is_dir():
    checkpoints = workdir_lib.checkpoints(config, workdir)
  bar = log.progress(setup.settings.steps)
  scores = inference.once(lambda phase: inference.scorer(setup, phase))
  paint = inference.once(lambda phase: pictures.painter(setup, phase))

  def restore(template, before):
    restored = checkpoints and workdir_lib.restored(
      checkpoints, workdir, template, before=before
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
    logger.write('train', step, modes.flat(metrics))
    logger.console(step, {k: np.mean(v) for k, v in metrics.items()})

  @contextlib.contextmanager
  def failing(what, step, *others):
    """Raises loop.Failed, which names what failed, but for errors of other kinds."""
    try:
      yield
    except others:
      raise
    except Exception as error:  # of a config's functions
      if parallel.others_gone(error):
        raise
      text = setup_lib.describe_error(error, experiment)
      raise loop.Failed(f'{what} at step {step} failed: {text}') from error

  def evaluate(phase, state):
    with failing('the evaluation', int(state.step)):
      means = modes.flat(scores(phase)(state)[0])
    if primary:
      logger.write('evaluate', int(state.step), means)
      logger.console(int(state.step), means)
    return means

  def sample(phase, state):
    with failing('the picture of samples', int(state.step), OSError):
      paint(phase)(workdir / 'samples' / f'{int(state.step):08d}.png', state)

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
        tick=bar.advance_to if primary else None,
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
  request: modes.Request = PLAIN,
) -> dict[str, np.ndarray]:
  """Scores a trained model by the config's evaluation, or by named image metrics.

  See `modes.evaluate` for the first, and `tasks.image_scores` for the second, whose
  numbers go into `metrics.json`.

  Args:
    experiment: a module as this module's text describes.
    config: its ConfigDict.
    workdir: of a run that has a checkpoint.
    options: what depends on the machine.
    request: which checkpoint and weights, options of sampling, and metrics.

  Returns:
    Scores by name, [S] over seeds.

  Raises:
    setup.UsageError: no checkpoint, an experiment without evaluation, or a metric or
      features that there are not.
    RunError: checkpoints are damaged.
  """
  if not request.metrics:
    if request.features:
      raise setup_lib.UsageError(
        '--features is of --metrics: name some, as --metrics=frechet,prdc'
      )
    return modes.evaluate(experiment, config, workdir, options, request)
  try:
    image_scores.check(request.metrics)
  except ValueError as error:
    raise setup_lib.UsageError(str(error)) from error
  task = functools.partial(
    image_scores.image_scores, metrics=request.metrics, features=request.features
  )
  run = modes.task_mode(task, 'metrics', MEASURED)
  return run(experiment, config, workdir, options, request)


def use_compilation_cache(folder: str = '') -> None:
  """Keeps compiled programs in a folder, `~/.cache/gm_jax` by default.

  Raises:
    setup.UsageError: the folder cannot be written to; none is used where that is
      the default one.
  """
  chosen, default = folder, caches.folder()
  if not chosen and default is None:
    return
  path = pathlib.Path(chosen or str(default)).absolute()
  nearest = next(p for p in (path, *path.parents) if os.path.exists(p))
  if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
    if not chosen:
      return
    raise setup_lib.UsageError(
      f'no folder of compiled programs can be at {chosen}: {nearest} is no folder'
      ' that can be written to; another or none, as --compilation_cache='
    )
  jax.config.update('jax_compilation_cache_dir', str(path))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
  # A full disk, a program that another process is still writing: it is compiled anew.
  warnings.filterwarnings('ignore', 'Error (read|writ)ing persistent compilation cache')


def use_no_compilation_cache() -> None:
  """Compiles every program anew, whatever folder the environment names."""
  jax.config.update('jax_enable_compilation_cache', False)


# Functions as `gm_jax.tasks` describes; each is a mode.
TASKS: Mapping[str, Callable] = {
  'density': density.density,
  'quality': quality.quality,
  'encode': codes.encode,
  'reconstruct': codes.reconstruct,
  'traverse': traversal.traverse,
  'translate': translation.translate,
  'inpaint': inpainting.inpaint,
  'ais': decoders.log_likelihood_by_ais,
  'classify': classification.classification,
  'outliers': outliers.outliers,
}
MODES: Mapping[str, Callable] = {
  'train': lambda *args: train(*args[:4]),
  'evaluate': evaluate,
  'sample': sample,
  'card': card,
  **{name: modes.task_mode(task, name) for name, task in TASKS.items()},
}
