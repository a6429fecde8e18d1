"""Autoregressive models: the chain rule, each conditional a network's.

  log p(x | c) = sum_i log p(x_{o_i} | x_{o_1} ... x_{o_{i-1}}, c),   max_theta E log p

The network gives all conditionals of a known x at once; samples come one number after
another, from what the network remembers (`samplers.autoregressive`), so that a number
costs a number's work. NADE, PixelCNN and causal transformers are this method with
another module of `models`.

Source: the chain rule; The Neural Autoregressive Distribution Estimator, Larochelle and
Murray, 2011, AISTATS.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import base, gradient, orders
from gm_jax.losses import shapes
from gm_jax.samplers import autoregressive as sampler

CARD = base.Card(
  density='exact',
  density_cost='one_pass',
  measure='mass',
  sampling='per_dimension, exact',
  training=('maximum_likelihood',),
  latents='none',
  architecture='causal',
)


class Condition(NamedTuple):
  """What a model is given: which part of a batch, and what of it the network sees."""

  name: str  # batch key, as 'label' or 'condition'
  embed: Callable[[base.Array], base.Array]  # [B, ...] -> [B, C]


def by_class(num_classes: int) -> Condition:
  """Classes `label` [B], one-hot."""
  return Condition('label', functools.partial(jax.nn.one_hot, num_classes=num_classes))


def by_value() -> Condition:
  """Numbers `condition` [B, C], as they are."""
  return Condition('condition', lambda c: jnp.asarray(c, jnp.float32))


def embedded(
  condition: Condition | None, given: base.Array | None
) -> base.Array | None:
  """What the network sees of a condition.

  Raises:
    ValueError: a condition is given to a model that takes none, or missing.
  """
  if condition is None:
    base.check_unconditional(given)
    return None
  if given is None:
    raise ValueError(f'this model needs a condition, {condition.name} [B, ...]')
  return condition.embed(given)


def autoregressive(
  module: nn.Module,
  tx: optax.GradientTransformation,
  *,
  shape: Sequence[int],
  likelihood: Callable[[base.Array, base.Array], base.Array],
  draw: sampler.Draw,
  event: tuple[int, ...] = (),
  order: Sequence[int] | None = None,
  condition: Condition | None = None,
) -> base.Method:
  """An autoregressive model of whole numbers.

  Args:
    module: x [B, D] -> parameters [B, D, ...], called as `module(x, condition,
      train=...)`, with methods `start`, `conditional` and `update` for sampling, as
      `models.nade.NADE`.
    tx: the optimizer.
    shape: of an example, D = prod(shape).
    likelihood: (parameters, x [B, D]) -> [B] nats, as of `losses.likelihood`.
    draw: (key, parameters of one number) -> values [B], as of
      `samplers.autoregressive`.
    event: shape of what counts as a number, at the end of `shape`; (C,) for pixels of
      C channels, given together. Then D = prod(shape) / C, and x is [B, D, C].
    order: of the positions, as in `orders`; that of memory if None.
    condition: what is given beside x, or None.

  Returns:
    The method; its samples have the shape, int32.

  Raises:
    ValueError: `order` is no permutation.
  """
  num_dims = math.prod(shape) // math.prod(event)
  order = orders.checked(order, num_dims)
  back = orders.inverse(order)

  def flat(x):
    shapes.check_integers(x=x)
    return x.reshape(len(x), num_dims, *event)[:, order]

  def apply(params, extra, x, given, **kwargs):
    return module.apply({'params': params, **extra}, x, given, **kwargs)

  def given_of(batch):
    return embedded(condition, batch[condition.name] if condition else None)

  def init(key, batch):
    x, given = flat(batch['x'][:2]), given_of(batch)
    given = None if given is None else given[:2]
    variables = dict(module.init(key, x, given))
    return variables.pop('params'), variables

  def loss_fn(params, extra, key, batch):
    x = flat(batch['x'])
    rngs, mutable = {'dropout': key}, list(extra)
    out, extra = apply(
      params, extra, x, given_of(batch), train=True, rngs=rngs, mutable=mutable
    )
    return -likelihood(out, x).mean(), (dict(extra), {})

  def log_prob(model, key, x, *, condition=None):
    del key
    return likelihood(
      apply(model.params, model.extra, flat(x), given_by(condition)), flat(x)
    )

  def given_by(given):
    return embedded(condition, given)

  def sample(model, key, num, *, condition=None):
    bound = functools.partial(module.apply, {'params': model.params, **model.extra})
    values = sampler.cached(
      functools.partial(bound, method='conditional'),
      functools.partial(bound, method='update'),
      bound(num, given_by(condition), method='start'),
      key,
      num_dims,
      draw=draw,
    )
    return values[:, back].reshape(num, *shape)

  return gradient.from_loss(
    loss_fn, tx, init, card=CARD, sample=sample, log_prob=log_prob
  )
