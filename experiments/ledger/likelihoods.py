"""Log-likelihoods of explicit models on one data set after another, beside published.

Every row is a config of `experiments/configs` with another data set, trained and then
scored on a whole split that it never saw. What is a bound says so. Numbers of different
data sets do not compare: dynamic MNIST, static MNIST and 8-bit MNIST are three.
"""

import pathlib
import time
from typing import Any, NamedTuple

import numpy as np

from experiments import quiet
from experiments.configs import (
  bernoulli_mixture_digits,
  eonade_digits,
  gated_pixelcnn_digits,
  gaussian_mixture_digits,
  independent_digits,
  kde_digits,
  made_digits,
  markov_digits,
  markov_manual,
  nade_digits,
  pixelcnn_digits,
  pixelcnn_pp_digits,
  transformer_digits,
  transformer_manual,
  transformer_melodies,
)
from gm_jax import statistics
from gm_jax.data import melodies, registry
from gm_jax.tasks import density, results
from gm_jax.training import inference, plots, report
from gm_jax.training import setup as setup_lib

FIRST_SEED = 500
PICTURE = 20  # samples of a model in the picture
PER_ORDERS = 200  # examples on which ensembles of many passes are scored
HEADER = ('model', 'nats', 'bits a number', 'kind', 'seeds', 'steps', 'seconds')


class Fit(NamedTuple):
  """A row: a config's module, and what of it is changed."""

  name: str
  config: Any
  changes: dict = {}
  evaluated: int | None = None  # test examples, all if None


class Task(NamedTuple):
  """A data set, its rows, and which of these must come out in order."""

  title: str
  data: str
  fits: tuple[Fit, ...]
  ordered: tuple[str, ...] = ()  # names, from the best
  published: str = ''  # which of PUBLISHED stand beside it


ORDER = ('PixelCNN', 'NADE', 'Markov', 'independent')
README = "a public repository's README"
RECALLED = 'a paper, recalled and not confirmed'
# By data set: (model, nats, where from).
PUBLISHED = {
  'dynamic MNIST': [
    ('NADE', 85.65, README),
    ('MADE', 84.87, README),
    ('PixelCNN', 81.45, README),
    ('Gated PixelCNN', 81.50, README),
  ],
  'static MNIST, not to be had here': [
    ('NADE', 88.33, RECALLED),
    ('MADE, 2 layers, 32 masks', 86.64, RECALLED),
    ('EoNADE, 2 layers, 128 orders', 85.10, RECALLED),
    ('PixelCNN', 81.30, RECALLED),
  ],
}
BINARY = {'data': 'dynamic:digits'}
LEVELS = {'data': 'digits?transform=levels'}
COUNTED = {'steps': 60, 'steps_per_dispatch': 60}  # 20 epochs of new draws


def _digits() -> tuple[Task, ...]:
  binary = (
    Fit('independent', independent_digits, BINARY | COUNTED),
    Fit('Markov', markov_digits, BINARY | COUNTED),
    Fit('Markov, memory 4', markov_digits, BINARY | COUNTED | {'memory': 4}),
    Fit('30 Bernoullis', bernoulli_mixture_digits, BINARY),
    Fit('NADE', nade_digits, BINARY),
    Fit('MADE, 4 orders', made_digits, BINARY),
    Fit('EoNADE, 8 orders', eonade_digits, BINARY),
    Fit('PixelCNN', pixelcnn_digits, BINARY),
    Fit('Gated PixelCNN', gated_pixelcnn_digits, BINARY),
    Fit('transformer', transformer_digits, BINARY),
  )
  noise = {'data': 'digits?transform=dequantization'}
  levels = (
    Fit('independent', independent_digits, LEVELS),
    Fit('Markov', markov_digits, LEVELS),
    Fit('kernel density', kde_digits, noise),
    Fit('30 Gaussians', gaussian_mixture_digits, noise),
    Fit('NADE', nade_digits, LEVELS | {'likelihood': 'categorical', 'steps': 2000}),
    Fit('PixelCNN', pixelcnn_digits, LEVELS),
    Fit('Gated PixelCNN', gated_pixelcnn_digits, LEVELS),
    Fit('PixelCNN++', pixelcnn_pp_digits, LEVELS),
    Fit('transformer', transformer_digits, LEVELS),
  )
  return (
    Task('digits, dynamic binary, 8x8', 'dynamic:digits', binary, ORDER),
    Task('digits, 17 levels, 8x8', 'digits?transform=levels', levels, ORDER),
  )


