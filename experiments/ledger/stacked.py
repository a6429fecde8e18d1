"""Stacked digits: modes of 1,000 that a GAN reaches, by the steps it looks ahead.

A row is a DCGAN's generator against a discriminator that is made too small on
purpose, a half or a quarter of the generator's width, as in the papers; what differs
between rows is in its name. Seeds run at once, by vmap. The papers' rows are of
stacked MNIST: other images, larger networks, 500,000 steps. They stand beside ours,
not against them.

Source of the papers' rows: Unrolled Generative Adversarial Networks, Metz et al.,
2017, arXiv:1611.02163, as printed in table 3 of PacGAN: The power of two samples in
generative adversarial networks, Lin et al., 2017, arXiv:1712.04086.
"""

import pathlib
import time
import types
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import quiet
from experiments.configs import unrolled_gan_images
from experiments.configs.parts import evaluations, games, networks, optimizers
from experiments.ledger import seeds
from gm_jax import base
from gm_jax.data import dataset, registry
from gm_jax.methods import gan
from gm_jax.metrics import modes
from gm_jax.tasks import quality
from gm_jax.training import inference, plots, report
from gm_jax.training import setup as setup_lib

FIRST_SEED = 100
KS = (0, 1, 5, 10)
SHOWN = 8  # samples in the picture
DISPATCH = 50  # steps; a run has an even number of dispatches


class Budget(NamedTuple):
  """What one can afford, and what fits it."""

  data: str
  steps: int
  seeds: int
  batch_size: int
  latent_size: int
  g_features: int
  rate: float
  tried: str


BUDGETS = {
  'laptop': Budget(
    data='stacked:digits',
    steps=2000,
    seeds=4,
    batch_size=64,
    latent_size=64,
    g_features=32,
    rate=1e-3,
    tried=(
      'Tried before, on seeds 0 to 3: 3,000 steps with a half and a quarter for k = 0'
      ' and 5, 12,000 steps for k = 0 (780, 863, 858 and 818 modes after each 3,000),'
      ' the non-saturating game for k = 0 (825 modes), 1,000 steps for k = 10. The'
      ' steps were then chosen for their cost; the rate was the first one tried.'
    ),
  ),
  'full': Budget(
    data='stacked:tfds:mnist',
    steps=50_000,
    seeds=5,
    batch_size=128,
    latent_size=256,
    g_features=32,
    rate=2e-4,
    tried='Nothing was tried before; written for an accelerator.',
  ),
}
# (modes, KL) by the generator's width over the discriminator's, and k.
PAPER = {
  4: {
    0: ('30.6 +- 20.73', '5.99 +- 0.42'),
    1: ('65.4 +- 34.75', '5.91 +- 0.14'),
    5: ('236.4 +- 63.30', '4.67 +- 0.43'),
    10: ('327.2 +- 74.67', '4.66 +- 0.46'),
  },
  2: {
    0: ('628.0 +- 140.9', '2.58 +- 0.75'),
    1: ('523.6 +- 55.77', '2.44 +- 0.26'),
    5: ('732.0 +- 44.98', '1.66 +- 0.09'),
    10: ('817.4 +- 37.91', '1.43 +- 0.12'),
  },
}
HEADER = (
  'discriminator',
  'row',
  'modes of 1000',
  'reverse KL',
  'seeds',
  'steps',
  'seconds',
  'paper: modes',
  'paper: KL',
)


class Row(NamedTuple):
  """One line of the table, trained."""

  divisor: int  # of the generator's width
  name: str
  k: int | None  # where the papers have such a row
  modes: np.ndarray  # [S]
  reverse_kl: np.ndarray  # [S], nats
  steps: int
  seconds: float  # of training alone, at the rate of its second half
  samples: np.ndarray  # [SHOWN, H, W, 3] in [-1, 1], of the first seed


