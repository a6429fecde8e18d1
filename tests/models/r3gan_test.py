"""R3GAN's networks: what they are at the beginning, and their layers against lax."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import weights

from gm_jax.models import r3gan


def test_resampling_keeps_constants_means_and_straight_lines():
  downsample, upsample = jax.jit(r3gan.downsample), jax.jit(r3gan.upsample)
  line = np.broadcast_to(np.arange(8.0)[:, None, None], (1, 8, 8, 1)).astype('f4')
  down, up = downsample(line), upsample(line)
  np.testing.assert_allclose(down[0, 1:-1, 0, 0], [2.5, 4.5], rtol=1e-6)
  middle = up[0, 1:-1, 4, 0]  # quarters between, twice as many
  np.testing.assert_allclose(middle, np.arange(14) / 2 + 0.25, rtol=1e-6)
  x = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype('f4')
  means = np.asarray(upsample(x)).mean((1, 2))
  np.testing.assert_allclose(means, x.mean((1, 2)), atol=1e-6)
  ones = np.ones((1, 6, 6, 1), 'f4')
  np.testing.assert_allclose(downsample(ones), np.ones((1, 3, 3, 1)), rtol=1e-6)


def test_networks_begin_as_their_resamplings():
  z = jax.random.normal(jax.random.key(1), (5, 7))
  generator = r3gan.Generator(8, 1, (16, 16), blocks=1)
  params = jax.jit(generator.init)(jax.random.key(0), z)['params']
  start = params['basis'] * (z @ params['Dense_0']['kernel'])[:, None, None]
  expected = r3gan.upsample(start) @ params['Dense_1']['kernel']
  x = jax.jit(generator.apply)({'params': params}, z)
  np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-5)

  critic = r3gan.Discriminator((16, 16), blocks=1)
  params = jax.jit(critic.init)(jax.random.key(2), x)['params']
  features = r3gan.downsample(x @ params['Dense_0']['kernel'])
  features = (features * params['head']).sum((1, 2))
  expected = features @ params['Dense_1']['kernel']
  np.testing.assert_allclose(
    jax.jit(critic.apply)({'params': params}, x), expected, rtol=1e-4, atol=1e-4
  )


def test_a_block_is_the_formula():
  x = np.random.default_rng(0).normal(size=(2, 4, 4, 6)).astype('f4')
  block = r3gan.Block(num_blocks=4, group_size=4)
  params = weights.drawn(block, x)['params']

  def rectified(v):
    return np.where(v > 0, v, 0.2 * v)

  y = rectified(x @ params['Dense_0']['kernel'] + params['bias_0'])
  y = jax.lax.conv_general_dilated(
    y, params['grouped'], (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=3,
  )  # fmt: skip
  expected = x + rectified(y + params['bias_1']) @ params['Dense_1']['kernel']
  np.testing.assert_allclose(
    jax.jit(block.apply)({'params': params}, x), expected, rtol=1e-4, atol=1e-4
  )


def test_kernels_begin_as_deep_as_the_network_is():
  # std^2 = 2 / (1 + 0.2^2) / sqrt(L) / fan-in, and the last is zero.
  x = jnp.zeros((1, 4, 4, 128))
  for num_blocks in (1, 16):
    block = r3gan.Block(num_blocks, 32)
    params = jax.jit(block.init)(jax.random.key(0), x)['params']
    for kernel, fan_in in (
      (params['Dense_0']['kernel'], 128),
      (params['grouped'], 9 * 32),
    ):
      expected = np.sqrt(2 / 1.04 / np.sqrt(num_blocks) / fan_in)
      np.testing.assert_allclose(kernel.std(), expected, rtol=0.02)
    assert not params['Dense_1']['kernel'].any()


@pytest.mark.parametrize('size', [8, 16, 28, 32, 64])
def test_every_size_has_its_depth(size):
  features = (16,) * {8: 2, 16: 3, 28: 3, 32: 4, 64: 5}[size]
  generator = r3gan.Generator(size, 3, features, blocks=1)
  critic = r3gan.Discriminator(features, blocks=1)
  z = jax.ShapeDtypeStruct((2, 4), jnp.float32)
  image, _ = jax.eval_shape(
    functools.partial(generator.init_with_output, jax.random.key(0)), z
  )
  logits, _ = jax.eval_shape(
    functools.partial(critic.init_with_output, jax.random.key(0)), image
  )
  assert image.shape == (2, size, size, 3) and logits.shape == (2, 1)


@pytest.mark.parametrize(
  ('network', 'shape', 'words'),
  [
    (r3gan.Generator(9, 1), (2, 4), 'image size 9'),
    (r3gan.Generator(16, 1), (2, 4), '16 pixels have 3 resolutions'),
    (r3gan.Generator(8, 1), (2, 4, 1), 'expected .B, Z.'),
    (r3gan.Discriminator(), (2, 8, 4, 1), 'square'),
    (r3gan.Discriminator((8, 8), group_size=5), (2, 8, 8, 1), 'groups of 5'),
  ],
)
def test_wrong_shapes_are_refused(network, shape, words):
  with pytest.raises(ValueError, match=words):
    network.init(jax.random.key(0), jnp.zeros(shape))
