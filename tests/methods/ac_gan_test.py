"""AC-GAN's step by the paper's formulas, and what its best generator leaves out."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compiled import compiled

from gm_jax import priors
from gm_jax.losses import adversarial, likelihood
from gm_jax.methods import ac_gan
from gm_jax.models import joint, mlp
from gm_jax.training import step as step_lib

B, K, RATE, WEIGHT = 8, 3, 0.1, 0.7
Z = jax.random.normal(jax.random.key(5), (B, 2))
LABEL = jnp.arange(B) % K
KEY = jax.random.key(7)


def make(penalty=None, outputs=1 + K, prior=lambda key, num: Z[:num], **changes):
  settings = {'prior': prior, 'num_classes': K, 'class_weight': WEIGHT} | changes
  return ac_gan.ac_gan(
    joint.Conditioned(mlp.MLP((2,))), mlp.MLP((outputs,)), optax.sgd(RATE),
    optax.sgd(RATE), penalty=penalty, **settings,
  )  # fmt: skip


def batch():
  return {'x': 1.0 + jax.random.normal(jax.random.key(0), (B, 2)), 'label': LABEL}


def dense(weights, x):
  return x @ weights['Dense_0']['kernel'] + weights['Dense_0']['bias']


def cross_entropy(logits):
  """-log of the softmax at the label, in plain words."""
  p = jnp.exp(logits) / jnp.exp(logits).sum(axis=1, keepdims=True)
  return -jnp.log(p[jnp.arange(B), LABEL]).mean()


def drawn(g):
  return dense(g['body'], jnp.concatenate([Z, jnp.eye(K)[LABEL]], 1))


def gap(critic, key, real, fake):
  """A penalty, of the source's logits [B]."""
  return jnp.square(critic(real) - critic(fake))


def test_a_step_is_down_the_gradients_of_the_papers_objectives():
  method = make(gap)
  state = jax.jit(method.init)(jax.random.key(0), batch())
  after, metrics = jax.jit(method.step)(state, jax.random.key(1), batch())
  g, d = state.params['generator'], state.params['discriminator']
  real, fake = batch()['x'], drawn(g)

  def source_and_class(d, x):
    out = dense(d, x)
    return out[:, 0], out[:, 1:]

  def d_loss(d):
    (real_source, real_class), (fake_source, fake_class) = (
      source_and_class(d, x) for x in (real, fake)
    )
    source = -jnp.log(1 / (1 + jnp.exp(-real_source))).mean()
    source -= jnp.log(1 - 1 / (1 + jnp.exp(-fake_source))).mean()
    source += jnp.square(real_source - fake_source).mean()  # `gap`
    return source + WEIGHT * (cross_entropy(real_class) + cross_entropy(fake_class))

  def down(loss, params):
    slope = jax.jit(jax.grad(loss))(params)
    return jax.tree.map(lambda p, s: p - RATE * s, params, slope)

  new_d = down(d_loss, d)
  chex.assert_trees_all_close(after.params['discriminator'], new_d, rtol=1e-5)

  def g_loss(g):
    source, classes = source_and_class(new_d, drawn(g))
    return jnp.log(1 + jnp.exp(-source)).mean() + WEIGHT * cross_entropy(classes)

  chex.assert_trees_all_close(after.params['generator'], down(g_loss, g), rtol=1e-5)
  np.testing.assert_allclose(metrics['discriminator_loss'], d_loss(d), rtol=1e-5)
  np.testing.assert_allclose(metrics['generator_loss'], g_loss(g), rtol=1e-5)


