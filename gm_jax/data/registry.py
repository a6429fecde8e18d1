"""Data sets by name, for configs and the command line.

A name is a kind, what the kind needs to know after a colon, and after the last '?'
options, as in a web address:

  digits                     scikit-learn's digits, 8x8
  glyphs                     characters in many typefaces, of known factors
  manual                     characters of the Python manual
  melodies                   generated tunes of a known distribution
  toy:NAME                   points in the plane with a known density
  simulator:NAME             parameters of a prior, and what is observed of them
  tfds:NAME                  images that TensorFlow Datasets prepared
  folder:PATH                a folder of images; a class is a sub-folder
  npz:PATH                   arrays x, y or x_train, y_train, ...
  table:PATH                 numbers [N, D], standardized; the density benchmarks
  text:PATH                  characters of a UTF-8 file
  stacked:NAME               images of a set above, three as three channels
  dynamic:NAME               images of a set above, every pixel drawn anew as 0 or 1
  static:NAME                the same, drawn once
  patches:NAME               images of a set above with a few patches of each
  classes:NAME               a set above without some classes, which are 'held_out'
  unpaired:NAME|NAME         x of one set, y of another, that do not belong together
  domains:NAME|NAME|...      sets of one space, told apart by `domain`

  toy:ring?num_modes=12      folder:/my pics?size=32&mode=RGB
  glyphs?size=64&mode=RGB&alphabet=capitals&faces=serif,mono-bold&hold_out=red:A
  classes:digits?without=8,9

An option is checked against the keyword arguments of the kind's factory. A path
that holds a '?' ends in one.

Sets are joined by a '|' after which a name begins, one of the kinds above; any other
'|' is part of a path. Each side is a full name with its own options, and the options of
the joined set stand before the colon:

  unpaired:digits?crop=6|npz:/a.npz        unpaired?paired=true:folder:/a|folder:/b
  unpaired?paired=true:glyphs?faces=sans|glyphs?faces=serif
  domains?names=sans,serif:glyphs?faces=sans&num=900|glyphs?faces=serif&num=900&skip=900
"""

import functools
import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence

from gm_jax import base
from gm_jax.data import (
  binarized,
  dataset,
  digits,
  domains,
  folder,
  glyphs,
  held_out_classes,
  melodies,
  npz,
  patches,
  simulators,
  stacked,
  tables,
  text,
  tfds,
  toy,
  transforms,
  unpaired,
  words,
)  # fmt: skip

_PLAIN = {
  'digits': digits.digits, 'glyphs': glyphs.glyphs, 'manual': text.manual,
  'melodies': melodies.melodies,
}  # fmt: skip
_NEEDS = {'toy': 'NAME', 'simulator': 'NAME', 'tfds': 'NAME'}
_NEEDS |= {'folder': 'PATH', 'npz': 'PATH', 'table': 'PATH'}
_NEEDS |= {'text': 'PATH', 'stacked': 'NAME', 'dynamic': 'NAME', 'static': 'NAME'}
_NEEDS |= {'patches': 'NAME', 'classes': 'NAME'}
# Made of another set, whose name follows.
_OF_OTHERS = {
  'stacked': stacked.stacked, 'dynamic': binarized.dynamic, 'static': binarized.static,
  'patches': patches.patches, 'classes': held_out_classes.classes,
}  # fmt: skip
_JOINERS = {'unpaired': 'NAME|NAME', 'domains': 'NAME|NAME|...'}
_NEEDS |= _JOINERS
_MEMBERS = {'toy': toy.TOYS, 'simulator': simulators.SIMULATORS}
KINDS = (*_PLAIN, *_NEEDS)
# (the kinds before a joiner) (the joiner) (its options), and what parts two sets.
_JOINED = re.compile(
  f'((?:(?:{"|".join(_OF_OTHERS)}):)*)({"|".join(_JOINERS)})(?:[?]([^:]*))?:'
)
_BETWEEN = re.compile(f'[|](?=(?:{"|".join(KINDS)})(?:[:?|]|$))')


