"""Dual discriminator GAN: KL and reverse KL at once, by a critic for each.

With positive outputs D_1, D_2 = softplus(logit),

  J = alpha E_p log D_1(x) - E_q D_1(x) - E_p D_2(x) + beta E_q log D_2(x),

which both discriminators maximize and the generator minimizes. The best are
D_1 = alpha p / q and D_2 = beta q / p, where

  J = alpha (log alpha - 1) + beta (log beta - 1) + alpha KL(p || q) + beta KL(q || p):

D_1 makes the generator cover every mode, D_2 makes it stay on them.

Source: Dual Discriminator Generative Adversarial Nets, Nguyen et al., 2017,
arXiv:1709.03831, equations 1 to 3.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import adversaries, base, players, priors
from gm_jax.methods import gan
from gm_jax.players import DISCRIMINATOR, GENERATOR

REVERSE = 'reverse_discriminator'
BOTH = 'discriminators'  # the objective of the two
LOG_TINY = -15.0  # below, log softplus(v) is v to the last digit of float32


def log_softplus(v: base.Array) -> base.Array:
  """log softplus(v), which is v for very negative v; finite everywhere."""
  safe = jnp.maximum(v, LOG_TINY)
  return jnp.where(v > LOG_TINY, jnp.log(jax.nn.softplus(safe)), v)


def value(
  real: base.Array, fake: base.Array, reverse_real: base.Array,
  reverse_fake: base.Array, *, alpha: float, beta: float,
) -> base.Array:  # fmt: skip
  """J of each pair of examples in nats, shaped as the raw logits of D_1 and D_2."""
  forward = alpha * log_softplus(real) - jax.nn.softplus(fake)
  return forward - jax.nn.softplus(reverse_real) + beta * log_softplus(reverse_fake)


def d2gan(
  generator: nn.Module,
  discriminator: nn.Module,
  reverse_discriminator: nn.Module,
  g_tx: optax.GradientTransformation,
  d_tx: optax.GradientTransformation,
  reverse_tx: optax.GradientTransformation,
  *,
  prior: priors.Prior,
  alpha: float = 1.0,
  beta: float = 1.0,
) -> base.Method:
  """A GAN with two discriminators.

  Args:
    generator: z [B, Z] -> x [B, ...].
    discriminator: x [B, ...] -> logits of D_1 [B] or [B, 1], or [B, P] of P patches.
    reverse_discriminator: likewise of D_2.
    g_tx: the generator's optimizer.
    d_tx: that of D_1.
    reverse_tx: that of D_2.
    prior: (key, num) -> z [num, Z].
    alpha: weight of KL(p || q), in (0, 1].
    beta: weight of KL(q || p), in (0, 1].

  Returns:
    The method; queries as `gan.gan`'s, `critic` of D_1's raw logit.

  Raises:
    ValueError: a weight outside (0, 1].
  """
  for name, weight in (('alpha', alpha), ('beta', beta)):
    if not 0 < weight <= 1:
      raise ValueError(f'{name} must be in (0, 1], got {weight}')
  critics = {DISCRIMINATOR: discriminator, REVERSE: reverse_discriminator}
  both_tx = players.joint_optimizer({DISCRIMINATOR: d_tx, REVERSE: reverse_tx})

  def init(key, batch):
    pair_key, reverse_key = jax.random.split(key)
    g_key, d_key, z_key = jax.random.split(pair_key, 3)
    x = batch['x'][:2]
    critic_pair = players.new_group(both_tx, {
      DISCRIMINATOR: players.init(discriminator, d_key, x),
      REVERSE: players.init(reverse_discriminator, reverse_key, x),
    })  # fmt: skip
    g = players.new_player(generator, g_tx, g_key, prior(z_key, 2))
    return players.put_group(players.first_state({GENERATOR: g}), critic_pair, BOTH)

  def mean_value(params, model_state, key, real, fake):
    """J [], and the discriminators' collections afterwards."""
    logits, after = [], {}
    keys = iter(jax.random.split(key, 2 * len(critics)))
    for name, module in critics.items():
      after[name] = model_state[name]
      for x in (real, fake):
        one, after[name] = players.logits(
          module, params[name], after[name], x, key=next(keys)
        )
        logits.append(one)
    each = players.per_example(value(*logits, alpha=alpha, beta=beta))
    return each.mean(), after

  def step(state, key, batch):
    z_key, fake_key, d_key, g_z_key, g_key, g_d_key = jax.random.split(key, 6)
    real, g = batch['x'], players.get(state, GENERATOR)
    critic_pair = players.get_group(state, tuple(critics), BOTH)
    z = prior(z_key, len(real))
    fake, _ = players.apply(generator, g.params, g.model_state, z, key=fake_key)

    # 1. Both discriminators ascend J; it is a sum, so each sees its own part.
    def d_loss(params, model_state):
      mean, model_state = mean_value(params, model_state, d_key, real, fake)
      return -mean, (model_state, {})

    critic_pair, d_value, _ = players.gradient_step(d_loss, both_tx, critic_pair)

    # 2. The generator descends it, against the new discriminators.
    def g_loss(params, model_state):
      z = prior(g_z_key, len(real))
      fake, model_state = players.apply(generator, params, model_state, z, key=g_key)
      mean, _ = mean_value(
        critic_pair.params, critic_pair.model_state, g_d_key, real, fake
      )
      return mean, (model_state, {})

    g, g_value, _ = players.gradient_step(g_loss, g_tx, g)
    metrics = {'discriminator_loss': d_value, 'generator_loss': g_value}
    state = players.put_group(state, critic_pair, BOTH)
    return players.after_step(state, {GENERATOR: g}), metrics

  return base.Method(
    card=gan.CARD,
    init=init,
    step=step,
    sample=adversaries.sampler(generator, prior),
    queries={
      'critic': adversaries.critic_query(discriminator),
      **adversaries.latent_queries(generator, prior),
    },
  )
