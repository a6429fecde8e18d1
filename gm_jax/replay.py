"""A replay buffer: where chains of a model in training stand, to go on from there.

Every training step draws B of the N chains at random, moves them and puts them back. A
share of them begins afresh, at noise, so that the buffer forgets a model long gone. It
is kept in `State.extra[base.LOCAL]`, and a run that is continued has the chains it had.

A batch holds no chain twice: of two copies, moved apart, one would overwrite the other
in the buffer, and be lost.

Source: Implicit Generation and Generalization in Energy-Based Models, Du and Mordatch,
2019, arXiv:1903.08689, section 3.2.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gm_jax import base


class Buffer(NamedTuple):
  """N chains, all of which are somewhere from the beginning."""

  chains: base.Array  # [N, ...]


def filled(draw: Callable, key: base.Array, size: int) -> Buffer:
  """A buffer whose chains are where they begin.

  Args:
    draw: (key, num) -> `[num, ...]`.
    key: of the draw.
    size: N.

  Returns:
    The buffer.

  Raises:
    ValueError: `size` below 1.
  """
  if size < 1:
    raise ValueError(f'a replay buffer must hold at least 1 chain, got {size}')
  return Buffer(draw(key, size))


def places(buffer: Buffer, key: base.Array, num: int) -> base.Array:
  """Places of chains to go on from, each at most once.

  Args:
    buffer: of N chains.
    key: of the places.
    num: B, how many.

  Returns:
    `[B]` different numbers below N, every set of them equally likely.

  Raises:
    ValueError: an empty buffer, or one of fewer chains than are asked for.
  """
  size = len(buffer.chains)
  if not size:
    raise ValueError('the replay buffer is empty: fill it before chains are drawn')
  if num > size:
    raise ValueError(
      f'the replay buffer must hold a chain for each of a batch of {num}, got {size}'
    )
  return jax.random.permutation(key, size)[:num]


def starts(
  buffer: Buffer, key: base.Array, fresh: base.Array, *, rate: float
) -> tuple[base.Array, base.Array]:
  """Chains to go on from, some of which begin afresh.

  Args:
    buffer: of N chains.
    key: of which chains, and which of them begin afresh.
    fresh: `[B, ...]` where these do.
    rate: probability of each, in [0, 1].

  Returns:
    `[B]` places, and `[B, ...]` where their chains begin.

  Raises:
    ValueError: as `places`.
  """
  place_key, fresh_key = jax.random.split(key)
  index = places(buffer, place_key, len(fresh))
  anew = jax.random.bernoulli(fresh_key, rate, index.shape)
  anew = anew.reshape(-1, *[1] * (fresh.ndim - 1))
  return index, jnp.where(anew, fresh, buffer.chains[index])


def put(buffer: Buffer, index: base.Array, chains: base.Array) -> Buffer:
  """The buffer with chains `[B, ...]` put back at their places `[B]`."""
  return Buffer(buffer.chains.at[index].set(chains.astype(buffer.chains.dtype)))
