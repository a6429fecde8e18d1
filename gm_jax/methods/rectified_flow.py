"""Rectified flow: a flow from noise to data, made straight by its own samples.

  min_v E |v(x_t, t) - (e - x)|^2,   x_t = (1 - t) x + t e,   t in [0, 1]

Phase one is flow matching: x and e are independent. In each further phase, a reflow, x
is where the frozen flow of the phase before carries e. The marginals stay, no convex
cost of the coupling rises, and paths become straight: with v = e - x along each of them
one step of Euler's is exact. A reflow never sees data: every step draws noise and
solves the frozen flow by a few of Heun's steps. Each pair of noise and image stands at
several times of the batch, which is cheaper and as unbiased.

Source: Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified
Flow, Liu et al., 2023, arXiv:2209.03003, algorithm 1.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import (  # fmt: skip
  base,
  conditions,
  denoisers,
  diffusion,
  gradient,
  players,
  processes,
  times,
)
from gm_jax.methods import flow_matching
from gm_jax.samplers import diffusion as samplers
from gm_jax.samplers import paths

PROCESS, FLOW = processes.rectified(), 'flow'  # the frozen network's name


class Reflow(NamedTuple):
  """How pairs of noise and image are made."""

  solver_steps: int = 10  # N of Heun's along the frozen flow, 2N - 1 evaluations
  repeats: int = 8  # of a pair: a batch of B has B / repeats of them, rounded up


def rectified_flow(
  network: nn.Module,
  tx: optax.GradientTransformation,
  *,
  shape: Sequence[int],
  reflow: Reflow | None = None,
  draw: Callable[[processes.Process], times.Times] = times.uniform,
  condition: conditions.Condition | None = None,
  num_steps: int = 50,
) -> base.Method:
  """A flow of independent noise and data, or of noise and its images under a flow.

  Args:
    network: v, (x `[B, *shape]`, 1000 t `[B]`, condition, train) -> `[B, *shape]`.
    tx: the optimizer.
    shape: of an example.
    reflow: None is the first flow; else there is a frozen flow of the same network,
      random at first: `after_flow` puts that of the phase before.
    draw: of the times, of the process.
    condition: of the network, or None; `optional`, it can be guided to. The images of a
      reflow are of the batch's.
    num_steps: the default of sampling.

  Returns:
    The method, with the query `sample_info`, see `paths.straightness`. Options of
    sampling: `num_steps`, `sampler`, `guidance`.

  Raises:
    ValueError: a number of `reflow` below 1; when called, data of another shape.
  """
  parts = diffusion.Denoising(
    network, PROCESS, denoisers.FLOW, shape, times.even(PROCESS), condition,
    flow_matching.SAMPLERS,
  )  # fmt: skip
  method = diffusion.method(parts, tx, draw(PROCESS), num_steps=num_steps)
  if reflow is not None:
    loss_fn = _reflow_loss(parts, reflow, draw(PROCESS))
    own = gradient.from_loss(loss_fn, tx, _reflow_init(parts), card=method.card)
    method = method._replace(init=own.init, step=own.step)

  def sample_info(model, key, num, *, condition=None, num_steps=num_steps):
    denoise = diffusion.denoiser(parts, model, num, condition)
    noise = jax.random.normal(key, (num, *shape))
    return paths.straightness(denoise, PROCESS, noise, parts.grid, num_steps)

  return method._replace(queries={**method.queries, 'sample_info': sample_info})


def _reflow_init(parts: diffusion.Denoising) -> Callable:
  start = diffusion.init(parts)

  def init(key, batch):
    (params, extra), frozen = (start(own, batch) for own in jax.random.split(key))
    return params, {**extra, base.FROZEN: {FLOW: base.Model(*frozen)}}

  return init


def _reflow_loss(parts, reflow: Reflow, draw: times.Times) -> Callable:
  num_steps, repeats = reflow
  if min(reflow) < 1:
    raise ValueError(f'solver_steps and repeats must be >= 1, got {reflow}')

  def pairs(frozen, key, batch):
    """The batch `[N, ...]` with images in the place of data, and their noise."""
    noise = jax.random.normal(key, batch['x'].shape, batch['x'].dtype)
    value = conditions.from_batch(parts.condition, batch)
    denoise = diffusion.denoiser(parts, frozen, len(noise), value)
    x = samplers.heun(denoise, PROCESS, None, noise, parts.grid, num_steps)
    return {**batch, 'x': x}, noise

  def loss_fn(params, extra, key, batch):
    num = len(diffusion.checked(parts, batch['x']))
    pair_key, t_key, key = jax.random.split(key, 3)
    some = jax.tree.map(lambda v: v[::repeats], dict(batch))
    images, noise = jax.tree.map(
      lambda v: jnp.repeat(v, repeats, axis=0)[:num],
      pairs(extra[base.FROZEN][FLOW], pair_key, some),
    )
    t = draw(t_key, num)
    error = diffusion.errors(parts, params, key, images, t, lambda x, drawn: noise)
    return error.mean(), (extra, {})

  return loss_fn


def after_flow(method: base.Method) -> Callable:
  """The `Phase.enter` of a reflow, which begins as the flow that it freezes.

  Args:
    method: with `reflow`.

  Returns:
    (key, state of the flow before, batch) -> state of `method` at the same step.
  """
  enter = players.after_frozen(method, FLOW)

  def begin(key, previous, batch):
    # Without the flow that the one before was made of.
    state = enter(key, previous._replace(extra={}), batch)
    return state._replace(params=jax.tree.map(jnp.copy, previous.params))

  return begin
