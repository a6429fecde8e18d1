"""InfoGAN's networks for images: a DCGAN's, with dense layers at the vectors' end.

Batch-coupled while training, by batch normalization.

Source: InfoGAN: Interpretable Representation Learning by Information Maximizing
Generative Adversarial Nets, Chen et al., 2016, arXiv:1606.03657, table 1, there with a
slope of 0.1, here with the DCGAN's 0.2.
"""

import flax.linen as nn

from gm_jax import base
from gm_jax.models import dcgan, layers

_INIT = nn.initializers.normal(0.02)


def _batch_norm(x: base.Array, train: bool) -> base.Array:
  return nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)


class Generator(nn.Module):
  """Maps latents and codes to images.

  Attributes:
    size: height and width, as of `dcgan.Generator`.
    channels: of the image.
    base_features: of the convolutions, as there; the paper's are 64.
    hidden: width of the dense layer; the paper's is 1024.
  """

  size: int
  channels: int
  base_features: int = 64
  hidden: int = 1024

  @nn.compact
  def __call__(self, z: base.Array, *, train: bool = False) -> base.Array:
    """Maps z `[B, Z]` to images `[B, size, size, channels]` in [-1, 1]."""
    h = nn.Dense(self.hidden, use_bias=False, kernel_init=_INIT)(z)
    h = nn.relu(_batch_norm(h, train))
    return dcgan.Generator(self.size, self.channels, self.base_features)(h, train=train)


class Reader(nn.Module):
  """Maps images to a logit, or to the parameters of Q(c | x).

  Attributes:
    num_outputs: F, 1 for a critic.
    base_features: of the convolutions, as of `dcgan.Discriminator`.
    hidden: widths of the dense layers; the paper's are 1024 for the critic, and another
      of 128 for Q, which there has the critic's layers up to that.
  """

  num_outputs: int = 1
  base_features: int = 64
  hidden: tuple[int, ...] = (1024,)

  @nn.compact
  def __call__(self, x: base.Array, *, train: bool = False) -> base.Array:
    """Maps images `[B, H, H, C]` to `[B, F]`."""
    first, *rest = self.hidden
    h = dcgan.Discriminator(self.base_features, num_outputs=first)(x, train=train)
    h = nn.leaky_relu(_batch_norm(h, train), 0.2)
    for width in rest:
      h = nn.Dense(width, use_bias=False, kernel_init=_INIT)(h)
      h = nn.leaky_relu(_batch_norm(h, train), 0.2)
    out = nn.Dense(self.num_outputs, kernel_init=_INIT)(h)
    return layers.at_least_float32(out)


class Coarse(nn.Module):
  """A network that sees means of squares of pixels, and no pixel.

  A Q that sees every pixel reads codes that the generator hides in some: its bound is
  at its most, and eyes see none of it.

  Attributes:
    body: called with images `[B, H / side, W / side, C]`.
    side: of a square, in pixels.
  """

  body: nn.Module
  side: int

  @nn.compact
  def __call__(self, x: base.Array, *, train: bool = False) -> base.Array:
    """Applies the body to the means of images `[B, H, W, C]`."""
    window = self.side, self.side
    return self.body(nn.avg_pool(x, window, window), train=train)
