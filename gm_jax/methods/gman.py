"""Generative multi-adversarial network: one generator against several discriminators.

  each D_i  min  E d(D_i(x), D_i(G(z)))          the generator  min  F(V_1, ..., V_N)

with V_i = E g(D_i(x), D_i(G(z))) the generator's loss against D_i and F one of

  maximum            max_i V_i, the harshest of them
  mean               the average
  softmax_weighted   sum_i softmax(lambda V)_i V_i, between the two

All discriminators see the same data and samples and differ by their first parameters.

Source: Generative Multi-Adversarial Networks, Durugkar et al., 2016, arXiv:1611.01673,
sections 3 and 4.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import optax

from gm_jax import adversaries, base, players, priors
from gm_jax.losses import adversarial
from gm_jax.methods import gan
from gm_jax.players import DISCRIMINATOR, GENERATOR

Combine = Callable[[base.Array], base.Array]  # [N] losses -> []


def maximum(losses: base.Array) -> base.Array:
  """The largest loss: the discriminator that is hardest to fool."""
  return losses.max()


def mean(losses: base.Array) -> base.Array:
  """The average loss."""
  return losses.mean()


def softmax_weighted(strength: float) -> Combine:
  """The average with weights softmax(strength * losses): the mean at 0.

  Raises:
    ValueError: a negative strength.
  """
  if strength < 0:
    raise ValueError(f'strength must be >= 0, got {strength}')
  return lambda losses: jax.nn.softmax(strength * losses) @ losses


def gman(
  generator: nn.Module,
  discriminator: nn.Module,
  g_tx: optax.GradientTransformation,
  d_tx: optax.GradientTransformation,
  *,
  prior: priors.Prior,
  num_discriminators: int,
  combine: Combine = mean,
  game: base.Game = adversarial.MINIMAX,
) -> base.Method:
  """A GAN with N discriminators of one architecture.

  Args:
    generator: z [B, Z] -> x [B, ...].
    discriminator: x [B, ...] -> logits [B] or [B, 1], or [B, P] of P patches; its
      parameters get an axis N.
    g_tx: the generator's optimizer.
    d_tx: each discriminator's.
    prior: (key, num) -> z [num, Z].
    num_discriminators: N.
    combine: [N] losses -> [] loss of the generator.
    game: what the players minimize, pair by pair.

  Returns:
    The method; queries as `gan.gan`'s, `critic` the mean of the logits.

  Raises:
    ValueError: `num_discriminators` is below 1.
  """
  if num_discriminators < 1:
    raise ValueError(f'num_discriminators must be >= 1, got {num_discriminators}')
  d_step = adversaries.stepper(discriminator, d_tx, game)

  def method_init(key, batch):
    g_key, z_key, d_key = jax.random.split(key, 3)

    def new_critic(key):
      return players.new_player(discriminator, d_tx, key, batch['x'][:2])

    return players.first_state({
      GENERATOR: players.new_player(generator, g_tx, g_key, prior(z_key, 2)),
      DISCRIMINATOR: jax.vmap(new_critic)(jax.random.split(d_key, num_discriminators)),
    })  # fmt: skip

  def step(state, key, batch):
    z_key, fake_key, d_key, g_z_key, g_key, logits_key = jax.random.split(key, 6)
    g, critics = players.get(state, GENERATOR), players.get(state, DISCRIMINATOR)
    real = batch['x']
    z = prior(z_key, len(real))
    fake, _ = players.apply(generator, g.params, g.model_state, z, key=fake_key)

    # 1. Every discriminator takes its step, on the same samples.
    keys = jax.random.split(d_key, num_discriminators)
    critics, each = jax.vmap(d_step, (0, 0, None, None))(critics, keys, real, fake)

    # 2. The generator takes one against all of them.
    def g_loss(params, model_state):
      z = prior(g_z_key, len(real))
      fake, model_state = players.apply(generator, params, model_state, z, key=g_key)

      def loss_against(critic):
        return adversaries.generator_loss(
          discriminator, game, critic, logits_key, real, fake
        )

      return combine(jax.vmap(loss_against)(critics)), (model_state, {})

    g, loss, _ = players.gradient_step(g_loss, g_tx, g)
    metrics = jax.tree.map(lambda m: m.mean(), each) | {'generator_loss': loss}
    return players.after_step(state, {GENERATOR: g, DISCRIMINATOR: critics}), metrics

  one_critic = adversaries.critic_query(discriminator)

  def critic(model, key, x, *, condition=None):
    def logits_of_one(params, model_state):
      extra = players.with_collections({}, {DISCRIMINATOR: model_state})
      one = base.Model({DISCRIMINATOR: params}, extra)
      return one_critic(one, key, x, condition=condition)

    model_state = players.collections(model.extra, DISCRIMINATOR)
    each = jax.vmap(logits_of_one)(model.params[DISCRIMINATOR], model_state)
    return each.mean(axis=0)

  return base.Method(
    card=gan.CARD,
    init=method_init,
    step=step,
    sample=adversaries.sampler(generator, prior),
    queries={'critic': critic, **adversaries.latent_queries(generator, prior)},
  )
