"""The only training loop: iterate, log, evaluate, checkpoint, stop cleanly.

It knows no method, no data set and no file: it is given functions. The state
it returns depends on the seed and the settings alone, however often the run
was stopped and continued in between (bitwise, on one kind of machine): batches
are a function of their position, keys of the step, and dispatches always begin
at multiples of `steps_per_dispatch`.
"""

import signal
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging

from gm_jax import base, model_space
from gm_jax.training import host, parallel
from gm_jax.training import step as step_lib

MAX_ATTEMPTS = 5
LIMIT = 2**31  # of steps and seeds, which are int32 on the device
MAX_PENDING = 100  # dispatches whose metrics are left on the device


class Settings(NamedTuple):
  """How a run goes on: cadences in steps, 0 for never."""

  steps: int
  seed: int = 0
  num_seeds: int = 1
  steps_per_dispatch: int = 1
  log_every: int = 100
  evaluate_every: int = 0
  sample_every: int = 0
  checkpoint_every: int = 0
  ema_decay: float = 0.0
  on_nan: str = 'stop'  # 'stop', 'skip' or 'restart'


class Callbacks(NamedTuple):
  """The functions called beside training; all but `log` may be None.

  log: (step, metrics: dict of [S] numpy arrays, means since the last call).
  evaluate: (phase, state) -> dict of floats, for choosing the best checkpoint.
  sample: (phase, state) -> None, writes a picture.
  save: (step, state in numpy, meta, metrics) -> None, writes a checkpoint.
  restore: (template: step -> abstract state, before: step or None) -> (step, state,
    meta) of the newest checkpoint, of those before a step if one is named, or None.
  tick: (step) -> None, called after every dispatch, for a progress bar.
  """

  log: Callable
  evaluate: Callable | None = None
  sample: Callable | None = None
  save: Callable | None = None
  restore: Callable | None = None
  tick: Callable | None = None


class Diverged(Exception):
  """A number was not finite, or beyond its limit; `attempt` says in which attempt."""

  def __init__(self, message: str, attempt: int):
    super().__init__(message)
    self.attempt = attempt


class Failed(Exception):
  """A callback failed, and not the training; one line says which and why."""


class Stopped(Exception):
  """A signal asked the run to stop; `saved` says whether a checkpoint was written."""

  def __init__(self, signum: int, step: int, saved: bool):
    super().__init__(f'stopped by {signal.Signals(signum).name} at step {step}')
    self.signum, self.step, self.saved = signum, step, saved


def check(settings: Settings) -> None:
  """Raises ValueError, in one line, for settings that make no sense."""
  for name, value in (
    ('steps', settings.steps),
    ('seeds', settings.num_seeds),
    ('steps_per_dispatch', settings.steps_per_dispatch),
  ):
    if not 1 <= value < LIMIT:
      raise ValueError(f'{name} must be at least 1 and below 2**31, got {value}')
  if not 0 <= settings.seed <= LIMIT - settings.num_seeds:
    raise ValueError(
      f'seed must be at least 0, and seed + seeds at most 2**31, got {settings.seed}'
    )
  for name in ('log_every', 'evaluate_every', 'sample_every', 'checkpoint_every'):
    every = getattr(settings, name)
    if every < 0 or every % settings.steps_per_dispatch:
      raise ValueError(
        f'{name} = {every} must be 0 or a multiple of steps_per_dispatch ='
        f' {settings.steps_per_dispatch}'
      )
  if not 0 <= settings.ema_decay < 1:
    raise ValueError(f'ema_decay must be in [0, 1), got {settings.ema_decay}')
  if settings.on_nan not in ('stop', 'skip', 'restart'):
    raise ValueError(
      f"on_nan must be 'stop', 'skip' or 'restart', got {settings.on_nan!r}"
    )


