"""Coverage of the modes of a known distribution by samples, and its evenness.

`coverage` is of a mixture of K isotropic Gaussians with known means [K, D] and one
known standard deviation; its numbers depend on the radius over the standard
deviation, on how many samples are drawn and on what counts as a hit.
`stacked_coverage` is of labels that a classifier gave, as stacked digits have; its
numbers depend on the classifier and on how many samples are drawn. Report these
together.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.scipy import special

from gm_jax.losses import shapes

Array = jax.Array


class Coverage(NamedTuple):
  """The coverage of a mixture's modes by a set of samples."""

  modes: Array  # [] int32, modes with enough high-quality samples
  high_quality: Array  # [] fraction of all samples that are close to a mode
  reverse_kl: Array  # [] nats, KL(q || p) over modes; inf where nothing is close


class StackedCoverage(NamedTuple):
  """The coverage of modes by a set of labels."""

  modes: Array  # [] int32, modes with at least one sample
  reverse_kl: Array  # [] nats, KL(model || uniform) over modes; inf without labels


def _reverse_kl(hits: Array, weights: Array) -> Array:
  """The KL `[]` in nats of a histogram of hits `[K]` from weights `[K]`."""
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
  """The number of modes, fraction of high-quality samples and reverse KL of a mixture.

  A sample is of high quality where it is within threshold * std (Euclidean) of
  its nearest mean, the edge included. A mode is found where it is the nearest of
  at least `min_hits` such samples. With q the fraction of each mode among the
  high-quality samples and p the weights,

    reverse KL = sum_k q_k log(q_k / p_k).

  Where no sample is of high quality q does not exist, and the KL is inf: the
  worst value, so that a broken sampler never ranks well (a mean over seeds is
  then inf too: report the median). The same holds of samples that are NaN.

  Source: PacGAN: The power of two samples in generative adversarial networks,
  Lin et al., 2017, arXiv:1712.04086, where one sample is enough to find a
  mode: `min_hits=1`.

  Args:
    samples: `[N, D]` samples.
    means: `[K, D]` means of the modes.
    std: `[]` standard deviation of every mode, in the unit of the samples.
    weights: `[K]` probabilities of the modes, normalized here; uniform by default.
    min_hits: high-quality samples that make a mode found.
    threshold: in standard deviations.

  Returns:
    `[]` modes, `[]` high_quality and `[]` reverse_kl in nats.

  Raises:
    ValueError: `samples` or `means` is not of rank 2, the two differ in D, or
      `weights` is not [K].
  """
  samples, means = shapes.floats(samples=samples, means=means)
  for name, rows in (('samples', samples), ('means', means)):
    message = f'{name} must be of rank 2, samples [N, D] and means [K, D]'
    chex.assert_rank(rows, 2, custom_message=message, exception_type=ValueError)
  weights = jnp.ones(means.shape[0]) if weights is None else weights
  (weights,) = shapes.floats(weights=weights)
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


def stacked_coverage(labels: Array, *, num_modes: int = 1000) -> StackedCoverage:
  """The number of modes, and reverse KL from the uniform distribution, of labels.

  With p the fraction of each of the K modes among the labels,

    KL(model || uniform) = sum_k p_k log(p_k K),

  the reverse KL: 0 where the modes are even, log K in collapse to one. It is biased
  upwards by the finite number N of labels: N draws of truly even modes give about
  (K - 1) / (2 N) nats, 0.0195 for the papers' K = 1000 and N = 25,600, and
  K (1 - (1 - 1/K)^N) modes.

  Source: Unrolled Generative Adversarial Networks, Metz et al., 2017,
  arXiv:1611.02163, section 3.3.1; PacGAN: The power of two samples in generative
  adversarial networks, Lin et al., 2017, arXiv:1712.04086, section 4.2.

  Args:
    labels: `[N]` int; those that are not in [0, num_modes) count for no mode.
    num_modes: K.

  Returns:
    `[]` modes and `[]` reverse_kl in nats.

  Raises:
    ValueError: `labels` is not of integers or of rank 1, or `num_modes` below 1.
  """
  shapes.check_integers(labels=labels)
  message = 'labels must be of rank 1, [N]'
  chex.assert_rank(labels, 1, custom_message=message, exception_type=ValueError)
  if num_modes < 1:
    raise ValueError(f'num_modes must be >= 1, got {num_modes}')
  labels = jnp.asarray(labels, jnp.int32)  # an int8 holds no number of so many modes
  labels = jnp.where(labels < 0, num_modes, labels)  # negative indices would wrap
  hits = jnp.zeros(num_modes, jnp.int32).at[labels].add(1, mode='drop')
  return StackedCoverage(
    modes=(hits > 0).sum(dtype=jnp.int32),
    reverse_kl=_reverse_kl(hits, jnp.ones(num_modes)),
  )


def stacked_labels(classify: Callable[[Array], Array], images: Array) -> Array:
  """Labels stacked images: each channel's class is a decimal digit.

  label = 100 a + 10 b + c for the classes a, b, c of the three channels, and so on
  for another number of channels.

  Args:
    classify: images of one channel `[B, H, W, 1]` -> `[B, 10]` logits.
    images: `[B, H, W, C]` images.

  Returns:
    `[B]` int32 labels in [0, 10^C).

  Raises:
    ValueError: `images` is not of rank 4, or the logits are not [B, 10].
  """
  message = 'images must be of rank 4, [B, H, W, C]'
  chex.assert_rank(images, 4, custom_message=message, exception_type=ValueError)
  labels = jnp.zeros(images.shape[0], jnp.int32)
  for channel in range(images.shape[-1]):
    logits = classify(images[..., channel : channel + 1])
    if logits.shape != (images.shape[0], 10):
      raise ValueError(f'classify must give [B, 10] logits, got {list(logits.shape)}')
    labels = 10 * labels + logits.argmax(axis=-1).astype(jnp.int32)
  return labels
