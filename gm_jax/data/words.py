"""Words of the command line as the arrays that a data set has.

A class or a domain is named, or numbered from 0; a name goes before a number, so that a
class called 2 is that class wherever it stands. Numbers have commas between. A text is
tokenized as the data set's own texts are, then cut or padded by zeros to their length;
a text of no word at all is refused.
"""

import difflib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from gm_jax import base

LISTED = 10  # names that an error lists, at most


def encode(data: Any, key: str, words: str) -> np.ndarray:
  """Turns words into the raw array of one example.

  Args:
    data: a `Dataset`.
    key: 'label', 'domain', 'condition' or 'text'.
    words: a name or an integer; the same; numbers with commas between; a text.

  Returns:
    `[]` int32 of a label or a domain, `[...]` float32 of a condition, `[T]` int32
    tokens.

  Raises:
    ValueError: the data have no such array, or the words do not fit it.
  """
  spec, found = data.spec, {}
  if spec.num_classes:
    found['label'] = lambda: _index(key, words, spec.num_classes, data.class_names)
  if 'domain' in spec.parts and spec.parts['domain'].num_levels:
    num = spec.parts['domain'].num_levels
    found['domain'] = lambda: _index(key, words, num, data.domain_names)
  if 'condition' in spec.parts:
    found['condition'] = lambda: _numbers(key, words, spec.parts[key].shape)
  if 'text' in spec.parts or data.vocabulary:
    found['text'] = lambda: _tokens(data, words)
  if key not in found:
    known = f'only {", ".join(found)}' if found else 'nothing'
    raise ValueError(f'{data.name} has no {key!r} that words could say: {known}')
  return found[key]()


def tokenize_characters(string: str, vocabulary: Sequence[str]) -> np.ndarray:
  """Tokenizes a string by its characters.

  Args:
    string: of T characters.
    vocabulary: the character of each token.

  Returns:
    [T] int32.

  Raises:
    ValueError: a character is not in the vocabulary; the first is named.
  """
  tokens = {character: token for token, character in enumerate(vocabulary)}
  for position, character in enumerate(string):
    if character not in tokens:
      raise ValueError(
        f'string has {character!r} at position {position}, which is not among the'
        f' {len(tokens)} characters of the vocabulary'
      )
  return np.array([tokens[character] for character in string], np.int32)


def tokenize_words(
  string: str,
  vocabulary: Sequence[str],
  *,
  warn: Callable[[str], None] | None = None,
) -> np.ndarray:
  """Tokenizes a string by its words, between spaces.

  A word that stands in the vocabulary as it is, is that one; else case does not matter.

  Args:
    string: of T words.
    vocabulary: the word of each token; the first, of token 0, stands for padding and
      is not looked for.
    warn: told of every word that is not in the vocabulary, which is left out.

  Returns:
    [T] int32.

  Raises:
    ValueError: a word is not in the vocabulary, and there is no `warn`; the first is
      named.
  """
  exact = {word: i for i, word in enumerate(vocabulary) if i}
  folded = {word.casefold(): i for word, i in exact.items()}

  def token(word):
    found = exact.get(word, folded.get(word.casefold()))
    if found is None:
      problem = f'no word {word!r}; {_suggest(word, vocabulary[1:])}'
      if warn is None:
        raise ValueError(problem)
      warn(f'{problem}; it is left out')
    return found

  tokens = [token(word) for word in string.split()]
  return np.array([t for t in tokens if t is not None], np.int32)


def tokenize_bytes(string: str) -> np.ndarray:
  """Tokenizes a string by its UTF-8 bytes, `[T]` int32."""
  return np.frombuffer(string.encode('utf-8', 'replace'), np.uint8).astype(np.int32)


def nearest(word: str, known: Iterable[str]) -> str:
  """Finds the name that is most like a word."""
  return difflib.get_close_matches(word, sorted(known), 1, 0)[0]


def _index(key: str, words: str, num: int, names: Sequence[str] | None) -> np.ndarray:
  """Finds the number of a class by its name or by the number itself."""
  sought = words.strip()
  for fold in (str, str.casefold):  # names may differ by case alone
    folded = [fold(name) for name in names or ()]
    if fold(sought) in folded:
      return np.array(folded.index(fold(sought)), np.int32)
  integer = re.fullmatch('[+-]?[0-9]{1,18}', sought)
  if integer and 0 <= int(sought) < num:
    return np.array(int(sought), np.int32)
  numbered = names and all(re.fullmatch('[0-9]+', name) for name in names)
  counted = list(map(str, range(num))) == list(names or ())
  if not names or integer and (counted or not numbered):
    kind = '' if integer else 'an integer '
    raise ValueError(f'{key} must be {kind}from 0 to {num - 1}, got {words!r}')
  raise ValueError(f'no {key} {words!r}; {_suggest(sought, names)}')


def _suggest(word: str, names: Sequence[str]) -> str:
  by_fold = {name.casefold(): name for name in names}
  near = by_fold[nearest(word.casefold(), by_fold)]
  listed = ', '.join(' '.join(name.split()) for name in names[:LISTED])
  more = f', ... ({len(names)} in all)' if len(names) > LISTED else ''
  return f'did you mean {near!r}? There are: {listed}{more}'


def _numbers(key: str, words: str, shape: tuple[int, ...]) -> np.ndarray:
  num = math.prod(shape)
  try:
    with np.errstate(over='ignore'):
      numbers = np.array([float(word) for word in words.split(',')], np.float32)
  except ValueError:
    numbers = np.full(num, np.nan)
  if len(numbers) != num or not np.isfinite(numbers).all():
    what = f'{num} numbers with commas between' if num > 1 else 'a number'
    raise ValueError(f'{key} must be {what}, got {words!r}')
  return numbers.reshape(shape)


def _tokens(data: Any, words: str) -> np.ndarray:
  if not words.strip():
    raise ValueError('text must have at least one word, got none')
  part: base.Part | base.DataSpec = data.spec.parts.get('text', data.spec)
  tokenize = data.tokenize or _token_numbers(part.num_levels)
  (length,) = part.shape
  tokens = tokenize(words)[:length]
  return np.pad(tokens, (0, length - len(tokens)))


def _token_numbers(num: int) -> Callable[[str], np.ndarray]:
  """Makes the way from tokens written as integers."""

  def tokenize(string):
    items = [item.strip() for item in string.split(',')]
    good = all(re.fullmatch('[0-9]{1,9}', item) and int(item) < num for item in items)
    if not good:
      raise ValueError(
        f'text must be integers from 0 to {num - 1} with commas between, got {string!r}'
      )
    return np.array([int(item) for item in items], np.int32)

  return tokenize
