"""Features of texts for a generator: what it is given, wherever they come from.

Of tokens they come by encoders that were trained before (`methods.contrastive`), else
they stand in the data: classes, or embeddings that any other program made.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from gm_jax import base, conditions


class Source(NamedTuple):
  """The way from a batch's texts to features, and from z to a generator's input."""

  condition: conditions.Condition
  init: Callable  # (key, batch) -> frozen networks, {name: Model}
  text: Callable  # ({name: Model}, the condition, embedded [B, ...]) -> [B, F]
  # ({name: Model}, z [B, Z], text [B, F]) -> the generator's input
  inputs: Callable = lambda frozen, z, text: z
  queries: Mapping[str, Callable] = base.NOTHING


def by_condition(condition: conditions.Condition) -> Source:
  """Conditions as the data hold them: classes, or embeddings by another program."""
  return Source(condition, lambda key, batch: {}, lambda frozen, value: value)


def embeddings(size: int, *, name: str = 'condition') -> Source:
  """Texts that the data hold as embeddings `[B, size]`, made by any other program."""
  return by_condition(conditions.by_value(size, name=name))
