"""Where unrolling pays: modes of a ring by rates, width and the steps looked ahead.

The networks, prior and optimizer are those of the notebook that the authors of
Unrolled Generative Adversarial Networks (Metz et al., 2017, arXiv:1611.02163)
released, on a ring whose modes are distinct (theirs counts one twice) and of radius 2
and standard deviation 0.02 (theirs: 1 and 0.01). Varied are the ratio of the players'
learning rates, the width of the discriminator and k; the notebook itself has a ratio
of 0.1, equal widths and k = 5. No rate decays. A run is scored along its way, so that
one gives both comparisons: all k after as many steps, and all k after as many
operations as the largest needs for these, counted by formula (`bench.flops`, what is
rematerialized included). Ratios and seeds are trained at once, by vmap.
"""

import functools
import pathlib
import time
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import quiet
from experiments.bench import flops
from gm_jax import base, priors, statistics
from gm_jax.data import toy
from gm_jax.methods import unrolled_gan
from gm_jax.metrics import modes
from gm_jax.models import mlp
from gm_jax.players import DISCRIMINATOR
from gm_jax.training import loop, plots, report
from gm_jax.training import step as step_lib

FIRST_SEED, DISPATCH, SAMPLES = 100, 50, 2500
LAST = 3  # evaluations whose mean is a number
RING = toy.ring()
FORMS = {'modes': '.1f', 'high_quality': '.3f'}
HEADER = (
  'D width', 'rate D / rate G', 'k', 'equal steps: modes', 'high quality',
  'equal operations: modes', 'high quality', 'steps', 'seeds',
)  # fmt: skip


class Budget(NamedTuple):
  """What is compared, and at which sizes."""

  widths: tuple[int, ...]  # of the discriminator's two layers
  ratios: tuple[float, ...]  # of the discriminator's rate to the generator's
  ks: tuple[int, ...]  # from 0; the last one's operations are what all get
  width: int  # of the generator's two layers
  batch_size: int
  steps: int  # of the comparison at equal steps
  seeds: int
  every: int  # steps between evaluations
  rate: float = 1e-3  # the generator's
  latent_size: int = 256


# The notebook's own setting but for k, to see whether the ordinary GAN collapses there.
NOTEBOOK = Budget((128,), (0.1,), (0,), 128, 512, 5000, 2, 500)
BUDGETS = {
  'smoke': Budget((8,), (0.1, 1.0), (0, 1), 8, 16, 300, 2, 100),
  'laptop': Budget(
    (16, 64), (0.1, 1.0, 3.0), (0, 1, 5, 10), 64, 128, 2000, 2, 500
  ),
  'full': Budget(
    (32, 128, 512), (0.03, 0.1, 0.3, 1.0, 3.0), (0, 1, 2, 5, 10, 20), 128, 512, 25_000,
    4, 1000,
  ),
}  # fmt: skip


class Run(NamedTuple):
  """One k and one discriminator, at all ratios."""

  width: int
  k: int
  at: np.ndarray  # [E] steps of the evaluations
  scores: dict[str, np.ndarray]  # by name, [E, R, S]
  operations: int  # of a step of one seed
  seconds: float  # of training alone


def protocol(b: Budget) -> str:
  """What the numbers depend on, in a paragraph."""
  return (
    f'Ring of 8 modes, radius 2, std 0.02. G {b.latent_size}-{b.width}-{b.width}-2, D'
    ' 2-W-W-1 of the width W in the first column, tanh, orthogonal initialization of'
    f' gain 1.4; z normal; Adam, b1 0.5, {b.rate:g} for G, without decay; batch'
    f' {b.batch_size}; minimax game; inner steps on the same batch. {b.seeds} seeds a'
    f' cell, from {FIRST_SEED}. {SAMPLES:,} samples; high quality: within 3 standard'
    ' deviations of the nearest mode; a mode is found by 20 such hits. Every number is'
    f' the mean over the last {LAST} evaluations, one each {b.every:,} steps, then over'
    f' seeds +- standard error. Equal steps: {b.steps:,}. Equal operations: those of'
    f' k = {b.ks[-1]} in {b.steps:,} steps.'
  )


def _operations(b: Budget, width: int, k: int) -> int:
  """Those of a step of one seed."""
  sizes = (b.latent_size, b.width, b.width, 2), (2, width, width, 1)
  return flops.step(k, *sizes, b.batch_size, rematerialized=True)


def _steps(b: Budget, width: int, k: int) -> int:
  """As many as have the operations of the largest k, with an evaluation at the end."""
  ratio = _operations(b, width, b.ks[-1]) / _operations(b, width, k)
  return round(b.steps * ratio / b.every) * b.every


