"""Decoders by annealed importance sampling, beside Parzen windows of their samples.

Both numbers are of the same test images in the same space. The first is a lower bound
of the log-likelihood of the decoder with Gaussian noise, the noise chosen on validation
data, whose distance is seen on data that the decoder itself draws; the second is the
log-density of a kernel estimate of the decoder's samples, its bandwidth chosen alike.
A linear decoder, whose log-likelihood is exact, stands among them.

Source: On the Quantitative Analysis of Decoder-Based Generative Models, Wu et al.,
2017, arXiv:1611.04273, tables 1 and 2.
"""

import itertools
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import quiet
from experiments.configs import (
  adversarial_autoencoder_digits,
  gan_digits,
  gmmn_digits,
  vae_digits,
)
from experiments.ledger import kernels
from gm_jax import base, priors, statistics
from gm_jax.data import dataset, registry
from gm_jax.methods import gan
from gm_jax.tasks import decoders, results
from gm_jax.training import report
from gm_jax.training import setup as setup_lib
from gm_jax.training import step as step_lib

DATA = 'digits?transform=dequantization'  # a density needs data without a lattice
FIRST_SEED = 700
PPCA = 'linear (PPCA)'
PPCA_SIZE = 10
STDS = tuple(2 * std for std in kernels.STDS)  # of [-1, 1], twice as wide as [0, 1]
HEADER = (
  'decoder', 'AIS, nats', 'gap', 'noise std', 'Parzen, nats', 'bandwidth', 'seeds',
  'steps', 'seconds',
)  # fmt: skip
PAIRS_HEADER = ('pair', 'AIS difference', 'Parzen difference', 'orders')
# The paper's, on MNIST: nats of AIS and of the kernel density, by decoder.
RECALLED = {
  'VAE-50': (991.4, 351.2),
  'GAN-50': (627.3, 300.3),
  'GMMN-50': (593.5, 277.2),
  'VAE-10': (705.4, 408.7),
  'GAN-10': (328.8, 259.7),
  'GMMN-10': (346.7, 262.7),
}


class Fit(NamedTuple):
  """A decoder: a config's module, and what of it is changed."""

  name: str
  config: Any
  changes: dict = {}


# A row a decoder: any config whose method has `decode`, `prior` and `log_prior`.
FITS = (
  Fit('GAN', gan_digits),
  Fit('GMMN', gmmn_digits),
  Fit('adversarial auto-encoder', adversarial_autoencoder_digits),
  Fit('VAE, std 0.2', vae_digits, {'likelihood': 'fixed_gaussian', 'std': 0.2}),
)


class Budget(NamedTuple):
  """How much is trained and measured.

  seeds: trainings of each decoder.
  part: of each config's steps, for a trial.
  num: test images.
  num_simulated: images drawn by the decoder, and validation images for the noise.
  num_steps: temperatures.
  samples: of the decoder, for its Parzen window.
  """

  seeds: int
  part: float
  num: int
  num_simulated: int
  num_steps: int
  samples: int


BUDGETS = {
  'smoke': Budget(2, 0.02, 4, 3, 10, 50),
  'laptop': Budget(2, 1.0, 60, 20, 400, 2000),
  'full': Budget(4, 1.0, 360, 100, 10_000, 10_000),
}


class Row(NamedTuple):
  """One line of the table; S seeds, N test images."""

  name: str
  ais: np.ndarray  # [S, N] nats, a lower bound
  noise: float  # standard error of the mean of one seed, by the chains alone
  gap: np.ndarray  # [S] nats
  gap_error: float  # of one seed
  noise_std: np.ndarray  # [S]
  parzen: np.ndarray  # [S, N] nats
  bandwidth: np.ndarray  # [S]
  steps: int
  seconds: float  # of training and measuring
  exact: float | None = None  # nats, where it is known


class Splits(NamedTuple):
  """Images in model space, and raw."""

  raw: dict[str, dict]
  spec: base.DataSpec
  validation: np.ndarray  # [M, D]
  test: np.ndarray  # [N, D]


