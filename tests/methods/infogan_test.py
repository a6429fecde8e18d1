"""InfoGAN's step by the paper's formula; the bound where it can be computed."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compiled import compiled

from gm_jax import priors
from gm_jax.losses import adversarial
from gm_jax.methods import infogan
from gm_jax.models import mlp
from gm_jax.training import step as step_lib

CODES = infogan.Codes(priors.normal(2), 3, 1)  # z: 2 + 3 + 1 = 6 numbers
RATE, WEIGHT = 0.1, 0.3


def make(weight=WEIGHT, continuous=WEIGHT):
  parts = {
    'generator': mlp.MLP((2,)),
    'discriminator': mlp.MLP((4, 1)),
    'posterior': mlp.MLP((5,)),  # 3 logits, a mean, a standard deviation
  }
  txs = {f'{player}_tx': optax.sgd(RATE) for player in 'gdq'}
  return infogan.infogan(
    **parts, **txs, codes=CODES, information_weight=weight, continuous_weight=continuous
  )


def moved(rate, f, *args):
  """The first argument of f, moved up its gradient."""

  def up(first, *others):
    slope = jax.grad(f)(first, *others)
    return jax.tree.map(lambda p, d: p + rate * d, first, slope)

  return jax.jit(up)(*args)


def batch(key=0):
  return {'x': jax.random.normal(jax.random.key(key), (16, 2))}


def linear(weights, x):
  return x @ weights['Dense_0']['kernel'] + weights['Dense_0']['bias']


def bound(q, g, inputs):
  """E ln Q(c | G(z, c)) + H(c), in numpy's words."""
  out = linear(q, linear(g, inputs.z))
  log_softmax = out[:, :3] - jnp.log(jnp.exp(out[:, :3]).sum(1, keepdims=True))
  class_bound = log_softmax[jnp.arange(16), inputs.label] + np.log(3)
  std = jnp.log1p(jnp.exp(out[:, 4])) + 0.01
  error = (inputs.continuous[:, 0] - out[:, 3]) / std
  number_bound = -0.5 * error**2 - jnp.log(std * np.sqrt(2 * np.pi)) + np.log(2)
  return (class_bound + number_bound).mean()


@pytest.mark.slow
def test_posterior_and_generator_climb_the_bound(monkeypatch):
  inputs = []
  draw = infogan.draw
  monkeypatch.setattr(
    infogan, 'draw', lambda *args: inputs.append(draw(*args)) or inputs[-1]
  )
  method = make()
  state = jax.jit(method.init)(jax.random.key(0), batch())
  inputs.clear()
  after, metrics = method.step(state, jax.random.key(1), batch())
  first, second = inputs
  g, q = state.params['generator'], state.params['posterior']
  new_q = moved(RATE, bound, q, g, first)
  chex.assert_trees_all_close(after.params['posterior'], new_q, rtol=1e-4, atol=1e-6)

  critic = functools.partial(
    mlp.MLP((4, 1)).apply, {'params': after.params['discriminator']}
  )

  def g_loss(g):
    fooled = jnp.log1p(jnp.exp(-critic(linear(g, second.z)))).mean()
    return fooled - WEIGHT * bound(new_q, g, second)

  new_g = moved(-RATE, g_loss, g)
  chex.assert_trees_all_close(after.params['generator'], new_g, rtol=1e-4, atol=1e-6)
  total = metrics['information_class'] + metrics['information_continuous']
  np.testing.assert_allclose(total, jax.jit(bound)(new_q, g, second), rtol=1e-4)