def make_method(b: Budget, width: int, k: int) -> base.Method:
  """The unrolled GAN of a cell; the discriminator's rate is still the generator's."""
  net = functools.partial(
    mlp.MLP, activation=nn.tanh, kernel_init=nn.initializers.orthogonal(1.4)
  )
  adam = optax.adam(b.rate, b1=0.5, eps_root=1e-8)
  return unrolled_gan.unrolled_gan(
    net((b.width, b.width, 2)),
    net((width, width, 1)),
    adam,
    optax.chain(adam, optax.inject_hyperparams(optax.scale)(step_size=1.0)),
    prior=priors.normal(b.latent_size),
    num_unroll=k,
    diagnostics=False,
  )


def with_ratio(state: base.State, ratio: base.Array) -> base.State:
  """The state whose discriminator moves at another rate, a multiple of its own.

  Args:
    state: of `make_method`'s.
    ratio: [] of the rates.
  """
  adam, scale = state.opt_state[DISCRIMINATOR]
  scale = scale._replace(hyperparams={'step_size': jnp.asarray(ratio, jnp.float32)})
  opt_state = {**state.opt_state, DISCRIMINATOR: (adam, scale)}
  return state._replace(opt_state=opt_state)


def _run(b: Budget, width: int, k: int) -> Run:
  """Trains all ratios and seeds at once, and scores them along the way."""
  method, ratios = make_method(b, width, k), np.repeat(b.ratios, b.seeds)
  settings = loop.Settings(
    _steps(b, width, k),
    seed=FIRST_SEED,
    num_seeds=len(ratios),
    steps_per_dispatch=DISPATCH,
    log_every=b.every,
    evaluate_every=b.every,
    on_nan='skip',  # a cell that runs off stands still
  )

  @jax.jit
  @jax.vmap
  def score(model, key):
    samples = method.sample(model, key, SAMPLES)
    return modes.coverage(samples, RING.means, RING.std)._asdict()

  keys, found = jax.random.split(jax.random.key(0), len(ratios)), []
  trained = quiet.train_on_draws(
    method,
    lambda key: {'x': RING.sample(key, b.batch_size)},
    settings,
    begin=lambda state, i: with_ratio(state, jnp.asarray(ratios)[i]),
    evaluate=lambda _, state: found.append(
      jax.device_get(score(step_lib.model(state), keys))
    ),
  )
  shape = (len(found), len(b.ratios), b.seeds)
  scores = {name: np.reshape([f[name] for f in found], shape) for name in FORMS}
  at = np.array([step for step, _ in trained.logs])
  run = Run(width, k, at, scores, _operations(b, width, k), quiet.seconds(trained))
  print(f'  D {width} wide, k = {k}: {at[-1]:,} steps, {run.seconds:.0f} s', flush=True)
  return run


def _means(run: Run, name: str, steps: int | None = None) -> np.ndarray:
  """[R, S] means over the last evaluations, those up to some step."""
  values = run.scores[name] if steps is None else run.scores[name][run.at <= steps]
  return values[-LAST:].mean(0)


def _texts(run: Run, i: int, steps: int | None = None) -> list[str]:
  numbers = {n: statistics.mean_and_error(_means(run, n, steps)[i]) for n in FORMS}
  return [statistics.text(*numbers[name], form) for name, form in FORMS.items()]


def _table(b: Budget, runs: list[Run]) -> report.Table:
  """A row for each cell, those that differ in k together."""
  rows = []
  for width in b.widths:
    same = [run for run in runs if run.width == width]
    for i, ratio in enumerate(b.ratios):
      for run in same:
        cells = [*_texts(run, i, b.steps), *_texts(run, i)]
        rows.append([f'{width}', f'{ratio:g}', f'{run.k}', *cells, f'{run.at[-1]}',
                     f'{b.seeds}'])  # fmt: skip
  return report.Table(HEADER, rows)


def _ahead(runs: list[Run], name: str, i: int, steps: int | None) -> list[int]:
  """The k that are ahead of k = 0 at a ratio, by more than both standard errors."""
  numbers = {
    run.k: statistics.mean_and_error(_means(run, name, steps)[i]) for run in runs
  }
  plain, error = numbers[0]
  return [k for k, (mean, own) in numbers.items() if mean - plain > own + error]


