"""What a sample tells of the code it was made from: InfoGAN against a plain GAN.

Both have the same networks, data and steps, and in both a network Q is fitted to read
the code off the samples; InfoGAN's generator also helps it, the plain GAN's does not.
The bound E ln Q(c | x) + H(c) is measured on fresh samples after training, and Q of
real images is scored as a clustering: code values are matched to digits one to one.
"""

import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.configs.parts import games, networks, optimizers, runs
from experiments.ledger import seeds as seeds_lib
from gm_jax.data import dataset, registry
from gm_jax.methods import infogan
from gm_jax.models import mlp
from gm_jax.training import plots, report
from gm_jax.training import step as step_lib

K = 10
LN_K = float(np.log(K))
FIRST_SEED = 300
DISPATCH = 100
FRESH = 10_000  # samples on which the bound is measured
BATCH = 64
HEADER = ('', 'data', 'bound, nats', 'accuracy', 'seeds', 'steps', 'seconds')
METHODS = {'InfoGAN': 1.0, 'plain GAN, Q post hoc': 0.0}


class Budget(NamedTuple):
  """How much is trained: on digits, and on the larger images."""

  seeds: int
  steps: int
  large_seeds: int
  large_steps: int
  base_features: int  # of the larger images' generator


LARGE = ('tfds:mnist', 'tfds:fashion_mnist')  # with --data_dir
BUDGETS = {
  'smoke': Budget(2, 200, 2, 200, 8),
  'laptop': Budget(4, 6000, 2, 800, 16),
  'full': Budget(4, 20_000, 4, 20_000, 64),
}


class Row(NamedTuple):
  """One line of the table."""

  name: str
  data: str
  bound: np.ndarray  # [S] nats
  accuracy: np.ndarray  # [S]
  steps: int
  seconds: float


def matched_accuracy(
  train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]
) -> float:
  """The share of test examples whose cluster is matched to their class.

  The matching, one to one, is the best of the train split's.

  Args:
    train: clusters [N] in [0, K) and classes [N].
    test: likewise.
  """
  from scipy import optimize

  clusters, classes = train
  confusion = np.zeros((K, K), int)
  np.add.at(confusion, (clusters, classes), 1)
  _, match = optimize.linear_sum_assignment(confusion, maximize=True)
  clusters, classes = test
  return float(np.mean(match[clusters] == classes))


def make(weight: float, data: dataset.Dataset, steps: int, base_features: int):
  """The method of infogan_digits.py, by its categorical code alone."""
  config = runs.small_images(steps=steps)
  config.base_features = base_features
  txs = optimizers.adams(config, lambda tx: tx)
  parts = networks.small_networks(config, data.spec)
  codes = infogan.Codes(parts.pop('prior'), K)
  return codes, infogan.infogan(
    **parts,
    posterior=mlp.MLP((256, 256, K)),
    **txs,
    q_tx=optimizers.adam(config, config.d_learning_rate),
    codes=codes,
    information_weight=weight,
    penalty=games.r1(1.0),
  )


def fresh_bound(method, codes: infogan.Codes, model, key) -> jax.Array:
  """The bound of the class on fresh samples, [] nats; all code values equally often."""
  label = jnp.arange(FRESH) % K
  x = method.sample(model, key, FRESH, condition=label)
  posterior = method.queries['posterior'](model, None, x)
  drawn = infogan.draw(codes, key, FRESH, label)
  return infogan.information(posterior, drawn)[0].mean()


