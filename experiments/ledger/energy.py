"""Energy-based models: densities of the plane, samples, classes and outliers of digits.

Every row is a config of `experiments/configs`, trained once a seed. Of the plane log Z
is a sum over a grid, and so is the divergence from data of known density. What energies
know of classes and of outliers is measured in `ledger.outliers`.
"""

import pathlib
import time
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import results
from experiments.configs import (
  ebm_toy,
  equilibrium_matching_digits,
  igebm_digits,
  nce_toy,
  rbm_digits,
  score_matching_toy,
)
from experiments.configs.parts import evaluations
from experiments.ledger import diffusion, fits, outliers, seeds
from gm_jax.data import registry, toy
from gm_jax.tasks import density, quality
from gm_jax.training import plots, report

TOY_HEADER = ('model', 'KL by grid', 'log Z by grid', 'log Z by draws', 'seeds',
              'steps', 'seconds')  # fmt: skip
IMAGES_HEADER = ('model', 'Frechet', 'N', 'seeds', 'steps', 'seconds')
BINARY_HEADER = ('model', 'nats', 'kind', 'seeds', 'from')
SIDE, HALF = 501, 6.0  # of the grid: points a side, from -HALF to HALF
ZOOM, SHOWN = 2, 20  # the part 1 / ZOOM of the grid and samples, in pictures
PAGE, BINARY = 'likelihoods', 'dynamic:digits'
BESIDE = ('NADE', 'EoNADE, 8 orders', 'PixelCNN')  # rows of that page
LARGE = ('JEM', outliers.CLASSIFIER, 'equilibrium matching',
         outliers.BRIEF, 'NADE of levels')  # fmt: skip
PAIR = 'tfds:mnist?size=8', 'tfds:fashion_mnist?size=8'
BUDGETS = {
  'smoke': fits.Budget(0.005, 1), 'laptop': fits.Budget(1.0, 3),
  'full': fits.Budget(2.0, 5),
}  # fmt: skip
TOYS = (
  fits.Fit('noise-contrastive', nce_toy, seeds=3),
  fits.Fit('implicit score matching', score_matching_toy, seeds=3),
  fits.Fit('chains of temperature 1', ebm_toy, seeds=3),
)
IMAGES = (
  fits.Fit('IGEBM', igebm_digits, seeds=3),
  fits.Fit('equilibrium matching', equilibrium_matching_digits, seeds=3),
)
BINARY_FITS = (
  fits.Fit('RBM, 128 hidden', rbm_digits, seeds=3),
  fits.Fit('RBM, 16 hidden', rbm_digits, None, {'hidden': 16}, seeds=3),
)


def grid() -> jax.Array:
  """Points `[SIDE^2, 2]` of the plane, by the second number and then the first."""
  at = jnp.linspace(-HALF, HALF, SIDE)
  return jnp.stack(jnp.meshgrid(at, at), axis=-1).reshape(-1, 2)


def on_grid(energy: jax.Array, log_p: jax.Array) -> dict[str, jax.Array]:
  """Sums over the grid, with the model and the data each of mass one on it.

  Args:
    energy: `[SIDE^2]` nats, E of the points.
    log_p: `[SIDE^2]` nats, the density of the data there.

  Returns:
    `kl`, sum p (log p - log q), and `log_z`, the logarithm of the sum of exp(-E), times
    the area of a cell; `[]` nats.
  """
  area = 2 * jnp.log(2 * HALF / (SIDE - 1))
  log_z = jax.nn.logsumexp(-energy) + area
  log_mass = log_p - jax.nn.logsumexp(log_p)  # of cells
  # Where the data have no mass, log p is -inf.
  gap = jnp.where(log_mass > -jnp.inf, log_mass - (-energy - log_z + area), 0.0)
  return {'kl': jnp.sum(jnp.exp(log_mass) * gap), 'log_z': log_z}


