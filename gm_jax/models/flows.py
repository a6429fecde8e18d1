"""Networks that give the parameters of a flow's layers, or a flow's velocity.

Each is called as `module(x, condition)`, a velocity as `module(z, t, condition)`, and
ends with a layer that is 0 at first, so that the flow begins near the identity. A
condition is `[B, C]` or None.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from gm_jax import base
from gm_jax.models import layers


class Residual(nn.Module):
  """A perceptron of residual blocks, of vectors.

  Source: Neural Spline Flows, Durkan et al., 2019, arXiv:1906.04032, appendix B.1.

  Attributes:
    outputs: of the last layer.
    width: of the hidden layers.
    num_blocks: of two layers each.
  """

  outputs: int
  width: int = 64
  num_blocks: int = 2

  @nn.compact
  def __call__(self, x: base.Array, condition: base.Array | None = None) -> base.Array:
    """Maps `[B, I]` to `[B, outputs]`."""
    if condition is not None:
      x = jnp.concatenate([x, condition.astype(x.dtype)], axis=1)
    h = nn.Dense(self.width)(x)
    for _ in range(self.num_blocks):
      inner = nn.Dense(self.width)(nn.relu(h))
      h += nn.Dense(self.width)(nn.relu(inner))
    return nn.Dense(self.outputs, kernel_init=nn.initializers.zeros)(nn.relu(h))


class Convolutions(nn.Module):
  """A 3x3, a 1x1 and a 3x3 convolution, of images.

  The last one's outputs are multiplied by exp(3 gain), gain 0 at first: its weights
  then learn at the pace of the others.

  Source: Glow: Generative Flow with Invertible 1x1 Convolutions, Kingma and Dhariwal,
  2018, arXiv:1807.03039, section 3.3; the factor is of its code.

  Attributes:
    outputs: channels of the last convolution.
    width: of the hidden layers; 512 in the source.
  """

  outputs: int
  width: int = 64

  @nn.compact
  def __call__(self, x: base.Array, condition: base.Array | None = None) -> base.Array:
    """Maps `[B, H, W, I]` to `[B, H, W, outputs]`.

    A condition `[B, C]` is added everywhere, one of images `[B, H, W, C]` stands beside
    x.
    """
    if condition is not None and condition.ndim == 4:
      x, condition = jnp.concatenate([x, condition.astype(x.dtype)], axis=3), None
    h = layers.SameConv(self.width)(x)
    if condition is not None:
      h += nn.Dense(self.width, use_bias=False)(condition.astype(h.dtype))[
        :, None, None
      ]
    h = nn.Dense(self.width)(nn.relu(h))
    last = layers.SameConv(self.outputs, kernel_init=nn.initializers.zeros)
    gain = self.param('gain', nn.initializers.zeros, (self.outputs,))
    return last(nn.relu(h)) * jnp.exp(3.0 * gain)


class Velocity(nn.Module):
  """A perceptron of vectors and time, the velocity of a continuous flow.

  Time stands beside the vector. The activation is smooth, for an adaptive solver makes
  many small steps across the kinks of another.

  Source: FFJORD: Free-form Continuous Dynamics for Scalable Reversible Generative
  Models, Grathwohl et al., 2019, arXiv:1810.01367, section 4.

  Attributes:
    width: of the hidden layers.
    num_layers: hidden ones.
    activation: between layers.
    last_init: of the last layer's kernel.
  """

  width: int = 64
  num_layers: int = 3
  activation: Callable = nn.tanh
  last_init: nn.initializers.Initializer = nn.initializers.zeros

  @nn.compact
  def __call__(
    self, z: base.Array, t: base.Array, condition: base.Array | None = None
  ) -> base.Array:
    """Maps `[B, D]` at times t `[B]` to velocities `[B, D]`."""
    beside = [t[:, None]] if condition is None else [t[:, None], condition]
    h = jnp.concatenate([z, *(b.astype(z.dtype) for b in beside)], axis=1)
    for _ in range(self.num_layers):
      h = self.activation(nn.Dense(self.width)(h))
    return nn.Dense(z.shape[1], kernel_init=self.last_init)(h)
