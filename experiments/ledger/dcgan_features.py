"""What a DCGAN's critic has learned of classes that it was never told.

A linear support vector machine reads the class from the maps of all the critic's
convolutions, each max-pooled to 4x4. Beside it stand the same maps of a critic that was
not trained, random filters, and the pixels.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.ledger import seeds as seeds_lib
from gm_jax import base, players, priors
from gm_jax.data import dataset, registry
from gm_jax.methods import gan
from gm_jax.models import dcgan
from gm_jax.training import report

FIRST_SEED = 1400
DISPATCH = 25
BATCH = 128
LATENT = 100
COSTS = (1e-5, 1e-4, 1e-3, 1e-2)  # of the machine, chosen by held-out rows
HELD_OUT = 0.2  # of the labelled rows, while a cost is chosen
TEST = 2000  # test images, at most
CHUNK = 256  # images whose maps are computed at once
HEADER = ('data', 'features', 'labels', 'F', 'accuracy', 'seeds', 'steps')


class Setting(NamedTuple):
  """A data set: how wide its critic is, and how many labels are read."""

  data: str
  features: int
  labels: tuple[int, ...]


class Budget(NamedTuple):
  """How much is trained."""

  seeds: int
  steps: int
  settings: tuple[Setting, ...]


DIGITS = Setting('digits', 64, (100, 1257))
GLYPHS = Setting('glyphs', 16, (100, 1000))
FASHION = Setting('tfds:fashion_mnist', 16, (100, 1000))
BUDGETS = {
  'smoke': Budget(2, 50, (Setting('digits', 8, (100,)),)),
  'laptop': Budget(3, 1500, (DIGITS, GLYPHS, FASHION)),
  'full': Budget(
    3, 25_000, tuple(s._replace(features=64) for s in (DIGITS, GLYPHS, FASHION))
  ),
}


class Row(NamedTuple):
  """One line of the table; accuracies [S]."""

  data: str
  features: str
  labels: int
  size: int
  accuracy: np.ndarray
  steps: int


def make_method(spec: base.DataSpec, features: int) -> tuple[base.Method, Any]:
  """The paper's GAN of a given width, and its critic."""
  size, _, channels = spec.shape
  tx = optax.adam(2e-4, b1=0.5)
  critic = dcgan.Discriminator(features)
  generator = dcgan.Generator(size, channels, features)
  prior = priors.uniform(LATENT)
  return gan.gan(generator, critic, tx, tx, prior=prior), critic


def maps(critic: dcgan.Discriminator, model: base.Model, x: np.ndarray) -> np.ndarray:
  """Pooled maps [N, F] of images [N, H, W, C], with the statistics of training."""
  variables = players.collections(model.extra, players.DISCRIMINATOR)
  variables = {**variables, 'params': model.params[players.DISCRIMINATOR]}

  @jax.jit
  def of_chunk(variables, x):
    _, sown = critic.apply(variables, x, mutable=['intermediates'])
    return dcgan.pooled_maps(sown['intermediates']['maps'])

  chunks = [x[i : i + CHUNK] for i in range(0, len(x), CHUNK)]
  return np.concatenate([of_chunk(variables, chunk) for chunk in chunks])


def accuracy(
  train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], seed: int
) -> float:
  """Of a linear L2 support vector machine on (features [N, F], labels [N]).

  Features are standardized by the training rows; the cost is chosen by a fifth of
  them, held out.
  """
  from sklearn import model_selection, pipeline, preprocessing, svm  # heavy

  machine = pipeline.make_pipeline(
    preprocessing.StandardScaler(), svm.LinearSVC(dual=True, max_iter=2000)
  )
  held_out = model_selection.StratifiedShuffleSplit(
    1, test_size=HELD_OUT, random_state=seed
  )
  found = model_selection.GridSearchCV(
    machine, {'linearsvc__C': COSTS}, cv=held_out, n_jobs=1
  )
  return found.fit(*train).score(*test)