def splits_of(data: dataset.Dataset, num: int) -> Splits:
  """The test and validation images that everything is measured on."""
  raw = {'test': data.arrays('test', num), 'validation': data.arrays('validation')}
  flat = {
    split: np.asarray(results.in_model_space(data.spec, arrays)['x'])
    for split, arrays in raw.items()
  }
  flat = {split: x.reshape(len(x), -1) for split, x in flat.items()}
  return Splits(raw, data.spec, flat['validation'], flat['test'])


def decoded(method: base.Method, model, key, num: int) -> base.Array:
  """What a decoder makes of the prior [num, ...], without an observation's noise."""
  if 'decode' not in method.queries:
    return method.sample(model, key, num)
  z_key, key = jax.random.split(key)
  z = method.queries['prior'](model, z_key, num)
  return method.queries['decode'](model, key, z)


def measure(
  name: str,
  method: base.Method,
  models: list[base.Model],
  splits: Splits,
  budget: Budget,
  *,
  std: float | None = None,
) -> Row:
  """Both numbers of every seed's model."""

  def ais(model, key):
    found = decoders.log_likelihood_by_ais(
      method, model, key, splits.raw, splits.spec, num=budget.num,
      num_simulated=budget.num_simulated, num_steps=budget.num_steps, std=std,
    )  # fmt: skip
    return results.numbers(found), dict(found.arrays)

  def samples(model, key):
    keys = jax.random.split(key, -(-budget.samples // 250))
    drawn = jax.lax.map(lambda key: decoded(method, model, key, 250), keys)
    return drawn.reshape(-1, splits.test.shape[1])[: budget.samples]

  began = time.perf_counter()
  ais, samples = jax.jit(ais), jax.jit(samples)
  numbers, each, windows, parzen = [], [], [], []
  for seed, model in enumerate(models):
    key = jax.random.key(FIRST_SEED + seed)
    found, arrays = jax.device_get(ais(model, key))
    points = np.asarray(samples(model, key))
    window = kernels.window(
      'digits', name, points, splits.validation, splits.test, STDS
    )
    numbers.append(found)
    each.append(arrays['log_likelihood'])
    windows.append(window)
    parzen.append(kernels.density(points, splits.test, window.std))
  every = {k: np.asarray([one[k] for one in numbers], float) for k in numbers[0]}
  return Row(
    name=name,
    ais=np.stack(each),
    noise=float(every['log_likelihood_noise'].mean()),
    gap=every['gap'],
    gap_error=float(every['gap_error'].mean()),
    noise_std=every['noise_std'],
    parzen=np.stack(parzen),
    bandwidth=np.asarray([window.std for window in windows]),
    steps=0,
    seconds=time.perf_counter() - began,
  )


def _trained(fit: Fit, splits: Splits, budget: Budget) -> Row:
  config = fit.config.get_config()
  steps = max(1, round(config.steps * budget.part / 50)) * 50
  changes = {'data': DATA, 'seeds': budget.seeds, 'seed': FIRST_SEED, 'steps': steps}
  for name, value in (changes | fit.changes).items():
    config[name] = value
  for name in ('evaluate', 'sample', 'checkpoint'):
    config[f'{name}_every'] = 0
  if 'best' in config:  # of evaluations, of which there are none
    config.best = ''
  options = setup_lib.DEFAULT
  setup = setup_lib.prepare(fit.config, config, options, evaluates=False)
  trained = quiet.train_config(setup)
  phase = setup.make_phases(0)[-1]
  model = step_lib.model(quiet.by_seed(trained.state, budget.seeds))
  models = [jax.tree.map(lambda a, i=i: a[i], model) for i in range(budget.seeds)]
  row = measure(fit.name, phase.method, models, splits, budget)
  return row._replace(steps=config.steps, seconds=row.seconds + trained.wall)


class Linear(NamedTuple):
  """A linear decoder with Gaussian noise, and its exact log-likelihood."""

  method: base.Method
  model: base.Model
  std: float
  log_prob: Callable  # x [N, D] -> [N] nats, in float64


def probabilistic_pca(x: np.ndarray, size: int, shape: tuple[int, ...]) -> Linear:
  """The linear decoder of the largest likelihood, in closed form.

  p(z) = N(0, I), p(x | z) = N(W z + m, s^2 I),  W = U (L - s^2 I)^1/2

  with the `size` largest eigenvalues L of the covariance, their vectors U, and s^2 the
  mean of the others.

  Source: Probabilistic Principal Component Analysis, Tipping and Bishop, 1999, JRSS B
  61, eq. 7 and 8.

  Args:
    x: [N, D] data.
    size: of the latents, below D.
    shape: of an example.
  """
  x = np.asarray(x, float)
  mean, covariance = x.mean(axis=0), np.cov(x.T, bias=True)
  values, vectors = np.linalg.eigh(covariance)
  variance = values[:-size].mean()
  weights = vectors[:, -size:] * np.sqrt(values[-size:] - variance)  # [D, Z]
  model_covariance = weights @ weights.T + variance * np.eye(len(mean))
  inverse = np.linalg.inv(model_covariance)
  log_det = np.linalg.slogdet(2 * np.pi * model_covariance)[1]

  def log_prob(x):
    off = np.asarray(x, float) - mean
    return -0.5 * (np.einsum('ni,ij,nj->n', off, inverse, off) + log_det)

  prior = priors.normal(size)

  def decode(model, key, z, *, condition=None):
    del key, condition
    x = z @ model.params['weights'].T + model.params['mean']
    return x.reshape(len(z), *shape)

  def sample(model, key, num, *, condition=None):
    return decode(model, None, prior(key, num), condition=condition)

  queries = {
    'decode': decode,
    'prior': lambda model, key, num, *, condition=None: prior(key, num),
    'log_prior': lambda model, key, z, *, condition=None: prior.log_prob(z),
  }
  params = {'weights': jnp.asarray(weights, float), 'mean': jnp.asarray(mean, float)}
  method = base.Method(gan.CARD, None, None, sample, queries=queries)
  return Linear(method, base.Model(params, {}), float(np.sqrt(variance)), log_prob)


def _linear(data: dataset.Dataset, splits: Splits, budget: Budget) -> Row:
  train = np.asarray(results.in_model_space(data.spec, data.arrays('train'))['x'])
  train = train.reshape(len(train), -1)
  found = probabilistic_pca(train, PPCA_SIZE, data.spec.shape)
  row = measure(PPCA, found.method, [found.model], splits, budget, std=found.std)
  return row._replace(exact=float(found.log_prob(splits.test).mean()))


def cells(row: Row) -> list[str]:
  """Means over seeds, +- the standard error over test images, range over seeds."""

  def nats(each):
    mean, error = statistics.mean_and_error(each.mean(axis=0))
    text = statistics.text(mean, error, '.1f')
    by_seed = each.mean(axis=1)
    return text + (
      f' ({by_seed.min():.1f} to {by_seed.max():.1f})' if len(by_seed) > 1 else ''
    )

  def numbers(values):
    return ', '.join(f'{v:.2g}' for v in dict.fromkeys(values.tolist()))

  exact = '' if row.exact is None else f', exact {row.exact:.1f}'
  return [
    row.name, nats(row.ais) + exact, f'{row.gap.mean():.2f} +- {row.gap_error:.2f}',
    numbers(row.noise_std), nats(row.parzen), numbers(row.bandwidth),
    str(len(row.gap)), str(row.steps) if row.steps else 'closed form',
    f'{row.seconds:.0f}',
  ]  # fmt: skip


class Pair(NamedTuple):
  """How two decoders compare by both numbers, image by image, means over seeds."""

  better: str  # by AIS
  other: str
  ais: tuple[float, float]  # difference and its error
  parzen: tuple[float, float]
  slack: float  # nats by which the other may be better than its bound

  def orders(self) -> str:
    """Whether the two numbers order the pair alike; nothing within two errors."""
    least = self.ais[0] - max(self.slack, 0.0), abs(self.parzen[0])
    errors = self.ais[1], self.parzen[1]
    if any(gap < 2 * error for gap, error in zip(least, errors, strict=True)):
      return 'not told apart'
    return 'agree' if self.parzen[0] > 0 else 'DISAGREE'


def pairs(rows: list[Row]) -> list[Pair]:
  """All pairs, the better by AIS first."""
  ordered = sorted(rows, key=lambda row: -row.ais.mean())

  def difference(a, b):
    gap, error = statistics.mean_and_error(a.mean(axis=0) - b.mean(axis=0))
    return float(gap), float(error)

  return [
    Pair(
      a.name,
      b.name,
      difference(a.ais, b.ais),
      difference(a.parzen, b.parzen),
      float(b.gap.mean()),
    )
    for a, b in itertools.combinations(ordered, 2)
  ]


def pair_cells(pair: Pair) -> list[str]:
  """One line of the table of pairs."""
  gaps = (statistics.text(*gap, '.1f') for gap in (pair.ais, pair.parzen))
  return [f'{pair.better} above {pair.other}', *gaps, pair.orders()]


def run(budget_name: str, *, out: pathlib.Path) -> dict[str, Any]:
  """Trains and measures every decoder, and says where the orders disagree.

  Args:
    budget_name: of `BUDGETS`.
    out: unused; these tables have no picture.

  Returns:
    Every number, ready for JSON, and the printed tables by name.
  """
  del out
  began, budget = time.perf_counter(), BUDGETS[budget_name]
  data = registry.load(DATA)
  splits = splits_of(data, budget.num)
  print(
    'Digits with noise on their levels, in [-1, 1]. AIS: 16 chains of'
    f' {budget.num_steps} temperatures on {budget.num} test images, Gaussian noise, its'
    f' std of {len(decoders.STDS)} the best on {budget.num_simulated} validation'
    f' images; gap: upper less lower bound on {budget.num_simulated} images drawn by'
    f' the decoder. Parzen: {budget.samples:,} samples, their bandwidth of'
    f' {len(STDS)} the best on all validation images. +- standard error over test'
    ' images (of the gap, over drawn ones); in parentheses the range over seeds.',
    flush=True,
  )
  rows = []
  for fit in FITS:
    rows.append(_trained(fit, splits, budget))
    print(f'  {" | ".join(cells(rows[-1]))}', flush=True)
  rows.append(_linear(data, splits, budget))
  table = report.Table(HEADER, [cells(row) for row in rows])
  found = pairs(rows)
  second = report.Table(PAIRS_HEADER, [pair_cells(pair) for pair in found])
  print('\n' + report.text_table(*table) + '\n\n' + report.text_table(*second))
  wrong = [pair for pair in found if pair.orders() == 'DISAGREE']
  print(f'the orders disagree in {len(wrong)} of {len(found)} pairs')
  print('The paper, on MNIST (recalled and not confirmed), AIS and kernel density:')
  for name, (ais, kernel) in RECALLED.items():
    print(f'  {name:<10} {ais:.1f} {kernel:.1f}')
  seconds = time.perf_counter() - began
  print(f'{seconds:.0f} seconds in all')
  return {
    'tables': {'decoders': table, 'pairs': second},
    'budget': budget_name,
    'rows': [_numbers(row) for row in rows],
    'pairs': [pair._asdict() for pair in found],
    'seconds': seconds,
    'versions': report.versions(),
  }


def _numbers(row: Row) -> dict[str, Any]:
  found = row._asdict() | {
    'ais': row.ais.mean(axis=1), 'parzen': row.parzen.mean(axis=1)
  }  # fmt: skip
  return {
    k: np.asarray(v).tolist() if isinstance(v, np.ndarray) else v
    for k, v in found.items()
  }
