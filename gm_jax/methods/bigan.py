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
import jax.numpy as jnp
import optax

from gm_jax import base, gradient, players, priors
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
    discriminator: (x, z) -> logits [B] or [B, 1], as `models.joint.Joint`.
    g_tx: the optimizer of generator and encoder.
    d_tx: the discriminator's.
    prior: (key, num) -> z [num, Z].
    game: (x, E(x)) are its real, (G(z), z) its fake pairs; generator and encoder
      minimize the generator's loss, and that with both exchanged, as equals.

  Returns:
    The method; queries `encode`, `decode`, `reconstruct`.
  """

  def judged(params, share, key, pair):
    out, share = players.apply(discriminator, params, share, pair, key=key)
    return out.reshape(-1), share

  def init(key, batch):
    g_key, e_key, d_key, z_key = jax.random.split(key, 4)
    z, x = prior(z_key, 2), batch['x'][:2]
    g_params, g_share = players.init(generator, g_key, z)
    e_params, e_share = players.init(encoder, e_key, x)
    d_params, d_share = players.init(discriminator, d_key, (x, z))
    both = {GENERATOR: g_params, ENCODER: e_params}
    shares = {GENERATOR: g_share, ENCODER: e_share, DISCRIMINATOR: d_share}
    return base.State(
      step=jnp.zeros((), jnp.int32),
      params={**both, DISCRIMINATOR: d_params},
      extra=players.merged(shares),
      opt_state={BOTH: g_tx.init(both), DISCRIMINATOR: d_tx.init(d_params)},
      ema=(),
    )

  def pairs(params, shares, key, x, z):
    """The two kinds of pairs, and the players' collections."""
    g_key, e_key = jax.random.split(key)
    code, e_share = players.apply(
      encoder, params[ENCODER], shares[ENCODER], x, key=e_key
    )
    fake, g_share = players.apply(
      generator, params[GENERATOR], shares[GENERATOR], z, key=g_key
    )
    return (x, code), (fake, z), {GENERATOR: g_share, ENCODER: e_share}

  def logits(params, share, key, real, fake):
    r_key, f_key = jax.random.split(key)
    of_real, share = judged(params, share, r_key, real)
    of_fake, share = judged(params, share, f_key, fake)
    return of_real, of_fake, share

  def d_loss(params, share, key, real, fake):
    of_real, of_fake, share = logits(params, share, key, real, fake)
    means = {'real_logits': of_real.mean(), 'fake_logits': of_fake.mean()}
    return game.discriminator(of_real, of_fake).mean(), (share, means)

  def step(state, key, batch):
    z_key, pair_key, d_key, g_z_key, g_pair_key, g_d_key = jax.random.split(key, 6)
    x, num = batch['x'], len(batch['x'])
    both = {name: state.params[name] for name in (GENERATOR, ENCODER)}
    shares = {name: players.collections(state.extra, name) for name in state.params}

    # 1. The discriminator tells the pairs apart.
    real, fake, _ = pairs(both, shares, pair_key, x, prior(z_key, num))
    d_params, d_state, loss, (d_share, means) = gradient.gradient_step(
      d_loss, d_tx, state.params[DISCRIMINATOR], state.opt_state[DISCRIMINATOR],
      shares[DISCRIMINATOR], d_key, real, fake,
    )  # fmt: skip

    # 2. Generator and encoder make each kind look like the other.
    def g_loss(both):
      real, fake, after = pairs(both, shares, g_pair_key, x, prior(g_z_key, num))
      of_real, of_fake, _ = logits(d_params, d_share, g_d_key, real, fake)
      fooled = game.generator(of_real, of_fake) + game.generator(-of_fake, -of_real)
      return fooled.mean(), after

    both, g_state, g_value, after = gradient.gradient_step(
      g_loss, g_tx, both, state.opt_state[BOTH]
    )
    after[DISCRIMINATOR] = d_share
    state = base.State(
      step=state.step + 1,
      params={**both, DISCRIMINATOR: d_params},
      extra=players.merged(after),
      opt_state={BOTH: g_state, DISCRIMINATOR: d_state},
      ema=state.ema,
    )
    return state, {'discriminator_loss': loss, 'generator_loss': g_value, **means}

  def decode(model, key, z, *, condition=None):
    del key, condition
    return autoencoder.applied(generator, GENERATOR, model, z)

  def encode(model, key, data, *, condition=None):
    del key, condition
    return autoencoder.applied(encoder, ENCODER, model, data)

  def reconstruct(model, key, data, *, condition=None):
    return decode(model, key, encode(model, key, data), condition=condition)

  return base.Method(
    card=gan.CARD,
    init=init,
    step=step,
    sample=players.sampler(generator, prior),
    log_prob=None,
    queries={'encode': encode, 'decode': decode, 'reconstruct': reconstruct},
  )
