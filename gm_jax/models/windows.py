"""A denoiser of small images: of every pixel's window the same perceptron, all at once.

A convolution of one large kernel and residual blocks of a pixel by itself, which are
matrix products and nothing else: of few images it learns more than a perceptron of
whole images, whose weights are each pixel's own, and it costs far less than a U-Net.
"""

import flax.linen as nn
import jax.numpy as jnp

from gm_jax import base
from gm_jax.models import denoisers


def windows(x: base.Array, radius: int) -> base.Array:
  """Returns of each pixel its surroundings, 0 beyond the image.

  Args:
    x: `[B, H, W, C]`.
    radius: r, pixels on every side.

  Returns:
    `[B, H, W, (2 r + 1)^2 C]`, by rows, columns, channels.
  """
  height, width = x.shape[1:3]
  padded = jnp.pad(x, ((0, 0), (radius, radius), (radius, radius), (0, 0)))
  places = range(2 * radius + 1)
  moved = [padded[:, i : i + height, j : j + width] for i in places for j in places]
  return jnp.concatenate(moved, axis=-1)


class WindowMLP(nn.Module):
  """A denoiser of images, of what lies within `radius` pixels, and of the place.

  A block is that of `denoisers.ResidualMLP`. That a pixel is near the border it knows
  by a vector of its own, learned, and one of the time.

  Attributes:
    width: of the hidden layers, even.
    num_blocks: of two layers each.
    radius: of a window.
    mixes: whether each block begins with a linear map of all places, the same for every
      feature, so that a pixel sees beyond its window.
    dropout: probability of dropping a feature while training.
    outputs: of a pixel, by default C.
  """

  width: int = 64
  num_blocks: int = 2
  radius: int = 3
  mixes: bool = False
  dropout: float = 0.0
  outputs: int | None = None

  @nn.compact
  def __call__(
    self,
    x: base.Array,
    t: base.Array,
    condition: base.Array | None = None,
    *,
    train: bool = False,
  ) -> base.Array:
    """Maps images `[B, H, W, C]` at t `[B]` to `[B, H, W, outputs]`.

    Raises:
      ValueError: another shape.
    """
    denoisers.check_shapes(x, t, condition, 'H, W, C')
    embedding = denoisers.TimeEmbedding(self.width, self.width)(t, condition)
    place = self.param(
      'place', nn.initializers.normal(0.1), (*x.shape[1:3], self.width)
    )
    h = nn.Dense(self.width)(windows(x, self.radius)) + place
    for _ in range(self.num_blocks):
      if self.mixes:
        flat = nn.silu(nn.LayerNorm()(h)).reshape(len(x), -1, self.width)
        mixed = nn.Dense(flat.shape[1], kernel_init=denoisers.ZEROS)(flat.mT)
        h += mixed.mT.reshape(h.shape)
      inner = nn.Dense(self.width)(nn.silu(nn.LayerNorm()(h)))
      scale, shift = denoisers.Modulation(2)(embedding, inner)
      inner = nn.silu(nn.LayerNorm()(inner) * (1 + scale) + shift)
      inner = nn.Dropout(self.dropout, deterministic=not train)(inner)
      h += nn.Dense(self.width, kernel_init=denoisers.ZEROS)(inner)
    last = nn.Dense(
      self.outputs or x.shape[-1], kernel_init=denoisers.ZEROS, name='last'
    )
    return last(nn.silu(nn.LayerNorm()(h)))
