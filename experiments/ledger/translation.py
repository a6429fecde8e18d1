"""Images between domains without pairs: CycleGAN and StarGAN, and what each term does.

Every model is that of its config, trained on faces none of whose characters is seen in
two of them; characters of the test split are drawn in all faces, and give the truth.
CycleGAN also goes from handwritten digits to bold ones, whose pixels are each the
largest of three: there what is made of a test image is known.
"""

import pathlib
import time
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments import quiet
from experiments.configs import cycle_gan_glyphs, star_gan_glyphs
from experiments.ledger import seeds as seeds_lib
from gm_jax.data import dataset, splits
from gm_jax.tasks import results
from gm_jax.training import inference, plots, report
from gm_jax.training import setup as setup_lib

SHOWN = 12  # images beside each other in the picture, of three other faces four each
TWO = ('to_y', 'to_x', 'back_to_x', 'back_to_y')
MANY = ('domain_accuracy', 'label_kept', 'paired', 'back')
TWO_HEADER = ('', 'serif to bold', 'bold to serif', 'serif back', 'bold back', 'N',
              'steps', 'seconds')  # fmt: skip
DIGITS_HEADER = ('', 'to bold', 'from bold', 'back', 'bold back', 'N', 'steps',
                 'seconds')  # fmt: skip
MANY_HEADER = ('', 'face as asked for', 'same digit', 'error', 'back again', 'N',
               'steps', 'seconds')  # fmt: skip
# Rows: a config's module, its argument and what is changed.
CYCLE = {
  'cycle alone': (cycle_gan_glyphs, 'cycle', {}),
  'GAN alone': (cycle_gan_glyphs, 'gan', {}),
  'CycleGAN': (cycle_gan_glyphs, None, {}),
}
# Handwritten digits and bold ones. An identity term, or a heavy way back, leaves images
# of 8 x 8 pixels as they are.
BOLD = {'data': 'unpaired?paired=true:digits|digits?change=bold', 'batch_size': 16}
DIGITS = {
  'cycle alone': (cycle_gan_glyphs, 'cycle', BOLD),
  'GAN alone': (cycle_gan_glyphs, 'gan', BOLD),
  'CycleGAN': (
    cycle_gan_glyphs, None, {**BOLD, 'cycle_weight': 3.0, 'identity_weight': 0.0}
  ),
}  # fmt: skip
STAR = {
  'StarGAN without noise': (star_gan_glyphs, 'plain', {}),
  'StarGAN of two data sets': (star_gan_glyphs, None, {'sizes': (2, 2)}),
  'StarGAN': (star_gan_glyphs, None, {}),
}


class Budget(NamedTuple):
  """A part of the configs' steps, and seeds of two faces; of four there is one."""

  part: float
  seeds: int


BUDGETS = {
  'smoke': Budget(0.01, 1), 'laptop': Budget(1.0, 3), 'full': Budget(1.0, 5),
}  # fmt: skip


class Row(NamedTuple):
  """What came of a model."""

  name: str
  numbers: dict[str, list[float]]  # by seed
  size: int  # images that the numbers are of
  steps: int
  seconds: float
  images: list[np.ndarray]  # input, output, back again, in [-1, 1]


