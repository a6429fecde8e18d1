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

from gm_jax import base, gradient, players, priors, unroll
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
  how: unroll.Unroll = unroll.full,
  fresh: bool = False,
  diagnostics: bool = True,
) -> base.Method:
  """An unrolled GAN.

  The inner steps use the discriminator's own optimizer, begin at its state and
  never overwrite it.

  Args:
    generator: z [B, Z] -> x [B, ...].
    discriminator: x [B, ...] -> logits [B] or [B, 1].
    g_tx: the generator's optimizer.
    d_tx: the discriminator's optimizer, in the inner steps too.
    prior: (key, num) -> z [num, Z].
    num_unroll: k, the steps the generator looks ahead.
    game: its `discriminator` is what the inner steps minimize.
    objective: (real_logits, fake_logits) -> [B], minimized by the generator at
      the unrolled discriminator; by default -game.discriminator, the paper's.
    how: what the gradient sees of the inner steps, from `unroll`.
    fresh: inner steps on fresh real and fake data each; a batch then holds
      (1 + k) * B examples. Otherwise all on the generator's own batch.
    diagnostics: adds the metrics `unroll_gap`, the norm of the gradient used
      less the partial one, and `unroll_cosine`, of that difference with the
      partial gradient (0 where either vanishes).

  Returns:
    The method; its only query is `critic`.

  Raises:
    ValueError: `num_unroll` is negative, or the inner optimizer would give NaN
      meta-gradients.
  """
  if num_unroll < 0:
    raise ValueError(f'num_unroll must be >= 0, got {num_unroll}')
  if num_unroll:
    unroll.check_meta_gradient(d_tx)
  if objective is None:

    def objective(real_logits, fake_logits):
      return -game.discriminator(real_logits, fake_logits)

  d_loss = players.discriminator_loss(discriminator, game)

  def d_step(critic, g, key, real, fake=None):
    """One step on f; at fakes of the generator g where none are given."""
    params, opt_state, share = critic
    z_key, key = jax.random.split(key)
    if fake is None:
      fake = players.apply(generator, *g, prior(z_key, len(real)), key=key)[0]
    params, opt_state, loss, (share, means) = gradient.gradient_step(
      d_loss, d_tx, params, opt_state, share, key, real, fake
    )
    return (params, opt_state, share), {'discriminator_loss': loss, **means}

  def step(state, key, batch):
    critic_key, z_key, g_key = jax.random.split(key, 3)
    keys = jax.random.split(critic_key, 1 + num_unroll)
    g_params = state.params[GENERATOR]
    g_share = players.collections(state.extra, GENERATOR)
    slices = gradient.interleaved(batch['x'], 1 + num_unroll if fresh else 1)
    real = slices[0]

    # 1. The discriminator takes one ordinary step on f.
    critic = (
      state.params[DISCRIMINATOR],
      state.opt_state[DISCRIMINATOR],
      players.collections(state.extra, DISCRIMINATOR),
    )
    critic, metrics = d_step(critic, (g_params, g_share), keys[0], real)

    # 2. The generator takes one step on f_k.
    def generate(g_params):
      return players.apply(
        generator, g_params, g_share, prior(z_key, len(real)), key=g_key
      )

    def ahead(g_params, fake):
      def inner_step(critic, inputs):
        key, data = inputs
        data = (data,) if fresh else (real, fake)
        return d_step(critic, (g_params, g_share), key, *data)[0]

      return how(inner_step, critic, (keys[1:], slices[1:] if fresh else None))

    def value(critic, fake):
      d_params, _, share = critic
      logits = [
        players.logits(discriminator, d_params, share, x, key=g_key)[0]
        for x in (real, fake)
      ]
      return objective(*logits).mean()

    def f_k(g_params):
      fake, share = generate(g_params)
      critic_k = ahead(g_params, fake)
      return value(critic_k, fake), (share, critic_k)

    def partial_f_k(g_params, critic_k):
      return value(critic_k, generate(g_params)[0])

    (loss, aux), grads = jax.value_and_grad(f_k, has_aux=True)(g_params)
    g_share, critic_k = aux
    if diagnostics:
      metrics |= _gap(grads, jax.grad(partial_f_k)(g_params, critic_k))
    updates, g_opt_state = g_tx.update(grads, state.opt_state[GENERATOR], g_params)
    return base.State(
      step=state.step + 1,
      params={
        GENERATOR: optax.apply_updates(g_params, updates),
        DISCRIMINATOR: critic[0],
      },
      extra=players.merged({GENERATOR: g_share, DISCRIMINATOR: critic[2]}),
      opt_state={GENERATOR: g_opt_state, DISCRIMINATOR: critic[1]},
      ema=state.ema,
    ), metrics | {'generator_loss': loss}

  return base.Method(
    card=gan.CARD,
    init=players.initializer(generator, discriminator, g_tx, d_tx, prior),
    step=step,
    sample=players.sampler(generator, prior),
    log_prob=None,
    queries={'critic': players.critic_query(discriminator)},
  )


def _gap(grads, partial_grads) -> dict:
  """Norm of the difference, and its cosine with the partial gradient."""
  gap = jax.tree.map(jnp.subtract, grads, partial_grads)
  norm, partial_norm = optax.tree.norm(gap), optax.tree.norm(partial_grads)
  product = norm * partial_norm
  cosine = optax.tree.vdot(gap, partial_grads) / jnp.where(product > 0, product, 1.0)
  return {'unroll_gap': norm, 'unroll_cosine': cosine}
