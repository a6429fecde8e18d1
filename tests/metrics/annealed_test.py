"""Annealed importance sampling where log p(x) is known: probabilistic PCA."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gm_jax.metrics import annealed

Z, D, STD, NUM = 2, 6, 0.4, 6
WEIGHTS = np.asarray(0.7 * jax.random.normal(jax.random.key(0), (Z, D)), float)
BIAS = np.linspace(-1.0, 1.0, D)
CHAINS = annealed.Chains(num_chains=48, num_steps=1000, num_leapfrog=5, chunk=4)


def log_normal(x, std=1.0):
  each = -0.5 * jnp.square(x / std) - jnp.log(std) - 0.5 * jnp.log(2 * jnp.pi)
  return each.sum(axis=-1)


def log_likelihood(z, x):
  return log_normal(x - z @ WEIGHTS - BIAS, STD)


def draw_prior(key, num):
  return jax.random.normal(key, (num, Z))


PPCA = annealed.Decoder(log_likelihood, log_normal, draw_prior)


def exact(x):
  covariance = WEIGHTS.T @ WEIGHTS + STD**2 * np.eye(D)
  return stats.multivariate_normal(BIAS, covariance).logpdf(x)


def posterior(width=1.0):
  """q(z | x), the exact one or with its deviations multiplied, and its mean's gain."""
  covariance = np.linalg.inv(np.eye(Z) + WEIGHTS @ WEIGHTS.T / STD**2)
  gain, root = WEIGHTS.T @ covariance / STD**2, np.linalg.cholesky(covariance)
  inverse, log_det = np.linalg.inv(root).T, np.linalg.slogdet(root)[1]

  def draw(key, x):
    noise = jax.random.normal(key, (len(x), Z))
    return (x - BIAS) @ gain + width * noise @ root.T

  def log_prob(z, x):
    noise = (z - (x - BIAS) @ gain) @ inverse / width
    return log_normal(noise) - log_det - Z * jnp.log(width)

  return annealed.Posterior(draw, log_prob), gain, covariance


def both(key, x, z, **more):
  """The two estimates, compiled."""
  keys = jax.random.split(key)
  return jax.jit(
    lambda x, z: (
      annealed.forward(PPCA, keys[0], x, **more),
      annealed.reverse(PPCA, keys[1], x, z, **more),
    )
  )(x, z)


@functools.cache
def simulated():
  """z, x that the model drew from it, and both estimates."""
  z_key, noise_key, key = jax.random.split(jax.random.key(1), 3)
  z = draw_prior(z_key, NUM)
  x = z @ WEIGHTS + BIAS + STD * jax.random.normal(noise_key, (NUM, D))
  return z, x, *both(key, x, z, chains=CHAINS)


@pytest.mark.slow
def test_linear_gaussian_decoder_comes_out_within_a_tenth_of_a_nat():
  _, x, lower, upper = simulated()
  for found in (lower, upper):
    difference = np.asarray(found.log_prob) - exact(x)
    assert np.abs(difference).max() < 0.1, difference
    assert abs(difference.mean()) < 0.05
    assert (np.abs(difference) < 4 * np.asarray(found.standard_error)).all()
    assert float(found.standard_error.max()) < 0.1


@pytest.mark.slow
def test_exact_value_is_between_forward_and_reverse_and_the_gap_says_so():
  _, x, lower, upper = simulated()
  log_p, gap = exact(x).mean(), float((upper.log_prob - lower.log_prob).mean())
  error = float(jnp.sqrt(jnp.sum(lower.standard_error**2))) / len(x)
  assert float(lower.log_prob.mean()) < log_p + 3 * error
  assert float(upper.log_prob.mean()) > log_p - 3 * error
  assert abs(gap) < 0.1


@pytest.mark.slow
@pytest.mark.slow
def test_few_temperatures_leave_a_gap_around_the_exact_value():
  z, x, *_ = simulated()
  few = annealed.Chains(4, 12, 4, step_size=0.3, num_adapting=0)
  lower, upper = both(jax.random.key(2), x, z, chains=few)
  log_p = exact(x).mean()
  assert float(lower.log_prob.mean()) < log_p - 0.3
  assert float(upper.log_prob.mean()) > log_p + 0.3
  np.testing.assert_allclose(lower.step_size, 0.3, rtol=1e-6)


