"""Lower bounds of mutual information, from a variational posterior or a critic.

I(X; C) = H(C) - H(C | X), in nats. Two families are here. A posterior Q(c | x)
gives E[ln Q(c | x)] + H(c) <= I(c; x), tight where Q is the true posterior; the
entropy of the prior is part of the bound and is known, so it is added here and
nowhere else: with the entropy of a sampled one-hot code (0), or of a Gaussian in
place of a uniform prior, both of which public code has, the number is not I. A
critic T(x, y) gives bounds from scores of pairs drawn jointly and of pairs drawn
apart. Everything is a bound to be maximized: its negative is the loss.

  >>> import jax.numpy as jnp
  >>> from gm_jax.losses import mutual_information
  >>> code = jnp.array([2, 0])
  >>> sure = 50.0 * jnp.eye(10)[code]  # logits of Q, certain and right
  >>> print(f'{mutual_information.categorical(sure, code).mean():.4f}')  # ln 10
  2.3026
"""

import math

import chex
import jax
import jax.numpy as jnp

from gm_jax.losses import divergence, likelihood, shapes

Array = jax.Array


def of_table(joint: Array) -> Array:
  """The mutual information of a joint table of probabilities.

  I(X; Y) = H(X) + H(Y) - H(X, Y)

  Args:
    joint: `[..., J, K]` probabilities that sum to one over both axes.

  Returns:
    `[...]` nats.

  Raises:
    ValueError: fewer than two axes.
  """
  (joint,) = shapes.floats(joint=joint)
  if joint.ndim < 2:
    raise ValueError(f'joint must be [..., J, K], got {joint.shape}')
  rows, columns = joint.sum(axis=-1), joint.sum(axis=-2)
  both = joint.reshape(*joint.shape[:-2], -1)
  parts = divergence.entropy(rows) + divergence.entropy(columns)
  return parts - divergence.entropy(both)


def categorical(logits: Array, code: Array, *, prior: Array | None = None) -> Array:
  """The variational bound for a categorical code.

  ln Q(c | x) + H(c),  Q(. | x) = softmax(logits),  H(c) = ln K for a uniform prior

  Pass raw logits: a softmax before the softmax keeps a bound of K = 10 below
  ln 10 - ln(1 + 9 / e) = 0.841, as in public InfoGANs.

  Source: InfoGAN, Chen et al., 2016, arXiv:1606.03657, eq. 5.

  Args:
    logits: `[B, K]` of Q(c | x).
    code: `[B]` integers in [0, K), drawn from the prior; others are not checked
      inside a compiled function, and read as the nearest.
    prior: `[K]` probabilities of the code; uniform if None.

  Returns:
    `[B]` nats; its mean is at most H(c).

  Raises:
    ValueError: wrong shapes (a one-hot code, say), a code that is not of integers or,
      where it is concrete, not in [0, K).
  """
  (logits,) = shapes.floats(logits=logits)
  if logits.ndim != 2 or code.shape != logits.shape[:1]:
    raise ValueError(
      f'logits must be [B, K] and code [B] class numbers, got {logits.shape} and'
      f' {code.shape}'
    )
  # The entropy is of the code's prior, not of the one-hot sample, which has none.
  if prior is None:
    prior = jnp.full(logits.shape[1:], 1.0 / logits.shape[1])
  (prior,) = shapes.floats(prior=prior)
  if prior.shape != logits.shape[1:]:
    raise ValueError(f'prior must be {logits.shape[1:]}, got {prior.shape}')
  return likelihood.categorical_each(logits, code) + divergence.entropy(prior)


def _gaussian_log_q(mean: Array, std: Array, code: Array) -> Array:
  """The log-density of codes under Q(c | x), `[B]` nats."""
  message = 'mean, std and code must all be [B, D]'
  chex.assert_rank(code, 2, custom_message=message, exception_type=ValueError)
  chex.assert_equal_shape(
    [mean, std, code], custom_message=message, exception_type=ValueError
  )
  mean, std, code = shapes.floats(mean=mean, std=std, code=code)
  squares = jnp.square((code - mean) / std)
  return -(0.5 * squares + jnp.log(std) + 0.5 * math.log(2.0 * math.pi)).sum(axis=1)


def gaussian(mean: Array, std: Array, code: Array, *, code_std: float = 1.0) -> Array:
  """The variational bound for a Gaussian code c ~ N(0, code_std^2 I).

  sum_d ln N(c_d; mean_d, std_d^2) + D/2 ln(2 pi e code_std^2)

  Source: InfoGAN, Chen et al., 2016, arXiv:1606.03657, eq. 5.

  Args:
    mean: `[B, D]` of Q(c | x).
    std: `[B, D]` standard deviation of Q(c | x), > 0; learned, else the
      bound is capped far below I.
    code: `[B, D]` drawn from the prior.
    code_std: the prior's standard deviation.

  Returns:
    `[B]` nats.

  Raises:
    ValueError: shapes that differ or are not [B, D], `code_std` <= 0.
  """
  if not code_std > 0:
    raise ValueError(f'code_std must be > 0, got {code_std}')
  # H(c) of one dimension: the prior's entropy and not that of Q.
  entropy = 0.5 * math.log(2.0 * math.pi * math.e) + math.log(code_std)
  return _gaussian_log_q(mean, std, code) + code.shape[1] * entropy


