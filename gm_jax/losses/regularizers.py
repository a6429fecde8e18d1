"""Regularizers that need no derivative of the critic: arrays in, arrays out.

Logits are `[B]`, one number an example. Every term comes without its weight, which the
caller multiplies, and unreduced `[B]` where it is a mean over examples. Penalties
on the critic's gradient are in `penalties`.
"""

import chex
import jax
import jax.numpy as jnp

from gm_jax.losses import shapes

Array = jax.Array


def _matrix(weight: Array) -> Array:
  """A Flax kernel `[..., inputs, outputs]` as a matrix `[K, outputs]`."""
  (weight,) = shapes.floats(weight=weight)
  if weight.ndim < 2:
    raise ValueError(f'weight must be [..., inputs, outputs], got {weight.shape}')
  return weight.reshape(-1, weight.shape[-1])


def spectral_norm(weight: Array) -> Array:
  """Half of the squared largest singular value of a layer's weight.

  sigma_1(W)^2 / 2

  A penalty; `models.layers` has the normalization that divides by sigma_1 instead.

  Source: Spectral Norm Regularization for Improving the Generalizability of Deep
  Learning, Yoshida and Miyato, 2017, arXiv:1705.10941.

  Args:
    weight: `[..., inputs, outputs]`, flattened to [K, outputs].

  Returns:
    `[]` in the unit of the weight squared.

  Raises:
    ValueError: fewer than two axes.
  """
  # By a full SVD, not by power iteration: a term without a state of its own.
  return jnp.square(jnp.linalg.norm(_matrix(weight), 2)) / 2.0


def orthogonal(weight: Array, *, diagonal: bool = True) -> Array:
  """The squared distance of the outputs' weights from orthonormal ones.

  |W^T W - I|_F^2,  or without the diagonal |W^T W (1 - I)|_F^2, which leaves the
  norms free.

  Source: Neural Photo Editing with Introspective Adversarial Networks, Brock et
  al., 2016, arXiv:1609.07093; without the diagonal, Large Scale GAN Training for
  High Fidelity Natural Image Synthesis, Brock et al., 2018, arXiv:1809.11096.

  Args:
    weight: `[..., inputs, outputs]`, flattened to [K, outputs].
    diagonal: whether norms other than 1 are penalized too.

  Returns:
    `[]`, a sum over pairs of outputs.

  Raises:
    ValueError: fewer than two axes.
  """
  matrix = _matrix(weight)
  # Near orthonormality the penalty is a small difference: at full precision.
  gram = jnp.matmul(matrix.T, matrix, precision=jax.lax.Precision.HIGHEST)
  eye = jnp.eye(gram.shape[0], dtype=gram.dtype)
  return jnp.square(gram - eye if diagonal else gram * (1.0 - eye)).sum()


def consistency(logits: Array, augmented_logits: Array) -> Array:
  """The consistency penalty of a critic under augmentation (CR).

  (D(x) - D(T(x)))^2

  Source: Consistency Regularization for Generative Adversarial Networks, Zhang et
  al., 2019, arXiv:1910.12027, whose weight is 10.

  Args:
    logits: `[B]` the critic on x.
    augmented_logits: `[B]` the critic on T(x), of the same examples.

  Returns:
    `[B]` logits squared.

  Raises:
    ValueError: a rank other than 1, or two B.
  """
  logits, augmented_logits = shapes.floats(
    logits=logits, augmented_logits=augmented_logits
  )
  shapes.check_examples(logits=logits, augmented_logits=augmented_logits)
  return jnp.square(logits - augmented_logits)


