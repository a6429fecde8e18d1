"""Ordinary differential equations of batches, and the trace of their Jacobians.

An equation is a field (t [], state, args) -> d state / dt, whose state is an array
[B, ...] or a tree of such; t is time. All examples of a batch are solved by the same
steps, such that no number's local error exceeds the tolerance: an example's solution
depends on the others of its batch by no more than that. Log-densities are in nats.

Let J be the Jacobian of an example's map. Its trace, which is the rate at which a flow
changes volumes, is had from products with directions e_k,

  tr J = sum_k e_k . J e_k   over the basis, or   E eps . J eps,   E eps eps' = I

Source: Neural Ordinary Differential Equations, Chen et al., 2018, arXiv:1806.07366;
FFJORD: Free-form Continuous Dynamics for Scalable Reversible Generative Models,
Grathwohl et al., 2019, arXiv:1810.01367, section 3.1.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gm_jax import base

FIRST = 0.05  # step that is tried, of the time from start to end
# (field, start, end, state, args) -> (state at the end, [] int32 evaluations of field)
Solve = Callable[..., tuple[base.PyTree, base.Array]]


def adaptive(
  *,
  rtol: float = 1e-5,
  atol: float = 1e-5,
  max_steps: int = 1000,
  adjoint: Any = None,
) -> Solve:
  """Returns the solver by Tsitouras' pair of orders 5 and 4, its steps as it needs.

  Args:
    rtol: tolerance of a step's error, relative to each number.
    atol: the absolute one, added to that; float32 itself rounds a number by 6e-8 of it.
    max_steps: after which a solve is given up: the result is then NaN.
    adjoint: diffrax's way to the gradient. None is its RecursiveCheckpointAdjoint: the
      derivative of the steps that were made, most of them computed again.

  Returns:
    A function (field, start, end, state, args), start and end numbers, differentiable
    in state and args. It gives the state at `end`, and `[]` int32, how often it
    evaluated the field.

  Raises:
    ValueError: a tolerance or number of steps that is not above 0.
  """
  for name, value in {'rtol': rtol, 'atol': atol, 'max_steps': max_steps}.items():
    if not value > 0:
      raise ValueError(f'{name} must be > 0, got {value}')

  def solve(field, start, end, state, args):
    import diffrax  # Here, for they take a second to import.
    import optimistix

    way = diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint
    if adjoint is None and jax.sharding.get_abstract_mesh().manual_axes:
      # One program a device: there that one fails, patrick-kidger/diffrax issue 765,
      # and this has the same derivative, slower.
      way = diffrax.DirectAdjoint()
    found = diffrax.diffeqsolve(
      diffrax.ODETerm(field),
      diffrax.Tsit5(),
      start,
      end,
      FIRST * (end - start),
      state,
      args,
      stepsize_controller=diffrax.PIDController(rtol, atol, norm=optimistix.max_norm),
      adjoint=way,
      max_steps=max_steps,
      throw=False,  # An error that the host raises compiles for one machine alone.
    )
    is_solved = found.result == diffrax.RESULTS.successful
    last = jax.tree.map(
      lambda y, first: jnp.where(is_solved, y[0], jnp.nan).astype(first.dtype),
      found.ys,
      state,
    )
    # A step has seven stages, the first of which is the last of the step before.
    return last, 6 * found.stats['num_steps'] + 1

  return solve


class Trace(NamedTuple):
  """How a trace is had from products with directions."""

  directions: Callable  # (key, num, z [B, ...]) -> [K, B, ...]
  reduce: Callable  # e_k . J e_k [K, B], or integrals of it -> trace [B]
  density: base.Density  # of a flow whose changes of volume are had by it


def basis(key: base.Array | None, num: int, z: base.Array) -> base.Array:
  """Unit vectors `[D, B, ...]`, D numbers an example; neither key nor `num` is used."""
  del key, num
  size = math.prod(z.shape[1:])
  each = jnp.eye(size, dtype=z.dtype).reshape(size, 1, *z.shape[1:])
  return jnp.broadcast_to(each, (size, *z.shape))


def rademacher(key: base.Array, num: int, z: base.Array) -> base.Array:
  """Directions `[num, B, ...]` of numbers that are -1 or 1, each with probability 1/2.

  Of all noise of mean 0 and covariance I, Hutchinson's estimate has the smallest
  variance by this one; of a diagonal Jacobian it is exact.
  """
  return jax.random.rademacher(key, (num, *z.shape), z.dtype)


EXACT = Trace(basis, functools.partial(jnp.sum, axis=0), 'exact')
HUTCHINSON = Trace(rademacher, functools.partial(jnp.mean, axis=0), 'estimate')


def along(
  fn: Callable, z: base.Array, directions: base.Array
) -> tuple[base.Array, base.Array]:
  """The value of a map, and e . J e for several directions e.

  Args:
    fn: from `[B, ...]` to `[B, ...]`, example by example.
    z: `[B, ...]`.
    directions: e, `[K, B, ...]`.

  Returns:
    `[B, ...]` fn(z), and `[K, B]` the products.

  Raises:
    ValueError: fn(z) is not of the shape of z.
  """
  value, push = jax.linearize(fn, z)
  if value.shape != z.shape:
    raise ValueError(f'the velocity must be {z.shape} as its z, got {value.shape}')
  products = jax.vmap(push)(directions) * directions
  return value, products.reshape(*products.shape[:2], -1).sum(axis=2)
