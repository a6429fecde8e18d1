"""Convolutions as matrix products, against XLA's own and their gradients."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.models import layers

ALONE = layers.conv_same  # of one group
SIZES = [(1, 3), (3, 3), (6, 1), (2, 5)]


@pytest.mark.parametrize(
  ('conv', 'groups', 'size', 'inputs'),
  [(layers.conv_grouped, groups, size, 6) for groups, size in SIZES]
  + [(ALONE, 1, 3, 6), (ALONE, 1, 3, 1), (ALONE, 1, 5, 3), (ALONE, 1, 1, 6)]
  + [(ALONE, 1, 3, 40), (ALONE, 1, 5, 60), (ALONE, 1, 1, 12)],  # outputs are few
)
def test_a_convolution_and_its_gradients_equal_lax(conv, groups, size, inputs):
  x = jax.random.normal(jax.random.key(0), (2, 4, 5, inputs))
  kernel = jax.random.normal(jax.random.key(1), (size, size, inputs // groups, 12))

  def expected(x, kernel):
    return jax.lax.conv_general_dilated(
      x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      feature_group_count=groups,
    )  # fmt: skip

  def ours(x, kernel):
    return conv(x, kernel) if conv is ALONE else conv(x, kernel, groups)

  cotangent = jax.random.normal(jax.random.key(2), (2, 4, 5, 12))

  @functools.partial(jax.jit, static_argnums=0)
  def with_gradients(f):
    y, pull = jax.vjp(f, x, kernel)
    return y, *pull(cotangent)

  for a, b in zip(with_gradients(ours), with_gradients(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('size', [1, 3])
def test_the_layer_has_the_parameters_and_values_of_flax_s(size):
  x = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
  ours, theirs = layers.SameConv(5, size), nn.Conv(5, (size, size))
  variables = jax.jit(theirs.init)(jax.random.key(1), x)
  variables['params']['bias'] += 0.5
  np.testing.assert_allclose(
    ours.apply(variables, x), theirs.apply(variables, x), rtol=1e-5, atol=1e-5
  )


def test_kernels_that_do_not_fit_are_refused():
  with pytest.raises(ValueError, match='do not fit 2 groups'):
    layers.conv_grouped(jnp.zeros((1, 4, 4, 6)), jnp.zeros((3, 3, 2, 6)), 2)
  for shape in ((3, 3, 2, 6), (2, 2, 6, 6), (3, 1, 6, 6)):
    with pytest.raises(ValueError, match=r'K, K, I, O\], K odd'):
      layers.conv_same(jnp.zeros((1, 4, 4, 6)), jnp.zeros(shape))


def test_sizes_are_four_or_seven_doubled_and_no_other():
  found = {}
  for size in range(300):
    try:
      found[size] = layers.num_doublings(size)
    except ValueError as error:
      assert f'image size {size} is not 4 or 7 times' in str(error)
  expected = {4 * 2**n: n for n in range(1, 7)} | {7 * 2**n: n for n in range(1, 6)}
  assert found == expected
