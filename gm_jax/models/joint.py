"""A critic of pairs: data concatenated with the latents that belong to them."""

import flax.linen as nn
import jax.numpy as jnp

from gm_jax import base


class Joint(nn.Module):
  """A critic of (x, z): the features of x concatenated with z, then a head.

  Attributes:
    body: x [B, ...] -> features [B, F]; None to take x flat.
    head: `[B, F + Z]` -> logits [B] or [B, 1].
  """

  body: nn.Module | None
  head: nn.Module

  def __call__(
    self, pair: tuple[base.Array, base.Array], *, train: bool = False
  ) -> base.Array:
    """Maps pairs to logits.

    Args:
      pair: x `[B, ...]` and z `[B, Z]`.
      train: passed on to the body and the head.

    Returns:
      `[B]` or `[B, 1]` logits, as the head's.

    Raises:
      ValueError: x and z are not equally many.
    """
    x, z = pair
    if len(x) != len(z):
      raise ValueError(f'x and z must be pairs, got {x.shape} and {z.shape}')
    x = x.reshape(len(x), -1) if self.body is None else self.body(x, train=train)
    return self.head(jnp.concatenate([x, z], -1), train=train)
