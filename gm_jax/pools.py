"""Pools of what a generator made before, from which a critic is shown some.

A pool gives back what it is given until it is full. Then each example is, with
probability 1/2, swapped for one that the pool holds, which leaves it. It is kept in
`State.extra[base.LOCAL]`.

Source: Learning from Simulated and Unsupervised Images through Adversarial Training,
Shrivastava et al., 2017, arXiv:1612.07828, section 2.3, as Zhu et al., 2017,
arXiv:1703.10593, have it in their code.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gm_jax import base


class Pool(NamedTuple):
  """N examples, and how many of them are there yet."""

  kept: base.Array  # [N, ...]
  count: base.Array  # [] int32


def empty(size: int, example: base.Array) -> Pool:
  """A pool of `size` examples like this one, none of which is there yet."""
  kept = jnp.zeros((size, *example.shape), example.dtype)
  return Pool(kept, jnp.zeros((), jnp.int32))


def exchange(pool: Pool, key: base.Array, fresh: base.Array) -> tuple[base.Array, Pool]:
  """Gives fresh examples to a pool, one after another.

  Args:
    pool: of N examples.
    key: of what is swapped, and for which.
    fresh: `[B, ...]`.

  Returns:
    What the pool gives for them, `[B, ...]`, and the pool afterwards.
  """
  size = len(pool.kept)

  def one(pool, inputs):
    (place_key, swap_key), example = inputs
    full = pool.count == size
    place = jnp.where(full, jax.random.randint(place_key, (), 0, size), pool.count)
    swap = full & jax.random.bernoulli(swap_key)
    held = pool.kept[place]
    stays = jnp.where(full & ~swap, held, example).astype(held.dtype)
    count = jnp.minimum(pool.count + 1, size)
    return Pool(pool.kept.at[place].set(stays), count), jnp.where(swap, held, example)

  keys = jax.random.split(key, (len(fresh), 2))
  pool, shown = jax.lax.scan(one, pool, (keys, fresh))
  return shown, pool
