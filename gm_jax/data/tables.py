"""Tables of numbers, a row an example: vectors of the density benchmarks and others.

A file is a .npy array [N, D], or an .npz file with `x`, or with `x_train`, `x_test` and
perhaps `x_validation`. What is not split in the file is: a tenth is 'test', and a tenth
of the rest 'validation', each cut from the end. Every column is then standardized by
the mean and the standard deviation of the training rows alone, so that log-likelihoods
are those of standardized numbers. The option `recipe` says what is done before:

  plain      rows are shuffled by `seed`, unless the file has splits
  power      POWER, of columns active power, reactive power, voltage, intensity, three
             meters, minute of the day: the second and the fourth are dropped, rows are
             shuffled by `seed`, and uniform noise of a measurement's step is added to
             all but the minute: 0.001, 0.01 and, to the meters, 1
  gas        GAS, of its sensors alone: as long as a column has a correlation above 0.98
             with another, the first that has is dropped; no shuffle
  hepmass    HEPMASS, x_train and x_test whose first column is the class: rows of class
             1 without it; columns of x_test beyond those of x_train, and columns whose
             least training value comes more than five times, are dropped; the last
             tenth of the training rows is 'validation'
  miniboone  MINIBOONE, as published: no shuffle
  bsds300    BSDS300, as published: its own splits, not standardized

The published preprocessing standardizes POWER and MINIBOONE by training and validation
rows together and GAS by all rows; other draws of its shuffle and noise make another
split.

Source: Masked Autoregressive Flow for Density Estimation, Papamakarios et al., 2017,
arXiv:1705.07057, appendix D, and its code.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import jax.numpy as jnp
import numpy as np

from gm_jax import base
from gm_jax.data import arrays_file, dataset, transforms

Splits = dict[str, np.ndarray]
NAMES = {
  'x': 'x', 'x_train': 'train', 'x_validation': 'validation', 'x_val': 'validation',
  'x_test': 'test',
}  # fmt: skip
CORRELATED = 0.98  # GAS: more says the same
REPEATED = 5  # HEPMASS: a least value that comes more often is no measurement
POWER_COLUMNS = (0, 2, 4, 5, 6, 7)
POWER_STEPS = (0.001, 0.01, 1.0, 1.0, 1.0, 0.0)


def table(
  path: str,
  *,
  recipe: Literal['plain', 'power', 'gas', 'hepmass', 'miniboone', 'bsds300'] = 'plain',
  seed: int = 0,
) -> dataset.Dataset:
  """Loads a table, raw `x` [B, D] float32, standardized.

  Args:
    path: of the .npy or .npz file.
    recipe: what is done before standardizing; see the module.
    seed: of the shuffle and of the noise.

  Returns:
    A Dataset of splits 'train', 'validation' and 'test'.

  Raises:
    DataError: the file cannot be used, in one line.
  """
  try:
    found = {name: _checked(name, x) for name, x in _read(path).items()}
    splits = RECIPES[recipe](found, np.random.default_rng(seed))
    _check_splits(splits)
    if recipe != 'bsds300':
      splits = standardized(splits)
  except ValueError as error:
    raise dataset.DataError(f'{path}: {error}') from error
  rows = {s: dataset.array_rows({'x': np.float32(x)}) for s, x in splits.items()}
  shape = splits['train'].shape[1:]
  spec = base.DataSpec(
    shape, jnp.dtype(jnp.float32), None, None, None, transforms.identity()
  )
  return dataset.from_rows(f'table:{path}', spec, rows)


def standardized(splits: Mapping[str, np.ndarray]) -> Splits:
  """Columns of mean 0 and standard deviation 1 in the training rows.

  Args:
    splits: `[N, D]` float64 by name.

  Returns:
    The same, by the moments of 'train' alone.

  Raises:
    ValueError: a column of 'train' is constant.
  """
  mean, std = splits['train'].mean(axis=0), splits['train'].std(axis=0)
  constant = std <= 1e-12 * np.maximum(1.0, np.abs(mean))
  if constant.any():
    raise ValueError(f'column {constant.argmax()} is constant in the training rows')
  return {name: (x - mean) / std for name, x in splits.items()}


def cut(x: np.ndarray) -> Splits:
  """The last tenth as 'test', the last tenth of the rest as 'validation'.

  Args:
    x: `[N, D]` rows in their order.
  """
  rest, test = _ends(x)
  train, validation = _ends(rest)
  return {'train': train, 'validation': validation, 'test': test}


def _ends(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  held = len(x) // 10
  if held < 2:
    raise ValueError(f'{len(x)} rows are too few to hold out a tenth of two or more')
  return x[:-held], x[-held:]


def _plain(found: Splits, rng: np.random.Generator) -> Splits:
  if 'x' in found:
    return cut(rng.permutation(found['x']))
  if 'validation' in found:
    return found
  train, validation = _ends(rng.permutation(found['train']))
  return {**found, 'train': train, 'validation': validation}


def _power(found: Splits, rng: np.random.Generator) -> Splits:
  x = _alone(found, 'POWER')
  if x.shape[1] != 8:
    raise ValueError(f'POWER has 8 columns, got {x.shape[1]}')
  x = rng.permutation(x)[:, POWER_COLUMNS]
  return cut(x + rng.uniform(size=x.shape) * POWER_STEPS)


def _gas(found: Splits, rng: np.random.Generator) -> Splits:
  x = _alone(found, 'GAS')
  while x.shape[1] > 1:
    correlated = (np.corrcoef(x.T) > CORRELATED).sum(axis=0) > 1
    if not correlated.any():
      break
    x = np.delete(x, correlated.argmax(), axis=1)
  return cut(x)


def _hepmass(found: Splits, rng: np.random.Generator) -> Splits:
  if set(found) != {'train', 'test'}:
    raise ValueError('HEPMASS needs x_train and x_test, and no other array')
  train, test = (found[s][found[s][:, 0] == 1][:, 1:] for s in ('train', 'test'))
  if not len(train) or not len(test):
    raise ValueError('the first column of HEPMASS is the class, and none is 1')
  repeated = (train == train.min(axis=0)).sum(axis=0) > REPEATED
  if train.shape[1] > test.shape[1]:
    raise ValueError(f'{train.shape[1]} columns to train on, {test.shape[1]} to test')
  test = test[:, : train.shape[1]][:, ~repeated]
  train, validation = _ends(train[:, ~repeated])
  return {'train': train, 'validation': validation, 'test': test}


def _miniboone(found: Splits, rng: np.random.Generator) -> Splits:
  return cut(_alone(found, 'MINIBOONE'))


def _bsds300(found: Splits, rng: np.random.Generator) -> Splits:
  if set(found) != {'train', 'validation', 'test'}:
    raise ValueError('BSDS300 needs x_train, x_validation and x_test')
  return found


RECIPES: Mapping[str, Callable[[Splits, np.random.Generator], Splits]] = {
  'plain': _plain,
  'power': _power,
  'gas': _gas,
  'hepmass': _hepmass,
  'miniboone': _miniboone,
  'bsds300': _bsds300,
}


def _alone(found: Splits, name: str) -> np.ndarray:
  if set(found) != {'x'}:
    raise ValueError(f'{name} is one array: a .npy file, or x alone')
  return found['x']


def _read(path: str) -> dict[str, np.ndarray]:
  """The arrays of a file by split, 'x' where there is one that is not split."""
  if path.endswith('.npy'):
    return {'x': _read_npy(path)}
  found = arrays_file.read(path, lambda path, name: name in NAMES)
  splits = {NAMES[name]: array for name, array in found.items()}
  if len(splits) < len(found) or ('x' in splits and len(splits) > 1):
    raise ValueError(f'both of {", ".join(found)}: x alone, or one array a split')
  if 'x' not in splits and not {'train', 'test'} <= set(splits):
    raise ValueError('no x, nor x_train and x_test')
  return splits


def _read_npy(path: str) -> np.ndarray:
  try:
    # Mapped, a header that claims more than the file holds is an error at once.
    return np.load(path, mmap_mode='r', allow_pickle=False)
  except FileNotFoundError as error:
    raise ValueError('no such file') from error
  except OSError as error:
    raise ValueError(f'cannot be read: {error.strerror}') from error
  except Exception as error:  # of many types, where bytes are damaged
    raise ValueError('not a .npy file of numbers, or a damaged one') from error


def _checked(name: str, x: np.ndarray) -> np.ndarray:
  """Checks that these are finite numbers `[N, D]`; float64, in memory."""
  if x.dtype.kind not in 'fiu' or x.ndim != 2 or x.shape[1] < 2 or not len(x):
    raise ValueError(
      f'{name}: expected numbers [N, D], D 2 or more, got {list(x.shape)} {x.dtype}'
    )
  x = np.array(x, np.float64)
  wrong = ~np.isfinite(x)
  if wrong.any():
    first = list(map(int, np.unravel_index(wrong.argmax(), x.shape)))
    raise ValueError(
      f'{name}: {wrong.sum()} values are not finite, the first at {first}'
    )
  return x


def _check_splits(splits: Splits) -> None:
  sizes = {name: x.shape[1] for name, x in splits.items()}
  if len(set(sizes.values())) > 1:
    found = ', '.join(f'{name} {size}' for name, size in sizes.items())
    raise ValueError(f'splits have different numbers of columns: {found}')
  if min(sizes.values()) < 2:
    raise ValueError(f'{min(sizes.values())} columns are left, expected 2 or more')
  for name, x in splits.items():
    if len(x) < 2:
      raise ValueError(f'{name}: {len(x)} rows, expected 2 or more')
