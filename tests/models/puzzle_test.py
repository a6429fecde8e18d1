"""The painter of patches: their order is nothing to it, also while it trains."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.models import puzzle

KEY = jax.random.key(0)
B, P, SIZE = 6, 3, 16


def inputs(dtype=np.float32):
  rng = np.random.default_rng(0)
  z, patches = rng.normal(size=(B, 4)), rng.uniform(-1, 1, (B, P, SIZE, SIZE, 2))
  return z.astype(dtype), patches.astype(dtype)


def reordered(patches):
  """Every example in an order of its own: one order for all would hide statistics."""
  rng = np.random.default_rng(1)
  return np.stack([each[rng.permutation(P)] for each in patches])


PAINTER = puzzle.Painter(SIZE, 2, 4, 16)


def applied(module, variables, patches, z, train=True):
  return module.apply(variables, z, patches, train=train, mutable=['batch_stats'])


def largest_change(module, train, dtype=np.float32):
  z, patches = inputs(dtype)
  variables = jax.jit(module.init)(KEY, z, patches)
  variables = jax.tree.map(lambda v: np.asarray(v, dtype), variables)
  run = jax.jit(functools.partial(applied, module, train=train))
  outs = [run(variables, p, z) for p in (patches, reordered(patches))]
  gaps = jax.tree.map(lambda a, b: np.abs(a - b).max(), *outs)
  return max(jax.tree.leaves(gaps))


@pytest.mark.slow
def test_the_order_of_patches_is_nothing_to_image_mask_and_statistics():
  assert largest_change(PAINTER, True) < 1e-6
  assert largest_change(PAINTER, False) < 1e-6
  with jax.enable_x64(True):
    assert largest_change(PAINTER, True, np.float64) < 1e-13


class OnceASlot(nn.Module):
  """The authors' way: the encoder is called for the first patches, the second, ..."""

  @nn.compact
  def __call__(self, z, patches, *, train=False):
    encoder = puzzle.Encoder((4, 8), 16)
    slots = [encoder(patches[:, p], train=train) for p in range(P)]
    del z
    return jax.tree.map(lambda *x: sum(x), *slots)


def test_an_encoder_that_is_called_once_a_patch_sees_their_order_while_it_trains():
  assert largest_change(OnceASlot(), False) < 1e-6
  assert largest_change(OnceASlot(), True) > 1e-2


@pytest.mark.slow
def test_features_are_sums_over_patches_at_every_level():
  z, patches = inputs()
  variables = jax.jit(PAINTER.init)(KEY, z, patches)
  own = {k: v['encoder'] for k, v in variables.items()}
  encoder = puzzle.Encoder((4, 8), 16)
  encode = jax.jit(encoder.apply)
  each = [encode(own, patches[:, p]) for p in range(P)]
  assert [e.shape[1:] for e in each[0]] == [(8, 8, 4), (4, 4, 8), (16,)]
  # A painter of one patch whose encoder gives these sums paints the same.
  sums = [sum(level) for level in zip(*each, strict=True)]
  mask, maps = puzzle.Decoder((8, 4), 1).apply(
    {k: v['mask'] for k, v in variables.items()}, sums[2], sums[1::-1]
  )
  image, _ = puzzle.Decoder((8, 4), 2).apply(
    {k: v['image'] for k, v in variables.items()},
    jnp.concatenate([sums[2], z], 1), maps,
  )  # fmt: skip
  found = PAINTER.apply(variables, z, patches)
  np.testing.assert_allclose(found[0], np.tanh(image), atol=1e-5)
  np.testing.assert_allclose(found[1], jax.nn.sigmoid(mask), atol=1e-5)


def test_image_and_mask_are_in_their_intervals_and_see_noise_and_patches():
  z, patches = inputs()
  variables = jax.jit(PAINTER.init)(KEY, z, patches)
  paint = jax.jit(PAINTER.apply)
  image, mask = paint(variables, z, patches)
  assert image.shape == (B, SIZE, SIZE, 2) and mask.shape == (B, SIZE, SIZE, 1)
  assert np.abs(image).max() < 1 and mask.min() > 0 and mask.max() < 1
  other, same = paint(variables, -z, patches)
  assert np.abs(other - image).max() > 1e-3
  np.testing.assert_array_equal(same, mask)  # the mask is of the patches alone
  moved = paint(variables, z, np.roll(patches, 1, axis=0))
  assert min(np.abs(a - b).max() for a, b in zip(moved, (image, mask), strict=True)) > (
    1e-3
  )


@pytest.mark.parametrize(
  ('size', 'shape', 'word'),
  [
    (20, (2, 3, 20, 20, 1), 'image size 20 is not 4 or 7'),
    (16, (2, 3, 8, 8, 1), r"patches must be \[2, 'P', 16, 16, 1\]"),
    (16, (2, 3, 16, 16, 3), r'got \[2, 3, 16, 16, 3\]'),
    (16, (2, 16, 16, 1), 'patches must be'),
    (16, (5, 3, 16, 16, 1), 'patches must be'),
  ],
)
def test_what_does_not_fit_is_one_line(size, shape, word):
  with pytest.raises(ValueError, match=word) as error:
    jax.eval_shape(
      puzzle.Painter(size, 1).init, KEY, jnp.zeros((2, 4)), jnp.zeros(shape)
    )
  assert '\n' not in str(error.value)
