"""Conditions of a model: a batch key, its embedding, and leaving it out.

A `Condition` names an array of a batch and says what of it the networks see. It may be
a class, numbers, tokens, a vector of another network, or several of these at once, as a
dict. While training a condition may be dropped at a rate, so that one network learns
the conditional and the unconditional model; guidance moves between the two,

  guided = unconditional + scale (conditional - unconditional).

Source of dropping: Classifier-Free Diffusion Guidance, Ho and Salimans, 2022,
arXiv:2207.12598, algorithm 1.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gm_jax import base

_DROP = 0x64726F70  # far above the numbers that `split` counts by


class Condition(NamedTuple):
  """An array of a batch that a model sees beside x."""

  name: str | tuple[str, ...]  # batch key; several: the condition is a dict by key
  embed: Callable[[Any], Any]  # arrays [B, ...] -> what the networks see, [B, ...]
  null: Any = None  # the value of one example that stands for no condition, or None
  rate: float = 0.0  # at which examples lose it in training; above 0 it is optional


def one_hot(label: base.Array, num_classes: int) -> base.Array:
  """Maps classes `[...]` to `[..., K]` in any integer dtype; of -1 there is none.

  `jax.nn.one_hot` compares in the label's own dtype, where 5 may be 261: in uint8.
  """
  return jax.nn.one_hot(jnp.asarray(label, jnp.int32), num_classes)


def by_class(num_classes: int, *, name: str = 'label') -> Condition:
  """Conditions on a class, one-hot: `label [B]` -> `[B, K]`; -1 is no class."""
  embed = functools.partial(one_hot, num_classes=num_classes)
  return Condition(name, embed, null=np.int32(-1))


def by_value(size: int | None = None, *, name: str = 'condition') -> Condition:
  """Conditions on numbers as they are, `[B, size]`; zeros are no condition."""
  null = None if size is None else np.zeros(size, np.float32)
  return Condition(name, lambda value: jnp.asarray(value, jnp.float32), null)


def by_tokens(length: int, *, name: str = 'text') -> Condition:
  """Conditions on tokens `[B, length]`, embedded by the network; 0 is padding."""
  null = np.zeros(length, np.int32)
  return Condition(name, lambda tokens: jnp.asarray(tokens, jnp.int32), null)


def by_patches(shape: tuple[int, ...], *, name: str = 'condition') -> Condition:
  """Conditions on patches `[B, P, H, W, C]` of one shape; zeros are none.

  Args:
    shape: (P, H, W, C).
    name: batch key.

  Returns:
    The condition, which refuses another number or size of patches.
  """
  num, *each = shape

  def embed(value):
    found = list(jnp.shape(value))
    if len(found) != 5 or found[1] != num:
      raise ValueError(
        f'this model takes {num} patches an example, [B, {num}, H, W, C], got {found}'
      )
    if found[2:] != each:
      raise ValueError(
        f'this model takes patches of height, width and channels {each}, got'
        f' {found[2:]}'
      )
    return jnp.asarray(value, jnp.float32)

  return Condition(name, embed, np.zeros(shape, np.float32))


def optional(condition: Condition, rate: float) -> Condition:
  """A condition that training drops at a rate and sampling may leave out.

  Args:
    condition: with a null.
    rate: probability in (0, 1) that an example loses its condition.

  Raises:
    ValueError: a rate outside (0, 1), or a condition without a null.
  """
  if not 0 < rate < 1:
    raise ValueError(f'the rate of dropping must be in (0, 1), got {rate}')
  if condition.null is None:
    raise ValueError(f'the condition {condition.name!r} has no null to be replaced by')
  return condition._replace(rate=rate)


def several(*conditions: Condition) -> Condition:
  """Conditions on several batch keys at once, a dict by key.

  Args:
    *conditions: each of one key, all different.

  Returns:
    A condition whose values and embeddings are dicts by key. Its null is the dict of
    nulls, if all have one.

  Raises:
    ValueError: a key twice, or a condition that is itself of several.
  """
  keys = tuple(c.name for c in conditions)
  if len(set(keys)) < len(keys) or not all(isinstance(key, str) for key in keys):
    raise ValueError(f'conditions must be of one batch key each, got {keys}')
  by_name = dict(zip(keys, conditions, strict=True))
  nulls = {name: c.null for name, c in by_name.items()}
  all_null = all(c.null is not None for c in conditions)

  def embed(values):
    return {name: c.embed(values[name]) for name, c in by_name.items()}

  return Condition(keys, embed, nulls if all_null else None)


def concatenated(condition: Condition) -> Condition:
  """A condition whose embedding is one `[B, C]` array: parts flat, side by side."""

  def embed(value):
    embedding = condition.embed(value)
    if isinstance(embedding, dict):  # as declared: a tree's leaves are sorted by key
      embedding = [embedding[name] for name in names(condition)]
    leaves = jax.tree.leaves(embedding)
    flat = [leaf.reshape(len(leaf), -1).astype(jnp.float32) for leaf in leaves]
    return jnp.concatenate(flat, axis=1)

  return condition._replace(embed=embed)


def from_batch(condition: Condition | None, batch: base.Batch) -> Any:
  """Reads a condition's value from a batch; None where the model takes none.

  Raises:
    ValueError: the batch lacks it.
  """
  if condition is None:
    return None
  missing = [name for name in names(condition) if name not in batch]
  if missing:
    raise ValueError(
      f'this model needs {missing[0]!r} in its batches, which have {sorted(batch)}'
    )
  if isinstance(condition.name, str):
    return batch[condition.name]
  return {name: batch[name] for name in names(condition)}


def training_embedding(
  condition: Condition | None, key: base.Array, batch: base.Batch
) -> Any:
  """Embeds a batch's condition for a training step, some of it dropped.

  Args:
    condition: of the model, or None.
    key: of the step; a stream of its own is folded from it, if anything is dropped.
    batch: has the condition's batch keys.

  Returns:
    The embedding `[B, ...]`; None of an unconditional model.

  Raises:
    ValueError: the batch lacks the condition.
  """
  return embedded(condition, training_value(condition, key, batch))


def training_value(
  condition: Condition | None, key: base.Array, batch: base.Batch
) -> Any:
  """Reads a batch's condition for a training step, some of it dropped; not embedded."""
  value = from_batch(condition, batch)
  if condition is not None and condition.rate:
    value = dropped(condition, jax.random.fold_in(key, _DROP), value)
  return value


