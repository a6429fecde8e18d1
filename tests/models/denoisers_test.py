"""Denoisers: zero at first, every example alone, every parameter and input in use."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import weights

from gm_jax.models import denoisers, dit, unet

KEY = jax.random.key(0)
E = 3
T = np.array([-2.5, 0.3, 700.0], np.float32)
NETWORKS = {
  'mlp': (denoisers.ResidualMLP(6, 2, dropout=0.5), (5,)),
  'unet': (unet.UNet(4, (1, 2), 1, (1,), 2, dropout=0.5), (4, 6, 2)),
  'dit': (dit.DiT(2, 8, 1, 2, 2), (4, 6, 2)),
}


def dense(inputs, outputs, size=1):
  return (size * size * inputs + 1) * outputs


def unet_block(i, o):
  norms, convs = 2 * i + 2 * o, dense(i, o, 3) + dense(o, o, 3)
  return norms + convs + dense(16, 2 * o) + (dense(i, o) if i != o else 0)


ATTENTION = 2 * 8 + 8 * 24 + dense(8, 8)  # norm, queries and keys and values, output
SIZES = {
  'mlp': 2 * dense(6, 6) + E * 6  # embedding
  + dense(5, 6) + 2 * (2 * 6 + dense(6, 6) + dense(6, 12) + 2 * 6 + dense(6, 6))
  + 2 * 6 + dense(6, 5),
  'unet': dense(4, 16) + dense(16, 16) + E * 16
  + dense(2, 4, 3) + unet_block(4, 4) + dense(4, 4, 4) + unet_block(4, 8) + ATTENTION
  + 2 * unet_block(8, 8) + ATTENTION
  + unet_block(8 + 8, 8) + unet_block(8 + 4, 8) + 2 * ATTENTION + dense(8, 8, 4)
  + unet_block(8 + 4, 4) + unet_block(4 + 4, 4) + 2 * 4 + dense(4, 2, 3),
  'dit': 2 * dense(8, 8) + E * 8
  + dense(4 * 2, 8) + dense(8, 6 * 8) + 8 * 24 + dense(8, 8) + dense(8, 16)
  + dense(16, 8) + dense(8, 2 * 8) + dense(8, 4 * 2),
}  # fmt: skip


@functools.cache
def network(name):
  """Inputs, parameters from N(0, 1/4), and outputs and gradients as one program."""
  module, shape = NETWORKS[name]
  rng = np.random.default_rng(0)
  x, c, cotangent = (
    rng.normal(size=(3, *s)).astype(np.float32) for s in (shape, (E,), shape)
  )
  variables = weights.drawn(module, x, T, c, std=0.5)

  @jax.jit
  def run(x, t, c, variables):
    outputs, pull = jax.vjp(lambda v: module.apply(v, x, t, c), variables)
    return outputs, pull(cotangent)[0]['params']

  return module, variables, run, x, c


@pytest.mark.parametrize(
  'name', ['mlp', 'dit', pytest.param('unet', marks=pytest.mark.slow)]
)
def test_it_begins_as_zero_whatever_it_sees(name):
  module, variables, run, x, c = network(name)

  @jax.jit
  def init(key):
    return module.init(key, x, T, c)['params']['last']

  params = variables['params'] | {'last': init(jax.random.key(0))}  # all else is drawn
  outputs, _ = run(x, T, c, {'params': params})
  np.testing.assert_array_equal(outputs, np.zeros_like(x))
  assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == SIZES[name]


@pytest.mark.parametrize(
  'name', ['mlp', 'dit', pytest.param('unet', marks=pytest.mark.slow)]
)
def test_every_example_is_alone_and_its_time_and_condition_matter(name):
  _, variables, run, x, c = network(name)
  whole, _ = run(x, T, c, variables)
  assert whole.shape == x.shape
  for i in range(3):
    alone, _ = run(*(np.stack([v[i]] * 3) for v in (x, T, c)), variables)
    np.testing.assert_allclose(alone[1], whole[i], rtol=1e-5, atol=1e-5)
  for inputs in ((x + 0.1, T, c), (x, T + 0.1, c), (x, T, c + 0.1)):
    other, _ = run(*inputs, variables)
    assert np.abs(other - whole).reshape(3, -1).max(1).min() > 1e-3


@pytest.mark.parametrize('name', NETWORKS)
def test_the_gradient_reaches_every_parameter(name):
  _, variables, run, x, c = network(name)
  _, slopes = run(x, T, c, variables)
  for path, slope in jax.tree.leaves_with_path(slopes):
    assert np.abs(slope).min() > 0, path
    assert np.abs(slope).max() > 1e-3, path


@pytest.mark.parametrize('name', ['mlp', 'unet'])
def test_features_are_dropped_in_training_alone(name):
  module, variables, run, x, c = network(name)

  @jax.jit
  def train(key):
    return module.apply(variables, x, T, c, train=True, rngs={'dropout': key})

  first, second = map(train, jax.random.split(jax.random.key(0)))
  for other in (
    second,
    run(x, T, c, variables)[0],
  ):  # which drops nothing, and needs no key
    assert np.abs(first - other).reshape(3, -1).max(1).min() > 1e-3


def test_sinusoids_are_the_formula_and_their_products_see_differences_alone():
  t, s, size = np.array([-3.7, 0.0, 0.25, 950.0]), np.array([2.0, -1.0, 0.25, 40.0]), 6
  frequencies = [1.0, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3)]
  waves = [[f(w * v) for f in (np.cos, np.sin) for w in frequencies] for v in t]
  of_t, of_s = (np.asarray(denoisers.sinusoids(jnp.array(v), size)) for v in (t, s))
  np.testing.assert_allclose(of_t, waves, atol=1e-4)
  expected = np.cos(np.multiply.outer(t - s, frequencies)).sum(1)
  np.testing.assert_allclose((of_t * of_s).sum(1), expected, atol=2e-4)


def test_no_condition_is_a_condition_of_zeros():
  module = denoisers.TimeEmbedding(4, 2)
  variables = weights.drawn(module, T, np.ones((3, E)))
  zeros, none = (module.apply(variables, T, c) for c in (np.zeros((3, E)), None))
  np.testing.assert_array_equal(zeros, none)


class Seen(nn.Module):
  """Returns what it sees."""

  outputs: int | None

  def __call__(self, x, t, condition, *, train):
    return x


def test_fourier_features_are_waves_beside_x():
  z = np.random.default_rng(0).uniform(-1, 1, (2, 3, 4)).astype(np.float32)
  found = denoisers.FourierFeatures(Seen(4)).apply({}, z, T[:2])
  angles = [np.float64(z) * 2 * np.pi * 2**n for n in (6, 7)]
  waves = [f(angle) for angle in angles for f in (np.sin, np.cos)]
  np.testing.assert_allclose(found, np.concatenate([z, *waves], -1), atol=2e-4)
  with pytest.raises(ValueError, match='outputs of the network'):
    denoisers.FourierFeatures(Seen(None)).apply({}, z, T[:2])


@pytest.mark.parametrize(
  ('x', 't', 'c', 'message'),
  [
    ((3, 2, 2), (3,), (3, 1), r'x must be \[B, D\], got \(3, 2, 2\)'),
    ((3, 2), (1,), (3, 1), r't of x \(3, 2\) must be \[3\], got \(1,\)'),
    ((3, 2), (3, 1), (3, 1), r'must be \[3\], got \(3, 1\)'),
    ((3, 2), (3,), (3,), r'the condition of x \(3, 2\) must be \[3, E\], got \(3,\)'),
  ],
)
def test_other_shapes_are_refused(x, t, c, message):
  with pytest.raises(ValueError, match=message):
    denoisers.ResidualMLP(4).init(jax.random.key(0), *map(np.zeros, (x, t, c)))


def test_an_odd_embedding_is_refused():
  with pytest.raises(ValueError, match='must be even, got 3'):
    denoisers.sinusoids(T, 3)


@pytest.mark.slow
def test_self_conditioning_shows_the_first_output_without_its_gradient():
  """F(x, stop F(x, 0)), and F(x, 0) of the examples that training shows none."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(64, 5)).astype(np.float32)
  t = np.linspace(-1, 1, 64, dtype=np.float32)
  inner = denoisers.ResidualMLP(6, 1, outputs=5)
  module = denoisers.SelfConditioned(inner)
  variables = weights.drawn(module, x, t, None, std=0.5)
  own = {'params': variables['params']['network']}

  def twice(own, first):
    beside = inner.apply(first, np.concatenate([x, 0 * x], 1), t)
    return inner.apply(own, jnp.concatenate([x, beside], 1), t), beside

  @jax.jit
  def run(own, key):
    found = module.apply({'params': {'network': own['params']}}, x, t)
    shown = module.apply(
      {'params': {'network': own['params']}}, x, t, train=True, rngs={'dropout': key}
    )
    return found, shown

  found, shown = run(own, jax.random.key(0))
  expected, first = twice(own, own)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
  by_first = np.abs(shown - expected).max(axis=1) < 1e-4
  by_zero = np.abs(shown - first).max(axis=1) < 1e-4
  assert (by_first ^ by_zero).all() and 16 < by_first.sum() < 48  # half of 64

  grads = jax.grad(lambda own: jnp.sum(run(own, jax.random.key(0))[0] ** 2))(own)
  expected = jax.grad(lambda v: jnp.sum(twice(v, own)[0] ** 2))(own)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), grads, expected
  )
  with pytest.raises(ValueError, match='must be 5, got None'):
    denoisers.SelfConditioned(denoisers.ResidualMLP(6, 1)).init(KEY, x, t)
