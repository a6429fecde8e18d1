"""Networks that place a few patches and paint the image around them.

  features  sum over patches of the encoder's maps, at every level
  mask      a decoder of the features: where the patches were
  image     a decoder of their last level and noise, beside the mask decoder's maps

The patches of all examples are one batch to the encoder: their order is lost in the
sum, and statistics of a batch are of all of them. An encoder that is called once a
patch, as in the authors' code, normalizes the first patches of the examples by their
own statistics, the second by others, and then order matters while it trains.
Batch-coupled while training, by batch normalization.

Source: Unsupervised Holistic Image Generation from Key Local Patches, Lee et al., 2017,
arXiv:1703.10730, section 3; there with kernels of 5x5, here of 4x4.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from gm_jax import base
from gm_jax.models import layers

_WIDEST = 8  # channels of a level, in those of the first, at most


def _normalized(x: base.Array, train: bool) -> base.Array:
  return nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)


class Encoder(nn.Module):
  """Maps patches to maps of each level, and to a vector.

  Attributes:
    widths: channels of the levels, finest first.
    embedding: size of the vector.
  """

  widths: tuple[int, ...]
  embedding: int

  @nn.compact
  def __call__(self, x: base.Array, *, train: bool = False) -> list[base.Array]:
    """Maps `[N, H, H, C]` to maps `[N, H / 2^i, H / 2^i, F_i]` and `[N, E]`."""
    found = []
    for i, width in enumerate(self.widths):
      x = layers.DownConv(width)(x)
      x = nn.leaky_relu(_normalized(x, train) if i else x, 0.2)
      found.append(x)
    vector = nn.Dense(self.embedding)(x.reshape(len(x), -1))
    return [*found, nn.leaky_relu(vector, 0.2)]


class Decoder(nn.Module):
  """Maps a vector to an image, with maps of another network beside every level.

  Attributes:
    widths: channels of the levels, coarsest first.
    channels: of the output.
  """

  widths: tuple[int, ...]
  channels: int

  @nn.compact
  def __call__(
    self, vector: base.Array, beside: Sequence[base.Array], *, train: bool = False
  ) -> tuple[base.Array, list[base.Array]]:
    """Decodes a vector.

    Args:
      vector: `[B, Z]`.
      beside: maps `[B, h, h, F]` of the levels, coarsest first.
      train: whether batch normalization is of the batch.

    Returns:
      `[B, H, H, channels]` before any last function, and the maps of every level, its
      own channels and those beside them.
    """
    size, found, x = beside[0].shape[1], [], vector
    for i, (width, other) in enumerate(zip(self.widths, beside, strict=True)):
      if i:
        x = layers.UpConv(width)(x)
      else:
        x = nn.Dense(size * size * width)(x).reshape(-1, size, size, width)
      x = jnp.concatenate([nn.relu(_normalized(x, train)), other], axis=3)
      found.append(x)
    return layers.UpConv(self.channels)(x), found


class Painter(nn.Module):
  """Maps noise and patches without places to an image and the patches' mask.

  Attributes:
    size: height and width of the image and of every patch (`layers.num_doublings`).
    channels: of image and patches.
    base_features: channels after the first halving; they double with each, up to
      eightfold.
    embedding: size of the vector that a patch becomes.
  """

  size: int
  channels: int
  base_features: int = 64
  embedding: int = 128

  @nn.compact
  def __call__(
    self, z: base.Array, patches: base.Array, *, train: bool = False
  ) -> tuple[base.Array, base.Array]:
    """Places and paints.

    Args:
      z: `[B, Z]` noise.
      patches: `[B, P, size, size, channels]` in [-1, 1], in any order.
      train: whether batch normalization is of the batch.

    Returns:
      The image `[B, size, size, channels]` in [-1, 1] and the mask
      `[B, size, size, 1]` in (0, 1), float32 or wider.

    Raises:
      ValueError: the size is not an allowed one, or the patches are not of it.
    """
    shape = self.size, self.size, self.channels
    halvings = layers.num_doublings(self.size)
    if patches.ndim != 5 or patches.shape[2:] != shape or len(patches) != len(z):
      raise ValueError(
        f'patches must be {[len(z), "P", *shape]}, got {list(patches.shape)}'
      )
    num = patches.shape[1]
    widths = tuple(self.base_features * min(_WIDEST, 2**i) for i in range(halvings))
    coarsest = widths[::-1]
    each = Encoder(widths, self.embedding, name='encoder')(
      patches.reshape(-1, *shape), train=train
    )
    *maps, vector = (x.reshape(-1, num, *x.shape[1:]).sum(axis=1) for x in each)
    mask, maps = Decoder(coarsest, 1, name='mask')(vector, maps[::-1], train=train)
    image, _ = Decoder(coarsest, self.channels, name='image')(
      jnp.concatenate([vector, z], axis=1), maps, train=train
    )
    return (
      jnp.tanh(layers.at_least_float32(image)),
      nn.sigmoid(layers.at_least_float32(mask)),
    )
