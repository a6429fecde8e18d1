"""In-painting digits of which a half or the center is hidden, by each in-painter.

One EDM model a seed completes the same test images; the nearest training images, by
what is known of a test image, stand beside it.
"""

import pathlib
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import quiet
from experiments.configs import edm_digits
from experiments.configs.parts import evaluations
from experiments.ledger import seeds as seeds_lib
from gm_jax import base
from gm_jax.data import dataset, registry
from gm_jax.samplers import inpainting as samplers
from gm_jax.tasks import inpainting
from gm_jax.training import plots, report
from gm_jax.training import setup as setup_lib
from gm_jax.training import step as step_lib

MASKS = ('half', 'center')
COMPLETIONS = 4
STEPS = 18  # of EDM
# (row, options of `impute`)
INPAINTERS: tuple[tuple[str, dict[str, Any]], ...] = (
  ('replacement', {'inpainter': 'replacement'}),
  ('RePaint, jump 10, 10 times', {'jump': 10, 'resamplings': 10}),
  ('RePaint, jump 3, 10 times', {'jump': 3, 'resamplings': 10}),
  ('4 particles', {'inpainter': 'particles', 'num_particles': 4}),
  ('16 particles', {'inpainter': 'particles', 'num_particles': 16}),
  ('64 particles', {'inpainter': 'particles', 'num_particles': 64}),
)
SHOWN = ('replacement', 'RePaint, jump 3, 10 times', '64 particles')
ROWS = 8  # images of the picture
HEADER = (
  'hidden', 'in-painter', 'evaluations', 'error', 'error of the mean', 'spread',
  'agreement', 'seconds',
)  # fmt: skip


class Budget(NamedTuple):
  """A part of the config's steps, seeds, and test images."""

  part: float
  seeds: int
  images: int


BUDGETS = {
  'smoke': Budget(0.005, 1, 6), 'laptop': Budget(1.0, 3, 60),
  'full': Budget(1.0, 5, 360),
}  # fmt: skip


class Row(NamedTuple):
  """An in-painter of one mask; arrays `[S]` over seeds."""

  mask: str
  name: str
  evaluations: int  # of the network, for one completion
  error: np.ndarray
  error_of_mean: np.ndarray
  spread: np.ndarray
  agreement: np.ndarray  # fraction of completions read as the class of the image
  seconds: float  # of one seed


def train(budget: Budget) -> tuple[base.Method, base.Model, dataset.Dataset]:
  """The config trained from every seed: method, models `[S]`, data."""
  config = edm_digits.get_config()
  config.seeds = budget.seeds
  unit = config.steps_per_dispatch
  config.steps = max(1, round(config.steps * budget.part / unit)) * unit
  for leaf in ('evaluate', 'sample', 'checkpoint'):
    config[f'{leaf}_every'] = 0
  setup = setup_lib.prepare(edm_digits, config, evaluates=False)
  model = step_lib.model(quiet.train_config(setup).state, averaged=True)
  if budget.seeds == 1:
    model = jax.tree.map(lambda leaf: leaf[None], model)
  return setup.make_phases(0)[0].method, model, setup.data


def num_evaluations(options: dict[str, Any]) -> int:
  """Evaluations of the network for one completion."""
  if options.get('inpainter') == 'replacement':
    return STEPS
  if options.get('inpainter') == 'particles':
    return STEPS * options['num_particles']
  return samplers.num_evaluations(STEPS, **options)


def measured(mask, name, evaluations_, x, observed, completions, seen, seconds) -> Row:
  """The row of completions `[S, n, N, ...]` of x `[N, ...]`.

  Args:
    mask: its name.
    name: of the in-painter.
    evaluations_: of the network.
    x: the images.
    observed: `[N, ...]`, True where known.
    completions: of them.
    seen: images -> whether each is read as the class of x, `[S, n, N]`.
    seconds: that it took.
  """
  hidden = ~observed

  def root(squares):  # [S, n, N, ...]
    num = hidden.sum() * squares.shape[1]
    return np.sqrt((squares * hidden).sum(axis=tuple(range(1, squares.ndim))) / num)

  gap = completions - x
  return Row(
    mask, name, evaluations_, root(gap**2), root(gap.mean(axis=1, keepdims=True) ** 2),
    root(completions.var(axis=1, ddof=1, keepdims=True)),
    seen(completions).mean(axis=(1, 2)), seconds,
  )  # fmt: skip


def nearest(x: np.ndarray, observed: np.ndarray, train: np.ndarray) -> np.ndarray:
  """The known part beside that of the nearest training images, `[1, n, N, ...]`."""
  a, b = (v.reshape(len(v), -1) for v in (x * observed, train * observed[:1]))
  squares = (a**2).sum(axis=1)[:, None] - 2 * a @ b.T + (b**2).sum(axis=1)
  index = np.argsort(squares, axis=1)[:, :COMPLETIONS].T  # [n, N]
  return np.where(observed, x, train[index])[None]


