"""Rows of the table of laws: players that move together."""

import functools

import optax
from rows.common import Row, plane, players

from gm_jax import dynamics
from gm_jax.losses import adversarial, penalties
from gm_jax.methods import simultaneous_gan


def simultaneous(dynamics_fn, wrap, prior):
  def r1(critic, key, real, fake):
    return penalties.r1(critic, real)

  tx = optax.adam(5e-3, b1=0.5)
  return simultaneous_gan.simultaneous_gan(
    **players(), g_tx=wrap(tx), d_tx=wrap(tx), prior=prior, dynamics=dynamics_fn,
    game=adversarial.NON_SATURATING, penalty=r1,
  )  # fmt: skip


ROWS = {
  'simultaneous_gan': Row(
    functools.partial(simultaneous, dynamics.simultaneous), plane(64)
  ),
  'extragradient_gan': Row(
    functools.partial(simultaneous, dynamics.extragradient), plane(64), slow=True
  ),
  'consensus_gan': Row(
    functools.partial(simultaneous, dynamics.consensus(0.1)), plane(64), slow=True
  ),
}
