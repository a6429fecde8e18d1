"""Diffusion models of digits: distances of samples by sampler and number of steps.

Every model is a config of `experiments/configs`, trained once a seed; one program of a
sampler does for every number of steps. The floor is the distance of the training split
from the test split, over random subsets as large as the sets of samples. Of a model
with a bound of its likelihood the nats of the test split stand beside those of models
that another page has.
"""

import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import quiet, results
from experiments.configs import (
  ddpm_digits,
  edm_digits,
  flow_matching_digits,
  rectified_flow_digits,
  score_sde_digits,
  vdm_digits,
)
from experiments.configs.parts import evaluations
from experiments.ledger import seeds as seeds_lib
from gm_jax import denoisers, processes, times
from gm_jax.data import dataset, registry
from gm_jax.samplers import diffusion as samplers
from gm_jax.tasks import density, quality
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
  ('rectified flow', rectified_flow_digits, ('euler', 'heun')),
  ('score SDE', score_sde_digits, ('predictor_corrector', 'ddim')),
  ('VDM', vdm_digits, ('ancestral', 'ddim', 'dpm_solver')),
)
WALK, WALKERS, SIDES = 50, 6, (8, 8, 1)
SEEN = (0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 48)  # of the steps, from noise to data
WALKS = {
  'EDM': (processes.edm(), times.karras),
  'flow matching': (processes.rectified(), times.even),
}
BESIDE = ('NADE', 'PixelCNN')  # rows of another page
PAGE, DATA = 'likelihoods', 'digits?transform=levels'
BOUNDS = ('model', 'nats', 'kind', 'seeds', 'from')


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
) -> tuple[list[Row], dict[str, np.ndarray], np.ndarray | None]:
  """Trains a config from every seed, and measures samples of it.

  Args:
    name: of the model.
    module: its config.
    names: of samplers.
    budget: of the run.
    distances: samples -> their distances, as `evaluations.image_distances` makes it.

  Returns:
    A row a sampler, the first seed's samples by sampler and number of steps, and the
    bounds of a model that has them, as `bounds`.
  """
  config = module.get_config()
  config.seeds = budget.seeds
  unit = config.steps_per_dispatch
  config.steps = max(1, round(config.steps * budget.part / unit)) * unit
  config.best = ''
  for leaf in ('evaluate', 'sample', 'checkpoint'):
    config[f'{leaf}_every'] = 0
  setup = setup_lib.prepare(module, config, evaluates=False)
  trained = quiet.train_config(setup)
  model = step_lib.model(trained.state, averaged=True)
  if budget.seeds == 1:
    model = jax.tree.map(lambda leaf: leaf[None], model)
  method, num = setup.make_phases(0)[-1].method, len(setup.data.arrays('test')['x'])
  keys, rows, pictures = jax.random.split(jax.random.key(0), budget.seeds), [], {}
  if name in WALKS:
    process, grid = WALKS[name]
    first = jax.tree.map(lambda leaf: leaf[0], model)
    walks = trajectories(method, first, process, grid(process))
    steps = f'steps {SEEN[0]} to {SEEN[-1]}'
    pictures |= {f'{what}, {steps}': images for what, images in walks.items()}
  for sampler in names:

    def draw(model, key, count, sampler=sampler):
      return method.sample(model, key, num, num_steps=count, sampler=sampler)

    # The number of steps is traced: one program for all.
    drawn = jax.jit(jax.vmap(draw, in_axes=(0, 0, None)))
    frechet = []
    for count in STEPS:
      samples = np.asarray(drawn(model, keys, jnp.asarray(count)))
      frechet.append([float(distances(jnp.asarray(s))['frechet']) for s in samples])
      shown = np.asarray(quality.scaled(setup.data.spec, samples[0, :SHOWN]))
      pictures[f'{sampler}, {count}'] = np.clip(shown, -1, 1)
    seconds = quiet.seconds(trained)
    rows.append(Row(name, sampler, np.array(frechet), config.steps, seconds))
    print(f'  {" | ".join(cells(rows[-1]))}', flush=True)
  if method.card.density != 'lower_bound':
    return rows, pictures, None
  return rows, pictures, bounds(method, model, keys, setup.data)


