"""Bounds of a latent-variable model's evidence, and what their terms are made of.

A model p(z) p(x | z) and a posterior q(z | x) bound the evidence from below,

  log p(x) = ELBO + KL(q(z | x) || p(z | x)),
  ELBO = E_q[log p(x | z)] - KL(q(z | x) || p(z)),

by what is reconstructed less what the code costs. Posteriors are diagonal Gaussians
given by a mean and the logarithm of a standard deviation, never of a variance;
everything is in nats and to be maximized but where its name is a divergence's.

With K draws z_k ~ q and log w_k = log p(x | z_k) + log p(z_k) - log q(z_k | x), `iwae`
is the tighter bound. Three estimators of its gradient differ in how log w_k is made:

  plain   z_k by reparameterization, log q with its parameters.
  STL     the same with the parameters of log q stopped: the path alone. Right for K = 1
          and biased for K > 1.
  DReG    as STL, and besides the gradient that reaches z_k is multiplied by the
          normalized weight w_k / sum_j w_j, by `scaled_gradient`. Right for every K,
          and its noise falls with K faster than the gradient does.

  >>> import jax.numpy as jnp
  >>> from gm_jax.losses import variational
  >>> mean, log_std = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 0.0]])
  >>> print(variational.standard_normal_kl(mean, log_std))  # 1^2 / 2
  [0.5]
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gm_jax.losses import shapes

Array = jax.Array
# Of log_std: within them the KL of ten thousand dimensions has a float32.
LEAST_LOG_STD, LARGEST_LOG_STD = -38.0, 38.0


class Decomposition(NamedTuple):
  """The parts of KL(q(z | x) || p(z)), `[B]` nats each; see `decomposed_kl`."""

  mutual_information: Array  # of example and code
  total_correlation: Array  # of the code's dimensions
  dimension_wise_kl: Array  # of each dimension's aggregate from the prior, summed


def _within(log_std: Array) -> Array:
  return jnp.clip(log_std, LEAST_LOG_STD, LARGEST_LOG_STD)


def standard_normal_kl_each(mean: Array, log_std: Array) -> Array:
  """The KL divergence of Gaussians from the standard normal, elementwise.

  KL(N(m, s^2) || N(0, 1)) = (s^2 - 1 + m^2) / 2 - ln s

  Args:
    mean: `[...]` m.
    log_std: `[...]` ln s; beyond 38 in size it is taken as that, without a gradient.

  Returns:
    `[...]` nats, at least 0.

  Raises:
    ValueError: two shapes, or scalars.
  """
  shapes.check_equal(mean=mean, log_std=log_std)
  mean, log_std = shapes.floats(mean=mean, log_std=log_std)
  log_std = _within(log_std)
  # Near the prior s^2 - 1 has few digits, and ln s read back from s has no more: so by
  # expm1, and not by `divergence.gaussian_kl`, which takes s.
  return 0.5 * (jnp.expm1(2.0 * log_std) + jnp.square(mean)) - log_std


def standard_normal_kl(mean: Array, log_std: Array) -> Array:
  """The KL divergence of diagonal Gaussians from N(0, I).

  sum_d [(s_d^2 - 1 + m_d^2) / 2 - ln s_d]

  Source: Auto-Encoding Variational Bayes, Kingma and Welling, 2013, arXiv:1312.6114,
  appendix B.

  Args:
    mean: `[B, ...]` m.
    log_std: `[B, ...]` ln s.

  Returns:
    `[B]` nats, at least 0.

  Raises:
    ValueError: shapes that differ.
  """
  each = standard_normal_kl_each(mean, log_std)
  return each.reshape(len(each), -1).sum(axis=1)


def gaussian_kl_each(
  mean: Array, log_std: Array, prior_mean: Array, prior_log_std: Array
) -> Array:
  """The KL divergence of Gaussians from Gaussians, elementwise.

  With r = ln(s / s_p): KL = (exp(2 r) - 1) / 2 - r + ((m - m_p) / s_p)^2 / 2

  Args:
    mean: `[...]` m.
    log_std: `[...]` ln s, read as by `standard_normal_kl_each`.
    prior_mean: `[...]` m_p.
    prior_log_std: `[...]` ln s_p, read likewise.

  Returns:
    `[...]` nats, at least 0.

  Raises:
    ValueError: shapes that differ, or scalars.
  """
  shapes.check_equal(
    mean=mean, log_std=log_std, prior_mean=prior_mean, prior_log_std=prior_log_std
  )
  mean, log_std, prior_mean, prior_log_std = shapes.floats(
    mean=mean, log_std=log_std, prior_mean=prior_mean, prior_log_std=prior_log_std
  )
  log_std, prior_log_std = _within(log_std), _within(prior_log_std)
  shift = (mean - prior_mean) * jnp.exp(-prior_log_std)
  return standard_normal_kl_each(shift, log_std - prior_log_std)


def gaussian_log_prob_each(
  mean: Array | float, log_std: Array | float, z: Array
) -> Array:
  """The log-density of codes under Gaussians, elementwise.

  -((z - m) / s)^2 / 2 - ln s - ln(2 pi) / 2

  Args:
    mean: `[...]` m.
    log_std: `[...]` ln s, read as by `standard_normal_kl_each`.
    z: `[...]` codes; the three are broadcast.

  Returns:
    `[...]` nats.
  """
  mean, log_std, z = shapes.floats(mean=mean, log_std=log_std, z=z)
  log_std = _within(log_std)
  squares = jnp.square((z - mean) * jnp.exp(-log_std))
  return -0.5 * squares - log_std - 0.5 * math.log(2.0 * math.pi)


def elbo(log_likelihood: Array, kl: Array, *, beta: float | Array = 1.0) -> Array:
  """The evidence lower bound, or with another beta the objective of a beta-VAE.

  E_q[log p(x | z)] - beta KL(q(z | x) || p(z))

  A bound of log p(x) for beta >= 1 only.

  Source: Auto-Encoding Variational Bayes, Kingma and Welling, 2013, arXiv:1312.6114,
  eq. 3; beta-VAE, Higgins et al., 2017, ICLR.

  Args:
    log_likelihood: `[B]` nats, log p(x | z) at a draw of z or its mean over draws.
    kl: `[B]` nats, of the prior term; where it has no closed form, log q(z | x) -
      log p(z) at the draw.
    beta: `[]` weight of the prior term.

  Returns:
    `[B]` nats.

  Raises:
    ValueError: inputs that are not [B].
  """
  shapes.check_examples(log_likelihood=log_likelihood, kl=kl)
  log_likelihood, kl = shapes.floats(log_likelihood=log_likelihood, kl=kl)
  return log_likelihood - beta * kl


def free_bits(kl_each: Array, *, minimum: float) -> Array:
  """The prior term whose dimensions cost at least `minimum`. Batch-coupled.

  sum_d max(minimum, mean over the batch of KL_d)

  A dimension below has no gradient: nothing is gained by making it carry less.

  Source: Improving Variational Inference with Inverse Autoregressive Flow, Kingma et
  al., 2016, arXiv:1606.04934, eq. 15.

  Args:
    kl_each: `[B, Z]` nats, of every dimension (or group of some).
    minimum: nats, at least 0.

  Returns:
    `[]` nats.

  Raises:
    ValueError: an array that is not [B, Z], or a negative minimum.
  """
  (kl_each,) = shapes.floats(kl_each=kl_each)
  if kl_each.ndim != 2:
    raise ValueError(f'kl_each must be [B, Z], got {kl_each.shape}')
  if not minimum >= 0:
    raise ValueError(f'minimum must be >= 0, got {minimum}')
  return jnp.maximum(kl_each.mean(axis=0), minimum).sum()


def iwae(log_weights: Array) -> Array:
  """The importance-weighted bound of the evidence.

  log (1 / K) sum_k w_k,  log w_k = log p(x | z_k) + log p(z_k) - log q(z_k | x)

  Its expectation grows with K, from the ELBO at K = 1 to log p(x).

  Source: Importance Weighted Autoencoders, Burda et al., 2016, arXiv:1509.00519, eq. 8.

  Args:
    log_weights: `[K, B]` nats.

  Returns:
    `[B]` nats.

  Raises:
    ValueError: an array that is not [K, B] with K >= 1.
  """
  log_weights = _log_weights(log_weights)
  return jax.nn.logsumexp(log_weights, axis=0) - math.log(len(log_weights))


def normalized_weights(log_weights: Array) -> Array:
  """The weights w_k / sum_j w_j of draws, constants to any gradient.

  Args:
    log_weights: `[K, B]` nats.

  Returns:
    `[K, B]`, which sum to one over K.

  Raises:
    ValueError: an array that is not [K, B] with K >= 1.
  """
  return jax.lax.stop_gradient(jax.nn.softmax(_log_weights(log_weights), axis=0))


def scaled_gradient(z: Array, scale: Array) -> Array:
  """Returns z as it is, with its gradient multiplied by a constant of each draw.

  Of DReG: `scale` is `normalized_weights` of log-weights at the same z, computed before
  and without a gradient.

  Source: Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives, Tucker
  et al., 2019, arXiv:1810.04152, eq. 8.

  Args:
    z: `[K, B, ...]` draws.
    scale: `[K, B]`.

  Returns:
    `[K, B, ...]`.

  Raises:
    ValueError: a scale that is not of z's draws.
  """
  if scale.shape != z.shape[: scale.ndim]:
    raise ValueError(f'scale must be {z.shape[:2]}, got {scale.shape}')
  scale = jax.lax.stop_gradient(scale).reshape(
    *scale.shape, *[1] * (z.ndim - scale.ndim)
  )
  fixed = jax.lax.stop_gradient(z)
  return fixed + scale * (z - fixed)  # the second is 0


def _log_weights(log_weights: Array) -> Array:
  (log_weights,) = shapes.floats(log_weights=log_weights)
  if log_weights.ndim != 2 or not len(log_weights):
    raise ValueError(f'log_weights must be [K, B], K >= 1, got {log_weights.shape}')
  return log_weights


def decomposed_kl(
  z: Array, mean: Array, log_std: Array, *, num_train: int, stratified: bool = False
) -> Decomposition:
  """Splits the prior term by the aggregate posterior. Batch-coupled.

  With q(z) = mean over all N training examples of q(z | x_n) and p(z) = N(0, I),

    E KL(q(z | x) || p(z)) = E[log q(z | x) - log q(z)]          mutual information
                           + E[log q(z) - sum_d log q(z_d)]      total correlation
                           + E[sum_d (log q(z_d) - log p(z_d))].

  The parts sum to log q(z | x) - log p(z) whatever q(z) is taken for. It is estimated
  from the batch: by the minibatch-weighted estimator,

    log q(z_i) = logsumexp_j log q(z_i | x_j) - log(N B),

  which is low by up to log N, and each marginal as well: of a small batch the first two
  parts come out too large and the last too small; or by the stratified one, whose
  q(z_i) is unbiased: example i weighs 1 / N, as in q(z), and the B - 1 others, which
  stand for N - 1 others, weigh (N - 1) / (N (B - 1)) each.

  Source: Isolating Sources of Disentanglement in Variational Autoencoders, Chen et al.,
  2018, arXiv:1802.04942, eq. 2, eq. 5 and appendix C.1.

  Args:
    z: `[B, Z]` a draw of each example's posterior.
    mean: `[B, Z]` of the posteriors.
    log_std: `[B, Z]` logarithms of their standard deviations.
    num_train: N, at least B.
    stratified: which estimator.

  Returns:
    `[B]` nats of each part; their means over a batch are the estimates.

  Raises:
    ValueError: arrays that are not [B, Z] of one shape, N < B, or a stratified B of 1.
  """
  shapes.check_equal(z=z, mean=mean, log_std=log_std)
  z, mean, log_std = shapes.floats(z=z, mean=mean, log_std=log_std)
  if z.ndim != 2:
    raise ValueError(f'z must be [B, Z], got {z.shape}')
  num = len(z)
  if num_train < num or (stratified and num < 2):
    raise ValueError(
      'num_train must be at least the batch size, which must be 2 or more if'
      f' stratified; got {num_train} and {num}'
    )
  log_weights = jnp.full((num, num), -math.log(num_train * num))
  if stratified:
    others = math.log((num_train - 1) / (num_train * (num - 1)))
    log_weights = jnp.where(jnp.eye(num, dtype=bool), -math.log(num_train), others)
  each = gaussian_log_prob_each(mean, log_std, z[:, None])  # [B, B, Z]: of z_i, by x_j
  own = gaussian_log_prob_each(mean, log_std, z).sum(axis=-1)
  joint = jax.nn.logsumexp(log_weights + each.sum(axis=-1), axis=1)
  marginals = jax.nn.logsumexp(log_weights[..., None] + each, axis=1).sum(axis=-1)
  prior = gaussian_log_prob_each(0.0, 0.0, z).sum(axis=-1)
  return Decomposition(own - joint, joint - marginals, marginals - prior)
