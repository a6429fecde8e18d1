"""Diffusion models of digits: distances of samples by sampler and number of steps.

Every model is a config of `experiments/configs`, trained once a seed; one program of a
sampler does for every number of steps. The floor is the distance of the training split
from the test split, over random subsets as large as the sets of samples.
"""

import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import quiet
from experiments.configs import ddpm_digits, edm_digits, flow_matching_digits
from experiments.configs.parts import evaluations
from experiments.ledger import seeds as seeds_lib
from gm_jax.data import dataset, registry
from gm_jax.training import plots, report
from gm_jax.training import setup as setup_lib
from gm_jax.training import step as step_lib

STEPS = (1, 2, 4, 10, 20, 50)
SUBSETS = 20  # of the training split, for the floor
SHOWN = 10  # samples of a cell of the picture
# (row, config, samplers)
MODELS = (
  ('DDPM', ddpm_digits, ('ancestral', 'ddim', 'dpm_solver')),
  ('EDM', edm_digits, ('heun', 'ddim', 'dpm_solver')),
  ('flow matching', flow_matching_digits, ('euler', 'heun')),
)


class Budget(NamedTuple):
  """A part of the configs' steps, and seeds."""

  part: float
  seeds: int


BUDGETS = {
  'smoke': Budget(0.005, 1), 'laptop': Budget(1.0, 3), 'full': Budget(1.0, 5),
}  # fmt: skip


class Row(NamedTuple):
  """A model by one of its samplers."""

  model: str
  sampler: str
  frechet: np.ndarray  # [N, S] by number of steps and seed
  steps: int
  seconds: float  # of training, all seeds together


def fit(
  name: str, module: Any, names: tuple[str, ...], budget: Budget, distances: Any
) -> tuple[list[Row], dict[str, np.ndarray]]:
  """Trains a config from every seed, and measures samples of it.

  Args:
    name: of the model.
    module: its config.
    names: of samplers.
    budget: of the run.
    distances: samples -> their distances, as `evaluations.image_distances` makes it.

  Returns:
    A row a sampler, and the first seed's samples by sampler and number of steps.
  """
  config = module.get_config()
  config.seeds = budget.seeds
  unit = config.steps_per_dispatch
  config.steps = max(1, round(config.steps * budget.part / unit)) * unit
  for leaf in ('evaluate', 'sample', 'checkpoint'):
    config[f'{leaf}_every'] = 0
  setup = setup_lib.prepare(module, config, evaluates=False)
  trained = quiet.train_config(setup)
  model = step_lib.model(trained.state, averaged=True)
  if budget.seeds == 1:
    model = jax.tree.map(lambda leaf: leaf[None], model)
  method, num = setup.make_phases(0)[0].method, len(setup.data.arrays('test')['x'])
  keys, rows, pictures = jax.random.split(jax.random.key(0), budget.seeds), [], {}
  for sampler in names:

    def draw(model, key, count, sampler=sampler):
      return method.sample(model, key, num, num_steps=count, sampler=sampler)

    # The number of steps is traced: one program for all.
    drawn = jax.jit(jax.vmap(draw, in_axes=(0, 0, None)))
    frechet = []
    for count in STEPS:
      samples = np.asarray(drawn(model, keys, jnp.asarray(count)))
      frechet.append([float(distances(jnp.asarray(s))['frechet']) for s in samples])
      pictures[f'{sampler}, {count}'] = np.clip(samples[0, :SHOWN], -1, 1)
    seconds = quiet.seconds(trained)
    rows.append(Row(name, sampler, np.array(frechet), config.steps, seconds))
    print(f'  {" | ".join(cells(rows[-1]))}', flush=True)
  return rows, pictures


def floor(distances: Any, data: Any) -> np.ndarray:
  """Distances of random subsets of the training split, as many as test images."""
  train, num = data.arrays('train'), len(data.arrays('test')['x'])
  x = dataset.transformed(data.spec, train)['x']
  rng = np.random.default_rng(0)
  subsets = (rng.choice(len(x), num, replace=False) for _ in range(SUBSETS))
  return np.array([float(distances(x[jnp.array(i)])['frechet']) for i in subsets])


def header() -> tuple[str, ...]:
  """Of the table."""
  counts = (f'{n} steps' for n in STEPS)
  return ('model', 'sampler', *counts, 'seeds', 'training steps', 'seconds')


def cells(row: Row) -> list[str]:
  """A line of the table: mean +- standard error over seeds."""
  found = [
    seeds_lib.mean_and_error(values, '.1f') if len(values) > 1 else f'{values[0]:.1f}'
    for values in row.frechet
  ]
  end = str(row.frechet.shape[1]), str(row.steps), f'{row.seconds:.0f}'
  return [row.model, row.sampler, *found, *end]


def run(budget_name: str, *, out: pathlib.Path) -> dict[str, Any]:
  """Trains every model, prints the table and draws samples by sampler and steps.

  Args:
    budget_name: one of `BUDGETS`.
    out: folder for pictures.

  Returns:
    Every number, ready for JSON, and the printed tables by name.
  """
  budget, began = BUDGETS[budget_name], time.perf_counter()
  data = registry.load('digits')
  distances = evaluations.image_distances(data)
  least = floor(distances, data)
  print(
    'Digits of 8 x 8 pixels: Frechet distance of 360 samples from the test split in the'
    ' features of a small classifier, by sampler and number of steps; by heun a step'
    ' evaluates the network twice, but for the last. Mean +- standard error over seeds,'
    ' trained at once. The training split itself, random subsets of 360:'
    f' {least.mean():.2f}, deviation {least.std(ddof=1):.2f}. Seconds are of training'
    ' alone, all seeds together.',
    flush=True,
  )
  rows = []
  for name, module, names in MODELS:
    found, pictures = fit(name, module, names, budget, distances)
    rows += found
    path = out / f'diffusion_{name.replace(" ", "_").lower()}.png'
    plots.side_by_side(path, pictures, columns=SHOWN, sets=3)
    print(f'samples: {path}', flush=True)
  table = report.Table(header(), [cells(row) for row in rows])
  print('\n' + report.text_table(*table))
  return {
    'tables': {'digits': table},
    'budget': budget_name,
    'versions': report.versions(),
    'floor': least.tolist(),
    'rows': [row._asdict() | {'frechet': row.frechet.tolist()} for row in rows],
    'seconds': time.perf_counter() - began,
  }
