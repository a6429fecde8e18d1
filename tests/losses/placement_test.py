"""Losses of parts and places: by hand, at the optimum, by differences in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from gm_jax.losses import placement

rng = np.random.default_rng(0)
LOGITS = rng.normal(0, 3, (4, 5))
IMAGE, REAL = rng.uniform(-1, 1, (2, 3, 6, 5, 2))
SOFT = rng.uniform(0, 1, (3, 6, 5, 1))
HARD = (rng.random((3, 6, 5, 1)) < 0.4).astype(float)


def test_discriminator_is_four_cross_entropies_of_one_real_and_three_that_are_not():
  p = special.expit(LOGITS)
  expected = -np.log(p[0]) - np.log(1 - p[1:]).sum(axis=0)
  np.testing.assert_allclose(placement.discriminator(*LOGITS), expected, rtol=1e-5)


def test_the_best_critic_is_the_log_ratio_of_the_real_to_the_sum_of_the_others():
  # min_d p softplus(-d) + (q1 + q2 + q3) softplus(d): d = ln p - ln(q1 + q2 + q3).
  p, *q = rng.dirichlet(np.ones(7), 4)
  best = jnp.asarray(np.log(p) - np.log(sum(q)))
  none = jnp.full(7, -jnp.inf)  # a logit that costs nothing

  def value(d):
    kinds = ((d, none, none, none), (-none, d, none, none), (-none, none, d, none))
    kinds += ((-none, none, none, d),)
    parts = zip((p, *q), kinds, strict=True)
    return sum((m * placement.discriminator(*x)).sum() for m, x in parts)

  with jax.enable_x64(True):
    assert np.abs(jax.grad(value)(best)).max() < 1e-6


def test_large_logits_have_finite_values_and_slopes():
  big = jnp.array([1e4, -1e4])
  value, slopes = jax.value_and_grad(
    lambda *x: placement.discriminator(*x).sum(), (0, 1, 2, 3)
  )(big, big, big, big)
  assert value == 4e4 and np.isfinite(slopes).all()


def test_terms_are_sums_over_pixels_as_written():
  expected = [sum(abs(m - h) for m, h in zip(a.ravel(), b.ravel(), strict=True))
              for a, b in zip(SOFT, HARD, strict=True)]  # fmt: skip
  np.testing.assert_allclose(placement.spatial(SOFT, HARD), expected, rtol=1e-5)
  found = placement.appearance(IMAGE, SOFT, REAL, HARD)
  expected = np.abs(SOFT * IMAGE - HARD * REAL).reshape(3, -1).sum(axis=1)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  assert (placement.spatial(HARD, HARD) == 0).all()
  assert (placement.appearance(REAL, HARD, REAL, HARD) == 0).all()


def test_the_authors_sum_over_a_batch_of_64_is_64_times_the_mean():
  masks = rng.uniform(0, 1, (2, 64, 4, 4, 1))
  of_batch = 0.01 * np.abs(masks[0] - masks[1]).sum()
  ours = 0.64 * placement.spatial(*masks).mean()
  np.testing.assert_allclose(ours, of_batch, rtol=1e-5)
  # At a batch of 32 the authors' weight would count half as much.
  half = 0.64 * placement.spatial(*masks[:, :32]).mean()
  assert half > 1.5 * 0.01 * np.abs(masks[0] - masks[1])[:32].sum()


def test_right_parts_in_a_wrong_place_count_in_both_places():
  image, real = np.zeros((2, 1, 4, 4, 1))
  mask, real_mask = np.zeros((2, 1, 4, 4, 1))
  image[0, 0], mask[0, 0], real[0, 2], real_mask[0, 2] = 1, 1, 1, 1
  assert placement.appearance(image, mask, real, real_mask) == 8
  assert placement.spatial(mask, real_mask) == 8


def test_composites_are_the_one_image_in_the_mask_and_the_other_outside():
  found = placement.composite(IMAGE, REAL, HARD)
  np.testing.assert_allclose(found, np.where(HARD > 0, IMAGE, REAL), rtol=1e-6)
  # The two composites of a pair share out what there is.
  other = placement.composite(REAL, IMAGE, HARD)
  np.testing.assert_allclose(found + other, IMAGE + REAL, atol=1e-6)
  np.testing.assert_allclose(placement.composite(REAL, REAL, SOFT), REAL, atol=1e-6)


@pytest.mark.parametrize('name', ['spatial', 'appearance', 'composite', 'logits'])
def test_slopes_are_those_of_differences_in_float64(name):
  functions = {
    'spatial': (lambda m: placement.spatial(m, HARD).sum(), SOFT),
    'appearance': (
      lambda y: placement.appearance(y, SOFT, REAL, HARD).sum(), IMAGE),
    'composite': (
      lambda m: jnp.square(placement.composite(IMAGE, REAL, m)).sum(), SOFT),
    'logits': (lambda x: placement.discriminator(*x).sum(), LOGITS),
  }  # fmt: skip
  function, at = functions[name]
  direction, step = rng.normal(size=at.shape), 1e-6
  with jax.enable_x64(True):
    slope = float((jax.grad(function)(jnp.asarray(at)) * direction).sum())
    ends = [float(function(jnp.asarray(at + s * step * direction))) for s in (1, -1)]
  np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-6)


def test_one_example_is_as_in_a_batch_and_jit_as_eager():
  batch = placement.appearance(IMAGE, SOFT, REAL, HARD)
  one = jax.vmap(lambda *a: placement.appearance(*(x[None] for x in a))[0])
  np.testing.assert_allclose(jax.jit(one)(IMAGE, SOFT, REAL, HARD), batch, rtol=1e-5)


@pytest.mark.parametrize(
  ('call', 'word'),
  [
    (lambda: placement.discriminator(*LOGITS[:3], LOGITS[3][:2]), 'same B'),
    (lambda: placement.discriminator(*LOGITS[:3], LOGITS), r'must be \[B\]'),
    (lambda: placement.spatial(SOFT, HARD[:2]), 'of one shape'),
    (lambda: placement.spatial(SOFT, HARD[..., 0]), 'of one shape'),
    (lambda: placement.appearance(IMAGE, SOFT, REAL[:2], HARD), 'of one shape'),
    (lambda: placement.appearance(IMAGE, IMAGE, REAL, REAL), r'must be \[3, 6, 5, 1\]'),
    (lambda: placement.composite(IMAGE, REAL, SOFT[..., 0]), r'must be \[3, 6, 5, 1\]'),
  ],
)
def test_wrong_shapes_are_one_line(call, word):
  with pytest.raises(ValueError, match=word) as error:
    call()
  assert '\n' not in str(error.value)
