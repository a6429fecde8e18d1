"""How a class enters a GAN: agreement with it, and the diversity left within it.

On digits the same generator is trained against a critic of images beside their class, a
projection critic and an auxiliary classifier. Digits hardly overlap; three Gaussians on
a line do, and there an auxiliary classifier draws the classes apart.
"""

import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.configs import ac_gan_digits, conditional_gan_digits
from experiments.configs.parts import evaluations, games
from experiments.ledger import seeds as seeds_lib
from gm_jax import base, conditions, priors
from gm_jax.data import dataset, registry
from gm_jax.methods import ac_gan, gan
from gm_jax.models import joint, mlp
from gm_jax.tasks import classes, quality, results
from gm_jax.training import plots, report

FIRST_SEED = 1100
DISPATCH = 50
BATCH = 64
HEADER = (
  'class enters by', 'agreement', 'diversity', 'Frechet', 'seeds', 'steps', 'seconds',
)  # fmt: skip
LINE_HEADER = (
  'class enters by', 'mean of 0', 'mean of 2', 'std of 0', 'std of 1', 'std of 2',
  'seeds', 'steps',
)  # fmt: skip
# Three Gaussians on a line, of which each overlaps its neighbors.
MEANS, STD = (-1.5, 0.0, 1.5), 1.0
DRAWS = 20_000  # of each on the line


class Budget(NamedTuple):
  """How much is trained."""

  seeds: int
  steps: int
  line_steps: int


BUDGETS = {
  'smoke': Budget(2, 100, 200),
  'laptop': Budget(3, 3000, 4000),
  'full': Budget(10, 20_000, 40_000),
}


class Row(NamedTuple):
  """One line of a table, [S] by name."""

  name: str
  numbers: dict[str, np.ndarray]
  steps: int
  seconds: float


def fits() -> dict[str, tuple[Any, str | None]]:
  """The rows: a config's module and its argument."""
  return {
    'concatenation': (conditional_gan_digits, 'concatenation'),
    'normalization, projection': (conditional_gan_digits, 'projection'),
    'auxiliary classifier': (ac_gan_digits, None),
    'auxiliary classifier, weight 4': (ac_gan_digits, '4.0'),
  }


def line_methods() -> dict[str, base.Method]:
  """The rows on the line: generators and critics that are alike but for the class."""
  tx = optax.adam(1e-3, b1=0.5)
  penalty = games.r1(0.1)
  common = {'prior': priors.normal(4), 'penalty': penalty}

  def generator():
    return joint.Conditioned(mlp.MLP((64, 64, 1)))

  def conditional(critic):
    return gan.gan(
      generator(), critic, tx, tx, condition=conditions.by_class(3), **common
    )

  def auxiliary(weight):
    critic, sizes = mlp.MLP((64, 64, 4)), {'num_classes': 3, 'class_weight': weight}
    return ac_gan.ac_gan(generator(), critic, tx, tx, **sizes, **common)

  return {
    'concatenation': conditional(joint.Conditioned(mlp.MLP((64, 64, 1)))),
    'projection': conditional(joint.Projection(mlp.MLP((64, 64)))),
    'auxiliary classifier': auxiliary(1.0),
    'auxiliary classifier, weight 4': auxiliary(4.0),
  }


def on_the_line(key: base.Array, num: int) -> base.Batch:
  """Draws of the three Gaussians, x [num, 1], and which they are of."""
  label_key, x_key = jax.random.split(key)
  label = jax.random.randint(label_key, (num,), 0, len(MEANS))
  noise = STD * jax.random.normal(x_key, (num, 1))
  return {'x': jnp.array(MEANS)[label][:, None] + noise, 'label': label}


def line_score(method: base.Method) -> Callable:
  """(model, key) -> means and standard deviations by class."""

  def score(model, key):
    label = jnp.repeat(jnp.arange(len(MEANS)), DRAWS)
    x = method.sample(model, key, len(label), condition=label).reshape(-1, DRAWS)
    means = {f'mean_{k}': x[k].mean() for k in range(len(MEANS))}
    return means | {f'std_{k}': x[k].std() for k in range(len(MEANS))}

  return score


def _line(name: str, method: base.Method, budget: Budget) -> Row:
  trained = seeds_lib.train(
    method, lambda key: on_the_line(key, BATCH), seeds=budget.seeds,
    first_seed=FIRST_SEED, steps=budget.line_steps, dispatch=DISPATCH, ema_decay=0.999,
  )  # fmt: skip
  scores = seeds_lib.scored(trained, line_score(method))
  return Row(name, scores, budget.line_steps, trained.seconds)


def digits_evaluation(data: dataset.Dataset) -> evaluations.Evaluation:
  """Agreement, diversity and the Frechet distance, all of the test split's classes."""
  distances = evaluations.image_distances(data)
  found = evaluations.independent_classifier(data)
  splits = evaluations.splits_of(data, {'test': quality.TEST})
  classify = functools.partial(found.logits, found.params)
  accuracy = float(found.accuracy)

  def evaluation(method, model, key):
    args = method, model, key, splits, data.spec
    num = len(splits['test']['x'])
    x, _ = classes.labelled_samples(*args, num)
    frechet = distances(x)['frechet'], f'estimate by a small classifier, N = {num}'
    result = classes.agreement(*args, classify=classify, accuracy=accuracy)
    return base.Result({**result.values, 'frechet': frechet})

  return evaluation