def trajectories(
  method: Any, model: Any, process: processes.Process, grid: times.Grid
) -> dict[str, np.ndarray]:
  """Noisy data x_t and what they are denoised to, on the way of Euler's steps.

  Returns:
    Images `[WALKERS * len(SEEN), H, W, C]` in [-1, 1], a walker a row, by what they
    are; x_t is shown over the deviation of noise and data, so that noise is in sight.
  """
  score = method.queries['score']

  def step(x, i):
    t, s = (jnp.full(len(x), grid(i + j, WALK)) for j in (0, 1))
    alpha, sigma = (processes.along(f(t), x) for f in (process.alpha, process.sigma))
    # Where nothing of the data is left, x_t tells the denoised no better than 0 does.
    denoised = (x + sigma**2 * score(model, None, x, t)) / jnp.maximum(alpha, 1e-3)
    moved = x + processes.along(s - t, x) * denoisers.flow(process, denoised, x, t)
    return moved, (x / jnp.sqrt(alpha**2 + sigma**2), denoised)

  x = samplers.noise(process, jax.random.key(3), (WALKERS, *SIDES))
  _, found = jax.jit(lambda x: jax.lax.scan(step, x, jnp.arange(WALK - 1)))(x)
  noisy, denoised = (
    np.asarray(a)[list(SEEN)].swapaxes(0, 1).reshape(-1, *SIDES) for a in found
  )
  return {'noisy': np.clip(noisy, -1, 1), 'denoised': np.clip(denoised, -1, 1)}


def bounds(method: Any, model: Any, keys: Any, data: Any) -> np.ndarray:
  """The test split's nats by a model's own bound, `[S]` of seeds."""
  arrays = {'test': data.arrays('test')}

  def nats(model, key):
    found = density.density(method, model, key, arrays, data.spec)
    return found.values['nll_bound'][0]

  return np.asarray(jax.jit(jax.vmap(nats))(model, keys))


def bound_lines(found: dict[str, np.ndarray]) -> list[list[str]]:
  """Lines of the table of bounds, those of the other page below.

  Args:
    found: nats `[S]` by model.
  """
  lines = [
    [
      name,
      seeds_lib.mean_and_error(nats, '.2f') if len(nats) > 1 else f'{nats[0]:.2f}',
      'bound', str(len(nats)), 'this run',
    ]
    for name, nats in found.items()
  ]  # fmt: skip
  page = results.load(results.FOLDER / f'{PAGE}.json')['tables'][DATA]
  by_name = {
    row[0]: dict(zip(page['header'], row, strict=True)) for row in page['rows']
  }
  for name in BESIDE:
    row = by_name[name]
    lines.append([name, row['nats'], row['kind'], row['seeds'], f'{PAGE}.md'])
  return lines


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
    ' features of a small classifier, by sampler and number of steps; by heun and'
    ' predictor_corrector a step evaluates the network twice, but for the last. Mean'
    ' +- standard error over seeds, trained at once. The training split itself, random'
    f' subsets of 360: {least.mean():.2f}, deviation {least.std(ddof=1):.2f}. Seconds'
    ' are of training alone, all seeds together.',
    flush=True,
  )
  rows, bounded = [], {}
  for name, module, names in MODELS:
    found, pictures, nats = fit(name, module, names, budget, distances)
    bounded |= {} if nats is None else {name: nats}
    rows += found
    walks = {what: images for what, images in pictures.items() if 'steps' in what}
    walls = {what: images for what, images in pictures.items() if what not in walks}
    file = f'diffusion_{name.replace(" ", "_").lower()}'
    plots.side_by_side(out / f'{file}.png', walls, columns=SHOWN, sets=3)
    if walks:
      plots.side_by_side(out / f'{file}_paths.png', walks, columns=len(SEEN))
    print(f'samples: {out / file}*.png', flush=True)
  table = report.Table(header(), [cells(row) for row in rows])
  print('\n' + report.text_table(*table))
  print(
    '\nNegative log-likelihood of the test split, 17 levels, nats a digit: mean +-'
    f' standard error over seeds; rows from {PAGE}.md as they stand there, +- over'
    ' examples.'
  )
  bound = report.Table(BOUNDS, bound_lines(bounded))
  print('\n' + report.text_table(*bound))
  return {
    'tables': {'digits': table, 'bounds': bound},
    'bounds': {name: nats.tolist() for name, nats in bounded.items()},
    'budget': budget_name,
    'versions': report.versions(),
    'floor': least.tolist(),
    'rows': [row._asdict() | {'frechet': row.frechet.tolist()} for row in rows],
    'seconds': time.perf_counter() - began,
  }
