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

from gm_jax import base, gradient, players, priors
from gm_jax.methods import gan
from gm_jax.players import DISCRIMINATOR, GENERATOR

REVERSE = 'reverse_discriminator'
LOG_TINY = -15.0  # below, log softplus(v) is v to the last digit of float32


def log_softplus(v: base.Array) -> base.Array:
  """log softplus(v), which is v for very negative v; finite everywhere."""
  safe = jnp.maximum(v, LOG_TINY)
  return jnp.where(v > LOG_TINY, jnp.log(jax.nn.softplus(safe)), v)


def value(
  real: base.Array, fake: base.Array, reverse_real: base.Array,
  reverse_fake: base.Array, *, alpha: float, beta: float,
) -> base.Array:  # fmt: skip
  """J of each pair of examples, [B] nats, from raw logits [B] of D_1 and D_2."""
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
    discriminator: x [B, ...] -> logits of D_1 [B] or [B, 1].
    reverse_discriminator: likewise of D_2.
    g_tx: the generator's optimizer.
    d_tx: that of D_1.
    reverse_tx: that of D_2.
    prior: (key, num) -> z [num, Z].
    alpha: weight of KL(p || q), in (0, 1].
    beta: weight of KL(q || p), in (0, 1].

  Returns:
    The method; its only query is `critic`, of D_1's raw logit.

  Raises:
    ValueError: a weight outside (0, 1].
  """
  for name, weight in (('alpha', alpha), ('beta', beta)):
    if not 0 < weight <= 1:
      raise ValueError(f'{name} must be in (0, 1], got {weight}')
  critics = {DISCRIMINATOR: discriminator, REVERSE: reverse_discriminator}
  txs = {DISCRIMINATOR: d_tx, REVERSE: reverse_tx}

  def method_init(key, batch):
    pair_key, reverse_key = jax.random.split(key)
    pair = players.initializer(generator, discriminator, g_tx, d_tx, prior)
    state = pair(pair_key, batch)
    shares = {name: players.of(state, name) for name in state.params}
    params, share = players.init(reverse_discriminator, reverse_key, batch['x'][:2])
    shares[REVERSE] = players.Player(params, reverse_tx.init(params), share)
    return players.after_step(state, shares)._replace(step=state.step)

  def outcome(params, shares, key, real, fake):
    logits, after = [], {}
    keys = iter(jax.random.split(key, 2 * len(critics)))
    for name, module in critics.items():
      share = shares[name]
      for x in (real, fake):
        one, share = players.logits(module, params[name], share, x, key=next(keys))
        logits.append(one)
      after[name] = share
    return value(*logits, alpha=alpha, beta=beta).mean(), after

  def step(state, key, batch):
    z_key, fake_key, d_key, g_z_key, g_key, g_d_key = jax.random.split(key, 6)
    real, g = batch['x'], players.of(state, GENERATOR)
    both = {name: players.of(state, name) for name in critics}
    z = prior(z_key, len(real))
    fake, _ = players.apply(generator, g.params, g.model_state, z, key=fake_key)

    # 1. Both discriminators ascend J; it is a sum, so each sees its own part.
    def d_loss(params):
      shares = {name: one.model_state for name, one in both.items()}
      worth, after = outcome(params, shares, d_key, real, fake)
      return -worth, after

    params = {name: one.params for name, one in both.items()}
    (loss, shares), grads = jax.value_and_grad(d_loss, has_aux=True)(params)
    for name, one in both.items():
      updates, opt_state = txs[name].update(grads[name], one.opt_state, one.params)
      params[name] = optax.apply_updates(one.params, updates)
      both[name] = players.Player(params[name], opt_state, shares[name])

    # 2. The generator descends it.
    def g_loss(g_params, model_state):
      z = prior(g_z_key, len(real))
      fake, model_state = players.apply(generator, g_params, model_state, z, key=g_key)
      return outcome(params, shares, g_d_key, real, fake)[0], model_state

    g_params, opt_state, g_value, model_state = gradient.gradient_step(
      g_loss, g_tx, g.params, g.opt_state, g.model_state
    )
    g = players.Player(g_params, opt_state, model_state)
    metrics = {'discriminator_loss': loss, 'generator_loss': g_value}
    return players.after_step(state, {GENERATOR: g, **both}), metrics

  return base.Method(
    card=gan.CARD,
    init=method_init,
    step=step,
    sample=players.sampler(generator, prior),
    log_prob=None,
    queries={'critic': players.critic_query(discriminator)},
  )
