"""Auto-encoders whose codes are held to a prior, against each other at equal budgets.

The adversarial auto-encoder (a game on codes), the Wasserstein one (an MMD of codes)
and the variational one (the KL divergence of every posterior), with the same encoder
and decoder, optimizer, batches and steps: which is nearer to the data by its samples,
which reconstructs better, and whose codes are nearer to the prior as a whole. Numbers
on the test split.
"""

import functools
import inspect
import math
import pathlib
import time
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import quiet
from experiments.configs import adversarial_autoencoder_digits, wae_digits
from experiments.configs.parts import evaluations, networks, optimizers, runs
from experiments.ledger import seeds as seeds_lib
from gm_jax import amortized, base, latent_priors, observations
from gm_jax.data import dataset, registry
from gm_jax.losses import discrepancy
from gm_jax.methods import autoencoder, vae
from gm_jax.models import mlp
from gm_jax.tasks import quality
from gm_jax.training import inference, plots, report
from gm_jax.training import setup as setup_lib

FIRST_SEED = 700
PICTURE = 40  # samples of a model in the picture
PRIOR_DRAWS = 2000
NUMBERS = ('frechet', 'mmd2', 'reconstruction', 'code_mmd2', 'code_kl')
HEADER = (
  'model', 'Frechet', '1000 MMD^2', 'error', '1000 MMD^2 of codes', 'KL of codes',
  'seeds', 'steps', 'seconds',
)  # fmt: skip
FORMS = ('.2f', '.2f', '.3f', '.2f', '.3f')
SCALES = (1, 1000, 1, 1000, 1)


class Fit(NamedTuple):
  """A row: a config's module, and what of it is changed."""

  name: str
  config: Any  # with get_config and make_method
  changes: dict = {}


def _vae_config(arg=None):
  del arg
  config = runs.autoencoder('digits')
  del config.adversarial_rate
  config.latent_size = 8
  config.std = 0.25  # of p(x | z), a pixel's in [-1, 1]
  return config


def _vae(config, spec, *, wrap=lambda tx: tx) -> base.Method:
  """The networks of adversarial_autoencoder_digits.py, p(x | z) of one deviation."""
  size = config.latent_size
  parts = amortized.Networks(
    encoder=mlp.MLP((256, 256, 2 * size)),
    decoder=networks.small_generator(config, spec),
    prior=latent_priors.normal(size),
    observation=observations.fixed_gaussian(config.std),
  )
  return vae.vae(parts, wrap(optimizers.adam(config, config.learning_rate)))


MATCHED_VAE = types.SimpleNamespace(get_config=_vae_config, make_method=_vae)
FITS = (
  Fit('AAE', adversarial_autoencoder_digits),
  Fit('WAE, weight 100', wae_digits),
  Fit('WAE, weight 1000', wae_digits, {'discrepancy_weight': 1000.0}),
  Fit('VAE, std 0.25', MATCHED_VAE),
  Fit('VAE, std 0.5', MATCHED_VAE, {'std': 0.5}),
  Fit('VAE, std 1', MATCHED_VAE, {'std': 1.0}),
  Fit('auto-encoder', wae_digits, {'discrepancy_weight': 0.0}),
)


class Budget(NamedTuple):
  """How much is trained: seeds, and steps by data set."""

  seeds: int
  steps: dict[str, int]
  changes: dict[str, dict] = {}  # leaves by data set


GLYPHS = {'base_features': 16, 'latent_size': 16}
BUDGETS = {
  'smoke': Budget(2, {'digits': 40}),
  'laptop': Budget(4, {'digits': 6000, 'glyphs': 2000}, {'glyphs': GLYPHS}),
  'full': Budget(
    4, {'digits': 6000, 'glyphs': 30_000}, {'glyphs': {'latent_size': 16}}
  ),
}


class Row(NamedTuple):
  """What came of a fit: `[S]` each of `NUMBERS`, by name."""

  name: str
  numbers: dict[str, np.ndarray]
  steps: int
  seconds: float
  samples: np.ndarray | None = None


