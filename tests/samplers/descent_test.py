"""Descent: its closed forms on a quadratic, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.samplers import descent

CURVATURE = np.array([0.0, 0.3, 1.0, 4.5])  # per unit of x^2; the last runs off
START = np.array([[1.0, -2.0, 3.0, 0.1], [2.0, 0.5, -1.0, 0.2]])
SIZE = 0.5


def ends(num, momentum=0.0):
  def run(x, num, size, momentum):
    steps = descent.Steps(num, size, momentum)
    return descent.descend(lambda x: jnp.asarray(CURVATURE, x.dtype) * x, x, steps)

  return jax.jit(run)(jnp.float32(START), num, SIZE, momentum)  # all of them traced


@pytest.mark.parametrize('num', [1, 2, 17])
def test_on_a_quadratic_it_is_a_power(num):
  expected = START * (1 - SIZE * CURVATURE) ** num
  np.testing.assert_allclose(ends(num), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('num', [1, 2, 17])
def test_with_momentum_it_is_a_power_of_a_matrix(num):
  factor = 1 - SIZE * CURVATURE
  rows = np.array([[1.6 * factor, -0.6 * factor], [np.ones(4), np.zeros(4)]])
  power = np.linalg.matrix_power(rows.transpose(2, 0, 1), num)  # of (x_k, x_{k-1})
  expected = START * power.sum(axis=2)[:, 0]
  np.testing.assert_allclose(ends(num, 0.6), expected, rtol=1e-4, atol=1e-6)
  assert num == 1 or np.abs(expected - START * factor**num).max() > 0.01


def test_what_is_out_of_range_is_one_line():
  x = jnp.ones((2, 3))
  for steps, word in (
    (descent.Steps(0, 0.1), 'num_steps must be >= 1, got 0'),
    (descent.Steps(1, 0.0), 'step_size must be > 0, got 0'),
    (descent.Steps(1, 0.1, 1.0), r'momentum must be in \[0, 1\), got 1'),
    (descent.Steps(1, 0.1, -0.1), r'momentum must be in \[0, 1\), got -0.1'),
  ):
    with pytest.raises(ValueError, match=word):
      descent.descend(lambda x: x, x, steps)
  with pytest.raises(ValueError, match=r'must be as x, \(2, 3\), got \(3,\)'):
    descent.descend(lambda x: x[0], x, descent.Steps(1, 0.1))
