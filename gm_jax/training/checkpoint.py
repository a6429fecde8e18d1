"""Checkpoints by orbax, with a fingerprint of every array beside them.

A checkpoint is a folder named by its step with two items: `state`, the arrays
by the path of their leaf, and `record`, JSON that holds what the caller wants to
remember (`meta`, `metrics`) and, for each leaf, its path, dtype, shape and the
CRC-32 of its bytes. Orbax writes into a temporary folder and renames it, so a
killed save leaves no checkpoint; the record makes any later damage (a file cut,
lost or altered) known, and `restore` then goes back to the next older
checkpoint. Saving is synchronous: when `save` returns the files are complete,
and the caller may donate its buffers.
"""

import contextlib
import errno
import gc
import json
import logging as python_logging
import math
import os
import pathlib
import shutil
import sys
import time
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

from gm_jax import base

UNFINISHED = '.orbax-checkpoint-tmp'  # in the name of a folder being written


class Damaged(Exception):
  """A checkpoint is not what was saved; the message says why."""


class Checkpoints:
  """The checkpoints of one run: the last few, and the best by one metric.

  One object belongs to one run and one thread; another process that reads the
  same folder makes its own, and a new one to see newer steps.

  Args:
    directory: the folder that holds them; made when it does not exist.
    keep: how many of the newest are kept.
    best: None, or (name of a metric, 'min' or 'max'): the single best by this
      metric is kept too. Saves without the metric, or with NaN, never count.

  Raises:
    ValueError: if `keep` is below one, or `best` says neither min nor max.
    PermissionError: the folder may not be read.
  """

  def __init__(
    self,
    directory: str | os.PathLike[str],
    *,
    keep: int = 3,
    best: tuple[str, str] | None = None,
  ):
    if keep < 1:
      raise ValueError(f'keep must be at least 1, got {keep}')
    if best and best[1] not in ('min', 'max'):
      raise ValueError(f"best must end in 'min' or 'max', got {best}")
    import orbax.checkpoint as ocp

    logging.get_absl_logger().addFilter(_not_chatter)
    policies: list[Any] = [ocp.checkpoint_managers.LatestN(n=keep)]
    self._best = best
    self._directory = pathlib.Path(directory).absolute()
    self._directory.mkdir(parents=True, exist_ok=True)
    _check_readable(self._directory)
    self._damaged: set[int] = set()
    self._intact: tuple[int, int] | None = None  # step, seal last saved or restored
    self._manager = ocp.CheckpointManager(
      self._directory,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=ocp.checkpoint_managers.AnyPreservationPolicy(
          [*policies, _Best(self)] if best else policies
        ),
        enable_async_checkpointing=False,
        create=False,
        multiprocessing_options=_this_process_alone(),
        lightweight_initialize=True,  # else a damaged file fails right here
      ),
    )
    self._scores: dict[int, float] = {}
    for step in self._manager.all_steps() if best else ():
      try:
        self._note_score(step, self._record(step)['metrics'])
      except Damaged as error:
        logging.warning('Checkpoint %d has no score for `best`: %s', step, error)

  def save(
    self,
    step: int,
    state: base.PyTree,
    meta: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
  ) -> None:
    """Writes one checkpoint and drops those no longer kept.

    What stands at this step or after it belongs to a course that was given up
    (it was damaged, or training went back), and is deleted first. Saving again
    what was just saved or restored does nothing.

    Args:
      step: completed steps.
      state: any pytree of arrays.
      meta: JSON values to find again: the attempt number, the data's position.
      metrics: floats by name, for `best`.

    Raises:
      TypeError: if a leaf is a typed key (keys are not state), or `meta` is not
        JSON.
      OSError: the disk is full, say; older checkpoints are as they were.
    """
    import orbax.checkpoint as ocp

    arrays = {name: _to_numpy(name, leaf) for name, leaf in _leaves(state)}
    record = _seal(
      step=step,
      meta=dict(meta or {}),
      metrics={k: float(v) for k, v in (metrics or {}).items()},
      leaves=[_describe(name, array) for name, array in arrays.items()],
    )
    if self._intact == (step, record['seal']):
      return
    self._clear(step)
    self._note_score(step, record['metrics'])
    # Orbax refuses arrays of no elements: the record alone knows them.
    stored = {name: array for name, array in arrays.items() if array.size}
    try:
      with _quiet():
        self._manager.save(
          step,
          args=ocp.args.Composite(
            state=ocp.args.StandardSave(stored), record=ocp.args.JsonSave(record)
          ),
          force=True,
        )
    except Exception as error:  # orbax and tensorstore raise of every kind
      line = (str(error) or type(error).__name__).splitlines()[0]
      raise OSError(f'no checkpoint at step {step}: {line[:200]}') from error
    self._intact = (step, record['seal'])

  def restore(
    self,
    template: base.PyTree,
    *,
    step: int | None = None,
    before: int | None = None,
  ) -> tuple[int, base.PyTree, dict[str, Any]] | None:
    """Reads the newest checkpoint that is whole, or the one at `step`.

    Args:
      template: a pytree of arrays or `jax.ShapeDtypeStruct`s like the state, or
        a function from the step to one.
      step: a certain checkpoint; by default damaged and half-written ones are
        passed over with a warning.
      before: only older checkpoints than this step are read.

    Returns:
      (step, state with numpy leaves, meta), or None where there is no checkpoint.

    Raises:
      ValueError: if the template has other leaves, shapes or dtypes than the
        checkpoint, or the one at `step` is missing or damaged.
      Damaged: every checkpoint is damaged; none was touched.
      PermissionError: one may not be read, which is no damage.
    """
    steps = sorted(self._manager.all_steps(), reverse=True)
    if step is not None:
      if step not in steps:
        raise ValueError(f'There is no checkpoint at step {step}, only at {steps}')
      try:
        return self._read(step, template)
      except Damaged as error:
        raise ValueError(f'The checkpoint at step {step} is damaged: {error}') from None
    self._warn_of_unfinished(steps)
    steps = [s for s in steps if before is None or s < before]
    passed: dict[int, Damaged] = {}
    for candidate in steps:
      try:
        restored = self._read(candidate, template)
      except Damaged as error:
        passed[candidate] = error
        continue
      for other, why in passed.items():
        self._damaged.add(other)
        self._scores.pop(other, None)
        logging.warning('Checkpoint %d is damaged, passed over: %s', other, why)
      return restored
    if passed:
      raise Damaged(
        f'every checkpoint is damaged, of {steps}, the newest so: {passed[steps[0]]}'
      )
    return None

  def best_step(self) -> int | None:
    """The step with the best metric, the newest of equals, or None."""
    if not self._best or not self._scores:
      return None
    return max(self._scores, key=lambda step: (self._scores[step], step))

  def close(self) -> None:
    """Lets go of what orbax holds."""
    self._manager.close()

  def _note_score(self, step: int, metrics: Mapping[str, float]) -> None:
    if self._best and not math.isnan(score := metrics.get(self._best[0], math.nan)):
      self._scores[step] = score if self._best[1] == 'max' else -score

  def _clear(self, step: int) -> None:
    """Deletes what is in the way of a save at `step`."""
    for path in self._directory.glob(f'*{UNFINISHED}*'):
      shutil.rmtree(path, ignore_errors=True)
    for old in list(self._manager.all_steps()):
      if old >= step or old in self._damaged:
        self._manager.delete(old)
        self._scores.pop(old, None)
    self._damaged.clear()

  def _warn_of_unfinished(self, steps: Sequence[int]) -> None:
    for path in sorted(self._directory.iterdir()):
      name = path.name.split(UNFINISHED)[0]
      if name.isdecimal() and (name != path.name or int(name) not in steps):
        logging.warning('Checkpoint %s was left half-written, passed over', name)

  def _record(self, step: int) -> dict[str, Any]:
    import orbax.checkpoint as ocp

    folder = self._directory / str(step)
    for path in (folder, *sorted(folder.rglob('*'))):
      _check_readable(path)
    record = self._item(step, 'record', ocp.args.JsonRestore())
    content = {k: v for k, v in record.items() if k != 'seal'}
    # The seals alone: as dicts, records that hold NaN differ from themselves.
    if _seal(**content)['seal'] != record.get('seal'):
      raise Damaged('its record was altered')
    if record.get('step') != step:
      raise Damaged(f'it is the checkpoint of step {record.get("step")}, renamed')
    try:
      for name, dtype, shape, crc in record['leaves']:
        if not (isinstance(name, str) and isinstance(crc, int)):
          raise TypeError
        np.empty((0, *shape), _dtype(dtype))
      if not isinstance(record['meta'], dict):
        raise TypeError
      for metric in record['metrics'].values():
        if not isinstance(metric, int | float):
          raise TypeError
    except Exception as error:  # sealed, but by somebody else
      raise Damaged('its record makes no sense') from error
    return record

  def _read(self, step: int, template: base.PyTree) -> tuple[int, base.PyTree, dict]:
    import orbax.checkpoint as ocp

    record = self._record(step)
    template = template(step) if callable(template) else template
    _check_fit(step, template, record['leaves'])
    blank = {
      name: np.empty(shape, _dtype(dtype)) for name, dtype, shape, _ in record['leaves']
    }
    stored = {name: array for name, array in blank.items() if array.size}
    arrays = blank | self._item(step, 'state', ocp.args.StandardRestore(stored))
    for leaf in record['leaves']:
      if _describe(leaf[0], np.asarray(arrays[leaf[0]])) != leaf:
        raise Damaged(f'other bytes than were saved in {leaf[0]}')
    self._intact = (step, record['seal'])
    leaves = [np.asarray(arrays[name]) for name, _ in _leaves(template)]
    state = jax.tree.unflatten(jax.tree.structure(template), leaves)
    return step, state, record['meta']

  def _item(self, step: int, name: str, args: Any) -> Any:
    """Reads one item; whatever goes wrong in there is damage."""
    import orbax.checkpoint as ocp

    try:
      with _quiet():
        items = self._manager.restore(step, args=ocp.args.Composite(**{name: args}))
      return dict(items[name])
    except Exception as error:  # orbax and tensorstore raise of every kind
      line = (str(error) or type(error).__name__).splitlines()[0]
      raise Damaged(f'cannot read its {name}: {line[:200]}') from error


