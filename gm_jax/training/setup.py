"""A config turned into functions: what every mode of the launcher begins with.

An experiment is a module with

  get_config(arg=None) -> ConfigDict          data: numbers, names, tuples of these
  make_method(config, spec, *, wrap) -> Method, or a tuple of Phases

and, where it needs them,

  measure(config, data) -> None               fills leaves that are measured on the data
                                              and refuses data that do not fit
  batch_size(config) -> int                   examples a step draws
  make_evaluation(config, data) -> function   (method, model, key) -> dict of [], or
                                              a base.Result

The data that an evaluation is made for have the last phase's spec.
"""

import math
import pathlib
import re
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
import optax
from flax import errors

from gm_jax import base, model_space
from gm_jax.data import dataset as dataset_lib
from gm_jax.data import registry
from gm_jax.training import conditioning, host, loop, parallel
from gm_jax.training import step as step_lib

# The leaves that every config has, by type.
LEAVES = {
  **dict.fromkeys(('steps', 'seed', 'seeds', 'steps_per_dispatch'), int),
  **dict.fromkeys(('log_every', 'evaluate_every', 'sample_every'), int),
  **dict.fromkeys(('checkpoint_every', 'keep_checkpoints'), int),
  **dict.fromkeys(('data', 'best', 'on_nan'), str),
  'ema_decay': float,
}


# The last frame of a traceback inside an error's text, and what is said after it.
_TRACEBACK = re.compile(
  r'Traceback .*\n  File "([^"]+)", line (\d+)[^\n]*\n(?:    [^\n]*\n)*(\w.*)',
  re.DOTALL,
)
NO_X64 = '; run without JAX_ENABLE_X64'


class UsageError(Exception):
  """The command cannot be carried out; one line says why."""


class Options(NamedTuple):
  """Settings that depend on the machine and not on the experiment.

  data_dir: the folder of prepared data sets; TensorFlow Datasets' own by default.
  model_devices: devices that hold one copy of the state together.
  split_seeds: whether the devices share the seeds of a run of many.
  """

  data_dir: str | None = None
  model_devices: int = 1
  split_seeds: bool = False


DEFAULT = Options()


class Setup(NamedTuple):
  """A config turned into functions, and checked."""

  data: dataset_lib.Dataset
  settings: loop.Settings
  batch_size: int
  layout: parallel.Layout
  make_phases: Callable[[int], tuple[base.Phase, ...]]
  evaluation: Callable | None