def fit(
  name: str, module: Any, arg: str | None, changes: dict, part: float, seeds: int = 1
) -> Row:
  """Trains a config for a part of its steps, from every seed, and measures it."""
  rows = []
  for seed in range(seeds):
    config = module.get_config(arg)
    dispatch = config.steps_per_dispatch
    config.steps = max(dispatch, round(config.steps * part) // dispatch * dispatch)
    for leaf in ('evaluate', 'sample', 'checkpoint'):
      config[f'{leaf}_every'] = 0
    config.seed = seed
    for leaf, value in changes.items():
      config[leaf] = value
    setup = setup_lib.prepare(module, config, evaluates=True)
    trained = quiet.train_config(setup)
    rows.append(measured(name, setup, trained.state, quiet.seconds(trained)))
  numbers = {key: [row.numbers[key][0] for row in rows] for key in rows[0].numbers}
  return rows[0]._replace(
    numbers=numbers, seconds=sum(row.seconds for row in rows) / seeds
  )


def measured(name: str, setup: setup_lib.Setup, state: Any, seconds: float) -> Row:
  """The numbers of a trained state, and some translations.

  Args:
    name: of the row.
    setup: with the config's evaluation.
    state: at the end.
    seconds: of training.
  """
  phase = setup.make_phases(0)[-1]
  numbers, kinds = inference.scorer(setup, phase)(state)
  numbers = {key: [float(value)] for key, value in numbers.items()}
  translate = results.query_of(phase.method, 'translate')
  inputs, there, back = shown(setup.data)

  def draw(model, key):
    out = translate(model, key, inputs, condition=there)
    return inputs, out, translate(model, key, out, condition=back)

  images = inference.compiled(setup, draw)(state)
  size = int(next(iter(kinds.values())).split('N = ')[1].split()[0])
  print(f'  {name}: {numbers}', flush=True)
  return Row(name, numbers, size, setup.settings.steps, seconds, list(images))


def shown(data: dataset.Dataset) -> tuple[np.ndarray, Any, Any]:
  """Images of the test split, the domains that they go to and those of the way back."""
  raw = data.arrays(splits.PAIRS, SHOWN)
  if 'y' in raw:
    return dataset.transformed(data.spec, raw)['x'], 1, 0
  count = raw['x'].shape[1]
  first = dataset.transformed(data.spec, {'x': raw['x'][:, 0]})['x']
  each = SHOWN // (count - 1)
  inputs = jnp.tile(first[:each], (count - 1, 1, 1, 1))  # the first face's
  there = jnp.repeat(jnp.arange(1, count), each)
  return inputs, there, jnp.zeros_like(there)


def cells(row: Row, names: tuple[str, ...]) -> list[str]:
  """A line of a table; of an image that is left as it is there is no way back."""
  found = [shown_number(row.numbers[n]) if n in row.numbers else '' for n in names]
  seconds = f'{row.seconds:.0f}' if row.seconds else ''
  end = [str(row.steps) if row.steps else '', seconds]
  return [row.name, *found, str(row.size), *end]


def shown_number(values: list[float]) -> str:
  """A number, or the mean of several seeds' and its standard error."""
  if len(values) == 1:
    return f'{values[0]:.3f}'
  return seeds_lib.mean_and_error(np.asarray(values), '.3f')


def unchanged(rows: list[Row], names: tuple[str, ...]) -> Row:
  """The line of images that are left as they are, whose errors every model has."""
  error = rows[-1].numbers['unchanged'][:1]  # of the data, whatever the seed
  return Row('left as it is', {n: error for n in names}, rows[-1].size, 0, 0.0, [])


def run(budget_name: str, *, out: pathlib.Path) -> dict[str, Any]:
  """Trains every model, prints the tables and draws translations.

  Args:
    budget_name: one of `BUDGETS`.
    out: folder for the picture.

  Returns:
    Every number, ready for JSON, and the printed tables by name.
  """
  began, budget = time.perf_counter(), BUDGETS[budget_name]
  two = [fit(name, *row, *budget) for name, row in CYCLE.items()]
  digits = [fit(name, *row, *budget) for name, row in DIGITS.items()]
  many = [fit(name, *row, budget.part) for name, row in STAR.items()]
  found = reported(two, digits, many, budget_name, out)
  return {**found, 'seconds': time.perf_counter() - began}


def reported(
  two: list[Row],
  digits: list[Row],
  many: list[Row],
  budget_name: str,
  out: pathlib.Path,
) -> dict[str, Any]:
  """Prints the tables of rows, and draws translations of the last of each.

  Args:
    two: rows of two faces.
    digits: of digits and bold ones.
    many: of many.
    budget_name: one of `BUDGETS`.
    out: folder for the picture.
  """
  print(
    'Digits, configs cycle_gan_glyphs (28 x 28 pixels, handwritten 8 x 8) and'
    f' star_gan_glyphs (32 x 32), seeds from 0, {len(two[0].numbers["unchanged"])} of'
    ' two domains, mean +- standard error, and one of four. Errors are mean absolute'
    ' differences of a pixel in [-1, 1], from the same digit in the other domain and,'
    ' on the way back, from the image itself. Faces and digits are read by classifiers'
    ' of another seed, trained on the train split. Seconds are of training alone, a'
    ' seed.',
    flush=True,
  )
  tables = {
    'two faces': report.Table(
      TWO_HEADER,
      [cells(row, TWO) for row in [unchanged(two, ('to_y', 'to_x')), *two]],
    ),
    'digits': report.Table(
      DIGITS_HEADER,
      [cells(row, TWO) for row in [unchanged(digits, ('to_y', 'to_x')), *digits]],
    ),
    'four faces': report.Table(
      MANY_HEADER, [cells(row, MANY) for row in [unchanged(many, ('paired',)), *many]]
    ),
  }
  for name, table in tables.items():
    print(f'\n{name}\n' + report.text_table(*table))
  path = out / 'translation.png'
  draw(path, {row.name: row.images for row in (two[-1], many[-1])})
  print(f'input, output, back again: {path}')
  return {
    'tables': tables,
    'budget': budget_name,
    'versions': report.versions(),
    'rows': [row._replace(images=None)._asdict() for row in [*two, *digits, *many]],
  }


def draw(path: pathlib.Path, images: dict[str, list[np.ndarray]]) -> None:
  """Draws rows of input, output and back again, the models beside each other."""
  plots.side_by_side(
    path,
    {name: np.concatenate(rows) for name, rows in images.items()},
    columns=SHOWN,
    sets=1,
  )
