"""Scores by name are those of the metrics; equal sets, and what is refused."""

import functools

import jax
import numpy as np
import pytest

from gm_jax.metrics import extractors, scores

KEY = jax.random.key(0)


@functools.cache
def images(seed, num=40, shift=0):
  x = np.random.default_rng(seed).integers(0, 200, (num, 3, 4, 1)) + shift
  return x.astype(np.uint8)


def sets(real, fake, **more):
  extractor = extractors.pixels()
  known = [extractors.summary(*extractors.extract(extractor, x)) for x in (real, fake)]
  return scores.Sets(real, fake, *known, **more)


def numbers(result):
  return {name: float(value) for name, (value, _) in result.values.items()}


def test_equal_sets():
  found = numbers(
    scores.score(KEY, ['frechet', 'prdc'], sets(images(0), images(0), k=3))
  )
  assert 0 <= found.pop('frechet') < 1e-5
  assert found == dict.fromkeys(['precision', 'recall', 'density', 'coverage'], 1.0)


def brute_force(real, fake, k):
  """Frechet distance, precision and coverage in float64."""
  mean, cov = [x.mean(0) for x in (real, fake)], [np.cov(x.T) for x in (real, fake)]
  roots = np.linalg.eigvals(cov[0] @ cov[1]).real.clip(0) ** 0.5
  distance = np.square(mean[0] - mean[1]).sum() + np.trace(sum(cov)) - 2 * roots.sum()

  def between(x, y):
    return np.linalg.norm(x[:, None] - y, axis=-1)

  inside = between(real, fake) < np.sort(between(real, real))[:, k : k + 1]
  return distance, inside.any(0).mean(), inside.any(1).mean()


def test_scores_are_those_of_their_definitions():
  both = sets(images(0), images(1, shift=20), k=3)
  result = scores.score(KEY, ['frechet', 'prdc', 'neighbors'], both)
  found = numbers(result)
  real, fake = (
    images(0).reshape(40, -1) / 255,
    images(1, shift=20).reshape(40, -1) / 255,
  )
  np.testing.assert_allclose(both.real_statistics.features, real, rtol=1e-6)
  values = [found[name] for name in ('frechet', 'precision', 'coverage')]
  np.testing.assert_allclose(values, brute_force(real, fake, 3), rtol=1e-3)
  assert result.values['coverage'][1] == 'estimate, k = 3'
  distances = np.linalg.norm(fake[:, None] - real, axis=-1)
  order = np.argsort(distances)[:, :7]
  np.testing.assert_array_equal(result.arrays[scores.NEIGHBORS], order)
  median = np.median(distances.min(1))
  np.testing.assert_allclose(found['neighbor_distance'], median, rtol=1e-5)


def test_a_score_does_not_depend_on_what_else_is_asked_for():
  both = sets(images(0), images(1))
  alone = scores.score(KEY, ['kernel'], both)
  among = scores.score(KEY, ['frechet', 'kernel', 'kernel'], both)
  name = 'kernel_distance'
  assert numbers(alone)[name] == numbers(among)[name]
  assert '100 subsets of 40' in alone.values[name][1]


def test_copies_of_training_images_are_nearer_than_held_out_ones():
  train = images(2)
  points = extractors.extract(extractors.pixels(), train)[0]
  both = sets(images(0), train, train=(train, points))
  result = scores.score(KEY, ['neighbors'], both)
  found, indices = numbers(result), result.arrays[scores.NEIGHBORS]
  np.testing.assert_array_equal(indices[:, 0], np.arange(40))
  assert found['neighbor_distance'] == 0 < found['neighbor_distance_real']
  rows = scores.neighbor_rows(both.fake, train, indices, num=3)
  assert rows.shape == (3, 8, 3, 4, 1)
  np.testing.assert_array_equal(rows[:, 0], train[:3])
  np.testing.assert_array_equal(rows[:, 1], train[:3])


def test_inception_score_of_certain_and_of_undecided_classes():
  certain = 50.0 * np.eye(4, dtype='f')[np.arange(40) // 10]  # sorted by class
  known = [extractors.summary(certain, x) for x in (certain, 0 * certain)]
  both = scores.Sets(images(0), images(0), *known)
  found = numbers(scores.score(KEY, ['inception_score'], both))
  np.testing.assert_allclose(found['inception_score'], 1.0, rtol=1e-5)
  assert 2.5 < found['inception_score_real'] <= 4.0  # of splits of four


def test_diversity_is_0_of_one_image_and_root_of_the_variance_else():
  one = np.repeat(images(0)[:1], 40, axis=0)
  found = numbers(scores.score(KEY, ['diversity'], sets(images(0), one)))
  assert found['diversity'] == found['diversity_se'] == 0
  x = images(0).reshape(40, -1) / 255
  every = np.linalg.norm(x[:, None] - x, axis=-1).sum() / (40 * 39)
  error = found['diversity_real_se']
  assert abs(found['diversity_real'] - every) < 5 * error < 0.1


@pytest.mark.slow
def test_two_sample_tests_tell_a_shift_and_nothing_from_nothing():
  real, like = images(0, 400), images(1, 300)
  null = numbers(scores.score(KEY, ['two_sample'], sets(real, like)))
  assert min(null['mmd2_p_value'], null['c2st_p_value']) > 0.01
  shifted = numbers(scores.score(KEY, ['two_sample'], sets(real, images(1, 300, 50))))
  assert max(shifted['mmd2_p_value'], shifted['c2st_p_value']) < 0.01
  assert shifted['c2st_accuracy'] > 0.7


@pytest.mark.slow
def test_perceptual_diversity_says_how_it_was_made(tmp_path):
  from lpips_test import random_file

  np.savez(tmp_path / 'w.npz', **random_file('AlexNet'))
  weights = scores.perceptual(str(tmp_path / 'w.npz'))
  one = np.repeat(images(0)[:1], 4, axis=0)
  result = scores.score(KEY, ['diversity'], sets(images(0), one, perceptual=weights))
  found = numbers(result)
  assert abs(found['diversity']) < 1e-6 < found['diversity_real']
  kind = result.values['diversity'][1]
  assert f'AlexNet, weights {weights.checksum}, images made 64x64' in kind


@pytest.mark.parametrize(
  ('names', 'num', 'message'),
  [
    (
      ['frechet', 'kid'],
      9,
      "no metric 'kid'; did you mean .* There are: frechet, prdc,",
    ),
    ([], 9, 'no metrics named; there are: frechet'),
    (['frechet'], 1, 'frechet needs 2 fake images or more, got 1'),
    (['two_sample'], 7, 'two_sample needs 8 fake images or more, got 7'),
    (['inception_score'], 9, '--features=classifier'),
    (['prdc'], 5, 'k must be from 1 to 4'),
  ],
)
def test_what_cannot_be_is_one_line(names, num, message):
  with pytest.raises(ValueError, match=message):
    scores.score(KEY, names, sets(images(0), images(1)[:num]))


def test_a_covariance_of_too_many_features_is_refused():
  both = sets(images(0), images(1))
  known = both.real_statistics._replace(moments=None)
  with pytest.raises(ValueError, match='of which there are 12, and at most 8192'):
    scores.score(KEY, ['frechet'], both._replace(real_statistics=known))