def uniform(
  mean: Array, std: Array, code: Array, *, low: float = -1.0, high: float = 1.0
) -> Array:
  """The variational bound for a code uniform on a cube, with a Gaussian Q.

  sum_d ln N(c_d; mean_d, std_d^2) + D ln(high - low)

  With std fixed at 1 and codes in [-1, 1] it cannot exceed D (ln 2 - ln(2 pi) / 2)
  = -0.226 D.

  Source: InfoGAN, Chen et al., 2016, arXiv:1606.03657, eq. 5; its code has the
  Gaussian's entropy here, which shifts what is printed and not the gradient.

  Args:
    mean: `[B, D]` of Q(c | x).
    std: `[B, D]` standard deviation of Q(c | x), > 0.
    code: `[B, D]` drawn from the prior.
    low: the lower end of the cube.
    high: the upper end.

  Returns:
    `[B]` nats.

  Raises:
    ValueError: shapes that differ or are not [B, D], or `high` <= `low`.
  """
  if not high > low:
    raise ValueError(f'high must be above low, got {low} and {high}')
  return _gaussian_log_q(mean, std, code) + code.shape[1] * math.log(high - low)


def info_nce(scores: Array) -> Array:
  """The noise-contrastive bound InfoNCE, from the scores of all pairs of a batch.

  s_ii - ln 1/B sum_j exp(s_ij)

  It is at most ln B, whatever the information is: report B beside the number.
  Batch-coupled.

  Source: Representation Learning with Contrastive Predictive Coding, van den Oord
  et al., 2018, arXiv:1807.03748; On Variational Bounds of Mutual Information, Poole
  et al., 2019, arXiv:1905.06922, eq. 10.

  Args:
    scores: `[B, B]`, of x_i with y_j; pairs on the diagonal were drawn jointly.

  Returns:
    `[B]` nats.

  Raises:
    ValueError: scores that are not square.
  """
  (scores,) = shapes.floats(scores=scores)
  if scores.ndim != 2 or scores.shape[0] != scores.shape[1]:
    raise ValueError(f'scores must be [B, B], got {scores.shape}')
  # The positive pair is in the sum too: without it ln B would be no upper bound. The
  # difference is taken first: what a critic adds to all scores costs no digits.
  excess = scores - jnp.diagonal(scores)[:, None]
  return math.log(scores.shape[0]) - jax.nn.logsumexp(excess, axis=1)


def nwj(joint: Array, apart: Array) -> Array:
  """The bound of Nguyen, Wainwright and Jordan; unbiased, of high variance.

  T(x, y) - exp(T(x', y') - 1)

  Tight at T = 1 + ln p(x, y) / (p(x) p(y)).

  Source: Estimating divergence functionals and the likelihood ratio by convex risk
  minimization, Nguyen et al., 2010, arXiv:0809.0853.

  Args:
    joint: `[B]` scores of pairs drawn jointly.
    apart: `[B]` scores of pairs drawn apart.

  Returns:
    `[B]` nats.

  Raises:
    ValueError: a rank other than 1, or two B.
  """
  joint, apart = shapes.floats(joint=joint, apart=apart)
  shapes.check_examples(joint=joint, apart=apart)
  return joint - jnp.exp(apart - 1.0)


def donsker_varadhan(joint: Array, apart: Array) -> Array:
  """The bound of Donsker and Varadhan, which MINE maximizes.

  E[T(x, y)] - ln E[exp T(x', y')]

  The tightest for a given T, at T = ln p(x, y) / (p(x) p(y)) + any constant; of
  finite batches the logarithm is biased upwards, so that the estimate is no longer
  a bound. Batch-coupled.

  Source: Mutual Information Neural Estimation, Belghazi et al., 2018,
  arXiv:1801.04062.

  Args:
    joint: `[B]` scores of pairs drawn jointly.
    apart: `[M]` scores of pairs drawn apart.

  Returns:
    `[]` nats.

  Raises:
    ValueError: a rank other than 1.
  """
  shapes.check_examples(joint=joint)
  shapes.check_examples(apart=apart)
  joint, apart = shapes.floats(joint=joint, apart=apart)
  # ln E exp as logsumexp less ln M: scores of 100 would overflow an exp. Both less one
  # number first, so that what a critic adds to all scores costs no digits.
  most = jax.lax.stop_gradient(apart.max())
  log_mean = jax.nn.logsumexp(apart - most) - math.log(apart.shape[0])
  return (joint - most).mean() - log_mean


def jensen_shannon(joint: Array, apart: Array) -> Array:
  """A bound of 2 JSD(joint, product), which is not the mutual information.

  ln 4 - softplus(-T(x, y)) - softplus(T(x', y'))

  In [0, 2 ln 2] at the best T = ln p(x, y) / (p(x) p(y)), of low variance; it ranks
  dependence but does not measure it in nats of I.

  Source: Learning deep representations by mutual information estimation and
  maximization, Hjelm et al., 2018, arXiv:1808.06670, eq. 4, without its constant.

  Args:
    joint: `[B]` scores of pairs drawn jointly.
    apart: `[B]` scores of pairs drawn apart.

  Returns:
    `[B]` nats.

  Raises:
    ValueError: a rank other than 1, or two B.
  """
  joint, apart = shapes.floats(joint=joint, apart=apart)
  shapes.check_examples(joint=joint, apart=apart)
  return math.log(4.0) - jax.nn.softplus(-joint) - jax.nn.softplus(apart)
