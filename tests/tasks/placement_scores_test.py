"""Scores of placing, of painters that know all, half or nothing."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import base
from gm_jax.data import patches, transforms
from gm_jax.tasks import placement, results

KEY = jax.random.key(0)
N, P, H = 40, 2, 12
rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, (N, H, H, 1)).astype(np.float32)
SIZES = rng.integers(3, 5, (N, P, 2))
BOXES = np.concatenate([rng.integers(0, H - 4, (N, P, 2)), SIZES], axis=2)
MASKS = patches.masks(BOXES, (H, H)).astype(np.float32)
ARRAYS = {
  split: {'x': X, 'condition': patches.cut(X, BOXES), 'mask': MASKS}
  for split in ('test', 'train')
}
SPEC = base.DataSpec(
  (H, H, 1), np.dtype(np.float32), None, None, None, transforms.identity()
)


def scores(image, mask, critic=lambda x: x.mean(axis=(1, 2, 3)), arrays=ARRAYS):
  def sample_info(model, key, num, *, condition=None):
    return jnp.asarray(image), {'mask': jnp.asarray(mask)}

  method = types.SimpleNamespace(
    card=types.SimpleNamespace(condition=('condition',)),
    queries={
      'sample_info': sample_info,
      'critic': lambda model, key, x, *, condition=None: critic(x),
    },
  )
  return results.numbers(placement.placement(method, None, KEY, arrays, SPEC))


UNION = MASKS.max(axis=3, keepdims=True)


def test_a_painter_that_knows_all_has_no_error_and_an_ignorant_one_that_of_another():
  found = scores(X, UNION)
  assert found['mask_iou'] == 1 and 0.1 < found['mask_iou_of_mean'] < 0.6
  assert found['place_error'] == 0 and found['appearance_error'] == 0
  other = scores(np.roll(X, 1, axis=0), np.roll(UNION, 1, axis=0))
  for name in ('place_error', 'appearance_error'):
    np.testing.assert_allclose(other[name], found[f'{name}_of_another'], rtol=1e-5)
  by_hand = [
    (a * b).sum() / np.maximum(a, b).sum()
    for a, b in zip(UNION, np.roll(UNION, 1, axis=0), strict=True)
  ]
  np.testing.assert_allclose(other['mask_iou'], np.mean(by_hand), rtol=1e-5)
  looks = (np.abs(np.roll(X, 1, axis=0) - X) * UNION).sum() / UNION.sum()
  np.testing.assert_allclose(other['appearance_error'], looks, rtol=1e-5)


def test_places_are_found_as_by_trying_every_shift():
  image = np.roll(X, 1, axis=0) + 0.3 * X
  found = placement.place_errors(jnp.asarray(image), (X, MASKS))
  for i in range(6):
    for p in range(P):
      top, left, h, w = BOXES[i, p]
      part, best = X[i, top : top + h, left : left + w], (np.inf, None)
      for y in range(H - h + 1):
        for x in range(H - w + 1):
          cost = np.square(image[i, y : y + h, x : x + w] - part).sum()
          best = min(best, (cost, np.hypot(y - top, x - left)))
      np.testing.assert_allclose(found[i, p], best[1], atol=1e-4)


@pytest.mark.parametrize('shift', [(1, 0), (0, 2), (2, 1)])
def test_a_picture_that_is_moved_has_the_error_of_the_move(shift):
  x = np.full((N, H, H, 1), -1.0, np.float32)
  boxes = np.tile([[4, 4, 3, 3]], (N, 1))[:, None]
  x[:, 3:9, 3:9] = X[:, 3:9, 3:9]
  masks = patches.masks(boxes, (H, H)).astype(np.float32)
  moved = np.roll(x, shift, axis=(1, 2))
  found = placement.place_errors(jnp.asarray(moved), (x, masks))
  np.testing.assert_allclose(found, np.hypot(*shift), atol=1e-4)


def test_the_mean_mask_is_cut_where_it_overlaps_best():
  masks = np.zeros((4, 6, 6, 1), np.float32)
  masks[:, :3] = 1  # in all
  masks[:2, 3:5] = 1  # in half of them
  best = placement.best_mean_mask(jnp.asarray(masks))
  # With the half 0.5 (1 + 18 / 30), without 0.5 (1 + 18 / 30): equal, the first.
  assert best[:3].all() and not best[5:].any()
  two = np.zeros((3, 4, 4, 1), np.float32)
  two[:, :2], two[0, 3] = 1, 1
  np.testing.assert_array_equal(placement.best_mean_mask(jnp.asarray(two)), two[1] > 0)


def test_overlap_of_masks_by_hand():
  a = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 1, 0]])
  b = np.array([[0, 1, 1, 0], [0, 0, 0, 0], [0, 1, 1, 0]])
  found = placement.intersection_over_union(jnp.asarray(a), jnp.asarray(b))
  np.testing.assert_allclose(found, [1 / 3, 1, 1], rtol=1e-6)


def test_margins_are_of_composites_with_another_image():
  weight = rng.normal(size=(H, H, 1)).astype(np.float32)

  def critic(x):
    return (x * weight).sum(axis=(1, 2, 3))

  found = scores(X, UNION, critic)
  other = np.roll(X, 1, axis=0)
  mixed = [np.where(UNION > 0, a, b) for a, b in ((other, X), (X, other))]
  gaps = [((X - m) * weight).sum(axis=(1, 2, 3)) for m in mixed]
  np.testing.assert_allclose(found['margin_parts'], gaps[0].mean(), atol=1e-4)
  np.testing.assert_allclose(found['margin_ground'], gaps[1].mean(), atol=1e-4)
  fraction = (np.stack(gaps) > 0).mean()
  np.testing.assert_allclose(found['margin_positive'], fraction, rtol=1e-6)


def test_data_without_patches_are_refused_in_one_line():
  plain = {split: {'x': X, 'condition': np.zeros((N, 5), np.float32)}
           for split in ARRAYS}  # fmt: skip
  with pytest.raises(ValueError, match='as of patches:NAME') as error:
    scores(X, UNION, arrays=plain)
  assert '\n' not in str(error.value)
