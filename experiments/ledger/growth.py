"""Whether growing pays: grown and ungrown networks at equal operations, equal seconds.

The ungrown ones are the same networks of the last size, at rest from the first step.
Equal are the floating-point operations of all steps, as XLA counts them in each size's
step, or the processor's seconds of all steps, from one short run of each size's step.
"""

import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import quiet
from experiments.configs import progressive_gan_glyphs
from experiments.configs.parts import evaluations
from gm_jax import base, statistics
from gm_jax.tasks import quality
from gm_jax.training import plots, report
from gm_jax.training import setup as setup_lib
from gm_jax.training import step as step_lib

FIRST_SEED = 1600
TIMED = 3  # dispatches of each size that are timed, after one that is not
HEADER = (
  'networks', 'Frechet', 'of untrained', 'seeds', 'steps', 'images', 'Tflop',
  'CPU seconds',
)  # fmt: skip
STEPS_HEADER = ('pixels', 'batch', 'steps', 'Gflop a step', 'CPU ms a step')
BAR = 0.5  # of the untrained networks' distance
GROWN, OPERATIONS, SECONDS = 'grown', 'not grown, operations', 'not grown, seconds'


class Budget(NamedTuple):
  """How much is trained."""

  seeds: int
  arg: str | None  # of the config
  leaves: Mapping[str, Any]


SMALL = {
  'first_size': 8,
  'stage_images': 160,
  'steps': 60,
  'steps_per_dispatch': 5,
  'batch_size': 8,
}
SMALL |= {'data': 'glyphs?size=16&num=600', 'base_features': 64, 'max_features': 8}
THIN = {'stage_images': 4000, 'base_features': 256, 'max_features': 16}
BUDGETS = {
  'smoke': Budget(2, None, SMALL),
  'laptop': Budget(3, None, THIN),
  'full': Budget(5, '64', {'stage_images': 50_000, 'steps': 40_000}),
}


class Cost(NamedTuple):
  """Of one step of a phase."""

  operations: float
  seconds: float  # of the processor


class Row(NamedTuple):
  """One line of the table."""

  name: str
  frechet: np.ndarray  # [S]
  steps: int
  images: int
  operations: float
  seconds: float


def config_of(budget: Budget, *, grown: bool):
  """The config of a budget, which grows or is of the last size alone."""
  config = progressive_gan_glyphs.get_config(budget.arg)
  config.update(budget.leaves)
  for name in ('evaluate_every', 'sample_every', 'checkpoint_every'):
    config[name] = 0
  config.log_every = config.steps_per_dispatch
  if not grown:
    config.first_size = int(config.data.partition('size=')[2].partition('&')[0])
  return config


def prepared(config) -> setup_lib.Setup:
  """The config turned into functions."""
  return setup_lib.prepare(progressive_gan_glyphs, config, evaluates=False)


def cost_of(setup: setup_lib.Setup, phase: base.Phase) -> Cost:
  """Operations and seconds of a step of a phase; nothing else should run meanwhile.

  Operations are those of the step's program before XLA's optimizations; seconds are of
  the processor, all threads together, in dispatches as of training.
  """
  dispatch, batches = setup.settings.steps_per_dispatch, setup_lib.batches(setup)
  drawn = batches(phase, setup.settings.seed, 0)
  stacked = jax.tree.map(
    lambda *x: np.stack(x), *(dict(next(drawn)) for _ in range(dispatch))
  )
  x = phase.spec.transform.forward(None, stacked['x'][0])
  state = step_lib.init(phase.method, jax.random.key(0), {'x': x}, averaged=True)
  lowered = jax.jit(phase.method.step).lower(state, jax.random.key(0), {'x': x})
  decay = setup.settings.ema_decay
  steps = step_lib.train_step(phase.method, spec=phase.spec, ema_decay=decay)
  compiled = jax.jit(steps, donate_argnums=0)
  state, _ = jax.block_until_ready(compiled(state, jax.random.key(1), stacked))
  began = time.process_time()
  for _ in range(TIMED):
    state, _ = jax.block_until_ready(compiled(state, jax.random.key(1), stacked))
  seconds = (time.process_time() - began) / (TIMED * dispatch)
  return Cost(float(lowered.cost_analysis()['flops']), seconds)


