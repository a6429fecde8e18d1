"""One full training step of the unrolled GAN: time, memory and compile time.

A step is the discriminator's step and the generator's, through k inner steps on
the same batch, with Adam everywhere; networks, batch and rates stand below. The
peer is the same step in eager PyTorch, timed in turn with ours. The floor is the
fewest operations (`bench.flops`, without rematerialization) at the fastest rate
a matrix product reached in this run; `x own floor` takes the rate of a product
of the step's own shape instead.

Other work on the machine spoils the numbers, PyTorch's most (its threads spin
while they wait): where other processes used the cores, or a median is far from the
best, nothing is judged.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.bench import flops, goals, timing
from gm_jax import base, priors, unroll
from gm_jax.methods import unrolled_gan
from gm_jax.models import mlp
from gm_jax.players import DISCRIMINATOR, GENERATOR
from gm_jax.training import report

eager = timing.eager

SIZES = {GENERATOR: (256, 128, 128, 2), DISCRIMINATOR: (2, 128, 128, 1)}
BATCH_SIZE = 512
RATES = (1e-3, 0.5, 0.999, 1e-8, 1e-8)  # of Adam: rate, b1, b2, eps, eps_root
AGREEMENT = 1e-3  # relative difference of the gradients that is let pass
COLUMNS = {
  'k': 'k',
  'step ms': 'step_ms',
  'floor ms': 'floor_ms',
  'x floor': 'times_floor',
  'x own floor': 'times_own_floor',
  'torch ms': 'torch_ms',
  'x faster': 'times_faster',
  'gradient diff': 'gradient_diff',
  'temp MB': 'temp_mb',
  'compile s': 'compile_s',
  'others, cores': 'others_cores',
}


def make_method(
  k: int,
  unroll_fn: unroll.Unroll = unroll.full,
  *,
  g_tx: optax.GradientTransformation | None = None,
  prior: priors.Prior | None = None,
) -> base.Method:
  """The unrolled GAN that is measured."""
  adam = optax.adam(*RATES)
  prior = prior or priors.normal(SIZES[GENERATOR][0])
  networks = (mlp.MLP(s[1:], activation=nn.tanh) for s in SIZES.values())
  return unrolled_gan.unrolled_gan(
    *networks,
    g_tx or adam,
    adam,
    prior=prior,
    num_unroll=k,
    unroll_fn=unroll_fn,
    diagnostics=False,
  )


def plain_scan(step, state, xs=None, *, length=None):
  """`unroll.full` without rematerialization."""
  return jax.lax.scan(lambda s, x: (step(s, x), None), state, xs, length=length)[0]


def python_loop(step, state, xs=None, *, length=None):
  """`unroll.full` without a scan: XLA sees every inner step."""
  keys = xs[0] if xs is not None else range(length)
  for i in range(len(keys)):
    state = step(state, jax.tree.map(lambda x: x[i], xs))  # noqa: B023
  return state


def example() -> tuple[base.State, base.Array, base.Batch]:
  """Arguments of a step: one state, the same for every k, and one batch."""
  batch = {'x': jax.random.normal(jax.random.key(0), (BATCH_SIZE, 2))}
  return make_method(0).init(jax.random.key(1), batch), jax.random.key(2), batch


def flat(params: base.Params) -> list[np.ndarray]:
  """An MLP's parameters as kernel, bias, kernel, ..."""
  layers = [params[f'Dense_{i}'] for i in range(len(params))]
  return [np.asarray(layer[n]) for layer in layers for n in ('kernel', 'bias')]


def generator_gradient(k: int, args: tuple, z: base.Array) -> list[np.ndarray]:
  """The gradient that the generator's optimizer gets, both noises being z."""
  keep = optax.GradientTransformation(
    init=lambda params: jax.tree.map(jnp.zeros_like, params),
    update=lambda grads, state, params=None: (state, grads),
  )
  method = make_method(k, g_tx=keep, prior=lambda key, num: z)
  state, key, batch = args
  state = state._replace(
    opt_state=state.opt_state | {GENERATOR: keep.init(state.params[GENERATOR])}
  )
  state, _ = jax.jit(method.step)(state, key, batch)
  return flat(state.opt_state[GENERATOR])


def gradient_difference(k: int, args: tuple) -> float:
  """|ours - PyTorch's| / |PyTorch's|, of the generator's gradient at one state."""
  state, _, batch = args
  z = jax.random.normal(jax.random.key(3), (BATCH_SIZE, SIZES[GENERATOR][0]))
  ours = generator_gradient(k, args, z)
  players = (flat(state.params[name]) for name in SIZES)
  theirs = eager.first_gradient(
    *players, np.asarray(batch['x']), np.asarray(z), k, RATES
  )
  return timing.difference(ours, theirs)


