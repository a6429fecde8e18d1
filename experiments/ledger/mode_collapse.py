"""The mode-collapse laboratory: every remedy on the ring, the grid and stacked digits.

On each task all rows share data, networks, optimizers, batch and number of steps, and
differ in the one thing that their name says; many seeds are trained at once. The
papers' rows are of other protocols (networks, widths, radius over deviation, epochs,
samples, threshold): they stand beside ours, not against them.

Sources of the papers' rows, as read in the authors' own tables: PacGAN: The power of
two samples in generative adversarial networks, Lin et al., 2017, arXiv:1712.04086,
tables 1 to 3; VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational
Learning, Srivastava et al., 2017, arXiv:1705.07761.
"""

import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.configs.parts import evaluations
from experiments.ledger import seeds as seeds_lib
from gm_jax import augmentation, dynamics, priors, unroll
from gm_jax.data import dataset, registry, stacked, toy
from gm_jax.losses import adversarial, penalties
from gm_jax.methods import (
  ada_gan,
  d2gan,
  gan,
  gman,
  simultaneous_gan,
  unrolled_gan,
)
from gm_jax.metrics import modes
from gm_jax.models import dcgan, mlp, remedies
from gm_jax.tasks import quality, results
from gm_jax.training import plots, report

FIRST_SEED, DISPATCH, K = 100, 50, 5
LATENT = 32
AUGMENT = augmentation.compose(augmentation.translation, augmentation.cutout)
SHOWN_POINTS, SHOWN_IMAGES = 1000, 8
HEADER = (
  'row', 'modes', 'high quality', 'reverse KL', 'seeds', 'steps', 'seconds',
  'papers, other protocols',
)  # fmt: skip


class Budget(NamedTuple):
  """What one can afford: for points and for images."""

  seeds: int
  steps: int
  image_seeds: int
  image_steps: int


BUDGETS = {
  'smoke': Budget(2, 2 * DISPATCH, 2, 2 * DISPATCH),
  'laptop': Budget(8, 8000, 4, 800),
  'full': Budget(10, 20_000, 5, 20_000),
}


class Task(NamedTuple):
  """Data to be covered, and how: all that rows have in common."""

  name: str
  num_modes: int
  draw: Callable  # (key, num) -> [num, ...]
  generator: Callable  # () -> module
  critic: Callable  # (width of its last layer) -> module
  prior: priors.Prior
  tx: Callable  # (scale of the rate, adam=optax.adam, updates=1)
  batch: int
  score: Callable  # (method, model, key) -> {name: []}
  images: bool
  protocol: str
  papers: dict[str, str]


class Row(NamedTuple):
  """One remedy: how it is made for a task, and how many batches a step takes."""

  make: Callable  # (task) -> Method
  batches: int = 1
  images_only: bool = False


class Result(NamedTuple):
  """One line of a table."""

  name: str
  scores: dict[str, np.ndarray]  # [S] each
  steps: int
  seconds: float
  samples: np.ndarray  # of the first seed


def _players(task: Task, *, width=1, packed=1, rates=(1.0, 1.0), updates=1) -> dict:
  critic = task.critic(width)
  if packed > 1:
    critic = remedies.Packed(critic, packed)
  return {
    'generator': task.generator(),
    'discriminator': critic,
    'g_tx': task.tx(rates[0]),
    'd_tx': task.tx(rates[1], updates=updates),
    'prior': task.prior,
  }


def _gan(task, *, packed=1, rates=(1.0, 1.0), **more):
  more = {'game': adversarial.MINIMAX} | more
  updates = more.get('num_critic', 1)
  parts = _players(task, packed=packed, rates=rates, updates=updates)
  return gan.gan(**parts, **more)


def _unrolled(task, *, unroll_fn=unroll.full):
  return unrolled_gan.unrolled_gan(
    **_players(task), num_unroll=K, unroll_fn=unroll_fn, diagnostics=False
  )


def _together(task, dynamics_fn):
  return simultaneous_gan.simultaneous_gan(**_players(task), dynamics=dynamics_fn)


def _optimistic(task):
  adam = functools.partial(optax.optimistic_adam_v2, nesterov=False)
  tx = functools.partial(task.tx, adam=adam)
  return _together(task._replace(tx=tx), dynamics.simultaneous)


def _with_statistics(task, statistic):
  parts = _players(task)
  body = task.critic(64)
  parts['discriminator'] = remedies.WithStatistics(body, statistic)
  return gan.gan(**parts, game=adversarial.MINIMAX)