def spans(setup: setup_lib.Setup) -> list[tuple[base.Phase, int]]:
  """The phases of a run, and the steps of each."""
  phases = setup.make_phases(0)
  begins = [0, *(phase.until for phase in phases)]
  return [(p, p.until - begin) for p, begin in zip(phases, begins, strict=False)]


def rounded(steps: float, dispatch: int) -> int:
  """Steps in whole dispatches, at least one."""
  return max(1, round(steps / dispatch)) * dispatch


def trained(config, measured: Mapping[int, str], score: Callable) -> dict[str, Any]:
  """Trains a config and scores it at some steps, and before the first.

  Args:
    config: of a single seed.
    measured: names by step, each in whole dispatches.
    score: (method, model, key) -> (distance [], images).

  Returns:
    What `score` gives by name; that of step 0, untrained, as ''.
  """
  setup, found = prepared(config), {}
  key = step_lib.streams(jax.random.key(config.seed)).inference

  def evaluate(phase, state):
    if int(state.step) in measured:
      name = measured[int(state.step)]
      found[name] = score(phase.method, step_lib.model(state), key)
    return {}

  settings = setup.settings._replace(evaluate_every=config.steps_per_dispatch)
  setup = setup._replace(settings=settings)
  last = setup.make_phases(0)[-1]
  blank = {'x': jnp.zeros((2, *last.spec.shape))}
  first = jax.jit(last.method.init)(jax.random.key(config.seed), blank)
  found[''] = score(last.method, step_lib.model(first), key)
  quiet.train_config(setup, evaluate=evaluate)
  return found