def toys(
  budget: fits.Budget, out: pathlib.Path
) -> tuple[report.Table, list[dict[str, Any]]]:
  """Divergences and normalizers of the energies of the plane, and their picture."""
  lines, facts, pictures = [], [], {}
  for fit in TOYS:
    run = fits.train(fit, budget)
    known = registry.toy_density(run.data_name)
    points, log_p = grid(), log_density(known)

    def task(method, model, key, points=points, log_p=log_p):
      # Else XLA folds constants for long.
      points, log_p = jax.lax.optimization_barrier((points, log_p))
      energy = density.in_chunks(
        lambda x: method.queries['energy'](model, key, x), points
      )
      value, error = method.queries['log_partition'](model, key)
      own = {'own': value, 'own_error': error}
      return on_grid(energy, log_p) | own

    found = fits.numbers(run, task)
    lines.append(toy_line(run, found))
    facts.append({'name': fit.name, 'data': run.data_name, 'seconds': run.seconds}
                 | {name: v.tolist() for name, v in found.items()})  # fmt: skip
    print(f'  {" | ".join(lines[-1])}', flush=True)
    energy = jax.jit(run.method.queries['energy'])(
      run.models[0], jax.random.key(0), points
    )
    pictures |= {'data': picture(log_p), fit.name: picture(-energy)}
  path = out / 'energy_toys.png'
  plots.side_by_side(path, pictures, columns=1)
  print(f'densities: {path}')
  return report.Table(TOY_HEADER, lines), facts


def log_density(known: toy.Toy) -> jax.Array:
  """The data's log-density on the grid, `[SIDE^2]` nats."""
  return jax.jit(lambda x: density.in_chunks(known.log_prob, x))(grid())