def test_queries_are_the_columns_and_samples_have_their_class_under_jit_and_vmap():
  method = compiled(make(prior=priors.normal(2)))
  state = method.init(jax.random.key(0), batch())
  kernel = jnp.zeros((2 + K, 2)).at[2:, 0].set(jnp.arange(K))  # x_0 = the class
  state.params['generator'] = {
    'body': {'Dense_0': {'kernel': kernel, 'bias': jnp.zeros(2)}}
  }
  model, x = step_lib.model(state), batch()['x']
  out = dense(state.params['discriminator'], x)
  np.testing.assert_allclose(method.queries['critic'](model, None, x), out[:, 0], 1e-6)
  np.testing.assert_allclose(
    method.queries['classify'](model, None, x), out[:, 1:], 1e-6
  )
  labels = jnp.array([[2, 0, 1], [1, 1, 0]])
  draw = jax.vmap(lambda key, c: method.sample(model, key, 3, condition=c))
  samples = jax.jit(draw)(jax.random.split(jax.random.key(1), 2), labels)
  np.testing.assert_allclose(samples[..., 0], labels, atol=1e-6)
  # Without a class: each as often.
  counts = np.bincount(np.asarray(method.sample(model, KEY, 3000)[:, 0], int))
  assert abs(counts - 1000).max() < 4 * np.sqrt(3000 * 2 / 9)


# Three symbols, of which two classes share the second.
P = jnp.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]) / 2  # p(y, x)
Y = jnp.repeat(jnp.arange(2), 3)


def generator_objective(weight, q_logits, best):
  """E of the generator's loss over all (y, x), against the best critic of `best`."""
  q, was = (jax.nn.softmax(a, axis=1) / 2 for a in (q_logits, best))
  ratio = jnp.log(P.sum(0) + 1e-12) - jnp.log(was.sum(0))  # logit of p / (p + q)
  log_c = jnp.log(P + was) - jnp.log((P + was).sum(0))  # of the classes, real and fake
  source = adversarial.NON_SATURATING.generator(ratio, ratio)
  classes = -likelihood.categorical(jnp.tile(log_c.T, (2, 1)), Y).reshape(2, 3)
  return (q * (source + weight * classes)).sum()


def best_responses(weight, steps=4000):
  slope = jax.grad(generator_objective, argnums=1)

  def step(_, q):
    return q - 0.5 * slope(weight, q, jax.lax.stop_gradient(q))

  start = jnp.log(jnp.array([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6]]))
  return jax.nn.softmax(jax.lax.fori_loop(0, steps, step, start), axis=1)


def test_the_best_generator_leaves_out_what_classes_share():
  found = np.asarray(jax.jit(best_responses)(1.0))  # q(x | y)
  # One of the two keeps the shared symbol, the other is left with a single one.
  assert 0.3 < found[:, 1].max() < 0.5 and found[:, 1].min() < 0.01
  assert found.max() > 0.99
  alone = np.asarray(jax.jit(best_responses)(0.0))  # without: the marginal is right
  np.testing.assert_allclose(alone.mean(axis=0), P.sum(axis=0), atol=1e-3)
  # At the data's own distribution its loss has a slope away from the shared symbol.
  at_data = jnp.log(2 * P + 1e-9)
  slope = jax.grad(generator_objective, argnums=1)(1.0, at_data, at_data)
  assert slope[0, 1] > 0.01 and slope[1, 1] > 0.01
  nothing = jax.grad(generator_objective, argnums=1)(0.0, at_data, at_data)
  np.testing.assert_allclose(nothing, 0, atol=1e-6)


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match=r'must return \[B, 1 \+ 3\]'):
    method = make(outputs=K)
    state = jax.eval_shape(method.init, jax.random.key(0), batch())
    jax.eval_shape(method.step, state, jax.random.key(1), batch())
  for changes in ({'num_classes': 1}, {'class_weight': -1.0}):
    with pytest.raises(ValueError, match='num_classes >= 2 and class_weight >= 0'):
      make(**changes)
  method = make()
  with pytest.raises(ValueError, match="needs 'label' in its batches"):
    jax.eval_shape(method.init, jax.random.key(0), {'x': batch()['x']})
  state = jax.eval_shape(method.init, jax.random.key(0), batch())
  draw = functools.partial(method.sample, num=2, condition=jnp.arange(3))
  with pytest.raises(ValueError, match='a condition for 2 examples'):
    jax.eval_shape(draw, step_lib.model(state), jax.random.key(0))
