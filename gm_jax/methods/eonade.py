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

from gm_jax import base, gradient, orders
from gm_jax.losses import likelihood, shapes
from gm_jax.methods import autoregressive

CARD = autoregressive.CARD._replace(
  density_cost='per_dimension', architecture='any, masked inputs'
)


def masked(
  x: base.Array, known: base.Array, given: base.Array | None = None
) -> base.Array:
  """What the network sees: x where known, the mask, a condition; [B, 2 D + C]."""
  parts = [x * known, known] + ([] if given is None else [given])
  return jnp.concatenate(parts, axis=-1).astype(jnp.float32)


def eonade(
  module: nn.Module,
  tx: optax.GradientTransformation,
  *,
  shape: Sequence[int],
  ensemble: Sequence[Sequence[int]] | np.ndarray | None = None,
  condition: autoregressive.Condition | None = None,
) -> base.Method:
  """An orderless model of x in {0, 1}^D.

  Args:
    module: masked x [B, 2 D], and a condition's C numbers, -> logits [B, D], called
      as `module(x, train=...)`.
    tx: the optimizer.
    shape: of an example, D = prod(shape).
    ensemble: orders [M, D] of `log_prob` and samples; that of memory alone if None.
    condition: what is given beside x, or None.

  Returns:
    The method; its `loss` is J, whose mean is that over all orders.

  Raises:
    ValueError: an order that is no permutation.
  """
  num_dims = math.prod(shape)
  given = [None] if ensemble is None else ensemble
  all_orders = jnp.asarray(np.stack([orders.checked(o, num_dims) for o in given]))
  num_orders = len(all_orders)

  def flat(x):
    shapes.check_levels(2, x=x)
    return x.reshape(len(x), num_dims)

  def given_of(given):
    return autoregressive.embedded(condition, given)

  def init(key, batch):
    x, given = flat(batch['x'][:2]), None
    if condition:
      given = given_of(batch[condition.name][:2])
    seen = masked(x, jnp.ones_like(x), given)
    return module.init(key, seen, train=False)['params'], {}

  def loss_fn(params, extra, key, batch):
    x = flat(batch['x'])
    given = given_of(batch[condition.name] if condition else None)
    order_key, place_key, drop_key = jax.random.split(key, 3)
    ranks = jnp.argsort(jax.random.uniform(order_key, x.shape), axis=1)  # of positions
    num_known = jax.random.randint(place_key, (len(x), 1), 0, num_dims)  # d - 1
    known = (ranks < num_known).astype(jnp.float32)
    rngs = {'dropout': drop_key}
    seen = masked(x, known, given)
    logits = module.apply({'params': params}, seen, train=True, rngs=rngs)
    hidden = ((1 - known) * likelihood.bernoulli_each(logits, x)).sum(axis=1)
    weight = num_dims / (num_dims - num_known[:, 0])
    return -(weight * hidden).mean(), (extra, {})

  def conditional(params, x, known, given):
    return module.apply({'params': params}, masked(x, known, given), train=False)

  def of_order(params, x, given, order):
    def add(carry, position):
      known, total = carry
      logit = conditional(params, x, known, given)[:, position]
      total += likelihood.bernoulli_each(logit, x[:, position])
      return (known.at[:, position].set(1.0), total), None

    start = jnp.zeros(x.shape), jnp.zeros(len(x))
    (_, total), _ = jax.lax.scan(add, start, order)
    return total

  def log_prob(model, key, x, *, condition=None):
    del key
    of = functools.partial(of_order, model.params, flat(x), given_of(condition))
    each = jax.lax.map(of, all_orders)
    return jax.nn.logsumexp(each, axis=0) - math.log(num_orders)

  def sample(model, key, num, *, condition=None):
    given = given_of(condition)
    order_key, key = jax.random.split(key)
    chosen = all_orders[jax.random.randint(order_key, (num,), 0, num_orders)]
    rows = jnp.arange(num)

    def step(carry, inputs):
      x, known = carry
      i, positions = inputs
      logits = conditional(model.params, x, known, given)[rows, positions]
      value = jax.random.bernoulli(jax.random.fold_in(key, i), jax.nn.sigmoid(logits))
      x = x.at[rows, positions].set(value.astype(x.dtype))
      return (x, known.at[rows, positions].set(1.0)), None

    start = jnp.zeros((num, num_dims)), jnp.zeros((num, num_dims))
    (x, _), _ = jax.lax.scan(step, start, (jnp.arange(num_dims), chosen.T))
    return x.astype(jnp.int32).reshape(num, *shape)

  return gradient.from_loss(
    loss_fn, tx, init, card=CARD, sample=sample, log_prob=log_prob
  )
