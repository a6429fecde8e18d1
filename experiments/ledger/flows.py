"""Flows of toys whose density is known, and of images beside models of their levels.

Every row is a config of `experiments/configs` and one of its arguments, trained and
then scored on a split that it never saw. Of a toy what is left to its own entropy is
known; of images a density of noisy pixels bounds the mass of levels.
"""

import pathlib
import time
from typing import Any, NamedTuple

import numpy as np

from experiments import quiet
from experiments.configs import (
  flow_vae_digits,
  gaussian_mixture_digits,
  glow_digits,
  maf_digits,
  nade_digits,
  pixelcnn_digits,
  spline_flow_toy,
  tarflow_digits,
  variational_flow_digits,
)
from experiments.configs.parts import evaluations
from gm_jax import statistics
from gm_jax.data import registry
from gm_jax.tasks import density
from gm_jax.training import inference, plots, report
from gm_jax.training import setup as setup_lib

TOYS = ('toy:moons', 'toy:pinwheel', 'toy:checkerboard', 'toy:ring?std=0.2',
        'toy:funnel?dim=8&std=1.0', 'toy:grid?side=3&std=0.3')  # fmt: skip
LAYERS = ('spline', 'spline_maf', 'maf', 'realnvp', 'nice', 'planar')
GAUSSIAN = 'Gaussian of the moments'
TOY_STEPS = 1500
TOY_TEST = 10_000  # points
SAMPLES = 20  # of a model in the picture
LEVELS = {'data': 'digits?transform=levels'}
# (row, config, its argument, what of it is changed)
DIGITS = (
  ('NADE', nade_digits, None, LEVELS | {'likelihood': 'categorical', 'steps': 2000}),
  ('PixelCNN', pixelcnn_digits, None, LEVELS),
  ('RealNVP', glow_digits, 'realnvp', {}),
  ('Glow', glow_digits, None, {}),
  ('Glow, learned noise', variational_flow_digits, None, {}),
  ('MAF', maf_digits, None, {}),
  ('spline couplings', maf_digits, 'spline', {}),
  ('TarFlow', tarflow_digits, None, {}),
  ('VAE, flow prior and posterior', flow_vae_digits, None, {}),
)
FASHION = 'tfds:fashion_mnist?validation=5000'
TEN_MINUTES = {
  'data': f'{FASHION}&transform=logit', 'steps': 1500, 'steps_per_dispatch': 50,
  'evaluate_every': 300, 'width': 64,
}  # fmt: skip
EPOCHS = {
  'data': f'{FASHION}&transform=dequantization', 'steps': 660, 'batch_size': 1000,
  'steps_per_epoch': 55, 'steps_per_dispatch': 55, 'evaluate_every': 220,
}  # fmt: skip
CLOTHES = (
  ('30 diagonal Gaussians', gaussian_mixture_digits, None, EPOCHS),
  ('RealNVP', glow_digits, 'realnvp', TEN_MINUTES),
  ('Glow', glow_digits, None, TEN_MINUTES),
)
TEMPERATURES = (0.0, 0.5, 0.7, 1.0, 1.3)  # in the picture of Glow's digits
TOY_HEADER = ('layers', *TOYS)
IMAGES_HEADER = ('model', 'nats', 'bits a number', 'kind', 'best step', 'steps',
                 'seconds')  # fmt: skip


class Budget(NamedTuple):
  """How much is trained: parts of the steps, and toys."""

  part: float
  toys: tuple[str, ...]


BUDGETS = {
  'smoke': Budget(0.02, TOYS[:1]),
  'laptop': Budget(1.0, TOYS),
  'full': Budget(1.0, TOYS),
}


def prepared(
  module, arg, changes, part: float, data_dir: str | None = None
) -> setup_lib.Setup:
  """A config with its changes, a part of its steps, evaluated at its own pace."""
  config = module.get_config(arg)
  for name, value in changes.items():
    config[name] = value
  if part < 1 and 'steps_per_epoch' not in config:
    config.steps_per_dispatch = 10
  unit = config.steps_per_dispatch
  config.steps = max(1, round(config.steps * part / unit)) * unit
  config.sample_every = config.checkpoint_every = 0
  config.log_every = unit
  return setup_lib.prepare(module, config, setup_lib.Options(data_dir), evaluates=True)


