"""Importance-weighted auto-encoder: the bound of several draws, which is tighter.

  max_{e, d} E_x E_{z_1 ... z_K ~ q(z | x)} log (1 / K) sum_k p(x, z_k) / q(z_k | x)

At K = 1 it is the variational auto-encoder with the prior term by the draw. The plain
gradient of the encoder drowns in noise as K grows; the doubly reparameterized one does
not, at the price of one more pass of the decoder without a gradient. "Sticking the
landing" is biased for K > 1, and here to be compared.

Source: Importance Weighted Autoencoders, Burda et al., 2016, arXiv:1509.00519, eq. 8;
Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives, Tucker et al.,
2019, arXiv:1810.04152, eq. 8; Sticking the Landing, Roeder et al., 2017,
arXiv:1703.09194.
"""

import optax

from gm_jax import amortized, base
from gm_jax.losses import variational


def plain(drawn: amortized.Draws):
  """The bound, whose gradient goes by every path."""
  terms = drawn.terms(drawn.z)
  return variational.iwae(terms.log_weights), terms, {}


def sticking_the_landing(drawn: amortized.Draws):
  """The bound, without the gradient of log q by its parameters."""
  terms = drawn.terms(drawn.z, fixed=True)
  return variational.iwae(terms.log_weights), terms, {}


def doubly_reparameterized(drawn: amortized.Draws):
  """The bound, whose gradient by z_k is weighted by the draw's weight once more."""
  weights = variational.normalized_weights(drawn.terms(drawn.z).log_weights)
  z = variational.scaled_gradient(drawn.z, weights)
  terms = drawn.terms(z, fixed=True)
  return variational.iwae(terms.log_weights), terms, {}


def iwae(
  networks: amortized.Networks,
  tx: optax.GradientTransformation,
  *,
  num_draws: int,
  estimator: amortized.Objective = doubly_reparameterized,
) -> base.Method:
  """An importance-weighted auto-encoder.

  Args:
    networks: encoder, decoder, prior, observation model, condition.
    tx: the optimizer of all.
    num_draws: K, codes drawn of each example in training.
    estimator: of the gradient: `plain`, `sticking_the_landing` or
      `doubly_reparameterized`.

  Returns:
    The method, with the queries of a variational auto-encoder.

  Raises:
    ValueError: K < 1; at init, networks that do not fit.
  """
  return amortized.method(networks, tx, estimator, num_draws=num_draws)
