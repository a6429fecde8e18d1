"""What every method's step is made of: one gradient step, and cutting a batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import ad_checkpoint

PyTree = Any
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
  """One step of `tx` down the gradient of a loss.

  Args:
    loss_fn: (params, *args) -> ([] loss, aux).
    tx: any optax optimizer.
    params: what is differentiated and updated.
    opt_state: of `tx`.
    *args: passed on to `loss_fn`.

  Returns:
    The new params, the new optimizer state, the [] loss and the aux at the old
    params.
  """
  (loss, aux), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, *args)
  grads = ad_checkpoint.checkpoint_name(grads, GRADIENT)
  updates, opt_state = tx.update(grads, opt_state, params)
  return optax.apply_updates(params, updates), opt_state, loss, aux


def interleaved(batch: PyTree, num_slices: int) -> PyTree:
  """Cuts a batch into slices, example i going to slice i mod n.

  Interleaved, because a batch sharded in blocks over devices then stays sharded
  in every slice; cut in blocks, each slice would live on a few devices only.

  Args:
    batch: leaves [n * B, ...].
    num_slices: n.

  Returns:
    Leaves [n, B, ...].

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
