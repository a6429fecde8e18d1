"""Growing networks against numpy, at both ends of a fade, as the paper counts them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.models import layers, progressive

WIDTHS = {'base_features': 24, 'max_features': 5}  # of 4 and 8 pixels: 5 and 3
FADE = 0.3


def made(module, x, *, seed=0):
  """Variables with biases that are not 0, so that a lost one is seen."""
  params = jax.jit(module.init)(jax.random.key(seed), x)['params']
  keys = jax.random.split(jax.random.key(seed + 1), len(params))
  for key, name in zip(keys, params, strict=True):
    params[name]['bias'] = jax.random.normal(key, params[name]['bias'].shape)
  return params


def generator(size):
  return progressive.Generator(size, 2, **WIDTHS)


def critic(group_size=4):
  return progressive.Discriminator(**WIDTHS, group_size=group_size)


def run(module, params, *args):
  return np.asarray(jax.jit(module.apply)({'params': params}, *args))


def images(num, size):
  return jax.random.normal(jax.random.key(4), (num, size, size, 2))


# In numpy, by loops over the kernel's taps.


def lrelu(x):
  return np.where(x > 0, x, 0.2 * x)


def norm(x):
  return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-8)


def layer(params, name, x, gain=2**0.5):
  kernel, bias = (np.asarray(params[name][k], float) for k in ('kernel', 'bias'))
  fan_in = np.prod(kernel.shape[:-1])
  if kernel.ndim == 2:
    y = x @ kernel
  else:
    h, w = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = sum(
      padded[:, u : u + h, v : v + w] @ kernel[u, v] for u in range(3) for v in range(3)
    )
  return y * gain / np.sqrt(fan_in), bias


def plus(pair):
  return pair[0] + pair[1]


def up(x):
  return np.kron(x, np.ones((1, 2, 2, 1)))


def down(x):
  return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def test_a_generators_image_is_that_of_numpy():
  z = jax.random.normal(jax.random.key(3), (3, 6))
  params = made(generator(8), z)
  x, bias = layer(params, 'dense', norm(np.asarray(z, float)), gain=np.sqrt(2) / 4)
  h = norm(lrelu(x.reshape(3, 4, 4, 5) + bias))
  h = norm(lrelu(plus(layer(params, 'conv_4', h))))
  small = plus(layer(params, 'to_image_4', h, gain=1.0))
  h = norm(lrelu(plus(layer(params, 'conv_8_0', up(h)))))
  h = norm(lrelu(plus(layer(params, 'conv_8_1', h))))
  large = plus(layer(params, 'to_image_8', h, gain=1.0))
  expected = (1 - FADE) * up(small) + FADE * large
  found = run(generator(8), params, z, FADE)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
  # Latents are normalized too: their length is nothing.
  np.testing.assert_allclose(run(generator(8), params, 7 * z, FADE), found, atol=1e-4)


def test_a_critics_logit_is_that_of_numpy():
  x = images(8, 8)
  params, real = made(critic(), x), np.asarray(x, float)
  h = lrelu(plus(layer(params, 'from_image_8', real)))
  h = lrelu(plus(layer(params, 'conv_8_0', h)))
  h = down(lrelu(plus(layer(params, 'conv_8_1', h))))
  old = lrelu(plus(layer(params, 'from_image_4', down(real))))
  h = (1 - FADE) * old + FADE * h
  # Groups of 4: the group's axis is the first of [4, 2, ...], so every second example.
  std = np.empty(8)
  for i in range(8):
    std[i] = np.sqrt(h[i % 2 :: 2].var(axis=0) + 1e-8).mean()
  extra = np.broadcast_to(std[:, None, None, None], (8, 4, 4, 1))
  h = lrelu(plus(layer(params, 'conv_4', np.concatenate([h, extra], -1))))
  h = lrelu(plus(layer(params, 'dense', h.reshape(8, -1))))
  expected = plus(layer(params, 'logit', h, gain=1.0))
  found = run(critic(), params, x, FADE)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_groups_are_strided_and_not_neighbors():
  # Copies stand every second: with the axes swapped a group would hold two images.
  x = jnp.tile(images(2, 4), (4, 1, 1, 1))
  params = made(critic(), x)
  same, alone = run(critic(), params, x), run(critic(1), params, x)
  np.testing.assert_allclose(same, alone, rtol=1e-5)  # a deviation of 0, as of one
  neighbors = jnp.repeat(images(2, 4), 4, axis=0)
  assert (
    np.abs(run(critic(), params, neighbors) - alone[[0] * 4 + [1] * 4]).max() > 0.01
  )


def test_at_rest_a_network_has_forgotten_the_smaller_ones_ends():
  # That it begins as the smaller one: tests/methods/progressive_gan_test.py.
  z, x = jax.random.normal(jax.random.key(3), (3, 6)), images(4, 8)
  ends = (generator(8), z, 'to_image_4'), (critic(), x, 'from_image_4')
  for module, inputs, name in ends:
    params = made(module, inputs)
    changed = {**params, name: jax.tree.map(jnp.ones_like, params[name])}
    one, other = (run(module, p, inputs, 1.0) for p in (params, changed))
    np.testing.assert_array_equal(one, other)
    one, other = (run(module, p, inputs, 0.9) for p in (params, changed))
    assert np.abs(one - other).max() > 1e-3


def test_real_images_fade_as_samples_do():
  x = np.asarray(images(2, 8), float)
  expected = (1 - FADE) * up(down(x)) + FADE * x
  np.testing.assert_allclose(progressive.faded(x, FADE), expected, rtol=1e-5)
  np.testing.assert_array_equal(progressive.faded(images(2, 8), 1.0), images(2, 8))
  small = images(2, 4)  # nothing is smaller
  np.testing.assert_array_equal(progressive.faded(small, 0.0), small)


def test_kernels_begin_at_one_deviation_in_every_layer():
  # That is what makes rates equal: Adam moves all by as much of their own size.
  wide = {'base_features': 4096, 'max_features': 64}
  both = (
    (progressive.Generator(16, 3, **wide), jnp.ones((2, 64))),
    (progressive.Discriminator(**wide), jnp.ones((2, 16, 16, 3))),
  )
  for module, x in both:
    for name, leaves in jax.jit(module.init)(jax.random.key(0), x)['params'].items():
      kernel = np.asarray(leaves['kernel'])
      assert abs(kernel.std() - 1) < 5 / np.sqrt(2 * kernel.size), name
      assert not leaves['bias'].any(), name


def test_parameters_are_as_many_as_the_papers():
  # Table 2, at 1024 pixels: 23.1 M each; the layers to and from 512 pixels are ours,
  # held until the fade is over and longer.
  z, x = jnp.zeros((2, 512)), jax.ShapeDtypeStruct((2, 1024, 1024, 3), jnp.float32)
  for module, inputs, size in (
    (progressive.Generator(1024, 3), z, 512), (progressive.Discriminator(), x, 512)
  ):  # fmt: skip
    params = jax.eval_shape(module.init, jax.random.key(0), inputs)['params']
    held = {k for k in params if k.endswith(f'image_{size}')}
    assert len(held) == 1
    leaves = jax.tree.leaves({k: v for k, v in params.items() if k not in held})
    assert round(sum(leaf.size for leaf in leaves) / 1e6, 1) == 23.1


def test_second_derivatives_of_the_convolution_equal_lax():
  # As a gradient penalty takes them; the first stand in layers_test.
  x = jax.random.normal(jax.random.key(0), (2, 4, 5, 6))
  kernel = jax.random.normal(jax.random.key(1), (3, 3, 6, 3))

  def expected(x, kernel):
    names = 'NHWC', 'HWIO', 'NHWC'
    return jax.lax.conv_general_dilated(
      x, kernel, (1, 1), 'SAME', dimension_numbers=names
    )

  @functools.partial(jax.jit, static_argnums=0)
  def derivatives(f):
    def norm(x, kernel):
      slope = jax.grad(lambda x: jnp.sin(f(x, kernel)).sum())(x)
      return jnp.square(slope).sum()

    return jax.grad(norm, (0, 1))(x, kernel)

  for a, b in zip(derivatives(layers.conv_same), derivatives(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_what_fits_no_network_is_one_line():
  for size in (2, 6, 28):
    with pytest.raises(ValueError, match='4 times a power of 2'):
      generator(size).init(jax.random.key(0), jnp.zeros((2, 6)))
    with pytest.raises(ValueError, match='4 times a power of 2'):
      critic().init(jax.random.key(0), jnp.zeros((2, size, size, 1)))
  with pytest.raises(ValueError, match='square'):
    critic().init(jax.random.key(0), jnp.zeros((2, 8, 4, 1)))
