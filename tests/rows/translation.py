"""Rows of the table of laws: translators of images between domains."""

import jax
import jax.numpy as jnp
import optax
from rows.common import Row

from gm_jax.losses import penalties
from gm_jax.methods import cycle_gan, star_gan
from gm_jax.models import translation

SMALL = {'base_features': 4, 'halvings': 1, 'num_blocks': 1, 'kernel_size': 3}


def two(wrap, prior):
  del prior
  critic = translation.PatchCritic(4, 1)
  networks = [translation.Translator(1, **SMALL)] * 2 + [critic] * 2
  txs = [wrap(optax.sgd(0.02)) for _ in range(2)]
  return cycle_gan.cycle_gan(*networks, *txs, pool_size=10)


def many(wrap, prior):
  del prior

  def penalty(critic, key, real, fake):
    return 10 * penalties.gradient_penalty(critic, key, real, fake)

  return star_gan.star_gan(
    translation.Translator(1, **SMALL), translation.DomainCritic(3, 4, 1),
    wrap(optax.sgd(1e-3)), wrap(optax.sgd(1e-3)), sizes=(2, 1), penalty=penalty,
    num_critic=2,
  )  # fmt: skip


def pairs(num):
  def batch(key):
    x, y = jax.random.uniform(key, (2, num, 8, 8, 1), minval=-1.0)
    return {'x': x, 'y': 0.5 * y + 0.5}

  return batch


def of_three(num):
  def batch(key):
    x = jax.random.uniform(key, (num, 8, 8, 1), minval=-1.0)
    return {'x': x, 'domain': jnp.arange(num, dtype=jnp.int32) % 3}

  return batch


ROWS = {
  'cycle_gan': Row(two, pairs(8), falls=False),
  'star_gan': Row(many, of_three(16), falls=False),
}
