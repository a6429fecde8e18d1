"""A Wasserstein auto-encoder: its loss by hand, its limit, its codes."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compiled import compiled

from gm_jax import priors
from gm_jax.losses import discrepancy
from gm_jax.methods import autoencoder, wae
from gm_jax.models import mlp
from gm_jax.training import step as step_lib

CENTER = jnp.array([1.0, -0.5])
X = CENTER + 0.3 * jax.random.normal(jax.random.key(9), (6, 2))
Z = jax.random.normal(jax.random.key(8), (6, 2))


def fixed(key, num):
  return Z[:num]


def make(tx=None, *, networks=None, prior=fixed, weight=3.0, lengths=None):
  lengths = lengths or wae.lengths(2)
  kernel = discrepancy.inverse_multiquadric(lengths=lengths)
  encoder, decoder = networks or (mlp.MLP((2,)), mlp.MLP((2,)))
  return compiled(wae.wae(
    encoder, decoder, tx or optax.sgd(0.1), prior=prior, weight=weight,
    discrepancy=functools.partial(discrepancy.mmd2_unbiased, kernel),
  ))  # fmt: skip


def linear(layer, x):
  return x @ layer['Dense_0']['kernel'] + layer['Dense_0']['bias']


def mmd2(z, code):
  """By loops over pairs, from the authors' constants: C / (C + d), C = 2 Z s."""
  total, num = 0.0, len(z)
  for c in (4 * s for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)):

    def k(a, b, c=c):
      return c / (c + ((a - b) ** 2).sum())

    for i in range(num):
      for j in range(num):
        if i != j:
          total += (k(z[i], z[j]) + k(code[i], code[j])) / (num * (num - 1))
        total -= 2 * k(z[i], code[j]) / num**2
  return total


def loss_by_hand(params, weight, x=X, z=Z):
  code = linear(params['encoder'], x)
  error = ((x - linear(params['decoder'], code)) ** 2).sum(axis=1).mean()
  return error + weight * mmd2(z, code)


def test_a_step_is_down_the_gradient_of_the_loss():
  method = make()
  state = method.init(jax.random.key(0), {'x': X})
  after, metrics = method.step(state, jax.random.key(1), {'x': X})
  params = jax.tree.map(lambda p: np.asarray(p, float), state.params)
  x, z = np.asarray(X, float), np.asarray(Z, float)
  np.testing.assert_allclose(
    metrics['loss'], loss_by_hand(params, 3.0, x, z), rtol=1e-5
  )
  code = linear(params['encoder'], x)
  np.testing.assert_allclose(metrics['discrepancy'], mmd2(z, code), rtol=1e-4)
  rest = metrics['loss'] - 3.0 * metrics['discrepancy']
  np.testing.assert_allclose(metrics['reconstruction'], rest, rtol=1e-5)
  # The gradient by finite differences of the loops, in float64.
  for player, name, i in (
    ('encoder', 'kernel', (0, 1)), ('encoder', 'bias', (1,)), ('decoder', 'bias', (0,)),
  ):  # fmt: skip
    weights, values = params[player]['Dense_0'][name], []
    for step in (1e-5, -2e-5):
      weights[i] += step
      values.append(loss_by_hand(params, 3.0, x, z))
    weights[i] += 1e-5
    moved = after.params[player]['Dense_0'][name][i]
    expected = weights[i] - 0.1 * (values[0] - values[1]) / 2e-5
    np.testing.assert_allclose(moved, expected, atol=1e-5)


def test_without_weight_it_is_the_auto_encoder():
  networks = mlp.MLP((8, 1)), mlp.MLP((8, 2))
  plain = compiled(autoencoder.autoencoder(*networks, optax.sgd(0.1)))
  ours = make(networks=networks, weight=0.0, prior=priors.normal(1))
  before = plain.init(jax.random.key(0), {'x': X})
  chex.assert_trees_all_equal(ours.init(jax.random.key(0), {'x': X}), before)
  expected, _ = plain.step(before, jax.random.key(1), {'x': X})
  after, _ = ours.step(before, jax.random.key(1), {'x': X})
  chex.assert_trees_all_close(after, expected, rtol=1e-6)
  weighted = make(networks=networks, prior=priors.normal(1))
  other, _ = weighted.step(before, jax.random.key(1), {'x': X})
  gap = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), other.params, after.params)
  assert float(gap['encoder']['Dense_0']['kernel']) > 1e-3
  assert float(gap['decoder']['Dense_0']['kernel']) == 0  # which sees no discrepancy


@pytest.mark.slow
def test_codes_have_the_moments_of_the_prior_and_samples_those_of_the_data():
  scale = jnp.array([[0.6, 0.0], [0.3, 0.5]])

  def batch(key):
    return {'x': CENTER + jax.random.normal(key, (128, 2)) @ scale}

  tx = optax.adam(optax.cosine_decay_schedule(0.1, 600))
  method = make(tx, prior=priors.normal(2), weight=10.0, lengths=[0.5, 2.0])
  state = method.init(jax.random.key(0), batch(jax.random.key(1)))
  batches = jax.jit(jax.vmap(batch))(jax.random.split(jax.random.key(2), 600))
  state, _ = jax.jit(step_lib.train_step(method))(state, jax.random.key(3), batches)
  model = step_lib.model(state)
  x = jax.vmap(batch)(jax.random.split(jax.random.key(4), 40))['x'].reshape(-1, 2)
  code = method.queries['encode'](model, None, x)
  np.testing.assert_allclose(code.mean(0), 0, atol=0.06)
  np.testing.assert_allclose(np.cov(code.T), np.eye(2), atol=0.1)
  again = method.queries['reconstruct'](model, None, x)
  assert float(jnp.square(again - x).sum(-1).mean()) < 0.005  # of a variance of 0.65
  drawn = method.sample(model, jax.random.key(5), 5000)
  np.testing.assert_allclose(drawn.mean(0), CENTER, atol=0.05)
  np.testing.assert_allclose(np.cov(drawn.T), scale.T @ scale, atol=0.06)


def test_a_negative_weight_and_a_condition_are_refused():
  with pytest.raises(ValueError, match='weight must be >= 0, got -1'):
    make(weight=-1.0)
  method = make()
  model = step_lib.model(method.init(jax.random.key(0), {'x': X}))
  with pytest.raises(ValueError, match='unconditional'):
    method.sample(model, jax.random.key(0), 2, condition=jnp.zeros(2))
