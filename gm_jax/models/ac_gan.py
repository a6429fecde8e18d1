"""The critic of the auxiliary classifier GAN at the size of its paper.

Source: Conditional Image Synthesis with Auxiliary Classifier GANs, Odena et al., 2017,
arXiv:1610.09585, appendix A, table 2 as recalled; kernels that halve are 4x4 here.
"""

import flax.linen as nn

from gm_jax import base
from gm_jax.models import layers

_INIT = nn.initializers.normal(0.02)


class Discriminator(nn.Module):
  """Six convolutions, every other of which halves, each with dropout; a linear layer.

  Channels double at each. Batch normalization after all but the first, leaky relu of
  slope 0.2. Batch-coupled while training.

  Attributes:
    num_outputs: 1 + K.
    base_features: channels of the first convolution.
    dropout: rate, of the module's 'dropout' key.
  """

  num_outputs: int
  base_features: int = 16
  dropout: float = 0.5

  @nn.compact
  def __call__(self, x: base.Array, *, train: bool = False) -> base.Array:
    """Maps images `[B, H, H, C]`, H a multiple of 8, to `[B, 1 + K]`."""
    for i in range(6):
      features = self.base_features * 2**i
      if i % 2:
        x = layers.SameConv(features, use_bias=False, kernel_init=_INIT)(x)
      else:
        x = layers.DownConv(features, use_bias=not i, kernel_init=_INIT)(x)
      if i:
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
      x = nn.leaky_relu(x, 0.2)
      x = nn.Dropout(self.dropout, deterministic=not train)(x)
    out = nn.Dense(self.num_outputs, kernel_init=_INIT)(x.reshape(len(x), -1))
    return layers.at_least_float32(out)
