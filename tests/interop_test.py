"""The losses in programs of other libraries: each trains and does what it should."""

import jax
import jax.numpy as jnp
import optax
import pytest

from gm_jax.losses import adversarial, discrepancy, f_divergence, penalties

CENTER = jnp.array([1.0, -0.5])


def data(key, num=256):
  return CENTER + 0.3 * jax.random.normal(key, (num, 2))


def test_haiku_critic_estimates_a_divergence():
  hk = pytest.importorskip('haiku')
  critic = hk.without_apply_rng(
    hk.transform(lambda x: hk.nets.MLP([32, 32, 1], activation=jnp.tanh)(x)[:, 0])
  )
  game = f_divergence.f_gan(f_divergence.KL)
  params = critic.init(jax.random.key(0), jnp.zeros((1, 2)))
  tx = optax.adam(1e-2)

  def loss(params, key):
    keys = jax.random.split(key)
    real = jax.random.normal(keys[0], (256, 2))
    fake = CENTER + jax.random.normal(keys[1], (256, 2))
    real_logits, fake_logits = (critic.apply(params, x) for x in (real, fake))
    return game.discriminator(real_logits, fake_logits).mean()

  def step(carry, key):
    params, opt_state = carry
    value, grads = jax.value_and_grad(loss)(params, key)
    updates, opt_state = tx.update(grads, opt_state)
    return (optax.apply_updates(params, updates), opt_state), value

  _, values = jax.lax.scan(
    step, (params, tx.init(params)), jax.random.split(jax.random.key(1), 400)
  )
  # KL between N(0, I) and N(c, I) is |c|^2 / 2 = 0.625 nats; the critic gives a bound.
  assert 0.57 < -values[-200:].mean() < 0.66


@pytest.mark.slow
def test_nnx_generator_descends_a_kernel_discrepancy():
  nnx = pytest.importorskip('flax.nnx')
  model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
  graph, params = nnx.split(model)
  kernel = discrepancy.gaussian_mixture(stds=(0.3, 1.0, 3.0))
  tx = optax.adam(optax.cosine_decay_schedule(1e-1, 250))

  def loss(params, key):
    keys = jax.random.split(key)
    samples = nnx.merge(graph, params)(jax.random.normal(keys[0], (256, 2)))
    return discrepancy.mmd2_unbiased(kernel, data(keys[1]), samples)

  def step(carry, key):
    params, opt_state = carry
    value, grads = jax.value_and_grad(loss)(params, key)
    updates, opt_state = tx.update(grads, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), value

  keys = jax.random.split(jax.random.key(1), 250)
  (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), keys)
  fitted = nnx.merge(graph, params)
  # The generator A z + b has the data's law where b is the mean and A A^T = 0.09 I.
  assert jnp.abs(fitted.bias[...] - CENTER).max() < 0.05
  kernel_matrix = fitted.kernel[...]
  assert jnp.abs(kernel_matrix.T @ kernel_matrix - 0.09 * jnp.eye(2)).max() < 0.03


def test_equinox_critic_plays_with_a_penalty():
  eqx = pytest.importorskip('equinox')
  critic = eqx.nn.MLP(2, 'scalar', 32, 2, key=jax.random.key(0))
  tx = optax.adam(1e-2)

  @eqx.filter_value_and_grad
  def loss(critic, key):
    keys = jax.random.split(key, 3)
    real, fake = data(keys[0]), 0.3 * jax.random.normal(keys[1], (256, 2))
    batched = jax.vmap(critic)
    game = adversarial.WASSERSTEIN.discriminator(batched(real), batched(fake))
    penalty = penalties.gradient_penalty(batched, keys[2], real, fake)
    return (game + 10.0 * penalty).mean()

  @eqx.filter_jit
  def step(critic, opt_state, key):
    value, grads = loss(critic, key)
    updates, opt_state = tx.update(grads, opt_state)
    return eqx.apply_updates(critic, updates), opt_state, value

  opt_state, values = tx.init(eqx.filter(critic, eqx.is_array)), []
  for key in jax.random.split(jax.random.key(1), 300):
    critic, opt_state, value = step(critic, opt_state, key)
    values.append(value)
  # W_1 between a cloud and itself moved by c is |c| = 1.118; the penalty's critic
  # may be a little steeper than 1.
  assert -1.3 < jnp.array(values[-100:]).mean() < -1.0
