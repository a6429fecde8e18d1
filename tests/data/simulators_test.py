"""Simulators against their posteriors, and their observations against parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gm_jax.data import registry, simulators


def test_the_linear_posterior_is_bayes_rule_by_a_grid():
  simulator = simulators.linear(std=0.5)
  axis = np.linspace(-4, 4, 161)
  theta = np.stack(np.meshgrid(axis, axis, indexing='ij'), -1).reshape(-1, 2)
  observed = np.array([0.8, -0.4])
  mean = theta @ np.array([[1.0, 0.5], [0.0, 1.0]]).T
  log_joint = stats.norm.logpdf(theta).sum(1)
  log_joint += stats.norm.logpdf(observed, mean, 0.5).sum(1)
  weights = np.exp(log_joint)
  expected = weights / (weights.sum() * (axis[1] - axis[0]) ** 2)
  found = simulator.log_posterior(
    jnp.asarray(theta, jnp.float32), jnp.broadcast_to(observed, theta.shape)
  )
  np.testing.assert_allclose(np.exp(found), expected, rtol=1e-3, atol=1e-6)


def test_draws_of_the_linear_simulator_have_the_moments_of_its_model():
  theta, observed = simulators.linear().draw(jax.random.key(0), 50_000)
  matrix = np.array([[1.0, 0.5], [0.0, 1.0]])
  both = np.cov(np.concatenate([theta, observed], axis=1).T)
  expected = np.block([
    [np.eye(2), matrix.T], [matrix, matrix @ matrix.T + 0.09 * np.eye(2)]
  ])  # fmt: skip
  np.testing.assert_allclose(both, expected, atol=0.03)


def test_moons_are_arcs_around_what_the_parameters_say_twice():
  theta, observed = simulators.two_moons().draw(jax.random.key(0), 2000)
  a, b = np.asarray(theta).T
  center = np.stack([-np.abs(a + b), b - a], axis=1) / np.sqrt(2)
  arc = np.asarray(observed) - center - [0.25, 0.0]
  radius = np.linalg.norm(arc, axis=1)
  np.testing.assert_allclose(radius.mean(), 0.1, atol=1e-3)
  np.testing.assert_allclose(radius.std(), 0.01, rtol=0.1)
  assert (arc[:, 0] > 0).all()  # half of a circle
  # The mirrored parameters have the same center: the posterior has two arcs.
  mirrored = np.stack([-b, -a], axis=1)
  np.testing.assert_allclose(np.abs(mirrored.sum(1)), np.abs(a + b), atol=1e-6)
  np.testing.assert_allclose(mirrored[:, 1] - mirrored[:, 0], b - a, atol=1e-6)


def test_the_data_set_keeps_pairs_together_and_begins_anywhere():
  data = registry.load('simulator:linear?std=0.001')
  assert data.spec.shape == (2,) and data.spec.parts['condition'].shape == (2,)
  stream = data.batches('train', 8, seed=0)
  batches = [next(stream) for _ in range(3)]
  matrix = np.array([[1.0, 0.5], [0.0, 1.0]])
  for batch in batches:
    expected = batch['x'] @ matrix.T
    np.testing.assert_allclose(batch['condition'], expected, atol=0.01)
  later = next(data.batches('train', 8, seed=0, start=2))
  np.testing.assert_array_equal(later['x'], batches[2]['x'])
  assert registry.load('simulator:linear').fingerprint != data.fingerprint


def test_a_name_that_is_none_is_one_line_with_the_nearest():
  with pytest.raises(ValueError, match="did you mean 'simulator:two_moons'"):
    registry.load('simulator:two_moon')