def test_without_weight_it_is_the_plain_gan_and_q_still_learns():
  method = compiled(make(0.0, 0.0))
  state = method.init(jax.random.key(0), batch())
  after, _ = method.step(state, jax.random.key(1), batch())
  chex.assert_trees_all_equal_shapes(after, state)
  weighted, _ = compiled(make()).step(state, jax.random.key(1), batch())
  for player in ('discriminator', 'posterior'):
    chex.assert_trees_all_close(after.params[player], weighted.params[player])
  # The generator's step is a plain GAN's on the same noise against the same critic.
  *_, g_c_key, _ = jax.random.split(jax.random.key(1), 6)
  z = infogan.draw(CODES, g_c_key, 16).z
  critic = mlp.MLP((4, 1))

  def g_loss(g):
    logits = critic.apply({'params': after.params['discriminator']}, linear(g, z))[:, 0]
    return adversarial.NON_SATURATING.generator(logits, logits).mean()

  g = state.params['generator']
  new_g = moved(-RATE, g_loss, g)
  chex.assert_trees_all_close(after.params['generator'], new_g, rtol=1e-5, atol=1e-7)


def test_condition_is_the_class_of_the_code():
  method = compiled(make())
  state = method.init(jax.random.key(0), batch())
  kernel = jnp.zeros((6, 2)).at[2:5, 0].set(jnp.arange(3.0))  # x_0 = the class
  dense = {'kernel': kernel, 'bias': jnp.zeros(2)}
  state.params['generator'] = {'Dense_0': dense}
  model = step_lib.model(state)
  label = jnp.array([2, 0, 1, 1])
  x = method.sample(model, jax.random.key(1), 4, condition=label)
  np.testing.assert_array_equal(x[:, 0], label)
  inputs = method.sample(model, jax.random.key(2), 3000)[:, 0]
  counts = np.bincount(np.asarray(inputs, int), minlength=3)
  assert abs(counts - 1000).max() < 4 * np.sqrt(3000 * 2 / 9)  # binomial


def test_a_posterior_that_knows_everything_reaches_the_entropy():
  inputs = infogan.draw(CODES, jax.random.key(0), 1000)
  sure = infogan.Posterior(
    60.0 * jax.nn.one_hot(inputs.label, 3), inputs.continuous, jnp.full((1000, 1), 0.01)
  )
  class_bound, number_bound = infogan.information(sure, inputs)
  np.testing.assert_allclose(class_bound, np.log(3), rtol=1e-6)
  expected = np.log(2) - np.log(0.01 * np.sqrt(2 * np.pi))  # a density may exceed 1
  np.testing.assert_allclose(number_bound, expected, rtol=1e-5)
  # One that knows nothing: the prior's class, a Gaussian as wide as is best.
  nothing = infogan.Posterior(
    jnp.zeros((1000, 3)), jnp.zeros((1000, 1)), jnp.full((1000, 1), 3**-0.5)
  )
  class_bound, number_bound = infogan.information(nothing, inputs)
  np.testing.assert_allclose(class_bound, 0, atol=1e-6)
  expected = np.log(2) - 0.5 * np.log(2 * np.pi * np.e / 3)  # -0.176: not the truth, 0
  np.testing.assert_allclose(number_bound.mean(), expected, atol=0.03)


def test_classes_alone_have_no_bound_of_numbers():
  codes = infogan.Codes(priors.normal(2), 3)
  inputs = infogan.draw(codes, jax.random.key(0), 5)
  assert inputs.z.shape == (5, 5)
  posterior = infogan.as_posterior(codes, jnp.zeros((5, 3)))
  class_bound, number_bound = infogan.information(posterior, inputs)
  np.testing.assert_allclose(class_bound, 0, atol=1e-6)
  np.testing.assert_array_equal(number_bound, 0)


def test_wrong_codes_and_weights_are_refused():
  with pytest.raises(ValueError, match='3 logits and 1 means'):
    infogan.as_posterior(CODES, jnp.zeros((2, 4)))
  with pytest.raises(ValueError, match='information must be >= 0'):
    make(-1.0)
  with pytest.raises(ValueError, match='num_classes >= 2'):
    infogan.infogan(*[None] * 6, codes=infogan.Codes(priors.normal(1), 1))
