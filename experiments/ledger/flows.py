"""Flows of toys whose density is known, and of digits beside models of their levels.

Every row is a config of `experiments/configs` and one of its arguments, trained and
then scored on a whole split that it never saw. Of a toy what is left to its own
entropy is known; of digits a density of noisy pixels bounds the mass of levels.
"""

import pathlib
import time
from typing import Any, NamedTuple

import numpy as np

from experiments import quiet
from experiments.configs import (
  flow_vae_digits,
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
TOY_HEADER = ('layers', *TOYS)
DIGITS_HEADER = ('model', 'nats', 'bits a number', 'kind', 'best step', 'steps',
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


def prepared(module, arg, changes, part: float) -> setup_lib.Setup:
  """A config with its changes, a part of its steps, evaluated at its own pace."""
  config = module.get_config(arg)
  for name, value in changes.items():
    config[name] = value
  config.steps_per_dispatch = 10 if part < 1 else config.steps_per_dispatch
  unit = config.steps_per_dispatch
  config.steps = max(1, round(config.steps * part / unit)) * unit
  config.sample_every = config.checkpoint_every = 0
  config.log_every = unit
  return setup_lib.prepare(module, config, evaluates=True)


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


def digits(name: str, module, arg, changes, part: float) -> dict[str, Any]:
  """A model of digits at its best evaluation on the validation split."""
  changes = {'evaluate_every': 100, **changes}
  setup = prepared(module, arg, changes, part)
  data = setup.data
  splits = evaluations.splits_of(data, evaluations.HELD_OUT)

  def evaluation(method, model, key):
    return density.density(method, model, key, splits, data.spec)

  setup = setup._replace(evaluation=evaluation)
  phase = setup.make_phases(0)[0]
  score, draw = inference.scorer(setup, phase), inference.drawer(setup, phase, SAMPLES)
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
        samples=draw(state) / (data.spec.num_levels - 1) * 2 - 1,
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


def digits_line(row: dict) -> list[str]:
  """A line of the table of digits."""
  nats = f'{row["nats"]:.2f} +- {row["error"]:.2f}'
  steps = str(row['step']), str(row['steps']), f'{row["seconds"]:.0f}'
  return [row['name'], nats, f'{row["bits"]:.3f}', row['kind'], *steps]


def run(budget_name: str, *, out: pathlib.Path) -> dict[str, Any]:
  """Trains every flow, prints the tables and draws samples of digits.

  Args:
    budget_name: one of `BUDGETS`.
    out: folder for the picture.

  Returns:
    Every number, ready for JSON, and the printed tables by name.
  """
  budget, began = BUDGETS[budget_name], time.perf_counter()
  print(
    f'Toys: mean of log p - log q over {TOY_TEST} test points, nats, +- its standard'
    f' error; {TOY_STEPS} steps of 512 points. Digits, 17 levels: the test split at the'
    ' evaluation that is best on the validation split, one every 100 steps; "bound":'
    " of a density of noisy levels by Jensen's inequality, or the model's own. Seed 0."
    ' Seconds are of training alone.',
    flush=True,
  )
  toys = [gaussian(data) for data in budget.toys]
  print(f'  {" | ".join(toy_line(GAUSSIAN, toys))}', flush=True)
  for layers in LAYERS:
    toys += [toy(layers, data, budget.part) for data in budget.toys]
    print(f'  {" | ".join(toy_line(layers, toys))}', flush=True)
  found = []
  for name, *fit in DIGITS:
    found.append(digits(name, *fit, budget.part))
    print(f'  {" | ".join(digits_line(found[-1]))}', flush=True)
  path = out / 'flows.png'
  drawn = {row['name']: row.pop('samples') for row in found}
  plots.side_by_side(path, drawn, columns=5, sets=5)
  tables = {
    'toys': report.Table(
      TOY_HEADER, [toy_line(layers, toys) for layers in (GAUSSIAN, *LAYERS)]
    ),
    'digits': report.Table(DIGITS_HEADER, [digits_line(row) for row in found]),
  }
  for name, table in tables.items():
    print(f'\n{name}\n' + report.text_table(*table))
  print(f'samples: {path}')
  return {
    'tables': tables,
    'budget': budget_name,
    'versions': report.versions(),
    'toys': toys,
    'digits': found,
    'seconds': time.perf_counter() - began,
  }
