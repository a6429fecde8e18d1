"""Rows of the table of laws: normalizing flows."""

import functools

import optax
from rows.common import Row, plane

from gm_jax import bijectors, flow_layers, monotone, priors
from gm_jax.methods import flow
from gm_jax.models import flows

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


def network(outputs):
  return flows.Residual(outputs, 8, 1)


coupling = flow_layers.coupling(network, SPLINE)
maf = flow_layers.autoregressive(2, monotone.affine(), hidden=(8,))
step = bijectors.chain(
  flow_layers.linear([1, 0]),
  flow_layers.coupling(network, monotone.sigmoid_affine()),
)
rows = {
  'spline_flow': by(coupling, coupling),
  'maf': by(maf, maf),
  'iaf': by(bijectors.inverted(maf)),
  'glow': by(bijectors.repeated(step, 2)),
  'planar_flow': by(flow_layers.planar(), flow_layers.planar()),
  'radial_flow': by(flow_layers.radial(), flow_layers.radial()),
}
ROWS = {name: Row(make, plane(64), falls=False) for name, make in rows.items()}