def _sequences() -> tuple[Task, ...]:
  chains = tuple(
    Fit(
      f'Markov, memory {m}' if m else 'single characters',
      markov_manual,
      {'memory': m},
    )
    for m in (0, 1, 2)
  )
  tunes = {'data': 'melodies', 'steps': 8, 'batch_size': 512, 'steps_per_dispatch': 8}
  notes = tuple(
    Fit(f'Markov, memory {m}' if m else 'single notes', markov_manual,
        tunes | {'memory': m, 'smoothing': 0.1})
    for m in (0, 1, 2, 3)
  )  # fmt: skip
  return (
    Task(
      'the Python manual, characters in windows of 64',
      'manual',
      (*chains, Fit('transformer', transformer_manual)),
      ('transformer', 'Markov, memory 2', 'Markov, memory 1', 'single characters'),
    ),
    Task(
      'melodies, 32 notes of 36 pitches',
      'melodies',
      (*notes, Fit('transformer', transformer_melodies)),
      ('transformer', 'Markov, memory 1', 'single notes'),
    ),
  )


def _large(name: str, title: str, scale: int) -> tuple[Task, ...]:
  """28x28 images, binary and of 256 levels; `scale` multiplies steps and widths."""
  held = f'tfds:{name}?validation=5000'
  binary, levels = {'data': f'dynamic:{held}'}, {'data': f'{held}&transform=levels'}
  count = {'batch_size': 500, 'steps': 110, 'steps_per_dispatch': 110}
  mixed, batch = (
    {'batch_size': 1000, 'steps': 660, 'steps_per_epoch': 55},
    {'batch_size': 100},
  )
  nade = {'steps': 1000 * scale, 'hidden': 500, 'learning_rate': 2e-3}
  wide = {'steps': 5000 * scale, 'hidden': 500, 'learning_rate': 1e-3}
  plain, gated = {'steps': 2000 * scale}, {'steps': 800 * scale}
  net = {'features': 16 * scale, 'layers': 5, 'dropout': 0.0}
  dynamic = (
    Fit('independent', independent_digits, binary | count),
    Fit('Markov', markov_digits, binary | count),
    Fit('30 Bernoullis', bernoulli_mixture_digits, binary | mixed),
    Fit('NADE', nade_digits, binary | batch | nade),
    Fit('MADE, 1 order', made_digits, binary | batch | wide | {'num_orders': 1}),
    Fit('EoNADE, 2 orders', eonade_digits, binary | batch | wide | {
      'num_orders': 2}, PER_ORDERS),
    Fit('PixelCNN', pixelcnn_digits, binary | net | plain),
    Fit('Gated PixelCNN', gated_pixelcnn_digits, binary | net | gated),
  )  # fmt: skip
  # A scale that is learned down to a bin's takes longer than a logit, or larger steps.
  logistics = {'likelihood': 'logistics', 'hidden': 200, 'learning_rate': 1e-2}
  logistics['steps'] = 3000 * scale
  bytes_ = (
    Fit('independent', independent_digits, levels | count),
    Fit('Markov', markov_digits, levels | count),
    Fit('NADE', nade_digits, levels | batch | nade | logistics),
    Fit('PixelCNN', pixelcnn_digits, levels | net | plain | {'components': 5}),
    Fit('PixelCNN++', pixelcnn_pp_digits, levels | net | gated),
  )
  of = 'dynamic MNIST' if name == 'mnist' else ''
  return (
    Task(f'dynamic {title}', binary['data'], dynamic, ORDER, of),
    Task(f'8-bit {title}', levels['data'], bytes_, ORDER),
  )


class Budget(NamedTuple):
  """How much is trained.

  seeds: of every row of small data; large images have one.
  part: of each config's steps, for a trial.
  scale: of the networks and steps of large images.
  """

  seeds: int
  part: float
  scale: int


