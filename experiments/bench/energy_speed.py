"""Chains of a convolutional energy, and a training step by them, beside PyTorch's.

The same network with the same weights: `models.energies.ConvolutionalEnergy`, chains of
IGEBM from a buffer, as tutorials have them. Ours is one program of 60 steps of Langevin
dynamics; PyTorch's is a loop. Energies, their gradients in the images and the loss's
gradient in the parameters are compared before anything is timed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.bench import goals, timing
from gm_jax import base, priors
from gm_jax import chains as chains_lib
from gm_jax.losses import energy as losses
from gm_jax.methods import igebm
from gm_jax.models import energies

try:
  import torch

  from experiments.bench import eager_energy as peers
except ImportError:
  torch = peers = None

SIDE, BATCH, BUFFER, STEPS = 28, 64, 8192, 60
FEATURES = (16, 32, 64)
SIZES = {'step_size': 10.0, 'noise_scale': 0.005, 'largest': 0.03}
RATE, FRESH, WEIGHT = 1e-4, 0.05, 0.1
AGREEMENT = 1e-4  # relative difference of values that is let pass
LEAST = round(1 / 1.8, 3)  # times faster: it may take 1.8 times as long
COLUMNS = timing.COLUMNS | {'ours a second': 'per_second'}
GOALS = {
  'Langevin steps: times faster than PyTorch': 'Langevin',
  'a training step by chains: times faster than PyTorch': 'training',
}


def chains(scale: int) -> chains_lib.Chains:
  """IGEBM's, within the bounds of pixels."""
  return chains_lib.Chains(
    priors.uniform(SIDE**2), num_steps=STEPS // scale, step_size=SIZES['step_size'],
    temperature=SIZES['noise_scale'] ** 2 / (2 * SIZES['step_size']),
    largest=SIZES['largest'], bounds=(-1.0, 1.0), size=BUFFER // scale, rate=FRESH,
  )  # fmt: skip


def network(scale: int) -> energies.ConvolutionalEnergy:
  """A `scale`-th of the channels."""
  return energies.ConvolutionalEnergy(tuple(f // scale for f in FEATURES), 64 // scale)


def made(scale: int):
  """The method, its first state and a batch."""
  method = igebm.igebm(
    network(scale), chains(scale), optax.adam(RATE), shape=(SIDE, SIDE, 1),
    weight=WEIGHT,
  )  # fmt: skip
  x = np.random.default_rng(0).uniform(-1, 1, (BATCH // scale, SIDE, SIDE, 1))
  batch = {'x': jnp.asarray(x, jnp.float32)}
  return method, jax.jit(method.init)(jax.random.key(0), batch), batch


def images(x, where):
  """Ours as PyTorch's, [B, C, H, W]."""
  return torch.tensor(np.asarray(x).transpose(0, 3, 1, 2).copy(), device=where)


def module_of(state: base.State, where, scale: int):
  """PyTorch's network with the weights of ours."""
  params = state.params[igebm.ENERGY]
  return peers.network(params, network(scale).features, SIDE).to(where)


def differences(where, scale: int) -> tuple[float, float]:
  """Of energies with their gradients in images, and of the loss's in parameters."""
  _, state, batch = made(scale)
  net, params = network(scale), state.params[igebm.ENERGY]
  other = jnp.flip(batch['x'], 1)

  def energy(params, x):
    return net.apply({'params': params}, x)[:, 0]

  def loss(params):
    both = energy(params, batch['x']), energy(params, other)
    penalty = WEIGHT * losses.squared_energy(*both)
    return (losses.contrastive_divergence(*both) + penalty).mean()

  value, pull = jax.vjp(lambda x: energy(params, x), batch['x'])
  ours = [value, pull(jnp.ones_like(value))[0].transpose(0, 3, 1, 2)]
  module = module_of(state, where, scale)
  x, negatives = (images(v, where) for v in (batch['x'], other))
  theirs = [module(x)[:, 0], peers.slope(module, x)]
  first = timing.difference(ours, [t.detach().cpu().numpy() for t in theirs])
  peers.loss(module, x, negatives, WEIGHT).backward()
  theirs = [p.grad.cpu().numpy() for p in module.parameters()]
  gradient = jax.jit(jax.grad(loss))(params)
  return first, timing.difference(peers.layout(gradient), theirs)


def chains_row(where, repeats: int, scale: int = 1) -> dict:
  """A Langevin step of a batch of chains."""
  method, state, batch = made(scale)
  setting = chains(scale)

  @jax.jit
  def run(model, key, x):
    def energy(x):
      return method.queries['energy'](model, None, x)

    return chains_lib.run(setting, energy, key, x)[0]

  model, theirs = base.Model(state.params, state.extra), None
  if where is not None:
    module, x = module_of(state, where, scale), images(batch['x'], where)

    def theirs():
      peers.chains(module, x, num_steps=setting.num_steps, **SIZES)
      timing.eager.synchronize(where)

  name = f'Langevin step, {BATCH // scale} chains of {SIDE} x {SIDE}'
  key = jax.random.key(1)
  row = timing.beside(
    name, 'PyTorch', lambda: run(model, key, batch['x']), theirs, repeats
  )
  row = timing.divided(row, setting.num_steps)
  return row | {'per_second': 1e3 / row['ours_ms']}


def step_row(where, repeats: int, scale: int = 1) -> dict:
  """A training step by chains of a buffer, the state donated as in training."""
  method, state, batch = made(scale)
  theirs, setting = None, chains(scale)
  if where is not None:
    module, x = module_of(state, where, scale), images(batch['x'], where)
    held = 2 * torch.rand(setting.size, 1, SIDE, SIDE, device=where) - 1
    sizes = {'num_steps': setting.num_steps, **SIZES}
    step = peers.stepper(
      module, x, held, rate=RATE, fresh=FRESH, weight=WEIGHT, **sizes
    )

    def theirs():
      step()
      timing.eager.synchronize(where)

  take = jax.jit(method.step, donate_argnums=0)
  held_state, key = [state], jax.random.key(1)

  def ours():
    held_state[0], metrics = take(held_state[0], key, batch)
    return metrics['loss']

  name = f'training step, {setting.num_steps} steps of {BATCH // scale} chains'
  row = timing.beside(name, 'PyTorch', ours, theirs, repeats)
  return row | {'per_second': 1e3 / row['ours_ms']}


def verdicts(rows: list[dict]) -> list[dict]:
  """The goals, each with its number and verdict."""
  return goals.faster(rows, GOALS, LEAST)


def run(*, repeats: int, quick: bool = False) -> dict:
  """Measures all, prints, returns numbers and tables; `quick` is a quarter the size."""
  where, scale = timing.prepare(), 4 if quick else 1
  timing.compiled(jnp.sin, (jnp.ones(3),))  # the first one loads the compiler
  apart = differences(where, scale) if where is not None else ()
  rows = [make(where, repeats, scale) for make in (chains_row, step_row)]
  for row, difference in zip(rows, apart, strict=False):
    row['difference'] = difference
  return timing.finish(
    rows, COLUMNS, verdicts(rows), timing.conditions(where), AGREEMENT
  )
