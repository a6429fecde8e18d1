"""Score matching: minima that are known of Gaussian data, and what slices expect."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from gm_jax.losses import score_matching

MEAN = np.array([0.5, -1.0])
COVARIANCE = np.array([[1.0, 0.6], [0.6, 0.8]])
PRECISION = np.linalg.inv(COVARIANCE)
rng = np.random.default_rng(0)
KEY = jax.random.key(0)
# Gauss-Hermite nodes of the data: expectations of quadratics are exact.
NODES, WEIGHTS = special.roots_hermitenorm(5)
UNIT = np.stack([a.ravel() for a in np.meshgrid(NODES, NODES)], axis=1)
X = MEAN + UNIT @ np.linalg.cholesky(COVARIANCE).T
MASS = np.outer(WEIGHTS, WEIGHTS).ravel() / WEIGHTS.sum() ** 2


def linear(params, x):
  slope, mean = params
  return -slope @ (x - mean)


def every_sign(key, shape, dtype):
  """All vectors of signs, as the directions of each example: their mean is exact."""
  del key
  size = int(np.prod(shape[2:]))
  signs = np.array(list(itertools.product((-1, 1), repeat=size)), dtype)
  return jnp.broadcast_to(signs.reshape(-1, *shape[2:]), shape)


LOSSES = {
  'implicit': score_matching.implicit,
  'sliced': lambda s, x: score_matching.sliced(
    s, KEY, x, num_projections=4, draw=every_sign, variance_reduced=False),
  'variance_reduced': lambda s, x: score_matching.sliced(
    s, KEY, x, num_projections=4, draw=every_sign),
}  # fmt: skip


@pytest.mark.parametrize('name', LOSSES)
def test_the_least_of_gaussian_data_has_its_precision_and_mean(name):
  """Its value is -tr(P) / 2, half of -E |grad log p|^2; elsewhere it is Fisher's."""

  @jax.jit
  def loss(params):
    each = LOSSES[name](functools.partial(linear, params), jnp.asarray(X))
    return jnp.asarray(MASS) @ each

  with jax.enable_x64(True):
    value, slopes = jax.value_and_grad(loss)((PRECISION, MEAN))
    wrong = PRECISION + np.array([[0.3, 0.1], [-0.2, 0.5]]), MEAN + 0.4
    other = float(loss(wrong))
  for slope in slopes:
    np.testing.assert_allclose(slope, 0, atol=1e-9)
  np.testing.assert_allclose(value, -np.trace(PRECISION) / 2, rtol=1e-9)
  errors = (X - wrong[1]) @ wrong[0].T - (X - MEAN) @ PRECISION
  fisher = 0.5 * MASS @ np.square(errors).sum(axis=1)
  np.testing.assert_allclose(other - float(value), fisher, rtol=1e-9)


WEIGHT = rng.normal(size=(6, 6))


def network(x):
  """A score [2, 3] -> [2, 3] that is no gradient."""
  return jnp.tanh(WEIGHT.astype(x.dtype) @ x.ravel()).reshape(x.shape)


POINTS = rng.normal(size=(3, 2, 3))


def by_hand(x):
  """The value, the derivative of tanh written out."""
  s = np.tanh(np.einsum('ij,bj->bi', WEIGHT, x.reshape(3, 6)))
  trace = ((1 - s**2) * np.diag(WEIGHT)).sum(axis=1)
  return 0.5 * np.square(s).sum(axis=1) + trace


def test_the_trace_is_that_written_out_and_slices_expect_it():
  with jax.enable_x64(True):
    exact = jax.jit(lambda: score_matching.implicit(network, POINTS))()
    options = {'num_projections': 64, 'draw': every_sign}
    for reduced in (True, False):
      options['variance_reduced'] = reduced
      found = score_matching.sliced(network, KEY, POINTS, **options)
      np.testing.assert_allclose(found, exact, rtol=1e-9)
  np.testing.assert_allclose(exact, by_hand(POINTS), rtol=1e-9)


@pytest.mark.parametrize('draw', [jax.random.normal, jax.random.rademacher])
def test_random_slices_are_unbiased_and_vary_less_in_the_reduced_form(draw):
  x = np.repeat(POINTS[:1], 4000, axis=0).astype(np.float32)
  expected = by_hand(POINTS)[0]
  deviations = []
  for reduced in (False, True):
    found = jax.jit(
      lambda reduced=reduced: score_matching.sliced(
        network, KEY, x, draw=draw, variance_reduced=reduced
      )
    )()
    found = np.asarray(found, float)
    assert abs(found.mean() - expected) < 4 * found.std() / np.sqrt(len(x))
    deviations.append(found.std())
  assert deviations[1] < deviations[0]


def test_signs_find_a_diagonal_jacobian_without_variance():
  found = score_matching.sliced(
    lambda x: -2 * x, KEY, POINTS, draw=jax.random.rademacher
  )
  expected = score_matching.implicit(lambda x: -2 * x, POINTS)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  np.testing.assert_allclose(expected, 2 * (POINTS**2).sum((1, 2)) - 12, rtol=1e-5)


def test_an_example_by_itself_is_that_of_the_batch_and_gradients_are_differences():
  moved = 1e-6 * rng.normal(size=POINTS.shape)

  def loss(x):
    return score_matching.implicit(network, x)

  @jax.jit
  def all_of(x):
    alone = jax.vmap(lambda x: loss(x[None])[0])(x)
    return loss(x), alone, jax.grad(lambda x: loss(x).sum())(x)

  with jax.enable_x64(True):
    value, alone, slope = all_of(POINTS)
    up, down = (float(loss(POINTS + s * moved).sum()) for s in (1, -1))
  np.testing.assert_allclose(alone, value, rtol=1e-12)
  np.testing.assert_allclose(
    (up - down) / 2, (np.asarray(slope) * moved).sum(), rtol=1e-4
  )


def test_numbers_of_1e4_are_finite_and_those_of_1e30_infinite():
  x = np.array([[1e4, -1e4], [1e30, 1.0]], np.float32)
  for found in (
    score_matching.implicit(lambda x: x, x),
    score_matching.sliced(lambda x: x, KEY, x),
  ):
    np.testing.assert_allclose(found, [1e8, np.inf], rtol=1e-6)


@pytest.mark.parametrize(
  ('call', 'word'),
  [
    (lambda: score_matching.implicit(network, 1.0), 'one shape'),
    (lambda: score_matching.implicit(jnp.sum, POINTS), 'score must map one example'),
    (lambda: score_matching.sliced(jnp.sum, KEY, POINTS), 'its own shape'),
    (
      lambda: score_matching.sliced(network, KEY, POINTS, num_projections=0),
      'num_projections must be >= 1, got 0',
    ),
  ],
)
def test_what_does_not_fit_is_refused(call, word):
  with pytest.raises(ValueError, match=word):
    call()
