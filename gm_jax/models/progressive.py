"""The two networks that grow: generator and critic, from 4x4 pixels to any size.

A network of one size holds the layers of all smaller ones under the same names, so that
growing adds some and leaves the others. The newest count by a fraction, the fade:

  generator  (1 - fade) up(image of the smaller network) + fade image
  critic     (1 - fade) features of down(x) + fade features of x

with up by nearest pixels and down by means of 2x2. Kernels are drawn from N(0, 1) and
multiplied by gain / sqrt(fan-in) as the network runs, so that Adam moves all layers at
one relative speed. Images are [B, H, W, C], the generator's without a last activation.

Source: Progressive Growing of GANs for Improved Quality, Stability, and Variation,
Karras et al., 2017, arXiv:1710.10196, sections 2 to 4 and table 2.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from gm_jax import base
from gm_jax.models import layers, remedies

START = 4  # height and width that both networks begin with
SLOPE = 0.2  # of leaky rectified units
GAIN = math.sqrt(2.0)  # of He et al. for rectified units
FIRST_GAIN = GAIN / 4  # of the generator's first layer, as the authors' code has it
EPSILON = 1e-8  # inside the root of pixel normalization


def pixel_norm(x: base.Array) -> base.Array:
  """Divides each pixel's features by their root mean square.

  x / sqrt(mean_c x_c^2 + 1e-8)

  Args:
    x: `[..., C]` features, or latents.
  """
  return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + EPSILON)


def doubled(x: base.Array) -> base.Array:
  """Every pixel four times: `[B, H, W, C]` -> `[B, 2 H, 2 W, C]`."""
  return x.repeat(2, axis=1).repeat(2, axis=2)


def halved(x: base.Array) -> base.Array:
  """Means of 2x2 pixels: `[B, 2 H, 2 W, C]` -> `[B, H, W, C]`."""
  b, h, w, c = x.shape
  return x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


def mixed(old: base.Array, new: base.Array, fade: base.Array | float) -> base.Array:
  """(1 - fade) old + fade new, exactly old at 0 and new at 1."""
  return (1.0 - fade) * old + fade * new


def faded(x: base.Array, fade: base.Array | float) -> base.Array:
  """Real images of a size while a network grows to it, as detailed as its samples.

  Args:
    x: `[B, 2 H, 2 W, C]` images.
    fade: `[]` of their own details; the rest is as at half the size.
  """
  return x if x.shape[1] <= START else mixed(doubled(halved(x)), x, fade)


def sizes(first: int, last: int) -> list[int]:
  """The sizes of networks that grow from one to another.

  Raises:
    ValueError: a size is not 4 times a power of 2, or the first is the larger.
  """
  known = [START * 2**i for i in range(20)]
  if first not in known or last not in known or first > last:
    raise ValueError(
      f'sizes must be {START} times a power of 2, the first at most the last, got'
      f' {first} and {last}'
    )
  return known[known.index(first) : known.index(last) + 1]


class Equalized(nn.Module):
  """A dense layer or a convolution of N(0, 1) kernels that are scaled as it runs.

  y = gain / sqrt(fan-in) W x + b

  Attributes:
    features: of the output.
    kernel: its height and width; 1 acts on the last axis alone.
    gain: of the kernel.
    onto: axes that the output has before its features, of a kernel of 1.
  """

  features: int
  kernel: int = 1
  gain: float = GAIN
  onto: tuple[int, ...] = ()

  @nn.compact
  def __call__(self, x: base.Array) -> base.Array:
    """Maps `[..., I]` to `[..., *onto, features]`."""
    over = (self.kernel, self.kernel) if self.kernel > 1 else ()
    shape = (*over, x.shape[-1], math.prod(self.onto) * self.features)
    kernel = self.param('kernel', nn.initializers.normal(1.0), shape)
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    kernel = kernel * (self.gain / math.sqrt(math.prod(shape[:-1])))
    y = layers.conv_same(x, kernel) if over else x @ kernel
    return y.reshape(*x.shape[:-1], *self.onto, self.features) + bias


def _activated(features: int, name: str, x: base.Array, **options) -> base.Array:
  return nn.leaky_relu(Equalized(features, name=name, **options)(x), SLOPE)


class Generator(nn.Module):
  """Maps latents to images of a size.

  Attributes:
    size: height and width, 4 times a power of 2.
    channels: of the images.
    base_features: features times height of a layer, where they are below the most.
    max_features: the most of a layer.
  """

  size: int
  channels: int
  base_features: int = 16_384
  max_features: int = 512

  @nn.compact
  def __call__(
    self, z: base.Array, fade: base.Array | float = 1.0, *, train: bool = False
  ) -> base.Array:
    """Maps latents to images.

    Args:
      z: `[B, Z]` latents, of which the direction alone matters.
      fade: `[]` of the newest layers, in [0, 1].
      train: makes no difference.

    Returns:
      `[B, size, size, channels]`, unbounded, float32 or wider.

    Raises:
      ValueError: the size is not 4 times a power of 2.
    """
    del train
    larger = sizes(START, self.size)[1:]

    def hidden(x, size, name, **options):
      features = min(self.max_features, self.base_features // size)
      return pixel_norm(_activated(features, name, x, **options))

    def image(x, size):
      layer = Equalized(self.channels, gain=1.0, name=f'to_image_{size}')
      return layers.at_least_float32(layer(x))

    first = {'gain': FIRST_GAIN, 'onto': (START, START)}
    x = hidden(pixel_norm(z), START, 'dense', **first)
    x = hidden(x, START, f'conv_{START}', kernel=3)
    for size in larger:
      small = x
      x = hidden(doubled(x), size, f'conv_{size}_0', kernel=3)
      x = hidden(x, size, f'conv_{size}_1', kernel=3)
    if not larger:
      return image(x, START)
    return mixed(doubled(image(small, size // 2)), image(x, size), fade)


class Discriminator(nn.Module):
  """Maps images to a logit; batch-coupled, by a standard deviation of its batch.

  Attributes:
    base_features: features times height of a layer, where they are below the most.
    max_features: the most of a layer.
    group_size: examples whose standard deviation is one more feature at 4x4.
  """

  base_features: int = 16_384
  max_features: int = 512
  group_size: int = 4

  @nn.compact
  def __call__(
    self, x: base.Array, fade: base.Array | float = 1.0, *, train: bool = False
  ) -> base.Array:
    """Maps images to logits.

    Args:
      x: `[B, H, H, C]` images.
      fade: `[]` of the newest layers, in [0, 1].
      train: makes no difference.

    Returns:
      `[B, 1]` logits, float32 or wider.

    Raises:
      ValueError: the images are not square, or not 4 times a power of 2 high.
    """
    del train
    if x.ndim != 4 or x.shape[1] != x.shape[2]:
      raise ValueError(f'x has shape {x.shape}, expected square images [B, H, H, C]')
    larger = sizes(START, x.shape[1])[1:]

    def hidden(x, size, name, **options):
      features = min(self.max_features, self.base_features // size)
      return _activated(features, name, x, **options)

    h = hidden(x, x.shape[1], f'from_image_{x.shape[1]}')
    for size in reversed(larger):
      half = size // 2
      h = hidden(h, size, f'conv_{size}_0', kernel=3)
      h = halved(hidden(h, half, f'conv_{size}_1', kernel=3))
      if size == x.shape[1]:
        h = mixed(hidden(halved(x), half, f'from_image_{half}'), h, fade)
    h = remedies.minibatch_stddev(h, group_size=self.group_size)
    h = hidden(h, START, f'conv_{START}', kernel=3)
    h = hidden(h.reshape(len(h), -1), START // 2, 'dense')
    return layers.at_least_float32(Equalized(1, gain=1.0, name='logit')(h))
