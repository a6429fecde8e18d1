"""Rows of the table of laws: restricted Boltzmann machines."""

import functools

import optax
from rows.common import Row
from rows.explicit import LEVELS, NUM, bits

from gm_jax.methods import rbm


def machine(wrap, prior, **chains):
  del prior
  tx = wrap(optax.sgd(0.1, momentum=0.5))
  return rbm.rbm(tx, shape=(NUM,), num_hidden=4, sampling_steps=20, **chains)


ROWS = {
  'rbm': Row(
    functools.partial(machine, num_steps=2, num_chains=32),
    bits(64), falls=False, levels=LEVELS,
  ),
  'rbm_cd': Row(machine, bits(64), falls=False, levels=LEVELS, slow=True),
}  # fmt: skip
