"""Normalizing flows beside other packages, and TarFlow with a cache and without.

A row of TarFlow is a function (where PyTorch runs or None, repeats, scale) -> dict;
`GOALS` says what is wanted of a row, by the beginning of its name. Flows of vectors
stand beside the packages of `flow_peers`. Samples of
TarFlow that come from what is remembered stand beside those of a full pass a patch,
which are the same samples, of the same parameters.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import flow_peers, goals, timing
from gm_jax import patch_flow_layers
from gm_jax.models import patch_transformer

TOKENS, BLOCKS, LAYERS, WIDTH, HEADS = 64, 4, 2, 64, 4  # of tarflow_digits, patch 1
SAMPLES = 16
STD = 0.1  # of what moves the parameters away from the identity
AGREEMENT = 1e-4  # relative difference of values that is let pass
COLUMNS = timing.COLUMNS


def tarflow_row(where, repeats: int, scale: int = 1) -> dict:
  """Samples from the cache beside samples by full passes."""
  del where  # both sides are ours
  length, width = TOKENS // scale, WIDTH // scale

  def make(outputs):
    return patch_transformer.PatchTransformer(length, outputs, width, LAYERS, HEADS)

  flow = functools.partial(patch_flow_layers.tarflow, make, BLOCKS, shape=(length, 1))
  cached, naive = flow(), flow(layer=patch_flow_layers.without_cache)
  params = jax.jit(cached.init)(jax.random.key(0), jnp.zeros((2, length, 1)))
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  moved = (
    a + STD * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)
  )
  params = tree.unflatten(moved)
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


ROWS = (tarflow_row,)
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
  rows = [row(where, repeats, scale) for row in ROWS]
  for kind, layers in VECTORS:
    rows += peer_rows(kind, layers, repeats, scale)
  return timing.finish(
    rows, COLUMNS, verdicts(rows), timing.conditions(where), AGREEMENT
  )
