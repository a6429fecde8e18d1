"""The two networks of R3GAN: residual, without normalization.

A block is x + W3 lrelu(b2 + conv(lrelu(b1 + W1 x))), its middle a 3x3 convolution in
groups, W3 zero at the beginning, so that a network begins as its resamplings. Other
kernels are from N(0, gain^2 / fan-in) with the leaky rectifier's gain times L^(-1/4),
L the number of blocks: normalization is not needed to keep the signal's size.
Resampling is filtered by [1, 2, 1] in each direction. Images are [B, H, W, C]; nothing
bounds the generator's, as in the source.

Source: The GAN is dead; long live the GAN! A Modern Baseline GAN, Huang et al., 2024,
arXiv:2501.05441, section 4; initialization: Fixup, Zhang et al., 2019,
arXiv:1901.09321.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from gm_jax import base
from gm_jax.models import layers

SLOPE = 0.2
GAIN = math.sqrt(2 / (1 + SLOPE**2))  # keeps the second moment through the rectifier


def _normal_init(gain: float) -> nn.initializers.Initializer:
  """The initializer N(0, gain^2 / fan-in); with gain 0, zeros."""
  if not gain:
    return nn.initializers.zeros
  return nn.initializers.variance_scaling(gain**2, 'fan_in', 'normal')


def _linear(features: int, gain: float) -> nn.Dense:
  """A 1x1 convolution."""
  return nn.Dense(features, use_bias=False, kernel_init=_normal_init(gain))


def blur(x: base.Array) -> base.Array:
  """Blurs by [1, 2, 1] / 4 in each direction, the border repeated; constants stay.

  Args:
    x: `[B, H, W, C]` images.

  Returns:
    `[B, H, W, C]` images.
  """
  x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode='edge')
  x = (x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]) / 4
  return (x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]) / 4


def upsample(x: base.Array) -> base.Array:
  """Doubles height and width: each pixel twice, then `blur`.

  Args:
    x: `[B, H, W, C]` images.

  Returns:
    `[B, 2 H, 2 W, C]` images.
  """
  return blur(x.repeat(2, axis=1).repeat(2, axis=2))


def downsample(x: base.Array) -> base.Array:
  """Halves height and width: `blur`, then the mean of 2x2 pixels.

  Args:
    x: `[B, 2 H, 2 W, C]` images.

  Returns:
    `[B, H, W, C]` images.
  """
  b, h, w, c = x.shape
  return blur(x).reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


class Block(nn.Module):
  """A residual block, the identity at the beginning.

  Attributes:
    num_blocks: L of the whole network.
    group_size: channels of a group of the middle convolution.
    expansion: channels in the middle over those outside.
  """

  num_blocks: int
  group_size: int = 16
  expansion: int = 2

  @nn.compact
  def __call__(self, x: base.Array) -> base.Array:
    """Maps `[B, H, W, C]` to the same shape.

    Raises:
      ValueError: expansion * C is not divisible by `group_size`.
    """
    features, size = x.shape[-1] * self.expansion, self.group_size
    if features % size:
      raise ValueError(f'{features} channels cannot be cut into groups of {size}')
    # Fixup: L^(-1/(2 m - 2)), m = 3 the layers of a branch, whose last begins at zero.
    gain = GAIN * self.num_blocks**-0.25
    y = self._activate(_linear(features, gain)(x), 'bias_0')
    shape = (3, 3, size, features)
    kernel = self.param('grouped', _normal_init(gain), shape)
    y = self._activate(layers.conv_grouped(y, kernel, features // size), 'bias_1')
    return x + _linear(x.shape[-1], 0.0)(y)

  def _activate(self, x, name):
    bias = self.param(name, nn.initializers.zeros, (x.shape[-1],))
    return jax.nn.leaky_relu(x + bias, SLOPE)


class Generator(nn.Module):
  """Maps latents to images: a learned 4x4 (7x7) image times a linear map of z, then up.

  Attributes:
    size: height and width, 4 or 7 times a power of 2 (`layers.num_doublings`).
    channels: of the image.
    features: C of each resolution, from the smallest; one more than doublings.
    blocks: residual blocks at each resolution.
    group_size: see `Block`.
  """

  size: int
  channels: int
  features: tuple[int, ...] = (64, 64)
  blocks: int = 2
  group_size: int = 16

  @nn.compact
  def __call__(self, z: base.Array, *, train: bool = False) -> base.Array:
    """Maps latents to images.

    Args:
      z: `[B, Z]` latents.
      train: ignored; nothing differs in training.

    Returns:
      `[B, size, size, channels]` unbounded images, float32 or wider.

    Raises:
      ValueError: another size, number of features or rank of z.
    """
    del train
    check_depth(self.size, self.features)
    if z.ndim != 2:
      raise ValueError(f'z has shape {z.shape}, expected [B, Z]')
    start = self.size // 2 ** layers.num_doublings(self.size)
    shape = (start, start, self.features[0])
    basis = self.param('basis', nn.initializers.normal(1.0), shape)
    x = basis * _linear(self.features[0], 1.0)(z)[:, None, None]
    for i, features in enumerate(self.features):
      if i:
        x = upsample(_match_channels(x, features))
      for _ in range(self.blocks):
        x = Block(self.blocks * len(self.features), self.group_size)(x)
    return layers.at_least_float32(_linear(self.channels, 1.0)(x))


class Discriminator(nn.Module):
  """Maps images to a logit: residual blocks, then down; at 4x4 (7x7) a weighted sum.

  Attributes:
    features: C of each resolution, from the largest; one more than halvings.
    blocks: residual blocks at each resolution.
    group_size: see `Block`.
    num_outputs: F, 1 for a critic.
  """

  features: tuple[int, ...] = (64, 64)
  blocks: int = 2
  group_size: int = 16
  num_outputs: int = 1

  @nn.compact
  def __call__(self, x: base.Array, *, train: bool = False) -> base.Array:
    """Maps images to logits.

    Args:
      x: `[B, H, H, C]` images.
      train: ignored; nothing differs in training.

    Returns:
      `[B, F]` logits, float32 or wider.

    Raises:
      ValueError: images not square, another size or number of features.
    """
    del train
    if x.ndim != 4 or x.shape[1] != x.shape[2]:
      raise ValueError(f'x has shape {x.shape}, expected square images [B, H, H, C]')
    check_depth(x.shape[1], self.features)
    x = _linear(self.features[0], 1.0)(x)
    for i, features in enumerate(self.features):
      if i:
        x = _match_channels(downsample(x), features)
      for _ in range(self.blocks):
        x = Block(self.blocks * len(self.features), self.group_size)(x)
    # A kernel as large as the image, a channel at a time.
    std = x.shape[1] ** -1.0  # 1 / sqrt(fan-in)
    kernel = self.param('head', nn.initializers.normal(std), x.shape[1:])
    x = jnp.einsum('bhwc,hwc->bc', x, kernel)
    return layers.at_least_float32(_linear(self.num_outputs, 1.0)(x))


def _match_channels(x: base.Array, features: int) -> base.Array:
  """Maps x linearly to so many channels, if it has another number."""
  return x if x.shape[-1] == features else _linear(features, 1.0)(x)


def num_resolutions(size: int) -> int:
  """Returns the number of resolutions, which is the length of `features`.

  Args:
    size: height and width of the images.

  Returns:
    One more than the number of halvings down to 4x4 or 7x7.

  Raises:
    ValueError: a size that is not allowed.
  """
  return 1 + layers.num_doublings(size)


def check_depth(size: int, features: tuple[int, ...]) -> None:
  """Raises unless `features` has one entry a resolution.

  Args:
    size: height and width of the images.
    features: channels of each resolution.

  Raises:
    ValueError: another number of entries, or a size that is not allowed.
  """
  num = num_resolutions(size)
  if len(features) != num:
    raise ValueError(
      f'images of {size} pixels have {num} resolutions, got features {features}'
    )
