"""The generative adversarial network: a generator and a discriminator in turn.

  discriminator  min_D E_{x, z} d(D(x), D(G(z))) [+ penalty]
  generator      min_G E_{x, z} g(D(x), D(G(z)))

with (g, d) any `Game`: minimax, non-saturating, least squares, hinge,
Wasserstein, relativistic.

Source: Generative Adversarial Nets, Goodfellow et al., 2014, arXiv:1406.2661,
algorithm 1; the order of play is the paper's, discriminator first.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import optax

from gm_jax import base, gradient, players, priors
from gm_jax.losses import adversarial
from gm_jax.players import DISCRIMINATOR, GENERATOR

CARD = base.Card(
  density='none',
  density_cost='none',
  measure='none',
  sampling='one_pass, exact',
  training=('adversarial',),
  latents='continuous',
  architecture='any',
)


def gan(
  generator: nn.Module,
  discriminator: nn.Module,
  g_tx: optax.GradientTransformation,
  d_tx: optax.GradientTransformation,
  *,
  prior: priors.Prior,
  game: base.Game = adversarial.NON_SATURATING,
  penalty: Callable | None = None,
  num_critic: int = 1,
  num_accumulate: int = 1,
) -> base.Method:
  """A GAN of two networks, two optimizers and one game.

  Args:
    generator: z [B, Z] -> x [B, ...].
    discriminator: x [B, ...] -> logits [B] or [B, 1].
    g_tx: the generator's optimizer.
    d_tx: the discriminator's optimizer.
    prior: (key, num) -> z [num, Z].
    game: what the two minimize.
    penalty: (critic, key, real, fake) -> [B], added to the discriminator's
      loss with the caller's weight in it.
    num_critic: discriminator steps a generator step, each on its own data: a
      batch holds num_critic * B examples.
    num_accumulate: slices in which every gradient is accumulated, to save
      memory; see `gradient.accumulated`.

  Returns:
    The method; its only query is `critic`.

  Raises:
    ValueError: `num_critic` or `num_accumulate` is below 1.
  """
  if num_critic < 1:
    raise ValueError(f'num_critic must be >= 1, got {num_critic}')
  d_step = players.stepper(
    discriminator, d_tx, game, penalty, num_slices=num_accumulate
  )

  def step(state, key, batch):
    critic_key, z_key, g_key = jax.random.split(key, 3)
    g, critic = players.of(state, GENERATOR), players.of(state, DISCRIMINATOR)
    real = gradient.interleaved(batch['x'], num_critic)
    num = real.shape[1]

    # 1. The discriminator takes num_critic steps, each on fresh data.
    def critic_step(critic, inputs):
      key, real = inputs
      z_key, d_key, g_key = jax.random.split(key, 3)
      z = prior(z_key, num)
      fake, _ = players.apply(generator, g.params, g.model_state, z, key=g_key)
      return d_step(critic, d_key, real, fake)

    keys = jax.random.split(critic_key, num_critic)
    critic, metrics = jax.lax.scan(critic_step, critic, (keys, real))

    # 2. The generator takes one step against the new discriminator.
    def g_loss(params, model_state, key, real, z):
      g_key, d_key = jax.random.split(key)
      fake, model_state = players.apply(generator, params, model_state, z, key=g_key)
      logits = players.pair_logits(discriminator, critic, d_key, real, fake)
      return game.generator(*logits).mean(), (model_state, {})

    params, opt_state, loss, (model_state, _) = gradient.gradient_step(
      gradient.accumulated(g_loss, num_accumulate),
      g_tx,
      g.params,
      g.opt_state,
      g.model_state,
      g_key,
      real[-1],
      prior(z_key, num),
    )
    g = players.Player(params, opt_state, model_state)
    metrics = jax.tree.map(lambda m: m[-1], metrics) | {'generator_loss': loss}
    return players.after_step(state, {GENERATOR: g, DISCRIMINATOR: critic}), metrics

  return base.Method(
    card=CARD,
    init=players.initializer(generator, discriminator, g_tx, d_tx, prior),
    step=step,
    sample=players.sampler(generator, prior),
    log_prob=None,
    queries={'critic': players.critic_query(discriminator)},
  )
