"""Rows of the table of laws: packs, batch statistics, augmentation, many critics."""

import functools

import flax.linen as nn
import optax
from rows.common import Row, images, plane, players

from gm_jax import augmentation, gradient
from gm_jax.losses import adversarial
from gm_jax.methods import ada_gan, d2gan, gan, gman
from gm_jax.models import mlp, remedies

TX = functools.partial(optax.adam, 5e-3, b1=0.5)


def wrapped(wrapper, wrap, prior):
  parts = players()
  parts['discriminator'] = wrapper(parts['discriminator'])
  return gan.gan(**parts, g_tx=wrap(TX()), d_tx=wrap(TX()), prior=prior)


def clipped(wrap, prior):
  tx = optax.chain(optax.rmsprop(2e-3), gradient.clip_weights(0.5))
  return gan.gan(
    **players(), g_tx=wrap(optax.rmsprop(2e-3)), d_tx=wrap(tx), prior=prior,
    game=adversarial.WASSERSTEIN, num_critic=2,
  )  # fmt: skip


def adaptive(wrap, prior):
  critic = remedies.AdaptivelyAugmented(mlp.MLP((8, 1)), augmentation.everything)
  pixels = PixelMLP()
  return ada_gan.ada_gan(pixels, critic, wrap(TX()), wrap(TX()), prior=prior, rate=0.1)


class PixelMLP(nn.Module):
  """z -> images, by one layer."""

  @nn.compact
  def __call__(self, z, *, train=False):
    return nn.tanh(nn.Dense(64)(z)).reshape(-1, 8, 8, 1)


def two(wrap, prior):
  return d2gan.d2gan(
    mlp.MLP((16, 2), activation=nn.tanh), mlp.MLP((16, 1)), mlp.MLP((16, 1)),
    wrap(TX()), wrap(TX()), wrap(TX()), prior=prior,
  )  # fmt: skip


def several(wrap, prior):
  return gman.gman(
    **players(), g_tx=wrap(TX()), d_tx=wrap(TX()), prior=prior, num_discriminators=3,
    combine=gman.softmax_weighted(1.0), game=adversarial.NON_SATURATING,
  )  # fmt: skip


def discriminating(critic):
  del critic
  return remedies.WithStatistics(mlp.MLP((16,)), remedies.MinibatchDiscrimination(2, 2))


ROWS = {
  'packed_gan': Row(
    functools.partial(wrapped, lambda critic: remedies.Packed(critic, 2)),
    plane(64),
    slow=True,
  ),
  'minibatch_discrimination_gan': Row(
    functools.partial(wrapped, discriminating), plane(64), slow=True
  ),
  'wgan_clipped': Row(clipped, plane(128)),
  'ada_gan': Row(adaptive, images(16), falls=False),
  'd2gan': Row(two, plane(64)),
  'gman': Row(several, plane(64), structure='a group of players'),
}
