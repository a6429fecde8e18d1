"""A mean and its standard error: by hand, of infinities, in numpy and in jax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import statistics


@pytest.mark.parametrize('make', [np.asarray, jnp.asarray])
def test_mean_and_error_are_those_of_the_textbook(make):
  values = make(np.array([[1.0, 2.0, 6.0], [0.0, 0.0, 0.0]], np.float32).T)
  mean, error = statistics.mean_and_error(values)
  assert isinstance(mean, type(values)) and isinstance(error, type(values))
  np.testing.assert_allclose(mean, [3.0, 0.0])
  # (4 + 1 + 9) / 2 = 7, over N = 3.
  np.testing.assert_allclose(error, [np.sqrt(7 / 3), 0.0], rtol=1e-6)


def test_error_falls_with_the_root_of_the_number():
  values = np.random.default_rng(0).normal(size=(10_000, 7))
  mean, error = statistics.mean_and_error(values)
  np.testing.assert_allclose(error, 0.01, rtol=0.05)
  assert np.all(np.abs(mean) < 4 * error)
  whole = statistics.mean_and_error(values, axis=None)
  assert np.shape(whole) == (2,) and whole[1] < error.min() / 2


def test_an_infinity_has_an_infinite_mean_and_no_error():
  with np.errstate(all='raise', invalid='warn'):
    mean, error = statistics.mean_and_error([1.0, np.inf])
  assert np.isinf(mean) and np.isnan(error)
  mean, error = statistics.mean_and_error(jnp.array([1.0, np.nan]))
  assert np.isnan(mean) and np.isnan(error)


def test_a_single_value_has_no_error_and_none_is_refused():
  mean, error = statistics.mean_and_error(np.array([5]))
  assert mean == 5 and np.isnan(error)
  with jax.debug_nans(True):  # finds none on a device
    mean, error = statistics.mean_and_error(jnp.array([[2.0, 3.0]]))
  np.testing.assert_array_equal(mean, [2, 3])
  assert np.isnan(error).all() and error.dtype == mean.dtype and error.shape == (2,)
  with pytest.raises(ValueError, match='needs a value or more'):
    statistics.mean_and_error(np.zeros((0, 3)))


def test_it_may_be_compiled():
  mean, error = jax.jit(statistics.mean_and_error)(jnp.arange(5.0))
  np.testing.assert_allclose([mean, error], [2.0, np.sqrt(2.5 / 5)], rtol=1e-6)


def test_text_leaves_out_an_error_that_is_not_known():
  assert statistics.text(1.25, 0.5, '.1f') == '1.2 +- 0.5'
  assert statistics.text(1.25, 0.123, '.2f', '.1g') == '1.25 +- 0.1'
  assert statistics.text(np.inf, np.nan, '.1f') == 'inf'
  assert statistics.text(3, None, 'd') == '3'
