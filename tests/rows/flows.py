"""Rows of the table of laws: normalizing flows."""

import functools

import flax.linen as nn
import jax
import optax
from rows.common import CENTER, Row, plane

from gm_jax import bijectors, flow_layers, monotone, patch_flow_layers, priors
from gm_jax.methods import continuous_flow, dequantized_flow, flow
from gm_jax.models import flows, patch_transformer

TX = functools.partial(optax.sgd, 0.05)
SPLINE = monotone.rational_quadratic(4)


def by(*layers):
  """A flow of standardized numbers, which change places after each layer."""

  def make(wrap, prior):
    del prior
    turned = (b for layer in layers for b in (layer, bijectors.reverse()))
    chain = bijectors.chain(flow_layers.actnorm(), *turned)
    return flow.flow(chain, priors.normal(2), wrap(TX()), shape=(2,))

  return make


NEAR = priors.Density(
  lambda key, num: CENTER + 0.5 * jax.random.normal(key, (num, 2)),
  lambda z: jax.scipy.stats.norm.logpdf(z, CENTER, 0.5).sum(axis=1),
)


def continuous(wrap, prior):
  """From noise near the data, by a velocity that moves it from the first step."""
  del prior
  velocity = flows.Velocity(8, 1, last_init=nn.initializers.lecun_normal())
  return continuous_flow.continuous_flow(velocity, NEAR, wrap(TX()), shape=(2,))


def network(outputs):
  return flows.Residual(outputs, 8, 1)


coupling = flow_layers.coupling(network, SPLINE)
maf = flow_layers.autoregressive(2, monotone.affine(), hidden=(8,))
attention = bijectors.chain(  # a sequence of two vectors of one number
  bijectors.inverted(bijectors.flatten((2, 1))),
  patch_flow_layers.causal_transformer(
    lambda outputs: patch_transformer.PatchTransformer(2, outputs, 8, 1, 2),
    monotone.standardization(),
  ),
  bijectors.flatten((2, 1)),
)
step = bijectors.chain(
  flow_layers.linear([1, 0]),
  flow_layers.coupling(network, monotone.sigmoid_affine()),
)


def dequantized(wrap, prior):
  """Two dice of three levels, the noise of one told that of the other."""
  del prior
  noise = bijectors.chain(
    flow_layers.coupling(network, monotone.affine()), bijectors.reverse()
  )
  return dequantized_flow.dequantized_flow(
    bijectors.chain(coupling, bijectors.reverse(), coupling), noise, priors.normal(2),
    wrap(TX()), shape=(2,), num_levels=3,
  )  # fmt: skip


def dice(key):
  return {'x': jax.random.randint(key, (64, 2), 0, 3)}


def row(make, **more):
  return Row(make, plane(64), falls=False, **more)


ROWS = {
  'spline_flow': row(by(coupling, coupling)),
  'glow': row(by(bijectors.repeated(step, 2))),
  'maf': row(by(maf, maf), slow=True),
  'iaf': row(
    by(bijectors.inverted(maf), flow_layers.planar(), flow_layers.radial()), slow=True
  ),
  'tarflow': row(by(attention), slow=True),
  # An adaptive solver's steps, and so its rounding, depend on the whole batch.
  'continuous_flow': row(continuous, rounding=10.0),
  'dequantized_flow': Row(dequantized, dice, falls=False),
}
