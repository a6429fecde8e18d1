"""The local behavior of a game: eigenvalues, rotation, slopes, the critic's estimate.

The field of a game is v(w), each player's gradient of its own loss; players follow
dw/dt = -v. Near a solution v = 0 the eigenvalues of J = dv/dw decide: real parts > 0
attract, imaginary parts rotate. A gradient step of rate eta multiplies by 1 - eta
lambda, so that |1 - eta lambda| > 1 runs away however small the real part.

Source: The Numerics of GANs, Mescheder et al., 2017, arXiv:1705.10461, section 3; A
Closer Look at the Optimization Landscapes of Generative Adversarial Networks, Berard
et al., 2019, arXiv:1906.04848.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import flatten_util

from gm_jax.losses import f_divergence, shapes

Array = jax.Array
PyTree = Any
Field = Callable[[PyTree], PyTree]
TINY = 1e-30


class LocalDynamics(NamedTuple):
  """The field's Jacobian along the field itself."""

  attraction: Array  # [] v.Jv / v.v: how fast |v|^2 / 2 falls along the flow
  rotation: Array  # [] |A v| / |v|, A = (J - J^T) / 2


class Estimate(NamedTuple):
  """A mean and its standard error."""

  mean: Array  # []
  error: Array  # []


def _norm(u: Array) -> Array:
  """The norm `[]` of a vector, also where the squares of its numbers have no float."""
  largest = jnp.abs(u).max()
  scale = jnp.where(largest > 0, largest, 1.0)
  return scale * jnp.linalg.norm(u / scale)


def _eigenvalues(matrix: Array) -> Array:
  """The eigenvalues `[N]` of a matrix with entries of any size."""
  # LAPACK scales a matrix of tiny or huge entries; XLA returns the scaled eigenvalues.
  largest = jnp.abs(matrix).max()
  scale = jnp.where(largest > 0, largest, 1.0)
  return scale * jnp.linalg.eigvals(matrix / scale)


def jacobian(field: Field, params: PyTree) -> Array:
  """The Jacobian J = dv/dw of the field, dense: for small networks.

  Args:
    field: params -> v, of the same structure.
    params: the point, a pytree of N numbers in all.

  Returns:
    `[N, N]` Jacobian, rows by v, in the order of `jax.flatten_util.ravel_pytree`.
  """
  flat, unravel = flatten_util.ravel_pytree(params)
  return jax.jacfwd(lambda w: flatten_util.ravel_pytree(field(unravel(w)))[0])(flat)


def eigenvalues(field: Field, params: PyTree) -> Array:
  """All eigenvalues of J; on a CPU, where XLA has those of general matrices.

  Args:
    field: params -> v, of the same structure.
    params: the point, a pytree of N numbers in all.

  Returns:
    `[N]` complex eigenvalues, in no order.
  """
  return _eigenvalues(jacobian(field, params))


def leading_eigenvalues(
  field: Field, params: PyTree, key: Array, *, num_iterations: int
) -> Array:
  """Ritz values of J by Arnoldi's iteration, a product J u each: for large networks.

  Exact where `num_iterations` is N; below it the outermost eigenvalues settle first.
  Each new vector is orthogonalized twice. Where the Krylov space ends early, zeros
  stand for what is missing.

  Source: The principle of minimized iterations in the solution of the matrix
  eigenvalue problem, Arnoldi, 1951.

  Args:
    field: params -> v, of the same structure.
    params: the point, a pytree of N numbers in all.
    key: `[]` typed key of the first vector.
    num_iterations: M <= N.

  Returns:
    `[M]` complex Ritz values, the largest modulus first.

  Raises:
    ValueError: `num_iterations` is not in [1, N].
  """
  flat, unravel = flatten_util.ravel_pytree(params)
  if not 1 <= num_iterations <= flat.size:
    raise ValueError(
      f'num_iterations must be in [1, {flat.size}], got {num_iterations}'
    )

  def product(u):
    out = jax.jvp(lambda w: field(unravel(w)), (flat,), (u,))[1]
    return flatten_util.ravel_pytree(out)[0]

  def body(basis, i):
    u = product(basis[i])
    # Gram-Schmidt twice: once loses orthogonality to rounding, and with it the values.
    first = basis @ u
    u = u - first @ basis
    again = basis @ u
    u = u - again @ basis
    norm = _norm(u)
    scale = jnp.abs(first).sum() + norm
    # Less is rounding: the Krylov space has ended, and another vector would be noise.
    rest = jnp.where(norm > 1e-6 * scale, norm, 0.0)
    u = jnp.where(rest > 0, u / jnp.maximum(norm, TINY), 0.0)
    return basis.at[i + 1].set(u), (first + again).at[i + 1].set(rest)

  start = jax.random.normal(key, flat.shape, flat.dtype)
  basis = jnp.zeros((num_iterations + 1, flat.size), flat.dtype)
  basis = basis.at[0].set(start / jnp.linalg.norm(start))
  _, columns = jax.lax.scan(body, basis, jnp.arange(num_iterations))
  ritz = _eigenvalues(columns.T[:num_iterations])
  return ritz[jnp.argsort(-jnp.abs(ritz))]


