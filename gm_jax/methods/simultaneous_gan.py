"""A GAN whose two players move together, by any dynamics of a game.

  v(w_G, w_D) = (d/dw_G E g(D(x), D(G(z))),  d/dw_D E d(D(x), D(G(z))) [+ penalty])

on one batch, and a step along -v by `gm_jax.dynamics`: simultaneous, extragradient,
consensus, symplectic; optimistic by its optimizers. The GAN that alternates is
`methods.gan`.

Source: The Numerics of GANs, Mescheder et al., 2017, arXiv:1705.10461, section 2, for
the field; each dynamics names its own.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import optax

from gm_jax import base, players, priors
from gm_jax import dynamics as dynamics_lib
from gm_jax.losses import adversarial
from gm_jax.methods import gan
from gm_jax.players import DISCRIMINATOR, GENERATOR


def vector_field(
  generator: nn.Module,
  discriminator: nn.Module,
  game: base.Game = adversarial.MINIMAX,
  penalty: Callable | None = None,
) -> Callable:
  """The field of the two networks' parameters.

  Args:
    generator: z [B, Z] -> x [B, ...].
    discriminator: x [B, ...] -> logits [B] or [B, 1].
    game: what the two minimize.
    penalty: (critic, key, real, fake) -> [B], added to the discriminator's loss.

  Returns:
    (params by player, extra, key, real, z) -> (v, (extra, metrics)).
  """
  d_loss = players.discriminator_loss(discriminator, game, penalty)

  def g_loss(params, critic, model_state, keys, real, z):
    fake, model_state = players.apply(generator, params, model_state, z, key=keys[0])
    logits = players.pair_logits(discriminator, critic, keys[1], real, fake)
    return game.generator(*logits).mean(), model_state

  def field(params, extra, key, real, z):
    g_key, logits_key, fake_key, d_key = jax.random.split(key, 4)
    shares = {name: players.collections(extra, name) for name in params}
    critic = players.Player(params[DISCRIMINATOR], (), shares[DISCRIMINATOR])
    (loss, g_share), g_grads = jax.value_and_grad(g_loss, has_aux=True)(
      params[GENERATOR], critic, shares[GENERATOR], (g_key, logits_key), real, z
    )
    fake, _ = players.apply(
      generator, params[GENERATOR], shares[GENERATOR], z, key=fake_key
    )
    (d_value, (d_share, means)), d_grads = jax.value_and_grad(d_loss, has_aux=True)(
      params[DISCRIMINATOR], shares[DISCRIMINATOR], d_key, real, fake
    )
    metrics = {'generator_loss': loss, 'discriminator_loss': d_value, **means}
    extra = players.merged({GENERATOR: g_share, DISCRIMINATOR: d_share})
    return {GENERATOR: g_grads, DISCRIMINATOR: d_grads}, (extra, metrics)

  return field


def simultaneous_gan(
  generator: nn.Module,
  discriminator: nn.Module,
  g_tx: optax.GradientTransformation,
  d_tx: optax.GradientTransformation,
  *,
  prior: priors.Prior,
  dynamics: dynamics_lib.Dynamics = dynamics_lib.simultaneous,
  game: base.Game = adversarial.MINIMAX,
  penalty: Callable | None = None,
) -> base.Method:
  """A GAN of two networks that move at once.

  Args:
    generator: z [B, Z] -> x [B, ...].
    discriminator: x [B, ...] -> logits [B] or [B, 1].
    g_tx: the generator's optimizer.
    d_tx: the discriminator's optimizer.
    prior: (key, num) -> z [num, Z].
    dynamics: of `gm_jax.dynamics`.
    game: what the two minimize.
    penalty: (critic, key, real, fake) -> [B], added to the discriminator's loss.

  Returns:
    The method; its only query is `critic`. Metrics are of the parameters before.
  """
  field = vector_field(generator, discriminator, game, penalty)
  txs = {GENERATOR: g_tx, DISCRIMINATOR: d_tx}

  def update(direction, opt_state, params):
    moved = {
      name: dynamics_lib.updater(tx)(direction[name], opt_state[name], params[name])
      for name, tx in txs.items()
    }
    return {n: m[0] for n, m in moved.items()}, {n: m[1] for n, m in moved.items()}

  def step(state, key, batch):
    z_key, field_key = jax.random.split(key)
    real = batch['x']
    z = prior(z_key, len(real))
    params, opt_state, (extra, metrics) = dynamics(
      lambda params: field(params, state.extra, field_key, real, z),
      update,
      state.params,
      state.opt_state,
    )
    return base.State(state.step + 1, params, extra, opt_state, state.ema), metrics

  return base.Method(
    card=gan.CARD,
    init=players.initializer(generator, discriminator, g_tx, d_tx, prior),
    step=step,
    sample=players.sampler(generator, prior),
    log_prob=None,
    queries={'critic': players.critic_query(discriminator)},
  )