def balanced_consistency(
  real_logits: Array,
  augmented_real_logits: Array,
  fake_logits: Array,
  augmented_fake_logits: Array,
) -> Array:
  """The balanced consistency penalty, on data and on samples (bCR).

  (D(x) - D(T(x)))^2 + (D(G(z)) - D(T(G(z))))^2

  On data alone augmentations leak into the samples.

  Source: Improved Consistency Regularization for GANs, Zhao et al., 2020,
  arXiv:2002.04724, algorithm 1, whose weights are 10 and 10.

  Args:
    real_logits: `[B]` the critic on data.
    augmented_real_logits: `[B]` on the same data, augmented.
    fake_logits: `[B]` on samples.
    augmented_fake_logits: `[B]` on the same samples, augmented.

  Returns:
    `[B]` logits squared.

  Raises:
    ValueError: a rank other than 1, or two B.
  """
  shapes.check_examples(real_logits=real_logits, fake_logits=fake_logits)
  real = consistency(real_logits, augmented_real_logits)
  return real + consistency(fake_logits, augmented_fake_logits)


def latent_diversity(samples: Array, perturbed_samples: Array) -> Array:
  """The generator's term of latent consistency (zCR): the samples should differ.

  -|G(z) - G(z + dz)|^2

  The discriminator's term is `consistency` of D(G(z)) and D(G(z + dz)): it is to be
  insensitive to what the generator is to be sensitive to.

  Source: Improved Consistency Regularization for GANs, Zhao et al., 2020,
  arXiv:2002.04724, algorithm 2, whose weights are 5 for D and 0.5 for G, with
  dz ~ N(0, 0.03^2 I).

  Args:
    samples: `[B, ...]` G(z).
    perturbed_samples: `[B, ...]` G(z + dz).

  Returns:
    `[B]` in the unit of the data squared, at most 0.

  Raises:
    ValueError: the shapes differ.
  """
  samples, perturbed_samples = shapes.floats(
    samples=samples, perturbed_samples=perturbed_samples
  )
  chex.assert_equal_shape(
    [samples, perturbed_samples],
    custom_message='samples and perturbed_samples must have one shape',
    exception_type=ValueError,
  )
  squares = jnp.square(samples - perturbed_samples)
  return -squares.sum(axis=tuple(range(1, samples.ndim)))


def lecam(
  real_logits: Array, fake_logits: Array, real_anchor: Array, fake_anchor: Array
) -> Array:
  """The LeCam penalty: outputs stay near the average output of the other side.

  (D(x) - a_fake)^2 + (D(G(z)) - a_real)^2

  For the Wasserstein critic at its optimum, with the anchors at its means, the game
  becomes a LeCam (triangular) divergence. The published code cuts both differences
  off below zero, which the paper's formula does not.

  Source: Regularizing Generative Adversarial Networks under Limited Data, Tseng et
  al., 2021, arXiv:2104.03310, eq. 4.

  Args:
    real_logits: `[B]` the critic on data.
    fake_logits: `[B]` on samples.
    real_anchor: `[]` moving average of the critic on data; see `lecam_anchor`.
    fake_anchor: `[]` that on samples.

  Returns:
    `[B]` logits squared.

  Raises:
    ValueError: a rank other than 1, two B, or an anchor that is no scalar.
  """
  real_logits, fake_logits = shapes.floats(
    real_logits=real_logits, fake_logits=fake_logits
  )
  real_anchor, fake_anchor = shapes.floats(
    real_anchor=real_anchor, fake_anchor=fake_anchor
  )
  shapes.check_examples(real_logits=real_logits, fake_logits=fake_logits)
  for name, anchor in (('real_anchor', real_anchor), ('fake_anchor', fake_anchor)):
    if jnp.ndim(anchor):
      raise ValueError(f'{name} must be [], got {jnp.shape(anchor)}')
  # Crosswise: each side is held near the other's anchor, which bounds the gap.
  return jnp.square(real_logits - fake_anchor) + jnp.square(fake_logits - real_anchor)


