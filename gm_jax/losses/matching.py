"""Objectives on pairs of data and a description: do the two belong together?

A critic of pairs (x, t) that sees only real pairs and fakes may look at x alone. One
that also sees real data with a description that is another's must read it: it is
matching-aware. Logits are log-odds of "real, and as described".

With p(x, t) the data, p(x) p(t) what mismatched pairs follow and q(x, t) the fakes, the
critic that minimizes `discriminator` is

  D(x, t) = ln p(x, t) - ln(w p(x) p(t) + (1 - w) q(x, t)).

Source: Generative Adversarial Text to Image Synthesis, Reed et al., 2016,
arXiv:1605.05396.

  >>> import jax.numpy as jnp
  >>> from gm_jax.losses import matching
  >>> zero = jnp.zeros(1)
  >>> print(matching.discriminator(zero, zero, zero) / jnp.log(2.0))  # ln 2 each, 1:1
  [2.]
"""

import jax
import jax.numpy as jnp

from gm_jax.losses import shapes, variational

Array = jax.Array


def discriminator(
  real_logits: Array, wrong_logits: Array, fake_logits: Array, *, mismatch: float = 0.5
) -> Array:
  """The loss of a matching-aware critic.

  softplus(-r) + w softplus(m) + (1 - w) softplus(f)

  Source: Reed et al., 2016, arXiv:1605.05396, algorithm 1, w = 1/2.

  Args:
    real_logits: `[B]` r, of data with their own description.
    wrong_logits: `[B]` m, of data with another's.
    fake_logits: `[B]` f, of fakes with the description they were made from.
    mismatch: w in [0, 1]; at 0 the critic is that of a conditional GAN.

  Returns:
    `[B]` nats.

  Raises:
    ValueError: shapes that are not [B], or w outside [0, 1].
  """
  if not 0 <= mismatch <= 1:
    raise ValueError(f'mismatch must be in [0, 1], got {mismatch}')
  real_logits, wrong_logits, fake_logits = shapes.floats(
    real_logits=real_logits, wrong_logits=wrong_logits, fake_logits=fake_logits
  )
  shapes.check_examples(
    real_logits=real_logits, wrong_logits=wrong_logits, fake_logits=fake_logits
  )
  wrong, fake = jax.nn.softplus(wrong_logits), jax.nn.softplus(fake_logits)
  return jax.nn.softplus(-real_logits) + mismatch * wrong + (1 - mismatch) * fake


def generator(fake_logits: Array, between_logits: Array | None = None) -> Array:
  """The loss of a generator on descriptions and on what lies between two of them.

  softplus(-f), one value a fake; with B fakes of descriptions and B / 2 of means of two
  their average weighs the two kinds 2/3 and 1/3.

  Source: Reed et al., 2016, arXiv:1605.05396, equation 5; the weights are those of the
  authors' code, whose average runs over both kinds at once.

  Args:
    fake_logits: `[B]` of fakes with their descriptions.
    between_logits: `[M]` of fakes of interpolated descriptions, with these; or None.

  Returns:
    `[B + M]` nats.

  Raises:
    ValueError: a rank other than 1.
  """
  (fake_logits,) = shapes.floats(fake_logits=fake_logits)
  shapes.check_examples(fake_logits=fake_logits)
  if between_logits is not None:
    (between_logits,) = shapes.floats(between_logits=between_logits)
    shapes.check_examples(between_logits=between_logits)
    fake_logits = jnp.concatenate([fake_logits, between_logits])
  return jax.nn.softplus(-fake_logits)


def conditioning_kl(mean: Array, log_std: Array) -> Array:
  """How far an augmented condition N(m, s^2) is from the standard normal.

  1/K sum_k [(s_k^2 - 1 + m_k^2) / 2 - ln s_k]

  A mean over dimensions: 1/K of the divergence KL(N(m, s^2) || N(0, I)) in nats, which
  is what the published code has, with a weight of 2 in front.

  Source: StackGAN, Zhang et al., 2017, arXiv:1612.03242, equation 2.

  Args:
    mean: `[B, K]` m.
    log_std: `[B, K]` ln s.

  Returns:
    `[B]` nats a dimension, at least 0.

  Raises:
    ValueError: shapes that differ, or are not [B, K].
  """
  each = variational.standard_normal_kl_each(mean, log_std)
  if each.ndim != 2:
    raise ValueError(f'mean and log_std must be [B, K], got {each.shape}')
  return each.mean(axis=1)
