"""Networks whose output is an energy of an image.

They are smooth: chains follow their gradient, and losses differentiate it. Nothing
couples the examples of a batch.
"""

from collections.abc import Sequence

import flax.linen as nn

from gm_jax import base
from gm_jax.models import layers


class ConvolutionalEnergy(nn.Module):
  """A 3x3 convolution, halvings by 4x4 convolutions, a hidden layer; SiLU between.

  About as large as that of a tutorial: 242,049 parameters of images of 28 x 28.

  Attributes:
    features: channels of the first convolution and after each halving.
    hidden: units of the hidden layer.
    num_outputs: F, 1 of an energy, the number of classes of a classifier.
  """

  features: Sequence[int] = (16, 32, 64)
  hidden: int = 64
  num_outputs: int = 1

  @nn.compact
  def __call__(self, x: base.Array, *, train: bool = False) -> base.Array:
    """Maps images `[B, H, W, C]`, H and W halved to the last pixel, to `[B, F]`.

    Raises:
      ValueError: no images, or a side that cannot be halved as often.
    """
    del train
    if x.ndim != 4:
      raise ValueError(f'x must be [B, H, W, C], got {x.shape}')
    first, *halvings = self.features
    x = nn.silu(layers.SameConv(first)(x))
    for features in halvings:
      x = nn.silu(layers.DownConv(features)(x))
    x = nn.silu(nn.Dense(self.hidden)(x.reshape(len(x), -1)))
    return nn.Dense(self.num_outputs)(x)
