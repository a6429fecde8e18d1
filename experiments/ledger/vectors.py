"""Flows of tables of numbers beside a Gaussian, other packages and published numbers.

Every row is trained on the same batches in the same order, at one rate of learning, and
scored on the whole test split at the evaluation that is best on the validation split.
The Gaussian has the mean and the covariance of the training rows: its published number
says whether a table was prepared as the published ones were.
"""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import quiet
from experiments.configs import spline_flow_toy
from experiments.ledger import flows, vector_peers
from gm_jax import base, statistics
from gm_jax.data import dataset, registry
from gm_jax.training import report
from gm_jax.training import setup as setup_lib

TOY = 'toy:funnel?dim=8&std=1.0'
DRAWN = 100_000  # points of a toy that stand for its training rows
VALIDATED = 20_000  # rows of the validation split, at most
BOX = 5.0  # of splines, to which zuko's are fixed
CHUNK = 8192  # rows scored at once
SINGULAR = 1e-10  # least eigenvalue of correlations, below which columns depend
GAUSSIAN, KNOWN = 'Gaussian', 'the density itself'
# Argument of the config, and what of it is changed beside the budget. Published are
# the Gaussian, the first and the third.
OURS = {
  'MAF': ('maf', {}),
  'MAF, scale first': ('maf', {'function': 'affine'}),
  'RQ-NSF': ('spline', {'mixing': 'identity'}),
  'RQ-NSF, rotations': ('spline', {'mixing': 'rotation'}),
}
COMPARED = (GAUSSIAN, 'MAF', 'RQ-NSF')
HEADER = ('model', 'by', 'nats', 'in the box', 'best step', 'steps', 'seconds',
          'parameters', 'published', 'budget of the published')  # fmt: skip
NO_TRAINING = 'the moments of the training rows'
MAF_BUDGET = '5 layers, batches of 100 until 30 epochs bring nothing'
NSF_BUDGET = '10 layers of 256; steps by set, 200,000 by default of its code'
# Test log-likelihoods +- 2 standard errors as others transcribed the papers' tables;
# the papers themselves were not read: arXiv:1705.07057, table 1, MAF of five layers,
# and arXiv:1906.04032, table 1, couplings. By recipe of `table:`.
PUBLISHED = {
  'power': ('-7.74 +- 0.02', '0.14 +- 0.01', '0.64 +- 0.01'),
  'gas': ('-3.58 +- 0.75', '9.07 +- 0.02', '13.09 +- 0.02'),
  'hepmass': ('-27.93 +- 0.02', '-17.70 +- 0.02', '-14.75 +- 0.03'),
  'miniboone': ('-37.24 +- 1.07', '-11.75 +- 0.44', '-9.67 +- 0.47'),
  'bsds300': ('96.67 +- 0.25', '155.69 +- 0.28', '157.54 +- 0.28'),
}
PATHS = ('table', 'npz')  # kinds of data that a path follows


class Budget(NamedTuple):
  """How much is trained, and of what size; the same for every package."""

  steps: int
  batch_size: int
  rate: float  # of Adam, decayed to 0 by a cosine
  clip: float  # of the gradient's norm
  num_layers: int
  width: int  # of hidden layers
  num_bins: int
  box: float
  evaluations: int


BUDGETS = {
  'smoke': Budget(20, 64, 1e-3, 1.0, 2, 8, 8, BOX, 2),
  'laptop': Budget(2000, 512, 1e-3, 1.0, 5, 64, 8, BOX, 4),
  'full': Budget(100_000, 512, 5e-4, 1.0, 10, 256, 8, BOX, 100),
}


class Data(NamedTuple):
  """Rows `[N, D]` by split, and the function seed -> batches `[B, D]`."""

  train: np.ndarray
  validation: np.ndarray
  test: np.ndarray
  batches: Callable


def load(name: str, batch_size: int) -> Data:
  """The rows of a data set's name, as models see them.

  Raises:
    UsageError: the data are no vectors of two real numbers or more.
    DataError: the file cannot be used.
  """
  try:
    data = registry.load(name)
  except ValueError as error:
    raise setup_lib.UsageError(str(error)) from error
  spec = data.spec
  if spec.num_levels is not None or len(spec.shape) != 1 or spec.shape[0] < 2:
    raise setup_lib.UsageError(
      f'{name}: expected vectors of two real numbers or more, got {list(spec.shape)}'
      + (f' of {spec.num_levels} levels' if spec.num_levels else '')
    )
  missing = {'validation', 'test'} - set(data.rows or ('validation', 'test'))
  if missing:
    raise setup_lib.UsageError(f'{name} has no split {sorted(missing)[0]!r}')

  def rows(split, num=None):
    return np.asarray(dataset.transformed(spec, data.arrays(split, num))['x'])

  def batches(seed):
    for batch in data.batches('train', batch_size, seed=seed):
      yield np.asarray(dataset.transformed(spec, batch)['x'])

  endless = spec.num_train is None
  return Data(
    rows('train', DRAWN if endless else None),
    rows('validation', VALIDATED),
    rows('test', VALIDATED if endless else None),
    batches,
  )


