"""Networks that translate images in a style, and those that make and read styles.

A style is a vector. The translator reads an image by residual blocks with instance
normalization and writes it by blocks whose normalization has gain and shift from the
style. Styles come from latents (`MappingNetwork`) or from images (`StyleEncoder`), by
heads of which each domain has its own; the critic has a logit for each domain. Blocks
are before their activation, leaky rectifiers of slope 0.2, and divide the sum of both
ways by sqrt 2, which keeps its variance. Images are [B, H, W, C] in [-1, 1]; nothing
bounds the translator's.

Source: StarGAN v2: Diverse Image Synthesis for Multiple Domains, Choi et al., 2020,
arXiv:1912.01865, its appendix on architectures, without the filter that landmarks of
faces steer; AdaIN: Arbitrary Style Transfer in Real-time with Adaptive Instance
Normalization, Huang and Belongie, 2017, arXiv:1703.06868.
"""

import math

import flax.linen as nn
import jax.numpy as jnp

from gm_jax import base
from gm_jax.models import layers, mlp, translation

HE = nn.initializers.variance_scaling(2.0, 'fan_in', 'normal')


def activate(x: base.Array) -> base.Array:
  """The leaky rectifier of slope 0.2 of numbers `[...]`."""
  return nn.leaky_relu(x, 0.2)


def of_domain(values: base.Array, domain: base.Array) -> base.Array:
  """Takes of each example the values of its own domain.

  Args:
    values: `[B, K, ...]` of every domain.
    domain: `[B]` integers in [0, K).

  Returns:
    `[B, ...]`, whose gradient reaches no other domain's values.

  Raises:
    ValueError: the domains are not `[B]`.
  """
  domain = jnp.asarray(domain)
  if values.ndim < 2 or domain.shape != values.shape[:1]:
    raise ValueError(
      f'values and domain must be [B, K, ...] and [B], got {values.shape} and'
      f' {domain.shape}'
    )
  index = domain.astype(jnp.int32).reshape(-1, *(1,) * (values.ndim - 1))
  return jnp.take_along_axis(values, index, axis=1)[:, 0]


def upsample(x: base.Array) -> base.Array:
  """Doubles height and width of images `[B, H, W, C]`: each pixel four times."""
  return x.repeat(2, axis=1).repeat(2, axis=2)


def downsample(x: base.Array) -> base.Array:
  """Halves height and width of images `[B, 2 H, 2 W, C]`: means of 2x2 pixels."""
  b, h, w, c = x.shape
  return x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


