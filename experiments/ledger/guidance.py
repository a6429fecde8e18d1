"""Guidance: what is gained of fidelity, and what is lost of diversity.

One trained model a row's group, its samples guided by more and more. Guided by a
classifier, away from the model without its condition, or away from its earlier self.
"""

import functools
import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import quiet
from experiments.configs import (
  classifier_guidance_digits,
  edm_digits,
  edm_glyphs,
  latent_diffusion_glyphs,
)
from experiments.configs.parts import evaluations
from gm_jax.metrics import prdc
from gm_jax.tasks import classes, quality, results
from gm_jax.training import plots, report
from gm_jax.training import setup as setup_lib
from gm_jax.training import step as step_lib

HEADER = ('model', 'guided by', 'weight', 'class', 'diversity', 'precision', 'recall',
          'Frechet', 'N', 'steps', 'seconds')  # fmt: skip
SHOWN = 20
NEIGHBORS = 5  # of precision and recall
MOST = 1000  # samples, and test images beside them


class Case(NamedTuple):
  """A config, what is changed of it, and options of its samples by row."""

  name: str
  module: Any
  arg: str | None
  changes: dict
  rows: dict[tuple[str, str], dict]  # (guided by, weight): options


def free(*weights: float) -> dict:
  """Rows of classifier-free guidance."""
  return {('without the class', f'{w:g}'): {'guidance': w} for w in weights}


DIGITS = (
  Case('EDM', edm_digits, 'label', {'keep_step': 600}, {
    **free(1.0, 2.0, 4.0),
    ('the same, ratios .2 to 5', '4'): {'guidance': 4.0, 'low': 0.2, 'high': 5.0},
    ('step 600', '1.5'): {'guidance': 1.5, 'weak': 'earlier'},
    ('step 600', '2'): {'guidance': 2.0, 'weak': 'earlier'},
  }),
  Case('EDM without classes', classifier_guidance_digits, None, {}, {
    ('a classifier', f'{w:g}'): {'guidance': w} for w in (1.0, 2.0, 4.0)
  }),
)  # fmt: skip
GLYPHS = (
  Case('EDM, 16 x 16', edm_glyphs, None, {}, free(1.0, 2.0, 4.0)),
  Case('latent diffusion', latent_diffusion_glyphs, None, {}, free(1.0, 2.0, 4.0)),
)
FASHION = (
  Case('EDM, 16 x 16', edm_glyphs, None,
       {'data': 'tfds:fashion_mnist?size=16', 'data_std': 0.0}, free(1.0, 2.0, 4.0)),
  Case('latent diffusion', latent_diffusion_glyphs, None,
       {'data': 'tfds:fashion_mnist'}, free(1.0, 2.0, 4.0)),
)  # fmt: skip
BUDGETS = {'smoke': 0.01, 'laptop': 1.0, 'full': 4.0}  # of the configs' steps


def measured(method: Any, model: Any, data: Any, reader: Any, distances: Any) -> tuple:
  """Numbers of samples of the test split's classes, and some of the samples.

  Args:
    method: with its options set.
    model: trained.
    data: a data set of images with classes.
    reader: a classifier of another seed.
    distances: of `quality.image_distances`.

  Returns:
    Numbers by name, and samples of the classes in turn `[SHOWN, H, W, C]`.
  """
  arrays, key = evaluations.splits_of(data, {'test': MOST}), jax.random.key(1)
  test = results.in_model_space(data.spec, arrays['test'])
  num = len(test['x'])
  classify = functools.partial(reader.logits, reader.params)

  @jax.jit
  def run(model, key):
    x, _ = classes.labelled_samples(method, model, key, arrays, data.spec, num)
    drawn = method._replace(sample=lambda *args, condition: x)  # not a second time
    found = classes.agreement(
      drawn, model, key, arrays, data.spec,
      classify=classify, accuracy=float(reader.accuracy), num=num,
    )  # fmt: skip
    x = quality.scaled(data.spec, x)
    features = functools.partial(reader.features, reader.params)
    near = prdc.prdc(
      features(quality.scaled(data.spec, test['x'])), features(x), k=NEIGHBORS
    )
    numbers = {name: value for name, (value, _) in found.values.items()}
    numbers |= {'precision': near.precision, 'recall': near.recall}
    label = jnp.arange(SHOWN) % data.spec.num_classes
    shown = method.sample(model, jax.random.key(2), SHOWN, condition=label)
    return numbers | distances(x), quality.scaled(data.spec, shown)

  numbers, shown = run(model, key)
  return {name: float(value) for name, value in numbers.items()} | {'N': num}, shown