BUDGETS = {
  'smoke': Budget(2, 0.02, 1),
  'laptop': Budget(2, 1.0, 1),
  'full': Budget(4, 1.0, 8),
}


class Row(NamedTuple):
  """What came of a fit."""

  fit: Fit
  nats: np.ndarray  # [S], negative log-likelihood of an example
  bits: np.ndarray  # [S], of a number
  error: float  # standard error over the test examples, of nats
  kind: str
  steps: int
  seconds: float
  examples: int
  samples: np.ndarray | None


def _config(fit: Fit, seeds: int, part: float):
  module = fit.config
  config = module.get_config()
  changes = {'seeds': seeds, 'seed': FIRST_SEED, **fit.changes}
  for name, value in changes.items():
    config[name] = value
  # Whole epochs are what a fit by counting is; others may be cut short.
  if 'learning_rate' in config:
    config.steps_per_dispatch = 10 if part < 1 else 50
    config.steps = max(1, round(config.steps * part / 20)) * 20
  for name in ('evaluate', 'sample', 'checkpoint'):
    config[f'{name}_every'] = 0
  config.log_every = config.steps_per_dispatch
  return module, config


def _row(fit: Fit, budget: Budget, seeds: int, options: setup_lib.Options) -> Row:
  module, config = _config(fit, seeds, budget.part)
  setup = setup_lib.prepare(module, config, options, evaluates=True)
  (phase,) = setup.make_phases(0)
  state, _, seconds = quiet.train_config(setup)
  data, limit = setup.data, fit.evaluated
  arrays = data.arrays('test', limit if budget.part == 1 else 50)

  def evaluation(method, model, key):
    found = density.density(method, model, key, {'test': arrays}, data.spec)
    return results.numbers(found)

  scored = setup._replace(evaluation=evaluation)
  found, _ = inference.scorer(scored, phase)(state)
  name = next(k for k in found if k.startswith('nll') and not k.endswith('_error'))
  samples = None
  if len(data.spec.shape) == 3:
    drawn = inference.drawer(setup, phase, PICTURE)(state)
    samples = (drawn if seeds == 1 else drawn[0]) / (data.spec.num_levels - 1) * 2 - 1
  return Row(
    fit=fit,
    nats=np.atleast_1d(found[name]),
    bits=np.atleast_1d(found[name.replace('nll', 'bits_per_dim')]),
    error=float(np.mean(found[f'{name}_error'])),
    kind='bound' if name.endswith('_bound') else 'exact',
    steps=config.steps,
    seconds=seconds,
    examples=len(arrays['x']),
    samples=samples,
  )


def cells(row: Row) -> list[str]:
  """Mean over seeds, +- the standard error over test examples, range over seeds."""
  nats = f'{row.nats.mean():.2f} +- {row.error:.2f}'
  if len(row.nats) > 1:
    nats += f' ({row.nats.min():.2f} to {row.nats.max():.2f})'
  name = row.fit.name + (f' [{row.examples} examples]' if row.fit.evaluated else '')
  bits = f'{row.bits.mean():.3f}'
  tail = str(len(row.nats)), str(row.steps), f'{row.seconds:.0f}'
  return [name, nats, bits, row.kind, *tail]


def in_order(rows: list[Row], names: tuple[str, ...]) -> list[tuple[str, str, float]]:
  """Neighbors of the wanted order, the better first, and by how many nats it is."""
  by_name = {row.fit.name: float(row.nats.mean()) for row in rows}
  pairs = zip(names, names[1:], strict=False)
  return [(a, b, by_name[b] - by_name[a]) for a, b in pairs]


def _distribution_of_tunes() -> tuple[list[str], dict]:
  nats = -melodies.log_prob(registry.load('melodies').arrays('test')['x'])
  nats, error = statistics.mean_and_error(nats)
  bits = nats / melodies.LENGTH / np.log(2)
  line = ['the law itself', statistics.text(nats, error, '.2f'), f'{bits:.3f}']
  numbers = {'name': line[0], 'nats': float(nats), 'bits': float(bits)}
  return [*line, 'exact', '', '', ''], numbers


