"""The U-Net of diffusion models: residual blocks down and up, joined by skips.

A block is x + conv(silu(scale(t) norm(conv(silu(norm(x)))) + shift(t))), the last
convolution 0 at first; so are the output projection of attention and the last layer.
Height and width are halved and doubled by 4x4 convolutions of stride 2, where the
sources have 3x3; of the doubling theirs, nearest pixels and a 3x3 convolution, is a
special case. All is a function of each example alone.

Sources: Denoising Diffusion Probabilistic Models, Ho et al., 2020, arXiv:2006.11239,
appendix B; Diffusion Models Beat GANs on Image Synthesis, Dhariwal and Nichol, 2021,
arXiv:2105.05233, section 3.
"""

import math

import flax.linen as nn
import jax.numpy as jnp

from gm_jax import base
from gm_jax.models import attention, denoisers, layers

# A transposed convolution's pixel sees 4 of the 16 taps that count as its fan-in.
_UP_INIT = nn.initializers.variance_scaling(4.0, 'fan_in', 'truncated_normal')


def num_groups(channels: int) -> int:
  """Returns a divisor of 32 and of the channels, which leaves a group 4 or more."""
  return math.gcd(32, max(1, channels // 4), channels)


def _norm(x: base.Array) -> base.Array:
  return nn.GroupNorm(num_groups(x.shape[-1]), epsilon=1e-5)(x)


class Block(nn.Module):
  """A residual block, two 3x3 convolutions with the time between; the identity first.

  Attributes:
    features: channels of the output; x is projected where it has others.
    dropout: probability of dropping a feature while training.
  """

  features: int
  dropout: float = 0.0

  @nn.compact
  def __call__(
    self, x: base.Array, embedding: base.Array, *, train: bool = False
  ) -> base.Array:
    """Maps images `[B, H, W, I]`, embedding `[B, W]`, to `[B, H, W, features]`."""
    h = layers.SameConv(self.features)(nn.silu(_norm(x)))
    scale, shift = denoisers.Modulation(2)(embedding, h)
    h = nn.silu(_norm(h) * (1 + scale) + shift)
    h = nn.Dropout(self.dropout, deterministic=not train)(h)
    h = layers.SameConv(self.features, kernel_init=denoisers.ZEROS)(h)
    if x.shape[-1] != self.features:
      x = layers.SameConv(self.features, 1)(x)
    return x + h


class Attention(nn.Module):
  """Adds attention between all pixels; the identity first.

  Attributes:
    num_heads: a divisor of the channels.
  """

  num_heads: int

  @nn.compact
  def __call__(self, x: base.Array) -> base.Array:
    """Maps `[B, H, W, C]` to the same shape, equivariant to permutations of pixels."""
    b, h, w, c = x.shape
    layer = attention.SelfAttention(self.num_heads, denoisers.ZEROS)
    return x + layer(_norm(x).reshape(b, h * w, c)).reshape(x.shape)


class UNet(nn.Module):
  """A denoiser of images.

  Attributes:
    features: of the first level, even.
    multipliers: channels of each level over `features`; each but the first halves.
    num_blocks: of a level on the way down, one more on the way up.
    attention: levels, from 0, whose blocks are followed by attention; with the last, it
      is also in the middle.
    num_heads: of the attention.
    dropout: probability of dropping a feature while training.
    outputs: channels, by default C.
  """

  features: int = 64
  multipliers: tuple[int, ...] = (1, 2, 2)
  num_blocks: int = 2
  attention: tuple[int, ...] = ()
  num_heads: int = 4
  dropout: float = 0.0
  outputs: int | None = None

  def _check(self, x: base.Array) -> None:
    levels = len(self.multipliers)
    stride = 2 ** (levels - 1)
    if x.shape[1] % stride or x.shape[2] % stride:
      raise ValueError(
        f'height and width of x {x.shape} must be multiples of {stride}: {levels}'
        f' levels halve {levels - 1} times'
      )
    if not set(self.attention) <= set(range(levels)):
      raise ValueError(
        f'attention {self.attention} must be of levels 0 to {levels - 1}'
      )

  @nn.compact
  def __call__(
    self,
    x: base.Array,
    t: base.Array,
    condition: base.Array | None = None,
    *,
    train: bool = False,
  ) -> base.Array:
    """Maps images `[B, H, W, C]` to `[B, H, W, outputs]`.

    Args:
      x: `[B, H, W, C]`, H and W multiples of 2^(levels - 1).
      t: `[B]`, see `denoisers`.
      condition: `[B, E]` or None.
      train: whether features are dropped.

    Raises:
      ValueError: another shape, or a level of attention that there is not.
    """
    denoisers.check_shapes(x, t, condition, 'H, W, C')
    self._check(x)
    time = denoisers.TimeEmbedding(4 * self.features, self.features)
    embedding = time(t, condition)

    def block(h, level):
      features = self.features * self.multipliers[level]
      h = Block(features, self.dropout)(h, embedding, train=train)
      return Attention(self.num_heads)(h) if level in self.attention else h

    h = layers.SameConv(self.features)(x)
    skips = [h]
    for level in range(len(self.multipliers)):
      if level:
        h = layers.DownConv(h.shape[-1])(h)
        skips.append(h)
      for _ in range(self.num_blocks):
        h = block(h, level)
        skips.append(h)
    h = block(h, level)
    h = Block(h.shape[-1], self.dropout)(h, embedding, train=train)
    for level in reversed(range(len(self.multipliers))):
      for _ in range(self.num_blocks + 1):
        h = block(jnp.concatenate([h, skips.pop()], axis=-1), level)
      if level:
        h = layers.UpConv(h.shape[-1], kernel_init=_UP_INIT)(h)
    outputs = self.outputs or x.shape[-1]
    last = layers.SameConv(outputs, kernel_init=denoisers.ZEROS, name='last')
    return last(nn.silu(_norm(h)))
