"""The convolutional energy and its gradient beside XLA's convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.models import energies

NETWORK = energies.ConvolutionalEnergy((3, 4, 5), hidden=6, num_outputs=2)


def plain(params, x):
  """The same by `lax.conv_general_dilated`."""
  for i, name in enumerate(('SameConv_0', 'DownConv_0', 'DownConv_1')):
    x = jax.lax.conv_general_dilated(
      x, params[name]['kernel'], (1 + (i > 0),) * 2, 'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )  # fmt: skip
    x = jax.nn.silu(x + params[name]['bias'])
  x = x.reshape(len(x), -1)
  for name in ('Dense_0', 'Dense_1'):
    x = x @ params[name]['kernel'] + params[name]['bias']
    x = jax.nn.silu(x) if name == 'Dense_0' else x
  return x


@pytest.mark.slow
def test_it_is_its_layers_and_its_gradient_is_theirs():
  x = jax.random.normal(jax.random.key(0), (3, 8, 12, 2))
  params = NETWORK.init(jax.random.key(1), x)['params']
  noise = iter(jax.random.split(jax.random.key(2), 10))
  params = jax.tree.map(lambda p: p + jax.random.normal(next(noise), p.shape), params)

  def both(x):
    own = NETWORK.apply({'params': params}, x)
    return jnp.stack([own, plain(params, x)])

  found = jax.jit(both)(x)
  assert found.shape == (2, 3, 2)
  np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-4)
  slopes = [jax.jit(jax.grad(lambda x, i=i: both(x)[i, :, 0].sum()))(x) for i in (0, 1)]
  np.testing.assert_allclose(*slopes, rtol=1e-3, atol=1e-4)


def test_the_number_of_parameters_is_that_of_the_docstring():
  shapes = jax.eval_shape(
    energies.ConvolutionalEnergy().init, jax.random.key(0), jnp.ones((1, 28, 28, 1))
  )
  num = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  assert f'{num:,} parameters' in energies.ConvolutionalEnergy.__doc__


@pytest.mark.parametrize(
  ('shape', 'word'), [((2, 8, 8), r'\[B, H, W, C\]'), ((2, 6, 6, 1), 'even')]
)
def test_what_does_not_fit_is_one_line(shape, word):
  with pytest.raises(ValueError, match=word):
    NETWORK.init(jax.random.key(0), jnp.ones(shape))