def measure(row: dict, program, args: tuple, where, repeats: int) -> None:
  """Adds every number about one k but the floor and the compile time."""
  k = row['k']
  state, key, batch = args
  peer, difference = None, None
  if where is not None:
    difference = gradient_difference(k, args)
    players = (flat(state.params[name]) for name in SIZES)
    real, latent_size = np.asarray(batch['x']), SIZES[GENERATOR][0]
    peer = eager.stepper(*players, real, latent_size, k, RATES, where)

  def step():
    nonlocal state
    state, metrics = program(state, key, batch)
    return state, metrics

  with timing.watch(row):
    ours, theirs = timing.in_turn(step, peer, repeats)
  row['temp_mb'] = timing.temporary_megabytes(program)
  row |= timing.summary('step', ours)
  if peer:
    row |= {'gradient_diff': difference, **timing.summary('torch', theirs)}
    row['times_faster'] = row['torch_ms'] / row['step_ms']


def add_floor(row: dict, rates: Sequence[float]) -> None:
  """Adds the floor, by the fastest product and by the one of the step's shape."""
  shape = row['k'], SIZES[GENERATOR], SIZES[DISCRIMINATOR], BATCH_SIZE
  row['flops'] = flops.step(*shape)
  row['flops_rematerialized'] = flops.step(*shape, rematerialized=True)
  row['floor_ms'] = 1e3 * row['flops'] / max(rates)
  row['times_floor'] = row['step_ms'] / row['floor_ms']
  row['times_own_floor'] = row['step_ms'] * rates[0] / row['flops'] / 1e3


def tables(rows: Sequence[dict], verdicts: Sequence[dict]) -> dict[str, report.Table]:
  """Builds the tables of the steps and of the goals."""
  cells = [goals.cells(row, COLUMNS.values()) for row in rows]
  return {'steps': report.Table(list(COLUMNS), cells), 'goals': goals.table(verdicts)}


def show(rates: Sequence[float], numbers: dict) -> None:
  """Prints the table, what it rests on, and the goals."""
  rows = numbers['rows']
  print(report.text_table(*numbers['tables']['steps']))
  print(f'\nG {SIZES[GENERATOR]}, D {SIZES[DISCRIMINATOR]}, tanh, batch {BATCH_SIZE}')
  timing.show_rates(rates)
  more = rows[-1]['flops_rematerialized'] / rows[-1]['flops']
  print(
    f'floor: {rows[-1]["flops"] / 1e9:.2f} Gflop at k = {rows[-1]["k"]}, at the faster'
    f' rate; nothing rematerialized ({more:.2f} times that with it)'
  )
  for row in rows:
    if goals.noisy(row, 'step', 'torch'):
      peer = f', PyTorch {row["torch_ms_best"]:.4g}' if 'torch_ms' in row else ''
      best = f'ours {row["step_ms_best"]:.4g}{peer}'
      print(f'noisy at k = {row["k"]}: best ms {best}')
    if row.get('gradient_diff', 0.0) >= AGREEMENT:
      print(
        f'at k = {row["k"]} the gradients differ by {row["gradient_diff"]:.2g}, over'
        f' {AGREEMENT:g}: the times there are not of equal results'
      )
  if numbers['plain_scan_mb'] is not None:
    print(f'plain scan at k = 50: {numbers["plain_scan_mb"]:.1f} MB')
  timing.show_end(numbers)


def run(ks: Sequence[int], *, repeats: int) -> dict:
  """Measures, prints, and returns every number and the tables by name."""
  where, platform = timing.prepare(), jax.default_backend()
  args, rows = example(), [{'k': k} for k in ks]
  # Every row rests on the rates and on the compilations.
  with timing.watch(*rows):
    rates = timing.matmul_rates()
  timing.compiled(make_method(0).step, args)  # the first compilation loads the compiler
  with timing.watch(*rows):
    builds = [
      {k: timing.compiled(make_method(k).step, args) for k in ks}
      for _ in range(3 if repeats > 5 else 1)
    ]
  for row in rows:
    measure(row, builds[0][row['k']][0], args, where, repeats)
    row['compile_s'] = min(build[row['k']][1] for build in builds)
  with timing.watch(*rows):
    rates = [max(pair) for pair in zip(rates, timing.matmul_rates(), strict=True)]
  for row in rows:
    add_floor(row, rates)
  plain_mb = None
  if 50 in ks:
    plain = timing.compiled(make_method(50, plain_scan).step, args)[0]
    plain_mb = timing.temporary_megabytes(plain)
  verdicts = goals.verdicts({row['k']: row for row in rows}, plain_mb, platform)
  numbers = {
    'tables': tables(rows, verdicts),
    'rows': rows,
    'matmul_flops_per_second': timing.named(rates),
    'plain_scan_mb': plain_mb,
    'conditions': timing.conditions(where),
    'goals': verdicts,
  }
  show(rates, numbers)
  return numbers
