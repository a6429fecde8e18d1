"""Rows of the table of laws: translators of images between domains."""

import jax
import jax.numpy as jnp
import optax
from rows.common import CENTER, Joined, Row

from gm_jax import priors
from gm_jax.losses import penalties
from gm_jax.methods import cycle_gan, star_gan, star_gan_v2
from gm_jax.models import mlp, style, translation

SMALL = {'base_features': 4, 'halvings': 1, 'num_blocks': 1, 'kernel_size': 3}


def two(wrap, prior):
  """Of points: images' own networks are tried in the slow suite, by the configs."""
  del prior
  networks = [mlp.MLP((8, 2))] * 2 + [mlp.MLP((8, 1))] * 2
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


def styles(wrap, prior):
  """Of points, with heads of three domains."""
  del prior
  networks = {
    'generator': Joined(mlp.MLP((8, 2))),
    'mapping': style.MappingNetwork(3, 2, 4, 1),
    'encoder': style.StyleEncoder(3, 2, mlp.MLP((4,))),
    'discriminator': style.DomainsCritic(3, mlp.MLP((8, 4))),
  }

  def penalty(critic, key, real, fake):
    return penalties.r1(critic, real) / 2

  return star_gan_v2.star_gan_v2(
    networks, {name: wrap(optax.sgd(1e-3)) for name in networks}, num_domains=3,
    prior=priors.normal(2), penalty=penalty, diversity_steps=4,
  )  # fmt: skip


def points(num):
  def batch(key):
    domain = jnp.arange(num, dtype=jnp.int32) % 3
    x = CENTER + domain[:, None] + jax.random.normal(key, (num, 2))
    return {'x': x, 'domain': domain}

  return batch


def pairs(num):
  def batch(key):
    x, y = jax.random.uniform(key, (2, num, 2), minval=-1.0)
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
  'star_gan_v2': Row(styles, points(16), falls=False),
}