def train(
  make_phases: Callable[[int], tuple[base.Phase, ...]],
  make_batches: Callable[[base.Phase, int, int], Iterator[base.Batch]],
  settings: Settings,
  callbacks: Callbacks,
  *,
  mesh: jax.sharding.Mesh | None = None,
  split_seeds: bool = False,
) -> base.State:
  """Trains to the end, from the newest checkpoint if there is one.

  Args:
    make_phases: attempt -> phases; the attempt is above 0 after a restart, and
      the learning rate should then be halved as many times.
    make_batches: (phase, seed, start) -> iterator of batches of raw data, the
      first being the one of step `start`; of several processes each makes its
      part.
    settings: how long, how often.
    callbacks: what else happens.
    mesh: the devices, from `parallel.device_mesh`; all of them by default.
    split_seeds: whether the devices share the seeds, and not each the examples.

  Returns:
    The state after the last step; every part but `step` has a leading axis of
    seeds if there are several.

  Raises:
    Diverged: with on_nan 'stop', or 'restart' without an end.
    Failed: the evaluation or the picture did; the state was saved before.
    Stopped: SIGTERM or SIGINT came; the state was saved before.
  """
  check(settings)
  mesh = mesh or parallel.device_mesh()
  layout = parallel.Layout(mesh, settings.num_seeds > 1, split_seeds)
  attempt = None  # as the newest checkpoint says; 0 without one
  before = last = None
  with host.signals() as received:
    while True:
      run = _Run(make_phases, make_batches, settings, callbacks, layout, received, [0])
      try:
        return _attempt(run, attempt, before)
      except Diverged as error:
        attempt = error.attempt + 1
        if settings.on_nan != 'restart' or attempt == MAX_ATTEMPTS:
          raise
        # A checkpoint that leads nowhere at half the rate either was no good one.
        newest = run.checkpoints[-1]
        before = newest if newest and last is not None and newest <= last else None
        last = newest
        where = '' if before is None else f' from before step {before}'
        logging.warning('%s; restarting at half the learning rate%s', error, where)


def template(
  phases: tuple[base.Phase, ...],
  make_batches: Callable[[base.Phase, int, int], Iterator[base.Batch]],
  settings: Settings,
  step: int,
) -> base.State:
  """Shapes and types of the state at a step, as `train` would have it there."""

  def shapes(phase, previous):
    batch = next(_batches(phase, make_batches, settings, 0))
    opening = _opening(phase, settings, first=previous is None)
    return jax.eval_shape(opening, batch, previous or phase.previous)

  state = shapes(phases[0], None)
  for before, phase in zip(phases, phases[1:], strict=False):
    if step > before.until:
      state = shapes(phase, state)
  return state


class _Run(NamedTuple):
  """The arguments of `train`, and the list of signals received."""

  make_phases: Callable
  make_batches: Callable
  settings: Settings
  callbacks: Callbacks
  layout: parallel.Layout
  received: list[int]
  checkpoints: list[int]  # steps of those restored or written; 0 is the beginning


def _attempt(run: _Run, attempt: int | None, before: int | None) -> base.State:
  """Trains from the newest checkpoint, or the beginning, to the end."""
  phases = run.make_phases(attempt or 0)
  restored = run.callbacks.restore and run.callbacks.restore(
    lambda step: template(phases, run.make_batches, run.settings, step), before=before
  )
  if restored:
    done, state, meta = restored
    run.checkpoints.append(done)
    attempt = meta['attempt'] if attempt is None else attempt
    phases = run.make_phases(attempt)
    waiting = {k: np.float32(v) for k, v in meta['unlogged'].items()}
    unlogged = [waiting] if waiting else []
  else:
    done, attempt, unlogged = 0, attempt or 0, []
    state = _open(run, phases[0], None)
  for index, phase in enumerate(phases):
    end = min(phase.until, run.settings.steps)
    if done < end:
      if index and done == phases[index - 1].until:
        state = _open(run, phase, state)
      final = index == len(phases) - 1  # what the run is for, and is judged by
      state = _phase(run, phase, attempt, state, done, end, unlogged, final)
      done, unlogged = end, []
  return state