def _augmented(task):
  parts = _players(task)
  parts['discriminator'] = remedies.Augmented(parts['discriminator'], AUGMENT)
  return gan.gan(**parts, game=adversarial.MINIMAX)


def _r1(critic, key, real, fake):
  return 0.05 * penalties.r1(critic, real)


def _gradient_penalty(critic, key, real, fake):
  return 10.0 * penalties.gradient_penalty(critic, key, real, fake)


def _d2gan(task):
  parts = _players(task)
  return d2gan.d2gan(
    parts['generator'], parts['discriminator'], task.critic(1), parts['g_tx'],
    parts['d_tx'], task.tx(1.0), prior=task.prior, alpha=0.2, beta=0.1,
  )  # fmt: skip


def _gman(task, combine):
  return gman.gman(**_players(task), num_discriminators=3, combine=combine)


def _ada(task):
  parts = _players(task)
  parts['discriminator'] = remedies.AdaptivelyAugmented(parts['discriminator'], AUGMENT)
  return ada_gan.ada_gan(**parts, game=adversarial.MINIMAX, rate=1e-3)


ROWS = {
  'GAN': Row(_gan),
  f'GAN, {K + 1} critic steps': Row(
    functools.partial(_gan, num_critic=K + 1), batches=K + 1
  ),
  f'unrolled, k = {K}, partial gradient': Row(
    functools.partial(_unrolled, unroll_fn=unroll.partial)
  ),
  f'unrolled, k = {K}, full gradient': Row(_unrolled),
  'packed, m = 2': Row(functools.partial(_gan, packed=2)),
  'packed, m = 3': Row(functools.partial(_gan, packed=3)),
  'packed, m = 4': Row(functools.partial(_gan, packed=4)),
  'D2GAN': Row(_d2gan),
  'GMAN of 3, mean': Row(functools.partial(_gman, combine=gman.mean)),
  'GMAN of 3, max': Row(functools.partial(_gman, combine=gman.maximum)),
  'GMAN of 3, softmax': Row(
    functools.partial(_gman, combine=gman.softmax_weighted(1.0))
  ),
  'minibatch stddev': Row(
    functools.partial(_with_statistics, statistic=remedies.minibatch_stddev)
  ),
  'minibatch discrimination': Row(
    functools.partial(
      _with_statistics, statistic=remedies.MinibatchDiscrimination(4, 2)
    )
  ),
  'DiffAugment': Row(_augmented, images_only=True),
  'ADA': Row(_ada, images_only=True),
  'R1 penalty': Row(functools.partial(_gan, penalty=_r1)),
  f'WGAN-GP, {K} critic steps': Row(
    functools.partial(
      _gan, game=adversarial.WASSERSTEIN, penalty=_gradient_penalty, num_critic=K
    ),
    batches=K,
  ),
  'two time scales, D 4 times': Row(functools.partial(_gan, rates=(0.5, 2.0))),
  'simultaneous': Row(functools.partial(_together, dynamics_fn=dynamics.simultaneous)),
  'extragradient': Row(
    functools.partial(_together, dynamics_fn=dynamics.extragradient)
  ),
  'optimistic': Row(_optimistic),
  'consensus': Row(functools.partial(_together, dynamics_fn=dynamics.consensus(1.0))),
  'symplectic': Row(functools.partial(_together, dynamics_fn=dynamics.symplectic(1.0))),
}

# As printed in the sources above: modes, high quality in %, reverse KL.
RING_PAPERS = {
  'GAN': 'PacGAN: 6.3 +- .5, 98.2, .45; VEEGAN: 1, 99.3',
  'packed, m = 2': 'PacGAN: 7.9 +- .1, 95.6, .07',
  'packed, m = 3': 'PacGAN: 7.8 +- .1, 97.7, .10',
  'packed, m = 4': 'PacGAN: 7.8 +- .1, 95.9, .07',
  f'unrolled, k = {K}, full gradient': 'VEEGAN, of unrolled GAN: 7.6, 35.6',
}
GRID_PAPERS = {
  'GAN': 'PacGAN: 17.3 +- .8, 94.8, .70; VEEGAN: 3.3, 0.5',
  'packed, m = 2': 'PacGAN: 23.8 +- .7, 91.3, .13',
  'packed, m = 3': 'PacGAN: 24.6 +- .4, 94.2, .06',
  'packed, m = 4': 'PacGAN: 24.8 +- .2, 93.6, .04',
  f'unrolled, k = {K}, full gradient': 'VEEGAN, of unrolled GAN: 23.6, 16',
}
# Of a discriminator a quarter as wide: modes, KL.
STACKED_PAPERS = {
  'GAN': 'PacGAN: 78.5 +- 17.6, 5.21; unrolled GAN: 30.6 +- 20.7, 5.99',
  f'unrolled, k = {K}, full gradient': 'unrolled GAN: 236.4 +- 63.3, 4.67',
  'packed, m = 2': 'PacGAN: 484.5 +- 33.0, 2.61',
  'packed, m = 3': 'PacGAN: 601.3 +- 32.2, 2.00',
  'packed, m = 4': 'PacGAN: 667.4 +- 29.0, 1.81',
}


