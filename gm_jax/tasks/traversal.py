"""Pictures of what each code does: one of them moved, all others left.

For encoders with decoders, and for generators whose prior says what its parts are.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gm_jax import base
from gm_jax.tasks import codes as codes_lib
from gm_jax.tasks import quality, results

EXTENT = 2.5  # in standard deviations of the codes
NAMED = 16  # codes that are named in a line
NOISE = 'noise'  # the part of a generator's input that is no code


def traverse(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  extent: float = EXTENT,
  steps: int = 9,
  example: int = 0,
  examples: int = 1,
) -> base.Result:
  """Examples whose code changes in a single dimension, a row each.

  Codes are the encoder's of the test split, or draws of the prior where a generator has
  no encoder. Rows of an encoder's codes stand in the order of how far these spread in
  their dimension, widest first: a posterior that has gone to the prior comes last.
  Codes of several parts, a dict, stand in its order; its part `NOISE` is no code and
  is left as it is. A code of integers takes its values in turn. Not for use inside a
  compiled function: how many values there are is read from the codes.

  Args:
    method: with the query `decode`, and `encode` or `prior`.
    model: its parameters.
    key: of queries that draw.
    arrays: raw, by split.
    spec: of the data.
    extent: how far to either side of the codes' mean, in their standard deviations.
    steps: columns; at least as many as an integer code has values.
    example: the first of those whose other dimensions are kept.
    examples: rows a code, of this example and the following.

  Returns:
    `rows`, whose kind says what they are; `spread_largest` and `spread_least`, standard
    deviations of real codes; arrays `spread` and `dimension`, `[R]`, of a row, and the
    grid `[R, columns, ...]`.

  Raises:
    ValueError: the method lacks a query, codes are not [B, Z] of real numbers or [B] of
      integers, or an option is out of range.
  """
  if steps < 2 or not extent > 0 or examples < 1:
    raise ValueError(
      f'steps must be >= 2, extent > 0 and examples >= 1, got {steps}, {extent} and'
      f' {examples}'
    )
  z, origin = _codes(method, model, key, arrays, spec)
  num = len(jax.tree.leaves(z)[0])
  if not 0 <= example <= num - examples:
    raise ValueError(
      f'example must be in [0, {num - examples + 1}), so that {examples} follow; got'
      f' {example}'
    )
  found = _dimensions(z)
  if not isinstance(z, Mapping):  # an encoder's, or noise, in no order of its own
    found.sort(key=lambda code: -code.spread)
  numbers = [code.values for code in found if code.values is not None]
  columns = max([steps, *map(len, numbers)])
  chosen = jax.tree.map(lambda a: a[example : example + examples], z)
  rows = [_moved(chosen, code, columns, extent) for code in found]
  codes = jax.tree.map(lambda *parts: jnp.concatenate(parts), *rows)
  labels = {k: v[example : example + examples] for k, v in arrays['test'].items()}
  labels = results.in_model_space(spec, labels)
  condition = None
  if all(name in labels for name in method.card.condition):
    condition = results.condition_of(method.card, labels)
    condition = jax.tree.map(lambda a: jnp.repeat(a, columns, axis=0), condition)
    condition = results.repeated(condition, len(jax.tree.leaves(codes)[0]))
  query = results.query_of(method, 'decode')
  raw = spec.transform.inverse(query(model, key, codes, condition=condition))
  spreads = [code.spread for code in found]
  real = [code.spread for code in found if code.values is None] or spreads
  kind = f'standard deviation of codes, {num} {origin}'
  each = f', {examples} rows each' if examples > 1 else ''
  names = ', '.join(code.name for code in found[:NAMED])
  names += ', ...' if len(found) > NAMED else ''
  return base.Result(
    {
      'rows': (jnp.asarray(len(found) * examples), f'codes {names}{each}'),
      'spread_largest': (jnp.asarray(max(real)), kind),
      'spread_least': (jnp.asarray(min(real)), kind),
    },
    {
      'spread': jnp.repeat(jnp.asarray(spreads), examples),
      'dimension': jnp.repeat(jnp.array([code.index for code in found]), examples),
      results.GRID: raw.reshape(len(found) * examples, columns, *spec.shape),
    },
  )


class _Code(NamedTuple):
  """One dimension of codes."""

  name: str  # its part and its number, as it is printed
  part: str | None  # of a dict
  index: int  # within the part
  mean: float
  spread: float  # a standard deviation
  values: base.Array | None  # of integers, [K]


def _codes(method, model, key, arrays, spec) -> tuple[Any, str]:
  """Codes `[N, Z]`, or a dict of parts, and where they are from."""
  if 'encode' in method.queries or 'prior' not in method.queries:
    found = codes_lib.encode(method, model, key, arrays, spec).arrays
    if 'z' not in found:
      raise ValueError('a traversal needs codes [B, Z] of real numbers')
    return found['z'], 'examples of test'
  return method.queries['prior'](model, key, quality.TEST), 'draws of the prior'


def _dimensions(z) -> list[_Code]:
  """Every dimension of codes that can be moved."""
  found = []
  parts = z if isinstance(z, Mapping) else {None: z}
  for part, a in parts.items():
    if part == NOISE:
      continue
    name = f'{part} ' if part else ''
    if a.ndim == 1 and jnp.issubdtype(a.dtype, jnp.integer) and part:
      values = jnp.arange(a.max() + 1)
      name = f'{name}0 to {len(values) - 1}'
      found.append(_Code(name, part, 0, float(a.mean()), float(a.std()), values))
    elif a.ndim == 2 and jnp.issubdtype(a.dtype, jnp.floating):
      statistics = zip(a.mean(axis=0).tolist(), a.std(axis=0).tolist(), strict=True)
      found += [
        _Code(f'{name}{i}', part, i, mean, spread, None)
        for i, (mean, spread) in enumerate(statistics)
      ]
    else:
      raise ValueError('a traversal needs codes [B, Z] of real numbers')
  if not found:
    raise ValueError('a traversal needs codes [B, Z] of real numbers, and there are 0')
  return found


def _moved(chosen, code: _Code, columns: int, extent: float):
  """Codes `[examples * columns, ...]`: each example's, one dimension moved."""
  moved = jax.tree.map(lambda a: jnp.repeat(a, columns, axis=0), chosen)
  num = len(jax.tree.leaves(moved)[0]) // columns
  if code.values is None:
    at = code.mean + code.spread * jnp.linspace(-extent, extent, columns)
  else:
    at = code.values[jnp.arange(columns) % len(code.values)]
  at = jnp.tile(at, num)
  part = moved if code.part is None else moved[code.part]
  part = at if code.values is not None else part.at[:, code.index].set(at)
  return part if code.part is None else {**moved, code.part: part}