def lecam_anchor(anchor: Array, logits: Array, *, decay: float = 0.99) -> Array:
  """Returns the next moving average of the critic's output.

  decay a + (1 - decay) mean D

  Batch-coupled; no gradient passes.

  Source: Regularizing Generative Adversarial Networks under Limited Data, Tseng et
  al., 2021, arXiv:2104.03310.

  Args:
    anchor: `[]` the average so far.
    logits: `[B]` the critic on this step's batch.
    decay: in [0, 1); one step moves the average by 1 - decay of the way.

  Returns:
    `[]` logits.

  Raises:
    ValueError: `decay` outside [0, 1), or logits of a rank other than 1.
  """
  if not 0.0 <= decay < 1.0:
    raise ValueError(f'decay must be in [0, 1), got {decay}')
  anchor, logits = shapes.floats(anchor=anchor, logits=logits)
  shapes.check_examples(logits=logits)
  return jax.lax.stop_gradient(decay * anchor + (1.0 - decay) * logits.mean())


def top_k_weights(fake_logits: Array, k: Array | int) -> Array:
  """Returns weights that make a mean over a batch one over its k best samples.

  B / k for the k samples that the critic rates highest, 0 for the others

  Batch-coupled; no gradient passes.

  Source: Top-k Training of GANs, Sinha et al., 2020, arXiv:2002.06224, where k falls
  from B to B / 2.

  Args:
    fake_logits: `[B]` the critic on samples.
    k: how many, in 1..B; may be traced, for a schedule.

  Returns:
    `[B]` weights of mean 1.

  Raises:
    ValueError: a rank other than 1, or a `k` that is a number outside 1..B.
  """
  (fake_logits,) = shapes.floats(fake_logits=fake_logits)
  shapes.check_examples(fake_logits=fake_logits)
  num = fake_logits.shape[0]
  if not isinstance(k, jax.core.Tracer) and not (int(k) == k and 1 <= k <= num):
    raise ValueError(f'k must be an integer in 1..{num}, got {k}')
  # A rank by two sorts, and not `jax.lax.top_k`: exactly k of tied logits, and a k
  # that may be traced.
  rank = jnp.argsort(jnp.argsort(-jax.lax.stop_gradient(fake_logits)))
  return jnp.where(rank < k, num / jnp.asarray(k, fake_logits.dtype), 0.0)


def feature_matching(real_features: Array, fake_features: Array) -> Array:
  """The squared distance between mean features of data and of samples.

  |mean phi(x) - mean phi(G(z))|^2

  Batch-coupled. It is `discrepancy.mmd2_biased` with the kernel <phi, phi>.

  Source: Improved Techniques for Training GANs, Salimans et al., 2016,
  arXiv:1606.03498, section 3.1.

  Args:
    real_features: `[N, ...]` phi of data.
    fake_features: `[M, ...]` phi of samples.

  Returns:
    `[]` in the unit of the features squared.

  Raises:
    ValueError: the features differ in shape beyond their number.
  """
  real_features, fake_features = shapes.floats(
    real_features=real_features, fake_features=fake_features
  )
  if real_features.shape[1:] != fake_features.shape[1:]:
    raise ValueError(
      f'features must agree beyond their number, got {real_features.shape} and'
      f' {fake_features.shape}'
    )
  # Neither mean alone keeps the digits of their difference, far from 0.
  center = jax.lax.stop_gradient(real_features.mean(axis=0))
  gap = (real_features - center).mean(axis=0) - (fake_features - center).mean(axis=0)
  return jnp.square(gap).sum()


def drift(real_logits: Array) -> Array:
  """The square of a critic's output on data, which holds its level near 0.

  r^2

  A Wasserstein critic is free to add a constant to all its outputs; with a small
  weight this takes the freedom away.

  Source: Progressive Growing of GANs for Improved Quality, Stability, and Variation,
  Karras et al., 2017, arXiv:1710.10196, appendix A.1, whose weight is 0.001.

  Args:
    real_logits: `[B]` the critic's raw output on data, or `[B, ...]` of patches.

  Returns:
    `[B]` logits squared, a mean over patches.

  Raises:
    ValueError: a scalar.
  """
  (real_logits,) = shapes.floats(real_logits=real_logits)
  if real_logits.ndim < 1:
    raise ValueError('real_logits must be [B], one number an example, got a scalar')
  return jnp.square(real_logits).reshape(len(real_logits), -1).mean(axis=1)
