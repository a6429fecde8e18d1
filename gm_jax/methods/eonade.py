"""Orderless NADE: one network for every order, and ensembles of orders.

Trained to fill in what a mask hides, for an order o and a place d drawn uniformly,

  J = D / (D - d + 1) sum_{k >= d} -log p(x_{o_k} | x_{o_1} ... x_{o_{d - 1}}),

an unbiased estimate of -E_o log p(x | o). The chain rule gives each order an exact
likelihood, by D passes; the ensemble of M orders is their mixture,

  p(x) = 1/M sum_m p(x | o_m),   a mean of joint likelihoods.

Source: A Deep and Tractable Density Estimator, Uria et al., 2014, arXiv:1310.1757.
"""

import functools
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from gm_jax import base, conditions, gradient, orders
from gm_jax.losses import likelihood, shapes
from gm_jax.methods import autoregressive

CARD = autoregressive.CARD._replace(
  density_cost='per_dimension', architecture='any, masked inputs'
)


def network_input(
  x: base.Array, known: base.Array, value: base.Array | None = None
) -> base.Array:
  """Joins x where known, the mask and a condition's embedding: [B, 2 D + C]."""
  parts = [x * known, known] + ([] if value is None else [value])
  return jnp.concatenate(parts, axis=-1).astype(jnp.float32)


def eonade(
  module: nn.Module,
  tx: optax.GradientTransformation,
  *,
  shape: Sequence[int],
  ensemble: Sequence[Sequence[int]] | np.ndarray | None = None,
  condition: conditions.Condition | None = None,
) -> base.Method:
  """An orderless model of x in {0, 1}^D.

  Args:
    module: masked x [B, 2 D], and a condition's C numbers, -> logits [B, D], called
      as `module(x, train=...)`.
    tx: the optimizer.
    shape: of an example, D = prod(shape).
    ensemble: orders [M, D] of `log_prob` and samples; that of memory alone if None.
    condition: of an embedding [B, C], given to the module beside x; or None.

  Returns:
    The method; its `loss` is J, whose mean is that over all orders.

  Raises:
    ValueError: an order that is no permutation.
  """
  num_dims = math.prod(shape)
  wanted = [None] if ensemble is None else ensemble
  all_orders = jnp.asarray(np.stack([orders.checked(o, num_dims) for o in wanted]))
  num_orders = len(all_orders)
  embed = functools.partial(conditions.embedded, condition)

  def flat(x):
    shapes.check_levels(2, x=x)
    return x.reshape(len(x), num_dims)

  def init(key, batch):
    two = jax.tree.map(lambda x: x[:2], dict(batch))
    x, value = flat(two['x']), embed(conditions.from_batch(condition, two))
    inputs = network_input(x, jnp.ones_like(x), value)
    return module.init(key, inputs, train=False)['params'], {}

  def loss_fn(params, extra, key, batch):
    x = flat(batch['x'])
    value = conditions.training_embedding(condition, key, batch)
    order_key, place_key, drop_key = jax.random.split(key, 3)
    ranks = jnp.argsort(jax.random.uniform(order_key, x.shape), axis=1)  # of positions
    num_known = jax.random.randint(place_key, (len(x), 1), 0, num_dims)  # d - 1
    known = (ranks < num_known).astype(jnp.float32)
    rngs = {'dropout': drop_key}
    inputs = network_input(x, known, value)
    logits = module.apply({'params': params}, inputs, train=True, rngs=rngs)
    hidden = ((1 - known) * likelihood.bernoulli_each(logits, x)).sum(axis=1)
    weight = num_dims / (num_dims - num_known[:, 0])  # D / (D - d + 1)
    return -(weight * hidden).mean(), (extra, {})

  def conditional_logits(params, x, known, value):
    inputs = network_input(x, known, value)
    return module.apply({'params': params}, inputs, train=False)

  def log_prob_in_order(params, x, value, order):
    def add(carry, position):
      known, total = carry
      logit = conditional_logits(params, x, known, value)[:, position]
      total += likelihood.bernoulli_each(logit, x[:, position])
      return (known.at[:, position].set(1.0), total), None

    start = jnp.zeros(x.shape), jnp.zeros(len(x))
    (_, total), _ = jax.lax.scan(add, start, order)
    return total

  def log_prob(model, key, x, *, condition=None):
    del key
    value = embed(condition, len(x))
    one = functools.partial(log_prob_in_order, model.params, flat(x), value)
    each = jax.lax.map(one, all_orders)
    return jax.nn.logsumexp(each, axis=0) - math.log(num_orders)

  def sample(model, key, num, *, condition=None):
    embedding = embed(condition, num)
    order_key, key = jax.random.split(key)
    # Each example in an order of its own, the mixture's component.
    own_orders = all_orders[jax.random.randint(order_key, (num,), 0, num_orders)]
    rows = jnp.arange(num)

    def step(carry, inputs):
      x, known = carry
      i, positions = inputs
      logits = conditional_logits(model.params, x, known, embedding)[rows, positions]
      value = jax.random.bernoulli(jax.random.fold_in(key, i), jax.nn.sigmoid(logits))
      x = x.at[rows, positions].set(value.astype(x.dtype))
      return (x, known.at[rows, positions].set(1.0)), None

    start = jnp.zeros((num, num_dims)), jnp.zeros((num, num_dims))
    (x, _), _ = jax.lax.scan(step, start, (jnp.arange(num_dims), own_orders.T))
    return x.astype(jnp.int32).reshape(num, *shape)

  card = CARD._replace(condition=conditions.names(condition))
  return gradient.from_loss(
    loss_fn, tx, init, card=card, sample=sample, log_prob=log_prob
  )
