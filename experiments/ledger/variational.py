"""Variational models of digits, each stopped by the bound of its validation split.

Every row is a config of `experiments/configs`, trained from several seeds at once; of
each seed the state whose bound on the validation split was best, by as many draws as it
is trained with, is scored on the test split: the ELBO, the bound by 1,000 draws, how
many dimensions of the code are active, the Frechet distance of samples. A long run
shows what stopping is for.
"""

import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import quiet
from experiments.configs import (
  beta_tcvae_glyphs,
  iwae_digits,
  ladder_vae_digits,
  top_down_vae_digits,
  vae_digits,
  vq_vae_digits,
  wae_digits,
)
from experiments.configs.parts import evaluations
from experiments.ledger import seeds as seeds_lib
from gm_jax import base, statistics
from gm_jax.data import dataset, registry
from gm_jax.metrics import latents
from gm_jax.tasks import density, quality
from gm_jax.training import inference, plots, report
from gm_jax.training import setup as setup_lib

FIRST_SEED = 900
DATA = 'digits?transform=levels'
DRAWS = 1000  # of the tighter bound
PICTURE = 24  # samples of a model in the picture
SHOWN = 12  # reconstructions
CHECKS, CHECKED = 16, 1000  # evaluations of a run, and examples of a split in each
LONG = 'VAE, four times as long'
LARGE_DRAWS, LARGE_TEST = 5000, 1000  # of MNIST and Fashion-MNIST
LARGE_HEADER = (
  'model', '-ELBO', f'-IWAE-{LARGE_DRAWS}', 'active units', 'best at', 'of steps',
  'seconds',
)  # fmt: skip
HEADER = (
  'model', '-ELBO', f'-IWAE-{DRAWS}', 'active units', 'Frechet', 'Frechet of means',
  'best at', 'of steps', 'seeds', 'seconds',
)  # fmt: skip
CURVE_HEADER = ('step', 'train -ELBO', 'validation -ELBO', 'test -ELBO', 'Frechet')
BARS_HEADER = ('bar', 'measured', 'verdict')


class Fit(NamedTuple):
  """A row: a config's module, and what of it is changed."""

  name: str
  config: Any
  changes: dict = {}


TC = {
  'data': DATA, 'likelihood': 'logistics', 'hidden': 256, 'latent_size': 16,
  'batch_size': 64, 'learning_rate': 1e-3, 'steps': 2000,
}  # fmt: skip
FITS = (
  Fit('VAE', vae_digits),
  Fit('beta-VAE, 0.5', vae_digits, {'beta': 0.5}),
  Fit('beta-VAE, 2', vae_digits, {'beta': 2.0}),
  Fit('beta-VAE, 4', vae_digits, {'beta': 4.0}),
  Fit('beta-TCVAE, 2', beta_tcvae_glyphs, TC | {'beta': 2.0}),
  Fit('IWAE, 10 draws', iwae_digits, {'num_draws': 10}),
  Fit('IWAE, 50 draws', iwae_digits, {'num_draws': 50}),
  Fit('mixture prior', vae_digits, {'prior': 'mixture'}),
  Fit('VampPrior', vae_digits, {'prior': 'vamp'}),
  Fit('ladder', ladder_vae_digits),
  Fit('top-down', top_down_vae_digits),
  Fit('VQ-VAE and prior', vq_vae_digits),
  Fit('WAE', wae_digits),
  Fit(LONG, vae_digits, {'steps': 8000}),
)


def large_fits(name: str, scale: int) -> tuple[Fit, ...]:
  """Rows of dynamically binarized images of 28x28; `scale` multiplies the steps."""
  common = {
    'data': f'dynamic:tfds:{name}?validation=5000', 'likelihood': 'bernoulli',
    'latent_size': 50, 'hidden': 200, 'batch_size': 100,
  }  # fmt: skip
  few = {'num_draws': 5, 'steps': 8000 * scale}
  return (
    Fit('VAE', vae_digits, common | {'steps': 20_000 * scale}),
    Fit('VampPrior', vae_digits, common | {'prior': 'vamp', 'steps': 8000 * scale}),
    Fit('IWAE, 5 draws', iwae_digits, common | few),
  )


# Nats of dynamically binarized MNIST by 5,000 draws, of one stochastic layer of 50.
RECALLED = (('VAE', 86.76), ('IWAE, 5 draws', 85.54), ('IWAE, 50 draws', 84.78))


class Budget(NamedTuple):
  """How much is trained: seeds, and the part of each config's steps."""

  seeds: int
  part: float
  fits: tuple[Fit, ...] = FITS
  scale: int = 1  # of the steps on large images


