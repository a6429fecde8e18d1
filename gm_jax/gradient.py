"""Gradient steps, which every method's step is made of, and batches cut in slices."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import ad_checkpoint

from gm_jax import base

PyTree = base.PyTree
# What rematerialization keeps of a step: an optimizer's derivative needs little
# else, and recomputing it costs a backward pass. See `unroll.full`.
GRADIENT = 'gradient'


def gradient_step(
  loss_fn: Callable[..., tuple[jax.Array, PyTree]],
  tx: optax.GradientTransformation,
  params: PyTree,
  opt_state: PyTree,
  *args: PyTree,
) -> tuple[PyTree, PyTree, jax.Array, PyTree]:
  """Takes one step of `tx` down the gradient of a loss.

  Args:
    loss_fn: (params, *args) -> (`[]` loss, aux).
    tx: any optax optimizer.
    params: the pytree that is differentiated and updated.
    opt_state: of `tx`.
    *args: passed on to `loss_fn`.

  Returns:
    The new params, the new optimizer state, the `[]` loss and the aux, the last two
    at the old params.
  """
  (loss, aux), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, *args)
  grads = ad_checkpoint.checkpoint_name(grads, GRADIENT)
  updates, opt_state = tx.update(grads, opt_state, params)
  return optax.apply_updates(params, updates), opt_state, loss, aux


def from_loss(
  loss_fn: Callable[..., tuple[jax.Array, tuple[dict, dict]]],
  tx: optax.GradientTransformation,
  init: Callable[[jax.Array, base.Batch], tuple[PyTree, dict]],
  *,
  card: base.Card,
  sample: Callable | None = None,
  log_prob: Callable | None = None,
  queries: Mapping[str, Callable] = base.NOTHING,
) -> base.Method:
  """Makes a method of one objective, whose step goes down its loss's gradient.

  Args:
    loss_fn: (params, extra, key, batch) -> (`[]` loss, (new extra, metrics)).
    tx: any optax optimizer.
    init: (key, batch) -> (params, extra).
    card: of the method.
    sample: as in `base.Method`, or None.
    log_prob: as in `base.Method`, exact, or None.
    queries: further functions by name, as in `base.Method`.

  Returns:
    The method, whose metrics are `loss` and those of `loss_fn`.
  """

  def method_init(key, batch):
    params, extra = init(key, batch)
    return base.State(jnp.zeros((), jnp.int32), params, extra, tx.init(params), ())

  def step(state, key, batch):
    params, opt_state, loss, (extra, metrics) = gradient_step(
      loss_fn, tx, state.params, state.opt_state, state.extra, key, batch
    )
    state = base.State(state.step + 1, params, extra, opt_state, state.ema)
    return state, {'loss': loss, **metrics}

  return base.Method(card, method_init, step, sample, log_prob, queries)


def interleaved(batch: PyTree, num_slices: int) -> PyTree:
  """Cuts a batch into slices, example i going to slice i mod n.

  Interleaved, because a batch sharded in blocks over devices then stays sharded
  in every slice; cut in blocks, each slice would live on a few devices only.

  Args:
    batch: leaves `[n * B, ...]`.
    num_slices: n.

  Returns:
    Leaves `[n, B, ...]`.

  Raises:
    ValueError: a leading axis is not divisible by n.
  """

  def cut(x):
    if x.shape[0] % num_slices:
      raise ValueError(
        f'a batch of {x.shape[0]} examples cannot be cut into {num_slices} equal'
        f' slices; make the batch size a multiple of {num_slices}'
      )
    return jnp.moveaxis(x.reshape(-1, num_slices, *x.shape[1:]), 1, 0)

  return jax.tree.map(cut, batch)


def accumulated(loss_fn: Callable[..., Any], num_accumulate: int) -> Callable[..., Any]:
  """The mean of a loss over slices of its batch, one slice in memory at a time.

  The loss is a mean over `interleaved` slices, in a scan that computes each again in
  the backward pass: the gradient takes the activations of one slice. It can be
  differentiated again, so that an inner step of an unrolled optimization may take it.
  Batch-coupled losses (batch normalization, relativistic averages) are coupled within
  a slice only; for all others the gradient is that of the whole batch.

  Args:
    loss_fn: (params, model_state, key, *batch) -> (`[]` loss, (model_state,
      metrics)), the loss a mean over the leading axis of the batch's leaves.
    num_accumulate: n; 1 returns `loss_fn` itself.

  Returns:
    A function like `loss_fn`: every slice has a key of its own, `model_state` is
    carried from slice to slice, loss and metrics are means over the slices.

  Raises:
    ValueError: `num_accumulate` is below 1; when called, the batch is not divisible.
  """
  if num_accumulate < 1:
    raise ValueError(f'num_accumulate must be >= 1, got {num_accumulate}')
  if num_accumulate == 1:
    return loss_fn

  def mean_loss(params, model_state, key, *batch):
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def body(model_state, inputs):
      key, batch = inputs
      loss, (model_state, metrics) = loss_fn(params, model_state, key, *batch)
      return model_state, (loss, metrics)

    keys = jax.random.split(key, num_accumulate)
    slices = keys, interleaved(batch, num_accumulate)
    model_state, each = jax.lax.scan(body, model_state, slices)
    loss, metrics = jax.tree.map(lambda value: value.mean(0), each)
    return loss, (model_state, metrics)

  return mean_loss


def clip_weights(limit: float) -> optax.GradientTransformation:
  """Returns a transformation that keeps parameters in [-limit, limit]; chain it last.

  Source: Wasserstein GAN, Arjovsky et al., 2017, arXiv:1701.07875, algorithm 1, which
  clips the critic's weights to 0.01.

  Args:
    limit: > 0, in the parameters' unit.

  Returns:
    The transformation, whose update needs the parameters.

  Raises:
    ValueError: `limit` is not above 0; when called, without parameters.
  """
  if not limit > 0:
    raise ValueError(f'limit must be > 0, got {limit}')

  def clip(updates, params):
    if params is None:
      raise ValueError('clip_weights needs the parameters: pass params to update')
    return jax.tree.map(
      lambda u, p: jnp.clip(p + u, -limit, limit) - p, updates, params
    )

  return optax.stateless(clip)


def clip_by_global_norm(limit: float) -> optax.GradientTransformation:
  """Returns a transformation that shortens gradients to a norm of at most `limit`.

  g min(1, limit / |g|), with the norm over all leaves

  As `optax.clip_by_global_norm`, but with a derivative at g = 0 too, the identity: that
  of a square root there is infinite, and NaN in an unrolled gradient.

  Source: On the difficulty of training Recurrent Neural Networks, Pascanu et al., 2012,
  arXiv:1211.5063, section 3.2.

  Args:
    limit: > 0, of the gradient's global norm.

  Returns:
    The transformation, without a state.

  Raises:
    ValueError: `limit` is not above 0.
  """
  if not limit > 0:
    raise ValueError(f'limit must be > 0, got {limit}')

  def clip(updates, params):
    del params
    square = sum(jnp.sum(jnp.square(u)) for u in jax.tree.leaves(updates))
    # The inner `where` keeps the root's infinite slope at 0 out of the gradient.
    norm = jnp.sqrt(jnp.where(square > 0, square, 1.0))
    within = (square == 0) | (norm < limit)
    return jax.tree.map(
      lambda u: jnp.where(within, u, u / norm.astype(u.dtype) * limit), updates
    )

  return optax.stateless(clip)


class SkipState(NamedTuple):
  """The state of `skip_large`."""

  inner: PyTree  # of the optimizer
  gradient_norm: jax.Array  # [] of the last gradient, before anything
  skipped: jax.Array  # [] int32, steps that were left out


def skip_large(
  tx: optax.GradientTransformation, limit: float
) -> optax.GradientTransformation:
  """An optimizer that leaves out steps whose gradient is far too large.

  Such a step changes neither the parameters nor the optimizer's own state, and is
  counted: `optax.tree_utils.tree_get(opt_state, 'skipped')`. A gradient that is not
  finite is no large one: it is applied, so that training sees that something is wrong.

  Source: Very Deep VAEs Generalize Autoregressive Models and Can Outperform Them on
  Images, Child, 2021, arXiv:2011.10650, section 3.1.

  Args:
    tx: the optimizer.
    limit: > 0, of the gradient's global norm.

  Returns:
    The optimizer, whose state is a `SkipState`.

  Raises:
    ValueError: `limit` is not above 0.
  """
  if not limit > 0:
    raise ValueError(f'limit must be > 0, got {limit}')

  def init(params):
    zero = jnp.zeros((), jnp.float32)
    return SkipState(tx.init(params), zero, jnp.zeros((), jnp.int32))

  def update(grads, state, params=None):
    norm = optax.tree.norm(grads).astype(jnp.float32)
    updates, inner = tx.update(grads, state.inner, params)
    skip = (norm > limit) & jnp.isfinite(norm)

    def unless_skipped(new, old):
      return jnp.where(skip, old, new)

    updates = jax.tree.map(lambda u: unless_skipped(u, jnp.zeros_like(u)), updates)
    inner = jax.tree.map(unless_skipped, inner, state.inner)
    return updates, SkipState(inner, norm, state.skipped + skip)

  return optax.GradientTransformation(init, update)
