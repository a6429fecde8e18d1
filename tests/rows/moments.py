"""Rows of the table of laws: moment matching, f-GANs, auto-encoders."""

import functools

import optax
from rows.common import Row, plane, players

from gm_jax.losses import discrepancy, f_divergence, penalties
from gm_jax.methods import autoencoder, f_gan, gmmn, mmd_gan
from gm_jax.models import mlp

TX = functools.partial(optax.adam, 5e-3, b1=0.5)
KERNEL = discrepancy.gaussian_mixture(stds=(0.3, 1.0, 3.0))
# Without biases: the kernel does not see the last one, Adam would see its rounding.
FEATURES = mlp.MLP((16, 4), use_bias=False)


def matching(wrap, prior, codes=None):
  return gmmn.gmmn(
    players()['generator'], wrap(TX()), prior=prior, codes=codes,
    discrepancy=functools.partial(discrepancy.mmd_biased, KERNEL),
  )  # fmt: skip


def in_codes(wrap, prior):
  return matching(wrap, prior, gmmn.Codes(mlp.MLP((2,)), mlp.MLP((2,))))


def learned_kernel(wrap, prior):
  return mmd_gan.mmd_gan(
    players()['generator'], FEATURES, wrap(TX()), wrap(TX()), prior=prior,
    kernel=discrepancy.rational_quadratic(alphas=(0.2, 1.0, 5.0)),
    penalty=penalties.gradient_penalty, num_critic=2,
  )  # fmt: skip


def of_divergence(wrap, prior):
  return f_gan.f_gan(
    **players(), g_tx=wrap(TX()), d_tx=wrap(TX()), prior=prior,
    divergence=f_divergence.KL,
  )  # fmt: skip


def codes_of_data(wrap, prior):
  del prior
  return autoencoder.autoencoder(mlp.MLP((8, 1)), mlp.MLP((8, 2)), wrap(TX()))


ROWS = {
  'gmmn': Row(matching, plane(64), structure='one player, batch-coupled'),
  'gmmn_codes': Row(in_codes, plane(64), falls=False, slow=True),
  'mmd_gan': Row(learned_kernel, plane(128)),
  'f_gan': Row(of_divergence, plane(64)),
  'autoencoder': Row(codes_of_data, plane(64), falls=False),
}