def picture(log_p: jax.Array) -> np.ndarray:
  """The middle of the grid as an image `[1, H, W, 1]` in [-1, 1], the root of p."""
  root = np.exp(np.asarray(log_p - log_p.max()).reshape(SIDE, SIDE) / 2)
  edge = (SIDE - SIDE // ZOOM) // 2
  middle = root[edge : SIDE - edge, edge : SIDE - edge][::-1]  # upwards
  return (2 * middle - 1)[None, :, :, None]


def toy_line(run: fits.Run, found: dict[str, np.ndarray]) -> list[str]:
  """A line of the table of the plane."""
  own = f'{found["own"].mean():.3f} +- {found["own_error"].max():.3f}'
  shown = [
    seeds.mean_and_error(found[n], f) for n, f in (('kl', '.4f'), ('log_z', '.3f'))
  ]
  return [run.fit.name, *shown, own, *fits.ends(run)]


def images(
  runs: Iterable[fits.Run], out: pathlib.Path
) -> tuple[report.Table, list[dict[str, Any]]]:
  """Frechet distances of samples of digits, beside the training split's own."""
  data = registry.load('digits')
  distances, num = evaluations.image_distances(data), len(data.arrays('test')['x'])
  least = diffusion.floor(distances, data)
  floor = f'{least.mean():.1f} +- {least.std(ddof=1):.1f}'
  lines = [['the training split', floor, str(num), '', '', '']]
  facts: list[dict[str, Any]] = [{'name': lines[0][0], 'frechet': least.tolist()}]
  pictures, raw = {}, data.arrays('test')['x'][:SHOWN]
  pictures['test images'] = raw / (data.spec.num_levels - 1) * 2.0 - 1.0
  for run in runs:

    def task(method, model, key):
      return distances(method.sample(model, key, num))

    found = fits.numbers(run, task)
    shown = seeds.mean_and_error(found['frechet'], '.1f')
    lines.append([run.fit.name, shown, str(num), *fits.ends(run)])
    facts.append({'name': run.fit.name, 'seconds': run.seconds, 'steps': run.steps}
                 | {name: v.tolist() for name, v in found.items()})  # fmt: skip
    print(f'  {" | ".join(lines[-1])}', flush=True)
    drawn = run.method.sample(run.models[0], jax.random.key(2), SHOWN)
    pictures[run.fit.name] = np.clip(quality.scaled(run.data.spec, drawn), -1, 1)
  path = out / 'energy_digits.png'
  plots.side_by_side(path, pictures, columns=5)
  print(f'samples: {path}')
  return report.Table(IMAGES_HEADER, lines), facts


def binary(budget: fits.Budget) -> tuple[report.Table, list[dict[str, Any]]]:
  """Nats of an RBM, beside rows of another page on the same data."""
  lines, facts = [], []
  for fit in BINARY_FITS:
    run = fits.train(fit, budget)
    arrays = {'test': run.data.arrays('test')}

    def task(method, model, key, arrays=arrays, spec=run.data.spec):
      return density.density(method, model, key, arrays, spec)

    found = fits.numbers(run, task)
    name = next(n for n in found if n.startswith('nll'))
    kind = 'estimate, AIS' if name.endswith('estimate') else 'exact'
    nats, error = found[name], found[f'{name}_error']
    shown = f'{nats.mean():.2f} +- {error.mean():.2f}'
    if len(nats) > 1:
      shown += f' ({nats.min():.2f} to {nats.max():.2f})'
    lines.append([fit.name, shown, kind, str(len(nats)), 'this run'])
    facts.append({'name': fit.name, 'kind': kind, 'seconds': run.seconds}
                 | {key: v.tolist() for key, v in found.items()})  # fmt: skip
    print(f'  {" | ".join(lines[-1])}', flush=True)
  return report.Table(BINARY_HEADER, lines + lines_beside()), facts


def lines_beside() -> list[list[str]]:
  """Rows of the page of likelihoods on the same data, as they stand there."""
  page = results.load(results.FOLDER / f'{PAGE}.json')['tables'][BINARY]
  rows = [dict(zip(page['header'], row, strict=True)) for row in page['rows']]
  by_name = {row['model']: row for row in rows}
  return [
    [name, *(by_name[name][c] for c in ('nats', 'kind', 'seeds')), f'{PAGE}.md']
    for name in BESIDE
  ]


def run(
  budget_name: str, *, out: pathlib.Path, data_dir: str | None = None
) -> dict[str, Any]:
  """Trains every model, prints the tables and draws densities and samples.

  Args:
    budget_name: one of `BUDGETS`.
    out: folder for pictures.
    data_dir: of TensorFlow Datasets, for MNIST and Fashion-MNIST, or None.

  Returns:
    Every number, ready for JSON, and the printed tables by name.
  """
  budget, began = BUDGETS[budget_name], time.perf_counter()
  print(
    f'Two moons: divergence of the data from the model by a grid of {SIDE} x {SIDE}'
    f' points in [-{HALF:g}, {HALF:g}]^2, nats; log Z by it, and by draws of noise +-'
    ' their own error. Digits: Frechet distance of as many samples as test images;'
    ' classes of the test split, calibration in 15 bins of equal width; outliers of the'
    ' classes 8 and 9, of which no other split has any, 95% by DeLong, over seeds the'
    ' widest. Mean +- standard error over seeds. Binary digits: nats +- the standard'
    f' error over examples (least to most over seeds), beside rows of {PAGE}.md.'
    ' Seconds are of training alone, of the process on a CPU, a seed.',
    flush=True,
  )
  jem = fits.train(outliers.JEM, budget)
  found = {
    'moons': toys(budget, out),
    'digits': images([jem, *(fits.train(fit, budget) for fit in IMAGES)], out),
    'classes': outliers.classes(
      [
        (jem, 'all'),
        *((fits.train(fit, budget), labels_of(fit)) for fit in outliers.CLASSES),
      ]
    ),
    'outliers': outliers.measure(outliers.models(outliers.HELD_OUT), budget),
    'binary': binary(budget),
  }
  if data_dir:
    for inside, others in (PAIR, PAIR[::-1]):
      rows = [fit._replace(seeds=1) for fit in outliers.models(inside, LARGE)]
      name = f'{short(inside)} against {short(others)}'
      found[name] = outliers.measure(rows, budget, others=others, data_dir=data_dir)
  for name, (table, facts) in found.items():
    print(f'\n{name}\n' + report.text_table(*table))
    if isinstance(facts, dict):
      print(outliers.says(facts['blank']))
  return {
    'tables': {name: table for name, (table, _) in found.items()},
    'budget': budget_name,
    'versions': report.versions(),
    **{name: facts for name, (_, facts) in found.items()},
    'seconds': time.perf_counter() - began,
  }


def short(data: str) -> str:
  """'mnist' of 'tfds:mnist?size=8'."""
  return data.partition('?')[0].removeprefix('tfds:')


def labels_of(fit: fits.Fit) -> str:
  """How many labels a row of digits is told, as '100' or 'all'."""
  return (fit.arg or '').partition('labels=')[2] or 'all'