def embedded(condition: Condition | None, value: Any, num: int | None = None) -> Any:
  """Embeds a condition's value, as the networks see it.

  Args:
    condition: of the model, or None.
    value: `[B, ...]`, a dict of such, or None.
    num: B, where `value` is None and the condition may be left out.

  Returns:
    The embedding `[B, ...]`; None of an unconditional model.

  Raises:
    ValueError: an unconditional model is given a condition, or a conditional one
      none (unless it is optional), or a wrong number of them.
  """
  if condition is None:
    check_unconditional(value)
    return None
  if value is None:
    if not condition.rate or num is None:
      needed = ', '.join(f'{name} [B, ...]' for name in names(condition))
      raise ValueError(f'this model needs a condition, {needed}')
    value = jax.tree.map(
      lambda null: jnp.broadcast_to(null, (num, *np.shape(null))), condition.null
    )
  if num is not None:
    check_num(value, num)
  return condition.embed(value)


def dropped(condition: Condition | None, key: base.Array, value: Any) -> Any:
  """Replaces the condition of some examples by its null, at the condition's rate.

  Args:
    condition: of the model, or None.
    key: of which examples lose it; of several conditions they lose all together.
    value: `[B, ...]`, a dict of such, or None.

  Returns:
    As `value`.
  """
  if condition is None or not condition.rate:
    return value
  num = len(jax.tree.leaves(value)[0])
  lost = jax.random.bernoulli(key, condition.rate, (num,))

  def replace(leaf, null):
    mask = lost.reshape(num, *[1] * (leaf.ndim - 1))
    # In their common dtype: the null -1 of a class is 255 in uint8.
    return jnp.where(mask, null, leaf)

  return jax.tree.map(replace, jax.tree.map(jnp.asarray, value), condition.null)


def check_word_dropout(rate: float) -> None:
  """Raises ValueError unless a rate of dropping words is in [0, 1)."""
  if not 0 <= rate < 1:
    raise ValueError(f'word_dropout must be in [0, 1), got {rate}')


def without_words(key: base.Array, value: base.Array, rate: float) -> base.Array:
  """Leaves words out of texts: tokens become padding, 0, each with this probability.

  A text that would lose all its words keeps them: of no word an encoder's features may
  be zero, which have no direction.

  Args:
    key: of which.
    value: `[B, T]` tokens; anything else, as embeddings, is returned as it is.
    rate: in [0, 1).
  """
  if not rate or not jnp.issubdtype(jnp.result_type(value), jnp.integer):
    return value
  kept = jnp.where(jax.random.bernoulli(key, rate, value.shape), 0, value)
  return jnp.where((kept != 0).any(axis=-1, keepdims=True), kept, value)


def mismatched(value: base.Array) -> tuple[base.Array, base.Array]:
  """Finds for every example another of the batch whose condition differs.

  The next that differs, cyclically: a roll by one would find the same condition where
  conditions repeat. Batch-coupled.

  Args:
    value: `[B, ...]` conditions, as tokens.

  Returns:
    `[B]` indices, and `[B]` whether there is any: the index is else the example's own.
  """
  flat = value.reshape(len(value), -1)
  differ = (flat[:, None] != flat[None]).any(axis=2)  # [B, B]
  index = jnp.arange(len(flat))
  ahead = (index[:, None] + index) % len(flat)  # [B, B]: own, next, next but one ...
  first = jnp.take_along_axis(differ, ahead, axis=1).argmax(axis=1)
  return (index + first) % len(flat), differ.any(axis=1)


def guided(conditional: Any, unconditional: Any, scale: float) -> Any:
  """Moves from the unconditional to the conditional output and beyond.

  Args:
    conditional: network output `[B, ...]`, or a tree of such.
    unconditional: likewise, of the same network with the null.
    scale: 0 is unconditional, 1 conditional, more is guidance.

  Returns:
    As the outputs.
  """
  return jax.tree.map(lambda c, u: u + scale * (c - u), conditional, unconditional)


def check_num(value: Any, num: int) -> None:
  """Raises ValueError unless a condition's value is of so many examples."""
  for leaf in jax.tree.leaves(value):
    if np.shape(leaf)[:1] != (num,):
      raise ValueError(
        f'a condition for {num} examples must be [{num}, ...], got'
        f' {list(np.shape(leaf))}'
      )


def check_unconditional(condition: Any) -> None:
  """Raises ValueError if an unconditional model is given a condition."""
  if condition is not None:
    raise ValueError('this model is unconditional: condition must be None')


def names(condition: Condition | None) -> tuple[str, ...]:
  """Batch keys of a condition, as `Card.condition` has them; () of None."""
  if condition is None:
    return ()
  return (condition.name,) if isinstance(condition.name, str) else condition.name
