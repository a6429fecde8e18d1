"""Bidirectional GAN: inference in an implicit model, learned with it.

  min_{G, E} max_D  V( D(x, E(x)) , D(G(z), z) ),   x ~ p(x), z ~ p(z)

The discriminator tells pairs apart: data with their codes from latents with their
samples. Where it cannot, the two joint laws are one, and E inverts G. The encoder may
be implicit too: it has no density to be evaluated.

Source: Adversarial Feature Learning, Donahue et al., 2016, arXiv:1605.09782; the same
as Adversarially Learned Inference, Dumoulin et al., 2016, arXiv:1606.00704.
"""

import flax.linen as nn
import jax
import optax

from gm_jax import adversaries, base, conditions, players, priors
from gm_jax.losses import adversarial
from gm_jax.methods import autoencoder, gan
from gm_jax.players import DISCRIMINATOR, GENERATOR

ENCODER = autoencoder.ENCODER
BOTH = 'generator_encoder'  # the objective of the two


def bigan(
  generator: nn.Module,
  encoder: nn.Module,
  discriminator: nn.Module,
  g_tx: optax.GradientTransformation,
  d_tx: optax.GradientTransformation,
  *,
  prior: priors.Prior,
  game: base.Game = adversarial.NON_SATURATING,
) -> base.Method:
  """A GAN of pairs.

  Args:
    generator: z [B, Z] -> x [B, ...].
    encoder: x [B, ...] -> z [B, Z].
    discriminator: (x, z) -> logits [B] or [B, 1], as `models.joint.Joint`; or [B, P].
    g_tx: the optimizer of generator and encoder.
    d_tx: the discriminator's.
    prior: (key, num) -> z [num, Z].
    game: (x, E(x)) are its real, (G(z), z) its fake pairs; generator and encoder
      minimize `adversarial.exchange_roles` of it.

  Returns:
    The method; queries `encode`, `reconstruct`, `decode`, `prior` and, of a prior with
    a density, `log_prior`.
  """

  d_step = adversaries.stepper(discriminator, d_tx, game)
  exchanged = adversarial.exchange_roles(game)

  def init(key, batch):
    g_key, e_key, d_key, z_key = jax.random.split(key, 4)
    z, x = prior(z_key, 2), batch['x'][:2]
    both = players.new_group(g_tx, {
      GENERATOR: players.init(generator, g_key, z),
      ENCODER: players.init(encoder, e_key, x),
    })  # fmt: skip
    d = players.new_player(discriminator, d_tx, d_key, (x, z))
    return players.put_group(players.first_state({DISCRIMINATOR: d}), both, BOTH)

  def pairs(params, model_state, key, x, z):
    """The two kinds of pairs, and the players' collections."""
    g_key, e_key = jax.random.split(key)
    code, e_state = players.apply(
      encoder, params[ENCODER], model_state[ENCODER], x, key=e_key
    )
    fake, g_state = players.apply(
      generator, params[GENERATOR], model_state[GENERATOR], z, key=g_key
    )
    return (x, code), (fake, z), {GENERATOR: g_state, ENCODER: e_state}

  def pair_logits(d, key, real, fake):
    """Logits of both kinds, the second with the collections that the first left."""
    r_key, f_key = jax.random.split(key)
    real_logits, model_state = players.logits(
      discriminator, d.params, d.model_state, real, key=r_key
    )
    return real_logits, players.logits(
      discriminator, d.params, model_state, fake, key=f_key
    )[0]

  def step(state, key, batch):
    z_key, pair_key, d_key, g_z_key, g_pair_key, g_d_key = jax.random.split(key, 6)
    x, num = batch['x'], len(batch['x'])
    both = players.get_group(state, (GENERATOR, ENCODER), BOTH)

    # 1. The discriminator tells the pairs apart.
    z = prior(z_key, num)
    real, fake, _ = pairs(both.params, both.model_state, pair_key, x, z)
    d, metrics = d_step(players.get(state, DISCRIMINATOR), d_key, real, fake)

    # 2. Generator and encoder make each kind look like the other: both kinds depend on
    # them, so that the roles are exchanged as a whole.
    def g_loss(params, model_state):
      z = prior(g_z_key, num)
      real, fake, model_state = pairs(params, model_state, g_pair_key, x, z)
      real_logits, fake_logits = pair_logits(d, g_d_key, real, fake)
      loss = exchanged(real_logits, fake_logits).mean()
      return loss, (model_state, {})

    both, loss, _ = players.gradient_step(g_loss, g_tx, both)
    state = players.put_group(state, both, BOTH)
    metrics |= {'generator_loss': loss}
    return players.after_step(state, {DISCRIMINATOR: d}), metrics

  latent = adversaries.latent_queries(generator, prior)

  def encode(model, key, x, *, condition=None):
    del key
    conditions.check_unconditional(condition)
    return players.apply_trained(encoder, ENCODER, model, x)

  def reconstruct(model, key, x, *, condition=None):
    return latent['decode'](model, key, encode(model, key, x), condition=condition)

  return base.Method(
    card=gan.CARD,
    init=init,
    step=step,
    sample=adversaries.sampler(generator, prior),
    queries={'encode': encode, 'reconstruct': reconstruct, **latent},
  )
