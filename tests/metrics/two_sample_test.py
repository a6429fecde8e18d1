"""Two-sample tests have their level under the null, and power against a shift."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gm_jax.losses import discrepancy
from gm_jax.metrics import features, two_sample

KEY = jax.random.key(0)
KERNEL = discrepancy.gaussian(std=1.5)


@functools.partial(jax.jit, static_argnames='num')
def permuted(key, x, y, num=99):
  return two_sample.permutation_test(key, x, y, kernel=KERNEL, num_permutations=num)


@jax.jit
def classified(key, x, y):
  network = features.Perceptron(2, hidden=16, num_features=8)
  return two_sample.classifier_test(
    key, x, y, network=network, steps=150, batch_size=32
  )


def repeated(test, num, shift, repetitions=200):
  """The p-values of a test on pairs of sets, from one distribution but for a shift."""

  def one(key):
    data_key, key = jax.random.split(key)
    x, y = jax.random.normal(data_key, (2, num, 2))
    return test(key, x, y + shift)[1]

  keys = jax.random.split(KEY, repetitions)
  return np.asarray(jax.jit(functools.partial(jax.lax.map, one))(keys))


def at_most(repetitions, level):
  """The most rejections that 999 of 1,000 tests of this level have."""
  return stats.binom.ppf(0.999, repetitions, level)


def test_the_permutation_test_has_its_level_and_power():
  p = repeated(permuted, 20, 0.0)
  assert p.min() >= 0.01
  for level in (0.05, 0.2, 0.5):
    # Exact at multiples of 1/100: the p-value is uniform on them.
    count = (p <= level + 1e-6).sum()
    assert stats.binom.ppf(0.001, 200, level) <= count <= at_most(200, level)
  assert (repeated(permuted, 20, 1.5) <= 0.05).mean() > 0.9


def test_the_statistic_is_the_unbiased_estimate():
  x, y = jax.random.normal(KEY, (2, 30, 2))
  y = y[:17] + 0.5
  statistic, _ = permuted(KEY, x, y)
  expected = discrepancy.mmd2_unbiased(KERNEL, x, y)
  np.testing.assert_allclose(statistic, expected, atol=1e-6)


def test_the_p_value_is_that_of_all_divisions():
  # Of 3 and 3 there are 20 divisions; each p-value by chance is near the share of those
  # whose estimate is at least as large.
  x, y = jnp.array([[0.0], [0.2], [1.0]]), jnp.array([[0.9], [2.0], [2.5]])
  pooled = np.concatenate([x, y])
  chosen = np.array(list(itertools.combinations(range(6), 3)))
  rest = np.array([np.setdiff1d(range(6), one) for one in chosen])
  each = jax.jit(jax.vmap(functools.partial(discrepancy.mmd2_unbiased, KERNEL)))
  values = each(pooled[chosen], pooled[rest])
  exact = np.mean(values >= values[0] - 1e-6)  # the first is x itself
  _, p = permuted(KEY, x, y, num=4000)
  assert abs(p - exact) < 4 * np.sqrt(exact * (1 - exact) / 4000)


def test_equal_rows_tie_and_never_reject():
  _, p = permuted(KEY, jnp.ones((9, 3)), jnp.ones((7, 3)))
  assert p == 1.0
  # One point is another: as few divisions as there are put it alone with its like.
  x = jnp.zeros((6, 1)).at[0].set(1.0)
  assert permuted(KEY, x, x)[1] > 0.3


@pytest.mark.parametrize('test', [permuted, classified])
def test_an_offset_and_an_outlier_change_no_verdict(test):
  x, y = jnp.round(jax.random.normal(KEY, (2, 60, 2)) * 64) / 64  # exact at 1e4 too
  for shift in (0.0, 2.0):
    plain = test(KEY, x, y + shift)
    np.testing.assert_allclose(
      test(KEY, x + 1e4, y + 1e4 + shift)[1], plain[1], atol=0.02
    )
    spoiled = test(KEY, x.at[0].set(1e6), y + shift)[1]
    assert spoiled <= 0.05 if shift else spoiled > 0.05


def test_the_binomial_p_value_is_exact():
  # Sets that are told apart at once: all 60 rows of the other halves are right.
  far = classified(KEY, jnp.zeros((60, 2)), jnp.ones((60, 2)))
  assert far.accuracy == 1.0
  np.testing.assert_allclose(far.p_value, 0.5**60, rtol=1e-4)
  # And in between, by scipy.
  x, y = jax.random.normal(KEY, (2, 60, 2))
  for shift in (0.0, 0.7):
    accuracy, p = classified(KEY, x, y + shift)
    right = round(60 * float(accuracy))
    np.testing.assert_allclose(p, stats.binom.sf(right - 1, 60, 0.5), rtol=1e-4)


@pytest.mark.slow
def test_of_sets_of_two_sizes_guessing_is_right_in_half():
  # By the majority alone 95% would be right.
  x, y = jax.random.normal(KEY, (400, 2)), jax.random.normal(jax.random.key(1), (21, 2))
  accuracy, p = classified(KEY, x, y)
  assert 0.2 < accuracy < 0.8 and p > 0.01


@pytest.mark.slow
def test_the_classifier_test_has_its_level_and_power():
  p = repeated(classified, 40, 0.0)
  for level in (0.05, 0.2, 0.5):
    assert (p <= level).sum() <= at_most(200, level)
  assert (repeated(classified, 40, 2.0) <= 0.05).mean() > 0.9


def test_what_is_not_finite_is_refused_or_is_nan():
  x = jax.random.normal(KEY, (60, 2))
  for wrong in (jnp.nan, jnp.inf):
    spoiled = x.at[3, 1].set(wrong)
    for test in (
      functools.partial(two_sample.permutation_test, kernel=KERNEL),
      two_sample.classifier_test,
    ):
      with pytest.raises(ValueError, match='y must be finite, got 1 of 120'):
        test(KEY, x, spoiled)
    # A kernel of an infinite distance is 0: the check is of the rows.
    assert np.isnan(permuted(KEY, x, spoiled)).all()
    assert np.isnan(classified(KEY, x, spoiled)).all()
    assert np.isnan(classified(KEY, spoiled, x)).all()


@pytest.mark.parametrize(
  ('words', 'x', 'y', 'num'),
  [
    ('two rows or more', np.ones((1, 2)), np.ones((5, 2)), 9),
    ('num_permutations must be >= 1', np.ones((5, 2)), np.ones((5, 2)), 0),
    ('same D', np.ones((5, 2)), np.ones((5, 3)), 9),
  ],
)
def test_bad_arguments_raise(words, x, y, num):
  with pytest.raises(ValueError, match=words):
    two_sample.permutation_test(KEY, x, y, kernel=KERNEL, num_permutations=num)


def test_too_few_rows_for_a_classifier_are_refused():
  with pytest.raises(ValueError, match='four rows or more each, got 3 and 9'):
    two_sample.classifier_test(KEY, np.ones((3, 2)), np.ones((9, 2)))
