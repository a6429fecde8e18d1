"""Kernel densities against scipy, a quadrature, and the limits of the bandwidth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled
from scipy import special, stats

from gm_jax.methods import kde
from gm_jax.training import step as step_lib


def fit(method, x, size):
  state = method.init(jax.random.key(0), {'x': x[:size]})
  step = jax.jit(method.step)
  for i in range(0, len(x), size):
    state, metrics = step(state, jax.random.key(0), {'x': x[i : i + size]})
  return step_lib.model(state), metrics


@pytest.mark.parametrize(('num', 'dim', 'std'), [(3000, 2, 0.2), (50, 784, 0.1)])
def test_density_is_the_mean_of_gaussians(num, dim, std):
  points = np.asarray(jax.random.normal(jax.random.key(0), (num, dim)), float)
  x = points[:5] + 0.1 * std
  squares = ((x[:, None] - points) ** 2).sum(-1) / (2 * std**2)
  expected = special.logsumexp(-squares, axis=1) - np.log(num)
  expected -= dim * np.log(std * np.sqrt(2 * np.pi))
  found = kde.log_density(jnp.float32(points), jnp.float32(x), std, num)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)


def test_an_epoch_of_any_batches_is_the_fit_and_integrates_to_one():
  x = jnp.array([[-1.0], [0.5], [0.7], [2.0]])
  method = compiled(kde.kde((1,), 4, std=0.3))
  grid = jnp.linspace(-4, 5, 4001)[:, None]
  values = []
  for size in (1, 2, 4):
    model, metrics = fit(method, x, size)
    assert float(metrics['stored']) == 4
    values.append(np.exp(method.log_prob(model, None, grid)))
  np.testing.assert_allclose(values[0], values[2], rtol=1e-6)
  np.testing.assert_allclose(values[1], values[2], rtol=1e-6)
  np.testing.assert_allclose(np.trapezoid(values[2], grid[:, 0]), 1, rtol=1e-4)
  samples = np.asarray(method.sample(model, jax.random.key(1), 4000))[:, 0]
  cdf = lambda t: stats.norm.cdf((t[:, None] - np.asarray(x)[:, 0]) / 0.3).mean(1)  # noqa: E731
  assert stats.kstest(samples, cdf).pvalue > 0.01


def test_half_a_fit_counts_only_what_it_has():
  method = compiled(kde.kde((1,), 10, std=0.5))
  x = jnp.array([[1.0], [3.0]])
  model, _ = fit(method, x, 2)
  expected = np.log(stats.norm.pdf(0.0, [1.0, 3.0], 0.5).mean())
  np.testing.assert_allclose(
    method.log_prob(model, None, jnp.zeros((1, 1)))[0], expected, rtol=1e-5
  )
  assert set(
    np.round(np.asarray(method.sample(model, jax.random.key(0), 50)))[:, 0]
  ) > {1.0}


def test_validation_finds_the_bandwidth_of_a_gaussian():
  # For N(0, 1) in one dimension the best is near (4 / (3 N))^(1/5) = 0.28 at N = 800.
  keys = jax.random.split(jax.random.key(3))
  points, validation = (jax.random.normal(k, (800, 1)) for k in keys)
  stds = (0.01, 0.05, 0.28, 1.0, 3.0)
  best, means = kde.bandwidth(points, validation, stds)
  assert best == 0.28
  entropy = 0.5 * np.log(2 * np.pi * np.e)
  assert abs(-float(means[2]) - entropy) < 0.1
  on_itself = [float(kde.log_density(points, points, s, 800).mean()) for s in stds]
  assert np.argmax(on_itself) == 0  # the training points themselves ask for 0


def test_refusals():
  for std in (0.0, -1.0):
    with pytest.raises(ValueError, match='bandwidth, must be > 0'):
      kde.kde((2,), 5, std=std)
  with pytest.raises(ValueError, match='bandwidths must be > 0'):
    kde.bandwidth(jnp.zeros((2, 1)), jnp.zeros((2, 1)), [0.1, 0.0])
  with pytest.raises(ValueError, match='num_points'):
    kde.kde((2,), 0, std=1.0)
  method = kde.kde((1,), 2, std=1.0)
  with pytest.raises(ValueError, match='does not fit 2 points'):
    fit(method, jnp.zeros((3, 1)), 3)
