"""Fully connected networks: generators, critics, encoders of small data.

Every model is called as `module(x, *, train=False)` and returns
`[B, features[-1]]`, the last layer linear and float32 (or wider) whatever the
computation's `dtype`; a method that wants one logit an example squeezes `[B, 1]`
itself. Inputs are flattened from axis 1.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn

from gm_jax import base
from gm_jax.models import layers


def _flatten(x: base.Array) -> base.Array:
  if x.ndim < 2:
    raise ValueError(f'x has shape {x.shape}, expected [B, ...] of rank 2 or more')
  return x.reshape(x.shape[0], -1)


class MLP(nn.Module):
  """A multilayer perceptron: h <- activation(W h + b), the last layer linear.

  Attributes:
    features: sizes of the layers, the output's last.
    activation: between layers.
    kernel_init: of every kernel.
    use_bias: whether layers have a bias.
    input_scale: what the input is multiplied by.
    spectral_norm: whether every kernel has its largest singular value divided
      out; see `layers.normalize`.
    dtype: of the computation, as in Flax.
  """

  features: Sequence[int]
  activation: Callable = nn.relu
  kernel_init: Callable = nn.initializers.lecun_normal()
  use_bias: bool = True
  input_scale: float = 1.0
  spectral_norm: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(self, x: base.Array, *, train: bool = False) -> base.Array:
    """Maps `[B, ...]` to `[B, features[-1]]`; `train` moves the spectral vectors."""
    x = self.input_scale * _flatten(x)
    for i, features in enumerate(self.features):
      x = self.activation(x) if i else x
      dense = nn.Dense(
        features, self.use_bias, kernel_init=self.kernel_init, dtype=self.dtype
      )
      x = layers.normalize(dense, self.spectral_norm, train=train)(x)
    return layers.at_least_float32(x)


class MaxoutMLP(nn.Module):
  """A perceptron of maxout units: h_f <- max_p (W h + b)_{fp}, the last linear.

  Source: Maxout Networks, Goodfellow et al., 2013, arXiv:1302.4389, section 3.

  Attributes:
    features: sizes of the layers, the output's last.
    num_pieces: linear pieces of each unit.
    kernel_init: of every kernel.
    dtype: of the computation, as in Flax.
  """

  features: Sequence[int]
  num_pieces: int = 5
  kernel_init: Callable = nn.initializers.lecun_normal()
  dtype: Any = None

  @nn.compact
  def __call__(self, x: base.Array, *, train: bool = False) -> base.Array:
    """Maps `[B, ...]` to `[B, features[-1]]`; `train` changes nothing."""
    x = _flatten(x)
    *hidden, last = self.features
    options = dict(kernel_init=self.kernel_init, dtype=self.dtype)
    for features in hidden:
      x = nn.Dense(features * self.num_pieces, **options)(x)
      x = x.reshape(x.shape[0], features, self.num_pieces).max(-1)
    return layers.at_least_float32(nn.Dense(last, **options)(x))
