"""PixelCNNs see pixels before and none after, cached or not; one is half blind."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import weights

from gm_jax.losses import likelihood
from gm_jax.models import pixelcnn
from gm_jax.samplers import autoregressive as sampler

H, W, LEVELS = 4, 5, 3
MODULE = pixelcnn.GatedPixelCNN(H, W, LEVELS, features=4, num_layers=3, radius=1)
PLAIN = pixelcnn.PixelCNN(H, W, LEVELS, features=4, num_layers=4, radius=1)
both = pytest.mark.parametrize('module', [MODULE, PLAIN], ids=['gated', 'plain'])


def variables(module, features=0):
  """Of a module on so many conditioning numbers."""
  pixel = () if module.channels is None else (module.channels,)
  x = np.zeros((2, module.height * module.width, *pixel), np.int32)
  return weights.drawn(
    module, x, np.zeros((2, features)) if features else None, std=0.6
  )


def applied(module, x, *args):
  return jax.jit(module.apply)(variables(module), x, *args)


def seen(module, x):
  """[output, input]: whether a change of the input moves the output."""
  changed = jnp.where(jnp.eye(x.size, dtype=bool), (x + 1) % LEVELS, x)
  plain, *found = np.asarray(applied(module, jnp.concatenate([x[None], changed])))
  return (np.abs(np.stack(found, 1) - plain[:, None]) > 1e-6).any(-1)


def test_nothing_after_is_seen_and_no_pixel_in_reach_is_missed():
  x = jax.random.randint(jax.random.key(3), (H * W,), 0, LEVELS)
  found = seen(MODULE, x)
  before = np.tril(np.ones((H * W, H * W), bool), -1)
  assert not (found & ~before).any()
  deep = pixelcnn.GatedPixelCNN(H, W, LEVELS, features=4, num_layers=4, radius=2)
  np.testing.assert_array_equal(seen(deep, x), before)  # without a blind spot


def test_one_stack_is_blind_to_what_lies_above_to_the_right():
  x = jax.random.randint(jax.random.key(3), (H * W,), 0, LEVELS)
  expected = np.zeros((H * W, H * W), bool)
  for out, before in itertools.product(range(H * W), repeat=2):
    (row, column), (r, c) = divmod(out, W), divmod(before, W)
    # A step up is at most a step to the right, the first layer's included.
    expected[out, before] = before < out and (r == row or c - column <= row - r)
  assert (expected != np.tril(np.ones_like(expected), -1)).any()
  np.testing.assert_array_equal(seen(PLAIN, x), expected)


def test_masses_sum_to_one():
  module = pixelcnn.GatedPixelCNN(2, 3, 2, features=4, num_layers=2, radius=1)
  every = jnp.array(list(itertools.product(range(2), repeat=6)))
  logits = applied(module, every)
  p = jnp.exp(likelihood.categorical(logits, every))
  np.testing.assert_allclose(p.sum(), 1, rtol=1e-5)


@both
@pytest.mark.parametrize('conditional', [False, True])
def test_the_cache_gives_the_full_passes_logits_and_the_same_samples(
  module, conditional
):
  condition = jax.random.normal(jax.random.key(5), (12, 2)) if conditional else None
  bound = functools.partial(module.apply, variables(module, 2 * conditional))
  x = jax.random.randint(jax.random.key(2), (12, H * W), 0, LEVELS)
  full = jax.jit(bound)(x, condition)

  @jax.jit
  def one_by_one(x):
    def one(memory, i):
      logits = bound(memory, i, method='conditional')
      return bound(memory, i, x[:, i], method='update'), logits

    memory = bound(12, condition, method='start')
    return jax.lax.scan(one, memory, jnp.arange(H * W))[1]

  found = jnp.moveaxis(one_by_one(x), 0, 1)
  np.testing.assert_allclose(found, full, rtol=1e-3, atol=1e-3)

  @jax.jit
  def both_samples(key):
    fast = sampler.cached(
      functools.partial(bound, method='conditional'),
      functools.partial(bound, method='update'),
      bound(12, condition, method='start'), key, H * W, draw=sampler.categorical,
    )  # fmt: skip
    return fast, sampler.naive(
      lambda x: bound(x, condition), key, H * W, 12, draw=sampler.categorical
    )

  np.testing.assert_array_equal(*both_samples(jax.random.key(3)))


@pytest.mark.parametrize('network', [pixelcnn.PixelCNN, pixelcnn.GatedPixelCNN])
def test_pixels_of_three_channels_from_the_cache_are_the_naive_ones(network):
  module = network(
    2, 3, LEVELS, features=4, num_layers=2, radius=1, channels=3,
    outputs=likelihood.num_pixel_parameters(2, 3),
  )  # fmt: skip
  bound = functools.partial(module.apply, variables(module))
  draw = sampler.pixels(3, LEVELS)

  @jax.jit
  def both_samples(key):
    fast = sampler.cached(
      functools.partial(bound, method='conditional'),
      functools.partial(bound, method='update'),
      bound(40, method='start'), key, 6, draw=draw,
    )  # fmt: skip
    return fast, sampler.naive(bound, key, 6, 40, draw=draw, event=(3,))

  fast, slow = both_samples(jax.random.key(3))
  assert fast.shape == (40, 6, 3) and len(np.unique(fast)) == LEVELS
  np.testing.assert_array_equal(fast, slow)


def test_dropout_is_of_training_alone():
  module = pixelcnn.PixelCNN(H, W, LEVELS, features=8, dropout=0.5)
  values, x = variables(module), jnp.zeros((2, H * W), jnp.int32)
  rngs = {'dropout': jax.random.key(0)}

  @functools.partial(jax.jit, static_argnames='train')
  def apply(rngs, train=False):
    return module.apply(values, x, train=train, rngs=rngs)

  plain = apply(None)
  np.testing.assert_array_equal(plain, apply(rngs))
  assert jnp.abs(plain - apply(rngs, train=True)).max() > 0.01


def test_taps_are_a_convolution():
  x = jax.random.normal(jax.random.key(0), (2, 5, 6, 3))
  offsets = tuple(itertools.product((-1, 0, 1), (-1, 0, 1)))
  taps = pixelcnn.Taps(offsets, 4)
  variables = weights.drawn(taps, x, std=0.2)
  kernel = variables['params']['kernel'].reshape(3, 3, 3, 4)
  expected = jax.lax.conv_general_dilated(
    x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )
  expected += variables['params']['bias']
  apply = jax.jit(taps.apply)
  full = apply(variables, x)
  np.testing.assert_allclose(full, expected, rtol=1e-4, atol=1e-5)
  one = apply(variables, x, jnp.array(3), jnp.array(4))
  np.testing.assert_allclose(one[:, 0, 0], full[:, 3, 4], rtol=1e-4, atol=1e-5)
  row = apply(variables, x, jnp.array(2))
  np.testing.assert_allclose(row[:, 0], full[:, 2], rtol=1e-4, atol=1e-5)


def test_wrong_sizes_are_refused():
  with pytest.raises(ValueError, match=r'x must be \[B, 20\]'):
    MODULE.init(jax.random.key(0), jnp.zeros((2, 19), int))
  colored = pixelcnn.PixelCNN(H, W, LEVELS, channels=3)
  with pytest.raises(ValueError, match=r'x must be \[B, 20, 3\]'):
    colored.init(jax.random.key(0), jnp.zeros((2, 20), int))
