"""One training step, and one sampling, of every method at a named size.

A step is what training dispatches: every player's, with Adam everywhere, its old
state given away (donated). The peer is the same step in eager PyTorch on the same
networks and batch, timed in turn with ours; `gradient diff` compares the first
step's gradients of both players, from the same parameters and noise; GANs of classes
and of codes have no peer here. Memory is
the compiled program's: arguments, outputs and temporary. `% product` is the share
of the fastest rate of a matrix product in this run that the step reaches, its
operations counted by formula (`bench.flops`: matrix products only, nothing twice).

Rows in bfloat16 are measured on accelerators only (PyTorch's by autocast).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.bench import conditional, flops, goals, growing, timing, translating
from gm_jax import base, players, priors
from gm_jax.losses import adversarial
from gm_jax.methods import gan, unrolled_gan
from gm_jax.models import dcgan, layers, mlp, sngan
from gm_jax.players import DISCRIMINATOR, GENERATOR
from gm_jax.training import report
from gm_jax.training import step as step_lib

if timing.eager:
  from experiments.bench import eager_gan, eager_sngan

SNGAN_HALVINGS, SNGAN_BLOCKS = 2, 4
QUICK = ('gan_ring', 'gan_dcgan_28')
SAMPLES = (64, 256)
AGREEMENT = 1e-3  # relative difference of the gradients that is let pass
COLUMNS = {
  'method': 'name',
  'batch': 'batch_size',
  'step ms': 'step_ms',
  'best ms': 'step_ms_best',
  'items / s': 'items_per_s',
  'torch ms': 'torch_ms',
  'torch best': 'torch_ms_best',
  'ours / torch': 'times_torch',
  'peak MB': 'peak_mb',
  'compile s': 'compile_s',
  '% product': 'percent_product',
  **{f'sample {n} ms': f'sample_{n}_ms' for n in SAMPLES},
  f'torch {SAMPLES[-1]} ms': f'torch_sample_{SAMPLES[-1]}_ms',
  'gradient diff': 'gradient_diff',
  'others, cores': 'others_cores',
}


class Setting(NamedTuple):
  """A method at a size."""

  generator: nn.Module
  discriminator: nn.Module
  shape: tuple[int, ...]  # of an example
  batch_size: int
  latent_size: int
  rates: tuple[float, ...]  # of Adam: rate, b1, b2, eps, eps_root
  num_unroll: int | None  # None: the non-saturating GAN
  products: tuple[list, list]  # multiply-adds of the layers, generator's first
  peer: Callable[[], Any] | None  # PyTorch's networks, made only where PyTorch is
  half: bool = False  # bfloat16
  case: conditional.Case | None = None  # a method of another kind, without a peer


def ring(num_unroll: int | None) -> Setting:
  """The perceptrons of the ring of Gaussians (`configs/parts/networks.py`)."""
  g, d = (256, 128, 128, 2), (2, 128, 1)

  def peer():
    layouts = (eager_gan.mlp_layout,) * 2
    return eager_gan.Networks(eager_gan.mlp(g), eager_gan.mlp(d, 0.25), *layouts)

  return Setting(
    mlp.MLP(g[1:]),
    mlp.MLP(d[1:], input_scale=0.25),
    (2,),
    128,
    g[0],
    (1e-3, 0.5, 0.999, 1e-8, 1e-8 if num_unroll else 0.0),
    num_unroll,
    (flops.products(g), flops.products(d)),
    peer,
  )


def images(
  size: int,
  base_features: int,
  *,
  latent_size: int = 100,
  num_unroll: int | None = None,
  half: bool = False,
) -> Setting:
  """A DCGAN; where it is unrolled, its discriminator has no batch normalization."""
  normalize, dtype = num_unroll is None, jnp.bfloat16 if half else None
  doublings = {8: 1, 28: 2}[size]
  side = size // 2**doublings
  down = (1, *(base_features * 2**i for i in range(doublings)))
  products = flops.dcgan(size, 1, latent_size, base_features, base_features)

  def peer():
    return eager_gan.Networks(
      eager_gan.generator(latent_size, side, down[::-1], True),
      eager_gan.discriminator(side, down, normalize),
      eager_gan.generator_layout(side),
      eager_gan.discriminator_layout(side),
    )

  return Setting(
    dcgan.Generator(size, 1, base_features, dtype=dtype),
    dcgan.Discriminator(base_features, normalize, dtype=dtype),
    (size, size, 1),
    64,
    latent_size,
    (2e-4, 0.5, 0.999, 1e-8, 1e-8 if num_unroll else 0.0),
    num_unroll,
    products,
    peer,
    half,
  )


def residual(size: int, features: int, *, latent_size: int = 128) -> Setting:
  """SNGAN's residual networks, of RGB images, told nothing."""
  doublings, channels = layers.num_doublings(size), 3
  options = channels, features, SNGAN_HALVINGS, SNGAN_BLOCKS

  def peer():
    return eager_gan.Networks(
      eager_sngan.generator(latent_size, channels, features, doublings),
      eager_sngan.discriminator(*options),
      eager_sngan.generator_layout,
      eager_sngan.discriminator_layout,
      eager_sngan.load_vectors,
    )

  return Setting(
    sngan.Generator(size, channels, features),
    sngan.Discriminator(*options[1:], num_outputs=1),
    (size, size, channels),
    64,
    latent_size,
    (2e-4, 0.0, 0.9, 1e-8, 0.0),
    None,
    flops.sngan(size, latent_size, *options),
    peer,
  )


