"""Critics of packs and of batches, against what the papers write."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import weights

from gm_jax import augmentation
from gm_jax.models import mlp, remedies

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 3)).astype(np.float32)
IMAGES = RNG.normal(size=(6, 8, 8, 1)).astype(np.float32)


def packed(num):
  critic = remedies.Packed(mlp.MLP((5, 1)), num)
  return critic, weights.drawn(critic, X)


@pytest.mark.parametrize('num', [1, 2, 4])
def test_a_pack_is_its_examples_side_by_side(num):
  critic, variables = packed(num)
  inner = {'params': variables['params']['critic']}
  joined = X.reshape(8 // num, num * 3)
  expected = mlp.MLP((5, 1)).apply(inner, joined)
  out = critic.apply(variables, X, train=True)
  np.testing.assert_allclose(out[:, 0], np.repeat(expected[:, 0], num), rtol=1e-6)
  copies = jnp.concatenate([X] * num, 1)  # not training: a pack of copies
  alone = critic.apply(variables, X)
  np.testing.assert_allclose(alone, mlp.MLP((5, 1)).apply(inner, copies), rtol=1e-6)


def test_gradients_of_means_are_those_of_packs():
  critic, variables = packed(2)

  def mean(params):
    return critic.apply({'params': params}, X, train=True).mean()

  def of_packs(params):
    return mlp.MLP((5, 1)).apply({'params': params['critic']}, X.reshape(4, 6)).mean()

  params = variables['params']
  chex.assert_trees_all_close(jax.grad(mean)(params), jax.grad(of_packs)(params))


def test_images_are_packed_by_channels():
  critic = remedies.Packed(Corner(), 3)
  variables = critic.init(jax.random.key(0), IMAGES)
  out = critic.apply(variables, IMAGES, train=True)
  # Corner sees [2, 8, 8, 3] and gives channel 1: the second of each pack.
  np.testing.assert_allclose(out[:, 0], IMAGES[jnp.array([1] * 3 + [4] * 3), 0, 0, 0])


class Corner(nn.Module):
  """The second channel of the first pixel."""

  @nn.compact
  def __call__(self, x, *, train=False):
    self.param('none', nn.initializers.zeros, ())
    return x[:, 0, 0, 1:2]


def test_packs_that_cannot_be_made_are_refused():
  critic, variables = packed(2)
  with pytest.raises(ValueError, match='7 examples cannot be packed by 2'):
    critic.apply(variables, X[:7], train=True)
  with pytest.raises(ValueError, match='num_packed must be >= 1'):
    remedies.Packed(mlp.MLP((1,)), 0).init(jax.random.key(0), X)


def test_minibatch_stddev_by_loops():
  x = np.asarray(jax.random.normal(jax.random.key(3), (8, 2, 3, 5)))
  out = remedies.minibatch_stddev(jnp.array(x), group_size=4)
  for i in range(8):
    group = x[i % 2 :: 2]  # 4 of them, every second
    std = np.sqrt(group.var(axis=0) + 1e-8).mean()
    np.testing.assert_allclose(out[i, ..., 5], np.full((2, 3), std), rtol=1e-5)
  np.testing.assert_array_equal(out[..., :5], x)
  same = remedies.minibatch_stddev(jnp.ones((4, 3)))
  np.testing.assert_allclose(same[:, 3], 1e-4, rtol=1e-5)  # sqrt(1e-8), no NaN
  slopes = jax.grad(lambda x: remedies.minibatch_stddev(x).sum())(jnp.ones((4, 3)))
  assert np.isfinite(slopes).all()
  with pytest.raises(ValueError, match='group_size must be >= 1'):
    remedies.minibatch_stddev(X, group_size=0)


def test_minibatch_discrimination_by_loops():
  layer = remedies.MinibatchDiscrimination(num_kernels=2, kernel_dim=4)
  variables = layer.init(jax.random.key(4), X)
  out = layer.apply(variables, X)
  tensor = np.asarray(variables['params']['Dense_0']['kernel']).reshape(3, 2, 4)
  m = np.einsum('bf,fkd->bkd', np.asarray(X), tensor)
  expected = [
    [
      sum(np.exp(-np.abs(m[i, k] - m[j, k]).sum()) for j in range(8) if j != i)
      for k in range(2)
    ]
    for i in range(8)
  ]
  np.testing.assert_array_equal(out[:, :3], X)
  np.testing.assert_allclose(out[:, 3:], expected, rtol=1e-4, atol=1e-6)
  collapsed = layer.apply(variables, jnp.broadcast_to(X[:1], X.shape))
  np.testing.assert_allclose(collapsed[:, 3:], 7.0, rtol=1e-6)  # all are near


def test_statistics_stand_between_features_and_the_last_layer():
  critic = remedies.WithStatistics(mlp.MLP((5,)), remedies.minibatch_stddev)
  variables = critic.init(jax.random.key(5), X)
  weights = variables['params']
  features = nn.leaky_relu(mlp.MLP((5,)).apply({'params': weights['body']}, X))
  last = weights['Dense_0']
  expected = remedies.minibatch_stddev(features) @ last['kernel'] + last['bias']
  np.testing.assert_allclose(critic.apply(variables, X), expected, rtol=1e-5)


def test_augmentation_is_only_while_training():
  inner = mlp.MLP((1,))
  critic = remedies.Augmented(inner, augmentation.brightness)
  variables = critic.init(jax.random.key(6), IMAGES)
  plain = {'params': variables['params']['critic']}
  np.testing.assert_array_equal(
    critic.apply(variables, IMAGES), inner.apply(plain, IMAGES)
  )
  first, second = (
    critic.apply(variables, IMAGES, train=True, rngs={'dropout': jax.random.key(i)})
    for i in range(2)
  )
  assert float(jnp.abs(first - second).max()) > 1e-3


def test_strength_is_the_probability_of_augmentation():
  critic = remedies.AdaptivelyAugmented(mlp.MLP((1,)), lambda key, x: x + 9.0)
  variables = dict(critic.init(jax.random.key(7), IMAGES))
  assert variables['augment']['strength'] == 0
  plain = {'params': variables['params']['critic']}
  for strength, shift in ((0.0, 0.0), (1.0, 9.0)):
    variables['augment'] = {'strength': jnp.array(strength)}
    out = critic.apply(
      variables, IMAGES, train=True, rngs={'dropout': jax.random.key(0)}
    )
    expected = mlp.MLP((1,)).apply(plain, IMAGES + shift)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
