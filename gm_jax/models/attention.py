"""Attention between all positions of a set: pixels, patches.

Source: Attention Is All You Need, Vaswani et al., 2017, arXiv:1706.03762, section 3.2.
"""

import flax.linen as nn
import jax.numpy as jnp

from gm_jax import base
from gm_jax.models import transformer


class SelfAttention(nn.Module):
  """Attention of every position to all, without normalization or residual.

  Attributes:
    num_heads: a divisor of the features.
    last_init: of the output projection's kernel.
  """

  num_heads: int
  last_init: nn.initializers.Initializer = nn.linear.default_kernel_init

  @nn.compact
  def __call__(self, x: base.Array) -> base.Array:
    """Maps `[B, T, F]` to the same shape, equivariant to permutations of T.

    Raises:
      ValueError: features that the heads do not divide.
    """
    width = x.shape[-1]
    if width % self.num_heads:
      raise ValueError(f'{width} features are not divisible by {self.num_heads} heads')
    qkv = transformer.apply_to_rows(nn.Dense(3 * width, use_bias=False), x)
    qkv = qkv.reshape(*x.shape[:2], 3, self.num_heads, -1)
    h = (
      transformer.attend(*jnp.moveaxis(qkv, (2, 3), (0, 2)))
      .swapaxes(1, 2)
      .reshape(x.shape)
    )
    last = nn.Dense(width, kernel_init=self.last_init)
    return transformer.apply_to_rows(last, h)
