"""What laboratories share: many seeds trained at once on data drawn on the device."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import quiet
from gm_jax import base, statistics
from gm_jax.training import loop
from gm_jax.training import step as step_lib


class Trained(NamedTuple):
  """What many seeds came to."""

  state: base.State  # with a leading axis of seeds S, but for `step`
  keys: base.Array  # [S], the seeds' own
  metrics: dict[str, Any]  # means over the last dispatch, [S]
  seconds: float  # of training alone, at the rate of its second half


def train(
  method: base.Method,
  draw: Callable[[base.Array], base.Batch],
  *,
  seeds: int,
  first_seed: int,
  steps: int,
  dispatch: int,
  ema_decay: float = 0.0,
  begin: Callable[[base.State, base.Array], base.State] | None = None,
) -> Trained:
  """Trains a method from many seeds at once, each on data of its own, by vmap.

  A step that gives a number that is not finite is undone: a seed that runs off stands
  still, and the others go on.

  Args:
    method: what is trained.
    draw: key -> batch; a seed's i-th batch is drawn by its key folded with i.
    seeds: S.
    first_seed: the others follow it.
    steps: a multiple of twice `dispatch`.
    dispatch: steps in one call of a compiled function.
    ema_decay: of the parameters' average; 0 for none.
    begin: (state, number of the seed) -> the state before the first step, or None.

  Raises:
    ValueError: `steps` is not a multiple of twice `dispatch`.
    loop.Diverged: no seed had a finite step for a whole dispatch.
  """
  if steps < 1 or steps % (2 * dispatch):
    raise ValueError(f'steps must be a multiple of {2 * dispatch}, got {steps}')
  settings = loop.Settings(
    steps,
    seed=first_seed,
    num_seeds=seeds,
    steps_per_dispatch=dispatch,
    log_every=dispatch,
    ema_decay=ema_decay,
    on_nan='skip',
  )
  trained = quiet.train_on_draws(method, draw, settings, begin=begin)
  metrics = {name: np.atleast_1d(v) for name, v in trained.logs[-1][1].items()}
  seconds = 2.0 * quiet.seconds(trained, after=steps // 2)
  keys = jax.vmap(jax.random.key)(first_seed + jnp.arange(seeds))
  return Trained(quiet.by_seed(trained.state, seeds), keys, metrics, seconds)


def scored(trained: Trained, score: Callable) -> dict[str, np.ndarray]:
  """`score(model, key) -> {name: []}` of every seed, [S], by keys of their own."""
  keys = jax.vmap(lambda key: step_lib.streams(key).inference)(trained.keys)
  model = step_lib.model(trained.state)
  return jax.device_get(jax.jit(jax.vmap(score))(model, keys))


def mean_and_error(values: np.ndarray, form: str) -> str:
  """'mean +- standard error' over seeds; the mean alone of one, or where infinite."""
  return statistics.text(*statistics.mean_and_error(np.atleast_1d(values)), form)


def drawn(trained: Trained, method: base.Method, num: int) -> np.ndarray:
  """[num, ...] samples of the first seed, in model space."""
  model = jax.tree.map(lambda x: x[0], step_lib.model(trained.state))
  return np.asarray(method.sample(model, jax.random.key(0), num))
