"""Networks between data and codes: encoders that take levels, decoders of a shape.

A network with a condition is called as `module(x, condition, *, train=False)`, with the
condition embedded, `[B, C]`; it is concatenated to the input.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from gm_jax import base
from gm_jax.models import layers


class Encoder(nn.Module):
  """A network of data taken flat, levels scaled to [-1, 1].

  Attributes:
    body: `[B, D]`, or `[B, D + C]` with a condition, -> `[B, F]`.
    num_levels: L of data in [0, L); None of data that are taken as they are.
  """

  body: nn.Module
  num_levels: int | None = None

  def __call__(
    self, x: base.Array, condition: base.Array | None = None, *, train: bool = False
  ) -> base.Array:
    """Maps x `[B, ...]`, and the condition `[B, C]`, to `[B, F]`."""
    x = layers.scaled_levels(x, self.num_levels).reshape(len(x), -1)
    return self.body(_joined(x, condition), train=train)


class Decoder(nn.Module):
  """A network of codes whose output gets a shape.

  Attributes:
    body: `[B, Z]`, or `[B, Z + C]` with a condition, -> `[B, ...]`.
    shape: of one output.
  """

  body: nn.Module
  shape: Sequence[int]

  def __call__(
    self, z: base.Array, condition: base.Array | None = None, *, train: bool = False
  ) -> base.Array:
    """Maps z `[B, Z]`, and the condition `[B, C]`, to `[B, *shape]`."""
    out = self.body(_joined(z, condition), train=train)
    return layers.at_least_float32(out.reshape(len(z), *self.shape))


class GridEncoder(nn.Module):
  """Images to vectors on a grid: halvings by convolution, then a perceptron a place.

  Attributes:
    size: D of a vector.
    num_halvings: of height and width.
    features: channels after the first halving, which double with each.
    num_levels: L of data in [0, L); None of data that are taken as they are.
  """

  size: int
  num_halvings: int
  features: int
  num_levels: int | None = None

  @nn.compact
  def __call__(self, x: base.Array, *, train: bool = False) -> base.Array:
    """Maps images `[B, H, W, C]` to vectors `[B, H / 2^n, W / 2^n, size]`."""
    del train
    x = layers.scaled_levels(x, self.num_levels)
    for i in range(self.num_halvings):
      x = nn.relu(layers.DownConv(self.features * 2**i)(x))
    x = nn.relu(nn.Dense(x.shape[-1])(x))
    return layers.at_least_float32(nn.Dense(self.size)(x))


class GridDecoder(nn.Module):
  """Vectors on a grid to images: a perceptron a place, doublings by convolution.

  Attributes:
    channels: of the output.
    num_doublings: of height and width.
    features: channels after the last doubling, which halve with each.
    dropout: probability of dropping a feature while training.
  """

  channels: int
  num_doublings: int
  features: int
  dropout: float = 0.0

  @nn.compact
  def __call__(self, z: base.Array, *, train: bool = False) -> base.Array:
    """Maps vectors `[B, H, W, D]` to images `[B, 2^n H, 2^n W, channels]`."""
    drop = nn.Dropout(self.dropout, deterministic=not train)
    x = drop(nn.relu(nn.Dense(self.features * 2 ** (self.num_doublings - 1))(z)))
    for i in reversed(range(self.num_doublings)):
      x = drop(nn.relu(layers.UpConv(self.features * 2**i)(x)))
    return layers.at_least_float32(nn.Dense(self.channels)(x))


def _joined(x: base.Array, condition: base.Array | None) -> base.Array:
  if condition is None:
    return x
  if condition.ndim != 2 or len(condition) != len(x):
    raise ValueError(
      f'the condition of {len(x)} examples must be [{len(x)}, C], got {condition.shape}'
    )
  return jnp.concatenate([x, condition], axis=1)
