"""Normalizing flows beside other packages, and with and without what makes them fast.

Flows of vectors stand beside the packages of `flow_peers`. Samples of TarFlow that come
from a cache stand beside those of a full pass a patch, which are the same samples, of
the same parameters; a continuous flow's step by Hutchinson's trace beside that by the
exact one. `GOALS` says what is wanted of a row, by the beginning of its name.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.bench import flow_peers, goals, timing
from gm_jax import ode, patch_flow_layers, priors
from gm_jax.methods import continuous_flow
from gm_jax.models import flows, patch_transformer

TOKENS, BLOCKS, LAYERS, WIDTH, HEADS = 64, 4, 2, 64, 4  # of tarflow_digits, patch 1
SAMPLES = 16
NUMBERS, BATCH, TOLERANCE = 16, 256, 1e-5  # of the continuous flow
STD = 0.1  # of what moves the parameters away from the identity
AGREEMENT = 1e-4  # relative difference of values that is let pass
COLUMNS = timing.COLUMNS


def moved(params):
  """Parameters away from where the flow is the identity."""
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  noise = (jax.random.normal(k, a.shape) for k, a in zip(keys, leaves, strict=True))
  return tree.unflatten(a + STD * e for a, e in zip(leaves, noise, strict=True))


def tarflow_row(repeats: int, scale: int = 1) -> dict:
  """Samples from the cache beside samples by full passes."""
  length, width = TOKENS // scale, WIDTH // scale

  def make(outputs):
    return patch_transformer.PatchTransformer(length, outputs, width, LAYERS, HEADS)

  flow = functools.partial(patch_flow_layers.tarflow, make, BLOCKS, shape=(length, 1))
  cached, naive = flow(), flow(layer=patch_flow_layers.without_cache)
  params = moved(jax.jit(cached.init)(jax.random.key(0), jnp.zeros((2, length, 1))))
  z = jax.random.normal(jax.random.key(2), (SAMPLES, length))
  fast, slow = (jax.jit(lambda p, z, f=f: f.inverse(p, z)[0]) for f in (cached, naive))
  return timing.beside(
    f'TarFlow, {length} tokens, {BLOCKS} blocks, {SAMPLES} samples, cached',
    'ours, a full pass a token',
    lambda: fast(params, z),
    lambda: slow(params, z),
    min(repeats, 5),
    difference=timing.difference(
      [np.asarray(fast(params, z))], [np.asarray(slow(params, z))]
    ),
  )


def continuous_row(repeats: int, scale: int = 1) -> dict:
  """A step by Hutchinson's trace beside one by the exact trace, and evaluations.

  Both solve to `TOLERANCE`, and each is named with how often it evaluates the velocity.
  """
  size, batch = NUMBERS // scale, BATCH // scale
  x = jax.random.normal(jax.random.key(0), (batch, size))
  solve = ode.adaptive(rtol=TOLERANCE, atol=TOLERANCE)
  names, steps = [], []
  for trace in (ode.HUTCHINSON, ode.EXACT):
    method = continuous_flow.continuous_flow(
      flows.Velocity(), priors.normal(size), optax.adam(1e-3),
      shape=(size,), trace=trace, solve=solve,
    )  # fmt: skip
    state = jax.jit(method.init)(jax.random.key(0), {'x': x})
    state = state._replace(params=moved(state.params))
    step = functools.partial(jax.jit(method.step), state, jax.random.key(1), {'x': x})
    evaluations = int(step()[1]['num_evaluations'])
    names.append(f'{trace.density} trace, {evaluations} evaluations')
    steps.append(step)
  name = f'continuous flow, {size} numbers, step, {names[0]}'
  return timing.beside(name, f'ours, {names[1]}', *steps, repeats)


def peer_rows(kind: str, layers: int, repeats: int, scale: int) -> list[dict]:
  """A step, likelihoods and samples of a flow of vectors, beside every package."""
  ours, rows = flow_peers.ours(kind, layers, scale), []
  of = 'spline couplings' if kind == 'spline' else 'MAF layers'
  for name, make in flow_peers.PEERS.items():
    theirs = make(kind, layers, scale)
    for part in flow_peers.Sides._fields:
      what = f'{layers} {of}, {part}, beside {name}'
      peer = theirs and getattr(theirs, part)
      rows.append(timing.beside(what, name, getattr(ours, part), peer, repeats))
  return rows


ROWS = (tarflow_row, continuous_row)
VECTORS = (('spline', 6), ('maf', 5))
GOALS = {'TarFlow of 64 tokens: times faster cached than by full passes': 'TarFlow'}
LEAST = 10.0  # times faster


def verdicts(rows) -> list[dict]:
  """The goals, each with its number and verdict."""
  return goals.faster(rows, GOALS, LEAST)


def run(*, repeats: int, quick: bool = False) -> dict:
  """Measures all, prints, returns numbers and tables; `quick` is a quarter the size."""
  where, scale = timing.prepare(), 4 if quick else 1
  timing.compiled(jnp.sin, (jnp.ones(3),))  # the first one loads the compiler
  rows = [row(repeats, scale) for row in ROWS]
  for kind, layers in VECTORS:
    rows += peer_rows(kind, layers, repeats, scale)
  return timing.finish(
    rows, COLUMNS, verdicts(rows), timing.conditions(where), AGREEMENT
  )
