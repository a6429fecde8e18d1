"""Residual networks of spectrally normalized GANs, with a condition or without.

Images are [B, H, W, C] in [-1, 1]. The generator is batch-coupled while training, its
condition enters by the gains and shifts of the normalization; the discriminator's
features are for `joint.Projection`, or for its own linear layer.

Source: Spectral Normalization for Generative Adversarial Networks, Miyato et al., 2018,
arXiv:1802.05957, table 4; cGANs with Projection Discriminator, Miyato and Koyama, 2018,
arXiv:1802.05637.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp

from gm_jax import base
from gm_jax.models import layers

_PLAIN = nn.initializers.xavier_uniform()
_RELU = nn.initializers.variance_scaling(
  2.0, 'fan_avg', 'uniform'
)  # Glorot, gain sqrt 2


def _doubled(x: base.Array) -> base.Array:
  """Every pixel four times: [B, H, W, C] -> [B, 2 H, 2 W, C]."""
  return x.repeat(2, axis=1).repeat(2, axis=2)


def _halved(x: base.Array) -> base.Array:
  """Means of 2x2 pixels."""
  return nn.avg_pool(x, (2, 2), (2, 2))


class Generator(nn.Module):
  """Maps latents to images: a projection to 4x4 or 7x7, then blocks that double.

  Attributes:
    size: height and width, 4 or 7 times a power of 2 (`layers.num_doublings`).
    channels: of the image.
    features: of every block.
  """

  size: int
  channels: int
  features: int = 256

  @nn.compact
  def __call__(
    self, z: base.Array, condition: base.Array | None = None, *, train: bool = False
  ) -> base.Array:
    """Maps z `[B, Z]`, and conditions `[B, K]`, to images `[B, size, size, C]`.

    Raises:
      ValueError: the size is not an allowed one.
    """
    doublings = layers.num_doublings(self.size)
    start = self.size // 2**doublings

    def normalized(x):
      if condition is None:
        return nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
      return layers.ConditionalBatchNorm()(x, condition, train=train)

    x = nn.Dense(start * start * self.features, kernel_init=_PLAIN)(z)
    x = x.reshape(len(z), start, start, self.features)
    for _ in range(doublings):
      y = _doubled(nn.relu(normalized(x)))
      y = layers.SameConv(self.features, kernel_init=_RELU)(y)
      y = layers.SameConv(self.features, kernel_init=_RELU)(nn.relu(normalized(y)))
      x = y + layers.SameConv(self.features, 1, kernel_init=_PLAIN)(_doubled(x))
    x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
    x = layers.SameConv(self.channels, kernel_init=_PLAIN)(x)
    return jnp.tanh(layers.at_least_float32(x))


class Discriminator(nn.Module):
  """Maps images to features >= 0: residual blocks, of which the first ones halve.

  Every kernel is spectrally normalized.

  Attributes:
    features: F, of every block.
    halvings: blocks that halve height and width, at least 1.
    num_blocks: of all, at least as many.
    num_outputs: of a linear layer at the end; None for the features themselves.
  """

  features: int = 128
  halvings: int = 2
  num_blocks: int = 4
  num_outputs: int | None = None

  @nn.compact
  def __call__(self, x: base.Array, *, train: bool = False) -> base.Array:
    """Maps images `[B, H, W, C]` to features `[B, F]`, summed over positions.

    With `num_outputs`, to a linear map `[B, num_outputs]` of them.
    """
    wrap = functools.partial(layers.normalize, spectral_norm=True, train=train)

    def conv(x, size, init):
      return wrap(layers.SameConv(self.features, size, kernel_init=init))(x)

    # The first block has no activation before it: x is an image.
    y = conv(nn.relu(conv(x, 3, _RELU)), 3, _RELU)
    x = _halved(y) + conv(_halved(x), 1, _PLAIN)
    for i in range(1, self.num_blocks):
      y = conv(nn.relu(conv(nn.relu(x), 3, _RELU)), 3, _RELU)
      halves = i < self.halvings
      x = _halved(y) + _halved(conv(x, 1, _PLAIN)) if halves else y + x
    x = nn.relu(x).sum(axis=(1, 2))
    if self.num_outputs is not None:
      x = wrap(nn.Dense(self.num_outputs, kernel_init=_PLAIN))(x)
    return layers.at_least_float32(x)
