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

import flax.linen as nn
import jax
import optax

from gm_jax import base, conditions, gradient, orders
from gm_jax.losses import shapes
from gm_jax.samplers import autoregressive as sampler

CARD = base.Card(
  density='exact',
  density_cost='one_pass',
  measure='mass',
  sampling='exact',
  sampling_cost='per_dimension',
  training=('maximum_likelihood',),
  latents='none',
  architecture='causal',
)


def autoregressive(
  module: nn.Module,
  tx: optax.GradientTransformation,
  *,
  shape: Sequence[int],
  likelihood: Callable[[base.Array, base.Array], base.Array],
  draw: sampler.Draw,
  event: tuple[int, ...] = (),
  order: Sequence[int] | None = None,
  condition: conditions.Condition | None = None,
) -> base.Method:
  """An autoregressive model of integers.

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
      C channels, drawn together. Then D = prod(shape) / C, and x is [B, D, C].
    order: of the positions, as in `orders`; that of memory if None.
    condition: given to the module beside x, or None.

  Returns:
    The method; its samples have the shape, int32.

  Raises:
    ValueError: `order` is no permutation.
  """
  num_dims = math.prod(shape) // math.prod(event)
  order = orders.checked(order, num_dims)
  back = orders.inverse(order)
  embed = functools.partial(conditions.embedded, condition)

  def flat(x):
    shapes.check_integers(x=x)
    return x.reshape(len(x), num_dims, *event)[:, order]

  def init(key, batch):
    two = jax.tree.map(lambda x: x[:2], dict(batch))
    value = embed(conditions.from_batch(condition, two))
    variables = dict(module.init(key, flat(two['x']), value))
    return variables.pop('params'), variables

  def loss_fn(params, extra, key, batch):
    x = flat(batch['x'])
    value = conditions.training_embedding(condition, key, batch)
    rngs, mutable = {'dropout': key}, list(extra)
    out, extra = module.apply(
      {'params': params, **extra}, x, value, train=True, rngs=rngs, mutable=mutable
    )
    return -likelihood(out, x).mean(), (dict(extra), {})

  def log_prob(model, key, x, *, condition=None):
    del key
    x, value = flat(x), embed(condition, len(x))
    return likelihood(
      module.apply({'params': model.params, **model.extra}, x, value), x
    )

  def sample(model, key, num, *, condition=None):
    bound = functools.partial(module.apply, {'params': model.params, **model.extra})
    values = sampler.cached(
      functools.partial(bound, method='conditional'),
      functools.partial(bound, method='update'),
      bound(num, embed(condition, num), method='start'),
      key,
      num_dims,
      draw=draw,
    )
    return values[:, back].reshape(num, *shape)

  card = CARD._replace(condition=conditions.names(condition))
  return gradient.from_loss(
    loss_fn, tx, init, card=card, sample=sample, log_prob=log_prob
  )
