"""The GAN's step against what its paper writes, by independent computation."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compiled import compiled

from gm_jax import players, priors
from gm_jax.losses import adversarial, penalties
from gm_jax.methods import gan
from gm_jax.models import dcgan, mlp
from gm_jax.training import step as step_lib


class Peak(nn.Module):
  """A fixed critic, largest at one point: -|x - peak|^2."""

  peak: tuple[float, float]

  @nn.compact
  def __call__(self, x, *, train=False):
    peak = self.param('peak', lambda key: jnp.asarray(self.peak))
    return -jnp.sum((x - peak) ** 2, axis=-1)


@pytest.mark.parametrize('game', ['MINIMAX', 'NON_SATURATING'])
def test_against_a_fixed_critic_every_sample_goes_to_its_argmax(game):
  # Collapse as the lecture defines it: the best reply to any fixed critic is a
  # point mass, wherever the data are.
  tx = optax.adam(optax.cosine_decay_schedule(3e-2, 1500))
  method = compiled(
    gan.gan(
      mlp.MLP((32, 2)),
      Peak((0.8, -0.3)),
      tx,
      optax.set_to_zero(),
      prior=priors.normal(8),
      game=getattr(adversarial, game),
    )
  )
  data = {'x': jax.random.normal(jax.random.key(0), (64, 2))}
  state = method.init(jax.random.key(1), data)

  @jax.jit
  def train(state):
    keys = jax.random.split(jax.random.key(2), 1500)
    return jax.lax.scan(lambda s, k: (method.step(s, k, data)[0], None), state, keys)[0]

  samples = method.sample(step_lib.model(train(state)), jax.random.key(3), 256)
  before = method.sample(step_lib.model(state), jax.random.key(3), 256)
  assert before.std(0).min() > 0.2
  np.testing.assert_allclose(samples.mean(0), [0.8, -0.3], atol=0.02)
  assert samples.std(0).max() < 0.06


def test_one_step_is_the_two_gradient_steps_of_the_algorithm():
  generator, critic = mlp.MLP((5, 2), nn.tanh), mlp.MLP((6, 1), nn.tanh)
  g_rate, d_rate, prior = 0.3, 0.2, priors.normal(3)
  method = compiled(
    gan.gan(
      generator, critic, optax.sgd(g_rate), optax.sgd(d_rate), prior=prior, num_critic=2
    )
  )
  x = jax.random.normal(jax.random.key(0), (12, 2))
  state = method.init(jax.random.key(1), {'x': x})
  key = jax.random.key(2)
  new, _ = method.step(state, key, {'x': x})

  def logit(params, x):
    return critic.apply({'params': params}, x)[:, 0]

  def generate(params, z):
    return generator.apply({'params': params}, z)

  def d_loss(params, g_params, real, z):  # the paper's V, negated
    fake = logit(params, generate(g_params, z))
    sigmoid = jax.nn.sigmoid
    return -jnp.mean(jnp.log(sigmoid(logit(params, real))) + jnp.log(1 - sigmoid(fake)))

  @jax.jit
  def by_hand(g_params, d_params):
    critic_key, z_key, _ = jax.random.split(key, 3)
    for i, one in enumerate(jax.random.split(critic_key, 2)):
      z = prior(jax.random.split(one)[0], 6)
      grads = jax.grad(d_loss)(d_params, g_params, x[i::2], z)
      d_params = jax.tree.map(lambda p, g: p - d_rate * g, d_params, grads)
    z = prior(z_key, 6)
    grads = jax.grad(
      lambda p: -jnp.mean(jnp.log(jax.nn.sigmoid(logit(d_params, generate(p, z)))))
    )(g_params)
    g_params = jax.tree.map(lambda p, g: p - g_rate * g, g_params, grads)
    return {'generator': g_params, 'discriminator': d_params}

  expected = by_hand(state.params['generator'], state.params['discriminator'])
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), new.params, expected
  )


def test_penalty_is_part_of_what_the_discriminator_descends():
  generator, critic, prior = mlp.MLP((5, 2), nn.tanh), mlp.MLP((6, 1)), priors.normal(3)
  rate, weight = 0.2, 3.0

  def r1(critic, key, real, fake):
    return weight * penalties.r1(critic, real)

  method = compiled(
    gan.gan(
      generator,
      critic,
      optax.sgd(0.1),
      optax.sgd(rate),
      prior=prior,
      game=adversarial.WASSERSTEIN,
      penalty=r1,
    )
  )
  x, key = jax.random.normal(jax.random.key(0), (8, 2)), jax.random.key(2)
  state = method.init(jax.random.key(1), {'x': x})
  new, metrics = method.step(state, key, {'x': x})

  def logit(params, x):
    return critic.apply({'params': params}, x)[:, 0]

  @jax.jit
  def by_hand(g_params, d_params):
    critic_key = jax.random.split(jax.random.split(key, 3)[0], 1)[0]
    z = prior(jax.random.split(critic_key)[0], 8)
    fake = generator.apply({'params': g_params}, z)

    def loss(params):  # the gradient of each example taken by itself
      slopes = jax.vmap(jax.grad(lambda x: logit(params, x[None])[0]))(x)
      penalty = weight * jnp.mean(jnp.sum(slopes**2, axis=1))
      return jnp.mean(logit(params, fake)) - jnp.mean(logit(params, x)) + penalty

    value, grads = jax.value_and_grad(loss)(d_params)
    return value, jax.tree.map(lambda p, g: p - rate * g, d_params, grads)

  value, expected = by_hand(state.params['generator'], state.params['discriminator'])
  chex.assert_trees_all_close(new.params['discriminator'], expected, atol=1e-5)
  np.testing.assert_allclose(metrics['discriminator_loss'], value, rtol=1e-5)


def test_batch_statistics_of_the_generator_follow_its_own_step_only():
  generator = dcgan.Generator(8, 1, base_features=4)
  method = compiled(
    gan.gan(
      generator,
      dcgan.Discriminator(base_features=4),
      optax.sgd(0.0),
      optax.sgd(0.0),
      prior=priors.normal(4),
      num_critic=3,
    )
  )
  x = jax.random.normal(jax.random.key(0), (24, 8, 8, 1))
  state = method.init(jax.random.key(1), {'x': x})
  key = jax.random.key(2)
  new, _ = method.step(state, key, {'x': x})
  z = priors.normal(4)(jax.random.split(key, 3)[1], 8)
  model_state = players.collections(state.extra, 'generator')
  apply = jax.jit(players.apply, static_argnums=0)
  _, expected = apply(generator, state.params['generator'], model_state, z)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
    players.collections(new.extra, 'generator'),
    expected,
  )


@pytest.mark.parametrize('game', ['NON_SATURATING', 'RELATIVISTIC'])
def test_accumulated_step_is_the_step(game):
  def r1(critic, key, real, fake):
    return penalties.r1(critic, real)

  tx = optax.sgd(0.5)  # moves by the gradient itself
  x = jax.random.normal(jax.random.key(0), (24, 2))
  found = {}
  for num in (1, 4):
    method = compiled(gan.gan(
      mlp.MLP((5, 2), nn.tanh), mlp.MLP((6, 1), nn.tanh), tx, tx,
      prior=priors.normal(3), game=getattr(adversarial, game), penalty=r1,
      num_critic=2, num_accumulate=num,
    ))  # fmt: skip
    state = method.init(jax.random.key(1), {'x': x})
    found[num] = method.step(state, jax.random.key(2), {'x': x})
  chex.assert_trees_all_close(found[4], found[1], rtol=1e-5, atol=1e-6)


def test_batch_normalization_sees_the_slices_one_after_the_other():
  generator, critic = dcgan.Generator(8, 1, base_features=4), mlp.MLP((1,))
  tx, prior, key = optax.sgd(0.0), priors.normal(4), jax.random.key(2)
  method = compiled(gan.gan(generator, critic, tx, tx, prior=prior, num_accumulate=2))
  x = jax.random.normal(jax.random.key(0), (16, 8, 8, 1))
  state = method.init(jax.random.key(1), {'x': x})
  new, _ = method.step(state, key, {'x': x})
  z = prior(jax.random.split(key, 3)[1], 16)
  model_state = players.collections(state.extra, 'generator')
  apply = jax.jit(players.apply, static_argnums=0)
  for part in (z[::2], z[1::2]):
    _, model_state = apply(generator, state.params['generator'], model_state, part)
  chex.assert_trees_all_close(
    players.collections(new.extra, 'generator'), model_state, atol=1e-6
  )


def test_refusals():
  tx = optax.sgd(0.1)
  with pytest.raises(ValueError, match='num_critic must be >= 1, got 0'):
    gan.gan(mlp.MLP((2,)), mlp.MLP((1,)), tx, tx, prior=priors.normal(2), num_critic=0)
  with pytest.raises(ValueError, match='num_accumulate must be >= 1, got 0'):
    gan.gan(
      mlp.MLP((2,)), mlp.MLP((1,)), tx, tx, prior=priors.normal(2), num_accumulate=0
    )
  method = compiled(
    gan.gan(mlp.MLP((2,)), mlp.MLP((1,)), tx, tx, prior=priors.normal(2), num_critic=3)
  )
  x = jnp.ones((6, 2))
  state = method.init(jax.random.key(0), {'x': x})
  with pytest.raises(ValueError, match='batch of 4 .*multiple of 3'):
    method.step(state, jax.random.key(0), {'x': x[:4]})


@pytest.mark.parametrize('size', [3, 50])
def test_priors_have_their_moments(size):
  z = priors.sphere(size)(jax.random.key(0), 20_000)
  np.testing.assert_allclose(jnp.sum(z**2, -1), size, rtol=1e-5)
  np.testing.assert_allclose(z.mean(0), 0, atol=0.04)
  u = priors.uniform(size)(jax.random.key(0), 20_000)
  assert u.min() < -0.99 and u.max() > 0.99
  np.testing.assert_allclose(u.var(0), 1 / 3, atol=0.01)
  n = priors.normal(size)(jax.random.key(0), 20_000)
  np.testing.assert_allclose(jnp.mean(n**4), 3, atol=0.15)