def to_depth(x: base.Array, side: int) -> base.Array:
  """Takes squares of pixels together: `[B, s H, s W, C]` -> `[B, H, W, s s C]`."""
  b, h, w, c = x.shape
  x = x.reshape(b, h // side, side, w // side, side, c).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, h // side, w // side, side * side * c)


def from_depth(x: base.Array, side: int) -> base.Array:
  """The inverse of `to_depth`: `[B, H, W, s s C]` -> `[B, s H, s W, C]`."""
  b, h, w, c = x.shape
  x = x.reshape(b, h, w, side, side, -1).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, h * side, w * side, c // side**2)


def _conv(features: int, size: int = 3) -> nn.Module:
  return layers.SameConv(features, size, kernel_init=HE)


def _shortcut(x: base.Array, features: int) -> base.Array:
  """x, through a 1x1 convolution where it has another number of channels."""
  return x if x.shape[-1] == features else nn.Dense(features, False, kernel_init=HE)(x)


class Block(nn.Module):
  """A residual block, (shortcut(x) + f(x)) / sqrt 2, that may halve the image.

  Attributes:
    features: channels of the output.
    halve: whether to halve height and width.
    normalize: whether to normalize each example's channels.
  """

  features: int
  halve: bool = False
  normalize: bool = False

  @nn.compact
  def __call__(self, x: base.Array) -> base.Array:
    """Maps `[B, H, W, I]` to `[B, H, W, features]`, or to half of H and W."""
    normalize = translation.instance_norm if self.normalize else lambda y: y
    resize = downsample if self.halve else lambda y: y
    y = resize(_conv(x.shape[-1])(activate(normalize(x))))
    y = _conv(self.features)(activate(normalize(y)))
    return (resize(_shortcut(x, self.features)) + y) / math.sqrt(2)


class AdaIN(nn.Module):
  """Instance normalization whose gain and shift are linear in a style.

  (1 + gamma(s)) (x - mean) / std + beta(s), mean and deviation an example's channel's.
  """

  @nn.compact
  def __call__(self, x: base.Array, style: base.Array) -> base.Array:
    """Normalizes x `[B, H, W, C]` for styles `[B, S]`."""
    linear = nn.Dense(2 * x.shape[-1], kernel_init=HE)(style)[:, None, None]
    gamma, beta = jnp.split(linear, 2, axis=-1)
    normalized = nn.InstanceNorm(epsilon=1e-5, use_bias=False, use_scale=False)(x)
    return (1.0 + gamma) * normalized + beta


class StyledBlock(nn.Module):
  """A residual block that is normalized in a style and may double the image.

  Attributes:
    features: channels of the output.
    double: whether to double height and width.
  """

  features: int
  double: bool = False

  @nn.compact
  def __call__(self, x: base.Array, style: base.Array) -> base.Array:
    """Maps `[B, H, W, I]` to `[B, H, W, features]`, or to twice H and W."""
    resize = upsample if self.double else lambda y: y
    y = _conv(self.features)(resize(activate(AdaIN()(x, style))))
    y = _conv(self.features)(activate(AdaIN()(y, style)))
    return (_shortcut(resize(x), self.features) + y) / math.sqrt(2)


def _check_images(x: base.Array, halvings: int, square: int) -> None:
  """Raises ValueError unless x are images that can be halved so often."""
  parts = square * 2**halvings
  if x.ndim != 4 or x.shape[1] % parts or x.shape[2] % parts:
    raise ValueError(
      f'x must be [B, H, W, C], H and W multiples of {parts}, got {x.shape}'
    )


def _widths(first: int, halvings: int, most: int) -> list[int]:
  """Channels at each resolution: they double with each halving, up to `most`."""
  return [min(most, first * 2**i) for i in range(halvings + 1)]


class Translator(nn.Module):
  """Maps images to images of the same size in a style.

  Attributes:
    channels: of the output.
    base_features: channels of the first layer; they double with each halving.
    halvings: of height and width, and doublings at the end: 4 for 256 pixels.
    num_blocks: at the smallest size, of either kind.
    max_features: channels at most.
    square: pixels along a side that first and last layer take together: 1 in the
      source; 2 saves the layers of the full size.
  """

  channels: int
  base_features: int = 64
  halvings: int = 4
  num_blocks: int = 2
  max_features: int = 512
  square: int = 1

  @nn.compact
  def __call__(
    self, x: base.Array, style: base.Array, *, train: bool = False
  ) -> base.Array:
    """Maps images `[B, H, W, I]` and styles `[B, S]` to `[B, H, W, channels]`.

    Raises:
      ValueError: x is no image, height or width cannot be halved so often, or the
        styles are not `[B, S]`.
    """
    del train
    _check_images(x, self.halvings, self.square)
    if style.ndim != 2 or len(style) != len(x):
      raise ValueError(f'styles must be [{len(x)}, S], got {style.shape}')
    *widths, last = _widths(self.base_features, self.halvings, self.max_features)
    x = _conv(self.base_features)(to_depth(x, self.square))
    for width in [*widths[1:], last] if widths else []:
      x = Block(width, halve=True, normalize=True)(x)
    for _ in range(self.num_blocks):
      x = Block(last, normalize=True)(x)
    for _ in range(self.num_blocks):
      x = StyledBlock(last)(x, style)
    for width in reversed(widths):
      x = StyledBlock(width, double=True)(x, style)
    x = activate(translation.instance_norm(x))
    x = nn.Dense(self.channels * self.square**2, kernel_init=HE)(x)
    return layers.at_least_float32(from_depth(x, self.square))


class Body(nn.Module):
  """Maps images to features, as style encoder and critic do before their heads.

  Residual blocks halve the image, and a kernel as large as what is left ends it.

  Attributes:
    base_features: channels of the first layer; they double with each halving.
    halvings: of height and width, down to 4x4 pixels in the source.
    max_features: channels at most.
    square: pixels along a side that the first layer takes together.
  """

  base_features: int = 64
  halvings: int = 6
  max_features: int = 512
  square: int = 1

  @nn.compact
  def __call__(self, x: base.Array) -> base.Array:
    """Maps images `[B, H, W, C]` to features `[B, F]`.

    Raises:
      ValueError: x is no image, or height or width cannot be halved so often.
    """
    _check_images(x, self.halvings, self.square)
    first, *widths = _widths(self.base_features, self.halvings, self.max_features)
    x = _conv(first)(to_depth(x, self.square))
    for width in widths:
      x = Block(width, halve=True)(x)
    features = x.shape[-1]
    x = activate(x).reshape(len(x), -1)
    return activate(nn.Dense(features, kernel_init=HE)(x))


class Heads(nn.Module):
  """A perceptron for each domain, of which an example is given its domain's.

  Attributes:
    num_domains: K.
    features: sizes of the layers, the output's last.
  """

  num_domains: int
  features: tuple[int, ...]

  @nn.compact
  def __call__(self, x: base.Array, domain: base.Array) -> base.Array:
    """Maps `[B, F]` and domains `[B]` to `[B, features[-1]]`.

    Raises:
      ValueError: the domains are not `[B]`.
    """
    each = nn.vmap(
      mlp.MLP,
      in_axes=None,
      out_axes=1,
      axis_size=self.num_domains,
      variable_axes={'params': 0},
      split_rngs={'params': True},
    )
    return of_domain(each(self.features, kernel_init=HE)(x), domain)


class MappingNetwork(nn.Module):
  """Maps latents to styles of a domain: shared layers, then each domain's own.

  Attributes:
    num_domains: K.
    style_size: S.
    hidden: size of every other layer.
    depth: of the shared layers, and of each domain's with the last.
  """

  num_domains: int
  style_size: int = 64
  hidden: int = 512
  depth: int = 4

  @nn.compact
  def __call__(
    self, z: base.Array, domain: base.Array, *, train: bool = False
  ) -> base.Array:
    """Maps latents `[B, Z]` and domains `[B]` to styles `[B, S]`.

    Raises:
      ValueError: the domains are not `[B]`.
    """
    del train
    h = nn.relu(mlp.MLP((self.hidden,) * self.depth, kernel_init=HE)(z))
    features = (*(self.hidden,) * (self.depth - 1), self.style_size)
    return Heads(self.num_domains, features)(h, domain)


class StyleEncoder(nn.Module):
  """Maps images to the style that they have in their domain.

  Attributes:
    num_domains: K.
    style_size: S.
    body: x -> features.
  """

  num_domains: int
  style_size: int = 64
  body: Body = Body()

  @nn.compact
  def __call__(
    self, x: base.Array, domain: base.Array, *, train: bool = False
  ) -> base.Array:
    """Maps images `[B, H, W, C]` and domains `[B]` to styles `[B, S]`.

    Raises:
      ValueError: images of another size, or domains that are not `[B]`.
    """
    del train
    return Heads(self.num_domains, (self.style_size,))(self.body(x), domain)


class DomainsCritic(nn.Module):
  """Maps images to logits: for each domain, whether the image is a real one of it.

  Attributes:
    num_domains: K.
    body: x -> features.
  """

  num_domains: int
  body: Body = Body()

  @nn.compact
  def __call__(self, x: base.Array, *, train: bool = False) -> base.Array:
    """Maps images `[B, H, W, C]` to logits `[B, K]`.

    Raises:
      ValueError: images of another size.
    """
    del train
    logits = nn.Dense(self.num_domains, kernel_init=HE)(self.body(x))
    return layers.at_least_float32(logits)
