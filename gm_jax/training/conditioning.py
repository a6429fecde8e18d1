"""Conditions that samples are drawn for: by default, from words, or from a file.

A condition is an array `[num, ...]` of the batch key that a model's card names, or a
dict of such where it names several.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gm_jax import base

EVALUATED = 1000  # examples of the test split that conditions are taken from


def defaults(card: base.Card, data: Any) -> Callable[[int], Any]:
  """Conditions where nobody asks for any: classes in turn, else the test split's.

  Args:
    card: of the method; `condition` names the batch keys.
    data: the run's `Dataset`.

  Returns:
    (num) -> the condition of so many samples, or None of an unconditional model and
    where the data have no such array: a model that cannot do without says so.
  """
  if not card.condition:
    return lambda num: None
  arrays = {}
  for name in card.condition:
    if name == 'label' and data.spec.num_classes:
      arrays[name] = np.arange(data.spec.num_classes, dtype=np.int32)
      continue
    found = data.arrays('test', EVALUATED)
    if name not in found:
      return lambda num: None
    arrays[name] = found[name]
  return _in_turn(card, arrays)


def from_words(
  card: base.Card, data: Any, words: Sequence[str]
) -> Callable[[int], Any]:
  """Conditions that the command line asks for.

  Args:
    card: of the method.
    data: a `Dataset`, whose `encode` knows class names and vocabulary.
    words: one or more conditions, drawn in turn, each a class, numbers, a text, or
      the path of a .npy file of one or many; of a model with several batch keys each
      as NAME=WORDS.

  Returns:
    (num) -> as `defaults` gives.

  Raises:
    ValueError: an unconditional model, words that make no sense, a file that does
      not fit.
  """
  if not words:
    return defaults(card, data)
  if not card.condition:
    raise ValueError(
      f'--condition={words[0]!r}, but this model is unconditional: leave it out'
    )
  by_name: dict[str, list[np.ndarray]] = {name: [] for name in card.condition}
  for word in words:
    name, text = _named(card, word)
    by_name[name].extend(_values(data, name, text))
  missing = [name for name, values in by_name.items() if not values]
  if missing:
    raise ValueError(
      f'this model is conditioned on {", ".join(card.condition)}: add'
      f' --condition={missing[0]}=...'
    )
  return _in_turn(card, {name: np.stack(values) for name, values in by_name.items()})


def _in_turn(card, arrays) -> Callable[[int], Any]:
  def condition(num):
    taken = {name: a[np.arange(num) % len(a)] for name, a in arrays.items()}
    return taken if len(card.condition) > 1 else taken[card.condition[0]]

  return condition


def _named(card, word) -> tuple[str, str]:
  """The batch key that a word is about, and the rest of it."""
  name, equals, rest = word.partition('=')
  if equals and name in card.condition:
    return name, rest
  if len(card.condition) == 1:
    return card.condition[0], word
  raise ValueError(
    f'--condition={word!r} must be NAME=WORDS, with NAME of {", ".join(card.condition)}'
  )


def _values(data, name, text) -> list[np.ndarray]:
  """The conditions of one word, or of a .npy file."""
  if not text.endswith('.npy'):
    return [np.asarray(data.encode(name, text))]
  try:
    array = np.load(pathlib.Path(text), allow_pickle=False)
  except (OSError, ValueError, EOFError) as error:
    reason = getattr(error, 'strerror', None) or str(error)
    raise ValueError(f'--condition={text} cannot be read: {reason}') from error
  shape = np.shape(data.arrays('test', 1)[name])[1:]
  if array.shape == shape:
    return [array]
  if array.shape[1:] == shape and len(array):
    return list(array)
  raise ValueError(
    f'--condition={text} holds {list(array.shape)}; {name} of {data.name} is'
    f' {list(shape)}, or [N, ...] of such'
  )
