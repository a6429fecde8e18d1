"""Arrays that a task begins with, and numbers that it ends with.

A task is a function (method, model, key, arrays, spec, **options) -> `base.Result`.
`arrays` is raw data by split, {'test': {'x': ..., 'label': ...}, 'train': ...}, and
`spec` says how it comes to model space. Tasks are functions of (model, key) that jax
may compile and map over seeds: numbers are arrays, kinds are text that depends on the
method and the data alone. A compiled function returns no text, so what jax traces takes
the numbers only, `jax.jit(lambda model, key: numbers(task(method, model, key, ...)))`.
An array `GRID` of images is also drawn.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gm_jax import base, model_space

GRID = 'grid'  # an array of raw images [rows, columns, ...], drawn by the launcher
OUTPUTS = 'outputs'  # an array of raw images [N, ...], a file each by the launcher


def numbers(result: base.Result) -> dict[str, base.Array]:
  """The numbers of a result by name, without their kinds."""
  return {name: number for name, (number, _) in result.values.items()}


def merged(*results: base.Result) -> base.Result:
  """Several results in one.

  Raises:
    ValueError: two have a number or an array of the same name.
  """
  values, arrays = {}, {}
  for result in results:
    twice = (values.keys() & result.values.keys()) | (
      arrays.keys() & result.arrays.keys()
    )
    if twice:
      raise ValueError(f'two results have {min(twice)!r}: names must differ')
    values |= result.values
    arrays |= result.arrays
  return base.Result(values, arrays)


def split_of(arrays: Mapping[str, base.Batch], name: str) -> base.Batch:
  """The arrays of a split.

  Raises:
    ValueError: there is no such split, or it has no `x`.
  """
  if name not in arrays:
    raise ValueError(f'this task needs the {name} split, and has {sorted(arrays)}')
  if 'x' not in arrays[name]:
    raise ValueError(f'the {name} split must have x, and has {sorted(arrays[name])}')
  return arrays[name]


def images_of_shape(images: base.Array, shape: tuple[int, ...]) -> jax.Array:
  """Raw images `[N, *shape]`.

  Raises:
    ValueError: they are of another shape than the model's.
  """
  if images.shape[1:] != shape:
    found, wanted = ('x'.join(map(str, s)) for s in (images.shape[1:], shape))
    mode = 'L' if shape[-1] == 1 else 'RGB'
    raise ValueError(
      f'images of {found} (height, width, channels), but this model takes {wanted}:'
      f' give them as folder:PATH?size={shape[0]}&mode={mode}'
    )
  return jnp.asarray(images)


def in_model_space(
  spec: base.DataSpec, arrays: base.Batch, num: int | None = None
) -> dict[str, base.Array]:
  """The first `num` examples of a split in model space, their noise always the same."""
  first = {name: value[:num] for name, value in arrays.items()}
  return model_space.forward(spec, jax.random.key(0), first)


def condition_of(card: base.Card, arrays: base.Batch) -> Any:
  """The conditions of a split's examples, by the card of a method.

  Args:
    card: of the method.
    arrays: of a split, in model space.

  Returns:
    `[N, ...]`, a dict by batch key where the card names several; None of an
    unconditional method.

  Raises:
    ValueError: the split lacks it.
  """
  missing = [name for name in card.condition if name not in arrays]
  if missing:
    raise ValueError(
      f'this model needs {missing[0]!r} of every example, and the data have'
      f' {sorted(arrays)}'
    )
  if len(card.condition) < 2:
    return arrays[card.condition[0]] if card.condition else None
  return {name: arrays[name] for name in card.condition}


def repeated(tree: Any, num: int) -> Any:
  """Rows of arrays `[N, ...]` from the first on, again and again: `[num, ...]`."""
  return jax.tree.map(lambda a: a[np.arange(num) % len(a)], tree)


def query_of(method: base.Method, name: str) -> Callable:
  """A query of a method.

  Raises:
    ValueError: the method does not have it.
  """
  if name not in method.queries:
    known = ', '.join(sorted(method.queries)) or 'none'
    raise ValueError(f'this task needs the query {name!r}; the method has {known}')
  return method.queries[name]
