"""Networks that grow, as `bench.steps` measures them: at their last size, faded in.

Operations are counted as in `bench.flops`. The penalty adds a forward and a backward
pass of B points between real and fake, 2 B S each with S the multiply-adds of an
example, and as much again twice in the backward pass through both: from below, the
cotangents of the backward pass's own inputs, and those of the weights in it. Leaky
rectified units have no second derivative, so that nothing goes down from there but
through the standard deviation of the batch, to the layers before it.
"""

from collections.abc import Callable

import optax

from experiments.bench import conditional, flops
from gm_jax import base, growth, priors
from gm_jax.methods import progressive_gan
from gm_jax.models import progressive

SIZE, LATENT, BATCH = 32, 64, conditional.BATCH
WIDTHS = {'base_features': 512, 'max_features': 32}


def _make(wrap: Callable) -> base.Method:
  txs = {f'{name}_tx': wrap(optax.adam(1e-3, 0.0, 0.99)) for name in 'gd'}
  return progressive_gan.progressive_gan(
    progressive.Generator(SIZE, 1, **WIDTHS),
    progressive.Discriminator(**WIDTHS),
    **txs,
    prior=priors.normal(LATENT),
    stage=growth.Stage(SIZE, 0, 1, 10**6),
  )


def _features(size: int) -> int:
  return min(WIDTHS['max_features'], WIDTHS['base_features'] // size)


def _products() -> tuple[list[int], list[int], list[int]]:
  """Multiply-adds of the generator's layers, the critic's, and its before 4x4."""
  start, near = progressive.START, 9
  sizes = progressive.sizes(start, SIZE)
  first = _features(start)
  g = [LATENT * start**2 * first, start**2 * near * first**2]
  below = [SIZE**2 * _features(SIZE)]
  for size in sizes[1:]:
    wide, narrow = _features(size // 2), _features(size)
    g += [size**2 * near * wide * narrow, size**2 * near * narrow**2]
    below += [size**2 * near * narrow**2, size**2 * near * narrow * wide]
  g += [size**2 * _features(size) for size in sizes[-2:]]
  below.append((SIZE // 2) ** 2 * _features(SIZE // 2))
  dense = _features(start // 2)
  top = [start**2 * near * (first + 1) * first, start**2 * first * dense, dense]
  return g, [*below, *top], below


def _operations() -> int:
  g, d, below = _products()
  penalty = 2 * BATCH * (4 * sum(d) + 2 * sum(below) - below[0])
  return flops.gan(g, d, BATCH) + penalty


CASES = {'progressive_gan_32': conditional.Case(_make, _operations(), SIZE)}
