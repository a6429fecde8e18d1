"""The diffusion transformer: patches, positions, and blocks that see no order."""

import jax
import numpy as np
import pytest
import weights

from gm_jax.models import dit

T = np.zeros(1, np.float32)


def test_patches_are_pieces_of_the_image_and_join_to_it():
  x = np.random.default_rng(0).normal(size=(2, 4, 6, 3))
  patches = dit.patchify(x, 2)
  assert patches.shape == (2, 2, 3, 12)
  np.testing.assert_array_equal(patches[1, 1, 2], x[1, 2:, 4:].ravel())
  np.testing.assert_array_equal(dit.unpatchify(patches, 2), x)


def test_the_product_of_two_positions_sees_their_differences_alone():
  found = np.asarray(dit.positions(3, 5, 8)).reshape(15, 8)
  row, column = np.divmod(np.arange(15), 5)
  differences = (np.subtract.outer(v, v) for v in (row, column))
  expected = sum(np.cos(w * d) for d in differences for w in (1, 1e-2))
  np.testing.assert_allclose(found @ found.T, expected, atol=1e-5)


def test_blocks_see_no_order_and_the_network_does():
  rng = np.random.default_rng(0)
  order = rng.permutation(6)
  x = rng.normal(size=(2, 6, 8)).astype(np.float32)
  embedding = rng.normal(size=(2, 4)).astype(np.float32)
  block = dit.Block(2)
  variables = weights.drawn(block, x, embedding, std=0.5)
  apply = jax.jit(block.apply)
  plain, moved = (apply(variables, v, embedding) for v in (x, x[:, order]))
  np.testing.assert_allclose(moved, plain[:, order], rtol=1e-4, atol=1e-4)
  assert np.abs(plain - x).min() > 0

  def of_image(v):  # each pixel a patch
    return apply(variables, v.reshape(1, 2, 3, 1), T).reshape(6)

  module, v = dit.DiT(1, 4, 1, 1), x[0, :, 0]
  variables = weights.drawn(module, v.reshape(1, 2, 3, 1), T, std=0.5)
  apply = jax.jit(module.apply)
  assert np.abs(of_image(v[order]) - of_image(v)[order]).max() > 1e-2


def test_a_block_begins_as_the_identity():
  x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
  key = jax.random.key(0)
  found, _ = jax.jit(dit.Block(2).init_with_output)(key, x, x[:, 0])
  np.testing.assert_array_equal(found, x)


def test_refusals():
  def init(shape, *sizes):
    jax.eval_shape(dit.DiT(*sizes).init, jax.random.key(0), np.zeros(shape), T)

  with pytest.raises(
    ValueError, match=r'\(1, 4, 6, 1\) must be multiples of the patch'
  ):
    init((1, 4, 6, 1), 4)
  with pytest.raises(ValueError, match='divisible by 4, got 6'):
    init((1, 4, 4, 1), 2, 6)
  with pytest.raises(ValueError, match='8 features are not divisible by 3 heads'):
    init((1, 4, 4, 1), 2, 8, 1, 3)