def prepare(
  experiment: Any,
  config: Any,
  options: Options = DEFAULT,
  *,
  evaluates: bool | None = None,
) -> Setup:
  """Turns a config into functions, and tries them by shape; writes nothing.

  Args:
    experiment: a module as this module's text describes.
    config: its ConfigDict.
    options: what depends on the machine.
    evaluates: whether the evaluation is made; by default where training uses it.

  Returns:
    What training and evaluation need.

  Raises:
    UsageError: the config makes no sense, in one line.
    dataset.DataError: the data cannot be used, in one line.
  """
  try:
    _check_leaves(config)
    if not hasattr(experiment, 'make_method'):
      raise ValueError('the config file has no make_method(config, spec, *, wrap)')
    data = registry.load(config.data, data_dir=options.data_dir)
    if hasattr(experiment, 'measure'):
      experiment.measure(config, data)
      _check_leaves(config)
    settings = loop.Settings(
      steps=config.steps,
      seed=config.seed,
      num_seeds=config.seeds,
      steps_per_dispatch=config.steps_per_dispatch,
      log_every=config.log_every,
      evaluate_every=config.evaluate_every,
      sample_every=config.sample_every,
      checkpoint_every=config.checkpoint_every,
      ema_decay=config.ema_decay,
      on_nan=config.on_nan,
    )
    loop.check(settings)
    _check_best(config)

    def make_phases(attempt):
      made = experiment.make_method(config, data.spec, wrap=_halved(attempt))
      if isinstance(made, base.Method):
        return (base.Phase(made, settings.steps, data.spec),)
      phases = tuple(made) if isinstance(made, (tuple, list)) else ()
      if not phases or not all(isinstance(phase, base.Phase) for phase in phases):
        raise ValueError(f'make_method must give a Method or Phases, got {made!r}')
      return phases

    phases = make_phases(0)
    batch_size = getattr(experiment, 'batch_size', lambda c: c.batch_size)(config)
    if batch_size < 1:
      raise ValueError(f'batch_size must be at least 1, got {config.batch_size}')
    mesh = parallel.device_mesh(model=options.model_devices)
    layout = parallel.Layout(mesh, settings.num_seeds > 1, options.split_seeds)
    setup = Setup(data, settings, batch_size, layout, make_phases, None)
    for phase in phases:
      num = phase_batch_size(setup, phase)
      parallel.check_divides(layout, num, settings.num_seeds)
      num *= settings.steps_per_dispatch
      what = 'batch_size times steps_per_dispatch'
      check_memory(setup, num // max(1, jax.process_count()), what)
    model = _try_by_shape(setup, phases)
    make = getattr(experiment, 'make_evaluation', None)
    if evaluates is None:
      evaluates = settings.evaluate_every > 0
    make = make if evaluates else None
    evaluation = make(config, data._replace(spec=phases[-1].spec)) if make else None
    if evaluation:
      _try_evaluation(phases[-1].method, model, evaluation, config.best)
  except UsageError:
    raise
  except dataset_lib.DataError as error:  # a path may hold any character
    raise dataset_lib.DataError(' '.join(str(error).split())) from error
  except Exception as error:  # a config's functions may raise anything
    if parallel.others_gone(error):
      raise
    raise UsageError(describe_error(error, experiment)) from error
  return setup._replace(evaluation=evaluation)


def check_memory(setup: Setup, num: int, what: str) -> None:
  """Raises UsageError where `num` examples for every seed fit in no memory."""
  seeds = setup.settings.num_seeds
  size = 4.0 * num * seeds * math.prod(setup.data.spec.shape) / 2**30
  if size * 2**30 > host.memory():
    raise UsageError(
      f'{what}, for {seeds} seed(s), is {size:.0f} GiB of examples, and this machine'
      f' has {host.memory() / 2**30:.0f}: make it smaller'
    )


def _check_leaves(config: Any) -> None:
  if not isinstance(config, ml_collections.ConfigDict):
    raise ValueError(f'get_config must give a ConfigDict, got {config!r}')
  for name, kind in LEAVES.items():
    if name not in config:
      raise ValueError(f'the config has no leaf {name!r} ({kind.__name__})')
    if not isinstance(config[name], (int, float) if kind is float else kind):
      raise ValueError(f'{name} must be of type {kind.__name__}, got {config[name]!r}')
  for name, value in config.items():
    parts = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(part, str | bool | int | float) for part in parts):
      raise ValueError(
        f'{name} must be a number, a name, or a tuple of these, got'
        f' {type(value).__name__}: make it in make_method'
      )
    for number in value if isinstance(value, tuple) else (value,):
      if isinstance(number, float) and not math.isfinite(number):
        raise ValueError(f'{name} must be a finite number, got {value}')


def describe_error(error: Exception, experiment: Any) -> str:
  """An error's text, and where it comes from if it may be a mistake in code."""
  inner = _TRACEBACK.search(str(error))
  if inner:  # of a function of Python that a compiled program called
    path, line, text = inner.groups()
    return f'{" ".join(text.split())} ({pathlib.Path(path).name}, line {line})'
  text = ' '.join(str(error).split())
  if text and isinstance(error, (ValueError, errors.FlaxError)):
    return text
  frames = traceback.extract_tb(error.__traceback__)
  of_config = getattr(experiment, '__file__', None)
  frame = ([f for f in frames if f.filename == of_config] or frames)[-1]
  where = f'{pathlib.Path(frame.filename).name}, line {frame.lineno}'
  text = f'{type(error).__name__} in the config or its method ({where}): {text}'
  in_64_bits = jax.dtypes.canonicalize_dtype(np.float64) == np.float64
  return text + NO_X64 if in_64_bits and isinstance(error, TypeError) else text


def phase_batch_size(setup: Setup, phase: base.Phase) -> int:
  """Examples that a step of a phase draws: its own number, or the run's."""
  return setup.batch_size if phase.batch_size is None else phase.batch_size


def _try_by_shape(setup, phases) -> base.Model:
  """Tries every phase by shape: nothing that cannot work runs or is written."""
  key, state = jax.random.key(0), None
  for phase in phases:
    method, spec = phase.method, phase.spec
    size = phase_batch_size(setup, phase)
    batch = next(setup.data.batches('train', size, seed=setup.settings.seed))
    _check_shapes(setup.data.name, spec, batch)
    batch = jax.eval_shape(
      lambda k, b, s=spec: model_space.forward(s, k, b), key, batch
    )
    if phase.enter is not None:
      previous = phase.previous if state is None else state
      state = jax.eval_shape(phase.enter, key, previous, batch)
    elif state is None:
      state = jax.eval_shape(method.init, key, batch)
    model = step_lib.model(state)
    if method.sample is not None:
      condition = conditioning.defaults(method.card, setup.data)(2)
      drawn = jax.eval_shape(
        lambda m, k, s=method.sample, c=condition: s(m, k, 2, condition=c), model, key
      )
      if drawn.shape[1:] != spec.shape:
        raise ValueError(
          f"the model's samples have shape {list(drawn.shape[1:])}, the data"
          f' {list(spec.shape)}: this config does not fit this data set'
        )
    after, metrics = jax.eval_shape(method.step, state, key, batch)
    _check_same(state, after)
    _check_scalars('a metric', metrics)
  return model


