"""A data set without some of its classes, which are kept for the end.

What a model has never seen, of the same kind as what it was trained on: outliers.
"""

from collections.abc import Callable

import numpy as np

from gm_jax.data import dataset, glyphs, words

HELD_OUT = glyphs.HELD_OUT
SPLITS = ('test', 'validation', 'train')


def classes(
  name: str, load: Callable[..., dataset.Dataset], *, without: str = '', **options
) -> dataset.Dataset:
  """Takes classes out of another set's splits.

  They are a split of their own, 'held_out', those of 'test' first, then those of the
  other splits, with the label -1; whatever else is called 'held_out' there goes. The
  classes that stay are numbered anew, from 0, in their order.

  Args:
    name: of the other set, as `load` knows it: 'digits', 'tfds:mnist'.
    load: (name, **options) -> the other Dataset.
    without: names of classes, or their numbers where they have none, with commas
      between: '8,9'.
    **options: of the other set.

  Returns:
    A Dataset.

  Raises:
    ValueError: the other set has no classes, is drawn anew in every batch or is too
      large for memory, or some labels are not told; a class that it has not, or less
      than two that stay.
  """
  data = load(name, **options)
  num = data.spec.num_classes
  if not num or data.rows is None or any(r.decodes for r in data.rows.values()):
    raise ValueError(
      f'classes are taken out of a set that has some and is kept in memory, and'
      f' {data.name} is none; pixels are drawn afterwards, as in dynamic:classes:NAME'
    )
  names = data.class_names or tuple(map(str, range(num)))
  out = [_number(data.name, word, names) for word in without.split(',')]
  kept = [k for k in range(num) if k not in out]
  if len(kept) < 2:
    raise ValueError(f'{data.name} keeps {len(kept)} of its {num} classes, and 2 must')
  numbers = np.full(num, -1, np.int32)
  numbers[kept] = np.arange(len(kept))

  splits, held_out = {}, []
  for split in (s for s in SPLITS if s in data.rows):
    arrays = data.arrays(split)
    if (arrays['label'] < 0).any():
      raise ValueError(
        f'{data.name}: some labels of {split} are not told, and their examples may be'
        ' of the classes that are taken out'
      )
    label = numbers[arrays['label']]
    inside = label >= 0
    arrays = arrays | {'label': label}
    splits[split] = {k: v[inside] for k, v in arrays.items()}
    held_out.append({k: v[~inside] for k, v in arrays.items()})
  splits[HELD_OUT] = {
    k: np.concatenate([part[k] for part in held_out]) for k in held_out[0]
  }
  made = dataset.in_memory(
    f'classes:{data.name}', data.spec._replace(num_classes=len(kept)), splits
  )
  return data._replace(
    **{k: getattr(made, k) for k in ('name', 'spec', 'batches', 'arrays', 'rows')},
    fingerprint=made.fingerprint,
    class_names=tuple(names[k] for k in kept) if data.class_names else None,
  )


def _number(set_name: str, word: str, names: tuple[str, ...]) -> int:
  if word not in names:
    raise ValueError(
      f'{set_name} has no class {word!r}; did you mean {words.nearest(word, names)!r}?'
      f' Name some as without={names[-1]}, of {", ".join(names)}'
    )
  return names.index(word)
