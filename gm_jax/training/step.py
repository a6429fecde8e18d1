"""Turns a Method into the function that a training loop calls; pure.

The root key is folded with `state.step`, so a resumed run draws what a straight
one would and no key is stored. Several steps run in one dispatch, as a scan
over stacked batches. `ema` averages params and the collections of `base.AVERAGED`
together, its decay warming up so that a short run's average is not its start.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gm_jax import base, model_space

# Every part of State has a leading axis of seeds, but `step`: a mapped step
# would turn every `lax.cond` on it into a select.
OVER_SEEDS: Any = base.State._make((None, 0, 0, 0, 0))
_NOISE = 0x6E6F6973  # far above the numbers that `split` counts by


WARM_UP = 10.0  # steps; the decay reaches 0.9 after 81 and 0.99 after 890


class Streams(NamedTuple):
  """Keys of a run beside those of its steps, which fold in a step."""

  data: base.Array  # of data drawn on the device
  params: base.Array  # of first parameters
  inference: base.Array  # of evaluation and samples


def streams(root_key: base.Array) -> Streams:
  """The named streams of a run's root key."""
  return Streams(*jax.random.split(root_key, 3))


def noise_key(key: base.Array) -> base.Array:
  """The key of the data's noise in a step: a stream of its own."""
  return jax.random.fold_in(key, _NOISE)


def init(
  method: base.Method, key: base.Array, batch: base.Batch, *, averaged: bool = False
) -> base.State:
  """The state before the first step.

  Args:
    method: what is trained.
    key: of the parameters.
    batch: one batch, for shapes and data-dependent initialization.
    averaged: whether `ema` is kept; it starts as a copy of the parameters.
  """
  state = method.init(key, batch)
  return with_average(state) if averaged else state


def with_average(state: base.State) -> base.State:
  """The state with `ema` begun at its parameters.

  As a copy and not an alias: the same buffer cannot be donated twice.
  """
  copied = jax.tree.map(jnp.copy, _averaged_part(state))
  return state._replace(ema={'count': jnp.zeros((), jnp.int32), **copied})


def model(state: base.State, *, averaged: bool = True) -> base.Model:
  """Returns the average where one is kept, else the parameters, for inference."""
  if not averaged or not state.ema:
    return base.Model(state.params, state.extra)
  averages = {name: state.ema[name] for name in base.AVERAGED if name in state.ema}
  return base.Model(state.ema['params'], {**state.extra, **averages})


def train_step(
  method: base.Method,
  *,
  spec: base.DataSpec | None = None,
  ema_decay: float = 0.0,
  skip_bad: bool = False,
) -> Callable[[base.State, base.Array, base.Batch], tuple[base.State, dict]]:
  """Several steps of a method in one call.

  Args:
    method: what is trained.
    spec: of the batches' raw data, which it takes to model space; None where they
      are in it.
    ema_decay: of the average a step, ema <- d ema + (1 - d) new, where d is the
      smaller of this decay and (1 + t) / (10 + t) after t steps of averaging; 0
      for a state without an average.
    skip_bad: a step that gives a NaN or an infinity, or by which the method has
      diverged (`base.DIVERGED`), is undone, whole state but the step counter.

  Returns:
    (state, root key, batches with leaves [n, B, ...]) -> (state, metrics with
    leaves [n]); `finite` is 1 where params, extra and metrics all are, and the method
    has not diverged.
  """

  def one(root_key, state, batch):
    key = jax.random.fold_in(root_key, state.step)
    if spec:
      batch = model_space.forward(spec, noise_key(key), batch)
    new, metrics = method.step(state, key, batch)
    if ema_decay:
      new = new._replace(ema=_average(state.ema, new, ema_decay))
    finite = _all_finite((new.params, new.extra, dict(metrics)))
    for name in diverging(metrics):
      finite &= metrics[name] == 0
    if skip_bad:
      kept = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, state)
      new = kept._replace(step=new.step)
    return new, {**metrics, 'finite': finite.astype(jnp.float32)}

  def steps(state, key, batches):
    return jax.lax.scan(lambda s, b: one(key, s, b), state, batches)

  return steps


def over_seeds(steps: Callable) -> Callable:
  """`train_step`'s function for many seeds at once, by vmap.

  Args:
    steps: from `train_step`.

  Returns:
    The same for a state with a leading axis of seeds S on everything but
    `step`, keys [S], batches [n, S, B, ...]; metrics come as [n, S].
  """
  return jax.vmap(steps, in_axes=(OVER_SEEDS, 0, 1), out_axes=(OVER_SEEDS, 1))


def diverging(metrics: Mapping) -> dict[str, str]:
  """Metrics that say whether a method has diverged, and of what they say it."""
  prefix = f'{base.DIVERGED}_'
  return {k: k.removeprefix(prefix) for k in metrics if k.startswith(prefix)}


def _averaged_part(state: base.State) -> dict:
  collections = {c: state.extra[c] for c in base.AVERAGED if c in state.extra}
  return {'params': state.params, **collections}


def _average(ema: dict, state: base.State, limit: float) -> dict:
  count = ema['count'].astype(jnp.float32)
  decay = jnp.minimum(limit, (1.0 + count) / (WARM_UP + count))

  def one(old, new):
    if not jnp.issubdtype(new.dtype, jnp.inexact):
      return new  # a counter has no average
    weight = decay.astype(new.dtype)
    return weight * old + (1 - weight) * new

  new = _averaged_part(state)
  averaged = jax.tree.map(one, {name: ema[name] for name in new}, new)
  return {'count': ema['count'] + 1, **averaged}


def _all_finite(tree: base.PyTree) -> base.Array:
  floats = [
    x for x in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(x), jnp.inexact)
  ]
  return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in floats]))
