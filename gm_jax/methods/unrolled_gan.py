"""The unrolled GAN: a generator that sees how the discriminator will react.

With f(theta_G, theta_D) what the discriminator maximizes and

  theta_D^0 = theta_D,   theta_D^{i+1} = theta_D^i + eta df/dtheta_D^i,
  f_k(theta_G, theta_D) = f(theta_G, theta_D^k(theta_G, theta_D)),

the generator descends f_k and the discriminator takes one ordinary step on f.
The gradient of f_k runs through the k steps:

  df_k/dtheta_G = df/dtheta_G + df/dtheta_D^k * dtheta_D^k/dtheta_G.

The real examples' term of f belongs to f_k too: through theta_D^k it depends on
the generator. k = 0 is the GAN of `methods.gan`; k -> infinity is the generator
against the optimal discriminator.

Source: Unrolled Generative Adversarial Networks, Metz et al., 2017,
arXiv:1611.02163, equations 7 to 11.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import (
  adversaries,
  base,
  conditions,
  dynamics,
  gradient,
  players,
  priors,
  unroll,
)
from gm_jax.losses import adversarial
from gm_jax.methods import gan
from gm_jax.players import DISCRIMINATOR, GENERATOR


def unrolled_gan(
  generator: nn.Module,
  discriminator: nn.Module,
  g_tx: optax.GradientTransformation,
  d_tx: optax.GradientTransformation,
  *,
  prior: priors.Prior,
  num_unroll: int,
  game: base.Game = adversarial.MINIMAX,
  objective: Callable | None = None,
  condition: conditions.Condition | None = None,
  unroll_fn: unroll.Unroll = unroll.full,
  fresh: bool = False,
  num_accumulate: int = 1,
  diagnostics: bool = True,
) -> base.Method:
  """An unrolled GAN.

  The inner steps use the discriminator's own optimizer, begin at its state and
  never overwrite it.

  Args:
    generator: z [B, Z] -> x [B, ...].
    discriminator: x [B, ...] -> logits [B] or [B, 1], or [B, P] of P patches.
    g_tx: the generator's optimizer.
    d_tx: the discriminator's optimizer, in the inner steps too.
    prior: (key, num) -> z [num, Z].
    num_unroll: k, the steps the generator looks ahead.
    game: its `discriminator` is what the inner steps minimize.
    objective: (real_logits, fake_logits) -> [B], minimized by the generator
      at the unrolled discriminator; by default -game.discriminator, the paper's.
    condition: given to both networks beside their input, or None; in every step, also
      an inner one, fake examples have the conditions of its real ones.
    unroll_fn: what the gradient sees of the inner steps, from `unroll`.
    fresh: inner steps on fresh real and fake data each; a batch then holds
      (1 + k) * B examples. Otherwise all on the generator's own batch.
    num_accumulate: slices in which the discriminator's gradients, inner ones
      too, are accumulated; the generator's own pass is of the whole batch.
    diagnostics: adds the metrics `unroll_gap`, the norm of the gradient used
      less the partial one, and `unroll_cosine`, of that difference with the
      partial gradient (0 where either vanishes).

  Returns:
    The method; queries as `gan.gan`'s.

  Raises:
    ValueError: `num_unroll` is negative, `num_accumulate` below 1, or the inner
      optimizer would give NaN meta-gradients.
  """
  if num_unroll < 0:
    raise ValueError(f'num_unroll must be >= 0, got {num_unroll}')
  if num_unroll:
    unroll.check_meta_gradient(d_tx)
  if objective is None:

    def objective(real_logits, fake_logits):
      return -game.discriminator(real_logits, fake_logits)

  d_step = adversaries.stepper(discriminator, d_tx, game, num_accumulate=num_accumulate)

  def g_loss(critic, model_state, key, real, fake, value):
    logits = adversaries.pair_logits(discriminator, critic, key, real, fake, value)
    return players.per_example(objective(*logits)).mean(), (model_state, {})

  g_loss = gradient.accumulated(g_loss, num_accumulate)

  def step(state, key, batch):
    critic_key, z_key, g_key, d_key = jax.random.split(key, 4)
    keys = jax.random.split(critic_key, 1 + num_unroll)
    g, critic = players.get(state, GENERATOR), players.get(state, DISCRIMINATOR)
    value = conditions.training_embedding(condition, key, batch)
    slices = gradient.interleaved((batch['x'], value), 1 + num_unroll if fresh else 1)
    real, value = jax.tree.map(lambda x: x[0], slices)
    later = jax.tree.map(lambda x: x[1:], slices)

    def generate(params, z_key, key, value):
      z = prior(z_key, len(real))
      return players.apply(generator, params, g.model_state, z, value, key=key)

    def fresh_step(critic, params, key, real, value):
      z_key, d_key, g_key = jax.random.split(key, 3)
      fake, _ = generate(params, z_key, g_key, value)
      return d_step(critic, d_key, real, fake, value)

    # 1. The discriminator takes one ordinary step on f.
    critic, metrics = fresh_step(critic, g.params, keys[0], real, value)

    # 2. The generator takes one step on f_k: it looks k steps of the discriminator
    # ahead, which depend on its parameters too and which nothing keeps.
    def look_ahead(params, fake):
      def inner_step(critic, inputs):
        key, data = inputs
        if fresh:
          return fresh_step(critic, params, key, *data)[0]
        return d_step(critic, key, real, fake, value)[0]

      return unroll_fn(inner_step, critic, (keys[1:], later if fresh else None))

    def f(fake, critic):
      return g_loss(critic, {}, d_key, real, fake, value)[0]

    def f_k(params):
      fake, model_state = generate(params, z_key, g_key, value)
      critic_k = look_ahead(params, fake)
      return f(fake, critic_k), (model_state, critic_k)

    (loss, (model_state, critic_k)), grads = jax.value_and_grad(f_k, has_aux=True)(
      g.params
    )
    # Not `players.gradient_step`: the diagnostics compare the gradient itself.
    params, opt_state = dynamics.updater(g_tx)(grads, g.opt_state, g.params)
    metrics |= {'generator_loss': loss}
    if diagnostics:

      def partial(params):
        return f(generate(params, z_key, g_key, value)[0], critic_k)

      metrics |= _gap(grads, jax.grad(partial)(g.params))
    g = players.Player(params, opt_state, model_state)
    return players.after_step(state, {GENERATOR: g, DISCRIMINATOR: critic}), metrics

  return base.Method(
    card=gan.CARD._replace(condition=conditions.names(condition)),
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


def _gap(grads, partial_grads) -> dict:
  """Norm of the difference, and its cosine with the partial gradient."""
  gap = jax.tree.map(jnp.subtract, grads, partial_grads)
  norm, partial_norm = optax.tree.norm(gap), optax.tree.norm(partial_grads)
  product = norm * partial_norm
  cosine = optax.tree.vdot(gap, partial_grads) / jnp.where(product > 0, product, 1.0)
  return {'unroll_gap': norm, 'unroll_cosine': cosine}
