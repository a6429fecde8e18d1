"""Flows of vectors by ours and by zuko, nflows and flowjax, of the same sizes.

Each side is three functions without arguments: a step of Adam on the mean negative
log-likelihood, the log-likelihood of a batch, and samples. Layers, widths and pieces
are equal, weights are each side's own. A package that is not installed is None.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from gm_jax import base, bijectors, flow_layers, monotone, priors
from gm_jax.methods import flow

DIM, BATCH, WIDTH, BINS, BOX = 8, 512, 64, 8, 5.0
RATE = 1e-3


class Sides(NamedTuple):
  """What is timed of a flow."""

  step: Callable
  log_prob: Callable
  sample: Callable


def data(scale: int) -> np.ndarray:
  """Points `[B, 8]` in float32."""
  return np.random.default_rng(0).normal(size=(BATCH // scale, DIM)).astype(np.float32)


class Perceptron(nn.Module):
  """Two hidden layers, as zuko's; a condition is ignored."""

  outputs: int

  @nn.compact
  def __call__(self, x, condition=None):
    for _ in range(2):
      x = nn.relu(nn.Dense(WIDTH)(x))
    return nn.Dense(self.outputs)(x)


def ours(kind: str, layers: int, scale: int) -> Sides:
  """A flow of `repeated` layers, the order of numbers reversed after each."""
  if kind == 'spline':
    spline = monotone.rational_quadratic(BINS, BOX)
    layer = flow_layers.coupling(Perceptron, spline)
  else:
    layer = flow_layers.autoregressive(
      DIM, monotone.standardization(), hidden=(WIDTH, WIDTH)
    )
  chain = bijectors.repeated(bijectors.chain(layer, bijectors.reverse()), layers)
  method = flow.flow(chain, priors.normal(DIM), optax.adam(RATE), shape=(DIM,))
  x = jnp.asarray(data(scale))
  state = jax.jit(method.init)(jax.random.key(0), {'x': x})
  kept = {'state': jax.tree.map(jnp.copy, state)}
  one = jax.jit(method.step, donate_argnums=0)
  model = base.Model(state.params, {})
  log_prob = jax.jit(lambda model, x: method.log_prob(model, None, x))
  sample = jax.jit(lambda model, key: method.sample(model, key, len(x)))

  def step():
    kept['state'], metrics = one(kept['state'], jax.random.key(1), {'x': x})
    return metrics['loss']

  return Sides(
    step, lambda: log_prob(model, x), lambda: sample(model, jax.random.key(2))
  )


def _torch_sides(torch, network, log_prob, sample, scale: int) -> Sides:
  """A PyTorch flow's three functions."""
  x = torch.tensor(data(scale))
  tx = torch.optim.Adam(network.parameters(), lr=RATE)

  def step():
    tx.zero_grad()
    loss = -log_prob(x).mean()
    loss.backward()
    tx.step()
    return loss

  def without_gradient(fn):
    def call():
      with torch.no_grad():
        return fn()

    return call

  draw = without_gradient(lambda: sample(len(x)))
  return Sides(step, without_gradient(lambda: log_prob(x)), draw)


def zuko(kind: str, layers: int, scale: int) -> Sides | None:
  """zuko's NSF by couplings, or its MAF."""
  try:
    import torch
    import zuko as package
  except ImportError:
    return None
  torch.manual_seed(0)
  options = {'transforms': layers, 'hidden_features': (WIDTH, WIDTH)}
  if kind == 'spline':
    network = package.flows.NSF(DIM, bins=BINS, passes=2, **options)
  else:
    network = package.flows.MAF(DIM, **options)
  return _torch_sides(
    torch, network, lambda x: network().log_prob(x),
    lambda num: network().sample((num,)), scale,
  )  # fmt: skip


def nflows(kind: str, layers: int, scale: int) -> Sides | None:
  """nflows' couplings with splines, or its masked affine layers."""
  try:
    import torch
    from nflows import distributions, flows, nn, transforms
  except ImportError:
    return None
  torch.manual_seed(0)

  class Perceptron(nn.nets.MLP):
    def forward(self, inputs, context=None):
      del context
      return super().forward(inputs)

  def make(inputs, outputs):
    return Perceptron((inputs,), (outputs,), [WIDTH, WIDTH])

  mask = torch.arange(DIM) % 2
  parts = []
  for i in range(layers):
    if kind == 'spline':
      parts.append(
        transforms.PiecewiseRationalQuadraticCouplingTransform(
          (mask + i) % 2, make, num_bins=BINS, tails='linear', tail_bound=BOX
        )
      )
    else:
      parts.append(
        transforms.MaskedAffineAutoregressiveTransform(
          DIM, WIDTH, num_blocks=2, use_residual_blocks=False
        )
      )
      parts.append(transforms.ReversePermutation(DIM))
  network = flows.Flow(
    transforms.CompositeTransform(parts), distributions.StandardNormal((DIM,))
  )
  return _torch_sides(torch, network, network.log_prob, network.sample, scale)


def flowjax(kind: str, layers: int, scale: int) -> Sides | None:
  """flowjax's coupling flow with splines, or its masked autoregressive flow."""
  try:
    import equinox
    import flowjax.bijections as package
    import flowjax.distributions as distributions
    import flowjax.flows as flows
    import paramax
  except ImportError:
    return None
  key = jax.random.key(0)
  common = {
    'base_dist': distributions.Normal(jnp.zeros(DIM)), 'flow_layers': layers,
    'nn_width': WIDTH, 'nn_depth': 2,
  }  # fmt: skip
  if kind == 'spline':
    spline = package.RationalQuadraticSpline(knots=BINS, interval=BOX)
    network = flows.coupling_flow(key, transformer=spline, invert=True, **common)
  else:
    network = flows.masked_autoregressive_flow(key, invert=True, **common)
  params, static = equinox.partition(
    network, equinox.is_inexact_array, is_leaf=lambda leaf: isinstance(
      leaf, paramax.NonTrainable)
  )  # fmt: skip
  tx, x = optax.adam(RATE), jnp.asarray(data(scale))
  kept = {'params': params, 'opt_state': tx.init(params)}

  def whole(params):
    return paramax.unwrap(equinox.combine(params, static))

  @jax.jit
  def one(params, opt_state, x):
    loss, grads = jax.value_and_grad(lambda p: -whole(p).log_prob(x).mean())(params)
    updates, opt_state = tx.update(grads, opt_state)
    return optax.apply_updates(params, updates), opt_state, loss

  log_prob = jax.jit(lambda params, x: whole(params).log_prob(x))
  sample = jax.jit(lambda params, key: whole(params).sample(key, (len(x),)))

  def step():
    found = one(kept['params'], kept['opt_state'], x)
    kept['params'], kept['opt_state'], loss = found
    return loss

  return Sides(
    step, lambda: log_prob(params, x), lambda: sample(params, jax.random.key(2))
  )


PEERS = {'zuko': zuko, 'nflows': nflows, 'flowjax': flowjax}