def load(name: str, *, data_dir: str | None = None, **options) -> dataset.Dataset:
  """Loads the data set of a name.

  Args:
    name: as the module describes.
    data_dir: where TensorFlow Datasets keeps its data; its own default if None.
    **options: as after the '?', typed or as text.

  Returns:
    A Dataset.

  Raises:
    ValueError: the name or an option makes no sense; the message suggests the nearest.
    DataError: what is on disk cannot be used.
  """
  plain, options = _options(name, options)
  kind, _, rest = plain.partition(':')
  factory = _factory(kind, rest, plain, data_dir)
  data = _make(factory, plain, options)
  if not data.fingerprint:  # of a set that does not make its own
    fingerprint = dataset.checksum(plain, sorted(options.items()))
    data = data._replace(fingerprint=fingerprint)
  return data._replace(name=name) if kind in _JOINERS else data


def toy_density(name: str) -> toy.Toy | None:
  """Finds the density behind a toy set's name, with its options; None for others.

  Raises:
    ValueError: an option makes no sense.
  """
  plain, options = _options(name, {})
  kind, _, rest = plain.partition(':')
  factory = toy.TOYS.get(rest) if kind == 'toy' else None
  return _make(factory, plain, options) if factory else None


def _make(factory: Callable, plain: str, options: Mapping):
  """Calls a factory with options that may be text; it may pass some on as they are."""
  known = inspect.signature(factory).parameters
  passes_on = any(p.kind is p.VAR_KEYWORD for p in known.values())
  for key, value in options.items():
    if key in known or not passes_on:
      options = {**options, key: _convert(plain, key, value, known)}
  return factory(**options)


def _factory(kind: str, rest: str, plain: str, data_dir: str | None) -> Callable:
  """Finds the function of options alone that makes the data set."""
  if plain in _PLAIN:
    return _PLAIN[plain]
  if kind not in _NEEDS or rest not in _MEMBERS.get(kind, (rest,)):
    raise ValueError(_unknown(plain))
  if not rest:
    raise ValueError(f'{plain!r} names no data: {kind}:{_NEEDS[kind]}')
  if kind in _MEMBERS:
    make = toy.dataset if kind == 'toy' else simulators.dataset
    return _endless(_MEMBERS[kind][rest], make)
  if kind in _OF_OTHERS:
    base_load = functools.partial(load, data_dir=data_dir)
    return functools.partial(_OF_OTHERS[kind], rest, base_load)
  if kind in _JOINERS:
    return _join(kind, _sides(kind, rest, plain), data_dir)
  if kind == 'tfds':
    return _bind(tfds.tfds, rest, data_dir)
  factories = {
    'folder': folder.folder, 'npz': npz.npz, 'table': tables.table, 'text': text.text,
  }  # fmt: skip
  return _bind(factories[kind], rest)


def _bind(factory: Callable, *args) -> Callable:
  """Gives a factory its positional arguments: keywords are left."""

  @functools.wraps(factory)
  def build(**options):
    return factory(*args, **options)

  parameters = inspect.signature(factory).parameters.values()
  keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
  build.__signature__ = inspect.Signature(keywords)
  return build


def _endless(factory: Callable, make: Callable) -> Callable[..., dataset.Dataset]:
  """Makes the factory of an endless set of a factory of its distribution."""

  @functools.wraps(factory)
  def build(**options):
    data = make(factory(**options))
    known = inspect.signature(factory).bind(**options)
    known.apply_defaults()
    # Not of draws, whose last digits depend on the machine.
    fingerprint = dataset.checksum(data.name, sorted(known.arguments.items()))
    return data._replace(fingerprint=fingerprint)

  return build


def _join(kind: str, sides: Sequence[str], data_dir: str | None) -> Callable:
  """Makes the factory of a joined set of its sides."""

  def unpaired_sides(*, paired: bool = False):
    return unpaired.unpaired(*_loaded(), paired=paired)

  def domains_sides(*, paired: bool = False, names: str = ''):
    chosen = names.split(',') if names else sides
    return domains.domains(*_loaded(), names=chosen, paired=paired)

  def _loaded():
    return [load(side, data_dir=data_dir) for side in sides]

  return unpaired_sides if kind == 'unpaired' else domains_sides


