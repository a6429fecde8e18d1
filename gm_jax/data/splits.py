"""Splits of a data set: dividing examples, and the split that nobody trains on."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from gm_jax.data import dataset

PAIRS = 'pairs'  # examples of several domains that belong together: for evaluation


def refuse_pairs(name: str, split: str) -> None:
  """Raises ValueError where batches of the pairs are asked for."""
  if split == PAIRS:
    raise ValueError(
      f"{name}: {PAIRS!r} is for evaluation, by arrays({PAIRS!r}); train on 'train'"
    )


def check_paired(name: str, paired: bool) -> None:
  """Raises ValueError where pairs are asked for that nobody said there are."""
  if not paired:
    raise ValueError(
      f'{name} has no split {PAIRS!r}: say paired=true, before the colon after a'
      " '?', where test examples of one index belong together"
    )


def check_aligned(sets) -> None:
  """Raises ValueError unless data sets have as many test examples."""
  sizes = [_num_test(data) for data in sets]
  if len(set(sizes)) > 1:
    found = ', '.join(f'{d.name} {n}' for d, n in zip(sets, sizes, strict=True))
    raise ValueError(f'paired sets must have as many test examples, but have {found}')


def stratify(
  sizes: Mapping[str, int], label: np.ndarray | None = None
) -> dict[str, np.ndarray]:
  """Cuts indices into splits, always the same way, each class in proportion.

  Args:
    sizes: of the splits, whose sum is N.
    label: `[N]` classes; if None, all are of one class.

  Returns:
    Indices [size] by split, disjoint.
  """
  num = sum(sizes.values())
  label = np.zeros(num, int) if label is None else label
  shuffled = np.random.default_rng(0).permutation(num)
  quantile = np.empty(num)  # rank within the class, so that cuts divide the classes
  by_class = shuffled[np.argsort(label[shuffled], kind='stable')]
  _, counts = np.unique(label, return_counts=True)
  for members in np.split(by_class, np.cumsum(counts)[:-1]):
    quantile[members] = (np.arange(len(members)) + 0.5) / len(members)
  ends = np.cumsum(list(sizes.values()))[:-1]
  ranked = np.argsort(quantile, kind='stable')
  return dict(zip(sizes, np.split(ranked, ends), strict=True))


def check_classes(num_classes: int, num: int, what: str, right: str) -> None:
  """Checks that labels are classes, and not numbers of their own for each example.

  Args:
    num_classes: K.
    num: number of examples.
    what: has them, for the error.
    right: what to do instead, for the error.

  Raises:
    DataError: more than 10 classes, of less than two examples on average.
  """
  if num_classes > 10 and 2 * num_classes > num:
    raise dataset.DataError(
      f'{what} has {num_classes} classes for {num} examples, and a class needs two or'
      f' more: {right}'
    )


def classes(labels: Sequence[np.ndarray]) -> tuple[np.ndarray, tuple[str, ...]]:
  """Finds the classes: the distinct labels of all splits, sorted.

  Args:
    labels: of each split, [N] integers or strings.

  Returns:
    The labels [K] of classes 0..K-1, and their names.
  """
  found = np.unique(np.concatenate([np.unique(label) for label in labels]))
  if found.dtype.kind == 'U':
    found = np.array(sorted(found.tolist(), key=natural_key))
  return found, tuple(map(str, found.tolist()))


def to_classes(labels: np.ndarray, found: np.ndarray) -> np.ndarray:
  """Numbers labels [N] by their place in the labels of all classes [K]; int32."""
  order = np.argsort(found, kind='stable')
  return order[np.searchsorted(found, labels, sorter=order)].astype(np.int32)


def natural_key(name: str) -> tuple[str, str]:
  """Makes a key that sorts a run of digits as one number: 'a2' before 'a10'.

  Names that first differ elsewhere than in a run of digits sort as plain strings do.
  """

  def mark(run):
    digits = run[0].lstrip('0')
    return f'0{len(digits):04}{digits}'  # a digit comes first, as in the plain string

  return re.sub('[0-9]+', mark, name), name


def tenths(num: int, what: str) -> dict[str, int]:
  """Divides examples into 80% 'train', 10% 'validation' and 10% 'test'.

  Those held out are two at least, for no distance or variance is of a single example.

  Args:
    num: number of examples, at least 10.
    what: they are and how to bring splits instead, as '7 images in /pics', for the
      error.

  Returns:
    Sizes by split, as `stratify` takes them.

  Raises:
    DataError: there are too few.
  """
  if num < 10:
    raise dataset.DataError(
      f'{what}: too few to split 80/10/10, which needs at least 10'
    )
  held = max(2, num // 10)
  return {'test': held, 'validation': held, 'train': num - 2 * held}


def _num_test(data: dataset.Dataset) -> int:
  if data.spec.num_train is None:
    raise ValueError(f'{data.name} is endless: it has no pairs')
  if data.rows and 'test' in data.rows:
    return data.rows['test'].num
  return len(data.arrays('test')['x'])
