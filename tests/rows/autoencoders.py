"""Rows of the table of laws: adversarial and Wasserstein auto-encoders."""

import functools

import jax.numpy as jnp
import optax
from rows.common import Row, plane

from gm_jax import priors
from gm_jax.losses import discrepancy
from gm_jax.methods import adversarial_autoencoder as aae
from gm_jax.methods import semi_supervised_aae
from gm_jax.methods import wae as wae_lib
from gm_jax.models import mlp

TX = functools.partial(optax.adam, 1e-2, b1=0.0)
FAST = functools.partial(optax.adam, 2e-2, b1=0.0)  # of discriminators


def labelled(num):
  """The plane's data, labelled by their side of a line; every fourth is not."""

  def batch(key):
    x = plane(num)(key)['x']
    label = (x[:, 0] > 1.0).astype('int32')
    hidden = jnp.arange(num) % 4 == 0
    return {'x': x, 'label': jnp.where(hidden, -1, label)}

  return batch


def adversarial(wrap, prior):
  del prior  # as many codes as the data have dimensions
  return aae.adversarial_autoencoder(
    mlp.MLP((16, 2)), mlp.MLP((16, 2)), mlp.MLP((16, 1)),
    wrap(TX()), wrap(FAST()), wrap(TX()), prior=priors.normal(2),
  )  # fmt: skip


def with_classes(wrap, prior):
  del prior
  ring = priors.ring_mixture(2, radius=2.0, radial_std=0.5, tangential_std=0.5)
  return aae.adversarial_autoencoder(
    mlp.MLP((16, 2)), mlp.MLP((16, 2)), mlp.MLP((16, 1)),
    wrap(TX()), wrap(FAST()), wrap(TX()), prior=priors.mixture(ring, 2),
    classes=aae.Classes(ring, 2),
  )  # fmt: skip


def semi_supervised(wrap, prior):
  del prior
  slow = ('reconstruction', 'encoder', 'supervised')
  txs = {name: wrap(TX()) for name in slow}
  for name in ('class_discriminator', 'style_discriminator'):
    txs[name] = wrap(FAST())
  return semi_supervised_aae.semi_supervised_aae(
    mlp.MLP((16, 3)), mlp.MLP((16, 2)), mlp.MLP((8, 1)), mlp.MLP((8, 1)), txs,
    prior=priors.normal(1), num_classes=2,
  )  # fmt: skip


def wasserstein(wrap, prior):
  del prior
  kernel = discrepancy.inverse_multiquadric(lengths=wae_lib.lengths(2))
  return wae_lib.wae(
    mlp.MLP((16, 2)), mlp.MLP((16, 2)), wrap(TX()), prior=priors.normal(2),
    discrepancy=functools.partial(discrepancy.mmd2_unbiased, kernel), weight=1.0,
  )  # fmt: skip


ROWS = {
  'adversarial_autoencoder': Row(adversarial, plane(64)),
  'labelled_aae': Row(with_classes, labelled(64), slow=True),
  'wae': Row(wasserstein, plane(64)),
  'semi_supervised_aae': Row(semi_supervised, labelled(64)),
}