def scorer(setup: setup_lib.Setup) -> Callable:
  """(method, model, key) -> (Frechet distance of samples to the test split, images)."""
  distances = evaluations.image_distances(setup.data)
  num = min(quality.TEST, len(setup.data.arrays('test')['x']))
  programs: dict[tuple, Callable] = {}

  def score(method, model, key):
    shapes = tuple(sorted(model.params['generator']))
    if shapes not in programs:
      draw = jax.jit(lambda model, key: method.sample(model, key, quality.CHUNK))
      programs[shapes] = draw
    keys = jax.random.split(key, -(-num // quality.CHUNK))
    x = jnp.concatenate([programs[shapes](model, k) for k in keys])[:num]
    return float(distances(x)['frechet']), np.asarray(x[:40])

  return score


def cells(row: Row, untrained: float) -> list[str]:
  """A row's line: the mean +- the standard error over seeds."""
  frechet = statistics.text(*statistics.mean_and_error(row.frechet), '.1f')
  relative, operations = row.frechet.mean() / untrained, row.operations / 1e12
  cost = [f'{operations:.2f}', f'{row.seconds:.0f}'] if row.steps else ['0', '0']
  own = f'{relative:.3f}'
  counts = str(len(row.frechet)), str(row.steps), str(row.images)
  return [row.name, frechet, own, *counts, *cost]


def run(budget_name: str, *, out: pathlib.Path) -> dict[str, Any]:
  """Trains both kinds from every seed, prints the tables and draws samples.

  Args:
    budget_name: one of `BUDGETS`.
    out: folder for pictures.

  Returns:
    Every number, ready for JSON, and the printed tables by name.
  """
  budget, began = BUDGETS[budget_name], time.perf_counter()
  grown, plain = (config_of(budget, grown=g) for g in (True, False))
  setup = prepared(grown)
  parts = [(p, n, cost_of(setup, p)) for p, n in spans(setup)]
  last = parts[-1][-1]
  totals = Cost(*(sum(n * c[i] for _, n, c in parts) for i in range(2)))
  dispatch = grown.steps_per_dispatch
  steps = {
    OPERATIONS: rounded(totals.operations / last.operations, dispatch),
    SECONDS: rounded(totals.seconds / last.seconds, dispatch),
  }
  print(_protocol(grown, budget), flush=True)
  score, found = scorer(setup), []
  for seed in range(FIRST_SEED, FIRST_SEED + budget.seeds):
    grown.seed = plain.seed = seed
    scores = trained(grown, {grown.steps: GROWN}, score)
    plain.steps = max(steps.values())
    measured = {num: name for name, num in steps.items()}  # one run has both
    more = trained(plain, measured, score)
    more |= {name: more[measured[num]] for name, num in steps.items()}
    found.append({**scores, **more})
    line = ', '.join(f'{k or "untrained"} {v[0]:.1f}' for k, v in found[-1].items())
    print(f'  seed {seed}: {line}', flush=True)
  num_last = parts[-1][0].batch_size or grown.batch_size
  rows = [Row('untrained', _column(found, ''), 0, 0, 0.0, 0.0)]
  images = sum(n * (p.batch_size or grown.batch_size) for p, n, _ in parts)
  rows.append(Row(GROWN, _column(found, GROWN), grown.steps, images, *totals))
  for name, num in steps.items():
    costs = (num * value for value in last)
    rows.append(Row(name, _column(found, name), num, num * num_last, *costs))
  untrained = rows[0].frechet.mean()
  of_steps = [
    [str(p.spec.shape[0]), str(p.batch_size), str(n), f'{c.operations / 1e9:.2f}',
     f'{1e3 * c.seconds:.1f}'] for p, n, c in parts
  ]  # fmt: skip
  tables = {
    'growth': report.Table(HEADER, [cells(row, untrained) for row in rows]),
    'steps': report.Table(STEPS_HEADER, of_steps),
  }
  for name, table in tables.items():
    print(f'\n{name}\n' + report.text_table(*table))
  for row in rows[1:]:
    met = row.frechet.mean() < BAR * untrained
    print(f'{row.name}: {"below" if met else "NOT below"} half of the untrained')
  path = out / 'growth.png'
  pictures = {
    'test images': _real(setup),
    **{k: found[0][k][1] for k in (GROWN, *steps)},
  }
  plots.side_by_side(path, pictures, columns=8)
  seconds = time.perf_counter() - began
  print(f'samples: {path}; {seconds:.0f} seconds in all')
  return {
    'tables': tables,
    'budget': budget_name,
    'versions': report.versions(),
    'rows': [row._asdict() | {'frechet': row.frechet.tolist()} for row in rows],
    'seconds': seconds,
  }


def _column(found: list[dict], name: str) -> np.ndarray:
  return np.array([scores[name][0] for scores in found])


def _real(setup: setup_lib.Setup) -> np.ndarray:
  raw = setup.data.arrays('test', 40)['x']
  return np.asarray(setup.data.spec.transform.forward(None, raw))


def _protocol(config, budget: Budget) -> str:
  return (
    f'{config.data}: the config progressive_gan_glyphs, {config.steps} steps grown from'
    f' {config.first_size} pixels, {config.stage_images} images a fade and a rest,'
    f' batches of {config.batch_size}, at most {config.max_features} features a layer,'
    f' and {config.base_features} divided by its height; not grown: the networks of all'
    ' pixels from the first step, as many operations or processor seconds. Parameters'
    f' averaged at'
    f' {config.ema_decay}; Frechet distance in a small classifier, as many samples as'
    f' test images, at most {quality.TEST}. Seeds from {FIRST_SEED}, {budget.seeds};'
    ' mean +- standard error. Operations are counted in the program of a step;'
    f' seconds are of the processor, all threads, {TIMED} dispatches of each size,'
    ' measured alone.'
  )
