"""The loss by an encoder that predicts q instead of an ascent for every example.

  log p(x) - ELBO(encoder's q) = [log p(x) - ELBO(q*)] + [ELBO(q*) - ELBO(encoder's q)]

with q* the best of the family for this x: the gap of the family, and that of
amortization. An ELBO is a function (q, key, x) -> `[B]` nats, q a tree of parameters
`[B, ...]`: a closed form, which ignores the key, or the mean of some draws.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from gm_jax import gradient, latent_priors
from gm_jax.losses import shapes, variational

Array = jax.Array
Elbo = Callable[[Any, Array, Array], Array]  # (q, key, x [B, ...]) -> [B] nats


def monte_carlo_elbo(
  log_likelihood: Callable[[Array, Array], Array], *, num_draws: int
) -> Elbo:
  """The ELBO of a decoder by draws of z, its prior N(0, I), its q diagonal.

  mean_k log p(x | z_k) - KL(q || N(0, I)),  z_k = mean + std noise_k

  The noise is of the key: two q measured by one key are compared on the same draws.

  Args:
    log_likelihood: (z `[B, Z]`, x `[B, ...]`) -> `[B]` nats, log p(x | z).
    num_draws: K.

  Returns:
    (q, key, x) -> `[B]` nats, unbiased.
  """

  def elbo(q: latent_priors.Gaussian, key: Array, x: Array) -> Array:
    likelihood = jax.vmap(log_likelihood, (0, None))(q.draw(key, num_draws), x)
    kl = variational.standard_normal_kl(q.mean, q.log_std)
    return variational.elbo(likelihood.mean(axis=0), kl)

  return elbo


def optimized(
  elbo: Elbo,
  initial: Any,
  key: Array,
  x: Array,
  *,
  tx: optax.GradientTransformation,
  num_steps: int,
) -> tuple[Any, Array]:
  """The parameters of q that are best for each example, by gradient ascent.

  Every example has its own parameters and its own state of the optimizer.

  Source: Inference Suboptimality in Variational Autoencoders, Cremer et al., 2018,
  arXiv:1801.03558, section 4.2.

  Args:
    elbo: (q, key, x `[B, ...]`) -> `[B]` nats, exact or of the key's draws; called on
      one example at a time, B = 1.
    initial: a tree of `[B, ...]`, where the ascent begins.
    key: split over examples and steps.
    x: `[B, ...]`.
    tx: an optimizer, which minimizes -ELBO.
    num_steps: of the ascent.

  Returns:
    The parameters, as `initial`; the ELBO `[num_steps, B]` nats before each step.
  """

  def loss_fn(q, key, x):
    one = jax.tree.map(lambda leaf: leaf[None], q)
    return -elbo(one, key, x[None])[0], None

  def step(carry, key, x):
    q, opt_state, loss, _ = gradient.gradient_step(loss_fn, tx, *carry, key, x)
    return (q, opt_state), -loss

  def ascend(q, key, x):
    keys = jax.random.split(key, num_steps)
    found = jax.lax.scan(lambda c, k: step(c, k, x), (q, tx.init(q)), keys)
    return found[0][0], found[1]

  keys = jax.random.split(key, len(x))
  return jax.vmap(ascend, out_axes=(0, 1))(initial, keys, x)


class Gaps(NamedTuple):
  """The parts of what a bound by an encoder lacks of the evidence, `[B]` nats each."""

  approximation: Array  # log p(x) - ELBO(q*), the family's
  amortization: Array  # ELBO(q*) - ELBO(encoder's q), the encoder's


def gaps(
  elbo: Elbo, encoded: Any, best: Any, log_prob: Array, key: Array, x: Array
) -> Gaps:
  """Splits log p(x) - ELBO of an encoder in what its family and what it itself loses.

  Source: Inference Suboptimality in Variational Autoencoders, Cremer et al., 2018,
  arXiv:1801.03558, eq. 3.

  Args:
    elbo: (q, key, x `[B, ...]`) -> `[B]` nats; both bounds are by the same key.
    encoded: the encoder's parameters of q, a tree of `[B, ...]`.
    best: those of q*, as of `optimized` from the encoder's.
    log_prob: `[B]` nats, log p(x) or its estimate.
    key: of the bounds.
    x: `[B, ...]`.

  Returns:
    The two gaps; their sum is log p(x) - ELBO(encoder's q).
  """
  optimum, amortized = (elbo(q, key, x) for q in (best, encoded))
  shapes.check_examples(log_prob=log_prob, elbo=optimum)
  return Gaps(log_prob - optimum, optimum - amortized)
