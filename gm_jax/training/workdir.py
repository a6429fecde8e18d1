"""The folder of a run: whose it is, who may write, and what can be read again.

It holds `config.json`, `run.json` (which experiment), `checkpoints/`, `samples/`,
`train.csv`, `evaluate.csv` and TensorBoard events. A run writes nowhere else, and one
run writes at a time.
"""

import contextlib
import errno
import json
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax

from gm_jax import base
from gm_jax.training import checkpoint, host, log, parallel
from gm_jax.training import experiment as experiment_lib
from gm_jax.training import setup as setup_lib

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, not the command
LOCK = '.lock'  # held by the one run that trains here
# What may differ when a run goes on: how long, and how often it looks up.
CHANGEABLE = frozenset(
  (
    'steps',
    'decay_steps',
    'log_every',
    'evaluate_every',
    'sample_every',
    'checkpoint_every',
  )  # fmt: skip
)


class WriteError(Exception):
  """The working directory could not be written to; one line says why."""


class RunError(Exception):
  """The working directory holds something that cannot be used; one line says why."""


def check_owner(workdir: pathlib.Path, config: Any, record: dict | None = None) -> None:
  """Raises if the workdir is another config's or file's, or no run's; reads only."""
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
  if record:
    _check_experiment(workdir, record)
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


def _check_experiment(workdir, record) -> None:
  """Raises UsageError where the run there is of another config file or other data."""
  try:
    found = experiment_lib.recorded(workdir)
  except ValueError:
    return  # config.json is compared all the same, and the record written anew
  paths = found and found[0]['experiment'], record['experiment']
  stems = [path and pathlib.Path(path).stem for path in paths]
  if all(stems) and stems[0] != stems[1]:
    raise setup_lib.UsageError(
      f'{workdir} belongs to another config ({stems[0]} there, {stems[1]} asked); use'
      ' another --workdir'
    )
  if found and found[0]['data'] not in (None, record['data']):
    raise setup_lib.UsageError(
      f'{workdir} was trained on other data of the same name: bring back the data as'
      ' they were, or use another --workdir'
    )


@contextlib.contextmanager
def claimed(workdir: pathlib.Path, config: Any, record: dict) -> Iterator[None]:
  """Makes the workdir this config's and this process's, or raises if it is another's.

  Of several processes the first does so for all. Where the block raises RunError, for
  what is there cannot be used, the records are those of before again.

  Args:
    workdir: of the run.
    config: its ConfigDict.
    record: of `experiment.record`, written beside it.
  """
  with contextlib.ExitStack() as stack:
    wrong, before = None, {}
    if jax.process_index() == 0:
      try:
        before = _claim(stack, workdir, config, record)
      except (setup_lib.UsageError, WriteError) as error:
        wrong = error
    if parallel.any_process(wrong is not None):
      raise wrong or setup_lib.UsageError('process 0 cannot use the workdir')
    try:
      yield
    except RunError:
      for path, content in before.items():
        with writing(path), log.replacing(path) as temporary:
          temporary.write_bytes(content)
      raise


def _claim(stack, workdir, config, record) -> dict[pathlib.Path, bytes]:
  """Writes the records, and returns those that were there."""
  check_owner(workdir, config, record)
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    stack.enter_context(host.lock(workdir / LOCK))
    written = {'config.json': config.to_dict(), experiment_lib.RECORD: record}
    paths = [workdir / name for name in written]
    before = {path: path.read_bytes() for path in paths if path.exists()}
    for path, content in zip(paths, written.values(), strict=True):
      with log.replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + '\n')
    return before
  except host.Locked as error:
    raise setup_lib.UsageError(
      f'another run is at work in {workdir} ({error}); wait for it, or use another'
      ' --workdir'
    ) from error
  except OSError as error:
    line = f'cannot write to {workdir}: {error.strerror}'
    if error.errno in FULL:
      raise WriteError(f'{line}; checkpoints from before are as they were') from error
    raise setup_lib.UsageError(f'{line}; use another --workdir') from error


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
  """Raises WriteError, naming the path, where the block cannot write."""
  try:
    yield
  except OSError as error:
    raise WriteError(f'cannot write {path}: {error.strerror or error}') from error


@contextlib.contextmanager
def _reading() -> Iterator[None]:
  """Raises RunError, naming the path, where the block may not read."""
  try:
    yield
  except PermissionError as error:
    raise RunError(
      f'cannot read {error.filename}: {error.strerror}; all is as it was: give yourself'
      ' the right to read it'
    ) from error


def checkpoints(config: Any, workdir: pathlib.Path) -> checkpoint.Checkpoints:
  """The run's checkpoints, kept as its config says."""
  best = None
  if config.best:
    best = (config.best[1:], 'max' if config.best[0] == '+' else 'min')
  with _reading():
    return checkpoint.Checkpoints(
      workdir / 'checkpoints', keep=config.keep_checkpoints, best=best
    )


def restored(
  checkpoints: checkpoint.Checkpoints,
  workdir: pathlib.Path,
  template: Callable,
  step: int | None = None,
  before: int | None = None,
) -> tuple[int, base.State, dict] | None:
  """`checkpoints.restore`, whose errors become RunErrors."""
  try:
    with _reading():
      found = checkpoints.restore(template, step=step, before=before)
    if found:
      _check_meta(found[0], found[2])
    return found
  except (checkpoint.Damaged, ValueError) as error:
    raise RunError(
      f'{workdir}/checkpoints: {error}; all is as it was: bring back what it was'
      ' written as, or use another --workdir'
    ) from error


def _check_meta(step: int, meta: dict) -> None:
  """Raises ValueError where what a checkpoint remembers of its run makes no sense."""
  attempt, unlogged = meta.get('attempt'), meta.get('unlogged', {})
  if not isinstance(attempt, int) or attempt < 0:
    raise ValueError(
      f'the checkpoint at step {step} says attempt = {attempt!r}, which must be an'
      ' integer >= 0'
    )
  sizes = {len(v) if isinstance(v, list) else None for v in dict(unlogged).values()}
  if None in sizes or len(sizes) > 1:
    raise ValueError(f'the checkpoint at step {step} has metrics that are no lists')
