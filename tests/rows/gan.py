"""Rows of the table of laws: the GAN and the unrolled GAN."""

import functools

import jax.numpy as jnp
import optax
from rows.common import Joined, Row, images, plane, players

from gm_jax import conditions
from gm_jax.losses import adversarial, penalties
from gm_jax.methods import ac_gan, gan, unrolled_gan
from gm_jax.models import dcgan, mlp


def plain_gan(wrap, prior):
  tx = optax.adam(5e-3, b1=0.5)
  return gan.gan(**players(), g_tx=wrap(tx), d_tx=wrap(tx), prior=prior)


def penalized_gan(wrap, prior):
  def penalty(critic, key, real, fake):
    return penalties.gradient_penalty(critic, key, real, fake, target=0.0)

  tx = optax.adam(1e-2, b1=0.5)
  return gan.gan(
    **players(),
    g_tx=wrap(tx),
    d_tx=wrap(tx),
    prior=prior,
    game=adversarial.HINGE,
    penalty=penalty,
    num_critic=2,
  )


def image_gan(wrap, prior):
  tx = optax.adam(1e-3, b1=0.5)
  return gan.gan(
    dcgan.Generator(8, 1, base_features=4),
    dcgan.Discriminator(base_features=4, spectral_norm=True),
    wrap(tx),
    wrap(tx),
    prior=prior,
  )


def frugal_image_gan(wrap, prior):
  tx = optax.sgd(0.1)  # Adam would make a full step of a rounding error
  frugal = dict(base_features=4, dtype=jnp.bfloat16, remat=True)
  return gan.gan(
    dcgan.Generator(8, 1, **frugal),
    dcgan.Discriminator(**frugal),
    wrap(tx),
    wrap(tx),
    prior=prior,
    num_accumulate=2,
  )


def unrolled_image_gan(wrap, prior):
  tx = optax.adam(1e-3, b1=0.5, eps_root=1e-8)
  return unrolled_gan.unrolled_gan(
    dcgan.Generator(8, 1, base_features=4),
    dcgan.Discriminator(base_features=4, spectral_norm=True, remat=True),
    wrap(tx),
    wrap(tx),
    prior=prior,
    num_unroll=2,
    num_accumulate=2,
  )


def sided(num):
  """The plane's data, labelled by their side of a line."""

  def batch(key):
    x = plane(num)(key)['x']
    return {'x': x, 'label': (x[:, 0] > 1.0).astype(jnp.int32)}

  return batch


def conditional_gan(wrap, prior):
  tx = optax.adam(5e-3, b1=0.5)
  networks = {name: Joined(network) for name, network in players().items()}
  return gan.gan(
    **networks, g_tx=wrap(tx), d_tx=wrap(tx), prior=prior,
    condition=conditions.optional(conditions.by_class(2), 0.2),
  )  # fmt: skip


def auxiliary(wrap, prior):
  tx = optax.adam(5e-3, b1=0.5)
  return ac_gan.ac_gan(
    Joined(players()['generator']), mlp.MLP((16, 3)), wrap(tx), wrap(tx), prior=prior,
    num_classes=2,
  )  # fmt: skip


def unrolled(fresh, wrap, prior):
  tx = optax.adam(5e-3, b1=0.5, eps_root=1e-8)
  return unrolled_gan.unrolled_gan(
    **players(), g_tx=wrap(tx), d_tx=wrap(tx), prior=prior, num_unroll=3, fresh=fresh
  )


ROWS = {
  'gan': Row(plain_gan, plane(64), structure='two players'),
  'gan_penalized': Row(penalized_gan, plane(128), structure='slices of a batch'),
  'conditional_gan': Row(conditional_gan, sided(64), structure='a condition'),
  'ac_gan': Row(auxiliary, sided(64)),
  'gan_images': Row(
    image_gan, images(16), falls=False, structure='batch statistics, spectral norms'
  ),
  'gan_images_frugal': Row(
    frugal_image_gan, images(16), falls=False, rounding=20, slow=True
  ),
  'unrolled_gan': Row(
    functools.partial(unrolled, False), plane(64), structure='an unrolled player'
  ),
  'unrolled_gan_fresh': Row(functools.partial(unrolled, True), plane(256), slow=True),
  'unrolled_gan_images': Row(unrolled_image_gan, images(16), falls=False, slow=True),
}
