"""The launcher's modes: train, evaluate, sample, list.

An experiment is a module with

  get_config(arg=None) -> ConfigDict          data: numbers and names
  make_method(config, spec, *, wrap) -> Method, or a tuple of Phases

and, where it needs them,

  batch_size(config) -> int                   examples a step draws
  make_evaluation(config, data) -> function   (method, model, key) -> dict of []

The working directory holds `config.json`, `checkpoints/`, `samples/`,
`train.csv`, `evaluate.csv` and TensorBoard events, and nothing is written
elsewhere. The same command again goes on where the last one stopped.
"""

import ast
import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from gm_jax import base
from gm_jax.data import dataset as dataset_lib
from gm_jax.data import registry
from gm_jax.training import checkpoint, log, loop, parallel, plots
from gm_jax.training import step as step_lib

# What may differ when a run goes on: how long, and how often it looks up.
CHANGEABLE = frozenset(
  ('steps', 'log_every', 'evaluate_every', 'sample_every', 'checkpoint_every')
)
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


def train(experiment: Any, config: Any, workdir: str | pathlib.Path) -> base.State:
  """Trains to the end, from the newest checkpoint in `workdir` if there is one.

  Args:
    experiment: a module as this module's text describes.
    config: its ConfigDict.
    workdir: of the run; created where missing.

  Returns:
    The last state.

  Raises:
    UsageError: a config or a workdir that cannot be used; nothing was written.
    loop.Diverged, loop.Stopped: see `loop.train`; the message says how to go on.
  """
  setup = prepare(experiment, config)
  workdir = pathlib.Path(workdir)
  _claim(workdir, config)
  logger = log.Log(workdir)
  checkpoints = (
    _checkpoints(config, workdir) if setup.settings.checkpoint_every else None
  )
  bar = log.progress(setup.settings.steps)
  scores = _once(lambda method: scorer(setup, method))
  pictures = _once(lambda method: _painter(setup, method))

  def restore(template):
    restored = checkpoints.restore(template) if checkpoints else None
    done = restored[0] if restored else 0
    logger.trim(done)
    if restored:
      print(f'going on from step {done}', flush=True)
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
      batches(setup),
      setup.settings,
      loop.Callbacks(
        log=show,
        evaluate=evaluate if setup.evaluation else None,
        sample=sample,
        save=checkpoints.save if checkpoints else None,
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
    UsageError: no checkpoint, or an experiment without evaluation.
  """
  setup = prepare(experiment, config)
  if setup.evaluation is None:
    raise UsageError('this experiment has no make_evaluation')
  method, state = _restored(setup, config, workdir, best)
  values = scorer(setup, method)(state)
  record = {k: np.atleast_1d(v).tolist() for k, v in values.items()}
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
    UsageError: no checkpoint, or num < 1.
  """
  if num < 1:
    raise UsageError(f'num_samples must be at least 1, got {num}')
  setup = prepare(experiment, config)
  method, state = _restored(setup, config, workdir, best)
  samples = drawer(setup, method, num)(state)
  workdir = pathlib.Path(workdir)
  np.savez(workdir / 'samples.npz', x=samples)
  _painter(setup, method)(workdir / 'samples.png', state)
  print(workdir / 'samples.npz')
  print(workdir / 'samples.png')
  return samples


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
    # Shapes and types of one step: what cannot work is known before it runs.
    batch = next(data.batches('train', batch_size, seed=settings.seed))
    key = jax.random.key(0)
    jax.eval_shape(lambda key: method.step(method.init(key, batch), key, batch), key)
    make = getattr(experiment, 'make_evaluation', None)
    evaluation = make(config, data) if make else None
  except (ValueError, KeyError, TypeError) as error:
    raise UsageError(' '.join(str(error).split())) from error
  return Setup(data, settings, batch_size, make_phases, evaluation)


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


def _check_best(config: Any) -> None:
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


def _claim(workdir: pathlib.Path, config: Any) -> None:
  """Makes the workdir this config's, or raises if it is another's."""
  path, asked = workdir / 'config.json', config.to_dict()
  if path.exists():
    found = json.loads(path.read_text())
    asked_json = json.loads(json.dumps(asked))
    differing = [
      f'{k} = {found.get(k)!r} there, {asked_json.get(k)!r} asked'
      for k in sorted(found.keys() | asked_json.keys())
      if k not in CHANGEABLE and found.get(k) != asked_json.get(k)
    ]
    if differing:
      raise UsageError(
        f'{workdir} belongs to another config ({"; ".join(differing)}); use another'
        f' --workdir; on resume only {", ".join(sorted(CHANGEABLE))} may change'
      )
  elif workdir.is_dir() and any(workdir.iterdir()):
    raise UsageError(
      f'{workdir} is not empty and not the workdir of a run (no config.json); use'
      ' a new or empty --workdir'
    )
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    with log.replacing(path) as temporary:
      temporary.write_text(json.dumps(asked, indent=2) + '\n')
  except OSError as error:
    raise UsageError(f'cannot write to {workdir}: {error.strerror}') from error


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
    raise UsageError(f'{workdir} has no checkpoints; run --mode=train there first')
  _claim(workdir, config)
  checkpoints = _checkpoints(config, workdir)
  step = checkpoints.best_step() if best else None
  if best and step is None:
    raise UsageError("no best checkpoint: the config's `best` names no metric")
  phases = setup.make_phases(0)
  restored = checkpoints.restore(
    lambda at: loop.template(phases, batches(setup), setup.settings, at), step=step
  )
  checkpoints.close()
  if restored is None:
    raise UsageError(f'{workdir} has no complete checkpoint')
  step, state, _ = restored
  phase = next((p for p in phases if step <= p.until), phases[-1])
  return phase.method, state


def batches(setup: Setup) -> Callable:
  """The loop's `make_batches`: (phase, seed, start) -> training batches."""
  return lambda phase, seed, start: setup.data.batches(
    'train', setup.batch_size, seed=seed, start=start
  )


def _over_seeds(setup: Setup, fn: Callable) -> Callable:
  return jax.vmap(fn) if setup.settings.num_seeds > 1 else fn


def _once(make: Callable[[base.Method], Callable]) -> Callable:
  """`make` with a memory, so that what it compiles is compiled once a method."""
  made: dict[int, tuple[base.Method, Callable]] = {}

  def get(method):
    if id(method) not in made:
      made[id(method)] = method, make(method)  # kept, so that its id stays its own
    return made[id(method)][1]

  return get


def _evaluation_keys(settings: loop.Settings) -> base.Array:
  """Keys apart from training's, [S], or [] for one seed."""
  seeds = settings.seed + np.arange(settings.num_seeds)
  keys = jax.vmap(lambda s: jax.random.split(jax.random.key(s), 3)[2])(seeds)
  return keys if settings.num_seeds > 1 else keys[0]


def _painter(setup: Setup, method: base.Method) -> Callable:
  """(path, state) -> None: a grid of images, or a scatter of points."""
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


def _flat(metrics: dict) -> dict[str, float]:
  """Means, and beside them standard errors where there are several seeds."""
  flat = {k: float(np.mean(v)) for k, v in metrics.items()}
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
