"""Rows of the table of laws: images painted around patches."""

import jax
import optax
from rows.common import Row, images

from gm_jax import conditions
from gm_jax.methods import puzzle_gan
from gm_jax.models import dcgan, puzzle

SHAPE = (2, 8, 8, 1)


def cut(num):
  """Images with patches, and the places of these, all at random."""

  def batch(key):
    x_key, patch_key, mask_key = jax.random.split(key, 3)
    return {
      **images(num)(x_key),
      'condition': jax.random.uniform(patch_key, (num, *SHAPE), minval=-1.0),
      'mask': jax.random.bernoulli(mask_key, 0.3, (num, 8, 8, 2)),
    }

  return batch


def painted(wrap, prior):
  tx = optax.adam(1e-3, b1=0.5)
  return puzzle_gan.puzzle_gan(
    puzzle.Painter(8, 1, 4, 8), dcgan.Discriminator(4), wrap(tx), wrap(tx),
    prior=prior, condition=conditions.optional(conditions.by_patches(SHAPE), 0.3),
    spatial_weight=optax.exponential_decay(1.0, 10, 0.01),
    appearance_weight=optax.constant_schedule(0.1),
  )  # fmt: skip


ROWS = {'puzzle_gan': Row(painted, cut(16), falls=False)}