def of_classes(case: conditional.Case) -> Setting:
  """A GAN of another kind, whose networks are its case's own."""
  setting = images(conditional.SIZE, conditional.FEATURES)
  return setting._replace(shape=(case.size, case.size, 1), peer=None, case=case)


MORE = {**conditional.CASES, **growing.CASES, **translating.CASES}
SETTINGS = {
  'gan_ring': ring(None),
  'unrolled_gan_ring': ring(5),
  'gan_dcgan_28': images(28, 64),
  'gan_dcgan_28_bf16': images(28, 64, half=True),
  'gan_dcgan_8': images(8, 64, latent_size=64),
  'unrolled_gan_dcgan_28': images(28, 16, num_unroll=1),
  'sngan_32': residual(32, 64),
  **{name: of_classes(case) for name, case in MORE.items()},
}


def make_method(
  setting: Setting,
  *,
  prior: priors.Prior | None = None,
  wrap: Callable = lambda tx: tx,
) -> base.Method:
  """The method that is measured; `wrap` goes around its optimizers."""
  if setting.case is not None:
    return setting.case.make(wrap)
  networks = setting.generator, setting.discriminator
  txs = [wrap(optax.adam(*setting.rates)) for _ in range(2)]
  prior = prior or priors.normal(setting.latent_size)
  if setting.num_unroll is None:
    return gan.gan(*networks, *txs, prior=prior, game=adversarial.NON_SATURATING)
  return unrolled_gan.unrolled_gan(
    *networks, *txs, prior=prior, num_unroll=setting.num_unroll, diagnostics=False
  )


def example(setting: Setting) -> tuple[base.State, base.Array, base.Batch]:
  """Arguments of a step."""
  shape = setting.batch_size, *setting.shape
  batch = {'x': jax.random.uniform(jax.random.key(0), shape, minval=-1.0)}
  batch |= conditional.beside(setting.case, setting.batch_size)
  batch |= translating.second(setting.case, batch['x'])
  state = jax.jit(make_method(setting).init)(jax.random.key(1), batch)
  return state, jax.random.key(2), batch


def recording(tx: optax.GradientTransformation) -> optax.GradientTransformation:
  """`tx` that keeps its last gradient: its state is (gradient, state of tx)."""

  def update(grads, state, params=None):
    updates, inner = tx.update(grads, state[1], params)
    return updates, (grads, inner)

  return optax.GradientTransformation(
    lambda params: (jax.tree.map(jnp.zeros_like, params), tx.init(params)), update
  )


def peer_of(setting: Setting, args: tuple, where, z: base.Array | None = None):
  """The peer, from the same parameters and on the same batch."""
  state, _, batch = args
  return eager_gan.make(
    setting.peer(),
    (state.params[GENERATOR], state.params[DISCRIMINATOR]),
    np.asarray(batch['x']),
    setting.latent_size,
    setting.rates,
    where,
    num_unroll=setting.num_unroll,
    half=setting.half,
    z=None if z is None else np.asarray(z),
    collections=players.collections(state.extra, DISCRIMINATOR),
  )


def differences(setting: Setting, args: tuple, where) -> dict[str, float]:
  """How far gradients and losses of the first step are from the peer's, relatively.

  Args:
    setting: of which both are made.
    args: as of `example`.
    where: the peer's device.

  Returns:
    The larger of the two players' differences, as `gradient` and `loss`.
  """
  _, key, batch = args
  z = jax.random.normal(jax.random.key(3), (setting.batch_size, setting.latent_size))
  method = make_method(setting, prior=lambda key, num: z, wrap=recording)
  state = jax.jit(method.init)(jax.random.key(1), batch)
  new, metrics = jax.jit(method.step)(state, key, batch)
  peer, networks = peer_of(setting, args, where, z), setting.peer()
  peer.step()
  layouts = networks.generator_layout, networks.discriminator_layout
  found: dict[str, float] = {'gradient': 0.0, 'loss': 0.0}
  for name, layout in zip((GENERATOR, DISCRIMINATOR), layouts, strict=True):
    theirs, loss = peer.results()[name]
    theirs = [grad.detach().cpu().numpy() for grad in theirs]
    gap = timing.difference(layout(new.opt_state[name][0]), theirs)
    found['gradient'] = max(found['gradient'], gap)
    gap = timing.difference([metrics[f'{name}_loss']], [loss.item()])
    found['loss'] = max(found['loss'], gap)
  return found


