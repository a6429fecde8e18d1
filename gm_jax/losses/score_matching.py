"""Score matching: a score learned from data alone, without the data's own score.

  J(s) = E |s(x) - grad log p(x)|^2 / 2 + constant

A score is a function of one example, [...] -> [...], per unit of x; its parameters are
closed over by the caller, who differentiates the loss in them. Of an energy it is minus
the gradient. The constant, minus half of E |grad log p|^2, does not depend on s: values
may be negative, and are comparable on the same data alone. With noise of one level
added, `denoising.denoising_score_matching` is the loss that needs no trace.

  >>> import jax.numpy as jnp
  >>> from gm_jax.losses import score_matching
  >>> print(score_matching.implicit(lambda x: -x, jnp.array([[1.0, 2.0]])))  # 5/2 - 2
  [0.5]
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from gm_jax.losses import shapes

Array = jax.Array
Score = Callable[[Array], Array]  # of one example, [...] -> [...]
Draw = Callable[[Array, tuple, jnp.dtype], Array]  # (key, shape, dtype) -> noise


def implicit(score: Score, x: Array) -> Array:
  """Score matching by integration by parts, with the exact trace.

  |s(x)|^2 / 2 + tr(grad s(x))

  The trace costs D derivatives of s for an example of D numbers. The data's density has
  to be smooth and to vanish at the edge of its support: on the levels of pixels the
  least of the loss is minus infinity.

  Source: Estimation of Non-Normalized Statistical Models by Score Matching, Hyvarinen,
  2005, JMLR 6, equation 4.

  Args:
    score: s of one example.
    x: `[B, ...]` data.

  Returns:
    `[B]`, in the square of s.

  Raises:
    ValueError: x without an axis of examples, or a score of another shape.
  """
  (x,) = shapes.floats(x=x)
  shapes.check_equal(x=x)

  def each(x):
    jacobian, s = jax.jacfwd(lambda x: (_flat(score, x),) * 2, has_aux=True)(x)
    return 0.5 * jnp.square(s).sum() + jnp.trace(jacobian.reshape(x.size, x.size))

  return jax.vmap(each)(x)


def sliced(
  score: Score,
  key: Array,
  x: Array,
  *,
  num_projections: int = 1,
  draw: Draw = jax.random.normal,
  variance_reduced: bool = True,
) -> Array:
  """Score matching along random directions.

  v^T (grad s(x)) v + (v^T s(x))^2 / 2,   E v v^T = I

  a mean over directions v, whose expected value is `implicit`. As it then is known, the
  variance-reduced form has |s|^2 / 2 for its second term. One direction costs one
  derivative of s, whatever D is.

  Source: Sliced Score Matching: A Scalable Approach to Density and Score Estimation,
  Song et al., 2019, arXiv:1905.07088, section 3.

  Args:
    score: s of one example.
    key: `[]` typed key of the directions.
    x: `[B, ...]` data.
    num_projections: directions of each example.
    draw: of the directions, (key, shape, dtype) -> numbers of mean 0, variance 1;
      `jax.random.rademacher` varies less.
    variance_reduced: |s|^2 / 2 in the place of (v^T s)^2 / 2.

  Returns:
    `[B]`, in the square of s.

  Raises:
    ValueError: x without an axis of examples, `num_projections` below 1, or a score of
      another shape.
  """
  (x,) = shapes.floats(x=x)
  shapes.check_equal(x=x)
  if num_projections < 1:
    raise ValueError(f'num_projections must be >= 1, got {num_projections}')
  shape = len(x), num_projections, *x.shape[1:]
  directions = draw(key, shape, x.dtype)

  def each(x, directions):
    s, along = jax.linearize(lambda x: _flat(score, x), x)
    v = directions.reshape(num_projections, -1)
    slopes = jax.vmap(along)(directions)
    second = jnp.square(s).sum() if variance_reduced else jnp.square(v @ s)
    return ((v * slopes).sum(axis=1) + 0.5 * second).mean()

  return jax.vmap(each)(x, directions)


def _flat(score: Score, x: Array) -> Array:
  """The score of one example, `[D]`."""
  value = score(x)
  if value.shape != x.shape:
    raise ValueError(
      f'score must map one example {x.shape} to its own shape, but returned'
      f' {value.shape}'
    )
  return value.reshape(math.prod(x.shape))
