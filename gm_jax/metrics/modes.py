"""Which modes of a known mixture a sampler reaches, and how evenly.

The data are a mixture of K isotropic Gaussians with known means [K, D] and one
known standard deviation. Numbers of this kind depend on the radius over the
standard deviation, on how many samples are drawn and on what counts as a hit:
report them together.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.scipy import special

Array = jax.Array


class Coverage(NamedTuple):
  """How a set of samples covers the modes of a mixture."""

  modes: Array  # [] int32, modes with enough high-quality samples
  high_quality: Array  # [] share of all samples that are close to a mode
  reverse_kl: Array  # [] nats, KL(q || p) over modes; inf where nothing is close


def _reverse_kl(hits: Array, weights: Array) -> Array:
  """KL of the histogram of hits [K] from the normalized weights [K]; [] nats."""
  total = hits.sum()
  q = hits / jnp.maximum(total, 1)
  kl = special.rel_entr(q, weights / weights.sum()).sum()
  return jnp.where(total > 0, kl, jnp.inf)


def coverage(
  samples: Array,
  means: Array,
  std: float | Array,
  *,
  weights: Array | None = None,
  min_hits: int = 20,
  threshold: float = 3.0,
) -> Coverage:
  """Mode count, share of high-quality samples and reverse KL of a mixture.

  A sample is of high quality where it is within threshold * std (Euclidean) of
  its nearest mean, the edge included. A mode is found where it is the nearest of
  at least `min_hits` such samples. With q the share of each mode among the
  high-quality samples and p the weights,

    reverse KL = sum_k q_k log(q_k / p_k).

  Where no sample is of high quality q does not exist, and the KL is inf: the
  worst value, so that a broken sampler never ranks well (a mean over seeds is
  then inf too: report the median). The same holds of samples that are NaN.

  Source: PacGAN: The power of two samples in generative adversarial networks,
  Lin et al., 2017, arXiv:1712.04086, where one sample is enough to find a
  mode: `min_hits=1`.

  Args:
    samples: [N, D].
    means: [K, D].
    std: [] standard deviation of every mode, in the unit of the samples.
    weights: [K] of the modes, normalized here; uniform by default.
    min_hits: high-quality samples that make a mode found.
    threshold: in standard deviations.

  Returns:
    Three [] numbers.

  Raises:
    ValueError: `samples` or `means` is not of rank 2, the two differ in D, or
      `weights` is not [K].
  """
  for name, rows in (('samples', samples), ('means', means)):
    message = f'{name} must be of rank 2, samples [N, D] and means [K, D]'
    chex.assert_rank(rows, 2, custom_message=message, exception_type=ValueError)
  weights = jnp.ones(means.shape[0]) if weights is None else weights
  if samples.shape[1] != means.shape[1] or weights.shape != means.shape[:1]:
    raise ValueError(
      'samples [N, D], means [K, D] and weights [K] must agree, got'
      f' {samples.shape}, {means.shape} and {weights.shape}'
    )
  distances = jnp.linalg.norm(samples[:, None] - means, axis=-1)  # [N, K]
  close = distances.min(axis=1) <= threshold * std
  nearest = jax.nn.one_hot(distances.argmin(axis=1), means.shape[0], dtype=jnp.int32)
  hits = (nearest * close[:, None]).sum(axis=0)
  return Coverage(
    modes=(hits >= min_hits).sum(dtype=jnp.int32),
    high_quality=close.mean(),
    reverse_kl=_reverse_kl(hits, weights),
  )
