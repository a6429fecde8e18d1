"""What laboratories share: many seeds trained at once on data drawn on the device."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gm_jax import base, statistics
from gm_jax.training import step as step_lib


class Trained(NamedTuple):
  """What many seeds came to."""

  state: base.State  # with a leading axis of seeds S, but for `step`
  keys: base.Array  # [S], the seeds' own
  metrics: dict[str, Any]  # of the last dispatch, [dispatch, S]
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
  begin: Callable[[base.State], base.State] | None = None,
) -> Trained:
  """Trains a method from many seeds at once, each on data of its own, by vmap.

  Args:
    method: what is trained.
    draw: key -> batch; a seed's i-th batch is drawn by its key folded with i.
    seeds: S.
    first_seed: the others follow it.
    steps: a multiple of `dispatch`.
    dispatch: steps in one call of a compiled function.
    ema_decay: of the parameters' average; 0 for none.
    begin: what the state becomes before the first step, or None.

  Raises:
    ValueError: `steps` is not a multiple of twice `dispatch`.
  """
  if steps < 1 or steps % (2 * dispatch):
    raise ValueError(f'steps must be a multiple of {2 * dispatch}, got {steps}')
  keys = jax.vmap(jax.random.key)(first_seed + jnp.arange(seeds))
  init = functools.partial(step_lib.init, method, averaged=ema_decay > 0)
  blank = jax.tree.map(
    lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(draw, keys[0])
  )
  start = jax.jit(jax.vmap(init, (0, None), step_lib.OVER_SEEDS))
  state = start(keys, blank)
  state = begin(state) if begin else state
  several = step_lib.over_seeds(step_lib.train_step(method, ema_decay=ema_decay))

  @functools.partial(jax.jit, donate_argnums=0)
  def advance(state):
    def drawn(i):
      return jax.vmap(lambda key: draw(jax.random.fold_in(key, i)))(keys)

    return several(state, keys, jax.lax.map(drawn, state.step + jnp.arange(dispatch)))

  state, metrics = jax.block_until_ready(advance(jax.tree.map(jnp.copy, state)))
  num, began = steps // dispatch, 0.0
  for i in range(1, num):
    if i == num // 2:
      jax.block_until_ready(state)
      began = time.perf_counter()
    state, metrics = advance(state)
  jax.block_until_ready(state)
  seconds = 2.0 * (time.perf_counter() - began)
  return Trained(state, keys, jax.device_get(metrics), seconds)


def scored(trained: Trained, score: Callable) -> dict[str, np.ndarray]:
  """`score(model, key) -> {name: []}` of every seed, [S], by keys of their own."""
  keys = jax.vmap(lambda key: jax.random.split(key, 3)[2])(trained.keys)
  model = step_lib.model(trained.state)
  return jax.device_get(jax.jit(jax.vmap(score))(model, keys))


def mean_and_error(values: np.ndarray, form: str) -> str:
  """'mean +- standard error' over seeds; the mean alone of one, or where infinite."""
  return statistics.text(*statistics.mean_and_error(np.atleast_1d(values)), form)


def drawn(trained: Trained, method: base.Method, num: int) -> np.ndarray:
  """[num, ...] samples of the first seed, in model space."""
  model = jax.tree.map(lambda x: x[0], step_lib.model(trained.state))
  return np.asarray(method.sample(model, jax.random.key(0), num))
