"""Descent of a field: gradient steps, with Nesterov's momentum, of every example.

  y_k = x_k + mu (x_k - x_{k-1});   x_{k+1} = y_k - s f(y_k),   x_{-1} = x_0

With mu = 0 it is gradient descent of an energy whose gradient f is. Of the quadratic
energy a x^2 / 2 an example is at (1 - s a)^k x_0 after k steps of that, and with
momentum at what r_{k+1} = (1 - s a) ((1 + mu) r_k - mu r_{k-1}) says, times x_0; both
run off where s a is too large. No noise is added: what is random is where one begins.

Source: A method for solving the convex programming problem with convergence rate
O(1/k^2), Nesterov, 1983, Doklady 269, with a momentum that is constant.

  >>> import jax.numpy as jnp
  >>> from gm_jax.samplers import descent
  >>> print(descent.descend(lambda x: x, jnp.ones(2), descent.Steps(3, 0.5)))
  [0.125 0.125]
"""

from collections.abc import Callable
from typing import NamedTuple

import jax

from gm_jax.samplers import mcmc

Array = jax.Array
Field = Callable[[Array], Array]  # x [B, ...] -> [B, ...]


class Steps(NamedTuple):
  """How a descent is made.

  num_steps: of one evaluation of the field each; may be traced.
  step_size: s > 0.
  momentum: mu in [0, 1).
  """

  num_steps: int | Array
  step_size: Array | float
  momentum: Array | float = 0.0


def check_steps(steps: Steps) -> None:
  """Raises where a descent cannot be made.

  Args:
    steps: of it; what is traced passes.

  Raises:
    ValueError: a number out of range.
  """
  mcmc.check_step_size(steps.step_size)
  if isinstance(steps.num_steps, int) and steps.num_steps < 1:
    raise ValueError(f'num_steps must be >= 1, got {steps.num_steps}')
  if not isinstance(steps.momentum, jax.Array) and not 0 <= steps.momentum < 1:
    raise ValueError(f'momentum must be in [0, 1), got {steps.momentum}')


def descend(field: Field, x: Array, steps: Steps) -> Array:
  """Goes down a field by steps of one size.

  Args:
    field: f, such as the gradient of an energy.
    x: `[B, ...]`, to begin with.
    steps: how many, how far.

  Returns:
    `[B, ...]`, where it ends.

  Raises:
    ValueError: a number out of range, or a field of another shape than x.
  """
  check_steps(steps)
  num, size, momentum = steps

  def step(_, carry):
    x, before = carry
    ahead = x + momentum * (x - before)
    slope = field(ahead)
    if slope.shape != x.shape:
      raise ValueError(f'the field must be as x, {x.shape}, got {slope.shape}')
    return (ahead - size * slope).astype(x.dtype), x

  return jax.lax.fori_loop(0, num, step, (x, x))[0]
