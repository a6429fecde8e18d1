"""The transposed convolution against lax; every pixel lives; batch statistics."""

import functools
import re

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import weights

from gm_jax.models import dcgan, layers

SIZES = (8, 16, 28, 32, 64)


@functools.partial(jax.jit, static_argnums=0)
def with_gradients(f, x, kernel, cotangent):
  y, pull = jax.vjp(f, x, kernel)
  return y, *pull(cotangent)


# Both orders of the product: 4 O > I and 4 O <= I; heights unlike widths.
@pytest.mark.parametrize('shape', [(2, 3, 5, 4, 6), (2, 4, 3, 12, 3), (1, 1, 1, 4, 1)])
def test_up_convolution_and_its_gradients_equal_lax(shape):
  b, h, w, i, o = shape
  x = jax.random.normal(jax.random.key(0), (b, h, w, i))
  kernel = jax.random.normal(jax.random.key(1), (4, 4, i, o))
  cotangent = jax.random.normal(jax.random.key(2), (b, 2 * h, 2 * w, o))

  def expected(x, kernel):
    return jax.lax.conv_transpose(x, kernel, (2, 2), 'SAME')

  ours = with_gradients(layers.conv_transpose_4x4, x, kernel, cotangent)
  theirs = with_gradients(expected, x, kernel, cotangent)
  for a, b in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5)


# Few inputs (16 I <= O) and many; heights unlike widths.
@pytest.mark.parametrize('shape', [(2, 3, 5, 1, 16), (2, 4, 3, 6, 5), (1, 1, 1, 4, 1)])
def test_down_convolution_and_its_gradients_equal_lax(shape):
  b, h, w, i, o = shape
  x = jax.random.normal(jax.random.key(0), (b, 2 * h, 2 * w, i))
  kernel = jax.random.normal(jax.random.key(1), (4, 4, i, o))
  cotangent = jax.random.normal(jax.random.key(2), (b, h, w, o))

  def expected(x, kernel):
    return jax.lax.conv_general_dilated(
      x, kernel, (2, 2), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )

  ours = with_gradients(layers.conv_4x4, x, kernel, cotangent)
  theirs = with_gradients(expected, x, kernel, cotangent)
  for a, b in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=3e-5)


@pytest.mark.parametrize('use_bias', [False, True])
@pytest.mark.parametrize(
  'library,ours',
  [
    (functools.partial(nn.ConvTranspose, strides=(2, 2)), layers.UpConv),
    (functools.partial(nn.Conv, strides=2), layers.DownConv),
  ],
)
def test_convolutions_take_the_parameters_of_the_library(library, ours, use_bias):
  library, ours = library(3, (4, 4), use_bias=use_bias), ours(3, use_bias=use_bias)
  x = jax.random.normal(jax.random.key(0), (2, 6, 6, 8))
  variables = weights.drawn(library, x, std=0.1)
  chex.assert_trees_all_equal_shapes(variables, weights.drawn(ours, x))
  found, expected = (jax.jit(f.apply)(variables, x) for f in (ours, library))
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_convolutions_refuse_other_shapes():
  with pytest.raises(ValueError, match=r'kernel must be \[4, 4, I, O\]'):
    layers.conv_4x4(jnp.ones((1, 2, 2, 3)), jnp.ones((3, 3, 3, 5)))
  with pytest.raises(ValueError, match=r'x has shape \(1, 3, 2, 3\), expected even'):
    layers.conv_4x4(jnp.ones((1, 3, 2, 3)), jnp.ones((4, 4, 3, 5)))
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


def test_maps_are_what_each_convolution_gives_and_cost_no_collection():
  critic = dcgan.Discriminator(base_features=3)
  x = jax.random.normal(jax.random.key(0), (5, 16, 16, 2))
  variables = jax.jit(critic.init)(jax.random.key(1), x)
  assert set(variables) == {'params', 'batch_stats'}
  _, sown = critic.apply(variables, x, mutable=['intermediates'])
  first, last = sown['intermediates']['maps']
  alone = layers.DownConv(3).apply({'params': variables['params']['Conv_0']}, x)
  np.testing.assert_allclose(first, np.where(alone > 0, alone, 0.2 * alone), rtol=1e-6)
  assert last.shape == (5, 4, 4, 6)
  dense = variables['params']['Dense_0']
  expected = last.reshape(5, -1) @ dense['kernel'] + dense['bias']
  np.testing.assert_allclose(critic.apply(variables, x), expected, rtol=1e-5)


def test_maps_are_pooled_by_cells_that_cover_them():
  x = np.random.default_rng(0).normal(size=(2, 14, 14, 3)).astype('f4')
  small = x[:, :2, :2]
  found = dcgan.pooled_maps([x, small])
  bounds = [(0, 4), (3, 7), (7, 11), (10, 14)]  # of 14 rows in 4 cells
  cells = [x[:, a:b, c:d].max((1, 2)) for a, b in bounds for c, d in bounds]
  expected = np.concatenate(
    [np.stack(cells, 1).reshape(2, -1), small.reshape(2, -1)], 1
  )
  np.testing.assert_array_equal(found, expected)
  by_halves = x[:, :8, :8].reshape(2, 4, 2, 4, 2, 3).max((2, 4))  # no cells in common
  np.testing.assert_array_equal(
    dcgan.pooled_maps([x[:, :8, :8]]), by_halves.reshape(2, -1)
  )