def protocol(budget: Budget) -> str:
  """What the numbers depend on, in a paragraph."""
  b = budget
  return (
    f'{b.data}; {b.seeds} seeds from {FIRST_SEED}, trained at once; DCGAN generator'
    f' with {b.g_features} channels before the last doubling, discriminator with a'
    ' half or a quarter of that after the first halving, without batch normalization;'
    f' z of size {b.latent_size}, normal; Adam {b.rate:g} for both, b1 0.5, without'
    f' decay; batch {b.batch_size}, {b.steps:,} steps; minimax game; inner steps on the'
    f" generator's own batch. {quality.STACKED_SAMPLES:,} samples after the last step,"
    ' each channel classified; a mode is found by one sample; reverse KL is'
    ' KL(model || uniform) over modes, in nats; truly even modes would give 0.020 by'
    ' the finite number of samples alone. Mean +- standard error over seeds. Seconds'
    ' are of training alone, at the rate of its second half.'
  )


def run(budget_name: str, *, data_dir: str | None, out: pathlib.Path) -> dict[str, Any]:
  """Trains all rows, prints their table and draws samples.

  Args:
    budget_name: one of `BUDGETS`.
    data_dir: where TensorFlow Datasets keeps its data.
    out: folder for the picture.

  Returns:
    Every number, ready for JSON, and the printed tables by name.

  Raises:
    setup_lib.UsageError, dataset.DataError: the data cannot be used.
    loop.Diverged: a run's numbers went bad.
  """
  budget, began = BUDGETS[budget_name], time.perf_counter()
  print(protocol(budget), budget.tried, sep='\n', flush=True)
  data = registry.load(budget.data, data_dir=data_dir)
  classify = evaluations.stacked_classifier(data)
  floor = _of_data(data, classify)
  options = setup_lib.Options(data_dir)
  rows = []
  evaluation = evaluations.bound(quality.stacked_modes, data, {}, classify=classify)
  for divisor in PAPER:
    rows += _rows(budget, options, evaluation, divisor)
  table = report.Table(HEADER, [_cells(row) for row in rows])
  print('\n' + report.text_table(*table))
  print(
    f'\n{quality.STACKED_SAMPLES:,} test examples: {int(floor.modes)} modes,'
    f' reverse KL {float(floor.reverse_kl):.3f}.'
    "\nThe papers' columns are of another protocol (stacked MNIST, 28x28)."
  )
  path = out / 'stacked.png'
  _draw(path, data, rows)
  seconds = time.perf_counter() - began
  print(f'{seconds:.0f} seconds in all. Samples, a channel each: {path}')
  return {
    'tables': {'modes': table},
    'budget': budget_name,
    'protocol': protocol(budget),
    'rows': [_numbers(row) for row in rows],
    'test_examples': {k: float(v) for k, v in floor._asdict().items()},
    'seconds': seconds,
    'versions': report.versions(),
  }


def _rows(budget, options, evaluation, divisor):
  """The rows of one discriminator; controls with the smallest one only."""

  def train(name, k=None, steps=budget.steps, num_critic=None, **changes):
    made = experiment(evaluation, num_critic)
    row = _train(budget, options, made, divisor, name, k, steps, **changes)
    print(f'  D 1/{divisor}, {name}: {row.seconds:.0f} s', flush=True)
    return row

  rows = [train(f'k = {k}', k, num_unroll=k) for k in KS]
  if divisor == max(PAPER):
    plain, ahead = rows[KS.index(0)], rows[KS.index(5)]
    ratio = ahead.seconds / plain.seconds
    steps = max(1, round(budget.steps * ratio / (2 * DISPATCH))) * 2 * DISPATCH
    rows += [
      train('k = 0, seconds of k = 5', steps=steps, num_unroll=0),
      train('k = 0, 6 critic steps', num_critic=6),
      train('k = 5, partial gradient', num_unroll=5, unroll_fn='partial'),
    ]
  return rows


