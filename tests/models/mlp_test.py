"""Perceptrons against numpy; spectral normalization against the SVD."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import weights

from gm_jax.models import mlp


def dense(variables, i):
  layer = variables['params'][f'Dense_{i}']
  return np.asarray(layer['kernel'], float), np.asarray(layer['bias'], float)


def test_mlp_against_numpy():
  module = mlp.MLP((7, 6, 3), activation=jnp.tanh, input_scale=0.25)
  x = jax.random.normal(jax.random.key(0), (4, 2, 5))
  variables = weights.drawn(module, x)
  h = 0.25 * np.asarray(x, float).reshape(4, 10)
  for i in range(3):
    kernel, bias = dense(variables, i)
    h = h @ kernel + bias
    h = np.tanh(h) if i < 2 else h
  np.testing.assert_allclose(
    jax.jit(module.apply)(variables, x), h, rtol=1e-4, atol=1e-5
  )


def test_maxout_is_the_maximum_of_linear_pieces():
  module = mlp.MaxoutMLP((4, 2), num_pieces=3)
  x = jax.random.normal(jax.random.key(0), (5, 6))
  variables = weights.drawn(module, x)
  kernel, bias = dense(variables, 0)
  pieces = [np.asarray(x, float) @ kernel[:, p::3] + bias[p::3] for p in range(3)]
  kernel, bias = dense(variables, 1)
  expected = np.maximum.reduce(pieces) @ kernel + bias
  found = jax.jit(module.apply)(variables, x)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_maxout_is_convex_and_not_linear():
  module = mlp.MaxoutMLP((4, 1), num_pieces=3)
  x, y = jax.random.normal(jax.random.key(0), (2, 500, 6))
  variables = jax.tree.map(np.abs, weights.drawn(module, x))
  f = jax.jit(lambda x: module.apply(variables, x))
  gap = (f(x) + f(y)) / 2 - f((x + y) / 2)
  assert gap.min() > -1e-5
  assert gap.max() > 1e-2


@pytest.mark.parametrize('make', [mlp.MLP, mlp.MaxoutMLP])
def test_a_vector_is_refused(make):
  with pytest.raises(ValueError, match=r'x has shape \(4,\)'):
    make((3, 1)).init(jax.random.key(0), jnp.ones(4))


def power_iterated(module, variables, x, num):
  def step(spectral, _):
    variables_ = {**variables, 'spectral': spectral}
    _, new = module.apply(variables_, x, train=True, mutable=['spectral'])
    return new['spectral'], None

  run = jax.jit(functools.partial(jax.lax.scan, step, length=num))
  spectral, _ = run(variables['spectral'])
  return {**variables, 'spectral': spectral}


def test_spectral_norm_divides_by_the_top_singular_value():
  module = mlp.MLP((7,), use_bias=False, spectral_norm=True)
  eye = jnp.eye(12)
  variables = jax.jit(module.init)(jax.random.key(0), eye)
  variables['params'] = jax.tree.map(lambda v: 3 * v, variables['params'])
  variables = power_iterated(module, variables, eye, 300)
  normalized = jax.jit(module.apply)(variables, eye)  # the kernel itself
  kernel = np.asarray(variables['params']['Dense_0']['kernel'], float)
  top = np.linalg.svd(kernel, compute_uv=False)[0]
  assert top > 2
  assert abs(np.linalg.svd(normalized, compute_uv=False)[0] - 1) < 1e-3
  np.testing.assert_allclose(normalized, kernel / top, atol=1e-3)


def test_spectral_statistics_move_only_in_training():
  module = mlp.MLP((7, 5), spectral_norm=True)
  x = jax.random.normal(jax.random.key(1), (3, 12))
  variables = jax.jit(module.init)(jax.random.key(0), x)
  # The first estimate after `init` is 1, as the variable is: see the layer.
  variables['params'] = jax.tree.map(lambda v: 3 * v, variables['params'])
  apply = jax.jit(module.apply, static_argnames=('train', 'mutable'))
  _, same = apply(variables, x, mutable='spectral')
  _, moved = apply(variables, x, train=True, mutable='spectral')
  before = jax.tree.leaves(variables['spectral'])
  for old, kept, new in zip(before, *map(jax.tree.leaves, (same, moved)), strict=True):
    np.testing.assert_array_equal(old, kept)
    assert not np.array_equal(old, new)


def test_spectral_network_is_one_lipschitz():
  module = mlp.MLP(
    (32, 32, 1), kernel_init=jax.nn.initializers.normal(), spectral_norm=True
  )
  x = jax.random.normal(jax.random.key(1), (256, 4))
  variables = jax.jit(module.init)(jax.random.key(0), x)
  variables = power_iterated(module, variables, x, 200)
  slope = jax.jit(jax.vmap(jax.grad(lambda x: module.apply(variables, x[None])[0, 0])))(
    x
  )
  norm = np.linalg.norm(slope, axis=-1)
  assert 1e-3 < norm.max() < 1 + 1e-3


@pytest.mark.parametrize(
  'make',
  [
    functools.partial(mlp.MLP, (64, 64, 2), jnp.tanh),
    functools.partial(mlp.MLP, (64, 2), spectral_norm=True),
    functools.partial(mlp.MaxoutMLP, (64, 2), 3),
  ],
)
def test_bfloat16_computes_in_bfloat16_and_keeps_float32(make):
  x = jax.random.normal(jax.random.key(0), (32, 16))
  half, whole = make(dtype=jnp.bfloat16), make()
  variables, same = (jax.jit(m.init)(jax.random.key(1), x) for m in (half, whole))
  chex.assert_trees_all_equal(variables, same)
  assert {v.dtype for v in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
  outputs, slopes = {}, {}
  for name, module in (('half', half), ('whole', whole)):

    def loss(params, module=module):
      y = module.apply({**variables, 'params': params}, x)
      return jnp.mean(y**2), y

    gradient = jax.jit(jax.grad(loss, has_aux=True))
    slopes[name], outputs[name] = gradient(variables['params'])
    text = str(jax.make_jaxpr(loss)(variables['params']))
    products = re.findall(r':(\w+)\[[\d,]+\] = dot_general', text)
    assert ('bf16' in products) == (name == 'half')
    assert ('f32' in products) == (name == 'whole' or 'spectral' in variables)
  # Unit roundoff is 2^-8 = 0.004; a few layers of sums add up to a few of it.
  for half, whole in (outputs.values(), slopes.values()):
    error = optax.tree.norm(jax.tree.map(jnp.subtract, half, whole))
    assert {v.dtype for v in jax.tree.leaves(half)} == {jnp.dtype(jnp.float32)}
    assert 1e-4 < error / optax.tree.norm(whole) < 0.02


def test_wider_numbers_stay_wide():
  with jax.enable_x64(True):
    x = jnp.ones((2, 3), jnp.float64)
    wide = jax.tree.map(np.float64, weights.drawn(mlp.MLP((4, 1)), x))
    assert mlp.MLP((4, 1)).apply(wide, x).dtype == jnp.float64