BUDGETS = {
  'smoke': Budget(2, 0.02, (FITS[0], FITS[-2], FITS[-1])),
  'laptop': Budget(4, 1.0),
  'full': Budget(10, 1.0, scale=10),
}


class Row(NamedTuple):
  """What came of a fit: `[S]` each, by name, and the curves by step."""

  fit: Fit
  numbers: dict[str, np.ndarray]
  steps: int
  seconds: float
  curve: list[dict[str, np.ndarray]]
  samples: np.ndarray
  reconstructions: np.ndarray


def _config(fit: Fit, budget: Budget):
  config = fit.config.get_config()
  for name, value in fit.changes.items():
    config[name] = value
  step = 50 if budget.part == 1 else 10
  config.steps = max(2, round(config.steps * budget.part / step)) * step
  if 'autoencoder_steps' in config:
    part = round(config.autoencoder_steps * budget.part / step)
    config.autoencoder_steps = min(max(1, part) * step, config.steps - step)
  if 'beta_warmup' in config:
    config.beta_warmup = round(config.beta_warmup * budget.part)
  config.seeds, config.seed = budget.seeds, FIRST_SEED
  config.steps_per_dispatch = config.log_every = step
  config.evaluate_every = step * max(1, config.steps // (CHECKS * step))
  config.sample_every = config.checkpoint_every = 0
  config.best = ''
  return config


def best_of(states: list[base.State], bounds: np.ndarray) -> tuple[base.State, Any]:
  """Each seed's state where its bound is lowest.

  Args:
    states: on the host, with a leading axis of seeds, in the order of the checks.
    bounds: `[checks, S]` of -log p on the validation split.

  Returns:
    The state, and the number of the check `[S]`.
  """
  which = np.nanargmin(bounds, axis=0)

  if len(which) == 1:  # a single seed has no axis
    return states[which[0]], which

  def pick(*leaves):
    if not np.ndim(leaves[0]):  # the step
      return leaves[-1]
    return np.stack([leaves[i][seed] for seed, i in enumerate(which)])

  return jax.tree.map(pick, *states), which


def bounds_of(splits: dict[str, dict], draws: int | None = None) -> Callable:
  """(method, model, key) -> -ELBO of every split, by name; of so many draws if any."""

  def score(method, model, key):
    query = method.queries['iwae' if draws else 'elbo']
    options = {'num_samples': draws} if draws else {'condition': None}

    def mean(x):
      x = jax.lax.optimization_barrier(x)  # else XLA folds constants for long
      found = density.in_chunks(lambda v: query(model, key, v, **options), x)
      return -found.mean()

    return {split: mean(arrays['x']) for split, arrays in splits.items()}

  return score


def codes_of(method: base.Method, model, key, x) -> base.Array | None:
  """Means of codes `[N, Z]`, groups side by side; None of integers."""
  z = method.queries['encode'](model, key, x)
  leaves = [leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(z)]
  if not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
    return None
  return jnp.concatenate(leaves, axis=1)


def score(
  distances: Callable | None, x: base.Array, draws: int = DRAWS, num: int | None = None
) -> Callable:
  """(method, model, key) -> the numbers of a row on the test split x.

  Args:
    distances: of samples, or None for none.
    x: `[N, ...]` in model space.
    draws: of the tighter bound.
    num: examples that have it; all if None.
  """

  def numbers(method, model, key):
    keys, found = jax.random.split(key, 3), {}
    if distances:
      samples = method.sample(model, keys[0], len(x))
      found['frechet'] = distances(samples)['frechet']
    if distances and 'elbo' in method.queries:
      means = method.sample(model, keys[0], len(x), mean=True)
      found['frechet_of_means'] = distances(means)['frechet']
    if 'elbo' in method.queries:
      found |= {'elbo': bounds_of({'test': {'x': x}})(method, model, keys[1])['test']}
    fixed = jax.lax.optimization_barrier(x)  # else XLA folds constants for long
    if 'iwae' in method.queries:
      iwae = method.queries['iwae']
      tight = density.in_chunks(
        lambda v: iwae(model, keys[1], v, num_samples=draws), fixed[:num]
      )
      found['iwae'], found['iwae_error'] = statistics.mean_and_error(-tight)
    codes = codes_of(method, model, keys[2], fixed)
    if codes is not None:
      found['active'] = latents.active_units(codes).count
    return found

  return numbers


def _train(
  fit: Fit,
  budget: Budget,
  distances: Callable | None,
  options: setup_lib.Options = setup_lib.DEFAULT,
  **scoring: int,
) -> Row:
  config = _config(fit, budget)
  setup = setup_lib.prepare(fit.config, config, options, evaluates=True)
  data, phase = setup.data, setup.make_phases(0)[-1]
  splits = {
    split: dataset.transformed(data.spec, data.arrays(split))
    for split in ('train', 'validation', 'test')
  }
  x, states, curve = splits['test']['x'], [], []

  def bounds(method, model, key):
    some = {n: {'x': arrays['x'][:CHECKED]} for n, arrays in splits.items()}
    found = bounds_of(some, config.get('num_draws'))(method, model, key)
    if fit.name == LONG:
      found['frechet'] = distances(method.sample(model, key, len(x)))['frechet']
    return found

  check = inference.scorer(setup._replace(evaluation=bounds), phase)

  def evaluate(current, state):
    if 'elbo' not in current.method.queries or len(setup.make_phases(0)) > 1 and (
      int(state.step) <= setup.make_phases(0)[0].until
    ):  # fmt: skip
      return {}
    found, _ = check(state)
    states.append(jax.device_get(state))
    curve.append({'step': int(state.step), **found})
    return {}

  trained = quiet.train_config(setup, evaluate=evaluate)
  state, at = trained.state, None
  if states:
    validation = np.stack([np.atleast_1d(c['validation']) for c in curve])
    state, which = best_of(states, validation)
    at = np.array([curve[i]['step'] for i in which])
  numbers, _ = inference.scorer(
    setup._replace(evaluation=score(distances, x, **scoring)), phase
  )(state)  # fmt: skip
  numbers = {name: np.atleast_1d(value) for name, value in numbers.items()}
  if at is not None:
    numbers['best_at'] = at
  drawn = inference.drawer(setup, phase, PICTURE)(state)
  again = inference.compiled(setup, lambda model, key: phase.spec.transform.inverse(
    phase.method.queries['reconstruct'](model, key, x[:SHOWN])
  ))(state)  # fmt: skip
  first = [np.asarray(a if budget.seeds == 1 else a[0]) for a in (drawn, again)]
  pictures = [a / (data.spec.num_levels - 1) * 2 - 1 for a in first]
  return Row(fit, numbers, config.steps, quiet.seconds(trained), curve, *pictures)


def cells(row: Row) -> list[str]:
  """Mean +- standard error over seeds."""

  def cell(name, form):
    values = row.numbers.get(name)
    return '' if values is None else seeds_lib.mean_and_error(values, form)

  forms = (
    ('elbo', '.2f'), ('iwae', '.2f'), ('active', '.1f'), ('frechet', '.1f'),
    ('frechet_of_means', '.1f'), ('best_at', '.0f'),
  )  # fmt: skip
  tail = str(row.steps), str(len(row.numbers['frechet'])), f'{row.seconds:.0f}'
  return [row.fit.name, *(cell(*form) for form in forms), *tail]


def large_cells(row: Row) -> list[str]:
  """Numbers +- the standard error over test images, of one seed."""
  bound, error = (float(row.numbers[name][0]) for name in ('iwae', 'iwae_error'))
  elbo, at = (float(row.numbers[name][0]) for name in ('elbo', 'best_at'))
  active = int(row.numbers['active'][0])
  tight = statistics.text(bound, error, '.2f')
  return [
    row.fit.name, f'{elbo:.2f}', tight, str(active), f'{at:.0f}', str(row.steps),
    f'{row.seconds:.0f}',
  ]  # fmt: skip


def _large(name: str, scale: int, data_dir: str) -> list[Row]:
  title = {'mnist': 'MNIST', 'fashion_mnist': 'Fashion-MNIST'}[name]
  print(
    f'\ndynamically binarized {title}, one seed: -ELBO of all 10,000 test images, the'
    f' bound of {LARGE_DRAWS:,} draws of the first {LARGE_TEST:,}',
    flush=True,
  )
  budget, rows = Budget(1, 1.0), []
  for fit in large_fits(name, scale):
    options = setup_lib.Options(data_dir)
    scoring = {'draws': LARGE_DRAWS, 'num': LARGE_TEST}
    rows.append(_train(fit, budget, None, options, **scoring))
    print(f'  {" | ".join(large_cells(rows[-1]))}', flush=True)
  if name == 'mnist':
    for model, nats in RECALLED:
      print(f'  {model}: {nats} (Burda et al., 2016, recalled and not confirmed)')
  return rows


def curve_cells(row: Row) -> list[list[str]]:
  """The bounds and the Frechet distance of a run by step."""
  names = 'train', 'validation', 'test', 'frechet'
  return [
    [str(c['step']), *(seeds_lib.mean_and_error(c[n], '.1f') for n in names)]
    for c in row.curve
  ]


def bars(rows: dict[str, Row]) -> list[list[str]]:
  """What has to hold, what was measured, and whether it does."""

  def mean(name, number):
    return float(rows[name].numbers[number].mean())

  plain = mean('VAE', 'elbo')
  best = min(('ladder', 'top-down'), key=lambda name: mean(name, 'elbo'))
  tight = f'-IWAE-{DRAWS} at most'
  found = (
    ('VAE, -ELBO at most 95', plain, 95.0),
    (f'VAE, {tight} 91', mean('VAE', 'iwae'), 91.0),
    (f'IWAE of 10 draws, {tight} 90.5', mean('IWAE, 10 draws', 'iwae'), 90.5),
    (f"{best}, -ELBO at most the VAE's", mean(best, 'elbo'), plain),
  )
  return [
    [name, f'{value:.2f}', 'holds' if value <= limit else 'DOES NOT HOLD']
    for name, value, limit in found
  ]


def run(budget_name: str, *, data_dir: str | None, out: pathlib.Path) -> dict[str, Any]:
  """Trains every model and prints the tables.

  Args:
    budget_name: one of `BUDGETS`.
    data_dir: where TensorFlow Datasets keeps MNIST and Fashion-MNIST, or None.
    out: folder for pictures.

  Returns:
    Every number, ready for JSON, and the printed tables by name.
  """
  budget, began = BUDGETS[budget_name], time.perf_counter()
  print(
    'Digits of 17 levels, nats an image of the test split (360). Of every seed the'
    f' state of {CHECKS} that was best on the validation split, by the bound that it is'
    f' trained by. -ELBO by one draw an image, -IWAE by {DRAWS}: upper bounds of -log'
    ' p. Active units: dimensions whose mean has a variance above 0.01 over the images.'
    ' Frechet distance in a small classifier, 360 samples: draws of p(x | z), and its'
    ' means.'
    f' Mean +- standard error over seeds from {FIRST_SEED}, trained at once. Seconds'
    ' are of training alone, all seeds together.',
    flush=True,
  )
  distances = evaluations.image_distances(registry.load(DATA))
  rows = {}
  for fit in budget.fits:
    near = distances
    if fit.config is wae_digits:  # of floats
      near = evaluations.image_distances(registry.load('digits'))
    rows[fit.name] = _train(fit, budget, near)
    print(f'  {" | ".join(cells(rows[fit.name]))}', flush=True)
  tables = {'models': report.Table(HEADER, [cells(row) for row in rows.values()])}
  tables['curve'] = report.Table(CURVE_HEADER, curve_cells(rows[LONG]))
  if budget.part == 1:
    tables['bars'] = report.Table(BARS_HEADER, bars(rows))
  large = {}
  if data_dir:
    for name in ('mnist', 'fashion_mnist'):
      large[name] = _large(name, budget.scale, data_dir)
      found = [large_cells(row) for row in large[name]]
      tables[name] = report.Table(LARGE_HEADER, found)
  for name, table in tables.items():
    print(f'\n{name}\n' + report.text_table(*table))
  _draw(rows, out)
  everything = [*rows.values(), *(row for found in large.values() for row in found)]
  seconds = time.perf_counter() - began
  print(f'\n{seconds:.0f} seconds in all')
  return {
    'budget': budget_name,
    'tables': tables,
    'rows': [
      {'name': row.fit.name, 'changes': row.fit.changes, 'steps': row.steps}
      | {'seconds': row.seconds}
      | {name: np.asarray(v).tolist() for name, v in row.numbers.items()}
      for row in everything
    ],
    'seconds': seconds,
    'versions': report.versions(),
  }


def _draw(rows: dict[str, Row], out: pathlib.Path) -> None:
  levels = registry.load(DATA).spec.num_levels
  real = registry.load(DATA).arrays('test', quality.TEST)['x'] / (levels - 1) * 2 - 1
  samples = {'test images': real[:PICTURE]}
  again = {'test images': real[:SHOWN]}
  samples |= {row.fit.name: row.samples for row in rows.values()}
  again |= {row.fit.name: row.reconstructions for row in rows.values()}
  for name, shown in (('samples', samples), ('reconstructions', again)):
    path = out / f'variational_{name}.png'
    plots.side_by_side(path, shown, columns=6, sets=5)
    print(f'{name}: {path}')
