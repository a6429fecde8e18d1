"""Rows of the table of laws: fields without time that rest at data."""

import functools

import optax
from rows.common import Row, plane
from rows.diffusion import NETWORK, of_two_classes

from gm_jax import conditions
from gm_jax.methods import equilibrium_matching
from gm_jax.samplers import descent


def at_rest(wrap, prior, **options):
  del prior
  return equilibrium_matching.equilibrium_matching(
    NETWORK, wrap(optax.adam(1e-2)), shape=(2,), descents=descent.Steps(20, 0.01),
    **options,
  )  # fmt: skip


def of_class(wrap, prior):
  condition = conditions.optional(conditions.by_class(2), 0.2)
  return at_rest(wrap, prior, condition=condition)


ROWS = {
  'equilibrium_matching': Row(of_class, of_two_classes, falls=False),
  'equilibrium_matching_field': Row(
    functools.partial(at_rest, energy=None), plane(64), falls=False, slow=True
  ),
}