def _sides(kind: str, rest: str, plain: str) -> list[str]:
  """Takes the names of a joined set apart.

  Raises:
    ValueError: too few, too many, or one is itself joined.
  """
  sides = _BETWEEN.split(rest)
  joined = [side for side in sides if _JOINED.match(side)]
  if joined:
    raise ValueError(f'{plain!r} joins {joined[0]!r}, which is itself joined')
  want = f'expected {kind}:{_JOINERS[kind]}'
  if len(sides) < 2:
    first, bar, second = rest.partition('|')
    if bar:
      raise ValueError(f'{plain!r}: after the | stands no name: {_unknown(second)}')
    raise ValueError(f'{plain!r} names one data set, {first!r}; {want}')
  if kind == 'unpaired' and len(sides) > 2:
    raise ValueError(f'{plain!r} names {len(sides)} data sets; {want}')
  return sides


def _unknown(plain: str) -> str:
  """Says what may be meant by a name that is none."""
  members = [f'{kind}:{name}' for kind, names in _MEMBERS.items() for name in names]
  exact = [*_PLAIN, *members]
  kinds = {f'{kind}:': need for kind, need in _NEEDS.items() if kind not in _MEMBERS}
  kind, colon, _ = plain.partition(':')
  # A long path would drown the likeness of its kind.
  sought = plain if kind in _MEMBERS or not colon else kind + colon
  near = words.nearest(sought, [*exact, *kinds])
  known = ', '.join(sorted([*exact, *(kind + need for kind, need in kinds.items())]))
  guess = f'; did you mean {near!r}?' if plain else '.'
  return f'no data set {plain!r}{guess} One of: {known}'


def _options(name: str, others: Mapping) -> tuple[str, dict]:
  """Splits a name from its options, and adds other options."""
  joined = _JOINED.match(name)
  if joined:
    outer, kind, suffix = joined.groups()
    if outer or suffix is None:
      return name, dict(others)  # every other '?' is a side's
    plain = f'{kind}:{name[joined.end() :]}'
  else:
    plain, mark, suffix = name.rpartition('?')
    if not mark:
      return name, dict(others)
  options = dict(others)
  for item in suffix.split('&') if suffix else ():
    key, equals, value = item.partition('=')
    if not equals:
      raise ValueError(
        f'{name!r}: option {item!r} must be name=value (a path that holds a'
        " '?' ends in one)"
      )
    if key in options:
      raise ValueError(f'{name!r}: option {key!r} is given twice')
    options[key] = value
  return plain, options


def _convert(plain: str, key: str, value, known: Mapping[str, inspect.Parameter]):
  """Converts an option's value to the type that its factory takes."""
  if key not in known:
    choices = ', '.join(sorted(known)) or 'none'
    near = f'did you mean {words.nearest(key, known)!r}? ' if known else ''
    raise ValueError(f'{plain}: no option {key!r}; {near}There are: {choices}')
  if not isinstance(value, str):
    return value
  try:
    return _parse(value, known[key].annotation)
  except ValueError as error:
    raise ValueError(f'{plain}: {key}={value!r} must be {error}') from None


def _parse(value: str, kind):
  """Reads a value from text; what else it must be is the ValueError's text."""
  origin, arguments = typing.get_origin(kind), typing.get_args(kind)
  if origin in (types.UnionType, typing.Union):
    kind = next(k for k in arguments if k is not type(None))
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
  if kind is str:
    return value
  if kind is bool:
    return _choice(value, {'true': True, 'false': False})
  if kind is int:
    return _number(int, value, 'an integer')
  if kind is float:
    return _number(float, value, 'a number')
  if origin is Sequence:
    return tuple(
      _number(float, item, 'numbers with commas between') for item in value.split(',')
    )
  if origin is typing.Literal:
    return _choice(value, {choice: choice for choice in arguments})
  if kind == Callable[[int], base.Transform]:
    return _choice(value, transforms.PIXELS)
  raise TypeError(f'no option can be of type {kind}')


def _number(kind: type, value: str, what: str):
  try:
    number = kind(value)
  except ValueError:
    raise ValueError(what) from None
  if not math.isfinite(number) if kind is float else abs(number) >= 2**63:
    raise ValueError(what)
  return number


def _choice(value: str, choices: Mapping):
  if value not in choices:
    near = words.nearest(value, choices)
    raise ValueError(f'one of {", ".join(choices)}; did you mean {near!r}?')
  return choices[value]
