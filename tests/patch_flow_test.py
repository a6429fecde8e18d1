"""Flows of patches by causal transformers against their Jacobians and themselves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import bijectors, monotone, patch_flow_layers
from gm_jax.models import patch_transformer

T, P = 4, 4  # of images [4, 4, 1] in squares of 2 x 2 pixels
SHAPE = (4, 4, 1)


def network(outputs):
  return patch_transformer.PatchTransformer(T, outputs, 8, 1, 2)


def drawn(bijection, x, condition=None, std=0.3):
  """Parameters at random, without compiling their initializers."""
  init = jax.eval_shape(bijection.init, jax.random.key(0), x, condition)
  rng = np.random.default_rng(3)
  return jax.tree.map(
    lambda a: jnp.asarray(std * rng.normal(size=a.shape), a.dtype), init
  )


def images_flow(num_layers, layer=patch_flow_layers.causal_transformer):
  return bijectors.chain(
    bijectors.patches(SHAPE, 2),
    patch_flow_layers.tarflow(network, num_layers, shape=(T, P), layer=layer),
  )


SPLINE = functools.partial(
  patch_flow_layers.causal_transformer, function=monotone.rational_quadratic(4)
)


@pytest.mark.parametrize(
  ('bijection', 'shape'),
  [
    (images_flow(3), SHAPE),
    pytest.param(SPLINE(network), (T, P), marks=pytest.mark.slow),
  ],
  ids=['tarflow', 'spline'],
)
def test_determinants_are_those_of_jacobians_and_the_inverse_goes_back(
  bijection, shape
):
  with jax.enable_x64(True):
    x = jnp.asarray(np.random.default_rng(4).normal(size=(3, *shape)))
    params = jax.tree.map(lambda a: a.astype(float), drawn(bijection, x))

    @jax.jit
    def both(x):
      z, log_det = bijection.forward(params, x)
      return z, log_det, *bijection.inverse(params, z)

    z, log_det, back, log_back = both(x)
    assert np.abs(z.ravel() - x.ravel()).max() > 0.1
    np.testing.assert_allclose(back, x, atol=1e-10)
    np.testing.assert_allclose(log_back, -log_det, atol=1e-9)
    slopes = jax.jacfwd(lambda x: bijection.forward(params, x[None])[0].ravel())
    jacobians = jax.jit(jax.vmap(slopes))(x).reshape(3, z[0].size, -1)
    np.testing.assert_allclose(np.linalg.slogdet(jacobians)[1], log_det, atol=1e-9)


def test_a_vector_depends_on_those_before_it_alone_and_within_by_numbers():
  """The Jacobian is lower triangular in blocks, those of its diagonal diagonal."""
  layer = patch_flow_layers.causal_transformer(network, monotone.standardization())
  x = jax.random.normal(jax.random.key(0), (1, T, P))
  params = drawn(layer, x)
  slopes = jax.jit(jax.jacfwd(lambda x: layer.forward(params, x[None])[0][0]))
  jacobian = np.asarray(slopes(x[0])).swapaxes(1, 2)  # [T, T, P, P] of blocks
  for t in range(T):
    np.testing.assert_array_equal(jacobian[t, t + 1 :], 0)
    np.testing.assert_array_equal(jacobian[t, t], np.diag(np.diag(jacobian[t, t])))
    assert np.diag(jacobian[t, t]).min() > 0
    assert all(np.abs(jacobian[t, s]).max() > 1e-4 for s in range(t))


def test_float32_goes_back_through_eight_layers_as_by_full_passes():
  cached = images_flow(8)
  naive = images_flow(8, patch_flow_layers.without_cache)
  x = jax.random.uniform(jax.random.key(0), (64, *SHAPE), minval=-1.0)
  params = drawn(cached, x, std=0.1)

  @jax.jit
  def all_ways(x):
    z, log_det = cached.forward(params, x)
    return z, log_det, cached.inverse(params, z), naive.inverse(params, z)

  z, log_det, (back, log_back), (slow, log_slow) = all_ways(x)
  assert np.abs(z - x.reshape(64, -1)).max() > 0.5
  np.testing.assert_allclose(back, x, atol=1e-3)
  np.testing.assert_allclose(back, slow, atol=1e-5)
  np.testing.assert_allclose(log_back, log_slow, atol=1e-4)
  np.testing.assert_allclose(log_back, -log_det, atol=1e-3)
  assert cached.inverse_cost == naive.inverse_cost == 'per_dimension'


def test_it_is_the_identity_at_first():
  layer = patch_flow_layers.causal_transformer(network, monotone.standardization())
  x = jax.random.normal(jax.random.key(0), (2, T, P))

  @jax.jit
  def begin(x):
    return layer.forward(layer.init(jax.random.key(1), x), x)

  z, log_det = begin(x)
  np.testing.assert_array_equal(z, x)
  np.testing.assert_array_equal(log_det, 0)


def test_conditions_reach_the_parameters_of_every_vector():
  layer = patch_flow_layers.causal_transformer(network, monotone.standardization())
  x, condition = jnp.full((2, T, P), 0.5), jnp.array([[0.0, 1.0], [1.0, 0.0]])
  params = drawn(layer, x, condition)
  z, _ = jax.jit(layer.forward)(params, x, condition)
  assert np.abs(z[0] - z[1]).max(axis=1).min() > 1e-3
  back, _ = jax.jit(layer.inverse)(params, z, condition)
  np.testing.assert_allclose(back, x, atol=1e-4)


def test_patches_are_squares_row_by_row():
  x = jnp.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
  cut = bijectors.patches((4, 6, 3), 2)
  z, log_det = cut.forward((), x)
  assert z.shape == (2, 6, 12)
  np.testing.assert_array_equal(z[1, 4], x[1, 2:, 2:4].ravel())
  np.testing.assert_array_equal(cut.inverse((), z)[0], x)
  np.testing.assert_array_equal(log_det, 0)
  turned, _ = bijectors.reverse(axis=1).forward((), z)
  np.testing.assert_array_equal(turned[:, 0], z[:, -1])


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: bijectors.patches((28, 28, 1), 3), r'3 x 3 pixels .* \[28, 28, 1\]'),
    (lambda: bijectors.patches((8, 8, 1), 0), '0 x 0 pixels'),
    (lambda: bijectors.patches((64,), 2), r'must be \[H, W, C\]'),
    (
      lambda: images_flow(1).init(jax.random.key(0), jnp.zeros((1, 8, 8, 1))),
      r'x must be \[4, 4, 1\] an example, got \[8, 8, 1\]',
    ),
    (
      lambda: network(3).init(jax.random.key(0), jnp.zeros((1, 5, 2))),
      r'x must be \[B, 4, P\], got \(1, 5, 2\)',
    ),
  ],
)
def test_wrong_sizes_are_refused(make, message):
  with pytest.raises(ValueError, match=message) as error:
    make()
  assert '\n' not in str(error.value)
