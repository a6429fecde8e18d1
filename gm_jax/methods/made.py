"""MADE: one masked perceptron for several orders and connections.

  max_theta E_x E_m log p_m(x),   m one of the mask sets, drawn for every step,

p_m being exact for every m. With several, the model is their mixture

  p(x) = 1/M sum_m p_m(x),

a mean of joint likelihoods. A mean over m of each number's conditional is none:
with different orders the average has seen the number itself; public code has printed
79.3 nats on MNIST by it.

Source: MADE: Masked Autoencoder for Distribution Estimation, Germain et al., 2015,
arXiv:1502.03509.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gm_jax import base, conditions, gradient, orders
from gm_jax.losses import shapes
from gm_jax.methods import autoregressive
from gm_jax.models import made as network
from gm_jax.samplers import autoregressive as sampler

CARD = autoregressive.CARD


def mask_sets(
  seed: int,
  num_dims: int,
  hidden: Sequence[int],
  *,
  num_sets: int = 1,
  mask_orders: Sequence[Sequence[int]] | None = None,
) -> tuple[network.Masks, np.ndarray]:
  """Draws mask sets and returns them with their orders [M, D].

  Args:
    seed: of degrees and orders.
    num_dims: D.
    hidden: sizes of the hidden layers.
    num_sets: M, degrees drawn for each.
    mask_orders: [M, D]; the order of memory for all if None.

  Returns:
    Masks with a leading axis M, and the orders.

  Raises:
    ValueError: M < 1, or an order that is no permutation.
  """
  if num_sets < 1:
    raise ValueError(f'num_sets must be >= 1, got {num_sets}')
  wanted = [None] * num_sets if mask_orders is None else mask_orders
  if len(wanted) != num_sets:
    raise ValueError(f'{num_sets} orders are needed, got {len(wanted)}')
  rng = np.random.default_rng(seed)
  checked = [orders.checked(order, num_dims) for order in wanted]
  masks = [network.masks(rng, order, hidden) for order in checked]
  return network.stacked(masks), np.stack(checked)


def made(
  module: network.MADE,
  tx: optax.GradientTransformation,
  *,
  shape: Sequence[int],
  masks: network.Masks,
  mask_orders: np.ndarray,
  likelihood: Callable[[base.Array, base.Array], base.Array],
  draw: sampler.Draw,
  condition: conditions.Condition | None = None,
) -> base.Method:
  """A masked auto-encoder, or a mixture of several that share weights.

  Args:
    module: the perceptron.
    tx: the optimizer.
    shape: of an example, D = prod(shape).
    masks: with a leading axis M, of `mask_sets`.
    mask_orders: [M, D], of `mask_sets`.
    likelihood: (parameters, x [B, D]) -> [B] nats.
    draw: (key, parameters of one number) -> values [B].
    condition: given to the module beside x, or None.

  Returns:
    The method. Each sample is of a mask set drawn for it, by D passes: the perceptron
    remembers nothing.
  """
  num_dims, num_sets = math.prod(shape), len(mask_orders)
  masks = jax.tree.map(jnp.asarray, masks)
  back = jnp.asarray(np.argsort(mask_orders, axis=1))
  forth = jnp.asarray(mask_orders)
  embed = functools.partial(conditions.embedded, condition)

  def mask_set(i):
    return jax.tree.map(lambda m: m[i], masks)

  def flat(x):
    shapes.check_integers(x=x)
    return x.reshape(len(x), num_dims)

  def init(key, batch):
    two = jax.tree.map(lambda x: x[:2], dict(batch))
    value = embed(conditions.from_batch(condition, two))
    return module.init(key, flat(two['x']), mask_set(0), value)['params'], {}

  def nats(params, x, i, value):
    return likelihood(module.apply({'params': params}, x, mask_set(i), value), x)

  def loss_fn(params, extra, key, batch):
    i = jax.random.randint(key, (), 0, num_sets)
    value = conditions.training_embedding(condition, key, batch)
    return -nats(params, flat(batch['x']), i, value).mean(), (extra, {})

  def log_prob(model, key, x, *, condition=None):
    del key
    value = embed(condition, len(x))
    each = functools.partial(nats, model.params, flat(x), value=value)
    nats_by_set = jax.lax.map(each, jnp.arange(num_sets))
    return jax.nn.logsumexp(nats_by_set, axis=0) - math.log(num_sets)

  def sample(model, key, num, *, condition=None):
    set_key, key = jax.random.split(key)
    value = embed(condition, num)
    which = jax.random.randint(set_key, (num,), 0, num_sets)
    there, here = forth[which], back[which]  # each example in an order of its own

    def parameters_of_one(x, i, value):
      x, value = jax.tree.map(lambda a: a[None], (x, value))
      return module.apply({'params': model.params}, x, mask_set(i), value)[0]

    def parameters(in_order):
      x = jnp.take_along_axis(in_order, here, axis=1)
      out = jax.vmap(parameters_of_one)(x, which, value)
      return jax.vmap(lambda values, places: values[places])(out, there)

    values = sampler.naive(parameters, key, num_dims, num, draw=draw)
    return jnp.take_along_axis(values, here, axis=1).reshape(num, *shape)

  card = CARD._replace(condition=conditions.names(condition))
  return gradient.from_loss(
    loss_fn, tx, init, card=card, sample=sample, log_prob=log_prob
  )
