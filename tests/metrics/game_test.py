"""Diagnostics of games against linear fields and divergences known in closed form."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.losses import divergence, f_divergence
from gm_jax.methods import simultaneous_gan
from gm_jax.metrics import game
from gm_jax.models import mlp

MATRIX = np.random.default_rng(0).normal(size=(12, 12))


def field(w):
  """v = J w over a tree of two leaves."""
  v = jnp.asarray(MATRIX) @ jnp.concatenate([w['a'], w['b'].ravel()])
  return {'a': v[:4], 'b': v[4:].reshape(2, 4)}


def point(dtype=jnp.float32):
  keys = jax.random.split(jax.random.key(0))
  return {'a': jax.random.normal(keys[0], (4,), dtype),
          'b': jax.random.normal(keys[1], (2, 4), dtype)}  # fmt: skip


def ordered(values):
  return np.array(sorted(np.asarray(values), key=lambda v: (-abs(v), v.imag)))


def test_eigenvalues_are_those_of_the_jacobian():
  with jax.enable_x64(True):
    w = point(jnp.float64)
    np.testing.assert_allclose(game.jacobian(field, w), MATRIX, atol=1e-12)
    found = game.eigenvalues(field, w)
  expected = ordered(np.linalg.eigvals(MATRIX))
  np.testing.assert_allclose(ordered(found), expected, atol=1e-9)


def test_arnoldi_of_full_length_is_exact_and_of_part_finds_the_outermost():
  with jax.enable_x64(True):
    full = game.leading_eigenvalues(
      field, point(jnp.float64), jax.random.key(1), num_iterations=12
    )
    expected = ordered(np.linalg.eigvals(MATRIX))
    np.testing.assert_allclose(ordered(full), expected, atol=1e-8)

    # A field with an outlying pair among 200: 8 products find it.
    n = 200
    big = np.random.default_rng(1).normal(size=(n, n)) / n**0.5
    big[:2, :] = big[:, :2] = 0.0
    big[:2, :2] = [[3.0, 4.0], [-4.0, 3.0]]

    def large(w):
      return jnp.asarray(big) @ w

    w = jnp.ones(n)
    found = game.leading_eigenvalues(large, w, jax.random.key(2), num_iterations=20)
  np.testing.assert_allclose(ordered(found)[:2], ordered([3 + 4j, 3 - 4j]), atol=1e-6)
  with pytest.raises(ValueError, match=r'must be in \[1, 12\], got 13'):
    game.leading_eigenvalues(field, point(), jax.random.key(0), num_iterations=13)


def test_arnoldi_in_a_small_invariant_space_gives_zeros_for_what_is_missing():
  # J = 2 I: the Krylov space of any vector is one line.
  found = game.leading_eigenvalues(
    lambda w: 2.0 * w, jnp.ones(6), jax.random.key(0), num_iterations=4
  )
  np.testing.assert_allclose(np.asarray(found)[0], 2.0, rtol=1e-5)
  np.testing.assert_allclose(np.asarray(found)[1:], 0.0, atol=1e-4)


@pytest.mark.parametrize(('a', 'b'), [(0.3, 2.0), (-0.5, 1.0), (1.0, 0.0)])
def test_turning_of_a_spiral(a, b):
  spiral = jnp.array([[a, b], [-b, a]])
  found = game.local_dynamics(lambda w: spiral @ w, jnp.array([0.4, -1.3]))
  np.testing.assert_allclose(found.attraction, a, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(found.rotation, abs(b), rtol=1e-5, atol=1e-6)
  at_rest = game.local_dynamics(lambda w: spiral @ w, jnp.zeros(2))
  assert at_rest == (0.0, 0.0)


@pytest.mark.parametrize('scale', [1e-22, 1e-10, 1e20])
def test_turning_where_the_squares_of_a_saturated_field_have_no_float(scale):
  spiral = jnp.array([[0.3, 2.0], [-2.0, 0.3]])
  point, key = jnp.array([0.4, -1.3]), jax.random.key(0)
  found = game.local_dynamics(lambda w: scale * (spiral @ w), point)
  np.testing.assert_allclose(np.array(found) / scale, [0.3, 2.0], rtol=1e-5)
  for values in (
    game.leading_eigenvalues(lambda w: scale * (spiral @ w), point, key,
                             num_iterations=2),
    game.eigenvalues(lambda w: scale * (spiral @ w), point),
  ):  # fmt: skip
    values = np.asarray(values) / scale
    np.testing.assert_allclose(values.real, 0.3, rtol=1e-5)
    np.testing.assert_allclose(np.sort(values.imag), [-2.0, 2.0], rtol=1e-5)
  slopes = game.slopes(lambda x: scale * (3.0 * x[:, 0] - 4.0 * x[:, 1]), point[None])
  np.testing.assert_allclose(slopes / scale, [5.0], rtol=1e-5)


def test_a_gradient_field_does_not_turn():
  with jax.enable_x64(True):
    loss = lambda w: jnp.sum(jnp.sin(w) * jnp.roll(w, 1)) ** 2  # noqa: E731
    found = game.local_dynamics(jax.grad(loss), jnp.array([0.3, -1.0, 2.0]))
  assert abs(found.rotation) < 1e-9 < abs(found.attraction)


def test_the_field_of_the_dirac_gan_turns_without_attraction():
  # Mescheder et al., 2018: generator theta, critic psi x, both at 0; eigenvalues +-i/2.
  class Point(nn.Module):
    @nn.compact
    def __call__(self, z, *, train=False):
      theta = self.param('theta', nn.initializers.zeros, (1,))
      return jnp.broadcast_to(theta, (z.shape[0], 1))

  class Line(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
      return x * self.param('psi', nn.initializers.zeros, (1,))

  v = simultaneous_gan.vector_field(Point(), Line())
  params = {
    'generator': {'theta': jnp.zeros(1)},
    'discriminator': {'psi': jnp.zeros(1)},
  }
  real, z = jnp.zeros((4, 1)), jnp.zeros((4, 1))
  found = jax.jit(
    lambda params: game.eigenvalues(
      lambda p: v(p, {}, jax.random.key(0), real, z)[0], params
    )
  )(params)
  np.testing.assert_allclose(ordered(found), ordered([0.5j, -0.5j]), atol=1e-6)


def test_slopes_of_a_linear_critic_and_below_the_product_of_norms():
  w = jnp.array([3.0, -4.0])
  found = game.slopes(lambda x: x @ w + 1.0, jnp.ones((7, 2)))
  np.testing.assert_allclose(found, 5.0, rtol=1e-6)
  net = mlp.MLP((16, 16, 1))
  x = 3.0 * jax.random.normal(jax.random.key(0), (500, 2))
  params = jax.jit(net.init)(jax.random.key(1), x)['params']
  slopes = jax.jit(
    functools.partial(game.slopes, lambda x: net.apply({'params': params}, x)[:, 0])
  )
  found = slopes(x)
  norms = [np.linalg.norm(layer['kernel'], 2) for layer in params.values()]
  assert 0 < found.max() <= np.prod(norms) * (1 + 1e-5)
  # Quotients of values cannot exceed the largest slope on the way.
  a, b = jnp.array([0.3, -0.2]), jnp.array([0.31, -0.2])
  value = net.apply({'params': params}, jnp.stack([a, b]))[:, 0]
  way = a + jnp.linspace(0, 1, 50)[:, None] * (b - a)
  most = slopes(way).max()
  assert abs(value[1] - value[0]) / 0.01 <= most * 1.01


@pytest.mark.parametrize(
  ('name', 'true'),
  [('KL', divergence.gaussian_kl(*map(jnp.float32, (0.0, 1.0, 0.8, 1.3)))),
   ('SQUARED_HELLINGER', divergence.gaussian_squared_hellinger(
     *map(jnp.float32, (0.0, 1.0, 0.8, 1.3))))],
)  # fmt: skip
def test_estimate_is_the_divergence_at_the_best_critic_and_below_elsewhere(name, true):
  chosen = getattr(f_divergence, name)
  keys = jax.random.split(jax.random.key(0))
  real = jax.random.normal(keys[0], (200_000,))
  fake = 0.8 + 1.3 * jax.random.normal(keys[1], (200_000,))

  def log_ratio(x):
    return -0.5 * x**2 + 0.5 * ((x - 0.8) / 1.3) ** 2 + jnp.log(1.3)

  def raw(x):  # the activation's inverse at T* = f'(p / q)
    r = log_ratio(x)
    return 1.0 + r if name == 'KL' else 0.5 * r  # 1 - e^-v = 1 - 1 / sqrt(r)

  best = game.divergence_estimate(chosen, raw(real), raw(fake))
  assert abs(best.mean - true) < 4 * best.error and best.error < 0.01
  worse = game.divergence_estimate(chosen, 0.5 * raw(real), 0.5 * raw(fake))
  assert worse.mean < true - 0.01
  with pytest.raises(ValueError, match='fake_logits must be of rank 1'):
    game.divergence_estimate(chosen, real, fake[:, None])