def pays(b: Budget, runs: list[Run], name: str, steps: int | None) -> list[str]:
  """The cells in which some k > 0 is ahead of k = 0, in words.

  Ahead is by more than the sum of the two standard errors over seeds.

  Args:
    b: the budget.
    runs: of all widths and k.
    name: of the score.
    steps: of the comparison, or None at equal operations.
  """
  found = []
  for width in b.widths:
    same = [run for run in runs if run.width == width]
    for i, ratio in enumerate(b.ratios):
      ahead = _ahead(same, name, i, steps)
      if ahead:
        ks = ', '.join(map(str, ahead))
        found.append(f'width {width}, ratio {ratio:g} (k = {ks})')
  return found


def _texts_of_cells(b: Budget, same: list[Run], steps: int | None) -> list[list[str]]:
  """[k][ratio] scores of one width as text; a + where k is ahead of k = 0."""

  def cell(run, i):
    mark = {n: ' +' if run.k in _ahead(same, n, i, steps) else '' for n in FORMS}
    quality, found = (
      _means(run, n, steps)[i].mean() for n in ('high_quality', 'modes')
    )
    return f'{quality:.2f}{mark["high_quality"]}\n{found:.1f} modes{mark["modes"]}'

  return [[cell(run, i) for i in range(len(b.ratios))] for run in same]


def _summary(b: Budget, runs: list[Run]) -> dict[str, list[str]]:
  """Prints where unrolling is ahead, and returns it."""
  cells, summary = len(b.widths) * len(b.ratios), {}
  for what, steps in (('equal steps', b.steps), ('equal operations', None)):
    for name in FORMS:
      found = pays(b, runs, name, steps)
      summary[f'{what}, {name}'] = found
      print(f'ahead of k = 0 at {what} by {name.replace("_", " ")}: {len(found)} of'
            f' {cells} settings: {"; ".join(found) or "none"}')  # fmt: skip
  return summary


def _draw(path: pathlib.Path, b: Budget, runs: list[Run]) -> None:
  """The map: high quality by ratio and k, both scores written into the cells."""
  panels = {}
  for what, steps in (('equal steps', b.steps), ('equal operations', None)):
    for width in b.widths:
      same = [run for run in runs if run.width == width]
      value = [_means(run, 'high_quality', steps).mean(-1) for run in same]
      texts = _texts_of_cells(b, same, steps)
      panels[f'D {width} wide, {what}'] = (np.array(value), texts)
  plots.heat_maps(
    path,
    panels,
    x=('rate D / rate G', [f'{r:g}' for r in b.ratios]),
    y=('k', [str(k) for k in b.ks]),
    columns=len(b.widths),
    limits=(0.0, 1.0),
    label='share of samples of high quality',
  )


def run(budget_name: str, *, out: pathlib.Path) -> dict[str, Any]:
  """Trains every cell, prints the table and draws the map.

  Args:
    budget_name: one of `BUDGETS`.
    out: folder for the picture.

  Returns:
    Every number, ready for JSON, and the printed tables by name.
  """
  b, began = BUDGETS[budget_name], time.perf_counter()
  print(protocol(b), flush=True)
  runs = [_run(b, width, k) for width in b.widths for k in b.ks]
  table = _table(b, runs)
  print('\n' + report.text_table(*table) + '\n')
  summary = _summary(b, runs)
  path = out / 'unrolling.png'
  _draw(path, b, runs)
  tables, numbers = {'map': table}, {}
  if budget_name == 'laptop':  # the full map has it among its cells
    print("\nThe notebook's setting but for k. " + protocol(NOTEBOOK), flush=True)
    plain = _run(NOTEBOOK, *NOTEBOOK.widths, *NOTEBOOK.ks)
    tables['notebook'] = _notebook(plain)
    print('\n' + report.text_table(*tables['notebook']))
    numbers['notebook'] = _numbers(plain)
  seconds = time.perf_counter() - began
  print(f'{seconds:.0f} seconds in all; the map: {path}')
  return {
    'tables': tables,
    'budget': budget_name,
    'protocol': protocol(b),
    'rows': [_numbers(each) for each in runs],
    'ahead of k = 0': summary,
    'seconds': seconds,
    'versions': report.versions(),
    **numbers,
  }


def _notebook(plain: Run) -> report.Table:
  """The seeds of the notebook's setting, each by itself."""
  rows = []
  for i in range(NOTEBOOK.seeds):
    scores = [format(_means(plain, name)[0, i], form) for name, form in FORMS.items()]
    rows.append(['0', str(FIRST_SEED + i), *scores, f'{plain.at[-1]}'])
  return report.Table(('k', 'seed', 'modes of 8', 'high quality', 'steps'), rows)


def _numbers(each: Run) -> dict[str, Any]:
  numbers = each._asdict()
  scores = {name: value.tolist() for name, value in each.scores.items()}
  return {**numbers, 'at': each.at.tolist(), 'scores': scores}