def _digits(
  name: str, data: dataset.Dataset, evaluation: evaluations.Evaluation, budget: Budget
) -> tuple[Row, np.ndarray]:
  experiment, arg = fits()[name]
  config = experiment.get_config(arg)
  config.steps = budget.steps
  method = experiment.make_method(config, data.spec)
  train = dataset.transformed(data.spec, data.arrays('train'))

  def draw(key):
    index = jax.random.randint(key, (config.batch_size,), 0, len(train['x']))
    return {k: jnp.asarray(train[k])[index] for k in ('x', 'label')}

  trained = seeds_lib.train(
    method, draw, seeds=budget.seeds, first_seed=FIRST_SEED, steps=budget.steps,
    dispatch=DISPATCH, ema_decay=config.ema_decay,
  )  # fmt: skip
  scores = seeds_lib.scored(
    trained, lambda model, key: results.numbers(evaluation(method, model, key))
  )
  model = jax.tree.map(lambda x: x[0], seeds_lib.step_lib.model(trained.state))
  label = jnp.tile(jnp.arange(10), 8)
  samples = method.sample(model, jax.random.key(0), len(label), condition=label)
  return Row(name, scores, budget.steps, trained.seconds), np.asarray(samples)


def cells(row: Row) -> list[str]:
  """Mean +- standard error over seeds, on digits."""
  forms = (('agreement', '.3f'), ('diversity', '.3f'), ('frechet', '.2f'))
  found = [seeds_lib.mean_and_error(row.numbers[name], form) for name, form in forms]
  count = len(np.atleast_1d(row.numbers['agreement']))
  return [row.name, *found, str(count), str(row.steps), f'{row.seconds:.0f}']


def line_cells(row: Row) -> list[str]:
  """Mean +- standard error over seeds, on the line."""
  names = ('mean_0', 'mean_2', 'std_0', 'std_1', 'std_2')
  found = [seeds_lib.mean_and_error(row.numbers[name], '.2f') for name in names]
  return [
    row.name,
    *found,
    str(len(np.atleast_1d(row.numbers['std_0']))),
    str(row.steps),
  ]


def run(budget_name: str, *, out: pathlib.Path) -> dict[str, Any]:
  """Trains every row, prints the tables and draws samples by class.

  Args:
    budget_name: one of `BUDGETS`.
    out: folder for pictures.

  Returns:
    Every number, ready for JSON, and the printed tables by name.
  """
  budget, began = BUDGETS[budget_name], time.perf_counter()
  data = registry.load('digits')
  print(
    'Digits: a DCGAN generator of base width 64 against dense critics 256-256, by the'
    ' configs conditional_gan_digits and ac_gan_digits: non-saturating, R1 of weight 1,'
    ' Adam 1e-3, b1 0.5, cosine decay to 0, parameters averaged at 0.99. Agreement:'
    ' samples that a classifier of another seed, trained on the train split, reads as'
    ' the class asked for; diversity: mean distance of two samples of a class, over'
    ' that of two test images of it; 2,000 samples. Frechet distance in a small'
    ' classifier, as many samples as test images, of their classes.'
    f' On the line: Gaussians of means {MEANS} and standard deviation {STD:g}, all'
    f' networks dense 64-64, Adam 1e-3, R1 of weight 0.1, parameters averaged at 0.999;'
    f' {DRAWS:,} draws of each class. Seeds from {FIRST_SEED}, at once; mean +-'
    ' standard error over seeds. Seconds are of training alone, all seeds together.',
    flush=True,
  )
  line = []
  for name, method in line_methods().items():
    line.append(_line(name, method, budget))
    print(f'  line: {" | ".join(line_cells(line[-1]))}', flush=True)
  evaluation = digits_evaluation(data)
  rows, pictures = [], {'test images': _real(data)}
  for name in fits():
    row, samples = _digits(name, data, evaluation, budget)
    rows.append(row)
    pictures[name] = samples
    print(f'  digits: {" | ".join(cells(row))}', flush=True)
  tables = {
    'digits': report.Table(HEADER, [cells(row) for row in rows]),
    'line': report.Table(
      LINE_HEADER,
      [['data', *(f'{x:.2f}' for x in (MEANS[0], MEANS[2], *[STD] * 3)), '', '']]
      + [line_cells(row) for row in line],
    ),
  }
  for name, table in tables.items():
    print(f'\n{name}\n' + report.text_table(*table))
  path = out / 'conditional_gans.png'
  plots.side_by_side(path, pictures, columns=10)
  seconds = time.perf_counter() - began
  print(f'samples: {path}; {seconds:.0f} seconds in all')
  return {
    'tables': tables,
    'budget': budget_name,
    'versions': report.versions(),
    'rows': [
      {'name': row.name, 'steps': row.steps, 'seconds': row.seconds}
      | {name: np.asarray(v).tolist() for name, v in row.numbers.items()}
      for row in [*rows, *line]
    ],
    'seconds': seconds,
  }


def _real(data: dataset.Dataset) -> np.ndarray:
  """Test images, a column a class."""
  arrays = data.arrays('test')
  x, label = dataset.transformed(data.spec, arrays)['x'], np.asarray(arrays['label'])
  by_class = [np.flatnonzero(label == k)[:8] for k in range(10)]
  return np.asarray(x)[np.stack(by_class, axis=1).ravel()]
