"""The gated PixelCNN sees every pixel before and none after, cached or not."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.losses import likelihood
from gm_jax.models import pixelcnn
from gm_jax.samplers import autoregressive as sampler

H, W, LEVELS = 4, 5, 3
MODULE = pixelcnn.GatedPixelCNN(H, W, LEVELS, features=4, num_layers=3, reach=1)


def variables(module, condition=None):
  keys = iter(jax.random.split(jax.random.key(1), 80))
  x = jnp.zeros((2, module.height * module.width), jnp.int32)
  given = None if condition is None else condition[:2]
  start = module.init(jax.random.key(0), x, given)
  return jax.tree.map(lambda p: p + 0.5 * jax.random.normal(next(keys), p.shape), start)


def seen(module, x):
  """[output, input]: whether a change of the input moves the output."""
  found = functools.partial(module.apply, variables(module))
  plain, rows = found(x[None])[0], []
  for i in range(x.size):
    moved = jnp.abs(found(x.at[i].set((x[i] + 1) % LEVELS)[None])[0] - plain)
    rows.append(np.asarray(moved).max(1) > 1e-6)
  return np.stack(rows, 1)


def test_nothing_after_is_seen_and_no_pixel_in_reach_is_missed():
  x = jax.random.randint(jax.random.key(3), (H * W,), 0, LEVELS)
  found = seen(MODULE, x)
  before = np.tril(np.ones((H * W, H * W), bool), -1)
  assert not (found & ~before).any()
  deep = pixelcnn.GatedPixelCNN(H, W, LEVELS, features=4, num_layers=4, reach=2)
  np.testing.assert_array_equal(seen(deep, x), before)  # without a blind spot


def test_masses_sum_to_one():
  module = pixelcnn.GatedPixelCNN(2, 3, 2, features=4, num_layers=2, reach=1)
  every = jnp.array(list(itertools.product(range(2), repeat=6)))
  logits = module.apply(variables(module), every)
  p = jnp.exp(likelihood.categorical(logits, every))
  np.testing.assert_allclose(p.sum(), 1, rtol=1e-5)


@pytest.mark.parametrize('conditional', [False, True])
def test_the_cache_gives_the_full_passes_logits_and_the_same_samples(conditional):
  given = jax.random.normal(jax.random.key(5), (12, 2)) if conditional else None
  bound = functools.partial(MODULE.apply, variables(MODULE, given))
  x = jax.random.randint(jax.random.key(2), (12, H * W), 0, LEVELS)
  full = bound(x, given)
  update = jax.jit(functools.partial(bound, method='update'))
  memory = bound(12, given, method='start')
  for i in range(H * W):
    logits = bound(memory, i, method='conditional')
    np.testing.assert_allclose(logits, full[:, i], rtol=1e-3, atol=1e-3)
    memory = update(memory, jnp.array(i), x[:, i])
  key = jax.random.key(3)
  fast = sampler.cached(
    functools.partial(bound, method='conditional'),
    functools.partial(bound, method='update'),
    bound(12, given, method='start'), key, H * W, draw=sampler.categorical,
  )  # fmt: skip
  slow = sampler.naive(
    lambda x: bound(x, given), key, H * W, 12, draw=sampler.categorical
  )
  np.testing.assert_array_equal(fast, slow)


def test_taps_are_a_convolution():
  x = jax.random.normal(jax.random.key(0), (2, 5, 6, 3))
  offsets = tuple(itertools.product((-1, 0, 1), (-1, 0, 1)))
  taps = pixelcnn.Taps(offsets, 4)
  weights = taps.init(jax.random.key(1), x)
  kernel = weights['params']['kernel'].reshape(3, 3, 3, 4)
  expected = jax.lax.conv_general_dilated(
    x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )
  full = taps.apply(weights, x)
  np.testing.assert_allclose(full, expected, rtol=1e-4, atol=1e-5)
  one = taps.apply(weights, x, jnp.array(3), jnp.array(4))
  np.testing.assert_allclose(one[:, 0, 0], full[:, 3, 4], rtol=1e-4, atol=1e-5)
  row = taps.apply(weights, x, jnp.array(2))
  np.testing.assert_allclose(row[:, 0], full[:, 2], rtol=1e-4, atol=1e-5)


def test_wrong_sizes_are_refused():
  with pytest.raises(ValueError, match=r'x must be \[B, 20\]'):
    MODULE.init(jax.random.key(0), jnp.zeros((2, 19), int))
