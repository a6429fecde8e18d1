"""Objectives of translating images between domains that come without pairs.

A translator takes x of one domain to another. Nothing says which y belongs to x, so
what is asked is that x can be had back (`absolute_error` of the way there and back),
that what is in the domain already stays (`absolute_error` again), and that a critic
finds the domain that was asked for (`domain_classification`).

Errors are means over the numbers of an example, as in the published code, so that a
weight means the same for images of every size; entropies are in nats.

  >>> import jax.numpy as jnp
  >>> from gm_jax.losses import translation
  >>> x = jnp.zeros((1, 2, 2, 1))
  >>> print(translation.absolute_error(x, x + 0.5))
  [0.5]
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from gm_jax.losses import shapes

Array = jax.Array


def absolute_error(x: Array, again: Array) -> Array:
  """The mean absolute difference of an example and what a translator makes of it.

  1/D sum_d |again_d - x_d|

  The cycle term, where `again` is x translated there and back, and the identity term,
  where it is a y that was translated to its own domain. Where both numbers are the same
  its derivative is 0 (JAX's own of |x| is 1 at 0).

  Source: Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial
  Networks, Zhu et al., 2017, arXiv:1703.10593, equation 2 and section 5.2. Its weights
  are 10 and 5.

  Args:
    x: `[B, ...]` examples.
    again: `[B, ...]` of the same shape.

  Returns:
    `[B]` in the unit of x, at least 0.

  Raises:
    ValueError: two shapes, or a scalar.
  """
  x, again = shapes.floats(x=x, again=again)
  shapes.check_equal(x=x, again=again)
  gap = again - x
  gap *= jax.lax.stop_gradient(jnp.sign(gap))
  return gap.reshape(len(x), -1).mean(axis=1)


def domain_classification(
  logits: Array, domain: Array, *, sizes: Sequence[int] | None = None
) -> Array:
  """The cross entropy of a critic's domains, each data set's domains by themselves.

  log sum_{k of c's data set} exp l_k - l_c

  Where several data sets are trained on together, each has domains of its own, and an
  example says nothing about those of another: their logits are left out, which is what
  the source's mask does.

  Source: StarGAN: Unified Generative Adversarial Networks for Multi-Domain
  Image-to-Image Translation, Choi et al., 2018, arXiv:1711.09020, equations 2 and 3,
  section 3.3. Of attributes, several of which an image may have, the published code
  takes binary entropies; domains here exclude one another.

  Args:
    logits: `[B, K]` of all domains, one data set's after another's.
    domain: `[B]` integers c in [0, K).
    sizes: numbers of domains by data set, whose sum is K; one of K if None.

  Returns:
    `[B]` nats, at least 0.

  Raises:
    ValueError: shapes that are not these, sizes whose sum is not K, or a concrete
      domain that is not in [0, K).
  """
  (logits,) = shapes.floats(logits=logits)
  domain = jnp.asarray(domain)
  if logits.ndim != 2 or domain.shape != logits.shape[:1]:
    raise ValueError(
      f'logits and domain must be [B, K] and [B], got {logits.shape} and {domain.shape}'
    )
  sizes = logits.shape[1:] if sizes is None else tuple(sizes)
  if sum(sizes) != logits.shape[1] or min(sizes, default=0) < 1:
    raise ValueError(
      f'sizes must be positive and of sum {logits.shape[1]}, the logits, got {sizes}'
    )
  shapes.check_levels(logits.shape[1], domain=domain)
  domain = jnp.clip(domain.astype(jnp.int32), 0, logits.shape[1] - 1)
  of_set = jnp.repeat(
    jnp.arange(len(sizes)), jnp.array(sizes), total_repeat_length=sum(sizes)
  )
  together = of_set == of_set[domain][:, None]  # [B, K]
  # What is left out gets no gradient: exp(-inf) is 0, and so is its derivative.
  log_p = jax.nn.log_softmax(jnp.where(together, logits, -jnp.inf), axis=1)
  return -jnp.take_along_axis(log_p, domain[:, None], axis=1)[:, 0]
