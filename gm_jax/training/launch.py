"""The launcher's modes: train, evaluate, sample, list.

An experiment is a module as `training.setup` describes.

The working directory holds `config.json`, `checkpoints/`, `samples/`,
`train.csv`, `evaluate.csv` and TensorBoard events, and nothing is written
elsewhere. The same command again goes on where the last one stopped.
"""

import ast
import json
import pathlib
from typing import Any

import jax
import numpy as np

from gm_jax import base
from gm_jax.training import checkpoint, log, loop
from gm_jax.training import setup as setup_lib

# What may differ when a run goes on: how long, and how often it looks up.
CHANGEABLE = frozenset(
  ('steps', 'log_every', 'evaluate_every', 'sample_every', 'checkpoint_every')
)


def train(experiment: Any, config: Any, workdir: str | pathlib.Path) -> base.State:
  """Trains to the end, from the newest checkpoint in `workdir` if there is one.

  Args:
    experiment: a module as this module's text describes.
    config: its ConfigDict.
    workdir: of the run; created where missing.

  Returns:
    The last state.

  Raises:
    setup.UsageError: a config or a workdir that cannot be used; nothing was written.
    loop.Diverged, loop.Stopped: see `loop.train`; the message says how to go on.
  """
  setup = setup_lib.prepare(experiment, config)
  workdir = pathlib.Path(workdir)
  _claim(workdir, config)
  logger = log.Log(workdir)
  saves = setup.settings.checkpoint_every > 0
  checkpoints = None
  if saves or (workdir / 'checkpoints').is_dir():
    checkpoints = _checkpoints(config, workdir)
  bar = log.progress(setup.settings.steps)
  scores = setup_lib.once(lambda method: setup_lib.scorer(setup, method))
  pictures = setup_lib.once(lambda method: setup_lib.painter(setup, method))

  def restore(template):
    restored = checkpoints.restore(template) if checkpoints else None
    done = restored[0] if restored else 0
    logger.trim(done)
    if restored:
      over = '' if done < setup.settings.steps else ': no step is left to do'
      print(f'going on from step {done}{over}', flush=True)
    return restored

  def show(step, metrics):
    logger.write('train', step, _flat(metrics))
    logger.console(step, {k: np.mean(v) for k, v in metrics.items()})

  def evaluate(method, state):
    means = _flat(scores(method)(state))
    logger.write('evaluate', int(state.step), means)
    logger.console(int(state.step), means)
    return means

  def sample(method, state):
    path = workdir / 'samples' / f'{int(state.step):08d}.png'
    pictures(method)(path, state)

  try:
    state = loop.train(
      setup.make_phases,
      setup_lib.batches(setup),
      setup.settings,
      loop.Callbacks(
        log=show,
        evaluate=evaluate if setup.evaluation else None,
        sample=sample,
        save=checkpoints.save if checkpoints and saves else None,
        restore=restore,
        tick=bar.at,
      ),
    )
  finally:
    logger.close()
    bar.close()
    if checkpoints:
      checkpoints.close()
  return state


def evaluate(
  experiment: Any, config: Any, workdir: str | pathlib.Path, *, best: bool = False
) -> dict[str, np.ndarray]:
  """Scores a trained model; prints mean and standard error over seeds.

  Args:
    experiment: a module as this module's text describes.
    config: its ConfigDict.
    workdir: of a run that has a checkpoint.
    best: the checkpoint that was best by the config's metric, not the newest.

  Returns:
    Scores by name, [S] over seeds; also written to `evaluation.json`.

  Raises:
    setup.UsageError: no checkpoint, or an experiment without evaluation.
  """
  setup = setup_lib.prepare(experiment, config)
  if setup.evaluation is None:
    raise setup_lib.UsageError('this experiment has no make_evaluation')
  method, state = _restored(setup, config, workdir, best)
  values = setup_lib.scorer(setup, method)(state)
  record = {
    k: [float(x) if np.isfinite(x) else None for x in np.atleast_1d(v)]
    for k, v in values.items()
  }
  path = pathlib.Path(workdir) / 'evaluation.json'
  path.write_text(json.dumps({'step': int(state.step), **record}, indent=2) + '\n')
  print(f'step {int(state.step)}, {setup.settings.num_seeds} seed(s)')
  for name, value in values.items():
    print(f'  {name:<24} {_mean_and_error(value)}')
  return values


def sample(
  experiment: Any,
  config: Any,
  workdir: str | pathlib.Path,
  *,
  num: int = 64,
  best: bool = False,
) -> np.ndarray:
  """Draws from a trained model into `samples.npz`, and a picture of some.

  Args:
    experiment: a module as this module's text describes.
    config: its ConfigDict.
    workdir: of a run that has a checkpoint.
    num: how many.
    best: the checkpoint that was best by the config's metric, not the newest.

  Returns:
    [num, ...] in model space; with a leading axis of seeds where several.

  Raises:
    setup.UsageError: no checkpoint, or num < 1.
  """
  if num < 1:
    raise setup_lib.UsageError(f'num_samples must be at least 1, got {num}')
  setup = setup_lib.prepare(experiment, config)
  method, state = _restored(setup, config, workdir, best)
  samples = setup_lib.drawer(setup, method, num)(state)
  workdir = pathlib.Path(workdir)
  np.savez(workdir / 'samples.npz', x=samples)
  setup_lib.painter(setup, method)(workdir / 'samples.png', state)
  print(workdir / 'samples.npz')
  print(workdir / 'samples.png')
  return samples


def use_compilation_cache(folder: str = '') -> None:
  """Keeps compiled programs in a folder, `~/.cache/gm_jax` by default."""
  folder = folder or str(pathlib.Path.home() / '.cache' / 'gm_jax')
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
  if not path.exists():
    if workdir.is_dir() and any(workdir.iterdir()):
      raise setup_lib.UsageError(
        f'{workdir} is not empty and not the workdir of a run (no config.json); use'
        ' a new or empty --workdir'
      )
    return
  try:
    found = json.loads(path.read_text())
  except ValueError as error:
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


def _claim(workdir: pathlib.Path, config: Any) -> None:
  """Makes the workdir this config's, or raises if it is another's."""
  _check_owner(workdir, config)
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    with log.replacing(workdir / 'config.json') as temporary:
      temporary.write_text(json.dumps(config.to_dict(), indent=2) + '\n')
  except OSError as error:
    raise setup_lib.UsageError(
      f'cannot write to {workdir}: {error.strerror}'
    ) from error


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
  restored = checkpoints.restore(
    lambda at: loop.template(phases, setup_lib.batches(setup), setup.settings, at),
    step=step,
  )
  checkpoints.close()
  if restored is None:
    raise setup_lib.UsageError(f'{workdir} has no complete checkpoint')
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
