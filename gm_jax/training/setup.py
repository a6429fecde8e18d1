"""A config turned into functions: what every mode of the launcher begins with.

An experiment is a module with

  get_config(arg=None) -> ConfigDict          data: numbers and names
  make_method(config, spec, *, wrap) -> Method, or a tuple of Phases

and, where it needs them,

  batch_size(config) -> int                   examples a step draws
  make_evaluation(config, data) -> function   (method, model, key) -> dict of []
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import errors

from gm_jax import base
from gm_jax.data import dataset as dataset_lib
from gm_jax.data import registry
from gm_jax.training import loop, parallel, plots
from gm_jax.training import step as step_lib

NUM_PICTURE = {2: 1000, 4: 64}  # samples in a picture, by rank of [num, ...]
BATCH = 256  # samples drawn at once


class UsageError(Exception):
  """What the user asked for cannot be done; one line says why."""


class Setup(NamedTuple):
  """A config turned into functions, and checked."""

  data: dataset_lib.Dataset
  settings: loop.Settings
  batch_size: int
  make_phases: Callable[[int], tuple[base.Phase, ...]]
  evaluation: Callable | None


def prepare(experiment: Any, config: Any) -> Setup:
  """Turns a config into functions, and tries them by shape; writes nothing.

  Args:
    experiment: a module as this module's text describes.
    config: its ConfigDict.

  Returns:
    What training and evaluation need.

  Raises:
    UsageError: the config makes no sense, in one line.
  """
  try:
    data = registry.load(config.data)
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
        return (base.Phase(made, settings.steps, data.spec, None),)
      return tuple(made)

    method = make_phases(0)[0].method
    batch_size = getattr(experiment, 'batch_size', lambda c: c.batch_size)(config)
    if batch_size < 1:
      raise ValueError(f'batch_size must be at least 1, got {config.batch_size}')
    if batch_size % jax.device_count():
      raise ValueError(
        f'a step draws {batch_size} examples, which {jax.device_count()} devices'
        ' cannot share equally; change batch_size'
      )
    batch = next(data.batches('train', batch_size, seed=settings.seed))
    make = getattr(experiment, 'make_evaluation', None)
    evaluation = make(config, data) if make else None
    _try_by_shape(method, batch, data.spec, evaluation, config.best)
  except (ValueError, KeyError, TypeError, errors.FlaxError) as error:
    raise UsageError(' '.join(str(error).split())) from error
  return Setup(data, settings, batch_size, make_phases, evaluation)


def _try_by_shape(method, batch, spec, evaluation, best) -> None:
  """What cannot work is known by shape, before anything runs or is written."""
  key = jax.random.key(0)
  state = jax.eval_shape(method.init, key, batch)
  model = step_lib.model(state)
  if method.sample is not None:
    made = jax.eval_shape(lambda m, k: method.sample(m, k, 2), model, key).shape[1:]
    if made != spec.shape:
      raise ValueError(
        f"the model's samples have shape {list(made)}, the data {list(spec.shape)}:"
        ' this config does not fit this data set'
      )
  jax.eval_shape(method.step, state, key, batch)
  if evaluation:
    scores = jax.eval_shape(lambda m, k: evaluation(method, m, k), model, key)
    if best and best[1:] not in scores:
      known = ', '.join(sorted(scores))
      raise ValueError(f'best = {best!r}, but the evaluation gives {known}')


def batches(setup: Setup) -> Callable:
  """The loop's `make_batches`: (phase, seed, start) -> training batches."""
  return lambda phase, seed, start: setup.data.batches(
    'train', setup.batch_size, seed=seed, start=start
  )


def scorer(setup: Setup, method: base.Method) -> Callable[[base.State], dict]:
  """state -> the experiment's evaluation: numpy by name, [S] if many seeds."""

  def one(model, key):
    return setup.evaluation(method, model, key)

  compiled = jax.jit(_over_seeds(setup, one))
  keys = _evaluation_keys(setup.settings)
  return lambda state: jax.device_get(compiled(step_lib.model(state), keys))


def drawer(
  setup: Setup, method: base.Method, num: int
) -> Callable[[base.State], np.ndarray]:
  """state -> samples in model space, [num, ...], or [S, num, ...] if many seeds."""

  def one(model, key):
    keys = jax.random.split(key, -(-num // BATCH))
    chunks = jax.lax.map(lambda k: method.sample(model, k, min(BATCH, num)), keys)
    return chunks.reshape(-1, *chunks.shape[2:])[:num]

  compiled = jax.jit(_over_seeds(setup, one))
  keys = _evaluation_keys(setup.settings)
  return lambda state: np.asarray(compiled(step_lib.model(state), keys))


def painter(setup: Setup, method: base.Method) -> Callable:
  """(path, state) -> None: a picture of the first seed's images or points."""
  rank = 1 + len(setup.data.spec.shape)
  num = NUM_PICTURE.get(rank)
  if num is None or rank == 2 and setup.data.spec.shape != (2,):
    return lambda path, state: None
  draw = drawer(setup, method, num)

  def paint(path, state):
    samples = draw(state)
    samples = samples if setup.settings.num_seeds == 1 else samples[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    if rank == 4:
      plots.image_grid(path, samples, columns=8)
    else:
      title = f'step {int(state.step)}'
      real = setup.data.arrays('test', num)['x']
      plots.scatter_panels(path, {setup.data.name: [(title, samples)]}, reference=real)

  return paint


def once(make: Callable[[base.Method], Callable]) -> Callable:
  """`make` with a memory, so that what it compiles is compiled once a method."""
  made: dict[int, tuple[base.Method, Callable]] = {}

  def get(method):
    if id(method) not in made:
      made[id(method)] = method, make(method)  # kept, so that its id stays its own
    return made[id(method)][1]

  return get


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


def _over_seeds(setup: Setup, fn: Callable) -> Callable:
  return jax.vmap(fn) if setup.settings.num_seeds > 1 else fn


def _evaluation_keys(settings: loop.Settings) -> base.Array:
  """Keys apart from training's, [S], or [] for one seed."""
  seeds = settings.seed + np.arange(settings.num_seeds)
  keys = jax.vmap(lambda s: jax.random.split(jax.random.key(s), 3)[2])(seeds)
  return keys if settings.num_seeds > 1 else keys[0]
