"""Remedies against mode collapse: critics of packs, batch statistics, augmentations.

Each wraps a critic `module(x, train=...)` and is one itself, so that every adversarial
method takes it. All but the augmented ones are batch-coupled: an example's logit
depends on the other examples of its batch.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from gm_jax import augmentation, base

EPSILON = 1e-8  # inside the root of the batch's standard deviation


class Packed(nn.Module):
  """A critic of packs: m neighbors in the batch, joined along the last axis.

  The pack's logit stands for each of its m examples, so that means over examples, and
  their gradients, are those over packs. While not training, and at initialization, an
  example's logit is that of a pack of m copies of itself.

  Source: PacGAN: The power of two samples in generative adversarial networks, Lin et
  al., 2017, arXiv:1712.04086.

  Attributes:
    critic: `[B / m, ..., m C]` -> `[B / m]` or [B / m, 1].
    num_packed: m >= 1.
  """

  critic: nn.Module
  num_packed: int

  def __call__(self, x: base.Array, *, train: bool = False) -> base.Array:
    """Maps examples to the logits of their packs.

    Args:
      x: `[B, ..., C]` examples, m neighbors a pack.
      train: whether to pack; passed on to the critic.

    Returns:
      `[B, 1]` logits.

    Raises:
      ValueError: m is below 1, or B is not divisible by it.
    """
    num = self.num_packed
    if num < 1:
      raise ValueError(f'num_packed must be >= 1, got {num}')
    if not train:
      return self.critic(jnp.concatenate([x] * num, -1), train=False).reshape(-1, 1)
    if len(x) % num:
      raise ValueError(f'a batch of {len(x)} examples cannot be packed by {num}')
    packs = x.reshape(-1, num, *x.shape[1:])
    packs = jnp.concatenate([packs[:, i] for i in range(num)], -1)
    logits = self.critic(packs, train=True).reshape(-1, 1)
    return jnp.repeat(logits, num, axis=0)


def minibatch_stddev(x: base.Array, *, group_size: int = 4) -> base.Array:
  """Appends a feature: the standard deviation within the example's group, averaged.

  A group is every (B / group_size)-th example; its deviations are averaged over all
  features and positions. Batch-coupled.

  Source: Progressive Growing of GANs for Improved Quality, Stability, and Variation,
  Karras et al., 2017, arXiv:1710.10196, section 3.

  Args:
    x: `[B, ..., C]` features.
    group_size: the largest size of a group; the largest divisor of B up to it is taken.

  Returns:
    `[B, ..., C + 1]` features.

  Raises:
    ValueError: `group_size` is below 1.
  """
  if group_size < 1:
    raise ValueError(f'group_size must be >= 1, got {group_size}')
  # A divisor of B, so that a batch of any size has groups of one size.
  size = max(n for n in range(1, group_size + 1) if len(x) % n == 0)
  groups = x.reshape(size, -1, *x.shape[1:])
  std = jnp.sqrt(groups.var(axis=0) + EPSILON)  # [B / size, ..., C]
  mean = std.mean(axis=tuple(range(1, std.ndim)))
  shape = (len(x), *(1,) * (x.ndim - 1))
  feature = jnp.broadcast_to(jnp.tile(mean, size).reshape(shape), (*x.shape[:-1], 1))
  return jnp.concatenate([x, feature.astype(x.dtype)], -1)


class MinibatchDiscrimination(nn.Module):
  """Appends features: the closeness to other examples, in learned projections.

    M_i = T f_i  [K, D],   o_ik = sum_{j != i} exp(-|M_ik - M_jk|_1)

  Batch-coupled; B x B x K x D numbers, so for small batches.

  Source: Improved Techniques for Training GANs, Salimans et al., 2016,
  arXiv:1606.03498, section 3.2.

  Attributes:
    num_kernels: K, features added.
    kernel_dim: D.
  """

  num_kernels: int = 8
  kernel_dim: int = 4

  @nn.compact
  def __call__(self, x: base.Array) -> base.Array:
    """Maps features `[B, F]` to `[B, F + K]`."""
    shape = (len(x), self.num_kernels, self.kernel_dim)
    projected = nn.Dense(shape[1] * shape[2], use_bias=False)(x).reshape(shape)
    distances = jnp.abs(projected[:, None] - projected).sum(axis=-1)  # [B, B, K]
    near = jnp.exp(-distances).sum(axis=1) - 1.0  # less itself
    return jnp.concatenate([x, near], -1)


class WithStatistics(nn.Module):
  """A critic whose last layer takes a statistic of the batch's features too.

  Attributes:
    body: x -> features [B, F]; its last layer is followed by `activation`.
    statistic: `[B, F]` -> `[B, F']`, a function or a module.
    activation: of the features.
  """

  body: nn.Module
  statistic: Callable
  activation: Callable = nn.leaky_relu

  @nn.compact
  def __call__(self, x: base.Array, *, train: bool = False) -> base.Array:
    """Maps examples `[B, ...]` to logits `[B, 1]`; `train` is the body's."""
    features = self.activation(self.body(x, train=train))
    return nn.Dense(1)(self.statistic(features))


class Augmented(nn.Module):
  """A critic that is applied to augmented examples only, while training.

  The augmentation's key is the module's 'dropout' key.

  Source: Differentiable Augmentation for Data-Efficient GAN Training, Zhao et al.,
  2020, arXiv:2006.10738, algorithm 1.

  Attributes:
    critic: x -> logits.
    augment: (key, x) -> x, differentiable.
  """

  critic: nn.Module
  augment: augmentation.Augmentation

  def __call__(self, x: base.Array, *, train: bool = False) -> base.Array:
    """Maps images `[B, H, W, C]` to the critic's logits, augmented if `train`."""
    x = self.augment(self.make_rng('dropout'), x) if train else x
    return self.critic(x, train=train)


class AdaptivelyAugmented(nn.Module):
  """An `Augmented` critic that augments each example with a probability it carries.

  The probability is in the collection 'augment', as `strength` [], begins at 0 and is
  moved by `methods.ada_gan`.

  Source: Training Generative Adversarial Networks with Limited Data, Karras et al.,
  2020, arXiv:2006.06676, section 3.

  Attributes:
    critic: x -> logits.
    augment: (key, x) -> x, differentiable.
  """

  critic: nn.Module
  augment: augmentation.Augmentation

  @nn.compact
  def __call__(self, x: base.Array, *, train: bool = False) -> base.Array:
    """Maps images `[B, H, W, C]` to the critic's logits, augmented if `train`."""
    strength = self.variable('augment', 'strength', jnp.zeros, ())
    if train:
      maybe = augmentation.with_probability(self.augment, strength.value)
      x = maybe(self.make_rng('dropout'), x)
    return self.critic(x, train=train)


def strength_of(extra: dict, player: str) -> jax.Array:
  """Returns the probability that an `AdaptivelyAugmented` player carries.

  Args:
    extra: of a state, with the collection 'augment' by player.
    player: the critic's name.

  Returns:
    `[]` in [0, 1].
  """
  return extra['augment'][player]['strength']