def drawn_codes(method: base.Method, model, key, x) -> base.Array:
  """A code of each example [B, Z]: a draw of its posterior, where there is one."""
  if 'posterior' in method.queries:
    return method.queries['posterior'](model, key, x).draw(key, 1)[0]
  return method.queries['encode'](model, key, x)


def code_numbers(key: base.Array, codes: base.Array) -> dict[str, base.Array]:
  """How far the codes [B, Z] of all examples together are from N(0, I).

  `code_mmd2` is the unbiased MMD^2, by a Gaussian kernel of standard deviation
  sqrt(Z); `code_mean` [Z] and `code_cov` [Z, Z] are for `code_kl`.
  """
  size = codes.shape[1]
  prior = jax.random.normal(key, (PRIOR_DRAWS, size))
  kernel = discrepancy.gaussian(std=math.sqrt(size))
  centered = codes - codes.mean(axis=0)
  return {
    'code_mmd2': discrepancy.mmd2_unbiased(kernel, codes, prior),
    'code_mean': codes.mean(axis=0),
    'code_cov': centered.T @ centered / (len(codes) - 1),
  }


def code_kl(mean: np.ndarray, cov: np.ndarray) -> np.ndarray:
  """The KL divergence of Gaussians of these moments from N(0, I), [S] nats.

  By numpy, apart: a factorization beside those of the Frechet distance in one program
  may wait for them for ever on two cores.
  """
  mean, cov = np.asarray(mean, np.float64), np.asarray(cov, np.float64)
  squares = np.trace(cov, axis1=-2, axis2=-1) + np.square(mean).sum(-1)
  return (squares - mean.shape[-1] - np.linalg.slogdet(cov)[1]) / 2


def _numbers(found: dict) -> dict[str, np.ndarray]:
  """`NUMBERS` of what `score` or `floor` found, `[S]` each."""
  found = {name: np.asarray(value) for name, value in found.items()}
  found['code_kl'] = code_kl(found.pop('code_mean'), found.pop('code_cov'))
  return {name: np.atleast_1d(value) for name, value in found.items()}


def mean_samples(method: base.Method, model, key, num: int) -> base.Array:
  """Samples [num, ...]: means of p(x | z), where it is not a point."""
  parameters = inspect.signature(method.sample).parameters
  return method.sample(
    model, key, num, **({'mean': True} if 'mean' in parameters else {})
  )


def score(distances: Callable, x: base.Array, method: base.Method, model, key) -> dict:
  """A model's numbers on the test split x, and the moments of its codes."""
  keys = jax.random.split(key, 3)
  again = method.queries['reconstruct'](model, keys[0], x)
  return {
    **distances(mean_samples(method, model, keys[1], len(x))),
    'reconstruction': jnp.sqrt(autoencoder.squared_error(x, again).mean() / x[0].size),
    **code_numbers(keys[2], drawn_codes(method, model, keys[0], x)),
  }


def floor(distances: Callable, data: dataset.Dataset, num: int, budget: Budget) -> Row:
  """As many training images for samples, and draws of the prior for codes."""
  size = budget.changes.get(data.name, {}).get('latent_size', 8)
  x = dataset.transformed(data.spec, data.arrays('train'))['x']
  found = []
  for seed in range(budget.seeds):
    key = jax.random.key(FIRST_SEED + seed)
    some = jax.random.permutation(key, len(x))[:num]
    codes = jax.random.normal(jax.random.fold_in(key, 1), (num, size))
    found.append({**distances(x[some]), **code_numbers(key, codes)})
  stacked = {name: np.stack([f[name] for f in found]) for name in found[0]}
  return Row('training images, prior', _numbers(stacked), 0, 0.0)


