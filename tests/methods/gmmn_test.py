"""Moment matching reaches what can be computed, in data space and in codes."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compiled import compiled

from gm_jax import base, priors
from gm_jax.losses import discrepancy
from gm_jax.methods import autoencoder, gmmn
from gm_jax.models import mlp
from gm_jax.training import step as step_lib

CENTER = jnp.array([1.5, -1.0])
TX = optax.adam(optax.cosine_decay_schedule(0.05, 400))


def data(num, key, std=0.5):
  return {'x': CENTER + std * jax.random.normal(key, (num, 2))}


def train(method, batch, steps=400):
  state = jax.jit(method.init)(jax.random.key(0), batch(jax.random.key(1)))
  batches = jax.jit(jax.vmap(batch))(jax.random.split(jax.random.key(2), steps))
  return jax.jit(step_lib.train_step(method))(state, jax.random.key(3), batches)


def linear_gmmn(codes=None):
  kernel = discrepancy.gaussian_mixture(stds=(0.5, 2.0))
  return gmmn.gmmn(
    mlp.MLP((2,)), TX, prior=priors.normal(2), codes=codes,
    discrepancy=functools.partial(discrepancy.mmd_biased, kernel),
  )  # fmt: skip


def test_a_linear_generator_gets_the_mean_and_covariance_of_a_gaussian():
  state, _ = train(linear_gmmn(), functools.partial(data, 128))
  layer = state.params['generator']['Dense_0']
  covariance = layer['kernel'].T @ layer['kernel']
  np.testing.assert_allclose(layer['bias'], CENTER, atol=0.08)
  np.testing.assert_allclose(covariance, 0.25 * np.eye(2), atol=0.06)


def test_a_step_is_down_the_gradient_of_the_papers_root():
  kernel = discrepancy.gaussian(std=1.0)
  method = compiled(gmmn.gmmn(
    mlp.MLP((2,)), optax.sgd(0.1), prior=lambda key, num: Z[:num],
    discrepancy=functools.partial(discrepancy.mmd_biased, kernel),
  ))  # fmt: skip
  batch = data(5, jax.random.key(4))
  state = method.init(jax.random.key(0), batch)
  after, metrics = method.step(state, jax.random.key(1), batch)
  layer = state.params['generator']['Dense_0']

  def root(weights):  # from the definition
    fake = Z @ weights['kernel'] + weights['bias']
    k = lambda a, b: jnp.exp(-jnp.sum((a - b) ** 2) / 2)  # noqa: E731
    pairs = [(i, j) for i in range(5) for j in range(5)]
    first, second = np.array(pairs).T
    mean = lambda x, y: jax.vmap(k)(x[first], y[second]).mean()  # noqa: E731
    x = batch['x']
    return jnp.sqrt(mean(x, x) + mean(fake, fake) - 2 * mean(x, fake))

  loss, grads = jax.jit(jax.value_and_grad(root))(layer)
  expected = jax.tree.map(lambda p, g: p - 0.1 * g, layer, grads)
  np.testing.assert_allclose(metrics['loss'], loss, rtol=1e-5)
  chex.assert_trees_all_close(after.params['generator']['Dense_0'], expected, rtol=1e-4)


Z = jax.random.normal(jax.random.key(9), (5, 2))


def codes_trained():
  """An auto-encoder of the plane, and what follows it before its first step."""
  encoder, decoder = mlp.MLP((16, 2)), mlp.MLP((16, 2))
  first = autoencoder.autoencoder(encoder, decoder, TX)
  before, metrics = train(first, functools.partial(data, 128), 300)
  second = linear_gmmn(gmmn.Codes(encoder, decoder))
  batch = data(128, jax.random.key(6))
  state = gmmn.after_autoencoder(second)(jax.random.key(5), before, batch)
  return first, before, second, state, metrics


@functools.cache
def codes():
  return codes_trained()


def test_an_autoencoder_with_room_for_it_tells_its_data_again():
  first, before, _, _, metrics = codes()
  x = data(100, jax.random.key(7))['x']
  again = first.queries['reconstruct'](step_lib.model(before), None, x)
  assert float(metrics['loss'][-1]) < 0.01 < float(metrics['loss'][0])
  assert float(jnp.square(again - x).sum(-1).mean()) < 0.01  # of a variance of 0.5


def test_codes_are_matched_and_the_autoencoder_stays_as_it_was():
  first, before, second, state, _ = codes()
  assert state.step == before.step == 300
  keys = jax.random.split(jax.random.key(2), 400)
  batches = jax.jit(jax.vmap(functools.partial(data, 128)))(keys)
  after, _ = jax.jit(step_lib.train_step(second))(state, jax.random.key(3), batches)
  chex.assert_trees_all_equal(
    after.extra['frozen']['autoencoder'], base.Model(before.params, before.extra)
  )
  x = compiled(second).sample(step_lib.model(after), jax.random.key(8), 4000)
  np.testing.assert_allclose(x.mean(0), CENTER, atol=0.1)
  np.testing.assert_allclose(jnp.cov(x.T), 0.25 * np.eye(2), atol=0.08)
  # The samples are decoded, not the codes themselves.
  encode = first.queries['encode'](step_lib.model(before), None, x)
  assert float(jnp.abs(encode - x).max()) > 0.1


def test_gradient_of_the_root_is_zero_where_both_are_the_same():
  x = data(8, jax.random.key(0))['x']
  kernel = discrepancy.gaussian(std=1.0)
  root = jax.jit(functools.partial(discrepancy.mmd_biased, kernel, x))
  assert float(root(x)) < 1e-3
  assert np.isfinite(jax.jit(jax.grad(root))(x)).all()
  exact = functools.partial(discrepancy.mmd_biased, lambda a, b: 0 * a @ b.T)
  np.testing.assert_array_equal(jax.jit(jax.grad(exact))(x, x), 0 * x)
  y = data(6, jax.random.key(1), std=1.0)['x']
  squared = discrepancy.mmd2_biased(kernel, x, y)
  np.testing.assert_allclose(root(y) ** 2, squared, rtol=1e-6)


def test_of_two_points_a_root_is_the_kernels_distance():
  kernel = discrepancy.gaussian(std=2.0)
  x, y = jnp.zeros((1, 1)), jnp.full((1, 1), 3.0)
  expected = np.sqrt(2 - 2 * np.exp(-9 / 8))
  np.testing.assert_allclose(discrepancy.mmd_biased(kernel, x, y), expected, rtol=1e-6)


def test_condition_is_refused():
  method = linear_gmmn()
  state = method.init(jax.random.key(0), data(4, jax.random.key(1)))
  with pytest.raises(ValueError, match='unconditional'):
    method.sample(step_lib.model(state), jax.random.key(0), 2, condition=1)