def rows_of(
  name: str, features_of: Callable, setting: Setting, arrays: dict, budget: Budget
) -> list[Row]:
  """A row for each number of labels; `features_of(seed, x)` are of a seed's critic."""
  test = arrays['test']
  num_train = len(arrays['train']['x'])
  found = {min(labels, num_train): [] for labels in setting.labels}
  for seed in range(budget.seeds):
    of_test = features_of(seed, test['x']), test['label']
    order = np.random.default_rng(FIRST_SEED + seed).permutation(num_train)
    train = {k: arrays['train'][k][order[: max(found)]] for k in ('x', 'label')}
    of_train = features_of(seed, train['x'])
    for labels, values in found.items():
      chosen = of_train[:labels], train['label'][:labels]
      values.append(accuracy(chosen, of_test, seed))
  size, steps = of_train.shape[1], budget.steps if name == 'trained critic' else 0
  return [
    Row(setting.data, name, labels, size, np.array(values), steps)
    for labels, values in found.items()
  ]


def fit(setting: Setting, budget: Budget, data: dataset.Dataset) -> list[Row]:
  """Pixels, random filters and trained ones, of one data set."""
  method, critic = make_method(data.spec, setting.features)
  arrays = {}
  for split, num in (('train', None), ('test', TEST)):
    raw = {k: v[:num] for k, v in data.arrays(split).items() if k in ('x', 'label')}
    made = dataset.transformed(data.spec, raw)
    arrays[split] = {k: np.asarray(v) for k, v in made.items()}

  def draw(key):
    index = jax.random.randint(key, (BATCH,), 0, len(arrays['train']['x']))
    return {'x': jnp.asarray(arrays['train']['x'])[index]}

  train = functools.partial(
    seeds_lib.train, method, draw, seeds=budget.seeds, first_seed=FIRST_SEED,
    dispatch=DISPATCH,
  )  # fmt: skip
  trained = seeds_lib.step_lib.model(train(steps=budget.steps).state)
  keys = jax.random.split(jax.random.key(FIRST_SEED), budget.seeds)
  batch = draw(keys[0])
  begun = jax.jit(jax.vmap(lambda key: method.init(key, batch)))(keys)

  def of(models):
    return lambda seed, x: maps(critic, jax.tree.map(lambda v: v[seed], models), x)

  kinds = {
    'pixels': lambda seed, x: x.reshape(len(x), -1),
    'untrained critic': of(base.Model(begun.params, begun.extra)),
    'trained critic': of(trained),
  }
  return [
    row
    for name, features_of in kinds.items()
    for row in rows_of(name, features_of, setting, arrays, budget)
  ]


def cells(row: Row) -> list[str]:
  """Mean +- standard error over seeds."""
  found = seeds_lib.mean_and_error(row.accuracy, '.3f')
  seeds = str(len(row.accuracy))
  sizes = [str(row.labels), str(row.size)]
  return [row.data, row.features, *sizes, found, seeds, str(row.steps)]


def run(budget_name: str, *, data_dir: str | None) -> dict[str, Any]:
  """Trains, reads classes and prints the table.

  Args:
    budget_name: one of `BUDGETS`.
    data_dir: of prepared data sets; without it, those embedded alone.

  Returns:
    Every number, ready for JSON, and the printed table.
  """
  budget, began = BUDGETS[budget_name], time.perf_counter()
  print(
    f'DCGAN: uniform latents of {LATENT}, batches of {BATCH}, Adam 2e-4, b1 0.5, as in'
    ' the paper; a linear L2 support vector machine on standardized features, its cost'
    f' one of {COSTS} by a fifth of the labelled rows; at most {TEST:,} test images.'
    f' Seeds from {FIRST_SEED}, of the networks and of the labelled rows; mean +-'
    ' standard error over seeds.',
    flush=True,
  )
  rows = []
  for setting in budget.settings:
    if setting.data.startswith('tfds:') and data_dir is None:
      continue
    data = registry.load(setting.data, data_dir=data_dir)
    for row in fit(setting, budget, data):
      rows.append(row)
      print('  ' + ' | '.join(cells(row)), flush=True)
  tables = {'accuracy': report.Table(HEADER, [cells(row) for row in rows])}
  print('\n' + report.text_table(*tables['accuracy']))
  seconds = time.perf_counter() - began
  print(f'{seconds:.0f} seconds in all')
  return {
    'tables': tables,
    'budget': budget_name,
    'versions': report.versions(),
    'rows': [row._asdict() | {'accuracy': row.accuracy.tolist()} for row in rows],
    'seconds': seconds,
  }
