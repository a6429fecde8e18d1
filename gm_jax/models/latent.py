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
    if self.num_levels is not None:
      x = 2.0 / (self.num_levels - 1) * x - 1.0
    x = x.reshape(len(x), -1)
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


def _joined(x: base.Array, condition: base.Array | None) -> base.Array:
  if condition is None:
    return x
  if condition.ndim != 2 or len(condition) != len(x):
    raise ValueError(
      f'the condition of {len(x)} examples must be [{len(x)}, C], got {condition.shape}'
    )
  return jnp.concatenate([x, condition], axis=1)
