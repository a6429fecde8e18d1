"""The importance-weighted bound by chunks against all weights at once, and log p(x)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from gm_jax.metrics import importance, latents

WEIGHTS = np.array([[0.3, 0.1, 0.5], [-0.2, 0.8, 0.4]])  # [D, Z] W; x = W z + noise
STD = 0.3
X = np.array([[0.4, -0.2], [1.5, 1.0], [-0.6, 0.3]])
COVARIANCE = WEIGHTS @ WEIGHTS.T + STD**2 * np.eye(2)
EXACT = stats.multivariate_normal(np.zeros(2), COVARIANCE).logpdf(X)


def posterior():
  """Mean [B, Z] and covariance [Z, Z] of z given x."""
  precision = np.eye(3) + WEIGHTS.T @ WEIGHTS / STD**2
  covariance = np.linalg.inv(precision)
  return X @ WEIGHTS @ covariance / STD**2, covariance


def weights_of(width):
  """Log-weights of draws from the exact posterior, with deviations times `width`."""
  mean, covariance = posterior()
  root = width * np.linalg.cholesky(covariance)
  log_det = np.linalg.slogdet(root)[1]

  def log_normal(x, std=1.0):
    each = -0.5 * jnp.square(x / std) - jnp.log(std) - 0.5 * jnp.log(2 * jnp.pi)
    return each.sum(axis=-1)

  def log_weights(key, num):
    noise = jax.random.normal(key, (num, *mean.shape))
    z = mean + noise @ root.T
    log_q = log_normal(noise) - log_det
    return log_normal(X - z @ WEIGHTS.T, STD) + log_normal(z) - log_q

  return log_weights


def bound(width, num, chunk=100):
  return jax.jit(
    lambda key: importance.importance_bound(weights_of(width), key, num, chunk=chunk)
  )


@pytest.mark.parametrize(('num', 'chunk'), [(7, 3), (6, 3), (2, 3), (7, 7), (1, 1)])
def test_bound_by_chunks_is_that_of_all_weights_at_once(num, chunk):
  key = jax.random.key(0)
  value, error = bound(1.5, num, chunk)(key)
  sizes = [chunk] * (num // chunk) + [num % chunk] * (num % chunk > 0)
  every = np.concatenate([
    weights_of(1.5)(jax.random.fold_in(key, i), size) for i, size in enumerate(sizes)
  ]).astype(float)  # fmt: skip
  assert every.shape == (num, 3)
  expected = special.logsumexp(every, axis=0) - np.log(num)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  if num == 1:
    assert np.isnan(error).all()  # of one draw it is not known
  else:
    w = np.exp(every)
    expected = w.std(axis=0, ddof=1) / np.sqrt(num) / w.mean(axis=0)
    np.testing.assert_allclose(error, expected, rtol=2e-3, atol=1e-5)
  again = importance.log_mean(jnp.asarray(every, jnp.float32))
  np.testing.assert_allclose(again[0], value, rtol=1e-5)
  np.testing.assert_allclose(again[1], error, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize('num', [1, 2, 150])
def test_at_the_exact_posterior_every_number_of_draws_gives_log_p(num):
  value, error = bound(1.0, num)(jax.random.key(1))
  np.testing.assert_allclose(value, EXACT, atol=2e-5)
  assert num == 1 or float(error.max()) < 2e-3  # rounding


def test_five_thousand_draws_give_log_p_within_their_error():
  value, error = bound(1.3, 5000)(jax.random.key(2))
  assert float(error.min()) > 0.001 and float(error.max()) < 0.05
  assert (np.abs(value - EXACT) < 4 * np.asarray(error)).all()


def test_bound_rises_with_the_draws_and_its_error_is_the_spread_over_repeats():
  keys = jax.random.split(jax.random.key(3), 400)
  few, _ = jax.jit(jax.vmap(bound(1.3, 1)))(keys)
  many, error = jax.jit(jax.vmap(bound(1.3, 100, 30)))(keys)
  assert (few.mean(axis=0) < many.mean(axis=0) - 0.05).all()
  assert (many.mean(axis=0) < EXACT + 0.01).all()
  # The typical error is the spread of the values, which 400 repeats know to 4 %.
  typical = np.sqrt(np.square(error).mean(axis=0))
  np.testing.assert_allclose(typical, many.std(axis=0), rtol=0.15)


def test_weights_that_are_nothing_or_nan_are_not_hidden():
  value, error = importance.log_mean(jnp.full((3, 2), -jnp.inf))
  assert np.isneginf(value).all() and np.isnan(error).all()
  value, _ = importance.log_mean(jnp.array([0.0, jnp.nan]))
  assert np.isnan(value)
  value, _ = importance.log_mean(jnp.array([-jnp.inf, 0.0]))
  np.testing.assert_allclose(value, -np.log(2), rtol=1e-6)
  # Far from 0 the error keeps its digits.
  value, error = importance.log_mean(jnp.array([-1e5, -1e5]))
  assert value == -1e5 and error == 0


def test_memory_is_that_of_a_chunk():
  def log_weights(key, num):
    return jax.random.normal(key, (num, 100, 784)).sum(axis=-1)

  fn = functools.partial(importance.importance_bound, log_weights, chunk=10)
  compiled = jax.jit(fn, static_argnums=1).lower(jax.random.key(0), 5000).compile()
  # A few copies of a chunk; all draws would be 1.6 GB.
  assert compiled.memory_analysis().temp_size_in_bytes < 8 * 4 * 10 * 100 * 784


@pytest.mark.parametrize(
  ('num', 'chunk', 'words'),
  [(0, 5, 'num_samples must be >= 1, got 0'), (5, 0, 'chunk must be >= 1, got 0')],
)
def test_no_draws_are_refused(num, chunk, words):
  with pytest.raises(ValueError, match=words):
    importance.importance_bound(weights_of(1.0), jax.random.key(0), num, chunk=chunk)


def test_weights_of_another_shape_are_refused():
  with pytest.raises(ValueError, match=r'log_weights must return \[3, B\], got \[3\]'):
    importance.importance_bound(lambda key, num: jnp.zeros(num), jax.random.key(0), 3)
  with pytest.raises(ValueError, match='K >= 1'):
    importance.log_mean(jnp.zeros((0, 3)))


def test_active_units_are_those_that_follow_the_data():
  means = np.array([[0.0, 1.0, 0.05], [0.2, 1.0, -0.05], [0.4, 1.0, 0.05]])
  count, variances = latents.active_units(jnp.asarray(means, jnp.float32))
  np.testing.assert_allclose(variances, means.var(axis=0), atol=1e-7)
  assert count == 1 and count.dtype == jnp.int32
  assert latents.active_units(jnp.asarray(means), threshold=0.001).count == 2
  with pytest.raises(ValueError, match='N >= 2'):
    latents.active_units(jnp.zeros((1, 3)))
