"""Variational auto-encoder: a decoder fitted by a lower bound, codes by an encoder.

  max_{e, d} E_x [E_{q(z | x)} log p(x | z) - beta KL(q(z | x) || p(z))]

Where the prior is N(0, I) the second term is a formula; any other prior with a density
has it by the draw (`latent_priors`): a mixture, or the VampPrior. With another beta it
is a beta-VAE, whose objective bounds the evidence for beta >= 1 only; what is reported
as `elbo` and `iwae` has beta = 1 always.

Source: Auto-Encoding Variational Bayes, Kingma and Welling, 2013, arXiv:1312.6114;
beta-VAE, Higgins et al., 2017, ICLR.
"""

import jax.numpy as jnp
import optax

from gm_jax import amortized, base
from gm_jax.losses import variational


def objective(*, beta: float = 1.0, minimum: float = 0.0) -> amortized.Objective:
  """The evidence lower bound, its prior term weighted.

  Args:
    beta: weight of the prior term, > 0.
    minimum: nats that every dimension of the code may cost freely, as in
      `variational.free_bits`; only of a prior with a closed form.

  Raises:
    ValueError: beta <= 0 or a negative minimum.
  """
  if not beta > 0 or not minimum >= 0:
    raise ValueError(f'beta must be > 0 and minimum >= 0, got {beta} and {minimum}')

  def maximized(drawn):
    terms = drawn.terms(drawn.z)
    kl = amortized.prior_term(drawn, terms)
    if minimum:
      if drawn.kl_each is None:
        raise ValueError('free bits need a prior whose divergence has a closed form')
      free = variational.free_bits(drawn.kl_each, minimum=minimum)
      kl = jnp.full_like(kl, free)
    log_likelihood = terms.log_likelihood.mean(axis=0)
    return variational.elbo(log_likelihood, kl, beta=beta), terms, {}

  return maximized


def vae(
  networks: amortized.Networks,
  tx: optax.GradientTransformation,
  *,
  beta: float = 1.0,
  minimum: float = 0.0,
  num_draws: int = 1,
) -> base.Method:
  """A variational auto-encoder.

  Args:
    networks: encoder, decoder, prior, observation model, condition.
    tx: the optimizer of all.
    beta: weight of the prior term.
    minimum: nats that every dimension of the code may cost freely.
    num_draws: K, codes drawn of each example in training.

  Returns:
    The method; queries `elbo`, `iwae`, `log_prob_estimate`, `posterior`, `encode`,
    `decode`, `reconstruct`, `prior`, `log_prior`.

  Raises:
    ValueError: a number out of range; at init, networks that do not fit.
  """
  maximized = objective(beta=beta, minimum=minimum)
  return amortized.method(networks, tx, maximized, num_draws=num_draws)