def _train(fit: Fit, data_name: str, budget: Budget, distances, x) -> Row:
  config = fit.config.get_config()
  for name, value in (budget.changes.get(data_name, {}) | fit.changes).items():
    config[name] = value
  config.data, config.steps = data_name, budget.steps[data_name]
  config.seeds, config.seed = budget.seeds, FIRST_SEED
  for name in ('evaluate', 'sample', 'checkpoint'):
    config[f'{name}_every'] = 0
  config.steps_per_dispatch = config.log_every = min(50, config.steps)
  setup = setup_lib.prepare(fit.config, config)
  (phase,) = setup.make_phases(0)
  state, _, seconds = quiet.train_config(setup)
  evaluation = functools.partial(score, distances, x)
  scored = setup._replace(evaluation=evaluation)
  numbers, _ = inference.scorer(scored, phase)(state)
  shown = inference.drawer(setup, _with_means(phase), PICTURE)(state)
  samples = shown if budget.seeds == 1 else shown[0]
  samples = samples / (setup.data.spec.num_levels - 1) * 2 - 1
  return Row(fit.name, _numbers(numbers), config.steps, seconds, samples)


def _with_means(phase: base.Phase) -> base.Phase:
  method = phase.method

  def sample(model, key, num, *, condition=None):
    del condition
    return mean_samples(method, model, key, num)

  return phase._replace(method=method._replace(sample=sample))


def cells(row: Row) -> list[str]:
  """Mean +- standard error over seeds."""
  found = []
  for name, form, scale in zip(NUMBERS, FORMS, SCALES, strict=True):
    values = row.numbers.get(name)
    found.append(
      '' if values is None else seeds_lib.mean_and_error(scale * values, form)
    )
  seeds = len(next(iter(row.numbers.values())))
  rest = [str(row.steps), f'{row.seconds:.0f}'] if row.steps else ['', '']
  return [row.name, *found, str(seeds), *rest]


def _task(data_name: str, budget: Budget, out: pathlib.Path) -> tuple:
  data = registry.load(data_name)
  distances = evaluations.image_distances(data)
  x = dataset.transformed(data.spec, data.arrays('test', quality.TEST))['x']
  print(f'\n{data_name}, {len(x)} test images', flush=True)
  rows = [floor(distances, data, len(x), budget)]
  print(f'  {" | ".join(cells(rows[0]))}', flush=True)
  for fit in FITS:
    rows.append(_train(fit, data_name, budget, distances, x))
    print(f'  {" | ".join(cells(rows[-1]))}', flush=True)
  table = report.Table(HEADER, [cells(row) for row in rows])
  print('\n' + report.text_table(*table))
  path = out / f'aae_against_vae_{data_name}.png'
  pictured = {row.name: row.samples for row in rows if row.samples is not None}
  plots.side_by_side(path, pictured, columns=8, sets=4)
  print(f'samples: {path}')
  numbers = [
    {'name': row.name, 'steps': row.steps, 'seconds': row.seconds}
    | {name: values.tolist() for name, values in row.numbers.items()}
    for row in rows
  ]
  return table, numbers


def run(budget_name: str, *, out: pathlib.Path) -> dict[str, Any]:
  """Trains every model on every data set and prints the tables.

  Args:
    budget_name: one of `BUDGETS`.
    out: folder for pictures.

  Returns:
    Every number, ready for JSON, and the printed tables by data set.
  """
  budget, began = BUDGETS[budget_name], time.perf_counter()
  print(
    'Encoder a dense net 256-256, decoder a DCGAN generator, codes of N(0, I): 8'
    ' numbers of digits, 16 of glyphs. Adam 1e-3, b1 0.5, cosine decay to 0, batches of'
    ' 64, parameters averaged at 0.99. Frechet distance in a small classifier and MMD^2'
    ' of as many samples as test images, at most 2,000, means of p(x | z) where it is'
    ' no point; error: root mean squared, a pixel of [-1, 1], of reconstructions of the'
    ' test split; codes: of the test split, one draw of its posterior each,'
    f' against {PRIOR_DRAWS:,} draws of the prior. Mean +- standard error over seeds'
    f' from {FIRST_SEED}, trained at once. First row: training images, and draws of'
    ' the prior. Seconds are of training with its compilation, all seeds together.',
    flush=True,
  )
  found = {name: _task(name, budget, out) for name in budget.steps}
  seconds = time.perf_counter() - began
  print(f'\n{seconds:.0f} seconds in all')
  return {
    'budget': budget_name,
    'tables': {name: table for name, (table, _) in found.items()},
    'rows': {name: rows for name, (_, rows) in found.items()},
    'seconds': seconds,
    'versions': report.versions(),
  }
