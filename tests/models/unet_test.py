"""The U-Net moves with its image, by multiples of its stride; what it refuses."""

import jax
import numpy as np
import pytest
import weights

from gm_jax.models import unet

T = np.zeros(1, np.float32)


def test_without_attention_it_moves_with_the_image_by_multiples_of_its_stride():
  """An object so far from the borders that what they do to features never meets it."""
  module = unet.UNet(4, (1, 2), 1)
  rng = np.random.default_rng(0)
  x = np.zeros((1, 4, 160, 1), np.float32)
  x[:, :, 76:84] = rng.normal(size=(1, 4, 8, 1))
  apply = jax.jit(module.apply)
  variables = weights.drawn(module, x, T, std=0.5)
  outputs = {by: apply(variables, np.roll(x, by, 2), T)[0] for by in (0, 1, 2, 6)}

  def error(by):
    return np.abs(np.roll(outputs[0], by, 1) - outputs[by])[:, 40:-40].max()

  span = np.ptp(outputs[0][:, 40:-40])
  assert max(error(2), error(6)) < 1e-4 * span
  assert error(1) > 1e-2 * span


def test_a_block_and_attention_begin_as_the_identity():
  x = np.random.default_rng(0).normal(size=(2, 2, 2, 8)).astype(np.float32)
  for module, *args in ((unet.Block(8), x[:, 0, 0]), (unet.Attention(2),)):
    key = jax.random.key(0)
    found, _ = jax.jit(module.init_with_output)(key, x, *args)
    np.testing.assert_array_equal(found, x)


def test_groups_divide_the_channels_and_have_four_or_more():
  groups = {channels: unet.num_groups(channels) for channels in range(1, 600)}
  assert all(c % n == 0 and (n == 1 or c / n >= 4) for c, n in groups.items())
  assert [groups[c] for c in (2, 6, 18, 32, 64, 128, 256)] == [1, 1, 2, 8, 16, 32, 32]


def test_refusals():
  def init(shape, **options):
    module = unet.UNet(4, (1, 1, 1), **options)
    jax.eval_shape(module.init, jax.random.key(0), np.zeros(shape), T)

  with pytest.raises(ValueError, match=r'\(1, 8, 6, 1\) must be multiples of 4: 3 lev'):
    init((1, 8, 6, 1))
  with pytest.raises(ValueError, match=r'attention \(3,\) must be of levels 0 to 2'):
    init((1, 8, 8, 1), attention=(3,))
  with pytest.raises(ValueError, match=r'x must be \[B, H, W, C\], got \(1, 8, 8\)'):
    init((1, 8, 8))