def fit(
  case: Case, part: float, data_dir: str | None = None
) -> tuple[list[tuple], dict[str, np.ndarray]]:
  """Trains a case's config for a part of its steps, and measures each of its rows.

  Returns:
    Rows (model, guided by, weight, numbers, steps, seconds), and samples by row.
  """
  config = case.module.get_config(case.arg)
  config.update(case.changes)
  dispatch = config.steps_per_dispatch
  config.steps = max(2 * dispatch, round(config.steps * part) // dispatch * dispatch)
  for leaf in ('evaluate', 'sample', 'checkpoint'):
    config[f'{leaf}_every'] = 0
  options = setup_lib.Options(data_dir)
  setup = setup_lib.prepare(case.module, config, options, evaluates=True)
  trained = quiet.train_config(setup)
  phase = setup.make_phases(0)[-1]
  model, data = step_lib.model(trained.state, averaged=True), setup.data
  reader = evaluations.independent_classifier(data)
  distances, rows, pictures = evaluations.image_distances(data), [], {}
  for (by, weight), options in case.rows.items():
    sample = functools.partial(phase.method.sample, **options)
    method = phase.method._replace(sample=sample)
    numbers, shown = measured(method, model, data, reader, distances)
    seconds = quiet.seconds(trained)
    rows.append((case.name, by, weight, numbers, config.steps, seconds))
    pictures[f'{case.name}, {by}, {weight}'] = np.clip(np.asarray(shown), -1, 1)
    print(f'  {" | ".join(cells(rows[-1]))}', flush=True)
  return rows, pictures


def cells(row: tuple) -> list[str]:
  """A line of the table."""
  name, by, weight, numbers, steps, seconds = row
  fractions = (numbers[n] for n in ('agreement', 'diversity', 'precision', 'recall'))
  end = f'{numbers["frechet"]:.1f}', str(numbers['N']), str(steps), f'{seconds:.0f}'
  return [name, by, weight, *(f'{value:.3f}' for value in fractions), *end]


def run(
  budget_name: str, *, out: pathlib.Path, data_dir: str | None = None
) -> dict[str, Any]:
  """Trains every model once, prints the tables and draws samples by weight.

  Args:
    budget_name: one of `BUDGETS`.
    out: folder for pictures.
    data_dir: of TensorFlow Datasets, for Fashion-MNIST, or None.

  Returns:
    Every number, ready for JSON, and the printed tables by name.
  """
  began, tables, numbers = time.perf_counter(), {}, {}
  print(
    'Samples of the classes of the test split: read as their class by a classifier of'
    ' another seed, distance of two of a class over that of real ones, precision and'
    f" recall ({NEIGHBORS} neighbors, in that classifier's features), and Frechet"
    ' distance. One seed.',
    flush=True,
  )
  groups = {'digits': DIGITS, 'glyphs': GLYPHS}
  if data_dir:
    groups['fashion_mnist'] = FASHION
  for group, cases in groups.items():
    rows, pictures = [], {}
    for case in cases:
      found, shown = fit(case, BUDGETS[budget_name], data_dir)
      rows += found
      pictures |= shown
    for shape in {a.shape[1:] for a in pictures.values()}:
      alike = {name: a for name, a in pictures.items() if a.shape[1:] == shape}
      path = out / f'guidance_{group}_{shape[0]}.png'
      plots.side_by_side(path, alike, columns=SHOWN, sets=1)
      print(f'samples: {path}', flush=True)
    tables[group] = report.Table(HEADER, [cells(row) for row in rows])
    numbers[group] = [list(row) for row in rows]
    print('\n' + report.text_table(*tables[group]))
  return {
    'tables': tables,
    'budget': budget_name,
    'versions': report.versions(),
    'rows': numbers,
    'seconds': time.perf_counter() - began,
  }
