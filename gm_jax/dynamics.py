"""Dynamics of the players of a game: vector fields, and steps along them.

A game of parameters w = (w_1, ..., w_n) has the field of each player's gradient of
its own loss,

  v(w) = (dL_1/dw_1, ..., dL_n/dw_n),   J = dv/dw,

which is no gradient of one function: J is not symmetric, and its antisymmetric part
rotates the players around a solution. A dynamics is a way to step along -v:

  `simultaneous`   both at once; runs away from the solution of a bilinear game
  `extragradient`  along v at a point looked ahead to; converges there
  `consensus`      along v + gamma J^T v: also down |v|^2 / 2
  `symplectic`     along v + lambda A^T v, A = (J - J^T) / 2: against the rotation only

Optimistic steps are `simultaneous` with `optax.optimistic_gradient_descent` or
`optax.optimistic_adam`; two time scales are two learning rates.

All have one signature, `(field, update, params, opt_state) -> (params, opt_state,
aux)`, with `field(params) -> (v, aux)` and `update(v, opt_state, params) -> (params,
opt_state)`; `aux` is the field's at the old params. Pure; made for any pytree.

  >>> import jax, optax
  >>> from gm_jax import dynamics
  >>> tx = optax.sgd(0.1)
  >>> field = lambda w: ({'x': w['y'], 'y': -w['x']}, ())  # min_x max_y x y
  >>> w = {'x': 1.0, 'y': 0.0}
  >>> step = dynamics.updater(tx)
  >>> w, _, _ = dynamics.extragradient(field, step, w, tx.init(w))
  >>> print(f'{w["x"]:.2f} {w["y"]:.2f}')
  0.99 0.10
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

PyTree = Any
Field = Callable[[PyTree], tuple[PyTree, PyTree]]
Update = Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree]]
Dynamics = Callable[[Field, Update, PyTree, PyTree], tuple[PyTree, PyTree, PyTree]]

ALIGNMENT = 0.1  # epsilon of the sign in `symplectic`, the paper's


def updater(tx: optax.GradientTransformation) -> Update:
  """Returns the update of one optimizer for all players.

  Args:
    tx: any optax optimizer.

  Returns:
    A function (direction, opt_state, params) -> (params, opt_state).
  """

  def update(direction, opt_state, params):
    updates, opt_state = tx.update(direction, opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  return update


def simultaneous(
  field: Field, update: Update, params: PyTree, opt_state: PyTree
) -> tuple[PyTree, PyTree, PyTree]:
  """Moves every player along its own gradient, at once: w <- w - eta v(w)."""
  direction, aux = field(params)
  return *update(direction, opt_state, params), aux


def extragradient(
  field: Field, update: Update, params: PyTree, opt_state: PyTree
) -> tuple[PyTree, PyTree, PyTree]:
  """Steps along the field at the end of a trial step: w <- w - eta v(w - eta v(w)).

  The trial step is made by the same optimizer from the same state, which it leaves
  as it is; the optimizer's state is that after the second step.

  Source: The extragradient method for finding saddle points and other problems,
  Korpelevich, 1976; for GANs, A Variational Inequality Perspective on Generative
  Adversarial Networks, Gidel et al., 2018, arXiv:1802.10551, algorithm 2.
  """
  direction, aux = field(params)
  ahead, _ = update(direction, opt_state, params)
  direction, _ = field(ahead)
  return *update(direction, opt_state, params), aux


def consensus(strength: float) -> Dynamics:
  """Returns the consensus dynamics, along v + gamma J^T v.

  The second term is the gradient of |v|^2 / 2.

  Source: The Numerics of GANs, Mescheder et al., 2017, arXiv:1705.10461, section 4.

  Args:
    strength: gamma >= 0; the paper's default is 10.

  Returns:
    The dynamics.

  Raises:
    ValueError: a negative strength.
  """
  _check_strength(strength)

  def dynamics(field, update, params, opt_state):
    # One vjp: the field, and J^T v at v itself.
    direction, pullback, aux = jax.vjp(field, params, has_aux=True)
    (slope,) = pullback(direction)
    return *update(_add_scaled(direction, strength, slope), opt_state, params), aux

  return dynamics


def symplectic(strength: float, *, align: bool = True) -> Dynamics:
  """Returns symplectic gradient adjustment, along v + lambda A^T v, A = (J - J^T) / 2.

  With `align`, lambda is the strength times the sign of
  <v, J^T v> <A^T v, J^T v> / N + 0.1, which turns the adjustment towards stable fixed
  points and away from unstable ones; N is the number of parameters.

  Source: The Mechanics of n-Player Differentiable Games, Balduzzi et al., 2018,
  arXiv:1802.05642, algorithm 1.

  Args:
    strength: |lambda| >= 0; the paper's is 1.
    align: whether the sign is chosen so; else lambda is the strength.

  Returns:
    The dynamics.

  Raises:
    ValueError: a negative strength.
  """
  _check_strength(strength)

  def dynamics(field, update, params, opt_state):
    direction, pullback, aux = jax.vjp(field, params, has_aux=True)
    (slope,) = pullback(direction)
    # J v costs a forward pass more; J itself is never formed.
    along = jax.jvp(lambda w: field(w)[0], (params,), (direction,))[1]
    adjustment = jax.tree.map(lambda s, a: 0.5 * (s - a), slope, along)
    scale = strength
    if align:
      vdot, num = optax.tree.vdot, sum(x.size for x in map(jnp.asarray, jax.tree.leaves(
        params)))  # fmt: skip
      product = vdot(direction, slope) * vdot(adjustment, slope) / num
      scale = strength * jnp.where(product + ALIGNMENT >= 0.0, 1.0, -1.0)
    return *update(_add_scaled(direction, scale, adjustment), opt_state, params), aux

  return dynamics


def _check_strength(strength: float) -> None:
  if strength < 0:
    raise ValueError(f'strength must be >= 0, got {strength}')


def _add_scaled(direction, scale, other):
  return jax.tree.map(lambda d, o: d + scale * o, direction, other)