def _phase(run, phase, attempt, state, done, end, unlogged, final) -> base.State:
  """The steps `done` to `end`, all of one phase.

  `unlogged` are metrics on the host that no log has had yet: those of a run that
  was stopped between two logs go on in the next one.
  """
  settings, callbacks = run.settings, run.callbacks
  steps = step_lib.train_step(
    phase.method,
    spec=phase.spec,
    ema_decay=settings.ema_decay,
    skip_bad=settings.on_nan == 'skip',
  )
  many, layout = settings.num_seeds > 1, run.layout
  steps = step_lib.over_seeds(steps) if many else steps
  keys = jax.jit(
    lambda: _keys(settings, attempt)[slice(None) if many else 0],
    out_shardings=parallel.replicated(layout.mesh),
  )()
  compiled = parallel.jitted(steps, layout, state)
  state = parallel.put(state, parallel.state_shardings(layout, state))
  pending: list = []  # metrics on the device, of dispatches not yet looked at
  clock = host.Clock()
  dispatches = host.ahead(_dispatches(run, phase, done, end))
  while done < end:
    clock.go_on()
    num, batch = next(dispatches)
    state, metrics = compiled(state, keys, batch)
    pending.append((done, metrics))
    done += num
    last = done == end
    stop = parallel.any_process(bool(run.received))

    def due(every, done=done, last=last):
      return every and (last or done % every == 0)

    cadences = (
      settings.log_every,
      settings.evaluate_every,
      settings.sample_every,
      settings.checkpoint_every,
    )
    if stop or last or any(map(due, cadences)) or len(pending) == MAX_PENDING:
      fetched, pending = _fetch(pending, settings, attempt), []
      if unlogged and fetched and unlogged[0].keys() != fetched[0].keys():
        raise ValueError(
          'the checkpoint that this run goes on from has metrics of another method:'
          f' {", ".join(sorted(unlogged[0].keys() ^ fetched[0].keys()))}'
        )
      unlogged = unlogged + fetched if settings.log_every else []
    clock.pause(num, metrics)
    if due(settings.log_every):
      means = _means(unlogged)
      callbacks.log(done, means | {'steps_per_second': np.float64(clock.rate())})
      unlogged = []
      if not np.all(means['finite']):
        text = 'steps up to %d gave NaN or inf, or diverged, and were skipped'
        logging.warning(text, done)
      if not np.any(means['finite']):
        raise Diverged(f'every step before step {done} was skipped', attempt)
    scores = failed = None
    try:
      if callbacks.evaluate and final and due(settings.evaluate_every):
        scores = callbacks.evaluate(phase, state)
      if callbacks.sample and due(settings.sample_every):
        callbacks.sample(phase, state)
    except Failed as error:
      failed = error
    alone = failed and jax.process_count() == 1  # else others may not save with it
    if callbacks.save and (due(settings.checkpoint_every) or stop or alone):
      meta = {'attempt': attempt, 'unlogged': _lists(unlogged)}
      callbacks.save(done, parallel.fetch(state), meta, scores)
      run.checkpoints.append(done)
    if failed:
      raise failed
    if callbacks.tick:
      callbacks.tick(done)
    if stop and done < settings.steps:
      signum = run.received[0] if run.received else signal.SIGTERM  # in another one
      raise Stopped(signum, done, callbacks.save is not None)
  return state


def _dispatches(run, phase, done, end) -> Iterator[tuple[int, base.Batch]]:
  """(number of steps, their batches on the devices) of every dispatch.

  Dispatches begin at multiples of their size, so that a continued run groups its
  steps as a straight one does.
  """
  size = run.settings.steps_per_dispatch
  batches = _batches(phase, run.make_batches, run.settings, done)
  while done < end:
    num = min(size - done % size, end - done)
    batch = _stack([next(batches) for _ in range(num)])
    yield num, parallel.put_batch(run.layout, batch, leading=1)
    done += num


def _opening(phase, settings, *, first: bool) -> Callable:
  """(batch, previous) -> the state at the beginning of a phase; pure.

  `previous` is the state of the phase before, or what a first phase begins with: the
  model of another run, which all seeds share, or None. It is an argument and no part
  of the closure: a network that a program closes over is compiled into it.
  """

  def one(key, batch, previous):
    noise_key = step_lib.noise_key(key)
    batch = model_space.forward(phase.spec, noise_key, batch)
    if phase.enter is None and not first:
      return previous
    if phase.enter is None:
      state = phase.method.init(key, batch)
    else:
      state = phase.enter(key, previous, batch)
    return step_lib.with_average(state) if settings.ema_decay else state

  def opening(batch, previous):
    keys = jax.vmap(lambda key: step_lib.streams(key).params)(_keys(settings, 0))
    if settings.num_seeds == 1:
      return one(keys[0], batch, previous)
    # One seed after another: batched factorizations side by side in one program, as
    # orthogonal initializations make them, wait for each other for ever on a CPU of few
    # cores (jaxlib 0.10.2).
    parts = None if first else previous._replace(step=())

    def each(inputs):
      key, batch, parts = inputs
      before = previous if first else parts._replace(step=previous.step)
      return one(key, batch, before)

    state = jax.lax.map(each, (keys, batch, parts))
    return state._replace(step=state.step[0])

  return opening


