"""Splits of a data set: dividing examples, and the split that nobody trains on."""

from collections.abc import Mapping

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


def tenths(num: int, what: str) -> dict[str, int]:
  """Divides examples into 80% 'train', 10% 'validation' and 10% 'test'.

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
  return {'test': num // 10, 'validation': num // 10, 'train': num - 2 * (num // 10)}


def _num_test(data: dataset.Dataset) -> int:
  if data.spec.num_train is None:
    raise ValueError(f'{data.name} is endless: it has no pairs')
  if data.rows and 'test' in data.rows:
    return data.rows['test'].num
  return len(data.arrays('test')['x'])