def gaussian_nats(train: np.ndarray, x: np.ndarray) -> np.ndarray:
  """Log-density `[B]` of x by the Gaussian of the mean and covariance of `train`.

  Raises:
    DataError: a column is a combination of others.
  """
  train, x = np.float64(train), np.float64(x)
  covariance = np.cov(train.T, bias=True)
  std = np.sqrt(np.diag(covariance))
  if np.linalg.eigvalsh(covariance / np.outer(std, std))[0] < SINGULAR:
    raise dataset.DataError(
      'the covariance of the training rows is singular: a column is a combination of'
      ' others'
    )
  root = np.linalg.cholesky(covariance)
  z = np.linalg.solve(root, (x - train.mean(axis=0)).T)
  log_det = np.log(np.diag(root)).sum()
  return -0.5 * ((z**2).sum(axis=0) + len(z) * math.log(2 * math.pi)) - log_det


def in_chunks(score: Callable, x: np.ndarray) -> np.ndarray:
  """`score` `[CHUNK]` of rows a chunk at a time, the last one filled up: `[B]`."""
  found = []
  for first in range(0, len(x), CHUNK):
    part = x[first : first + CHUNK]
    padded = np.pad(part, ((0, CHUNK - len(part)), (0, 0)), mode='edge')
    found.append(np.asarray(score(padded), np.float64)[: len(part)])
  return np.concatenate(found)


class Best:
  """The parameters that score best on the validation split, by the step."""

  def __init__(self, data: Data, score: Callable):
    """score: (parameters, x [CHUNK, D]) -> [CHUNK] nats."""
    self.data, self.score = data, score
    self.step, self.nats, self.params = 0, -math.inf, None
    self.seconds = 0.0  # of evaluations

  def see(self, step: int, params: Any) -> None:
    """Keeps these parameters, copied by the caller, if none before are better."""
    began = time.perf_counter()
    nats = in_chunks(lambda x: self.score(params, x), self.data.validation).mean()
    if nats > self.nats:
      self.step, self.nats, self.params = step, float(nats), params
    self.seconds += time.perf_counter() - began

  def row(self, name: str, by: str, **more) -> dict[str, Any]:
    """A row of the table, of the whole test split."""
    if self.params is None:
      raise dataset.DataError(f'{name} by {by}: not finite at any evaluation')
    nats = in_chunks(lambda x: self.score(self.params, x), self.data.test)
    more |= {'step': self.step, 'validation': self.nats}
    return scored(name, by, nats, self.data.test, **more)


def scored(
  name: str, by: str, nats: np.ndarray, x: np.ndarray, *, box: float = BOX, **more
) -> dict[str, Any]:
  """A row of log-likelihoods `[N]` of test rows x `[N, D]`.

  Beside their mean stands that of the rows all of whose numbers lie within `box` of 0,
  where the first of the splines bends them.
  """
  mean, error = statistics.mean_and_error(nats)
  inside = (np.abs(x) <= box).all(axis=1)
  return {
    'model': name, 'by': by, 'nats': float(mean), 'error': float(error),
    'inside': float(nats[inside].mean()) if inside.any() else math.nan,
    'fraction_inside': float(inside.mean()),
    **more,
  }  # fmt: skip