def _open(run, phase, previous: base.State | None) -> base.State:
  """The state at the beginning of a phase, where it is to lie."""
  opening = _opening(phase, run.settings, first=previous is None)
  batch = next(_batches(phase, run.make_batches, run.settings, 0))
  batch = parallel.put_batch(run.layout, batch)
  previous = previous or phase.previous
  shapes = jax.eval_shape(opening, batch, previous)
  shardings = parallel.state_shardings(run.layout, shapes)
  return jax.jit(opening, out_shardings=shardings)(batch, previous)


def _keys(settings: Settings, attempt: int) -> base.Array:
  """[S] root keys; seed s of many is the single run of seed + s."""

  def one(seed):
    key = jax.random.key(seed)
    return jax.random.fold_in(key, attempt) if attempt else key

  return jax.vmap(one)(settings.seed + np.arange(settings.num_seeds))


def _batches(phase, make_batches, settings, start) -> Iterator[base.Batch]:
  """Batches of one step, with a leading axis of seeds if there are several."""
  seeds = range(settings.seed, settings.seed + settings.num_seeds)
  streams = [make_batches(phase, seed, start) for seed in seeds]
  return streams[0] if len(streams) == 1 else map(_stack, zip(*streams, strict=True))


def _stack(trees: Any) -> base.Batch:
  return jax.tree.map(lambda *xs: np.stack(xs), *trees)


def _fetch(pending: list, settings: Settings, attempt: int) -> list[dict]:
  """Metrics of finished steps, on the host; raises Diverged at a bad number."""
  fetched = []
  for start, metrics in pending:
    metrics = parallel.fetch(metrics)
    bad = np.argwhere(metrics['finite'] == 0)
    if len(bad) and settings.on_nan != 'skip':
      first = {k: v[tuple(bad[0])] for k, v in metrics.items()}
      raise Diverged(
        f'{_complaint(first)} after step {start + bad[0][0] + 1}'
        + (f' of seed {settings.seed + bad[0][1]}' if settings.num_seeds > 1 else ''),
        attempt,
      )
    fetched.append(metrics)
  return fetched


def _complaint(metrics: dict) -> str:
  """The complaint about a bad step, by its metrics on the host."""
  names = [k for k, v in metrics.items() if not np.isfinite(v)]
  beyond = {k: v for k, v in step_lib.diverging(metrics).items() if metrics[k]}
  if names or not beyond:
    return f'{", ".join(sorted(names)) or "a parameter"} is not finite'
  words = [f'the {name.replace("_", " ")}' for name in beyond.values()]
  return f'{" and ".join(words)} is above its limit'


def _lists(fetched: list[dict]) -> dict[str, list]:
  """Metrics of several dispatches as JSON; `np.float32` of each reads them back."""
  if not fetched:
    return {}
  stacked = jax.tree.map(lambda *xs: np.concatenate(xs), *fetched)
  return {k: v.tolist() for k, v in stacked.items()}


def _means(fetched: list[dict]) -> dict[str, np.ndarray]:
  """The mean of each metric over the finite steps, [S] or []; NaN without any.

  Of `finite` itself, and of what says that a method diverged, over all steps.
  """
  stacked = jax.tree.map(lambda *xs: np.concatenate(xs), *fetched)
  always = {'finite', *step_lib.diverging(stacked)}
  weight = stacked['finite']
  count = np.where(weight.sum(0) > 0, weight.sum(0), np.nan)
  return {
    k: v.mean(0) if k in always else np.where(weight > 0, v, 0).sum(0) / count
    for k, v in stacked.items()
  }
