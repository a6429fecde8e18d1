"""Training without files: by the one loop, from a config or on data drawn as it goes.

What the comparisons and the demo have in common. Nothing is written, and nothing is
printed but what the callbacks do; metrics and seconds come back with the state.
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gm_jax import base
from gm_jax.data import transforms
from gm_jax.training import loop, parallel
from gm_jax.training import setup as setup_lib


class Trained(NamedTuple):
  """A run that came to its end."""

  state: base.State  # as of `loop.train`
  logs: tuple[tuple[int, dict], ...]  # (step, means since the log before, by name)
  wall: float  # seconds in all, compilation included


def train(
  phases: tuple[base.Phase, ...],
  make_batches: Callable[[base.Phase, int, int], Iterator[base.Batch]],
  settings: loop.Settings,
  *,
  evaluate: Callable | None = None,
  sample: Callable | None = None,
  tick: Callable | None = None,
  layout: parallel.Layout | None = None,
) -> Trained:
  """Trains by `loop.train`, which see, and keeps what it logs."""
  logs: list[tuple[int, dict]] = []
  began = time.perf_counter()
  state = loop.train(
    lambda attempt: phases,
    make_batches,
    settings,
    loop.Callbacks(
      log=lambda *log: logs.append(log), evaluate=evaluate, sample=sample, tick=tick
    ),
    mesh=layout and layout.mesh,
    split_seeds=bool(layout and layout.split_seeds),
  )
  jax.block_until_ready(state)
  return Trained(state, tuple(logs), time.perf_counter() - began)


def train_config(setup: setup_lib.Setup, **callbacks: Callable) -> Trained:
  """Trains what a config was turned into, from the beginning to the end.

  Args:
    setup: of `training.setup.prepare`.
    **callbacks: `evaluate`, `sample` and `tick`, as of `loop.Callbacks`.
  """
  batches = setup_lib.batches(setup)
  phases, layout = setup.make_phases(0), setup.layout
  return train(phases, batches, setup.settings, layout=layout, **callbacks)


def train_on_draws(
  method: base.Method,
  draw: Callable[[base.Array], base.Batch],
  settings: loop.Settings,
  *,
  begin: Callable[[base.State, base.Array], base.State] | None = None,
  evaluate: Callable | None = None,
) -> Trained:
  """Trains a method on batches drawn on the device, each seed on its own.

  A seed's key begins its parameters; its i-th batch is drawn by the key folded with i.
  All of it is on the first device.

  Args:
    method: what is trained.
    draw: key -> batch, in model space.
    settings: of the run.
    begin: (state, number of the seed from 0) -> the state before the first step, or
      None.
    evaluate: of `loop.Callbacks`.
  """
  dispatch = settings.steps_per_dispatch
  shapes = jax.eval_shape(draw, jax.random.key(0))

  @jax.jit
  def block(seed, start):
    key = jax.random.key(seed)
    steps = start + jnp.arange(dispatch)
    return jax.lax.map(lambda i: draw(jax.random.fold_in(key, i)), steps)

  def batches(phase, seed, start):
    first = start - start % dispatch
    while True:
      drawn = jax.device_get(block(seed, first))
      for i in range(max(0, start - first), dispatch):
        # The seed goes along, since a phase is entered with a stream of its key.
        yield {**{k: v[i] for k, v in drawn.items()}, _SEED: np.array([seed])}
      first += dispatch

  def enter(key, previous, batch):
    del key, previous
    blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    seed = batch[_SEED][0]
    state = method.init(jax.random.key(seed), blank)
    return begin(state, seed - settings.seed) if begin else state

  x = shapes['x']
  spec = base.DataSpec(x.shape[1:], x.dtype, None, None, None, transforms.identity())
  phase = base.Phase(method, settings.steps, spec, enter)
  mesh = parallel.device_mesh(jax.devices()[:1])
  layout = parallel.Layout(mesh, settings.num_seeds > 1, False)
  return train((phase,), batches, settings, layout=layout, evaluate=evaluate)


_SEED = 'seed'  # a batch key of this file's own


def seconds(trained: Trained, *, after: int = 0) -> float:
  """Seconds of the steps after a step, without compilation and evaluation."""
  steps = [0, *(step for step, _ in trained.logs)]
  rates = [float(metrics['steps_per_second']) for _, metrics in trained.logs]
  parts = zip(steps, steps[1:], rates, strict=False)
  return sum((end - start) / rate for start, end, rate in parts if start >= after)


def by_seed(state: base.State, num_seeds: int) -> base.State:
  """The state with a leading axis of seeds, which a single seed does not have."""
  if num_seeds > 1:
    return state
  return jax.tree.map(lambda x: x[None], state)._replace(step=state.step)
