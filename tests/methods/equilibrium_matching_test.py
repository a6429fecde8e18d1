"""Equilibrium matching beside the field that is best, by quadrature of the noise."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from gm_jax import base, conditions, equilibrium
from gm_jax.methods import equilibrium_matching as eqm
from gm_jax.samplers import descent

MEAN, STD, NUM = 0.7, 0.5, 100_000  # of one number, Gaussian
NODES = np.linspace(-6.0, 6.0, 481)
KEY = jax.random.key(0)


def quadrature(size=200):
  """Points g of [0, 1] with weights, on both sides of where c has its edge."""
  points, weights = np.polynomial.legendre.leggauss(size)
  g = np.concatenate([0.4 * (points + 1), 0.8 + 0.1 * (points + 1)])
  return g, np.concatenate([0.4 * weights, 0.1 * weights])


def c(g):
  return np.where(g <= 0.8, 4.0, 20.0 * (1 - g))


def densities(y):
  """p(y | g) with the weights of g, and E[e - x | y, g], [Y, G] each."""
  g, weights = quadrature()
  var = (g * STD) ** 2 + (1 - g) ** 2
  off = y[:, None] - g * MEAN
  p = stats.norm.pdf(off, scale=np.sqrt(var)) * weights
  return p, ((1 - g) - g * STD**2) / var * off - MEAN


def optimal(y):
  p, difference = densities(y)
  return (p * c(quadrature()[0]) * difference).sum(1) / p.sum(1)


def mean_square(field):
  """E of the square of a field [Y] at the nodes, over x_g."""
  return (densities(NODES)[0].sum(1) * field**2).sum() * (NODES[1] - NODES[0])


# E c^2 (e - x)^2, whose first factor is 16 (0.8 + 0.2 / 3).
TOTAL = 16 * (0.8 + 0.2 / 3) * (1 + STD**2 + MEAN**2)


class Table(nn.Module):
  """A function of one number, linear in its values at the nodes."""

  @nn.compact
  def __call__(self, x, t, condition=None, *, train=False):
    values = self.param('values', nn.initializers.zeros, NODES.shape)
    return jnp.interp(x, jnp.asarray(NODES, x.dtype), values)


class Linear(nn.Module):
  """F(x) = A x."""

  @nn.compact
  def __call__(self, x, t, condition=None, *, train=False):
    matrix = self.param('matrix', nn.initializers.normal(), (x.shape[1],) * 2)
    return x @ matrix.T


def params(**values):
  return {'network': jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), values)}


def of_numbers():
  return eqm.equilibrium_matching(Table(), optax.sgd(1.0), shape=(1,), energy=None)


@functools.cache
def moved():
  """(values at the nodes, key) -> the loss and its gradient, of Gaussian numbers."""
  method = of_numbers()
  x = MEAN + STD * jax.random.normal(jax.random.key(5), (NUM, 1))
  state = method.init(KEY, {'x': x})

  @jax.jit
  def step(values, key):
    start = state._replace(params=params(values=values))
    after, metrics = method.step(start, key, {'x': x})
    return metrics['loss'], values - after.params['network']['values']

  return step


def test_the_decay_is_a_constant_then_a_line():
  g = np.array([0.0, 0.3, 0.8, 0.85, 0.95, 1.0])
  found = equilibrium.truncated()(jnp.asarray(g))
  np.testing.assert_allclose(found, [4, 4, 4, 3, 1, 0], rtol=1e-5, atol=1e-6)
  line = equilibrium.truncated(0.0, 2.0)(jnp.asarray(g))
  np.testing.assert_allclose(line, 2 * (1 - g), rtol=1e-6, atol=1e-7)


def test_the_loss_of_a_field_is_the_least_and_its_distance_from_the_best():
  best = optimal(NODES)
  least = TOTAL - mean_square(best)
  for field in (best, 0.0 * best, 4 * (NODES - MEAN), best + 1.0):
    found, _ = moved()(jnp.float32(field), KEY)
    expected = least + mean_square(field - best)
    # Errors squared have deviations of about twice their mean, or less.
    assert abs(float(found) / expected - 1) < 5 * 2 / np.sqrt(NUM)


def test_the_gradient_vanishes_at_the_best_field():
  best = optimal(NODES)
  _, gradient = moved()(jnp.float32(best), jax.random.key(1))
  width = NODES[1] - NODES[0]
  mass = densities(NODES)[0].sum(1) * width  # of the hat around a node
  # The variance of 2 (f - target) hat, E hat^2 = 2/3 of the mass, |target| < 4 * 5.
  bound = 5 * 2 * 6 * np.sqrt(2 / 3 * mass / NUM) + 1e-4
  assert (np.abs(gradient) < bound).all()
  _, other = moved()(jnp.float32(best + 1.0), jax.random.key(1))
  np.testing.assert_allclose(other.sum(), 2.0, rtol=0.05)  # and only there


def test_of_a_gaussian_number_all_descents_end_at_the_one_zero_of_the_field():
  best = optimal(NODES)
  zeros = NODES[1:][np.diff(np.sign(best)) != 0]
  assert len(zeros) == 1
  model = base.Model(params(values=best), {})
  draw = jax.jit(of_numbers().queries['sample_info'], static_argnums=2)
  x, info = draw(model, KEY, 64, num_steps=jnp.array(1000))
  assert np.asarray(x).std() < 0.01 and abs(zeros[0] - 1.2) < 0.03
  np.testing.assert_allclose(x, zeros[0], atol=0.03)
  slope = np.interp(np.asarray(x)[:, 0], NODES, best)
  np.testing.assert_allclose(info['gradient_norm'], np.abs(slope), atol=1e-4)


MATRIX = np.random.default_rng(0).normal(size=(3, 3))
FIELDS = {
  'dot': (equilibrium.dot, MATRIX + MATRIX.T),
  'squared_norm': (equilibrium.squared_norm, MATRIX.T @ MATRIX),
  'none': (None, MATRIX),
}


@pytest.mark.parametrize('name', FIELDS)
def test_energies_of_a_linear_network_are_quadratic(name):
  energy, form = FIELDS[name]
  method = eqm.equilibrium_matching(Linear(), optax.sgd(1.0), shape=(3,), energy=energy)
  model = base.Model(params(matrix=MATRIX), {})
  x = np.random.default_rng(1).normal(size=(4, 3))
  score = method.queries['score'](model, None, jnp.float32(x), jnp.zeros(4))
  np.testing.assert_allclose(score, -x @ form.T, rtol=1e-4, atol=1e-5)
  assert ('energy' in method.queries) == (energy is not None)
  if energy is not None:
    found = method.queries['energy'](model, None, jnp.float32(x))
    expected = 0.5 * np.einsum('bi,ij,bj->b', x, form, x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_step_is_that_of_numpy_through_the_gradient_of_the_energy():
  method = eqm.equilibrium_matching(Linear(), optax.sgd(1.0), shape=(3,))
  x = np.random.default_rng(2).normal(size=(8, 3))
  batch = {'x': jnp.float32(x)}
  state = method.init(KEY, batch)._replace(params=params(matrix=MATRIX))
  after, metrics = jax.jit(method.step)(state, KEY, batch)
  t_key, noise_key, *_ = jax.random.split(KEY, 4)
  g = 1 - np.asarray(jax.random.uniform(t_key, (8,)), float)[:, None]
  e = np.asarray(jax.random.normal(noise_key, (8, 3)), float)
  x_g = g * x + (1 - g) * e
  rest = x_g @ (MATRIX + MATRIX.T) - c(g) * (e - x)
  np.testing.assert_allclose(metrics['loss'], np.mean(rest**2), rtol=1e-4)
  product = np.einsum('bi,bj->ij', rest, x_g) * 2 / rest.size
  expected = MATRIX - (product + product.T)
  np.testing.assert_allclose(
    after.params['network']['matrix'], expected, rtol=1e-3, atol=1e-4
  )


SIDE = np.full(16, 1.0)  # data lie there and at its opposite


class Exact(nn.Module):
  """The best field of the two points, or of the one that a class names."""

  @nn.compact
  def __call__(self, x, t, condition=None, *, train=False):
    unused = self.param('unused', nn.initializers.zeros, ())
    g, weights = (jnp.asarray(v, x.dtype) for v in quadrature(32))
    apart = x[:, None, None] - jnp.stack([SIDE, -SIDE]) * g[:, None, None]
    log_p = -0.5 * jnp.square(apart).sum(-1) / jnp.square(1 - g)[:, None]
    log_p += (jnp.log(weights) - len(SIDE) * jnp.log(1 - g))[:, None]
    if condition is not None:  # without a class it is of zeros
      known = condition.sum(1, keepdims=True) > 0
      log_p += jnp.where(known & (condition == 0), -jnp.inf, 0.0)[:, None]
    p = jax.nn.softmax(log_p.reshape(len(x), -1)).reshape(log_p.shape)
    # Of a point y, E[e - x] is (y - x) / (1 - g).
    p *= (4 * jnp.minimum(1.0, 5 * (1 - g)) / (1 - g))[:, None]
    ends = x * p.sum((1, 2))[:, None] - p.sum(1) @ jnp.stack([SIDE, -SIDE])
    return ends + unused


def of_points(**options):
  condition = conditions.optional(conditions.by_class(2), 0.1)
  return eqm.equilibrium_matching(
    Exact(), optax.sgd(1.0), shape=(16,), energy=None, condition=condition, **options
  )


def test_samples_of_two_points_are_these_points_and_those_of_a_class_are_its_own():
  method = of_points(descents=descent.Steps(150, 0.006, 0.3))
  model = base.Model(params(unused=0.0), {})
  draw = jax.jit(
    method.queries['sample_info'], static_argnums=2, static_argnames='guidance'
  )
  x, info = draw(model, KEY, 64)
  side = np.sign(np.asarray(x).mean(1))
  np.testing.assert_allclose(x, side[:, None] * SIDE, atol=1e-3)
  assert info['gradient_norm'].max() < 0.05
  assert stats.binomtest(int((side > 0).sum()), 64).pvalue > 0.01
  label = jnp.arange(64) % 2
  for guidance in (1.0, 2.0):
    x, _ = draw(model, KEY, 64, condition=label, guidance=guidance)
    np.testing.assert_allclose(x[:, 0], 1 - 2 * label, atol=1e-3)
  # One step beyond the class's field, from that without a class.
  start = jax.random.normal(KEY, (64, 16))
  score = functools.partial(method.queries['score'], model, None, start, label)
  weak, strong = score(), score(condition=label)
  assert np.abs(strong - weak).max() > 1
  x, _ = draw(model, KEY, 64, condition=label, guidance=2.0, num_steps=jnp.array(1))
  expected = start + 0.006 * (2 * strong - weak)
  np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-4)


def test_the_noise_that_descent_leaves_is_that_of_the_straight_way():
  left = 1.0  # 1 - g
  for _ in range(120):
    left -= 0.003 * float(c(1 - left))
  assert abs(left - 0.007) < 0.0005
  draw = jax.jit(of_points().sample, static_argnums=2)
  model, label = base.Model(params(unused=0.0), {}), jnp.zeros(64, int)
  x = draw(model, KEY, 64, condition=label)
  start = jax.random.normal(KEY, (64, 16))
  ratio = np.linalg.norm(x - SIDE, axis=1) / np.linalg.norm(start - SIDE, axis=1)
  # How far a start is seen to be depends on its length: of 16 numbers, off by a fifth.
  np.testing.assert_allclose(ratio.mean(), left, rtol=0.15)


def test_what_does_not_fit_is_one_line():
  method, x = of_numbers(), jnp.zeros((2, 3))
  model = base.Model(params(values=NODES), {})
  for call, word in (
    (lambda: method.init(KEY, {'x': x}), r'x must be \[B, 1\], got \(2, 3\)'),
    (lambda: method.queries['score'](model, KEY, x, x[0]), r'x must be \[B, 1\]'),
    (lambda: method.sample(model, KEY, 2, guidance=2.0), 'guidance = 2 needs a'),
    (lambda: method.sample(model, KEY, 2, num_steps=0), 'num_steps must be >= 1'),
    (lambda: method.sample(model, KEY, 2, step_size=-1.0), 'step_size must be > 0'),
    (lambda: equilibrium.truncated(1.0), r'threshold must be in \[0, 1\)'),
    (lambda: equilibrium.truncated(scale=0.0), 'and scale > 0, got 0.8 and 0.0'),
  ):
    with pytest.raises(ValueError, match=word) as error:
      call()
    assert '\n' not in str(error.value)