def cells(row: Row) -> list[str]:
  """A line of the table: mean +- standard error over seeds."""
  columns = (row.error, row.error_of_mean, row.spread, row.agreement)
  found = [
    seeds_lib.mean_and_error(v, '.3f') if len(v) > 1 else f'{v[0]:.3f}' for v in columns
  ]
  return [row.mask, row.name, str(row.evaluations), *found, f'{row.seconds:.1f}']


def complete(method, model, key, x, masks, options) -> tuple[dict, float]:
  """Completions `[S, n, N, ...]` by mask, and seconds of one seed and mask."""

  def impute(model, key, observed):
    what = (model, key, x, observed)
    call = method.queries['impute']
    return call(*what, num=COMPLETIONS, num_steps=STEPS, **options)

  keys = jax.random.split(key, len(jax.tree.leaves(model)[0]))
  first = next(iter(masks.values()))
  run = jax.jit(jax.vmap(impute, (0, 0, None))).lower(model, keys, first).compile()
  began = time.perf_counter()
  found = {name: np.asarray(run(model, keys, seen)) for name, seen in masks.items()}
  seconds = (time.perf_counter() - began) / len(masks) / len(keys)
  return found, seconds


def run(budget_name: str, *, out: pathlib.Path) -> dict[str, Any]:
  """Trains the model, completes images by every in-painter, prints and draws them.

  Args:
    budget_name: one of `BUDGETS`.
    out: folder for the picture.

  Returns:
    Every number, ready for JSON, and the printed table by name.
  """
  budget, began = BUDGETS[budget_name], time.perf_counter()
  data = registry.load('digits')
  classifier = evaluations.independent_classifier(data)
  method, model, data = train(budget)
  test = dataset.transformed(data.spec, data.arrays('test', budget.images))
  x, label = np.asarray(test['x']), np.asarray(test['label'])
  train_x = np.asarray(dataset.transformed(data.spec, data.arrays('train'))['x'])

  def seen(images):
    logits = classifier.logits(classifier.params, images.reshape(-1, *x.shape[1:]))
    return np.asarray(logits).argmax(axis=1).reshape(images.shape[:3]) == label

  masks = {name: inpainting.observed_of(name, x.shape[1:]) for name in MASKS}
  masks = {k: np.broadcast_to(v[..., None], x.shape) for k, v in masks.items()}
  print(
    f'{len(x)} test digits of 8 x 8 pixels in [-1, 1], {COMPLETIONS} completions of'
    f' each by EDM in {STEPS} steps; mean +- standard error over {budget.seeds} seeds.'
    ' Errors and spread are root mean squares of hidden pixels; agreement is the'
    ' fraction that a classifier reads as the class of the image,'
    f' {seen(x[None, None]).mean():.3f} of the images themselves.',
    flush=True,
  )
  rows, pictures = [], {}
  for name, options in INPAINTERS:
    found, seconds = complete(method, model, jax.random.key(1), x, masks, options)
    for mask, completions in found.items():
      what = (x, masks[mask], completions, seen, seconds)
      rows.append(measured(mask, name, num_evaluations(options), *what))
      print(f'  {" | ".join(cells(rows[-1]))}', flush=True)
      if name in SHOWN:
        pictures[f'{name}: {mask}'] = _panel(x, masks[mask], completions[0])
  for mask, observed in masks.items():
    found = nearest(x, observed, train_x)
    what = (x, observed, found, seen, 0.0)
    rows.append(measured(mask, f'{COMPLETIONS} nearest training images', 0, *what))
  rows.sort(key=lambda row: MASKS.index(row.mask))
  path = out / 'inpainting.png'
  order = sorted(pictures, key=lambda name: MASKS.index(name.split(': ')[1]))
  pictures = {name: pictures[name] for name in order}
  plots.side_by_side(path, pictures, columns=2 + COMPLETIONS, sets=len(SHOWN))
  print(f'completions: {path}', flush=True)
  table = report.Table(HEADER, [cells(row) for row in rows])
  print('\n' + report.text_table(*table))
  return {
    'tables': {'digits': table},
    'budget': budget_name,
    'versions': report.versions(),
    'rows': [jax.tree.map(_plain, row._asdict()) for row in rows],
    'seconds': time.perf_counter() - began,
  }


def _plain(value):
  return value.tolist() if isinstance(value, np.ndarray) else value


def _panel(x, observed, completions) -> np.ndarray:
  """Rows of an image, what is known of it, and completions `[n, N, ...]`, flat."""
  known = np.where(observed, x, 0.0)
  rows = np.concatenate([x[None], known[None], np.clip(completions, -1, 1)])
  return np.moveaxis(rows, 0, 1)[:ROWS].reshape(-1, *x.shape[1:])
