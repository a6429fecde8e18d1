"""Scores of outliers against Gaussians, enumeration and scikit-learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from gm_jax.metrics import detection


@functools.cache
def compiled():
  """All numbers in one program."""
  return jax.jit(
    lambda a, b: (
      detection.auroc(a, b),
      detection.average_precision(a, b),
      detection.false_positive_rate(a, b),
    )
  )


def drawn(seed, ties):
  rng = np.random.default_rng(seed)
  inliers, outliers = rng.normal(size=57), rng.normal(0.7, 1.3, size=40)
  scale = 2.0 if ties else 1e6
  return (np.round(scale * a).astype(np.float32) / scale for a in (inliers, outliers))


@pytest.mark.parametrize('ties', [False, True])
def test_areas_and_rates_are_those_of_pairs_and_of_scikit_learn(ties):
  inliers, outliers = drawn(0, ties)
  area, precision, rate = compiled()(inliers, outliers)
  pairs = (outliers[:, None] > inliers) + 0.5 * (outliers[:, None] == inliers)
  assert ties == bool((pairs == 0.5).any())
  np.testing.assert_allclose(area.value, pairs.mean(), rtol=1e-6)
  # DeLong's variance by all pairs, in float64.
  error = sum(m.var(ddof=1) / len(m) for m in (pairs.mean(0), pairs.mean(1))) ** 0.5
  np.testing.assert_allclose(area.standard_error, error, rtol=1e-5)
  label = np.repeat([0, 1], [57, 40])
  score = np.concatenate([inliers, outliers])
  np.testing.assert_allclose(area.value, metrics.roc_auc_score(label, score), rtol=1e-6)
  expected = metrics.average_precision_score(label, score)
  np.testing.assert_allclose(precision, expected, rtol=1e-6)
  fpr, tpr, _ = metrics.roc_curve(label, score, drop_intermediate=False)
  np.testing.assert_allclose(rate, fpr[np.argmax(tpr >= 0.95 - 1e-12)], rtol=1e-6)


def test_two_gaussians_have_the_areas_and_the_rate_of_their_laws():
  """AUROC is Phi(d / sqrt 2), the rate at 95% is Phi(z_.95 - d)."""
  keys, shift = jax.random.split(jax.random.key(1)), 1.2
  inliers, outliers = (jax.random.normal(k, (40_000,)) for k in keys)
  area, precision, rate = compiled()(inliers, outliers + shift)
  expected = stats.norm.cdf(shift / 2**0.5)
  assert abs(area.value - expected) < 4 * area.standard_error
  assert 0 < area.standard_error < 0.002
  np.testing.assert_allclose(
    rate, stats.norm.cdf(stats.norm.ppf(0.95) - shift), atol=0.015
  )
  # By quadrature over the threshold: recall S(t - d), precision of equal numbers.
  t = np.linspace(-9, 11, 200_001)
  hits, alarms = stats.norm.sf(t - shift), stats.norm.sf(t)
  expected = np.trapezoid(
    stats.norm.pdf(t - shift) * hits / (hits + alarms + 1e-300), t
  )
  np.testing.assert_allclose(precision, expected, atol=0.01)


def test_intervals_cover_as_often_as_they_say_and_errors_are_those_of_repetition():
  """4,000 times 40 inliers and 60 outliers."""
  keys, shift = jax.random.split(jax.random.key(2)), 1.0
  inliers = jax.random.normal(keys[0], (4000, 40))
  outliers = shift + jax.random.normal(keys[1], (4000, 60))
  found = jax.jit(jax.vmap(detection.auroc))(inliers, outliers)
  truth = stats.norm.cdf(shift / 2**0.5)
  covered = np.mean((found.low <= truth) & (truth <= found.high))
  assert abs(covered - 0.95) < 0.015, covered
  mean_square = np.mean(np.square(found.standard_error))
  np.testing.assert_allclose(mean_square, np.var(found.value), rtol=0.1)
  assert (found.low > 0).all() and (found.high <= 1).all()


@pytest.mark.slow
def test_the_bootstraps_error_is_delongs():
  """Of the area both estimate one number."""
  inliers, outliers = (np.tile(a, 4) for a in drawn(3, ties=False))
  area = detection.auroc(inliers, outliers)
  error = detection.bootstrap(
    jax.random.key(0),
    lambda a, b: detection.auroc(a, b).value,
    inliers,
    outliers,
    num=1000,
  )
  np.testing.assert_allclose(error, area.standard_error, rtol=0.1)


def test_ends_of_the_scale_and_what_is_no_number():
  low, high = jnp.array([0.0, 1.0, 1.0, 1.0]), jnp.array([2.0, 3.0, 9.0, jnp.inf])
  area, precision, rate = compiled()(low, high)
  assert (area.value, area.standard_error, precision, rate) == (1, 0, 1, 0)
  assert area.low == area.high == 1
  area, _, rate = compiled()(low.at[0].set(1.0), jnp.ones(4))
  assert area.value == 0.5 and rate == 1
  broken = high.at[0].set(jnp.nan)
  for pair in ((low, broken), (broken, low)):
    assert all(jnp.isnan(number) for number in jax.tree.leaves(compiled()(*pair)))
  assert jnp.isnan(detection.auroc(low, high[:1]).standard_error)


def test_wrong_input_is_one_line():
  good = jnp.ones(3)
  for f in (detection.auroc, detection.average_precision):
    with pytest.raises(ValueError, match=r'outliers must be scores \[N\]'):
      f(good, good[:, None])
    with pytest.raises(ValueError, match=r'inliers must be .* one or more'):
      f(good[:0], good)
  with pytest.raises(ValueError, match=r'true_positive_rate must be in \(0, 1\]'):
    detection.false_positive_rate(good, good, true_positive_rate=95)
  with pytest.raises(ValueError, match='num must be >= 2'):
    detection.bootstrap(
      jax.random.key(0), detection.average_precision, good, good, num=1
    )
