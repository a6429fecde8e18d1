"""Several data sets of one shape as the domains of one, told apart by `domain`.

An epoch sees every example of every domain once, in an order that mixes the domains.
Where the test examples of one index belong together, as one letter in several faces,
`arrays('pairs')` gives them side by side, for evaluation alone.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gm_jax import base
from gm_jax.data import dataset, splits, transforms


def domains(
  *sets: dataset.Dataset, names: Sequence[str] | None = None, paired: bool = False
) -> dataset.Dataset:
  """Joins data sets into one whose batches have `domain` [B] int32.

  What all sets have alike stays, as `label` where the classes are the same; other
  arrays are dropped. Endless sets take turns by chance, each domain as likely.

  Args:
    *sets: at least two, of one space: shape, levels and transform.
    names: of the domains; those of the sets if None.
    paired: whether test examples of one index belong together. Then `arrays('pairs')`
      gives them as `x` [N, D, ...], with `label` [N] where it is kept; no batches do.

  Returns:
    A Dataset; `spec.parts['domain'].num_levels` is the number of domains. Its `arrays`
    have the domains in turn, so that the first few are of all of them.

  Raises:
    ValueError: the sets are fewer than two, differ, or cannot be paired.
  """
  names = tuple(names or (data.name for data in sets))
  if len(names) != len(sets):
    raise ValueError(f'{len(sets)} domains need as many names, got {", ".join(names)}')
  name = f'domains:{"|".join(data.name for data in sets)}'
  _check(sets)
  keys = _common_keys(sets)
  first = sets[0]
  parts = {k: part for k, part in first.spec.parts.items() if k in keys}
  parts['domain'] = base.Part((), jnp.dtype(jnp.int32), len(sets), transforms.tokens())
  spec = first.spec._replace(parts=parts)
  if 'label' not in keys:
    spec = spec._replace(num_classes=None)
  fingerprint = dataset.checksum('domains', *(data.fingerprint for data in sets))
  if first.spec.num_train is None:
    joined = dataset.Dataset(name, spec, *_draws(sets, keys))
  else:
    rows = {
      split: _mixed_rows([data.rows[split] for data in sets], keys)
      for split in first.rows
      if all(split in data.rows for data in sets)
    }
    joined = dataset.from_rows(name, spec, rows, memory=False, fingerprint=fingerprint)
  if paired:
    splits.check_aligned(sets)

  def batches(split, batch_size, **options):
    splits.refuse_pairs(name, split)
    return joined.batches(split, batch_size, **options)

  def arrays(split, num=None):
    if split != splits.PAIRS:
      return joined.arrays(split, num)
    splits.check_paired(name, paired)
    return _pairs(name, [data.arrays('test', num) for data in sets], keys)

  return joined._replace(
    batches=batches,
    arrays=arrays,
    vocabulary=first.vocabulary,
    class_names=first.class_names if 'label' in keys else None,
    domain_names=names if len(set(names)) == len(names) else None,
    tokenize=first.tokenize,
    fingerprint=fingerprint,
  )


def _check(sets: Sequence[dataset.Dataset]) -> None:
  """Raises ValueError unless the sets are of one space and of one kind."""
  if len(sets) < 2:
    raise ValueError(f'domains needs at least two data sets, got {len(sets)}')
  first, *others = sets
  for data in sets:
    if 'domain' in data.spec.parts:
      raise ValueError(f'{data.name} has domains already: join its own sets instead')
    if (data.spec.num_train is None) != (first.spec.num_train is None):
      raise ValueError(f'only one of {first.name} and {data.name} is endless')
    if data.spec.num_train is not None and data.rows is None:
      raise ValueError(
        f'{data.name} is drawn anew in every batch: join first, draw then, as in'
        ' dynamic:domains:NAME|NAME'
      )
  for data in others:
    found, expected = (_space(d) for d in (data, first))
    for what, value in found.items():
      if value != expected[what]:
        raise ValueError(
          f'domains must be of one space, but {data.name} has {what} {value},'
          f' {first.name} {expected[what]}'
        )
    _check_transform(first, data)


def _space(data: dataset.Dataset) -> dict:
  spec = data.spec
  return {
    'shape': list(spec.shape),
    'levels': spec.num_levels,
    'vocabulary': data.vocabulary,
    'dtype': str(jnp.dtype(spec.dtype)),
    'measure': spec.transform.measure,
  }


def _check_transform(first: dataset.Dataset, other: dataset.Dataset) -> None:
  """Raises ValueError unless an example goes to one place in both model spaces."""
  key, raw = jax.random.key(0), first.arrays('train', 1)['x']
  found = [data.spec.transform.forward(key, raw) for data in (first, other)]
  if not np.array_equal(*found):
    raise ValueError(
      f'domains must be of one space, but {first.name} and {other.name} have different'
      ' transforms'
    )


def _common_keys(sets: Sequence[dataset.Dataset]) -> list[str]:
  """Finds the batch keys that mean the same in every set."""
  examples = [data.arrays('train', 1) for data in sets]

  def is_common(key):
    if any(key not in example for example in examples):
      return False
    if len({(a[key].shape, a[key].dtype) for a in examples}) > 1:
      return False
    if key == 'label':
      classes = {(data.spec.num_classes, data.class_names) for data in sets}
      return len(classes) == 1
    if key == 'text' and len({_recipe(data.tokenize) for data in sets}) > 1:
      return False
    parts = [data.spec.parts.get(key) for data in sets]
    return len({part and (part.shape, part.num_levels) for part in parts}) == 1

  return [key for key in examples[0] if is_common(key)]


def _recipe(tokenize: Callable | None):
  """Makes what is equal of equal tokenizers, partial functions among them."""
  if not isinstance(tokenize, functools.partial):
    return tokenize
  return tokenize.func, tokenize.args, tuple(sorted(tokenize.keywords.items()))


def _mixed_rows(each: Sequence[dataset.Rows], keys: Sequence[str]) -> dataset.Rows:
  """Makes the rows of all domains, in turn as far as they go."""
  sizes = np.array([rows.num for rows in each])
  domain = np.repeat(np.arange(len(each)), sizes)
  inner = np.concatenate([np.arange(num) for num in sizes])
  ranked = np.argsort((inner + 0.5) / sizes[domain], kind='stable')

  def get(index):
    index = ranked[index]
    out = {}
    for number, rows in enumerate(each):
      mine = domain[index] == number
      if mine.any():
        found = rows.get(inner[index[mine]])
        for key in keys:
          empty = np.empty((len(index), *found[key].shape[1:]), found[key].dtype)
          out.setdefault(key, empty)[mine] = found[key]
    return {**out, 'domain': domain[index].astype(np.int32)}

  return dataset.Rows(len(domain), get, any(rows.decodes for rows in each))


def _pairs(name: str, found: Sequence[dict], keys: Sequence[str]) -> dict:
  """Lays examples of one index side by side, [N, D, ...]."""
  pairs = {'x': np.stack([each['x'] for each in found], axis=1)}
  if 'label' not in keys:
    return pairs
  labels = np.stack([each['label'] for each in found], axis=1)
  wrong = (labels != labels[:, :1]).any(axis=1)
  if wrong.any():
    index = int(wrong.argmax())
    raise ValueError(
      f'{name}: test examples {index} have labels {labels[index].tolist()}: examples of'
      ' one index do not belong together'
    )
  return {**pairs, 'label': labels[:, 0]}


def _draws(
  sets: Sequence[dataset.Dataset], keys: Sequence[str]
) -> tuple[Callable[..., Iterator[dict]], Callable[..., dict]]:
  """Makes `batches` and `arrays` of endless domains."""

  def mix(found, domain):
    pick = domain, np.arange(len(domain))
    mixed = {key: np.stack([each[key] for each in found])[pick] for key in keys}
    return {**mixed, 'domain': domain.astype(np.int32)}

  def batches(split, batch_size, *, seed, start=0, shard=(0, 1)):
    mine = dataset.part(batch_size, shard)
    # Two sets of one kind are not to be drawn alike.
    seeds = [dataset.derive_seed(seed, 'domain', i) for i in range(len(sets))]
    streams = [
      data.batches(split, batch_size, seed=own, start=start, shard=shard)
      for data, own in zip(sets, seeds, strict=True)
    ]

    def batch(position, *found):
      rng = np.random.default_rng([dataset.stream(split), seed, position])
      return mix(found, rng.integers(len(sets), size=batch_size)[mine])

    return map(batch, itertools.count(start), *streams)

  def arrays(split, num=None):
    found = [data.arrays(split, num) for data in sets]
    return mix(found, np.arange(num) % len(sets))

  return batches, arrays
