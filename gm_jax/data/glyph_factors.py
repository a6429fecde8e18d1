"""The factors of variation of a drawn character, and the words for them.

Factors are independent and uniform: the character, the face, the ink and the ground of
PALETTES, and five numbers in the units of RANGES. Those of example i are numbers that
Philox, a counter-based generator, makes of i and the seed; the face is a number of its
own, so that all else is alike whatever faces there are. Sizes and places have words
too, a third of a range each.

Source: Parallel Random Numbers: As Easy as 1, 2, 3, Salmon et al., 2011, SC11,
doi:10.1145/2063384.2063405, section 3.3, of the generator.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from gm_jax.data import dataset, glyph_drawing, words

# By mode: inks and grounds, each ink apart from each ground.
PALETTES: Mapping[str, tuple[dict, dict]] = {
  'L': ({'white': (255,), 'silver': (200,)}, {'black': (0,), 'gray': (50,)}),
  'RGB': (
    {
      'red': (220, 40, 40), 'green': (30, 150, 60), 'blue': (40, 80, 220),
      'purple': (150, 50, 190), 'brown': (130, 75, 30),
    },
    {
      'white': (255, 255, 255), 'yellow': (255, 240, 150), 'pink': (255, 205, 215),
      'cyan': (185, 235, 255),
    },
  ),
}  # fmt: skip
RANGES: Mapping[str, tuple[float, float]] = {
  'slant': (-8.0, 8.0),  # degrees to the right, beside the face's own
  'size': (0.44, 0.6),  # height of a capital, of the picture's side
  'x': (-0.08, 0.08),  # middle of the character from the picture's, of its side
  'y': (-0.08, 0.08),  # the same, downwards
  'rotation': (-8.0, 8.0),  # degrees, counterclockwise
}
THIRDS: Mapping[str, tuple[str, str, str]] = {
  'size': ('small', 'medium', 'large'),
  'y': ('upper', 'middle', 'lower'),
  'x': ('left', 'center', 'right'),
}
CAPTION = ('a', 'size', 'ink', 'face', 'character', 'on', 'ground', 'y', 'x')
_COUNTERS = 3  # of Philox, four numbers each, an example


def _vocabulary() -> tuple[str, ...]:
  """Lists the words of all sets, so that a token means the same in each."""
  colors = [color for pair in PALETTES.values() for some in pair for color in some]
  thirds = [word for third in THIRDS.values() for word in third]
  characters = glyph_drawing.CHARACTERS
  known = ['a', 'on', *thirds, *colors, *glyph_drawing.FACES, *characters]
  return ('', *dict.fromkeys(known))


_PUNCTUATION = '.!?;:"\'()'
VOCABULARY = _vocabulary()  # token 0 is padding


class Kind(NamedTuple):
  """All that the examples of a set depend on, besides their indices."""

  characters: str
  faces: tuple[str, ...]
  mode: str  # of PALETTES
  size: int  # pixels of a side
  seed: int


class Factors(NamedTuple):
  """The factors of examples, `[N]` each."""

  face: np.ndarray  # int, of the faces
  character: np.ndarray  # int, of the characters
  ink: np.ndarray  # int, of the palette's inks
  ground: np.ndarray  # int, of its grounds
  slant: np.ndarray  # this and the following: floats in the units of RANGES
  size: np.ndarray
  x: np.ndarray
  y: np.ndarray
  rotation: np.ndarray


def factors(kind: Kind, first: int, num: int) -> Factors:
  """Draws the factors of examples, each a function of its index and the seed.

  Args:
    kind: of the set.
    first: index of the first example.
    num: N.
  """
  source = np.random.Philox(key=kind.seed, counter=_COUNTERS * first)
  uniform = np.random.Generator(source).random((num, 4 * _COUNTERS)).T
  inks, grounds = PALETTES[kind.mode]
  options = kind.faces, kind.characters, inks, grounds
  choices = [
    (u * len(of)).astype(np.int64) for u, of in zip(uniform, options, strict=False)
  ]
  numbers = [
    low + (high - low) * u
    for u, (low, high) in zip(uniform[len(options) :], RANGES.values(), strict=False)
  ]
  return Factors(*choices, *numbers)


def scaled(known: Factors, name: str) -> np.ndarray:
  """Takes one of the five numbers from its units to [-1, 1], `[N]`."""
  low, high = RANGES[name]
  return 2 * (getattr(known, name) - low) / (high - low) - 1


def words_of(
  kind: Kind, known: Factors
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
  """Finds the words for examples, by factor: those that there are, and which, `[N]`.

  Args:
    kind: of the set.
    known: the factors of the examples.
  """
  inks, grounds = PALETTES[kind.mode]
  found = {
    'ink': (tuple(inks), known.ink),
    'ground': (tuple(grounds), known.ground),
    'face': (kind.faces, known.face),
    'character': (tuple(kind.characters), known.character),
  }
  for name, thirds in THIRDS.items():
    third = 1.5 * (scaled(known, name) + 1)
    found[name] = thirds, np.clip(third.astype(np.int64), 0, 2)
  return found


def captions(kind: Kind, known: Factors) -> np.ndarray:
  """Makes the captions of examples, `[N, 9]` int32 tokens of VOCABULARY.

  Args:
    kind: of the set.
    known: the factors of the examples.
  """
  token = {word: i for i, word in enumerate(VOCABULARY)}
  found, columns = words_of(kind, known), []
  for part in CAPTION:
    options, index = found.get(part, ((part,), np.zeros(len(known.face), np.int64)))
    columns.append(np.array([token[word] for word in options])[index])
  return np.stack(columns, axis=1).astype(np.int32)


def caption(tokens: np.ndarray) -> str:
  """Writes the tokens `[9]` of a caption as text."""
  *start, row, column = (VOCABULARY[token] for token in tokens)
  return f'{" ".join(start)}, {row} {column}'


def tokenize(text: str) -> np.ndarray:
  """Tokenizes any sentence, `[T]` int32; punctuation at a word's ends is nothing.

  An 'A' that begins is the letter, but before a size, or where another character
  follows: 'A small red serif', 'A red 7'. 'bold' and 'italic' may stand apart from
  their face, as in 'a bold red serif A'. A word that is not in VOCABULARY is left out,
  and a line says so and names the nearest.
  """
  found = [word.strip(_PUNCTUATION) for word in text.replace(',', ' ').split()]
  found = [word for word in found if word]
  if found[:1] == ['A']:
    size = found[1:2] and found[1].casefold() in THIRDS['size']
    if size or set(found[1:]) & set(glyph_drawing.CHARACTERS) - {'a'}:
      found[0] = 'a'
  known = ' '.join(_with_cuts(found))
  return words.tokenize_words(known, VOCABULARY, warn=dataset.warn)


def _with_cuts(words_of_text: list[str]) -> list[str]:
  """Joins a cut of its own, 'bold', to the first face that has it, 'serif-bold'."""
  found = list(words_of_text)
  for cut in ('bold', 'italic'):
    places = [i for i, word in enumerate(found) if word.casefold() == cut]
    for i, word in enumerate(found):
      joined = f'{word.casefold()}-{cut}'
      if places and joined in glyph_drawing.FACES:
        found[i] = joined
        del found[places[0]]
        break
  return found


def held_out(kind: Kind, known: Factors, pairs: str) -> np.ndarray:
  """Tells which examples have both words of a pair that is held out, `[N]` bools.

  Args:
    kind: of the set.
    known: the factors of the examples.
    pairs: of a caption's words, as 'red:A,serif:7'; none if empty.

  Raises:
    ValueError: the words are no pair, unknown, or of one factor.
  """
  held = np.zeros(len(known.face), bool)
  found = words_of(kind, known)
  factor = {word: name for name, (options, _) in found.items() for word in options}
  for pair in pairs.split(',') if pairs else ():
    both = pair.split(':')
    if len(both) != 2:
      raise ValueError(
        f'glyphs: hold_out has {pair!r}, expected two words with a colon between, as'
        ' in red:A,serif:7'
      )
    for word in both:
      if word not in factor:
        raise ValueError(f'glyphs: hold_out: no word {word!r}; {suggest(word, factor)}')
    if factor[both[0]] == factor[both[1]]:
      raise ValueError(
        f'glyphs: hold_out has {pair!r}, two words for the {factor[both[0]]}: no'
        ' example has both'
      )
    masks = []
    for word in both:
      options, index = found[factor[word]]
      masks.append(index == options.index(word))
    held |= masks[0] & masks[1]
  return held


def suggest(word: str, options: Iterable[str]) -> str:
  """Says what a word may be meant to be, and all that there are."""
  return (
    f'did you mean {words.nearest(word, options)!r}? There are: {", ".join(options)}'
  )
