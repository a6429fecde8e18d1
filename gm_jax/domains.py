"""Domains that images are of, of one or several data sets that are trained on at once.

Domains are integers, those of one data set after those of another; `sizes` are their
numbers by data set, of sum K.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from gm_jax import base, conditions


def label_vector(domain: base.Array, sizes: Sequence[int]) -> base.Array:
  """Labels of domains as the translator reads them.

  Args:
    domain: `[B]` integers, those of one data set after those of another.
    sizes: numbers of domains by data set, of sum K.

  Returns:
    `[B, K]` one-hot; of S > 1 data sets `[B, K + S]`, with the data set, one-hot.
  """
  label = conditions.one_hot(domain, sum(sizes))
  if len(sizes) == 1:
    return label
  mask = conditions.one_hot(data_set(domain, sizes), len(sizes))
  return jnp.concatenate([label, mask], axis=1)


def data_set(domain: base.Array, sizes: Sequence[int]) -> base.Array:
  """The data sets `[B]` that domains `[B]` are of."""
  ends = jnp.cumsum(jnp.array(sizes))
  return jnp.searchsorted(ends, jnp.asarray(domain, jnp.int32), side='right')


def draw_targets(
  key: base.Array, domain: base.Array, sizes: Sequence[int]
) -> base.Array:
  """Draws a domain for each example, uniformly of its own data set's, `[B]`."""
  number, counts = data_set(domain, sizes), jnp.array(sizes)
  first = (jnp.cumsum(counts) - counts)[number]
  return jax.random.randint(key, domain.shape, first, first + counts[number])


def draw_others(key: base.Array, domain: base.Array) -> base.Array:
  """Draws for each example another one of its domain, uniformly. Batch-coupled.

  Args:
    key: `[]` typed key.
    domain: `[B]` integers.

  Returns:
    `[B]` indices in [0, B); an example alone in its domain has its own.
  """
  itself = jnp.eye(len(domain), dtype=bool)
  same = domain[:, None] == domain
  # Far below the others, which alone are drawn where there are any.
  log_p = jnp.where(itself, -1e6, jnp.where(same, 0.0, -jnp.inf))
  return jax.random.categorical(key, log_p)
