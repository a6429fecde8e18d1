"""A causal transformer over vectors of real numbers, as the patches of an image.

It gives each vector the parameters of a map that the vectors before it determine; with
a cache of keys and values a vector costs a vector's work (`transformer.Decoder`).

Source: Normalizing Flows are Capable Generative Models, Zhai et al., 2024,
arXiv:2412.06329, section 2.
"""

import flax.linen as nn

from gm_jax import base
from gm_jax.models import transformer


class PatchTransformer(nn.Module):
  """Parameters of each vector of a sequence, by the vectors before it.

  The last layer is 0 at first, so that a flow begins near the identity.

  Attributes:
    num_dims: T, vectors of an example.
    outputs: K, of every vector.
    width: of the features.
    num_layers: number of blocks.
    heads: of the attention.
  """

  num_dims: int
  outputs: int
  width: int = 64
  num_layers: int = 2
  heads: int = 4

  def setup(self):
    """Creates the projection and what follows it, with parameters side by side."""
    self.patches = nn.Dense(self.width)
    sizes = self.num_dims, self.outputs, self.width, self.num_layers, self.heads
    self.decoder = transformer.Decoder(*sizes, head_init=nn.initializers.zeros)
    nn.share_scope(self, self.decoder)

  def __call__(self, x: base.Array, condition: base.Array | None = None) -> base.Array:
    """Maps vectors to the outputs of every position.

    Args:
      x: `[B, T, P]` real.
      condition: `[B, C]` to condition on, or None.

    Returns:
      `[B, T, K]`, the i-th a function of x[:, :i].

    Raises:
      ValueError: another shape of x, or a width that the heads do not divide.
    """
    if x.ndim != 3 or x.shape[1] != self.num_dims:
      raise ValueError(f'x must be [B, {self.num_dims}, P], got {x.shape}')
    return self.decoder(transformer.apply_to_rows(self.patches, x[:, :-1]), condition)

  def start(self, num: int, condition: base.Array | None = None) -> dict:
    """Returns the memory before the first of B = num vectors, see `Decoder.start`."""
    return self.decoder.start(num, condition)

  def conditional(self, memory: dict, i: base.Array) -> base.Array:
    """Returns the outputs `[B, K]` of the i-th vector, which the memory holds."""
    del i
    return memory['outputs']

  def update(self, memory: dict, i: base.Array, value: base.Array) -> dict:
    """Returns the memory with the i-th vector `[B, P]` in it."""
    return self.decoder.update(memory, i, self.patches(value))