def test_spectral_norm_of_convolutions():
  critic = dcgan.Discriminator(base_features=4, spectral_norm=True)
  x = jnp.ones((1, 8, 8, 1))
  variables = jax.jit(critic.init)(jax.random.key(1), x)

  def step(spectral, _):
    state = {**variables, 'spectral': spectral}
    _, new = critic.apply(state, x, train=True, mutable=['spectral'])
    return new['spectral'], None

  run = jax.jit(functools.partial(jax.lax.scan, step, length=300))
  spectral, _ = run(variables['spectral'])
  sigmas = {k[-1].key: v for k, v in jax.tree.leaves_with_path(spectral)}
  for layer in ('Conv_0', 'Dense_0'):
    kernel = np.asarray(variables['params'][layer]['kernel'])
    matrix = kernel.reshape(-1, kernel.shape[-1]) / sigmas[f'{layer}/kernel/sigma']
    assert abs(np.linalg.svd(matrix, compute_uv=False)[0] - 1) < 1e-3


GENERATOR = functools.partial(dcgan.Generator, 16, 1, base_features=8)
CRITIC = functools.partial(dcgan.Discriminator, base_features=8)
NETWORKS = {
  'generator': (GENERATOR, (32, 5)),
  'discriminator': (CRITIC, (32, 16, 16, 1)),
  'spectral': (functools.partial(CRITIC, spectral_norm=True), (32, 16, 16, 1)),
}
every_network = pytest.mark.parametrize('make,shape', NETWORKS.values(), ids=NETWORKS)


def started(make, shape):
  """A batch, and variables with kernels five times as large as at the start."""
  x = jax.random.normal(jax.random.key(0), shape)
  variables = jax.jit(make().init)(jax.random.key(1), x)
  same = jax.jit(make(dtype=jnp.bfloat16, remat=True).init)(jax.random.key(1), x)
  chex.assert_trees_all_equal(variables, same)
  return x, variables | {'params': jax.tree.map(lambda v: 5 * v, variables['params'])}


def loss_of(module, variables, x):
  """A smooth loss of the parameters, with the output and the collections after."""
  collections = {name: v for name, v in variables.items() if name != 'params'}

  def loss(params):
    y, new = module.apply(
      {'params': params, **collections}, x, train=True, mutable=list(collections)
    )
    phase = jnp.arange(len(y)).reshape(-1, *[1] * (y.ndim - 1))
    return jnp.mean(jnp.sin(y + phase)), (y, dict(new))

  return loss


@every_network
def test_bfloat16_computes_in_bfloat16_and_keeps_float32(make, shape):
  x, variables = started(make, shape)
  losses = [loss_of(make(dtype=d), variables, x) for d in (jnp.bfloat16, None)]
  gradients = [jax.jit(jax.grad(loss, has_aux=True)) for loss in losses]
  (half, (rounded, new)), (whole, (exact, expected)) = (
    gradient(variables['params']) for gradient in gradients
  )
  text, exact_text = (str(g.trace(variables['params']).jaxpr) for g in gradients)
  products = set(re.findall(r':(\w+)\[[\d,]+\] = dot_general', text))
  assert products == {'bf16'} | ({'f32'} if 'spectral' in variables else set())
  assert 'bf16' not in exact_text
  # Parameters, statistics, outputs and gradients.
  dtypes = {v.dtype for v in jax.tree.leaves((variables, rounded, new, half))}
  assert dtypes == {jnp.dtype(jnp.float32)}

  def error(tree, true):
    return optax.tree.norm(jax.tree.map(jnp.subtract, tree, true)) / optax.tree.norm(
      true
    )

  # Unit roundoff is 2^-8 = 0.004, and a few layers add up to a few of it; batch
  # normalization cancels most of a gradient, which leaves more. Statistics are
  # means in float32, of which roundoffs of either sign cancel.
  assert 1e-3 < error(rounded, exact) < 0.02
  assert error(new, expected) < 1e-3
  assert error(half, whole) < 0.1


def kept_bytes(loss, params):
  """What reverse mode keeps between the passes, parameters and all."""
  pullback = jax.eval_shape(lambda p: jax.vjp(loss, p, has_aux=True)[1], params)
  return sum(v.size * v.dtype.itemsize for v in jax.tree.leaves(pullback))


@every_network
def test_rematerialized_blocks_give_the_same_and_keep_less(make, shape):
  x, variables = started(make, shape)
  params = variables['params']
  plain, remat = (loss_of(make(remat=r), variables, x) for r in (False, True))
  gradients = [jax.jit(jax.grad(loss, has_aux=True)) for loss in (plain, remat)]
  expected, found = (gradient(params) for gradient in gradients)
  chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-7)
  assert kept_bytes(remat, params) < kept_bytes(plain, params) / 2
  # On a CPU XLA drops the barriers, finds the same computation twice and keeps
  # the first after all; but what every compiler is given has the barriers.
  texts = [gradient.lower(params).as_text() for gradient in gradients]
  assert ['optimization_barrier' in text for text in texts] == [False, True]


def test_other_sizes_are_refused():
  with pytest.raises(ValueError, match='image size 20 is not 4 or 7 times a power'):
    dcgan.Generator(20, 1).init(jax.random.key(0), jnp.ones((1, 2)))
  with pytest.raises(ValueError, match='image size 20'):
    dcgan.Discriminator().init(jax.random.key(0), jnp.ones((1, 20, 20, 1)))
  with pytest.raises(ValueError, match='square'):
    dcgan.Discriminator().init(jax.random.key(0), jnp.ones((1, 8, 16, 1)))
  with pytest.raises(ValueError, match='z has shape'):
    dcgan.Generator(8, 1).init(jax.random.key(0), jnp.ones(4))
