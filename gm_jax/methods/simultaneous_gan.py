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

from gm_jax import adversaries, base, players, priors
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
    discriminator: x [B, ...] -> logits [B] or [B, 1], or [B, P] of P patches.
    game: what the two minimize.
    penalty: (critic, key, real, fake) -> [B], added to the discriminator's loss.

  Returns:
    (params by player, extra, key, real, z) -> (v, (extra, metrics)).
  """
  d_loss = adversaries.discriminator_loss(discriminator, game, penalty)

  def g_loss(params, critic, model_state, keys, real, z):
    fake, model_state = players.apply(generator, params, model_state, z, key=keys[0])
    loss = adversaries.generator_loss(discriminator, game, critic, keys[1], real, fake)
    return loss, model_state

  def field(params, extra, key, real, z):
    g_key, logits_key, fake_key, d_key = jax.random.split(key, 4)
    g_params, d_params = params[GENERATOR], params[DISCRIMINATOR]
    g_state = players.collections(extra, GENERATOR)
    d_state = players.collections(extra, DISCRIMINATOR)

    # Both gradients are at the same parameters: neither sees the other's move.
    critic = players.Player(d_params, (), d_state)
    (g_value, new_g_state), g_grads = jax.value_and_grad(g_loss, has_aux=True)(
      g_params, critic, g_state, (g_key, logits_key), real, z
    )
    fake, _ = players.apply(generator, g_params, g_state, z, key=fake_key)
    (d_value, (new_d_state, means)), d_grads = jax.value_and_grad(d_loss, has_aux=True)(
      d_params, d_state, d_key, real, fake
    )
    new = {GENERATOR: new_g_state, DISCRIMINATOR: new_d_state}
    metrics = {'generator_loss': g_value, 'discriminator_loss': d_value, **means}
    direction = {GENERATOR: g_grads, DISCRIMINATOR: d_grads}
    return direction, (players.with_collections(extra, new), metrics)

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
    discriminator: x [B, ...] -> logits [B] or [B, 1], or [B, P] of P patches.
    g_tx: the generator's optimizer.
    d_tx: the discriminator's optimizer.
    prior: (key, num) -> z [num, Z].
    dynamics: of `gm_jax.dynamics`.
    game: what the two minimize.
    penalty: (critic, key, real, fake) -> [B], added to the discriminator's loss.

  Returns:
    The method; queries as `gan.gan`'s. Metrics are of the parameters before.
  """
  field = vector_field(generator, discriminator, game, penalty)
  tx = players.joint_optimizer({GENERATOR: g_tx, DISCRIMINATOR: d_tx})

  def step(state, key, batch):
    z_key, field_key = jax.random.split(key)
    real = batch['x']
    z = prior(z_key, len(real))
    params, opt_state, (extra, metrics) = dynamics(
      lambda params: field(params, state.extra, field_key, real, z),
      dynamics_lib.updater(tx),
      state.params,
      state.opt_state,
    )
    state = state._replace(params=params, extra=extra, opt_state=opt_state)
    return players.after_step(state), metrics

  return base.Method(
    card=gan.CARD,
    init=adversaries.initializer(generator, discriminator, g_tx, d_tx, prior),
    step=step,
    sample=adversaries.sampler(generator, prior),
    queries={
      'critic': adversaries.critic_query(discriminator),
      **adversaries.latent_queries(generator, prior),
    },
  )
