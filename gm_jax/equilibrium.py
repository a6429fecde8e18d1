"""Fields that rest at data: how they decay there, and the energies that they descend.

A decay c(g) says how long the field is at x_g = g x + (1 - g) e, data at g = 1, noise
at 0. An energy is a function of x and of a network's output F(x), `[B, ...]` each, to
`[B]`; the field is its gradient in x.

Source: Equilibrium Matching: Generative Modeling with Implicit Energy-Based Models,
Wang and Du, 2025, arXiv:2510.02300; the numbers are those of its code.

  >>> import jax.numpy as jnp
  >>> from gm_jax import equilibrium
  >>> print(equilibrium.truncated(0.5)(jnp.array([0.0, 0.5, 0.75, 1.0])))
  [4. 4. 2. 0.]
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gm_jax import base

Array = base.Array
Decay = Callable[[Array], Array]  # g [B] -> c(g) [B]
Energy = Callable[[Array, Array], Array]  # (x, F(x)) -> E [B]
Field = Callable[[Array], Array]  # x [B, ...] -> [B, ...]


def truncated(threshold: float = 0.8, scale: float = 4.0) -> Decay:
  """Returns c(g) = scale min(1, (1 - g) / (1 - threshold)).

  Args:
    threshold: a in [0, 1), from which it falls; with 0 it is a line.
    scale: lambda > 0, what it is before.

  Raises:
    ValueError: a number out of range.
  """
  if not 0 <= threshold < 1 or not scale > 0:
    raise ValueError(
      f'threshold must be in [0, 1) and scale > 0, got {threshold} and {scale}'
    )
  return lambda g: scale * jnp.minimum(1.0, (1.0 - g) / (1.0 - threshold))


def dot(x: Array, output: Array) -> Array:
  """The energy x . F(x), `[B]`."""
  return jnp.sum((x * output).reshape(len(x), -1), axis=1)


def squared_norm(x: Array, output: Array) -> Array:
  """The energy |F(x)|^2 / 2, `[B]`.

  Where F is 0, as a network's whose last layer begins so, its gradient is 0, and so is
  that in the network's parameters: such a network learns nothing.
  """
  del x
  return 0.5 * jnp.sum(jnp.square(output.reshape(len(output), -1)), axis=1)


def field(energy: Energy | None, network: Field) -> Field:
  """Returns the gradient of an energy, x `[B, ...]` -> `[B, ...]`.

  Args:
    energy: of x and the network's output; None: the output is the field.
    network: F, each example of its own.
  """
  if energy is None:
    return network
  return jax.grad(lambda x: energy(x, network(x)).sum())
