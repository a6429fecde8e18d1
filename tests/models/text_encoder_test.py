"""Encoders of texts ignore padding, condition drawing has its limits, critics read."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import base
from gm_jax.models import joint, mlp
from gm_jax.models import text as text_lib

KEY = jax.random.key(0)
TEXTS = np.array([[3, 1, 2, 0, 0], [4, 4, 1, 3, 2], [1, 0, 0, 0, 0]], np.int32)


@pytest.fixture(scope='module')
def encode():
  module = text_lib.TextEncoder(5, 6, width=8, num_layers=2)
  variables = module.init(KEY, TEXTS)
  return lambda tokens: np.asarray(module.apply(variables, np.asarray(tokens)))


@pytest.mark.slow
@pytest.mark.slow
def test_padding_is_ignored_exactly_wherever_it_stands(encode):
  found = encode(TEXTS)
  longer = np.pad(TEXTS, ((0, 0), (0, 4)))
  np.testing.assert_allclose(encode(longer), found, atol=1e-6)
  np.testing.assert_allclose(encode([[3, 1, 2]])[0], found[0], atol=1e-6)
  np.testing.assert_allclose(encode([[0, 3, 0, 1, 2]])[0], found[0], atol=1e-6)


@pytest.mark.slow
def test_a_permuted_batch_has_permuted_features_and_order_of_words_counts(encode):
  found = encode(TEXTS)
  np.testing.assert_allclose(encode(TEXTS[[2, 0, 1]]), found[[2, 0, 1]], atol=1e-6)
  assert np.abs(encode([[2, 1, 3]]) - found[:1]).max() > 1e-2
  assert np.abs(encode([[4, 4, 1, 3, 1]]) - found[1]).max() > 1e-2
  assert np.isfinite(encode(np.zeros((2, 3), np.int32))).all()


def test_a_text_that_is_no_integers_is_refused(encode):
  for wrong in (np.zeros((2, 3)), np.zeros(3, np.int32)):
    with pytest.raises(ValueError, match='a text must be integers'):
      encode(wrong)


class Echo(nn.Module):
  """Gives back the condition it sees."""

  def __call__(self, x, condition, *, train=False):
    return condition


def augmented(log_std):
  module = text_lib.Augmented(Echo(), 3)
  z, text = jax.random.normal(KEY, (1000, 7)), jnp.ones((1000, 2))
  params = module.init(KEY, z, text)
  bias = jnp.concatenate([jnp.array([0.5, 1.0, 2.0]), jnp.full(3, log_std)])
  params = {'params': {'head': {'kernel': jnp.zeros((2, 6)), 'bias': bias}}}
  return module, params, z, text


def test_an_augmented_condition_is_the_gaussian_of_its_moments():
  module, params, z, text = augmented(1.0)
  found = module.apply(params, z, text)
  expected = jnp.array([0.5, 1.0, 2.0]) + jnp.e * z[:, 4:]
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  moments = module.apply(params, z, text, method='moments')
  np.testing.assert_allclose(moments[1][0], [1.0, 1.0, 1.0])
  pair = module.apply(params, (z[:, :4], z[:, 4:]), text)
  np.testing.assert_allclose(pair, found)


def test_without_spread_the_condition_is_the_deterministic_one():
  module, params, z, text = augmented(-200.0)  # s = exp(-40): leaky
  found = module.apply(params, z, text)
  np.testing.assert_allclose(found, jnp.tile(jnp.array([0.5, 1.0, 2.0]), (1000, 1)))


def test_a_spatial_critic_and_a_narrow_layer_read_the_text():
  x = jax.random.normal(KEY, (4, 8, 8, 3))
  texts = jax.random.normal(jax.random.key(1), (4, 5))
  for critic in (
    text_lib.SpatialCritic(4, normalize=False),
    text_lib.Compressed(joint.Projection(mlp.MLP((8,))), 3),
  ):
    variables = critic.init(KEY, x, texts)
    found = critic.apply(variables, x, texts)
    assert found.shape == (4, 1)
    moved = critic.apply(variables, x, texts.at[1].add(1.0)) - found
    assert abs(moved[1, 0]) > 1e-7 and (moved[jnp.array([0, 2, 3])] == 0).all()
  narrow = variables['params']['narrow']['kernel']
  assert narrow.shape == (5, 3)


@pytest.mark.slow
def test_a_refiner_draws_at_twice_and_four_times_the_size_from_image_and_condition():
  x, c = jax.random.normal(KEY, (2, 8, 8, 3)), jnp.ones((2, 5))
  for ratio in (2, 4):
    module = text_lib.Refiner(8 * ratio, 3, 4, num_blocks=1, normalize=False)
    variables = module.init(KEY, x, c)
    found = module.apply(variables, x, c)
    assert found.shape == (2, 8 * ratio, 8 * ratio, 3) and jnp.abs(found).max() < 1
    for changed in ((-x, c), (x, -c)):
      assert jnp.abs(module.apply(variables, *changed) - found).max() > 1e-9
  with pytest.raises(ValueError, match='times a power of two, got 20'):
    text_lib.Refiner(20, 3, 4).init(KEY, x, c)


@pytest.mark.parametrize('shape', [(2, 12, 12, 1), (2, 8, 16, 1), (2, 4, 4, 1)])
def test_a_spatial_critic_refuses_other_sizes(shape):
  with pytest.raises(ValueError, match='square images of 8, 16, 32'):
    text_lib.SpatialCritic(4).init(KEY, jnp.zeros(shape), jnp.zeros((2, 3)))


def test_features_of_unit_length():
  x: base.Array = jnp.array([[3.0, 4.0], [0.0, 0.0]])
  np.testing.assert_allclose(text_lib.as_unit(x), [[0.6, 0.8], [0, 0]], atol=1e-6)
