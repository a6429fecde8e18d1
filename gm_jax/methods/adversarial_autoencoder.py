"""Adversarial auto-encoders: codes that a discriminator cannot tell from a prior.

Each step runs the paper's phases on one batch, each with its own optimizer:

  1.   min_{e, d} | x - d(e(x)) |^2
  2a.  the discriminator tells z ~ p(z), its real data, from e(x)
  2b.  the encoder makes e(x) pass for z

Not one loss with weights, as in public code: no weight trades one for the other. With
labels, the prior is a mixture with a component for each class, and the discriminator is
told the class, or that there is none (label -1): then z is of the whole mixture.

Source: Adversarial Autoencoders, Makhzani et al., 2015, arXiv:1511.05644, sections 2
and 2.3.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import base, gradient, players, priors
from gm_jax.losses import adversarial
from gm_jax.methods import autoencoder
from gm_jax.methods.autoencoder import DECODER, ENCODER
from gm_jax.players import DISCRIMINATOR

RECONSTRUCTION = 'reconstruction'
CARD = autoencoder.CARD._replace(
  sampling='one_pass, exact', training=('reconstruction', 'adversarial')
)


class Classes(NamedTuple):
  """A mixture prior whose components are classes."""

  prior: priors.Labelled  # (key, label [B]) -> z [B, Z]
  num: int  # K


def told(z: base.Array, label: base.Array | None, num: int) -> base.Array:
  """What the discriminator sees: z [B, Z] beside one of K + 1, the last for -1."""
  if label is None:
    return z
  return jnp.concatenate([z, jax.nn.one_hot(label % (num + 1), num + 1)], -1)


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
    The method; queries `encode`, `decode`, `reconstruct`.
  """
  num_classes = classes.num if classes else 0
  reconstruction = autoencoder.loss(encoder, decoder)

  def init(key, batch):
    pair_key, d_key = jax.random.split(key)
    params, extra = autoencoder.init_pair(encoder, decoder, pair_key, batch['x'])
    z = autoencoder.applied(encoder, ENCODER, base.Model(params, extra), batch['x'][:2])
    label = jnp.zeros(2, jnp.int32) if classes else None
    d_params, d_share = players.init(discriminator, d_key, told(z, label, num_classes))
    shares = {name: players.collections(extra, name) for name in params}
    return base.State(
      step=jnp.zeros((), jnp.int32),
      params={**params, DISCRIMINATOR: d_params},
      extra=players.merged({**shares, DISCRIMINATOR: d_share}),
      opt_state={
        RECONSTRUCTION: r_tx.init(params),
        DISCRIMINATOR: d_tx.init(d_params),
        ENCODER: e_tx.init(params[ENCODER]),
      },
      ema=(),
    )

  def prior_of(key, batch):
    """z of the prior: of the labels' components, of all where there is none."""
    num = len(batch['x'])
    if classes is None:
      return prior(key, num), None
    label_key, z_key = jax.random.split(key)
    drawn = jax.random.randint(label_key, (num,), 0, num_classes)
    label = batch['label']
    return classes.prior(z_key, jnp.where(label < 0, drawn, label)), label

  d_step = players.stepper(discriminator, d_tx, game)

  def step(state, key, batch):
    r_key, z_key, code_key, d_key, e_key = jax.random.split(key, 5)
    opt_state, x = dict(state.opt_state), batch['x']

    # 1. Encoder and decoder tell the data again.
    pair = {name: state.params[name] for name in (ENCODER, DECODER)}
    pair, opt_state[RECONSTRUCTION], error, (extra, _) = gradient.gradient_step(
      reconstruction, r_tx, pair, opt_state[RECONSTRUCTION], state.extra, r_key, batch
    )
    shares = {name: players.collections(extra, name) for name in pair}

    # 2a. The discriminator tells the prior, real, from codes.
    real, label = prior_of(z_key, batch)
    code, _ = players.apply(encoder, pair[ENCODER], shares[ENCODER], x, key=code_key)
    real, fake = told(real, label, num_classes), told(code, label, num_classes)
    d, metrics = d_step(players.of(state, DISCRIMINATOR), d_key, real, fake)

    # 2b. The encoder makes codes that pass for the prior.
    def e_loss(params, share, key):
      code_key, d_key = jax.random.split(key)
      code, share = players.apply(encoder, params, share, x, key=code_key)
      fake = told(code, label, num_classes)
      logits = players.pair_logits(discriminator, d, d_key, real, fake)
      return game.generator(*logits).mean(), share

    e_params, opt_state[ENCODER], fooled, e_share = gradient.gradient_step(
      e_loss, e_tx, pair[ENCODER], opt_state[ENCODER], shares[ENCODER], e_key
    )
    opt_state[DISCRIMINATOR] = d.opt_state
    shares |= {ENCODER: e_share, DISCRIMINATOR: d.model_state}
    state = base.State(
      step=state.step + 1,
      params={**pair, ENCODER: e_params, DISCRIMINATOR: d.params},
      extra=players.merged(shares),
      opt_state=opt_state,
      ema=state.ema,
    )
    return state, {'reconstruction': error, 'encoder_loss': fooled, **metrics}

  def sample(model, key, num, *, condition=None):
    if classes is None:
      base.check_unconditional(condition)
    z = prior(key, num) if condition is None else classes.prior(key, condition)
    return autoencoder.applied(decoder, DECODER, model, z)

  queries = autoencoder.queries(encoder, decoder)
  return base.Method(CARD, init, step, sample, None, queries)