def toy(layers: str, data: str, part: float) -> dict[str, Any]:
  """What a flow of a toy lacks to its density, in nats, and its error."""
  changes = {'data': data, 'steps': TOY_STEPS, 'evaluate_every': 0}
  setup = prepared(spline_flow_toy, layers, changes, part)
  known, arrays = registry.toy_density(data), setup.data.arrays('test', TOY_TEST)

  def evaluation(method, model, key):
    return density.known_density(
      method, model, key, {'test': arrays}, setup.data.spec, known=known.log_prob
    )

  trained = quiet.train_config(setup)
  scorer = inference.scorer(
    setup._replace(evaluation=evaluation), setup.make_phases(0)[0]
  )
  found, _ = scorer(trained.state)
  return {
    'layers': layers, 'data': data, 'steps': setup.settings.steps,
    'seconds': quiet.seconds(trained),
    **{name: float(value) for name, value in found.items()},
  }  # fmt: skip


def gaussian(data: str) -> dict[str, Any]:
  """What the Gaussian of the data's moments lacks: where every flow begins, nearly."""
  known, found = registry.toy_density(data), registry.load(data)
  train = found.arrays('train', TOY_TEST)['x']
  test = found.arrays('test', TOY_TEST)['x']
  z = (test - train.mean(axis=0)) / train.std(axis=0)
  nats = -0.5 * (z**2 + np.log(2 * np.pi)).sum(axis=1) - np.log(train.std(axis=0)).sum()
  mean, error = statistics.mean_and_error(np.asarray(known.log_prob(test)) - nats)
  return {
    'layers': GAUSSIAN, 'data': data, 'steps': 0, 'seconds': 0.0,
    'kl_estimate': float(mean), 'kl_estimate_error': float(error),
  }  # fmt: skip


def images(
  name: str, module, arg, changes, part: float, data_dir: str | None = None
) -> dict[str, Any]:
  """A model of images at its best evaluation on the validation split."""
  changes = {'evaluate_every': 100, **changes}
  setup = prepared(module, arg, changes, part, data_dir)
  data = setup.data
  splits = evaluations.splits_of(data, evaluations.HELD_OUT)

  def evaluation(method, model, key):
    return density.density(method, model, key, splits, data.spec)

  setup = setup._replace(evaluation=evaluation)
  phase = setup.make_phases(0)[0]
  score = inference.scorer(setup, phase)
  temperatures = TEMPERATURES if (name, data_dir) == ('Glow', None) else ()
  draw = {None: inference.drawer(setup, phase, SAMPLES)}
  for value in temperatures:
    drawing = inference.Drawing(options={'temperature': value})
    draw[value] = inference.drawer(setup, phase, SAMPLES, drawing)
  best: dict[str, Any] = {}

  def evaluate(phase, state):
    found, _ = score(state)
    key = next(k for k in found if k.startswith('validation_nll'))
    ending = key.removeprefix('validation_nll')
    if not best or found[key] < best['validation']:
      best.update(
        name=name, step=int(state.step), validation=float(found[key]),
        nats=float(found[f'nll{ending}']), error=float(found[f'nll{ending}_error']),
        bits=float(found[f'bits_per_dim{ending}']),
        kind='bound' if ending.startswith('_bound') else 'exact',
        samples={
          key: drawn(state) / (data.spec.num_levels - 1) * 2 - 1
          for key, drawn in draw.items()
        },
      )  # fmt: skip
    return {}

  trained = quiet.train_config(setup, evaluate=evaluate)
  return {**best, 'steps': setup.settings.steps, 'seconds': quiet.seconds(trained)}