def _row(name: str, data: dataset.Dataset, budget: Budget) -> tuple[Row, np.ndarray]:
  splits = {
    split: dataset.transformed(data.spec, data.arrays(split, num))
    for split, num in (('train', 10_000), ('test', 2000))
  }
  images = splits['train']['x']
  large = data.name in LARGE
  seeds = budget.large_seeds if large else budget.seeds
  steps = budget.large_steps if large else budget.steps
  base_features = budget.base_features if large else 64
  codes, method = make(METHODS[name], data, steps, base_features)

  def draw(key):
    return {'x': images[jax.random.randint(key, (BATCH,), 0, len(images))]}

  trained = seeds_lib.train(
    method, draw, seeds=seeds, first_seed=FIRST_SEED, steps=steps,
    dispatch=DISPATCH, ema_decay=0.99,
  )  # fmt: skip

  def score(model, key):
    clusters = {
      split: method.queries['cluster'](model, None, arrays['x']).argmax(axis=1)
      for split, arrays in splits.items()
    }
    return {'bound': fresh_bound(method, codes, model, key), **clusters}

  scores = seeds_lib.scored(trained, score)
  classes = {split: np.asarray(arrays['label']) for split, arrays in splits.items()}
  accuracy = np.array([
    matched_accuracy(*((scores[s][i], classes[s]) for s in ('train', 'test')))
    for i in range(seeds)
  ])  # fmt: skip
  model = jax.tree.map(lambda x: x[0], step_lib.model(trained.state))
  label = jnp.repeat(jnp.arange(K), K)
  samples = method.sample(model, jax.random.key(0), K * K, condition=label)
  row = Row(name, data.name, scores['bound'], accuracy, steps, trained.seconds)
  return row, np.asarray(samples)


def run(budget_name: str, *, data_dir: str | None, out: pathlib.Path) -> dict[str, Any]:
  """Trains both on every data set, prints the table and draws samples by code.

  Args:
    budget_name: one of `BUDGETS`.
    data_dir: where TensorFlow Datasets keeps MNIST and Fashion-MNIST.
    out: folder for pictures.

  Returns:
    Every number, ready for JSON, and the printed tables by name.
  """
  budget, began = BUDGETS[budget_name], time.perf_counter()
  names = ('digits', *LARGE) if data_dir else ('digits',)
  print(
    f'InfoGAN with one categorical code of {K} values, weight 1, against the same'
    ' without weight, whose Q is trained beside it all the same. Generator a DCGAN of'
    f' base width 64 ({budget.base_features} for 28x28), critic and Q dense 256-256;'
    ' non-saturating, R1 of weight 1; Adam'
    f' 1e-3, b1 0.5, cosine decay to 0; batch {BATCH}; parameters averaged at 0.99.'
    f' Bound: mean of ln Q(c | x) + ln {K} over {FRESH:,} fresh samples, at most'
    f' {LN_K:.4f} nats. Accuracy: clusters are the largest of Q(c | x) of real images,'
    ' matched one to one to classes on the train split, scored on the test split;'
    f' chance is about 0.1. Seeds from {FIRST_SEED}, at once; mean +- standard error'
    ' over seeds. Seconds are of training alone, all seeds together.',
    flush=True,
  )
  rows, pictures = [], {}
  for data_name in names:
    data = registry.load(data_name, data_dir=data_dir)
    for name in METHODS:
      row, samples = _row(name, data, budget)
      rows.append(row)
      pictures[f'{name}, {data_name}: a row a code'] = samples
      print(f'  {" | ".join(_cells(row))}', flush=True)
  table = report.Table(HEADER, [_cells(row) for row in rows])
  print('\n' + report.text_table(*table))
  path = out / 'infogan_mi.png'
  plots.side_by_side(path, pictures, columns=K)
  print(f'samples: {path}; {time.perf_counter() - began:.0f} seconds in all')
  return {
    'tables': {'bounds': table},
    'budget': budget_name,
    'versions': report.versions(),
    'rows': [
      row._replace(bound=row.bound.tolist(), accuracy=row.accuracy.tolist())._asdict()
      for row in rows
    ],
  }


def _cells(row: Row) -> list[str]:
  return [
    row.name,
    row.data,
    seeds_lib.mean_and_error(row.bound, '.3f'),
    seeds_lib.mean_and_error(row.accuracy, '.3f'),
    str(len(row.bound)),
    str(row.steps),
    f'{row.seconds:.0f}',
  ]
