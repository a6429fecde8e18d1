"""The theory of adversarial learning as code: optimal critics, values, axioms.

p is the data's distribution and q the model's, as probabilities [..., K] or as
densities at K points with quadrature weights. Everything is exact up to quadrature
and in nats; nothing here is trained. The chain of results:

  D*(x) = p / (p + q)                             the best discriminator
  V(G, D*) = 2 JSD(p, q) - ln 4                   what the minimax generator lowers
  JSD(p, q) = I(X; Y) in [0, ln 2]                a fair mixture's information
  V(G, D) / 2 + ln 2 <= I(X; Y) for every D       a discriminator estimates it
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gm_jax.losses import mutual_information, shapes

Array = jax.Array


def optimal_discriminator(p: Array, q: Array) -> Array:
  """The optimal discriminator against a fixed generator.

  D*(x) = p(x) / (p(x) + q(x)), 1/2 where neither has mass

  Source: Generative Adversarial Nets, Goodfellow et al., 2014, arXiv:1406.2661,
  proposition 1.

  Args:
    p: `[..., K]` probabilities, or densities at K points, of the data.
    q: `[..., K]` of the model.

  Returns:
    `[..., K]` probabilities of being real.

  Raises:
    ValueError: p and q differ in shape, or are scalars.
  """
  p, q = shapes.floats(p=p, q=q)
  shapes.check_tables(p=p, q=q)
  total = p + q
  some = total > 0
  return jnp.where(some, p / jnp.where(some, total, 1.0), 0.5)


def optimal_logit(p: Array, q: Array) -> Array:
  """The log-odds of `optimal_discriminator`, in which nothing rounds to certainty.

  ln p(x) - ln q(x), +-inf where one has no mass and 0 where neither has

  Args:
    p: `[..., K]` probabilities, or densities at K points, of the data.
    q: `[..., K]` of the model.

  Returns:
    `[..., K]` log-odds of being real, in nats.

  Raises:
    ValueError: p and q differ in shape, or are scalars.
  """
  p, q = shapes.floats(p=p, q=q)
  shapes.check_tables(p=p, q=q)
  some = (p > 0) | (q > 0)
  ratio = jnp.log(jnp.where(some, p, 1.0)) - jnp.log(jnp.where(some, q, 1.0))
  return jnp.where(some, ratio, 0.0)


def gan_value(
  p: Array, q: Array, logits: Array, *, weights: Array | float = 1.0
) -> Array:
  """The value of the minimax game at any discriminator D = sigmoid(logits).

  V(G, D) = E_p[ln D(x)] + E_q[ln(1 - D(x))]

  Source: Generative Adversarial Nets, Goodfellow et al., 2014, arXiv:1406.2661,
  eq. 1.

  Args:
    p: `[..., K]` probabilities, or densities at K points, of the data.
    q: `[..., K]` of the model.
    logits: `[..., K]` log-odds of being real.
    weights: quadrature weights that broadcast against p; 1 for probabilities.

  Returns:
    `[...]` nats, in [-inf, 0]; at most 2 JSD(p, q) - ln 4.

  Raises:
    ValueError: the shapes differ.
  """
  p, q, logits = shapes.floats(p=p, q=q, logits=logits)
  shapes.check_tables(p=p, q=q, logits=logits)

  def weigh(mass, loss):
    # 0 times an infinite loss is 0: what has no mass costs nothing.
    some = mass > 0
    return jnp.where(some, mass * jnp.where(some, loss, 0.0), 0.0)

  losses = weigh(p, jax.nn.softplus(-logits)) + weigh(q, jax.nn.softplus(logits))
  return -(weights * losses).sum(axis=-1)


def source_information(p: Array, q: Array) -> Array:
  """The information of one draw from a fair mixture of two tables about its source.

  I(X; Y) = H(X) + H(Y) - H(X, Y),  Y ~ Bernoulli(1/2), X | Y ~ p or q

  It is JSD(p, q); here by the joint table, there by two KL divergences.

  Args:
    p: `[..., K]` probabilities.
    q: `[..., K]` probabilities.

  Returns:
    `[...]` nats in [0, ln 2].
  """
  p, q = shapes.floats(p=p, q=q)
  return mutual_information.of_table(jnp.stack([p, q], axis=-2) / 2.0)


class Axioms(NamedTuple):
  """The laws of a distance on examples, with a counter-example where one fails.

  non_negative: D(p, q) >= 0.
  identity: D(p, p) = 0, and D(p, q) > 0 for different ones.
  symmetric: D(p, q) = D(q, p).
  triangle: D(p, r) <= D(p, q) + D(q, r).

  A field is None where no counter-example was found, else the numbers of the
  examples in it and by how much the law fails.
  """

  non_negative: tuple | None
  identity: tuple | None
  symmetric: tuple | None
  triangle: tuple | None


def axioms(values: Array, *, tolerance: float = 1e-5) -> Axioms:
  """Looks for counter-examples to the laws of a distance.

  Finding none proves nothing; finding one does. Infinite values are equal to one
  another, and a detour of infinite length is no counter-example.

  Args:
    values: `[N, N]` array, D(p_i, p_j) of N distributions, no two the same.
    tolerance: what counts as rounding, relative to the largest finite value or 1.

  Returns:
    The worst counter-example of each law: (i, j[, k], by how much it fails), or
    None.

  Raises:
    ValueError: values that are not square, or NaN among them.
  """
  table = np.asarray(values, float)
  if table.ndim != 2 or table.shape[0] != table.shape[1] or np.isnan(table).any():
    raise ValueError(f'values must be [N, N] without NaN, got {table.shape}')
  finite = np.abs(table[np.isfinite(table)])
  slack = tolerance * max(1.0, finite.max(initial=0.0))
  same = np.eye(len(table), dtype=bool)

  def worst_case(failure):
    where = np.unravel_index(np.argmax(failure), failure.shape)
    if failure[where] <= slack:
      return None
    return (*(int(i) for i in where), float(failure[where]))

  with np.errstate(invalid='ignore'):  # inf - inf
    gap = np.abs(table - table.T)
    detour = table[:, :, None] + table[None, :, :]  # over j, by [i, j, k]
    longer = table[:, None, :] - detour
  # Different ones at distance 0 fail by a number above any slack.
  coincide = np.where(table <= slack, 2.0 * slack, 0.0)
  return Axioms(
    worst_case(-table),
    worst_case(np.where(same, np.abs(table), coincide)),
    worst_case(np.where(np.isnan(gap), 0.0, gap)),
    worst_case(np.where(np.isinf(detour), -np.inf, longer)),
  )
