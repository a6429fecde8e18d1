"""Networks between data and codes: encoders that take levels, decoders of a shape.

A network with a condition is called as `module(x, condition, *, train=False)`, with the
condition embedded, `[B, C]`; it is concatenated to the input.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from gm_jax import base
from gm_jax.models import dit, layers


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
    patch: sides of the squares of pixels that are seen as one, their numbers side by
      side: fewer places are cheaper.
  """

  size: int
  num_halvings: int
  features: int
  num_levels: int | None = None
  patch: int = 1

  @nn.compact
  def __call__(self, x: base.Array, *, train: bool = False) -> base.Array:
    """Maps images `[B, H, W, C]` to vectors `[B, h, w, size]`, h = H / (2^n patch)."""
    del train
    x = dit.patchify(layers.scaled_levels(x, self.num_levels), self.patch)
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
    patch: sides of the squares of pixels that the last layer gives at once.
  """

  channels: int
  num_doublings: int
  features: int
  dropout: float = 0.0
  patch: int = 1

  @nn.compact
  def __call__(self, z: base.Array, *, train: bool = False) -> base.Array:
    """Maps vectors `[B, h, w, D]` to images `[B, 2^n patch h, ..., channels]`."""
    drop = nn.Dropout(self.dropout, deterministic=not train)
    x = drop(nn.relu(nn.Dense(self.features * 2 ** (self.num_doublings - 1))(z)))
    for i in reversed(range(self.num_doublings)):
      x = drop(nn.relu(layers.UpConv(self.features * 2**i)(x)))
    x = nn.Dense(self.patch**2 * self.channels)(x)
    return layers.at_least_float32(dit.unpatchify(x, self.patch))


def _joined(x: base.Array, condition: base.Array | None) -> base.Array:
  if condition is None:
    return x
  if condition.ndim != 2 or len(condition) != len(x):
    raise ValueError(
      f'the condition of {len(x)} examples must be [{len(x)}, C], got {condition.shape}'
    )
  return jnp.concatenate([x, condition], axis=1)


class FlatPosterior(nn.Module):
  """A posterior of vectors on a grid, flat: means and log deviations of all numbers.

  Attributes:
    body: images -> `[B, h, w, 2 D]`, means before log deviations.
  """

  body: nn.Module

  def __call__(self, x: base.Array, *, train: bool = False) -> base.Array:
    """Maps images to `[B, 2 h w D]`, all means before all log deviations."""
    parts = jnp.split(self.body(x, train=train), 2, axis=-1)
    return jnp.concatenate([part.reshape(len(x), -1) for part in parts], axis=1)


class Unflattened(nn.Module):
  """A network of vectors on a grid, for flat codes.

  Attributes:
    body: `[B, *shape]` -> `[B, ...]`.
    shape: of the grid, (h, w, D).
  """

  body: nn.Module
  shape: Sequence[int]

  def __call__(self, z: base.Array, *, train: bool = False) -> base.Array:
    """Maps codes `[B, h w D]` as the body does `[B, h, w, D]`."""
    return self.body(z.reshape(len(z), *self.shape), train=train)
