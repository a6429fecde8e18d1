"""The generative adversarial network: a generator and a discriminator in turn.

  discriminator  min_D E_{x, z} d(D(x), D(G(z))) [+ penalty]
  generator      min_G E_{x, z} g(D(x), D(G(z)))

with (g, d) any `Game`: minimax, non-saturating, least squares, hinge,
Wasserstein, relativistic.

Source: Generative Adversarial Nets, Goodfellow et al., 2014, arXiv:1406.2661,
algorithm 1; the order of play is the paper's, discriminator first.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import optax

from gm_jax import adversaries, base, conditions, gradient, players, priors
from gm_jax.losses import adversarial
from gm_jax.players import DISCRIMINATOR, GENERATOR

CARD = base.Card(
  density='none',
  density_cost='none',
  measure='none',
  sampling='exact',
  sampling_cost='one_pass',
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
  condition: conditions.Condition | None = None,
  num_critic: int = 1,
  num_accumulate: int = 1,
) -> base.Method:
  """A GAN of two networks, two optimizers and one game.

  Args:
    generator: z [B, Z] -> x [B, ...].
    discriminator: x [B, ...] -> logits [B] or [B, 1], or [B, P] of P patches.
    g_tx: the generator's optimizer.
    d_tx: the discriminator's optimizer.
    prior: (key, num) -> z [num, Z].
    game: what the two minimize.
    penalty: (critic, key, real, fake) -> [B], added to the discriminator's
      loss with the caller's weight in it.
    condition: given to both networks beside their input, or None; fake examples
      have the conditions of the real ones.
    num_critic: discriminator steps a generator step, each on its own data: a
      batch holds num_critic * B examples.
    num_accumulate: slices in which every gradient is accumulated, to save
      memory; see `gradient.accumulated`.

  Returns:
    The method; queries `critic`, `decode`, `prior` and, of a prior with a density,
    `log_prior`.

  Raises:
    ValueError: `num_critic` or `num_accumulate` is below 1.
  """
  if num_critic < 1:
    raise ValueError(f'num_critic must be >= 1, got {num_critic}')
  d_step = adversaries.stepper(
    discriminator, d_tx, game, penalty, num_accumulate=num_accumulate
  )

  def g_loss(params, model_state, key, real, z, value, critic):
    g_key, d_key = jax.random.split(key)
    fake, model_state = players.apply(
      generator, params, model_state, z, value, key=g_key
    )
    loss = adversaries.generator_loss(
      discriminator, game, critic, d_key, real, fake, value
    )
    return loss, (model_state, {})

  def step(state, key, batch):
    critic_key, z_key, g_key = jax.random.split(key, 3)
    g = players.get(state, GENERATOR)
    value = conditions.training_embedding(condition, key, batch)
    real, value = gradient.interleaved((batch['x'], value), num_critic)
    num = real.shape[1]

    # 1. The discriminator takes num_critic steps, each on fresh data.
    def critic_step(critic, inputs):
      key, real, value = inputs
      z_key, d_key, g_key = jax.random.split(key, 3)
      z = prior(z_key, num)
      fake, _ = players.apply(generator, g.params, g.model_state, z, value, key=g_key)
      return d_step(critic, d_key, real, fake, value)

    keys = jax.random.split(critic_key, num_critic)
    critic = players.get(state, DISCRIMINATOR)
    critic, metrics = jax.lax.scan(critic_step, critic, (keys, real, value))

    # 2. The generator takes one step against the new discriminator.
    last = jax.tree.map(lambda x: x[-1], (real, value))
    g, loss, _ = players.gradient_step(
      gradient.accumulated(functools.partial(g_loss, critic=critic), num_accumulate),
      g_tx, g, g_key, last[0], prior(z_key, num), last[1],
    )  # fmt: skip
    metrics = jax.tree.map(lambda m: m[-1], metrics) | {'generator_loss': loss}
    return players.after_step(state, {GENERATOR: g, DISCRIMINATOR: critic}), metrics

  return base.Method(
    card=CARD._replace(condition=conditions.names(condition)),
    init=adversaries.initializer(
      generator, discriminator, g_tx, d_tx, prior, condition
    ),
    step=step,
    sample=adversaries.sampler(generator, prior, condition),
    queries={
      'critic': adversaries.critic_query(discriminator, condition),
      **adversaries.latent_queries(generator, prior, condition),
    },
  )