def toy_line(layers: str, rows: list[dict]) -> list[str]:
  """A line of the table of toys, a blank where one was not tried."""
  by_toy = {row['data']: row for row in rows if row['layers'] == layers}
  return [layers, *(
    f'{by_toy[d]["kl_estimate"]:.3f} +- {by_toy[d]["kl_estimate_error"]:.3f}'
    if d in by_toy else '' for d in TOYS
  )]  # fmt: skip


def images_line(row: dict) -> list[str]:
  """A line of a table of images."""
  nats = f'{row["nats"]:.2f} +- {row["error"]:.2f}'
  steps = str(row['step']), str(row['steps']), f'{row["seconds"]:.0f}'
  return [row['name'], nats, f'{row["bits"]:.3f}', row['kind'], *steps]


def run(budget_name: str, *, data_dir: str | None, out: pathlib.Path) -> dict[str, Any]:
  """Trains every flow, prints the tables and draws samples of images.

  Args:
    budget_name: one of `BUDGETS`.
    data_dir: where TensorFlow Datasets keeps Fashion-MNIST, or None.
    out: folder for pictures.

  Returns:
    Every number, ready for JSON, and the printed tables by name.
  """
  budget, began = BUDGETS[budget_name], time.perf_counter()
  print(
    f'Toys: mean of log p - log q over {TOY_TEST} test points, nats, +- its standard'
    f' error; {TOY_STEPS} steps of 512 points. Digits, 17 levels: the test split at the'
    ' evaluation that is best on the validation split, one every 100 steps; "bound":'
    " of a density of noisy levels by Jensen's inequality, or the model's own. Seed 0."
    ' Fashion-MNIST, 256 levels: 2,000 test images, at the best of some evaluations on'
    ' 2,000 of the validation split. Seconds are of training alone.',
    flush=True,
  )
  toys = [gaussian(data) for data in budget.toys]
  print(f'  {" | ".join(toy_line(GAUSSIAN, toys))}', flush=True)
  for layers in LAYERS:
    toys += [toy(layers, data, budget.part) for data in budget.toys]
    print(f'  {" | ".join(toy_line(layers, toys))}', flush=True)
  tables = {
    'toys': report.Table(
      TOY_HEADER, [toy_line(layers, toys) for layers in (GAUSSIAN, *LAYERS)]
    )
  }
  found = {'digits': fitted(DIGITS, budget, None, out, 'flows')}
  if data_dir:
    found['fashion_mnist'] = fitted(CLOTHES, budget, data_dir, out, 'flows_fashion')
  for name, rows in found.items():
    tables[name] = report.Table(IMAGES_HEADER, [images_line(row) for row in rows])
  for name, table in tables.items():
    print(f'\n{name}\n' + report.text_table(*table))
  return {
    'tables': tables,
    'budget': budget_name,
    'versions': report.versions(),
    'toys': toys,
    **found,
    'seconds': time.perf_counter() - began,
  }


def fitted(
  rows: tuple, budget: Budget, data_dir: str | None, out: pathlib.Path, picture: str
) -> list[dict[str, Any]]:
  """Trains models of images, prints their lines and draws samples.

  Args:
    rows: as `DIGITS`.
    budget: of the run.
    data_dir: where TensorFlow Datasets keeps the images, or None.
    out: folder for the pictures.
    picture: its name; that of Glow's digits by temperature ends with `_temperatures`.

  Returns:
    The numbers of each model.
  """
  found, drawn = [], {}
  for name, *fit in rows:
    row = images(name, *fit, budget.part, data_dir)
    samples = row.pop('samples')
    drawn[name] = samples.pop(None)
    if samples:
      by_value = {f'temperature {value}': x for value, x in samples.items()}
      path = out / f'{picture}_temperatures.png'
      plots.side_by_side(path, by_value, columns=5, sets=5)
      print(f'samples of {name}: {path}')
    found.append(row)
    print(f'  {" | ".join(images_line(row))}', flush=True)
  path = out / f'{picture}.png'
  plots.side_by_side(path, drawn, columns=5, sets=5)
  print(f'samples: {path}')
  return found