def local_dynamics(field: Field, params: PyTree) -> LocalDynamics:
  """Attraction and rotation along the field, by one jvp and one vjp.

  Of J = [[a, b], [-b, a]] they are a and |b| at every point.

  Args:
    field: params -> v, of the same structure.
    params: the point.

  Returns:
    `[]` attraction and `[]` rotation, both 0 where v vanishes.
  """
  flat, unravel = flatten_util.ravel_pytree(params)

  def flat_field(w):
    return flatten_util.ravel_pytree(field(unravel(w)))[0]

  v, pullback = jax.vjp(flat_field, flat)
  # Along the direction of v: where the players have saturated, v.v has no float.
  norm = _norm(v)
  direction = v / jnp.where(norm > 0, norm, 1.0)
  along = jax.jvp(flat_field, (flat,), (direction,))[1]
  back = pullback(direction)[0]
  return LocalDynamics(direction @ along, _norm(0.5 * (along - back)))


def slopes(critic: Callable[[Array], Array], x: Array) -> Array:
  """Norms of a critic's gradient; the largest bounds its Lipschitz constant below.

  Args:
    critic: `[B, ...]` -> `[B]`, each output of its own example only.
    x: `[B, ...]` points, as data, samples and what lies between them.

  Returns:
    `[B]` in the critic's unit over that of the data.
  """
  (x,) = shapes.floats(x=x)
  grads = jax.grad(lambda x: critic(x).sum())(x)
  return jax.vmap(_norm)(grads.reshape(len(x), -1))


def divergence_estimate(
  divergence: f_divergence.Divergence, real_logits: Array, fake_logits: Array
) -> Estimate:
  """The variational lower bound of an f-divergence from a critic's raw outputs.

  E_p g(V) - E_q f*(g(V)) <= D_f(p || q),

  with g the divergence's output activation; tight at the optimal critic. Take data that
  the critic was not trained on, or what it memorized counts as divergence.

  Source: f-GAN, Nowozin et al., 2016, arXiv:1606.00709, eq. 4.

  Args:
    divergence: one of `losses.f_divergence`.
    real_logits: `[B]` V at data.
    fake_logits: `[M]` V at samples.

  Returns:
    `[]` bound and `[]` standard error, in the divergence's unit (nats); data and
    samples count as independent.

  Raises:
    ValueError: a rank other than 1.
  """
  real_logits, fake_logits = shapes.floats(
    real_logits=real_logits, fake_logits=fake_logits
  )
  for name, logits in (('real_logits', real_logits), ('fake_logits', fake_logits)):
    message = f'{name} must be of rank 1, [B]'
    chex.assert_rank(logits, 1, custom_message=message, exception_type=ValueError)
  real = divergence.activation(real_logits)
  fake = divergence.conjugate_of_activation(fake_logits)
  square = jnp.var(real, ddof=1) / real.size + jnp.var(fake, ddof=1) / fake.size
  return Estimate(real.mean() - fake.mean(), jnp.sqrt(square))
