"""Progressive GAN: networks that grow from 4x4 pixels, each new size faded in.

  critic     min_D E D(G(z)) - D(x) + drift D(x)^2 + weight (|grad D(x^)| - 1)^2
  generator  min_G -E D(G(z))

with x the real images of the size, faded as the samples are: all three are mixed by one
fade, a function of the step (`growth.fade_of`). A method is that of one size; the
`growth.stages` of a run are phases of such methods, the first at rest, each other one
fading in before its rest. The penalty is batch-coupled, as the critic is.

Source: Progressive Growing of GANs for Improved Quality, Stability, and Variation,
Karras et al., 2017, arXiv:1710.10196, section 2 and appendix A; the order of rests and
fades, and optimizers that begin again at both ends of a fade, are of the authors' code.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import adversaries, base, conditions, growth, players, priors
from gm_jax.losses import adversarial, penalties, regularizers
from gm_jax.methods import gan
from gm_jax.models import progressive
from gm_jax.players import DISCRIMINATOR, GENERATOR

FADE = 'fade'  # in `State.extra`, [] that of the state's step: samples need it


def critic_game(drift: float) -> base.Game:
  """The Wasserstein game, its critic's level held near 0.

  Raises:
    ValueError: a weight below 0.
  """
  if drift < 0:
    raise ValueError(f'drift must be >= 0, got {drift}')

  def discriminator(real_logits, fake_logits):
    loss = adversarial.WASSERSTEIN.discriminator(real_logits, fake_logits)
    return loss + drift * regularizers.drift(real_logits)

  return adversarial.WASSERSTEIN._replace(discriminator=discriminator)


def progressive_gan(
  generator: nn.Module,
  discriminator: nn.Module,
  g_tx: optax.GradientTransformation,
  d_tx: optax.GradientTransformation,
  *,
  prior: priors.Prior,
  stage: growth.Stage,
  restart: bool = True,
  penalty_weight: float = 10.0,
  drift: float = 0.001,
) -> base.Method:
  """The two networks of one size.

  Args:
    generator: (z `[B, Z]`, fade `[]`) -> x `[B, H, H, C]`.
    discriminator: (x `[B, H, H, C]`, fade `[]`) -> logits `[B]` or `[B, 1]`.
    g_tx: the generator's optimizer.
    d_tx: the critic's optimizer.
    prior: (key, num) -> z [num, Z].
    stage: the steps of this size.
    restart: whether both optimizers begin again where the fade has ended.
    penalty_weight: of the gradient penalty.
    drift: weight of the square of the critic's output on data.

  Returns:
    The method; queries `critic`, `decode`, `prior` and, of a prior with a density,
    `log_prior`.

  Raises:
    ValueError: a weight below 0.
  """
  if penalty_weight < 0:
    raise ValueError(f'penalty_weight must be >= 0, got {penalty_weight}')

  def penalty(critic, key, real, fake):
    return penalty_weight * penalties.gradient_penalty(critic, key, real, fake)

  game, fade = critic_game(drift), growth.fade_of(stage)
  d_step = adversaries.stepper(discriminator, d_tx, game, penalty)
  restarts = restart and stage.full > stage.begin

  def init(key, batch):
    g_key, d_key, z_key = jax.random.split(key, 3)
    new, now = players.new_player, fade(jnp.zeros((), jnp.int32))
    both = {
      GENERATOR: new(generator, g_tx, g_key, prior(z_key, 2), now),
      DISCRIMINATOR: new(discriminator, d_tx, d_key, batch['x'][:2], now),
    }
    return players.first_state(both, {FADE: now})

  def player_of(state, name, tx):
    player = players.get(state, name)
    if not restarts:
      return player
    begin, go_on = lambda: tx.init(player.params), lambda: player.opt_state
    opt_state = jax.lax.cond(state.step == stage.full, begin, go_on)
    return player._replace(opt_state=opt_state)

  def g_loss(params, model_state, z, critic, key, real, now):
    fake, model_state = players.apply(generator, params, model_state, z, now)
    args = critic, key, real, fake, now
    loss = adversaries.generator_loss(discriminator, game, *args)
    return loss, (model_state, {})

  def step(state, key, batch):
    z_key, d_key, next_z_key, g_key = jax.random.split(key, 4)
    g = player_of(state, GENERATOR, g_tx)
    critic = player_of(state, DISCRIMINATOR, d_tx)

    # 1. Real images have as much of their details as the samples have.
    now = fade(state.step)
    real = progressive.faded(batch['x'], now)

    # 2. One step of the critic, then one of the generator against the new critic.
    z = prior(z_key, len(real))
    fake, _ = players.apply(generator, g.params, g.model_state, z, now)
    critic, metrics = d_step(critic, d_key, real, fake, now)
    z = prior(next_z_key, len(real))
    g, loss, _ = players.gradient_step(g_loss, g_tx, g, z, critic, g_key, real, now)

    state = players.after_step(state, {GENERATOR: g, DISCRIMINATOR: critic})
    state = state._replace(extra={**state.extra, FADE: fade(state.step)})
    return state, {**metrics, 'generator_loss': loss, FADE: now}

  def decode(model, key, z, *, condition=None):
    del key
    conditions.check_unconditional(condition)
    return players.apply_trained(generator, GENERATOR, model, z, model.extra[FADE])

  def sample(model, key, num, *, condition=None):
    return decode(model, None, prior(key, num), condition=condition)

  def critic(model, key, x, *, condition=None):
    del key
    conditions.check_unconditional(condition)
    params, now = model.params[DISCRIMINATOR], model.extra[FADE]
    return players.logits(discriminator, params, {}, x, now, train=False)[0]

  queries = {'critic': critic, 'decode': decode, **adversaries.prior_queries(prior)}
  return base.Method(gan.CARD, init, step, sample, queries=queries)