def points(density: toy.Toy, papers) -> Task:
  """A mixture in the plane, networks 64 wide."""
  spread = float(np.abs(density.means).max())

  def score(method, model, key):
    samples = method.sample(model, key, 2500)
    return modes.coverage(samples, density.means, density.std)._asdict()

  return Task(
    name=density.name,
    num_modes=len(density.means),
    draw=density.sample,
    generator=lambda: mlp.MLP((64, 64, 2)),
    critic=lambda width: mlp.MLP((64, width), input_scale=0.5 / spread),
    prior=priors.normal(LATENT),
    tx=None,
    batch=96,
    score=score,
    images=False,
    protocol=(
      f'{density.name}: {len(density.means)} modes within {spread:g} of 0, std'
      f' {density.std:g}; z {LATENT}, normal; generator {LATENT}-64-64-2, critic'
      ' 2-64-1 of x over twice that, ReLU; Adam 2e-3 for both, b1 0.5, cosine decay'
      ' to 0; batch 96; minimax game. 2,500 samples after the last step; high quality'
      ' within 3 standard deviations of the nearest mode; a mode is found by 20 such'
      ' hits; reverse KL over modes in nats, inf where a seed has no hit at all.'
    ),
    papers=papers,
  )


def _stacked(data_dir: str | None) -> Task:
  """Stacked digits, or stacked MNIST where its data are: 1,000 modes."""
  name = 'stacked:tfds:mnist' if data_dir else 'stacked:digits'
  data = registry.load(name, data_dir=data_dir)
  classify = evaluations.stacked_classifier(data)
  counted = evaluations.bound(quality.stacked_modes, data, {}, classify=classify)
  arrays = stacked.unstacked(data.arrays('train', 20_000))
  base_images = dataset.transformed(data.spec, arrays)['x']
  size = base_images.shape[1]

  def draw(key, num):
    index = jax.random.randint(key, (3, num), 0, len(base_images))
    return jnp.concatenate([base_images[i] for i in index], axis=-1)

  def score(method, model, key):
    return results.numbers(counted(method, model, key))

  return Task(
    name=name,
    num_modes=1000,
    draw=draw,
    generator=lambda: dcgan.Generator(size, 3, 32),
    critic=lambda width: dcgan.Discriminator(8, normalize=False, num_outputs=width),
    prior=priors.normal(64),
    tx=None,
    batch=48,
    score=score,
    images=True,
    protocol=(
      f'{name}, {size}x{size}; DCGAN generator of 32 channels, discriminator of 8,'
      ' without batch normalization; z 64, normal; Adam 1e-3 for both, b1 0.5, cosine'
      f' decay to 0; batch 48; minimax game. {quality.STACKED_SAMPLES:,} samples after'
      ' the last step, each channel classified; a mode is found by one sample; reverse'
      ' KL to the uniform distribution in nats, of which 0.020 is what the number of'
      ' samples gives by itself.'
    ),
    papers=STACKED_PAPERS,
  )


def with_optimizer(task: Task, steps: int) -> Task:
  rate = 1e-3 if task.images else 2e-3

  def tx(scale, adam=optax.adam, updates=1):  # updates a step
    schedule = optax.cosine_decay_schedule(scale * rate, steps * updates)
    return adam(schedule, b1=0.5, eps_root=1e-8)

  return task._replace(tx=tx)


def _train(task: Task, name: str, row: Row, budget: Budget, steps: int) -> Result:
  """One row: trained, scored, and drawn from its first seed."""
  method = row.make(with_optimizer(task, steps))
  trained = seeds_lib.train(
    method,
    lambda key: {'x': task.draw(key, task.batch * row.batches)},
    seeds=budget.image_seeds if task.images else budget.seeds,
    first_seed=FIRST_SEED,
    steps=steps,
    dispatch=DISPATCH,
  )
  scores = seeds_lib.scored(trained, functools.partial(task.score, method))
  num = SHOWN_IMAGES if task.images else SHOWN_POINTS
  samples = seeds_lib.drawn(trained, method, num)
  result = Result(name, scores, steps, trained.seconds, samples)
  print('  ' + ' | '.join(_cells(task, result)[:-4]) + f' | {trained.seconds:.0f} s',
        flush=True)  # fmt: skip
  return result


