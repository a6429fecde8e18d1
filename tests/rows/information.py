"""Rows of the table of laws: codes that samples tell, and inference by pairs."""

import functools

import flax.linen as nn
import optax
from rows.common import Row, plane, players

from gm_jax.methods import bigan, infogan
from gm_jax.models import joint, mlp

TX = functools.partial(optax.adam, 5e-3, b1=0.5)


def informed(wrap, prior):
  return infogan.infogan(
    **players(), posterior=mlp.MLP((16, 4)), g_tx=wrap(TX()), d_tx=wrap(TX()),
    q_tx=wrap(TX()), codes=infogan.Codes(prior, 2, 1), information_weight=0.1,
  )  # fmt: skip


def paired(wrap, prior):
  return bigan.bigan(
    mlp.MLP((16, 2), activation=nn.tanh), mlp.MLP((16, 4), activation=nn.tanh),
    joint.Joint(None, mlp.MLP((16, 1))), wrap(TX()), wrap(TX()), prior=prior,
  )  # fmt: skip


ROWS = {
  'infogan': Row(informed, plane(64)),
  'bigan': Row(paired, plane(64)),
}
