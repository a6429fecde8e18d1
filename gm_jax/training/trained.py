"""Trained models: from the folder of a run to a method and its weights.

>>> from gm_jax.training import trained                          # doctest: +SKIP
>>> run = trained.load('runs/ring')                              # doctest: +SKIP
>>> run.method.sample(run.model, jax.random.key(0), 16)          # doctest: +SKIP
"""

import os
import pathlib
from typing import Any, NamedTuple

import jax

from gm_jax import base
from gm_jax.training import experiment as experiment_lib
from gm_jax.training import loop
from gm_jax.training import setup as setup_lib
from gm_jax.training import step as step_lib
from gm_jax.training import workdir as workdir_lib


class Trained(NamedTuple):
  """A trained model, and what is needed to use it."""

  method: base.Method
  model: base.Model
  data: Any  # the run's `Dataset`, its spec that of the phase reached
  step: int


def load(
  workdir: str | pathlib.Path,
  *,
  best: bool = False,
  averaged: bool = True,
  seed: int = 0,
  data_dir: str | None = None,
  configs: str | pathlib.Path = 'experiments/configs',
) -> Trained:
  """Loads the model that a run came to; the run's folder says what it is of.

  Args:
    workdir: of a run with a checkpoint.
    best: the checkpoint that was best by the config's metric, not the newest.
    averaged: the averaged weights, where the run has them.
    seed: which of the run's seeds, counted from 0.
    data_dir: of prepared data sets, if not where the run had them.
    configs: where the config file is looked for by name, if not at its old place.

  Raises:
    setup.UsageError: no run, no checkpoint, no such seed, or a config file that is
      gone.
    RunError: checkpoints are damaged.
  """
  workdir = pathlib.Path(workdir)
  try:
    found = experiment_lib.recorded(workdir)
    if found is None:
      raise ValueError(f'{workdir} is not the workdir of a run (no run.json)')
    record, config = found
    path = experiment_lib.recorded_path(
      workdir, record['experiment'], pathlib.Path(configs)
    )
    options = setup_lib.Options(**record['options'])
  except (ValueError, TypeError) as error:
    raise setup_lib.UsageError(str(error)) from error
  if data_dir is not None:
    options = options._replace(data_dir=data_dir)
  setup = setup_lib.prepare(
    experiment_lib.module(path), config, options, evaluates=False
  )
  phase, state = restored(setup, config, workdir, best)
  model = step_lib.model(state, averaged=averaged)
  if setup.settings.num_seeds > 1:
    if not 0 <= seed < setup.settings.num_seeds:
      raise setup_lib.UsageError(
        f'seed must be from 0 to {setup.settings.num_seeds - 1}, got {seed}'
      )
    model = jax.tree.map(lambda x: x[seed], model)
  data = setup.data._replace(spec=phase.spec)
  return Trained(phase.method, model, data, int(state.step))


def restored(
  setup: setup_lib.Setup, config: Any, workdir: pathlib.Path, best: bool = False
) -> tuple[base.Phase, base.State]:
  """The phase and state of a checkpoint of a finished or stopped run.

  Raises:
    setup.UsageError: no checkpoint.
    RunError: checkpoints are damaged.
  """
  if not os.path.isdir(workdir / 'checkpoints'):  # no error where it may not be seen
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
  found = workdir_lib.restored(
    checkpoints,
    workdir,
    lambda at: loop.template(phases, setup_lib.batches(setup), setup.settings, at),
    step,
  )
  checkpoints.close()
  if found is None:
    raise setup_lib.UsageError(
      f'{workdir} has no complete checkpoint; run --mode=train there first'
    )
  step, state, _ = found
  return next((p for p in phases if step <= p.until), phases[-1]), state