def _laboratory(task: Task, budget: Budget) -> list[Result]:
  """All rows of a task, and the control with the seconds of the unrolled one."""
  steps = budget.image_steps if task.images else budget.steps
  results = {
    name: _train(task, name, row, budget, steps)
    for name, row in ROWS.items()
    if task.images or not row.images_only
  }
  plain, ahead = results['GAN'], results[f'unrolled, k = {K}, full gradient']
  ratio = steps * ahead.seconds / plain.seconds / (2 * DISPATCH)
  equal = f'GAN, seconds of unrolled, k = {K}'
  more = _train(task, equal, ROWS['GAN'], budget, max(1, round(ratio)) * 2 * DISPATCH)
  first, *others = results.values()
  return [first, more, *others]


def _cells(task: Task, result: Result) -> list[str]:
  scores, high = result.scores, []
  if not task.images:
    high = [seeds_lib.mean_and_error(scores['high_quality'], '.3f')]
  return [
    result.name,
    seeds_lib.mean_and_error(scores['modes'], '.1f'),
    *high,
    seeds_lib.mean_and_error(scores['reverse_kl'], '.2f'),
    str(len(scores['modes'])),
    str(result.steps),
    f'{result.seconds:.0f}',
    task.papers.get(result.name, ''),
  ]


def _table(task: Task, results: list[Result]) -> report.Table:
  """Builds the table; images are counted by their class and have no high quality."""
  header = [h for h in HEADER if not (task.images and h == 'high quality')]
  return report.Table(header, [_cells(task, result) for result in results])


def _draw(path: pathlib.Path, task: Task, results: list[Result]) -> None:
  """Samples of every row's first seed, the data beside or behind them."""
  real = np.asarray(task.draw(jax.random.key(0), SHOWN_POINTS))
  if task.images:
    shown = {'data': real[:SHOWN_IMAGES]}
    shown |= {_short(r.name): r.samples for r in results}
    plots.side_by_side(path, shown, columns=4, sets=5)
    return
  cells = [(_short(r.name), r.samples) for r in results]
  rows = {f'{i + 1}': cells[i : i + 6] for i in range(0, len(cells), 6)}
  far = 1.3 * float(np.abs(real).max())
  plots.scatter_panels(path, rows, reference=real, limits=(-far, far))


def _short(name: str) -> str:
  return name.replace(', k = 5', '').replace(' gradient', '').replace('critic ', 'D ')


def run(budget_name: str, *, data_dir: str | None, out: pathlib.Path) -> dict[str, Any]:
  """Trains every remedy on every task, prints the tables and draws samples.

  Args:
    budget_name: one of `BUDGETS`.
    data_dir: where TensorFlow Datasets keeps MNIST; stacked digits without it.
    out: folder for pictures.

  Returns:
    Every number, ready for JSON, and the printed tables by task.
  """
  budget, began = BUDGETS[budget_name], time.perf_counter()
  tasks = [
    points(toy.ring(), RING_PAPERS),
    points(toy.grid(), GRID_PAPERS),
    _stacked(data_dir),
  ]
  tables: dict[str, report.Table] = {}
  numbers: dict[str, Any] = {'budget': budget_name, 'versions': report.versions()}
  for task in tasks:
    task_began = time.perf_counter()
    print(f'\n{task.protocol} Seeds from {FIRST_SEED}, at once; mean +- standard error'
          ' over seeds. Seconds are of training alone, at the rate of its second half,'
          ' all seeds together.', flush=True)  # fmt: skip
    results = _laboratory(task, budget)
    tables[task.name] = table = _table(task, results)
    print('\n' + report.text_table(*table))
    path = out / f'mode_collapse_{task.name.replace(":", "_")}.png'
    _draw(path, task, results)
    seconds = time.perf_counter() - task_began
    print(f'{task.num_modes} modes in all; {seconds:.0f} seconds; samples: {path}')
    numbers[task.name] = {
      'protocol': task.protocol,
      'seconds': seconds,
      'rows': [_numbers(result) for result in results],
    }
  print(f'{time.perf_counter() - began:.0f} seconds in all')
  return {'tables': tables, **numbers}


def _numbers(result: Result) -> dict[str, Any]:
  scores = {name: np.asarray(v).tolist() for name, v in result.scores.items()}
  return {
    'row': result.name,
    'steps': result.steps,
    'seconds': result.seconds,
    **scores,
  }