def ours(name: str, data_name: str, data: Data, budget: Budget) -> dict[str, Any]:
  """Our flow, by the config of toys with the budget's sizes."""
  arg, more = OURS[name]
  changes = {
    'data': data_name, 'steps': budget.steps, 'batch_size': budget.batch_size,
    'learning_rate': budget.rate, 'clip': budget.clip, 'box': budget.box,
    'num_layers': budget.num_layers, 'width': budget.width,
    'num_bins': budget.num_bins, 'ema_decay': 0.0,
    'evaluate_every': max(1, budget.steps // budget.evaluations), **more,
  }  # fmt: skip
  part = 1.0 if budget.steps > 100 else 0.999  # of few steps, dispatched by tens
  setup = flows.prepared(spline_flow_toy, arg, changes, part)
  method = setup.make_phases(0)[0].method
  log_prob = jax.jit(lambda params, x: method.log_prob(base.Model(params, {}), None, x))
  best = Best(data, log_prob)

  def evaluate(phase, state):
    best.see(int(state.step), jax.tree.map(np.array, state.params))
    return {}

  trained = quiet.train_config(setup, evaluate=evaluate)
  size = sum(leaf.size for leaf in jax.tree.leaves(best.params))
  return best.row(
    name, 'ours', steps=setup.settings.steps, seconds=quiet.seconds(trained),
    parameters=size,
  )  # fmt: skip


def rows(data_name: str, data: Data, budget: Budget) -> list[dict[str, Any]]:
  """Every row, each printed as it is found."""
  found: list[dict[str, Any]] = []

  def add(row):
    found.append(row)
    print(f'  {" | ".join(line(row, data_name))}', flush=True)

  known = registry.toy_density(data_name)
  if known and known.log_prob:
    add(scored(KNOWN, '', np.asarray(known.log_prob(data.test)), data.test))
  size = data.train.shape[1]
  nats = gaussian_nats(data.train, data.test)
  numbers = size + size * (size + 1) // 2
  add(scored(GAUSSIAN, 'ours', nats, data.test, parameters=numbers))
  for name in OURS:
    add(ours(name, data_name, data, budget))
    for package, make in vector_peers.PEERS.get(name, {}).items():
      network = make(size, budget)
      if network is None:
        print(f'  {name} by {package}: not installed, skipped', flush=True)
        continue
      best = Best(data, vector_peers.log_prob(network))
      took = vector_peers.train(network, data.batches(0), budget, best)
      add(best.row(name, package, **took))
  return found


def recipe(data_name: str) -> str:
  """The recipe of a `table:` by its options, or nothing."""
  plain, mark, options = data_name.rpartition('?')
  if not mark or not plain.startswith('table:'):
    return ''
  return dict(o.partition('=')[::2] for o in options.split('&')).get('recipe', '')


def without_path(data_name: str) -> str:
  """The name of a data set without what is a path of this machine."""
  kind, colon, rest = data_name.partition(':')
  if kind not in PATHS or not colon:
    return data_name
  _, mark, options = rest.rpartition('?')
  return f'{kind}:...{mark}{options if mark else ""}'


def line(row: dict, data_name: str) -> list[str]:
  """A line of the table; what is not known of a row is blank."""
  published, budget = '', ''
  compared = row['by'] == 'ours' and row['model'] in COMPARED
  if compared and recipe(data_name) in PUBLISHED:
    place = COMPARED.index(row['model'])
    published = PUBLISHED[recipe(data_name)][place]
    budget = (NO_TRAINING, MAF_BUDGET, NSF_BUDGET)[place]
  seconds = f'{row["seconds"]:.0f}' if 'seconds' in row else ''
  nats = f'{row["nats"]:.3f} +- {2 * row["error"]:.3f}'
  kept = (str(row.get(key, '')) for key in ('step', 'steps'))
  parameters = str(row.get('parameters', ''))
  nats = nats, f'{row["inside"]:.3f}'
  return [row['model'], row['by'], *nats, *kept, seconds, parameters, published, budget]


def run(budget_name: str, *, data: str | None) -> dict[str, Any]:
  """Trains every flow on a table and prints its rows.

  Args:
    budget_name: one of `BUDGETS`.
    data: name of a data set of vectors, as the launcher's `--data`; an 8-D toy if None.

  Returns:
    Every number, ready for JSON, and the printed table.
  """
  name, budget, began = data or TOY, BUDGETS[budget_name], time.perf_counter()
  loaded = load(name, budget.batch_size)
  print(
    f'{without_path(name)}: mean log-likelihood of the test split, nats, +- 2 standard'
    f' errors, at the best of {budget.evaluations} evaluations on the validation split.'
    f' {budget.steps} steps of {budget.batch_size} rows, the same for every row; Adam'
    f' from {budget.rate:g} to 0 by a cosine; {budget.num_layers} layers of'
    f' {budget.width} units, {budget.num_bins} pieces. "In the box": of rows whose'
    f' numbers are all within {BOX:g} of 0. Seed 0. Seconds are of training alone.'
    " Published numbers are of another budget, read in transcriptions of the papers'"
    ' tables.',
    flush=True,
  )
  found = rows(name, loaded, budget)
  table = report.Table(HEADER, [line(row, name) for row in found])
  key = recipe(name) or without_path(name)
  print(f'\n{key}\n' + report.text_table(*table))
  return {
    'tables': {key: table},
    'budget': budget_name,
    'versions': report.versions(),
    'rows': found,
    'seconds': time.perf_counter() - began,
  }