def _task(
  task: Task, budget: Budget, options, out: pathlib.Path
) -> tuple[report.Table, dict[str, Any]]:
  large = 'tfds:' in task.data
  seeds = 1 if large and budget.scale == 1 else budget.seeds
  print(f'\n{task.title} ({task.data})', flush=True)
  rows = []
  for fit in task.fits:
    rows.append(_row(fit, budget, seeds, options))
    print(f'  {" | ".join(cells(rows[-1]))}', flush=True)
  lines, numbers = [cells(row) for row in rows], [_numbers(row) for row in rows]
  if task.data == 'melodies':
    line, exact = _distribution_of_tunes()
    lines.append(line)
    numbers.append(exact)
  table = report.Table(HEADER, lines)
  print('\n' + report.text_table(*table))
  gaps = in_order(rows, task.ordered)
  holds = all(gap > 0 for _, _, gap in gaps)
  what = ', '.join(f'{a} below {b} by {gap:.2f}' for a, b, gap in gaps)
  print(f'order {"holds" if holds else "DOES NOT HOLD"}: {what} nats')
  if task.published:
    for data, published in PUBLISHED.items():
      print(f'published, {data}:')
      for model, nats, source in published:
        print(f'  {model:<30} {nats:.2f}  ({source})')
  pictured = {row.fit.name: row.samples for row in rows if row.samples is not None}
  if pictured:
    name = 'likelihoods_' + task.title.split(',')[0].replace(' ', '_')
    name += '_binary' if 'binary' in task.title else ''
    path = out / f'{name}.png'
    plots.side_by_side(path, pictured, columns=5, sets=5)
    print(f'samples: {path}')
  facts = {'data': task.data, 'title': task.title, 'rows': numbers, 'order': holds}
  return table, facts


def _numbers(row: Row) -> dict[str, Any]:
  return {
    'name': row.fit.name,
    'config': row.fit.config.__name__.rpartition('.')[2],
    'changes': row.fit.changes,
    'nats': row.nats.tolist(),
    'bits': row.bits.tolist(),
    'standard_error': row.error,
    'kind': row.kind,
    'steps': row.steps,
    'seconds': row.seconds,
    'examples': row.examples,
  }


def tasks(data_dir: str | None, scale: int = 1) -> tuple[Task, ...]:
  """The data sets: embedded ones and, with a folder, MNIST and Fashion-MNIST."""
  small = (*_digits(), *_sequences())
  if not data_dir:
    return small
  large = _large('mnist', 'MNIST', scale), _large('fashion_mnist', 'Fashion', scale)
  return (*small, *large[0], *large[1])


def run(budget_name: str, *, data_dir: str | None, out: pathlib.Path) -> dict[str, Any]:
  """Trains every model on every data set and prints the tables.

  Args:
    budget_name: one of `BUDGETS`.
    data_dir: where TensorFlow Datasets keeps MNIST and Fashion-MNIST, or None.
    out: folder for pictures.

  Returns:
    Every number, ready for JSON, and the printed tables by data set.
  """
  budget, began = BUDGETS[budget_name], time.perf_counter()
  print(
    'Negative log-likelihood of the test split, every example of it unless said;'
    ' nats an example, bits a number of it. +- is the standard error over examples;'
    f' (least to most) is over seeds from {FIRST_SEED}, trained at once. Adam, cosine'
    ' decay to 0, parameters averaged at 0.99; how steps and sizes were chosen stands'
    ' in docs/results/likelihoods.md. Binary images are drawn anew in training'
    ' and once for the test. "bound": of a density of noisy pixels, by Jensen.'
    ' Seconds are of training with its compilation, all seeds together.',
    flush=True,
  )
  options = setup_lib.Options(data_dir)
  found = [_task(task, budget, options, out) for task in tasks(data_dir, budget.scale)]
  seconds = time.perf_counter() - began
  print(f'\n{seconds:.0f} seconds in all')
  return {
    'budget': budget_name,
    'tables': {facts['data']: table for table, facts in found},
    'tasks': [facts for _, facts in found],
    'seconds': seconds,
    'versions': report.versions(),
  }
