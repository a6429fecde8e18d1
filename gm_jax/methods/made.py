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

from gm_jax import base, gradient, orders
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
  given: Sequence[Sequence[int]] | None = None,
) -> tuple[network.Masks, np.ndarray]:
  """Mask sets and their orders [M, D].

  Args:
    seed: of degrees and orders.
    num_dims: D.
    hidden: sizes of the hidden layers.
    num_sets: M, degrees drawn for each.
    given: orders [M, D]; the order of memory for all if None.

  Returns:
    Masks with a leading axis M, and the orders.

  Raises:
    ValueError: M < 1, or an order that is no permutation.
  """
  if num_sets < 1:
    raise ValueError(f'num_sets must be >= 1, got {num_sets}')
  given = [None] * num_sets if given is None else given
  if len(given) != num_sets:
    raise ValueError(f'{num_sets} orders are needed, got {len(given)}')
  rng = np.random.default_rng(seed)
  checked = [orders.checked(order, num_dims) for order in given]
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
  condition: autoregressive.Condition | None = None,
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
    condition: what is given beside x, or None.

  Returns:
    The method. Each sample is of a mask set drawn for it, by D passes: the perceptron
    remembers nothing.
  """
  num_dims, num_sets = math.prod(shape), len(mask_orders)
  masks = jax.tree.map(jnp.asarray, masks)
  back = jnp.asarray(np.argsort(mask_orders, axis=1))
  forth = jnp.asarray(mask_orders)

  def chosen(i):
    return jax.tree.map(lambda m: m[i], masks)

  def flat(x):
    shapes.check_integers(x=x)
    return x.reshape(len(x), num_dims)

  def given_of(given):
    return autoregressive.embedded(condition, given)

  def init(key, batch):
    given = given_of(batch[condition.name] if condition else None)
    given = None if given is None else given[:2]
    return module.init(key, flat(batch['x'][:2]), chosen(0), given)['params'], {}

  def nats(params, x, i, given):
    return likelihood(module.apply({'params': params}, x, chosen(i), given), x)

  def loss_fn(params, extra, key, batch):
    i = jax.random.randint(key, (), 0, num_sets)
    given = given_of(batch[condition.name] if condition else None)
    return -nats(params, flat(batch['x']), i, given).mean(), (extra, {})

  def log_prob(model, key, x, *, condition=None):
    del key
    each = functools.partial(nats, model.params, flat(x), given=given_of(condition))
    values = jax.lax.map(each, jnp.arange(num_sets))
    return jax.nn.logsumexp(values, axis=0) - math.log(num_sets)

  def sample(model, key, num, *, condition=None):
    set_key, key = jax.random.split(key)
    given = given_of(condition)
    which = jax.random.randint(set_key, (num,), 0, num_sets)
    there, here = forth[which], back[which]  # each example in an order of its own

    def of_one(x, i, given):
      given = None if given is None else given[None]
      return module.apply({'params': model.params}, x[None], chosen(i), given)[0]

    def parameters(in_order):
      x = jnp.take_along_axis(in_order, here, axis=1)
      out = jax.vmap(of_one, (0, 0, None if given is None else 0))(x, which, given)
      return jax.vmap(lambda values, places: values[places])(out, there)

    values = sampler.naive(parameters, key, num_dims, num, draw=draw)
    return jnp.take_along_axis(values, here, axis=1).reshape(num, *shape)

  return gradient.from_loss(
    loss_fn, tx, init, card=CARD, sample=sample, log_prob=log_prob
  )