def measure(row: dict, setting: Setting, where, repeats: int) -> None:
  """Adds every number about one setting but the share of the product's rate."""
  args = example(setting)
  method = make_method(setting)
  with timing.watch(row):
    program, seconds = timing.compiled(method.step, args, donate_argnums=0)
  row |= {
    'batch_size': setting.batch_size,
    'num_unroll': setting.num_unroll,
    'compile_s': seconds,
    'peak_mb': timing.peak_megabytes(program),
    'temp_mb': timing.temporary_megabytes(program),
    'flops': operations(setting),
  }
  peer = None
  if where is not None and setting.peer is not None:
    peer = peer_of(setting, args, where)
    if not setting.half:  # half precision differs by its rounding
      row['gradient_diff'] = differences(setting, args, where)['gradient']
  state, key, batch = jax.tree.map(jnp.copy, args[0]), *args[1:]

  def step():
    nonlocal state
    state, metrics = program(state, key, batch)
    return state, metrics

  with timing.watch(row):
    ours, theirs = timing.in_turn(step, peer and peer.step, repeats)
  row |= timing.summary('step', ours)
  row['items_per_s'] = 1e3 * setting.batch_size / row['step_ms']
  if peer:
    row |= timing.summary('torch', theirs)
    row['times_torch'] = row['step_ms'] / row['torch_ms']
  with timing.watch(row):
    row |= sampling(method, args, peer, repeats, setting.case)
  row['device_peak_mb'] = timing.device_peak_megabytes()


def sampling(
  method: base.Method,
  args: tuple,
  peer,
  repeats: int,
  case: conditional.Case | None = None,
) -> dict:
  """Times of drawing samples, ours and the peer's in turn."""
  row, model = {}, step_lib.model(args[0])
  for num in SAMPLES:
    condition = conditional.conditioned(case, method.card, num)
    of_images = translating.sampler(method, args[2]['x'])
    draw = jax.jit(
      lambda model, key, num=num, c=condition, sample=of_images: sample(
        model, key, num, condition=c
      )
    )
    theirs = peer and (lambda num=num: peer.sample(num))
    times = timing.in_turn(lambda: draw(model, args[1]), theirs, repeats)  # noqa: B023
    row |= timing.summary(f'sample_{num}', times[0])
    if peer:
      row |= timing.summary(f'torch_sample_{num}', times[1])
  return row


def operations(setting: Setting) -> int:
  """Floating-point operations of a step, by formula."""
  if setting.case is not None:
    return setting.case.operations
  if setting.num_unroll is None:
    return flops.gan(*setting.products, setting.batch_size)
  return flops.unrolled(setting.num_unroll, *setting.products, setting.batch_size)


def tables(rows: Sequence[dict], verdicts: Sequence[dict]) -> dict[str, report.Table]:
  """Builds the tables of the steps and of the goals."""
  cells = [goals.cells(row, COLUMNS.values()) for row in rows]
  return {'steps': report.Table(list(COLUMNS), cells), 'goals': goals.table(verdicts)}


def show(rates: Mapping[str, Sequence[float]], numbers: dict) -> None:
  """Prints the table, what it rests on, and the goals."""
  rows = numbers['rows']
  print(report.text_table(*numbers['tables']['steps']) + '\n')
  for dtype, found in rates.items():
    timing.show_rates(found, f'{dtype} ')
  for row in rows:
    if row.get('gradient_diff', 0.0) >= AGREEMENT:
      print(
        f'{row["name"]}: the gradients differ by {row["gradient_diff"]:.2g}, over'
        f' {AGREEMENT:g}: the times there are not of equal results'
      )
    if goals.noisy(row, 'step', 'torch'):
      print(f'{row["name"]}: noisy, see the best times')
  for name in numbers['not_measured']:
    print(f'{name}: not measured, for want of an accelerator')
  peaks = [row['device_peak_mb'] for row in rows if row.get('device_peak_mb')]
  if peaks:
    print(f'most that the device held at any time: {max(peaks):.0f} MB')
  timing.show_end(numbers)


def run(names: Sequence[str], *, repeats: int) -> dict:
  """Measures the settings of these names, prints, and returns numbers and tables."""
  where, platform = timing.prepare(), jax.default_backend()
  left_out = [n for n in names if SETTINGS[n].half and platform == 'cpu']
  rows = [{'name': name} for name in names if name not in left_out]
  with timing.watch(*rows):  # their shares of the product's rate rest on it
    rates = {'float32': timing.matmul_rates()}
    if platform != 'cpu':
      rates['bfloat16'] = timing.matmul_rates(dtype=jnp.bfloat16)
  # The first compilation loads the compiler.
  timing.compiled(jnp.sin, (jnp.ones(3),))
  for row in rows:
    setting = SETTINGS[row['name']]
    measure(row, setting, where, repeats)
    fastest = max(rates['bfloat16' if setting.half else 'float32'])
    row['percent_product'] = 1e5 * row['flops'] / row['step_ms'] / fastest
  verdicts = goals.step_verdicts({row['name']: row for row in rows}, platform)
  numbers = {
    'tables': tables(rows, verdicts),
    'rows': rows,
    'not_measured': left_out,
    'matmul_flops_per_second': {n: timing.named(found) for n, found in rates.items()},
    'conditions': timing.conditions(where),
    'goals': verdicts,
  }
  show(rates, numbers)
  return numbers
