"""The auto-encoder: a code from which the data can be told again.

  min_{e, d} E_x | x - d(e(x)) |^2,  summed over the parts of an example

It is no generative model: nothing says how codes are distributed. Others build on it:
moment matching in code space, adversarial auto-encoders, latent models.

Source: Reducing the Dimensionality of Data with Neural Networks, Hinton and
Salakhutdinov, 2006, Science 313.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import base, gradient, players

ENCODER, DECODER = 'encoder', 'decoder'
CARD = base.Card(
  density='none',
  density_cost='none',
  measure='none',
  sampling='none',
  training=('reconstruction',),
  latents='continuous',
  architecture='any',
)


def squared_error(x: base.Array, reconstruction: base.Array) -> base.Array:
  """Summed over an example's parts, [B] in the square of the data's unit."""
  return jnp.square(x - reconstruction).sum(axis=tuple(range(1, x.ndim)))


def applied(
  module: nn.Module, name: str, model: base.Model, x: base.Array
) -> base.Array:
  """What a trained player of a model gives."""
  share = players.collections(model.extra, name)
  return players.apply(module, model.params[name], share, x, train=False)[0]


def queries(encoder: nn.Module, decoder: nn.Module) -> dict:
  """`encode`, `decode` and `reconstruct` of two players of these names."""

  def encode(model, key, data, *, condition=None):
    del key, condition
    return applied(encoder, ENCODER, model, data)

  def decode(model, key, z, *, condition=None):
    del key, condition
    return applied(decoder, DECODER, model, z)

  def reconstruct(model, key, data, *, condition=None):
    return decode(model, key, encode(model, key, data), condition=condition)

  return {'encode': encode, 'decode': decode, 'reconstruct': reconstruct}


def init_pair(
  encoder: nn.Module, decoder: nn.Module, key: base.Array, x: base.Array
) -> tuple[dict, dict]:
  """Parameters and collections of both, by player."""
  e_key, d_key = jax.random.split(key)
  e_params, e_share = players.init(encoder, e_key, x[:2])
  z, _ = players.apply(encoder, e_params, e_share, x[:2], train=False)
  d_params, d_share = players.init(decoder, d_key, z)
  params = {ENCODER: e_params, DECODER: d_params}
  return params, players.merged({ENCODER: e_share, DECODER: d_share})


def loss(encoder: nn.Module, decoder: nn.Module) -> Callable:
  """The mean squared error of a batch.

  Returns:
    (params by player, extra, key, batch) -> ([] loss, (the two players' extra, {})).
  """

  def loss_fn(params, extra, key, batch):
    e_key, d_key = jax.random.split(key)
    shares = {name: players.collections(extra, name) for name in (ENCODER, DECODER)}
    z, e_share = players.apply(
      encoder, params[ENCODER], shares[ENCODER], batch['x'], key=e_key
    )
    x, d_share = players.apply(decoder, params[DECODER], shares[DECODER], z, key=d_key)
    extra = players.merged({ENCODER: e_share, DECODER: d_share})
    return squared_error(batch['x'], x).mean(), (extra, {})

  return loss_fn


def autoencoder(
  encoder: nn.Module, decoder: nn.Module, tx: optax.GradientTransformation
) -> base.Method:
  """An auto-encoder trained on the squared error.

  Args:
    encoder: x [B, ...] -> z [B, Z].
    decoder: z [B, Z] -> x [B, ...].
    tx: the optimizer of both.

  Returns:
    The method, without samples; queries `encode`, `decode`, `reconstruct`.
  """

  def init(key, batch):
    return init_pair(encoder, decoder, key, batch['x'])

  return gradient.from_loss(
    loss(encoder, decoder),
    tx,
    init,
    card=CARD,
    queries=queries(encoder, decoder),
  )