def _check_readable(path: pathlib.Path) -> None:
  """Raises PermissionError for a file or folder that may not be read."""
  if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _this_process_alone() -> Any:
  """Each of several processes reads for itself and one writes: none waits."""
  import orbax.checkpoint as ocp

  index = jax.process_index()
  return ocp.options.MultiprocessingOptions(
    primary_host=index, active_processes={index}, barrier_sync_key_prefix=f'p{index}'
  )


class _Best:
  """An orbax preservation policy: the best step by our own record.

  Orbax's own reads a metrics file of each step when it starts, and fails there
  if one is damaged.
  """

  def __init__(self, checkpoints: Checkpoints):
    self._checkpoints = checkpoints

  def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
    del context
    best = self._checkpoints.best_step()
    return [info.step == best for info in checkpoints]


def _not_chatter(record: python_logging.LogRecord) -> bool:
  """Lets orbax speak in the log only of errors."""
  return _not_orbax(record) or record.levelno >= python_logging.ERROR


def _not_orbax(record: python_logging.LogRecord) -> bool:
  return f'{os.sep}orbax{os.sep}' not in record.pathname


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps what a failing read or write prints besides its error off the console.

  When one array cannot be read, the reads of the others still under way find
  their event loop closed and print a traceback each, in threads of their own;
  asyncio complains once more when their futures are collected.
  """
  logger = python_logging.getLogger('asyncio')
  disabled, hook = logger.disabled, sys.unraisablehook
  logger.disabled, sys.unraisablehook = True, lambda unraisable: None
  logging.get_absl_logger().addFilter(_not_orbax)
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      yield
  except Exception:
    time.sleep(0.1)  # they come in moments after the error
    gc.collect()
    raise
  finally:
    logger.disabled, sys.unraisablehook = disabled, hook
    logging.get_absl_logger().removeFilter(_not_orbax)


def _leaves(tree: base.PyTree) -> list[tuple[str, Any]]:
  flat = jax.tree_util.tree_flatten_with_path(tree)[0]
  return [(jax.tree_util.keystr(path), leaf) for path, leaf in flat]


def _to_numpy(name: str, leaf: Any) -> np.ndarray:
  if jax.dtypes.issubdtype(getattr(leaf, 'dtype', None), jax.dtypes.prng_key):
    raise TypeError(f'{name} is a typed key: store jax.random.key_data of it')
  return np.asarray(jax.device_get(leaf))


def _dtype(name: str) -> np.dtype:
  return jax.numpy.dtype(name)  # knows bfloat16, which np.dtype need not


def _describe(name: str, array: np.ndarray) -> list[Any]:
  """[path, dtype, shape, CRC-32 over all three and the bytes]."""
  head = [name, array.dtype.name, list(array.shape)]
  seen = zlib.crc32(json.dumps(head).encode())
  content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
  return [*head, zlib.crc32(content, seen)]


def _seal(**content: Any) -> dict[str, Any]:
  """The content as JSON gives it back, with a CRC-32 of its text."""
  text = json.dumps(content, sort_keys=True)
  return {**json.loads(text), 'seal': zlib.crc32(text.encode())}


def _check_fit(step: int, template: base.PyTree, stored: Sequence[list]) -> None:
  """Raises ValueError naming the first leaf that differs."""
  expected = {}
  for name, leaf in _leaves(template):
    leaf = leaf if hasattr(leaf, 'dtype') else np.asarray(leaf)
    expected[name] = f'{leaf.dtype.name}{list(leaf.shape)}'
  found = {name: f'{dtype}{shape}' for name, dtype, shape, _ in stored}
  for name in [*expected, *found]:
    if found.get(name) != expected.get(name):
      raise ValueError(
        f'The checkpoint at step {step} does not fit the template, first at '
        f'{name}: {found.get(name, "nothing")} saved, '
        f'{expected.get(name, "nothing")} expected'
      )
