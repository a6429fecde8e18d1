"""Networks that translate images, and critics that look at patches of them.

Translators: a convolution, halvings, residual blocks, doublings and a convolution to a
tanh, with instance normalization, whose statistics are the example's own, in training
and afterwards. Critics: halvings to a map of logits, one a patch. Images are
[B, H, W, C] in [-1, 1]. Where the sources have 3x3 kernels of stride 2, these are 4x4.

Source: Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks,
Zhu et al., 2017, arXiv:1703.10593, appendix 7.2; StarGAN: Unified Generative
Adversarial Networks for Multi-Domain Image-to-Image Translation, Choi et al., 2018,
arXiv:1711.09020, tables 4 and 5.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from gm_jax import base
from gm_jax.models import layers

_INIT = nn.initializers.normal(0.02)


def instance_norm(x: base.Array) -> base.Array:
  """Normalizes each channel of each example over its pixels; gain and shift a channel.

  What an image's contrast and brightness are is lost: of an image a x + b in place of x
  the output is the same.
  """
  return nn.InstanceNorm(epsilon=1e-5)(x)


def layer_norm(x: base.Array) -> base.Array:
  """Normalizes each example over pixels and channels; gain and shift a channel."""
  return nn.GroupNorm(num_groups=1, epsilon=1e-5)(x)


class Conv(nn.Module):
  """A convolution of stride 1, as matrix products, of an image extended at its border.

  Attributes:
    features: channels of the output.
    size: of the kernel.
    use_bias: whether to add a bias.
    edge: pixels that are added on each side: with size // 2 the image keeps its size.
    mode: of `jnp.pad`, what they are.
  """

  features: int
  size: int = 3
  use_bias: bool = False
  edge: int = 1
  mode: str = 'reflect'

  @nn.compact
  def __call__(self, x: base.Array) -> base.Array:
    """Maps images `[B, H, W, I]` to `[B, h, w, features]`."""
    edge, shape = (self.edge, self.edge), (self.size, self.size)
    x = jnp.pad(x, ((0, 0), edge, edge, (0, 0)), mode=self.mode)
    kernel = self.param('kernel', _INIT, (*shape, x.shape[3], self.features))
    y = layers.conv_valid(x, kernel)
    if self.use_bias:
      y += self.param('bias', nn.initializers.zeros, (self.features,))
    return y


class Translator(nn.Module):
  """Maps images to images of the same size; of a condition it takes a copy a pixel.

  Attributes:
    channels: of the output.
    base_features: channels of the first layer; they double with each halving.
    halvings: of height and width, and doublings at the end.
    num_blocks: residual: 6 for 128 pixels and 9 for 256 in the sources.
    kernel_size: of the first and the last convolution.
    normalize: instance normalization in the sources, `layer_norm` to keep gray levels.
  """

  channels: int
  base_features: int = 64
  halvings: int = 2
  num_blocks: int = 6
  kernel_size: int = 7
  normalize: Callable[[base.Array], base.Array] = instance_norm

  @nn.compact
  def __call__(
    self, x: base.Array, condition: base.Array | None = None, *, train: bool = False
  ) -> base.Array:
    """Maps images `[B, H, W, I]` (and a condition `[B, K]`) to `[B, H, W, channels]`.

    Raises:
      ValueError: x is no image, or height or width cannot be halved so often.
    """
    del train
    parts = 2**self.halvings
    if x.ndim != 4 or x.shape[1] % parts or x.shape[2] % parts:
      raise ValueError(
        f'x must be [B, H, W, C], H and W multiples of {parts}, got {x.shape}'
      )
    if condition is not None:
      places = jnp.broadcast_to(
        condition[:, None, None], (*x.shape[:3], condition.shape[1])
      )
      x = jnp.concatenate([x, places.astype(x.dtype)], axis=3)
    width = self.base_features
    x = nn.relu(
      self.normalize(Conv(width, self.kernel_size, edge=self.kernel_size // 2)(x))
    )
    for _ in range(self.halvings):
      width *= 2
      x = nn.relu(self.normalize(layers.DownConv(width, False, _INIT)(x)))
    for _ in range(self.num_blocks):
      inner = nn.relu(self.normalize(Conv(width)(x)))
      x = x + self.normalize(Conv(width)(inner))
    for _ in range(self.halvings):
      width //= 2
      x = nn.relu(self.normalize(layers.UpConv(width, False, _INIT)(x)))
    ends = self.kernel_size, True, self.kernel_size // 2
    x = Conv(self.channels, *ends)(x)
    return jnp.tanh(layers.at_least_float32(x))


class Changed(nn.Module):
  """The image itself and a change: x + 2 f(x), not far from x at the beginning.

  Attributes:
    body: f, from -1 to 1.
  """

  body: nn.Module

  @nn.compact
  def __call__(self, x: base.Array, *condition: base.Array, train: bool = False):
    """Maps images `[B, H, W, C]` (and a condition) to images of the same shape."""
    return x + 2.0 * self.body(x, *condition, train=train)


class PatchCritic(nn.Module):
  """A logit for each of many patches that overlap: 70 x 70 pixels at three halvings.

  The patch is of 16, 34 or 70 pixels for one, two or three halvings.

  Attributes:
    base_features: channels of the first layer; they double, to eight times at most.
    halvings: 4x4 convolutions of stride 2, before two of stride 1.
  """

  base_features: int = 64
  halvings: int = 3

  @nn.compact
  def __call__(self, x: base.Array, *, train: bool = False) -> base.Array:
    """Maps images `[B, H, W, C]` to logits `[B, h, w]`.

    Raises:
      ValueError: an image too small for its patches.
    """
    del train
    least = 2**self.halvings
    if (
      x.ndim != 4
      or x.shape[1] % least
      or x.shape[2] % least
      or min(x.shape[1:3]) < 3 * least
    ):  # noqa: E501
      raise ValueError(
        f'x must be [B, H, W, C], H and W multiples of {least} from {3 * least} on, got'
        f' {x.shape}'
      )

    for i in range(self.halvings):
      width = self.base_features * min(8, 2**i)
      x = layers.DownConv(width, not i, _INIT)(x)
      x = nn.leaky_relu(instance_norm(x) if i else x, 0.2)
    width = self.base_features * min(8, 2**self.halvings)
    x = nn.leaky_relu(instance_norm(Conv(width, 4, mode='constant')(x)), 0.2)
    return layers.at_least_float32(Conv(1, 4, True, mode='constant')(x)[..., 0])


class DomainCritic(nn.Module):
  """Logits of patches, and of the domains that an image may be of.

  Halvings by 4x4 convolutions without normalization, whose examples a gradient penalty
  may not couple; a 3x3 convolution gives the patches, a product with the whole map the
  domains.

  Attributes:
    num_domains: K.
    base_features: channels of the first layer; they double with each halving.
    halvings: 6 for 128 pixels in the source, down to 2 x 2 patches.
  """

  num_domains: int
  base_features: int = 64
  halvings: int = 6

  @nn.compact
  def __call__(
    self, x: base.Array, *, train: bool = False
  ) -> tuple[base.Array, base.Array]:
    """Maps images `[B, H, W, C]` to logits of patches `[B, P]` and domains `[B, K]`.

    Raises:
      ValueError: height or width cannot be halved so often.
    """
    del train
    parts = 2**self.halvings
    if x.ndim != 4 or x.shape[1] % parts or x.shape[2] % parts:
      raise ValueError(
        f'x must be [B, H, W, C], H and W multiples of {parts}, got {x.shape}'
      )
    for i in range(self.halvings):
      x = layers.DownConv(self.base_features * 2**i)(x)
      x = nn.leaky_relu(x, 0.01)
    patches = layers.SameConv(1, use_bias=False)(x)
    domains = nn.Dense(self.num_domains, use_bias=False)(x.reshape(len(x), -1))
    both = (patches.reshape(len(x), -1), domains)
    return tuple(layers.at_least_float32(logits) for logits in both)
