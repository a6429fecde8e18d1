"""Rows of the table of laws: networks that grow, in the fade of a size and after it."""

import optax
from rows.common import Row, images

from gm_jax import growth
from gm_jax.methods import progressive_gan
from gm_jax.models import progressive

WIDTHS = {'base_features': 32, 'max_features': 4}
STAGE = growth.Stage(8, 0, 2, 9)  # its optimizers begin again within the laws' steps


def progressive_networks(wrap, prior):
  txs = {f'{n}_tx': wrap(optax.adam(2e-3, 0.0, 0.99)) for n in 'gd'}
  return progressive_gan.progressive_gan(
    progressive.Generator(8, 1, **WIDTHS), progressive.Discriminator(**WIDTHS),
    **txs, prior=prior, stage=STAGE,
  )  # fmt: skip


ROWS = {'progressive_gan': Row(progressive_networks, images(16), falls=False)}
