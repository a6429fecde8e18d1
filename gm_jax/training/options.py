"""Options of sampling and queries: keyword-only arguments, set from the command line.

A method's functions take options as steps, guidance or temperature by keyword, with
defaults; which there are is read from their signatures.
"""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gm_jax import base


def with_options(method: base.Method, options: Mapping[str, Any]) -> base.Method:
  """The method with options of sampling and queries set.

  Args:
    method: any.
    options: by name; text is read as the type of the option's default.

  Raises:
    ValueError: no function has an option of this name, or the text is no such value;
      the message suggests the nearest and lists all.
  """
  if not options:
    return method
  known = method_options(method)
  check(options, known)
  values = {name: read(name, value, known[name]) for name, value in options.items()}

  def bind(fn):
    own = {k: v for k, v in values.items() if fn and k in keywords(fn)}
    return functools.partial(fn, **own) if own else fn

  return method._replace(
    sample=bind(method.sample),
    log_prob=bind(method.log_prob),
    queries={name: bind(fn) for name, fn in method.queries.items()},
  )


def check(options: Iterable[str], known: Iterable[str]) -> None:
  """Raises ValueError for a name that is not known; it suggests the nearest."""
  known = list(known)
  for name in options:
    if name not in known:
      near = difflib.get_close_matches(name, known, 1, 0)
      there = f'did you mean {near[0]!r}? There are: {", ".join(known)}' if near else (
        'there is none'
      )  # fmt: skip
      raise ValueError(f'no option {name!r}; {there}')


def method_options(method: base.Method) -> dict[str, Any]:
  """Defaults of all options of a method's functions, by name."""
  found: dict[str, Any] = {}
  for fn in (method.sample, method.log_prob, *method.queries.values()):
    found |= keywords(fn) if fn else {}
  return found


def keywords(fn: Callable) -> dict[str, Any]:
  """Keyword-only arguments that have a default, but for the condition."""
  return {
    p.name: p.default
    for p in inspect.signature(fn).parameters.values()
    if p.kind is p.KEYWORD_ONLY and p.default is not p.empty and p.name != 'condition'
  }


def read(name: str, value: Any, default: Any) -> Any:
  """An option's value; text is read as the type of the default.

  A tuple is text with + between; where the default is None a number is a number.

  Raises:
    ValueError: the text is no such value.
  """
  if not isinstance(value, str) or isinstance(default, str):
    return value
  if isinstance(default, tuple):
    return tuple(value.split('+'))
  if default is None:
    numbers = (_number(kind, value) for kind in (int, float))
    return next((number for number in numbers if number is not None), value)
  if isinstance(default, bool):
    if value not in ('true', 'false'):
      raise ValueError(f'option {name}={value!r} must be true or false')
    return value == 'true'
  kind = int if isinstance(default, int) else float
  number = _number(kind, value)
  if number is None:
    what = 'an integer' if kind is int else 'a number'
    raise ValueError(f'option {name}={value!r} must be {what}')
  return number


def _number(kind, text):
  try:
    return kind(text)
  except ValueError:
    return None