@pytest.mark.slow
def test_transitions_are_accepted_as_wanted_and_steps_are_reported():
  _, _, lower, upper = simulated()
  for found in (lower, upper):
    assert 0.6 < float(found.acceptance.mean()) < 0.95
    assert 0.1 < float(found.step_size.min()) <= float(found.step_size.max()) <= 0.5
  assert lower.log_weights.shape == (48, NUM) and lower.z.shape == (48, NUM, Z)


def test_chains_end_in_the_posterior():
  _, x, lower, _ = simulated()
  _, gain, covariance = posterior()
  root = np.linalg.inv(np.linalg.cholesky(covariance)).T
  off = (np.asarray(lower.z) - (x - BIAS) @ gain) @ root  # [C, B, Z], standard normal
  assert stats.kstest(off.ravel(), 'norm').pvalue > 0.01


def test_beginning_at_a_posterior_few_temperatures_are_enough():
  z, x, *_ = simulated()
  chains = annealed.Chains(16, 10, 4, step_size=0.1, num_adapting=0)

  @jax.jit
  def estimates(x, z, width):
    q = posterior(width)[0]
    lower = annealed.forward(PPCA, jax.random.key(3), x, posterior=q, chains=chains)
    return lower, annealed.reverse(
      PPCA, jax.random.key(4), x, z, posterior=q, chains=chains
    )

  for found in estimates(x, z, 1.0):  # nothing is left to weigh
    np.testing.assert_allclose(found.log_weights, np.tile(exact(x), (16, 1)), atol=1e-4)
  for found in estimates(x, z, 1.2):
    assert float(found.log_weights.std(axis=0).min()) > 0.01
    np.testing.assert_allclose(found.log_prob, exact(x), atol=0.1)


def test_an_example_is_the_same_in_any_chunk():
  _, x, *_ = simulated()

  @functools.partial(jax.jit, static_argnums=1)
  def estimate(x, chunk):
    chains = annealed.Chains(2, 5, 2, num_adapting=0, chunk=chunk)
    return annealed.forward(PPCA, jax.random.key(6), x, chains=chains).log_prob

  every = estimate(x, 4)
  np.testing.assert_allclose(every[:3], estimate(x[:3], 100), rtol=1e-4)
  assert len(set(np.asarray(every).tolist())) == NUM


def test_weights_are_unbiased_however_few_the_steps():
  # In one dimension with a wide likelihood the mean of w is found by many chains.
  x = jnp.array([[0.7]])
  model = annealed.Decoder(
    lambda z, x: log_normal(x - z), log_normal,
    lambda key, num: jax.random.normal(key, (num, 1)),
  )  # fmt: skip
  log_p = stats.norm(0, np.sqrt(2)).logpdf(0.7)
  chains = annealed.Chains(20_000, 2, 2, step_size=0.7, num_adapting=1)
  found = jax.jit(
    lambda: annealed.forward(model, jax.random.key(7), x, chains=chains)
  )()
  error = float(found.standard_error[0])
  assert 1e-4 < error < 0.02 and abs(found.log_prob[0] - log_p) < 4 * error
  # The error is that of the mean of as many weights.
  w = np.exp(np.asarray(found.log_weights[:, 0], float))
  np.testing.assert_allclose(error, w.std() / w.mean() / np.sqrt(len(w)), rtol=1e-3)


def test_schedule_is_the_sigmoid_from_0_to_1():
  betas = annealed.sigmoid_schedule(4)
  sigmoid = 1 / (1 + np.exp(-4 * np.array([-1, -0.5, 0, 0.5, 1])))
  expected = (sigmoid - sigmoid[0]) / (sigmoid[-1] - sigmoid[0])
  np.testing.assert_allclose(betas, expected)
  assert betas[0] == 0 and betas[-1] == 1 and betas[2] == pytest.approx(0.5)
  assert np.diff(betas)[0] < np.diff(betas)[1]


def test_bad_sizes_are_one_line():
  x = jnp.zeros((2, D))
  for name in ('num_chains', 'num_steps', 'num_leapfrog', 'chunk'):
    with pytest.raises(ValueError, match=f'{name} must be >= 1, got 0'):
      annealed.forward(PPCA, jax.random.key(0), x, chains=CHAINS._replace(**{name: 0}))
  with pytest.raises(ValueError, match='step_size must be > 0'):
    annealed.forward(PPCA, jax.random.key(0), x, chains=CHAINS._replace(step_size=0.0))
  with pytest.raises(ValueError, match='as many, got 2 and 3'):
    annealed.reverse(PPCA, jax.random.key(0), x, jnp.zeros((3, Z)))
  with pytest.raises(ValueError, match='radius > 0'):
    annealed.sigmoid_schedule(10, radius=0.0)
