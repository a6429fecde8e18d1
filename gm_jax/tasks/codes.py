"""Codes that an encoder makes of data, and pictures that a decoder makes of codes.

For any method with the queries `encode`, `decode` or `reconstruct`. Arrays are raw data
and codes as the method gives them; images to be looked at stand under `results.GRID`.
"""

from collections.abc import Mapping

import jax.numpy as jnp

from gm_jax import base
from gm_jax.losses import quantization
from gm_jax.tasks import density, quality, results

COLUMNS = 16  # of a picture


def encode(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  split: str = 'test',
) -> base.Result:
  """Codes of a split.

  Args:
    method: with the query `encode`.
    model: its parameters.
    key: of queries that draw.
    arrays: raw, by split.
    spec: of the data.
    split: which is encoded.

  Returns:
    `num`, and the arrays `z` `[N, ...]` and, where there are labels, `label` `[N]`.

  Raises:
    ValueError: the method has no such query, or the split is missing.
  """
  query, raw = results.query_of(method, 'encode'), results.split_of(arrays, split)
  data = results.in_model_space(spec, raw)
  condition = results.condition_of(method.card, data)

  def codes(x, c):
    return query(model, key, x, condition=c)

  z = density.in_chunks(codes, data['x'], condition)
  found = {f'z_{name}': part for name, part in z.items()} if isinstance(z, dict) else {
    'z': z
  }  # fmt: skip
  if 'label' in raw:
    found['label'] = jnp.asarray(raw['label'])
  size = len(data['x'])
  return base.Result({'num': (jnp.asarray(size), f'examples of {split}')}, found)


def reconstruct(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  split: str = 'test',
) -> base.Result:
  """Data of a split beside what comes back from their codes.

  Args:
    method: with the query `reconstruct`.
    model: its parameters.
    key: of queries that draw.
    arrays: raw, by split.
    spec: of the data.
    split: which is reconstructed.

  Returns:
    The error, as of `quality.reconstruction`; arrays `x` and `reconstruction`
    `[N, ...]`, raw, and of images a grid of both in turn.

  Raises:
    ValueError: the method has no such query, or the split is missing.
  """
  query, raw = results.query_of(method, 'reconstruct'), results.split_of(arrays, split)
  data = results.in_model_space(spec, raw)
  condition = results.condition_of(method.card, data)

  def there_and_back(x, c):
    return query(model, key, x, condition=c)

  x = density.in_chunks(there_and_back, data['x'], condition)
  found = {'x': jnp.asarray(raw['x']), 'reconstruction': spec.transform.inverse(x)}
  if len(spec.shape) == 3:
    rows = jnp.stack([a[:COLUMNS] for a in found.values()])
    found[results.GRID] = rows.astype(found['reconstruction'].dtype)
  values = quality.reconstruction(method, model, key, {'test': raw}, spec).values
  return base.Result(values, found)


def usage(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  num_codes: int,
) -> base.Result:
  """The perplexity of integer codes of every split that is given: how many are alive.

  That of a batch is at most its number of vectors, and says less.

  Args:
    method: with the query `encode`, to integers.
    model: its parameters.
    key: of the query.
    arrays: raw, by split.
    spec: of the data.
    num_codes: K.

  Returns:
    `SPLIT_perplexity`, each `[]` from 1 to K; no arrays.

  Raises:
    ValueError: the method has no query `encode`.
  """
  encode = results.query_of(method, 'encode')
  values = {}
  for split in arrays:
    x = results.in_model_space(spec, results.split_of(arrays, split))['x']
    index = density.in_chunks(lambda x: encode(model, key, x), x)
    counts = jnp.bincount(index.ravel(), length=num_codes)
    kind = f'exact, of {num_codes} codes over {len(x)} examples'
    values[f'{split}_perplexity'] = quantization.perplexity(counts), kind
  return base.Result(values)
