"""BiGAN's step by its formula; on a line, encoder and generator become inverses."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import weights
from compiled import compiled

from gm_jax import priors
from gm_jax.methods import bigan
from gm_jax.models import joint, mlp
from gm_jax.training import step as step_lib

RATE = 0.1
Z = jax.random.normal(jax.random.key(9), (8, 3))
X = 1.0 + jax.random.normal(jax.random.key(8), (8, 2))


def linear(weights, x):
  return x @ weights['Dense_0']['kernel'] + weights['Dense_0']['bias']


def logit(d, x, z):
  return linear(d['head'], jnp.concatenate([x, z], 1))[:, 0]


def test_all_three_players_move_as_the_formula_says():
  method = compiled(bigan.bigan(
    mlp.MLP((2,)), mlp.MLP((3,)), joint.Joint(None, mlp.MLP((1,))),
    optax.sgd(RATE), optax.sgd(RATE), prior=lambda key, num: Z[:num],
  ))  # fmt: skip
  state = method.init(jax.random.key(0), {'x': X})
  after, metrics = method.step(state, jax.random.key(1), {'x': X})
  g, e, d = (state.params[n] for n in ('generator', 'encoder', 'discriminator'))

  def value(d, g, e):  # what D maximizes: ln D(x, E(x)) + ln(1 - D(G(z), z))
    real, fake = logit(d, X, linear(e, X)), logit(d, linear(g, Z), Z)
    return (jnp.log(jax.nn.sigmoid(real)) + jnp.log(jax.nn.sigmoid(-fake))).mean()

  def exchanged(both, d):  # and what G and E maximize: both labels exchanged
    g, e = both
    real, fake = logit(d, X, linear(e, X)), logit(d, linear(g, Z), Z)
    return (jnp.log(jax.nn.sigmoid(-real)) + jnp.log(jax.nn.sigmoid(fake))).mean()

  climbed = functools.partial(jax.tree.map, lambda p, d: p + RATE * d)

  @jax.jit
  def by_hand(g, e, d):
    before, slope = jax.value_and_grad(value)(d, g, e)
    new_d = climbed(d, slope)
    return before, new_d, climbed((g, e), jax.grad(exchanged)((g, e), new_d))

  before, new_d, (new_g, new_e) = by_hand(g, e, d)
  np.testing.assert_allclose(-metrics['discriminator_loss'], before, rtol=1e-5)
  expected = {'generator': new_g, 'encoder': new_e, 'discriminator': new_d}
  chex.assert_trees_all_close(after.params, expected, rtol=1e-4, atol=1e-6)


CRITIC = joint.Joint(None, mlp.MLP((32, 32, 1), activation=jnp.tanh))


@pytest.mark.slow
def test_on_a_line_the_encoder_inverts_the_generator():
  rate = optax.cosine_decay_schedule(0.01, 3000)
  method = compiled(bigan.bigan(
    mlp.MLP((1,)), mlp.MLP((1,)), CRITIC, optax.adam(rate, b1=0.0),
    optax.adam(rate, b1=0.0), prior=priors.normal(1),
  ))  # fmt: skip
  x = 2.0 + 0.5 * jax.random.normal(jax.random.key(1), (3000, 64, 1))
  state = step_lib.init(method, jax.random.key(0), {'x': x[0]}, averaged=True)
  steps = jax.jit(step_lib.train_step(method, ema_decay=0.98))
  model = step_lib.model(steps(state, jax.random.key(2), {'x': x})[0], averaged=True)
  again = method.queries['reconstruct'](model, None, x[0])
  code = method.queries['encode'](model, None, x.reshape(-1, 1)[:4000])
  samples = method.sample(model, jax.random.key(3), 4000)
  assert float(jnp.sqrt(jnp.square(again - x[0]).mean())) < 0.1  # of 0.5
  # The marginals come more slowly: pairs on one line are told apart by them alone.
  np.testing.assert_allclose([code.mean(), code.std()], [0, 1], atol=0.4)
  np.testing.assert_allclose([samples.mean(), samples.std()], [2, 0.5], atol=0.3)


def test_data_and_latents_that_are_no_pairs_are_refused():
  critic = joint.Joint(mlp.MLP((4,)), mlp.MLP((1,)))
  with pytest.raises(ValueError, match='pairs'):
    critic.init(jax.random.key(0), (X, Z[:3]))


def test_a_joint_critic_is_its_head_on_features_beside_latents():
  critic = joint.Joint(mlp.MLP((4,)), mlp.MLP((1,)))
  params = weights.drawn(critic, (X, Z))['params']
  expected = linear(params['head'], jnp.concatenate([linear(params['body'], X), Z], 1))
  found = jax.jit(critic.apply)({'params': params}, (X, Z))
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
