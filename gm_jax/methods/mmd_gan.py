"""MMD GAN: a kernel whose features are learned against the generator.

  max_phi  MMD^2_phi(p, q) - E_x_hat penalty(w, x_hat),   min_G  MMD^2_phi(p, q)

with the unbiased MMD^2 of k(phi(x), phi(y)) and the witness function

  w(x) = E_p k(phi(x), phi(x')) - E_q k(phi(x), phi(y)),

whose gradient, not the features', is held near norm 1. Batch-coupled: the estimate is
of the whole batch.

Source: MMD GAN, Li et al., 2017, arXiv:1705.08584; Demystifying MMD GANs, Binkowski
et al., 2018, arXiv:1801.01401, sections 2.1 and 2.2.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import optax

from gm_jax import adversaries, base, gradient, players, priors
from gm_jax.losses import discrepancy
from gm_jax.methods import gmmn
from gm_jax.players import DISCRIMINATOR, GENERATOR

CARD = gmmn.CARD._replace(training=('moment_matching', 'adversarial'))


def mmd_gan(
  generator: nn.Module,
  critic: nn.Module,
  g_tx: optax.GradientTransformation,
  c_tx: optax.GradientTransformation,
  *,
  prior: priors.Prior,
  kernel: discrepancy.Kernel,
  penalty: Callable | None = None,
  num_critic: int = 1,
) -> base.Method:
  """A generator against a kernel of learned features.

  Args:
    generator: z [B, Z] -> x [B, ...].
    critic: phi, x [B, ...] -> features [B, F].
    g_tx: the generator's optimizer.
    c_tx: the critic's.
    prior: (key, num) -> z [num, Z].
    kernel: (features [N, F], features [M, F]) -> [N, M].
    penalty: (witness, key, real, fake) -> [B] with the caller's weight in it, as
      `losses.penalties.gradient_penalty`; or None.
    num_critic: critic steps a generator step, each on its own data: a batch holds
      num_critic * B examples.

  Returns:
    The method; queries `decode`, `prior` and, of a prior with a density, `log_prior`,
    and no critic: a witness is a function of a whole sample.

  Raises:
    ValueError: `num_critic` is below 1.
  """
  if num_critic < 1:
    raise ValueError(f'num_critic must be >= 1, got {num_critic}')

  def features(params, model_state, x, key):
    return players.apply(critic, params, model_state, x, key=key)

  def mmd2(params, model_state, key, real, fake):
    r_key, f_key = jax.random.split(key)
    real, model_state = features(params, model_state, real, r_key)
    fake, model_state = features(params, model_state, fake, f_key)
    return discrepancy.mmd2_unbiased(kernel, real, fake), (model_state, real, fake)

  def c_loss(params, model_state, key, real, fake):
    key, w_key, p_key = jax.random.split(key, 3)
    distance, (new_state, real_features, fake_features) = mmd2(
      params, model_state, key, real, fake
    )
    if penalty is None:
      return -distance, (new_state, {'mmd2': distance})

    def witness(x):
      at = features(params, model_state, x, w_key)[0]
      toward_real = kernel(at, real_features).mean(axis=1)
      return toward_real - kernel(at, fake_features).mean(axis=1)

    penalties = penalty(witness, p_key, real, fake)
    return penalties.mean() - distance, (new_state, {'mmd2': distance})

  def step(state, key, batch):
    critic_key, z_key, g_key = jax.random.split(key, 3)
    g, c = players.get(state, GENERATOR), players.get(state, DISCRIMINATOR)
    real = gradient.interleaved(batch['x'], num_critic)
    num = real.shape[1]

    # 1. The critic takes num_critic steps, each on fresh data.
    def critic_step(c, inputs):
      key, real = inputs
      z_key, g_key, c_key = jax.random.split(key, 3)
      z = prior(z_key, num)
      fake, _ = players.apply(generator, g.params, g.model_state, z, key=g_key)
      c, loss, metrics = players.gradient_step(c_loss, c_tx, c, c_key, real, fake)
      return c, {'discriminator_loss': loss, **metrics}

    keys = jax.random.split(critic_key, num_critic)
    c, metrics = jax.lax.scan(critic_step, c, (keys, real))

    # 2. The generator takes one step against the new features; without the penalty,
    # which is about the critic alone.
    def g_loss(params, model_state, key):
      g_key, c_key = jax.random.split(key)
      z = prior(z_key, num)
      fake, model_state = players.apply(generator, params, model_state, z, key=g_key)
      distance, _ = mmd2(c.params, c.model_state, c_key, real[-1], fake)
      return distance, (model_state, {})

    g, loss, _ = players.gradient_step(g_loss, g_tx, g, g_key)
    metrics = jax.tree.map(lambda m: m[-1], metrics) | {'generator_loss': loss}
    return players.after_step(state, {GENERATOR: g, DISCRIMINATOR: c}), metrics

  return base.Method(
    card=CARD,
    init=adversaries.initializer(generator, critic, g_tx, c_tx, prior),
    step=step,
    sample=adversaries.sampler(generator, prior),
    queries=adversaries.latent_queries(generator, prior),
  )