def _check_same(before, after) -> None:
  """Raises ValueError where a step changes the state's structure, shapes or dtypes."""
  paths = [dict(jax.tree_util.tree_leaves_with_path(s)) for s in (before, after)]
  if paths[0].keys() != paths[1].keys():
    changed = sorted(map(jax.tree_util.keystr, paths[0].keys() ^ paths[1].keys()))
    raise ValueError(f"the method's step changes what the state holds: {changed[0]}")
  for path, old in paths[0].items():
    new = paths[1][path]
    if (old.shape, old.dtype) != (new.shape, new.dtype):
      wide = NO_X64 if new.dtype.itemsize == 8 else ''
      raise ValueError(
        f"the method's step turns {jax.tree_util.keystr(path)} from {old.dtype}"
        f'{list(old.shape)} into {new.dtype}{list(new.shape)}, and the state must keep'
        f' its shapes and dtypes{wide}'
      )


def _check_scalars(what, found) -> None:
  """Raises ValueError unless `found` is numbers [] by name, none called 'step'."""
  if not isinstance(found, Mapping):
    raise ValueError(f'{what} must be a dict of numbers [] by name, got {found}')
  for name, value in found.items():
    if name == 'step':
      raise ValueError(f"{what} cannot be called 'step', which counts the steps")
    if np.shape(value) != ():
      raise ValueError(f'{what} must be a number [], and {name!r} is {value.shape}')


def _check_shapes(name, spec, batch) -> None:
  """Raises ValueError where a batch is not, in model space, what its spec says."""
  made = jax.eval_shape(
    lambda k, b: model_space.forward(spec, k, b), jax.random.key(0), batch
  )
  for key, part in {'x': spec, **spec.parts}.items():
    if key in made and made[key].shape[1:] != part.shape:
      raise ValueError(
        f'{key} of {name} has shape {list(made[key].shape[1:])} in model space, and its'
        f' spec says {list(part.shape)}'
      )


def _try_evaluation(method, model, evaluation, best) -> None:
  key = jax.random.key(0)
  scores = jax.eval_shape(lambda m, k: numbers(evaluation(method, m, k)), model, key)
  _check_scalars('a score of the evaluation', scores)
  if best and best[1:] not in scores:
    known = ', '.join(sorted(scores))
    raise ValueError(f'best = {best!r}, but the evaluation gives {known}')


def numbers(found: base.Result | Mapping) -> dict:
  """The numbers of an evaluation, by name.

  Raises:
    ValueError: an evaluation that gives neither a dict nor a Result.
  """
  if isinstance(found, base.Result):
    return {name: number for name, (number, _) in found.values.items()}
  if not isinstance(found, Mapping):
    raise ValueError(
      'an evaluation must give a dict of numbers by name, or a base.Result, got'
      f' {type(found).__name__}'
    )
  return dict(found)


def batches(setup: Setup) -> Callable:
  """The loop's `make_batches`: (phase, seed, start) -> training batches."""
  shard = parallel.shard(setup.layout)
  return lambda phase, seed, start: setup.data.batches(
    'train', phase_batch_size(setup, phase), seed=seed, start=start, shard=shard
  )


def _check_best(config: Any) -> None:
  if config.keep_checkpoints < 1:
    raise ValueError(
      f'keep_checkpoints must be at least 1, got {config.keep_checkpoints}'
    )
  if config.on_nan == 'restart' and not config.checkpoint_every:
    raise ValueError("on_nan = 'restart' needs checkpoint_every > 0")
  if not config.best:
    return
  if not config.best.lstrip('-+') or config.best[0] not in '-+':
    raise ValueError(
      f"best = {config.best!r} must be '+metric' (largest) or '-metric' (smallest)"
    )
  if not config.evaluate_every or config.checkpoint_every % config.evaluate_every:
    raise ValueError(
      'best needs evaluate_every > 0 and checkpoint_every a multiple of it, got'
      f' {config.evaluate_every} and {config.checkpoint_every}'
    )


def _halved(attempt: int) -> Callable:
  """The `wrap` of the n-th attempt: devices' mean, and rates halved n times.

  It adds nothing to the optimizer's state, so a checkpoint fits every attempt.
  """

  def wrap(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    tx = optax.with_extra_args_support(parallel.mean_over_devices(tx))

    def update(grads, state, params=None, **kwargs):
      updates, state = tx.update(grads, state, params, **kwargs)
      return jax.tree.map(lambda u: u * 0.5**attempt, updates), state

    return optax.GradientTransformation(tx.init, update) if attempt else tx

  return wrap
