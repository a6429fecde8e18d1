"""The transposed convolution against lax; every pixel lives; batch statistics."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.models import dcgan, layers

SIZES = (8, 16, 28, 32, 64)


# Both orders of the product: 4 O > I and 4 O <= I; heights unlike widths.
@pytest.mark.parametrize('shape', [(2, 3, 5, 4, 6), (2, 4, 3, 12, 3), (1, 1, 1, 4, 1)])
def test_up_convolution_and_its_gradients_equal_lax(shape):
  b, h, w, i, o = shape
  x = jax.random.normal(jax.random.key(0), (b, h, w, i))
  kernel = jax.random.normal(jax.random.key(1), (4, 4, i, o))
  cotangent = jax.random.normal(jax.random.key(2), (b, 2 * h, 2 * w, o))

  def expected(x, kernel):
    return jax.lax.conv_transpose(x, kernel, (2, 2), 'SAME')

  @functools.partial(jax.jit, static_argnums=0)
  def with_gradients(f, x, kernel):
    y, pull = jax.vjp(f, x, kernel)
    return y, *pull(cotangent)

  ours = with_gradients(layers.conv_transpose_4x4, x, kernel)
  theirs = with_gradients(expected, x, kernel)
  for a, b in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize('use_bias', [False, True])
def test_up_conv_takes_the_parameters_of_conv_transpose(use_bias):
  library = nn.ConvTranspose(3, (4, 4), (2, 2), use_bias=use_bias)
  ours = layers.UpConv(3, use_bias=use_bias)
  x = jax.random.normal(jax.random.key(0), (2, 5, 5, 8))
  variables = library.init(jax.random.key(1), x)
  variables = jax.tree.map(lambda v: v + 0.1, variables)
  assert jax.tree.map(jnp.shape, variables) == jax.tree.map(
    jnp.shape, ours.init(jax.random.key(1), x)
  )
  np.testing.assert_allclose(
    ours.apply(variables, x), library.apply(variables, x), rtol=1e-5, atol=1e-5
  )


def test_up_convolution_refuses_other_kernels():
  with pytest.raises(ValueError, match=r'kernel must be \[4, 4, I, O\]'):
    layers.conv_transpose_4x4(jnp.ones((1, 2, 2, 3)), jnp.ones((4, 4, 2, 5)))
  with pytest.raises(ValueError, match=r'x must be \[B, H, W, I\]'):
    layers.conv_transpose_4x4(jnp.ones((2, 2, 3)), jnp.ones((4, 4, 3, 5)))


@pytest.mark.parametrize('size', SIZES)
def test_every_pixel_depends_on_z(size):
  generator = dcgan.Generator(size, channels=2, base_features=4)
  z = jax.random.normal(jax.random.key(0), (4, 3))
  variables = jax.jit(generator.init)(jax.random.key(1), z)

  def pixels(z):
    return generator.apply(variables, z)

  @jax.jit
  def power_of_slope(z):
    directions = jnp.broadcast_to(jnp.eye(3)[:, None], (3, *z.shape))
    slope = jax.vmap(lambda v: jax.jvp(pixels, (z,), (v,))[1])(directions)
    return (slope**2).sum((0, 1, -1))

  power = np.asarray(power_of_slope(z))
  assert power.shape == (size, size) and power.min() > 0
  border = np.ones_like(power, bool)
  border[1:-1, 1:-1] = False
  # A border pixel has half the taps, so half the power, in every doubling.
  halvings = {8: 1, 16: 2, 28: 2, 32: 3, 64: 4}[size]
  assert 0.3 < 2**halvings * power[border].mean() / power[~border].mean() < 3


@pytest.mark.parametrize('size,spectral_norm', [(8, True), (28, False)])
def test_discriminator_sees_every_pixel(size, spectral_norm):
  critic = dcgan.Discriminator(base_features=4, spectral_norm=spectral_norm)
  x = jax.random.normal(jax.random.key(0), (3, size, size, 2))
  variables = jax.jit(critic.init)(jax.random.key(1), x)
  assert ('batch_stats' in variables) == (not spectral_norm and size > 8)
  assert ('spectral' in variables) == spectral_norm

  @jax.jit
  def with_slope(x):
    logits, pull = jax.vjp(lambda x: critic.apply(variables, x), x)
    return logits, pull(jnp.ones_like(logits))[0]

  logits, slope = with_slope(x)
  assert logits.shape == (3, 1) and len(np.unique(logits)) == 3
  assert jnp.abs(slope).max((0, -1)).min() > 0


def test_batch_statistics_against_numpy():
  generator = dcgan.Generator(8, channels=1, base_features=4)
  z = jax.random.normal(jax.random.key(0), (16, 5)) + 1
  variables = jax.jit(generator.init)(jax.random.key(1), z)
  train = functools.partial(generator.apply, train=True, mutable=['batch_stats'])
  images, new = jax.jit(train)(variables, z)
  params = variables['params']
  hidden = np.asarray(z, float) @ np.asarray(params['Dense_0']['kernel'], float)
  hidden = hidden.reshape(16, 4, 4, 4)
  mean, var = hidden.mean((0, 1, 2)), hidden.var((0, 1, 2))
  found = new['batch_stats']['BatchNorm_0']
  np.testing.assert_allclose(found['mean'], 0.1 * mean, rtol=1e-3, atol=1e-6)
  np.testing.assert_allclose(found['var'], 0.9 + 0.1 * var, rtol=1e-5)
  hidden = np.maximum((hidden - mean) / np.sqrt(var + 1e-5), 0)
  kernel = params['UpConv_0']['kernel']
  expected = np.tanh(jax.lax.conv_transpose(hidden, kernel, (2, 2), 'SAME'))
  np.testing.assert_allclose(images, expected, rtol=1e-3, atol=1e-5)
  # Evaluated by running statistics, an image does not depend on its batch.
  apply = jax.jit(generator.apply)
  np.testing.assert_allclose(
    apply(variables, z)[:1], apply(variables, z[:1]), atol=1e-6
  )


def test_discriminator_against_numpy():
  critic = dcgan.Discriminator(base_features=3, normalize=False)
  x = jax.random.normal(jax.random.key(0), (2, 16, 16, 2))
  variables = jax.jit(critic.init)(jax.random.key(1), x)
  assert set(variables) == {'params'}
  params = jax.tree.map(lambda v: np.asarray(v, float) + 0.01, variables['params'])
  h = np.asarray(x, float)
  for i in range(2):
    h = np.pad(h, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(h, (4, 4), (1, 2))[:, ::2, ::2]
    conv = params[f'Conv_{i}']
    h = np.einsum('bhwiuv,uvio->bhwo', windows, conv['kernel']) + conv['bias']
    h = np.where(h > 0, h, 0.2 * h)
  expected = h.reshape(2, -1) @ params['Dense_0']['kernel'] + params['Dense_0']['bias']
  params = jax.tree.map(jnp.float32, params)
  found = jax.jit(critic.apply)({'params': params}, x)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_spectral_norm_of_convolutions():
  critic = dcgan.Discriminator(base_features=4, spectral_norm=True)
  x = jnp.ones((1, 8, 8, 1))
  variables = jax.jit(critic.init)(jax.random.key(1), x)

  def step(spectral, _):
    state = {**variables, 'spectral': spectral}
    _, new = critic.apply(state, x, train=True, mutable=['spectral'])
    return new['spectral'], None

  spectral, _ = jax.lax.scan(step, variables['spectral'], length=300)
  sigmas = {k[-1].key: v for k, v in jax.tree.leaves_with_path(spectral)}
  for layer in ('Conv_0', 'Dense_0'):
    kernel = np.asarray(variables['params'][layer]['kernel'])
    matrix = kernel.reshape(-1, kernel.shape[-1]) / sigmas[f'{layer}/kernel/sigma']
    assert abs(np.linalg.svd(matrix, compute_uv=False)[0] - 1) < 1e-3


def test_other_sizes_are_refused():
  with pytest.raises(ValueError, match=r'image size 20 is not one of \[8, 16, 28'):
    dcgan.Generator(20, 1).init(jax.random.key(0), jnp.ones((1, 2)))
  with pytest.raises(ValueError, match='image size 20'):
    dcgan.Discriminator().init(jax.random.key(0), jnp.ones((1, 20, 20, 1)))
  with pytest.raises(ValueError, match='square'):
    dcgan.Discriminator().init(jax.random.key(0), jnp.ones((1, 8, 16, 1)))
  with pytest.raises(ValueError, match='z has shape'):
    dcgan.Generator(8, 1).init(jax.random.key(0), jnp.ones(4))
