"""beta-TCVAE: a variational auto-encoder whose codes' dependence costs more.

  max_{e, d} E_x E_q log p(x | z) - alpha I(x; z) - beta TC(z) - gamma sum_d KL_d

The prior term is the information that codes have of their example, the total
correlation of their dimensions, and each dimension's own divergence from the prior.
With all weights 1 it is the evidence lower bound, whatever the estimates are; a larger
beta asks for independent dimensions without asking for less information, as a beta-VAE
does. Batch-coupled: the parts are estimated from the batch.

Source: Isolating Sources of Disentanglement in Variational Autoencoders, Chen et al.,
2018, arXiv:1802.04942, eq. 4.
"""

import optax

from gm_jax import amortized, base
from gm_jax.losses import variational


def objective(
  *, num_train: int, alpha: float = 1.0, beta: float = 6.0, gamma: float = 1.0,
  stratified: bool = False,
) -> amortized.Objective:  # fmt: skip
  """The reconstruction less the weighted parts of the prior term.

  Args:
    num_train: examples of the training set.
    alpha: weight of the mutual information.
    beta: weight of the total correlation.
    gamma: weight of the dimension-wise divergence.
    stratified: which estimator; see `variational.decomposed_kl`.

  Raises:
    ValueError: a negative weight.
  """
  if min(alpha, beta, gamma) < 0:
    raise ValueError(f'weights must be >= 0, got {alpha}, {beta} and {gamma}')

  def maximized(drawn):
    terms = drawn.terms(drawn.z)
    parts = variational.decomposed_kl(
      drawn.z[0], *drawn.q, num_train=num_train, stratified=stratified
    )
    cost = (
      alpha * parts.mutual_information
      + beta * parts.total_correlation
      + gamma * parts.dimension_wise_kl
    )
    return terms.log_likelihood[0] - cost, terms, parts._asdict()

  return maximized


def beta_tcvae(
  networks: amortized.Networks, tx: optax.GradientTransformation, **weights
) -> base.Method:
  """A variational auto-encoder with the total correlation weighted.

  Args:
    networks: encoder, decoder, prior N(0, I), observation model, condition.
    tx: the optimizer of all.
    **weights: of `objective`.

  Returns:
    The method, with the queries of a variational auto-encoder.

  Raises:
    ValueError: a prior other than N(0, I), a posterior with a flow; a number out of
      range; at init, networks that do not fit.
  """
  if networks.prior.kl_each is None:
    raise ValueError('beta_tcvae needs the prior N(0, I), latent_priors.normal')
  if networks.flow is not None:
    raise ValueError('beta_tcvae needs a Gaussian posterior, without a flow')
  return amortized.method(networks, tx, objective(**weights))
