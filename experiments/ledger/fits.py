"""Rows of a ledger that are configs, trained once a seed, and tasks of every seed.

Seconds are of the steps alone, without compilation: on a CPU those of the process, so
that other work beside does not count, else of the clock.
"""

import time
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import quiet
from gm_jax import base
from gm_jax.data import dataset
from gm_jax.tasks import results
from gm_jax.training import setup as setup_lib
from gm_jax.training import step as step_lib


class Fit(NamedTuple):
  """A row: a config, its argument and what of it is changed."""

  name: str
  module: ModuleType
  arg: str | None = None
  changes: dict[str, Any] = {}  # noqa: RUF012, never changed in place
  seeds: int = 1  # where the budget has as many


class Budget(NamedTuple):
  """A part of the configs' steps, and seeds at most."""

  part: float
  seeds: int


class Run(NamedTuple):
  """A trained row."""

  fit: Fit
  method: base.Method
  models: tuple[base.Model, ...]  # one a seed, averaged where there is an average
  data: dataset.Dataset
  steps: int
  seconds: float  # as above, of a seed
  data_name: str = ''  # as the config has it


def train(fit: Fit, budget: Budget, data_dir: str | None = None) -> Run:
  """Trains a config from each of its seeds, 0 and so on, at once.

  Args:
    fit: the row.
    budget: whole dispatches of its part are trained, two or more.
    data_dir: where TensorFlow Datasets keeps its data, or None.
  """
  config = fit.module.get_config(fit.arg)
  config.update(fit.changes)
  num = min(fit.seeds, budget.seeds)
  unit = config.steps_per_dispatch
  config.update({
    'seeds': num, 'steps': max(2, round(config.steps * budget.part / unit)) * unit,
    'best': '', 'log_every': unit,
  })  # fmt: skip
  for leaf in ('evaluate', 'sample', 'checkpoint'):
    config[f'{leaf}_every'] = 0
  options = setup_lib.Options(data_dir)
  setup = setup_lib.prepare(fit.module, config, options, evaluates=False)
  used: list[float] = []  # seconds of the process, after each dispatch
  found = quiet.train_config(setup, tick=lambda step: used.append(time.process_time()))
  states = step_lib.model(quiet.by_seed(found.state, num), averaged=True)
  models = tuple(jax.tree.map(lambda x, i=i: x[i], states) for i in range(num))
  method = setup.make_phases(0)[-1].method
  seconds = (used[-1] - used[0]) * len(used) / (len(used) - 1)
  if jax.default_backend() != 'cpu':
    seconds = quiet.seconds(found)
  seconds /= num
  return Run(fit, method, models, setup.data, config.steps, seconds, config.data)


def numbers(run: Run, task: Callable) -> dict[str, np.ndarray]:
  """The numbers of a task, `[S]` of seeds, compiled once.

  Args:
    run: of the models.
    task: (method, model, key) -> `base.Result`, or a dict of [].
  """

  def of_one(model, key):
    found = task(run.method, model, key)
    return results.numbers(found) if isinstance(found, base.Result) else found

  compiled = jax.jit(of_one)
  keys = jax.random.split(jax.random.key(1), len(run.models))
  found = [compiled(*one) for one in zip(run.models, keys, strict=True)]
  return {name: np.array([float(one[name]) for one in found]) for name in found[0]}


def ends(run: Run) -> tuple[str, str, str]:
  """The last cells of a line: seeds, steps, seconds."""
  return str(len(run.models)), str(run.steps), f'{run.seconds:.0f}'
