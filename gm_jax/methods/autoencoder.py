"""The auto-encoder: a code from which the data can be reconstructed.

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

from gm_jax import base, players
from gm_jax.losses import shapes

ENCODER, DECODER = PAIR = 'encoder', 'decoder'
RECONSTRUCTION = 'reconstruction'  # the objective of the two
CARD = base.Card(
  density='none',
  density_cost='none',
  measure='none',
  sampling='none',
  sampling_cost='none',
  training=('reconstruction',),
  latents='continuous',
  architecture='any',
)


def squared_error(x: base.Array, reconstruction: base.Array) -> base.Array:
  """The error summed over an example's parts, [B] in the square of the data's unit."""
  x, reconstruction = shapes.floats(x=x, reconstruction=reconstruction)
  return jnp.square(x - reconstruction).sum(axis=tuple(range(1, x.ndim)))


def queries(encoder: nn.Module, decoder: nn.Module) -> dict:
  """The queries `encode`, `decode` and `reconstruct` of players of these names.

  They ignore a condition: codes stand for all that a sample is conditioned on.
  """

  def encode(model, key, x, *, condition=None):
    del key, condition
    return players.apply_trained(encoder, ENCODER, model, x)

  def decode(model, key, z, *, condition=None):
    del key, condition
    return players.apply_trained(decoder, DECODER, model, z)

  def reconstruct(model, key, x, *, condition=None):
    return decode(model, key, encode(model, key, x), condition=condition)

  return {'encode': encode, 'decode': decode, 'reconstruct': reconstruct}


def init_pair(
  encoder: nn.Module, decoder: nn.Module, key: base.Array, x: base.Array
) -> dict[str, tuple[base.Params, dict]]:
  """Initializes parameters and collections of both, by player."""
  e_key, d_key = jax.random.split(key)
  params, model_state = players.init(encoder, e_key, x[:2])
  z, _ = players.apply(encoder, params, model_state, x[:2], train=False)
  return {ENCODER: (params, model_state), DECODER: players.init(decoder, d_key, z)}


def passes(encoder: nn.Module, decoder: nn.Module) -> Callable:
  """The way of a batch through both, in training.

  Returns:
    (params by player, model_state by player, key, x) -> (code, reconstruction,
    model_state).
  """

  def forward(params, model_state, key, x):
    e_key, d_key = jax.random.split(key)
    z, e_state = players.apply(
      encoder, params[ENCODER], model_state[ENCODER], x, key=e_key
    )
    reconstruction, d_state = players.apply(
      decoder, params[DECODER], model_state[DECODER], z, key=d_key
    )
    return z, reconstruction, {ENCODER: e_state, DECODER: d_state}

  return forward


def loss(encoder: nn.Module, decoder: nn.Module) -> players.LossFn:
  """The mean squared error of a batch, a loss of the group of both.

  Returns:
    (params by player, model_state by player, key, x) -> ([] loss, (model_state, {})).
  """
  forward = passes(encoder, decoder)

  def loss_fn(params, model_state, key, x):
    _, reconstruction, model_state = forward(params, model_state, key, x)
    return squared_error(x, reconstruction).mean(), (model_state, {})

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
  loss_fn = loss(encoder, decoder)

  def init(key, batch):
    pair = players.new_group(tx, init_pair(encoder, decoder, key, batch['x']))
    return players.put_group(players.first_state({}), pair, RECONSTRUCTION)

  def step(state, key, batch):
    pair = players.get_group(state, PAIR, RECONSTRUCTION)
    pair, value, _ = players.gradient_step(loss_fn, tx, pair, key, batch['x'])
    state = players.put_group(state, pair, RECONSTRUCTION)
    return players.after_step(state), {'loss': value}

  return base.Method(CARD, init, step, queries=queries(encoder, decoder))
