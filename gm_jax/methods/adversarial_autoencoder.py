"""Adversarial auto-encoders: codes that a discriminator cannot tell from a prior.

Each step runs the paper's phases on one batch, each with its own optimizer:

  1.   min_{e, d} | x - d(e(x)) |^2
  2a.  the discriminator tells z ~ p(z), its real data, from e(x)
  2b.  the encoder makes e(x) pass for z

Not one loss with weights, as in public code: no weight trades one for the other. With
labels, the prior is a mixture with a component for each class, and the discriminator
sees the class, or that there is none (label -1): then z is of the whole mixture.

Source: Adversarial Autoencoders, Makhzani et al., 2015, arXiv:1511.05644, sections 2
and 2.3.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import adversaries, base, conditions, players, priors
from gm_jax.losses import adversarial
from gm_jax.methods import autoencoder
from gm_jax.methods.autoencoder import DECODER, ENCODER, PAIR, RECONSTRUCTION
from gm_jax.players import DISCRIMINATOR

CARD = autoencoder.CARD._replace(
  sampling='exact',
  sampling_cost='one_pass',
  training=('reconstruction', 'adversarial'),
)


class Classes(NamedTuple):
  """A mixture prior whose components are classes."""

  prior: priors.Labelled  # (key, label [B]) -> z [B, Z]
  num: int  # K


def discriminator_input(
  z: base.Array, label: base.Array | None, num: int
) -> base.Array:
  """Joins z [B, Z] with a one-hot of K + 1 classes, the last for label -1."""
  if label is None:
    return z
  place = jnp.asarray(label, jnp.int32) % (num + 1)
  return jnp.concatenate([z, conditions.one_hot(place, num + 1)], -1)


def adversarial_autoencoder(
  encoder: nn.Module,
  decoder: nn.Module,
  discriminator: nn.Module,
  r_tx: optax.GradientTransformation,
  d_tx: optax.GradientTransformation,
  e_tx: optax.GradientTransformation,
  *,
  prior: priors.Prior,
  classes: Classes | None = None,
  game: base.Game = adversarial.NON_SATURATING,
) -> base.Method:
  """An auto-encoder and a discriminator of its codes.

  Args:
    encoder: x [B, ...] -> z [B, Z].
    decoder: z [B, Z] -> x [B, ...].
    discriminator: z [B, Z], or [B, Z + K + 1] with classes -> logits [B] or [B, 1].
    r_tx: the optimizer of the reconstruction, of encoder and decoder.
    d_tx: the discriminator's.
    e_tx: the encoder's against the discriminator.
    prior: (key, num) -> z [num, Z]; with classes, `priors.mixture` of them.
    classes: if given, batches have `label` [B] in [-1, K), -1 for not labelled, and
      samples take `condition`, labels [num].
    game: of encoder and discriminator.

  Returns:
    The method; queries `encode`, `decode`, `reconstruct`, `prior` and, of a prior with
    a density, `log_prior`.
  """
  num_classes = classes.num if classes else 0
  reconstruction = autoencoder.loss(encoder, decoder)
  d_step = adversaries.stepper(discriminator, d_tx, game)

  def init(key, batch):
    pair_key, d_key = jax.random.split(key)
    x = batch['x'][:2]
    pair = players.new_group(r_tx, autoencoder.init_pair(encoder, decoder, pair_key, x))
    state = players.put_group(players.first_state({}), pair, RECONSTRUCTION)
    e_params, e_state = pair.params[ENCODER], pair.model_state[ENCODER]
    z, _ = players.apply(encoder, e_params, e_state, x, train=False)
    label = jnp.zeros(2, jnp.int32) if classes else None
    seen = discriminator_input(z, label, num_classes)
    d = players.new_player(discriminator, d_tx, d_key, seen)
    # The encoder has a second optimizer, of its objective against the discriminator.
    e = players.Player(e_params, e_tx.init(e_params), e_state)
    return players.put(players.put(state, DISCRIMINATOR, d), ENCODER, e)

  def draw_prior(key, batch):
    """z of the prior: of the labels' components, of all where there is none."""
    num = len(batch['x'])
    if classes is None:
      return prior(key, num), None
    label_key, z_key = jax.random.split(key)
    any_label = jax.random.randint(label_key, (num,), 0, num_classes)
    label = batch['label']
    return classes.prior(z_key, jnp.where(label < 0, any_label, label)), label

  def step(state, key, batch):
    r_key, z_key, code_key, d_key, e_key = jax.random.split(key, 5)
    x = batch['x']

    # 1. Encoder and decoder reconstruct the data.
    pair = players.get_group(state, PAIR, RECONSTRUCTION)
    pair, error, _ = players.gradient_step(reconstruction, r_tx, pair, r_key, x)
    state = players.put_group(state, pair, RECONSTRUCTION)
    e = players.get(state, ENCODER)

    # 2a. The discriminator tells the prior, real, from codes of the new encoder.
    z, label = draw_prior(z_key, batch)
    code, _ = players.apply(encoder, e.params, e.model_state, x, key=code_key)
    real = discriminator_input(z, label, num_classes)
    fake = discriminator_input(code, label, num_classes)
    d, metrics = d_step(players.get(state, DISCRIMINATOR), d_key, real, fake)

    # 2b. The encoder makes codes that pass for the prior.
    def e_loss(params, model_state, key):
      code_key, d_key = jax.random.split(key)
      code, model_state = players.apply(encoder, params, model_state, x, key=code_key)
      fake = discriminator_input(code, label, num_classes)
      loss = adversaries.generator_loss(discriminator, game, d, d_key, real, fake)
      return loss, (model_state, {})

    e, fooling, _ = players.gradient_step(e_loss, e_tx, e, e_key)
    metrics |= {'reconstruction': error, 'encoder_loss': fooling}
    return players.after_step(state, {ENCODER: e, DISCRIMINATOR: d}), metrics

  def draw(model, key, num, *, condition=None):
    del model
    if classes is None:
      conditions.check_unconditional(condition)
    if condition is None:
      return prior(key, num)
    conditions.check_num(condition, num)
    return classes.prior(key, condition)

  def sample(model, key, num, *, condition=None):
    z = draw(model, key, num, condition=condition)
    return players.apply_trained(decoder, DECODER, model, z)

  return base.Method(
    card=CARD._replace(condition=('label',) if classes else ()),
    init=init,
    step=step,
    sample=sample,
    queries={
      **autoencoder.queries(encoder, decoder),
      **adversaries.prior_queries(prior),
      'prior': draw,
    },
  )
