"""Data sets by name, for configs and the command line."""

import difflib
import functools
from collections.abc import Callable

from gm_jax.data import dataset, digits, toy


def _toy(name: str, **options) -> dataset.Dataset:
  return toy.dataset(toy.TOYS[name](**options))


def sources() -> dict[str, Callable[..., dataset.Dataset]]:
  """The factories of data sets, by name."""
  toys = {f'toy:{name}': functools.partial(_toy, name) for name in toy.TOYS}
  return {'digits': digits.digits, **toys}


def load(name: str, **options) -> dataset.Dataset:
  """The data set of a name.

  Args:
    name: 'digits', or 'toy:' and a name in `toy.TOYS`.
    **options: for its factory, as `dequantize=True` or `num_modes=12`.

  Returns:
    A Dataset.

  Raises:
    ValueError: if the name is unknown; the message suggests the nearest.
  """
  choices = sources()
  if name not in choices:
    near = difflib.get_close_matches(name, choices, 1, 0)[0]
    known = ', '.join(sorted(choices))
    raise ValueError(f'no data set {name!r}; did you mean {near!r}? One of: {known}')
  return choices[name](**options)