def experiment(evaluation: evaluations.Evaluation, num_critic: int | None = None):
  """unrolled_gan_images.py with an evaluation that is made once for all rows.

  Args:
    evaluation: of each row.
    num_critic: of the ordinary GAN with so many steps of the discriminator, each on
      data of their own, in place of the unrolled one; or None.
  """

  def make_method(config, spec, *, wrap=lambda tx: tx):
    return gan.gan(
      **networks.dcgan_networks(config, spec, normalize=False),
      g_tx=wrap(optimizers.adam(config, config.g_learning_rate)),
      d_tx=wrap(optimizers.adam(config, config.d_learning_rate, updates=num_critic)),
      game=games.GAMES['minimax'],
      num_critic=num_critic,
    )

  return types.SimpleNamespace(
    get_config=lambda: unrolled_gan_images.get_config('stacked:digits'),
    make_method=make_method if num_critic else unrolled_gan_images.make_method,
    make_evaluation=lambda config, data: evaluation,
    batch_size=lambda config: config.batch_size * (num_critic or 1),
  )


def _train(budget, options, made, divisor, name, k, steps, **changes) -> Row:
  """One row, from what `experiment` made."""
  config = made.get_config()
  config.update({name: getattr(budget, name) for name in ('data', 'seeds', 'batch_size',
                 'latent_size', 'g_features')})  # fmt: skip
  config.update(
    {'d_features': budget.g_features // divisor, 'steps': steps, 'seed': FIRST_SEED,
     'g_learning_rate': budget.rate, 'd_learning_rate': budget.rate, **changes}
  )  # fmt: skip
  config.update({'decay_steps': 0, 'ema_decay': 0.0, 'checkpoint_every': 0})
  config.steps_per_dispatch = DISPATCH
  config.evaluate_every = config.sample_every = 0  # both at the end, below
  config.log_every = steps // 2
  setup = setup_lib.prepare(made, config, options, evaluates=True)
  (phase,) = setup.make_phases(0)
  trained = quiet.train_config(setup)
  scores, _ = inference.scorer(setup, phase)(trained.state)
  samples = inference.drawer(setup, phase, SHOWN)(trained.state)
  samples = samples if setup.settings.num_seeds == 1 else samples[0]
  return Row(
    divisor=divisor,
    name=name,
    k=k,
    modes=np.atleast_1d(scores['modes']),
    reverse_kl=np.atleast_1d(scores['reverse_kl']),
    steps=steps,
    seconds=2.0 * quiet.seconds(trained, after=steps // 2),
    samples=shown(setup.data.spec, samples),
  )


def _of_data(data, classify) -> modes.StackedCoverage:
  """The scores of the data's own test examples: the best that can be had."""
  arrays = data.arrays('test', quality.STACKED_SAMPLES)
  x = dataset.transformed(data.spec, arrays)['x']

  def labels(x):
    return modes.stacked_labels(classify, x[None])[0]

  return modes.stacked_coverage(jax.lax.map(labels, x, batch_size=quality.CHUNK))


def shown(spec: base.DataSpec, raw: np.ndarray) -> np.ndarray:
  """Raw images as pictures have them, in [-1, 1]."""
  return 2 * np.asarray(raw, np.float32) / (spec.num_levels - 1) - 1


def _draw(path, data, rows) -> None:
  """Real and drawn examples of the smallest discriminator: a column a channel."""
  images = {'real': shown(data.spec, data.arrays('test', SHOWN)['x'])}
  images |= {row.name: row.samples for row in rows if row.divisor == max(PAPER)}
  gray = {
    name: np.moveaxis(x, -1, 1).reshape(-1, *x.shape[1:3], 1)
    for name, x in images.items()
  }
  path.parent.mkdir(parents=True, exist_ok=True)
  plots.side_by_side(path, gray, columns=3)


def _cells(row: Row) -> list[str]:
  paper = ('', '') if row.k is None else PAPER[row.divisor][row.k]
  scores = (
    seeds.mean_and_error(row.modes, '.1f'),
    seeds.mean_and_error(row.reverse_kl, '.3f'),
  )
  counts = str(len(row.modes)), str(row.steps), f'{row.seconds:.0f}'
  return [f'1/{row.divisor}', row.name, *scores, *counts, *paper]


def _numbers(row: Row) -> dict[str, Any]:
  numbers = row._asdict()
  del numbers['samples']
  paper = None if row.k is None else PAPER[row.divisor][row.k]
  lists = {k: v.tolist() for k, v in numbers.items() if isinstance(v, np.ndarray)}
  return {**numbers, **lists, 'paper, stacked MNIST 28x28': paper}
