"""Conditions that samples are drawn for: by default, from words, or from a file.

A condition is an array `[num, ...]` of the batch key that a model's card names, or a
dict of such where it names several. Data, words and files are raw; what a model is
given is in model space.
"""

import pathlib
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from gm_jax import base, model_space

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
  return _in_turn(card, data, arrays)


def from_words(
  card: base.Card, data: Any, words: Sequence[str]
) -> Callable[[int], Any]:
  """Conditions that the command line asks for.

  Args:
    card: of the method.
    data: a `Dataset`, whose `encode` knows class names and vocabulary.
    words: one or more conditions, drawn in turn, each a class, numbers, a text, or
      the path of a .npy file of one or many, or of an .npz file that has them under
      the name of the batch key; of a model with several batch keys each as NAME=WORDS.

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
  arrays = {name: np.stack(values) for name, values in by_name.items()}
  return _in_turn(card, data, arrays)


def of_task(name: str, card: base.Card, data: Any, words: Sequence[str]) -> Any:
  """Reads the condition of a task: to translate a domain, else as `from_words`.

  Args:
    name: of the task.
    card: of the method.
    data: a `Dataset`.
    words: as of `domain` or `from_words`; none for None.

  Raises:
    ValueError: as these raise.
  """
  if name == 'translate' or not words:
    return domain(data, words)
  return from_words(card, data, words)


def domain(data: Any, words: Sequence[str]) -> int | None:
  """The domain that the command line asks for, of two (x, y) or of many.

  Args:
    data: a `Dataset`.
    words: one name or number; none for None.

  Raises:
    ValueError: several words, or no such domain.
  """
  if not words:
    return None
  if len(words) > 1:
    raise ValueError(f'one domain at a time, got --condition={", ".join(words)}')
  two = {'x': 0, '0': 0, 'y': 1, '1': 1}
  word = words[0].removeprefix('domain=').strip()
  if 'domain' in data.spec.parts or 'y' not in data.spec.parts:
    return int(data.encode('domain', word))
  if word not in two:
    raise ValueError(f'the domain must be x (or 0) or y (or 1), got {word!r}')
  return two[word]


def _in_turn(card, data, arrays) -> Callable[[int], Any]:
  made = model_space.forward(data.spec, jax.random.key(0), arrays)
  arrays = {name: np.asarray(a) for name, a in made.items()}

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
  """The conditions of one word, or of a file of arrays."""
  if not text.endswith(('.npy', '.npz')):
    return [np.asarray(data.encode(name, text))]
  array = _file(name, text)
  known = np.asarray(data.arrays('test', 1)[name])
  shape, part = known.shape[1:], data.spec.parts.get(name)
  if array.shape != shape and not (array.shape[1:] == shape and len(array)):
    raise ValueError(
      f'--condition={text} holds {list(array.shape)}; {name} of {data.name} is'
      f' {list(shape)}, or [N, ...] of such'
    )
  levels = part.num_levels if part else None
  if levels and (
    array.dtype.kind not in 'ui' or array.min() < 0 or array.max() >= levels
  ):
    raise ValueError(
      f'--condition={text} holds {array.dtype} from {array.min():g} to'
      f' {array.max():g}; {name} of {data.name} is integers from 0 to {levels - 1}'
    )
  array = array.astype(known.dtype) if levels else array
  return [array] if array.shape == shape else list(array)


def _file(name, text) -> np.ndarray:
  """The array of a .npy file, or that of this name in an .npz file."""
  try:
    found = np.load(pathlib.Path(text), allow_pickle=False)
    if isinstance(found, np.ndarray):
      return found
    with found:
      if name not in found:
        there = ', '.join(found) or 'no array'
        raise ValueError(f'no array {name!r} in it; there is {there}')
      return found[name]
  except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
    reason = getattr(error, 'strerror', None) or str(error)
    raise ValueError(f'--condition={text} cannot be read: {reason}') from error
