"""The diffusion transformer: attention between the patches of a noisy image.

A block is x + gate(t) attention(modulated norm(x)), then likewise a perceptron; scale,
shift and gate are linear in the embedding of time and condition, and 0 at first: the
block begins as the identity. The norms have no gains of their own. Positions enter by
fixed sinusoids of row and column, so that one network takes images of any size.

Source: Scalable Diffusion Models with Transformers, Peebles and Xie, 2023,
arXiv:2212.09748, section 3.2.
"""

import flax.linen as nn
import jax.numpy as jnp

from gm_jax import base
from gm_jax.models import attention, denoisers, transformer


def patchify(x: base.Array, size: int) -> base.Array:
  """Cuts images `[B, H, W, C]` into patches `[B, H / size, W / size, size^2 C]`."""
  b, h, w, c = x.shape
  x = x.reshape(b, h // size, size, w // size, size, c).swapaxes(2, 3)
  return x.reshape(b, h // size, w // size, size * size * c)


def unpatchify(patches: base.Array, size: int) -> base.Array:
  """Joins patches `[B, h, w, size^2 C]` to images `[B, h size, w size, C]`."""
  b, h, w, _ = patches.shape
  x = patches.reshape(b, h, w, size, size, -1).swapaxes(2, 3)
  return x.reshape(b, h * size, w * size, -1)


def positions(height: int, width: int, size: int) -> base.Array:
  """Embeds places of a grid by sinusoids, half of them of the row, half of the column.

  Args:
    height: h, rows.
    width: w, columns.
    size: of the embedding, divisible by 4.

  Returns:
    `[h, w, size]`.

  Raises:
    ValueError: another size.
  """
  if size % 4:
    raise ValueError(f'the width of a DiT must be divisible by 4, got {size}')
  row, column = (
    denoisers.sinusoids(jnp.arange(num), size // 2) for num in (height, width)
  )
  shape = (height, width, size // 2)
  parts = jnp.broadcast_to(row[:, None], shape), jnp.broadcast_to(column, shape)
  return jnp.concatenate(parts, axis=-1)


def _modulated_norm(x, scale, shift) -> base.Array:
  norm = nn.LayerNorm(epsilon=1e-6, use_bias=False, use_scale=False)
  return norm(x) * (1 + scale) + shift


class Block(nn.Module):
  """Attention and a perceptron, each modulated and gated by the embedding.

  Attributes:
    num_heads: a divisor of the features.
    mlp_ratio: width of the perceptron over that of the features.
  """

  num_heads: int
  mlp_ratio: int = 4

  @nn.compact
  def __call__(self, x: base.Array, embedding: base.Array) -> base.Array:
    """Maps `[B, T, F]`, embedding `[B, W]`, to `[B, T, F]`; no order of T is seen."""
    width = x.shape[-1]
    modulation = denoisers.Modulation(6, denoisers.ZEROS)(embedding, x)
    scale, shift, gate = modulation[:3]
    layer = attention.SelfAttention(self.num_heads)
    x += gate * layer(_modulated_norm(x, scale, shift))
    scale, shift, gate = modulation[3:]
    up, down = nn.Dense(self.mlp_ratio * width), nn.Dense(width)
    h = _modulated_norm(x, scale, shift)
    return x + gate * transformer.apply_to_rows(lambda h: down(nn.gelu(up(h))), h)


class DiT(nn.Module):
  """A denoiser of images, the last layer 0 at first.

  Attributes:
    patch: height and width of a patch.
    width: of the features, divisible by 4 and by `num_heads`.
    depth: number of blocks.
    num_heads: of the attention.
    mlp_ratio: width of a block's perceptron over `width`.
    outputs: channels, by default C.
  """

  patch: int = 4
  width: int = 256
  depth: int = 6
  num_heads: int = 4
  mlp_ratio: int = 4
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
    """Maps images `[B, H, W, C]` to `[B, H, W, outputs]`.

    Args:
      x: `[B, H, W, C]`, H and W multiples of `patch`.
      t: `[B]`, see `denoisers`.
      condition: `[B, E]` or None.
      train: changes nothing.

    Raises:
      ValueError: another shape, or a width that 4 or the heads do not divide.
    """
    del train
    denoisers.check_shapes(x, t, condition, 'H, W, C')
    if x.shape[1] % self.patch or x.shape[2] % self.patch:
      raise ValueError(
        f'height and width of x {x.shape} must be multiples of the patch, {self.patch}'
      )
    embedding = denoisers.TimeEmbedding(self.width, self.width)(t, condition)
    patches = patchify(x, self.patch)
    h = transformer.apply_to_rows(nn.Dense(self.width), patches)
    h += positions(*h.shape[1:])
    h = h.reshape(len(x), -1, self.width)
    for _ in range(self.depth):
      h = Block(self.num_heads, self.mlp_ratio)(h, embedding)
    scale, shift = denoisers.Modulation(2, denoisers.ZEROS)(embedding, h)
    outputs = self.patch**2 * (self.outputs or x.shape[-1])
    last = nn.Dense(outputs, kernel_init=denoisers.ZEROS, name='last')
    h = transformer.apply_to_rows(last, _modulated_norm(h, scale, shift))
    return unpatchify(h.reshape(*patches.shape[:3], outputs), self.patch)
