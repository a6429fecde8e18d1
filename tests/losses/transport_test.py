"""Kernels, energy and transport distances against closed forms and exact solvers."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, spatial, stats

from gm_jax.losses import discrepancy


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def jitted(function, **kwargs):
  return jax.jit(functools.partial(function, **kwargs))


def points(num, dim=3, shift=0.0, scale=1.0, seed=0):
  rng = np.random.default_rng(seed)
  return shift + scale * rng.normal(size=(num, dim))


def test_mixture_is_the_sum_and_its_widths_are_standard_deviations():
  x, y = points(5), points(7, seed=1)
  gram = discrepancy.gaussian_mixture(stds=(0.5, 2.0))(x, y)
  squares = spatial.distance.cdist(x, y, 'sqeuclidean')
  expected = np.exp(-squares / (2 * 0.25)) + np.exp(-squares / (2 * 4))
  np.testing.assert_allclose(gram, expected, rtol=1e-10)
  # Public GMMN code means variances by the same list.
  variances = np.exp(-squares / (2 * 0.5)) + np.exp(-squares / (2 * 2))
  assert abs(np.asarray(gram) - variances).max() > 0.05
  roots = discrepancy.gaussian_mixture(stds=np.sqrt([0.5, 2.0]))
  np.testing.assert_allclose(roots(x, y), variances, rtol=1e-10)


def test_polynomial_and_deep_kernels_by_hand():
  x, y = points(4), points(6, seed=1)
  inner = np.asarray(x) @ np.asarray(y).T
  kid = discrepancy.polynomial()
  np.testing.assert_allclose(kid(x, y), (inner / 3 + 1) ** 3, rtol=1e-10)
  square = discrepancy.polynomial(degree=2, scale=0.5, offset=0.0)
  np.testing.assert_allclose(square(x, y), (inner / 2) ** 2, rtol=1e-10)

  def features(x):
    return jnp.tanh(x @ jnp.ones((3, 2)) + jnp.arange(2))

  deep = discrepancy.deep(kid, features)
  np.testing.assert_allclose(deep(x, y), kid(features(x), features(y)))


def test_linear_kernel_sees_the_mean_alone():
  linear = discrepancy.polynomial(degree=1, scale=1.0, offset=0.0)
  x, y = points(50), points(80, shift=0.3, seed=1)
  gap = np.asarray(x).mean(0) - np.asarray(y).mean(0)
  value = discrepancy.mmd2_biased(linear, x, y)
  np.testing.assert_allclose(value, gap @ gap, rtol=1e-9)


def test_biased_estimate_by_loops_and_its_bias():
  kernel = discrepancy.gaussian(std=1.3)
  x, y = points(6), points(9, shift=0.5, seed=1)
  k = lambda a, b: math.exp(-((a - b) ** 2).sum() / (2 * 1.69))  # noqa: E731
  mean = lambda s, t: np.mean([[k(a, b) for b in t] for a in s])  # noqa: E731
  a, b = np.asarray(x), np.asarray(y)
  expected = mean(a, a) + mean(b, b) - 2 * mean(a, b)
  biased = discrepancy.mmd2_biased(kernel, x, y)
  np.testing.assert_allclose(biased, expected, rtol=1e-9)
  unbiased = discrepancy.mmd2_unbiased(kernel, x, y)
  within = lambda s: mean(s, s)  # noqa: E731
  excess = sum((1 - within(s)) / (len(s) - 1) for s in (a, b))
  np.testing.assert_allclose(biased - unbiased, excess, rtol=1e-8)
  assert discrepancy.mmd2_biased(kernel, x, x) == pytest.approx(0, abs=1e-14)


def test_linear_time_estimate_has_the_same_mean():
  kernel = discrepancy.gaussian(std=math.sqrt(2))
  x = points(400 * 51).reshape(400, 51, 3)  # the last of 51 is left out
  y = points(400 * 51, shift=0.7, scale=0.6, seed=1).reshape(400, 51, 3)
  linear, full = (
    np.asarray(jax.jit(jax.vmap(functools.partial(estimate, kernel)))(x, y))
    for estimate in (discrepancy.mmd2_linear, discrepancy.mmd2_unbiased)
  )
  error = linear.std() / 20
  assert abs(linear.mean() - 0.246050) < 4 * error  # closed form, as published
  assert linear.std() > 1.4 * full.std()


@pytest.mark.slow
@pytest.mark.slow
def test_energy_distance_is_the_squared_gap_of_distribution_functions():
  x, y = points(40, 1), points(30, 1, shift=1.0, scale=2.0, seed=1)
  a, b = np.sort(np.asarray(x)[:, 0]), np.sort(np.asarray(y)[:, 0])
  ends = np.sort(np.concatenate([a, b]))
  gap = np.searchsorted(a, ends[:-1], 'right') / 40 - (
    np.searchsorted(b, ends[:-1], 'right') / 30
  )
  expected = 2 * (gap**2 * np.diff(ends)).sum()
  np.testing.assert_allclose(discrepancy.energy_distance(x, y), expected, rtol=1e-9)
  np.testing.assert_allclose(  # scipy gives its root
    expected, stats.energy_distance(a, b) ** 2, rtol=1e-9
  )
  kernel = discrepancy.distance_induced()
  np.testing.assert_allclose(
    2 * discrepancy.mmd2_biased(kernel, x, y), expected, rtol=1e-8
  )
  far = x + 5.0, y + 5.0  # no origin is distinguished
  for estimate in (discrepancy.mmd2_biased, discrepancy.mmd2_unbiased):
    estimate = jax.jit(estimate, static_argnums=0)
    np.testing.assert_allclose(
      estimate(kernel, *far), estimate(kernel, x, y), rtol=1e-6
    )


@pytest.mark.parametrize(('num', 'other'), [(12, 12), (12, 7), (5, 20), (1, 3)])
@pytest.mark.parametrize('power', [1.0, 2.0, 3.0])
def test_wasserstein_on_the_line_is_the_linear_program(num, other, power):
  x, y = points(num, 1)[:, 0], points(other, 1, 0.4, 2.0, seed=1)[:, 0]
  ours = jitted(discrepancy.wasserstein_1d, power=power)(x, y)
  cost = abs(np.asarray(x)[:, None] - np.asarray(y)) ** power
  equalities = [np.eye(num)[i][:, None] * np.ones(other) for i in range(num)]
  equalities += [np.ones((num, 1)) * np.eye(other)[j] for j in range(other)]
  best = optimize.linprog(
    cost.ravel(), A_eq=np.array([e.ravel() for e in equalities]),
    b_eq=[1 / num] * num + [1 / other] * other,
  )  # fmt: skip
  np.testing.assert_allclose(ours, best.fun, rtol=1e-8)
  if power == 1:
    np.testing.assert_allclose(ours, stats.wasserstein_distance(x, y), rtol=1e-10)


def test_wasserstein_of_whole_numbers():
  x, y = jnp.array([1, 2, 3]), jnp.array([2, 3, 4])
  assert discrepancy.wasserstein_1d(x, y) == 1.0
  np.testing.assert_allclose(discrepancy.wasserstein_1d(x, y[:2]), 0.5, rtol=1e-6)


def test_widths_may_be_traced():
  x, y = points(6), points(7, seed=1)
  mmd2 = lambda std: discrepancy.mmd2_biased(discrepancy.gaussian(std=std), x, y)  # noqa: E731
  np.testing.assert_allclose(jax.jit(mmd2)(0.8), mmd2(0.8), rtol=1e-6)
  sinkhorn = lambda eps: discrepancy.sinkhorn_divergence(x, y, epsilon=eps)  # noqa: E731
  np.testing.assert_allclose(jax.jit(sinkhorn)(0.8), sinkhorn(0.8), rtol=1e-6)


def test_sliced_on_gaussians():
  x, y = points(4_000, 4, 0.0, 1.0), points(4_000, 4, 0.5, 1.6, seed=1)
  sliced = jax.jit(discrepancy.sliced_wasserstein, static_argnames='num_projections')
  ours = sliced(jax.random.key(0), x, y, num_projections=400)
  gap = x.mean(0) - y.mean(0)
  np.testing.assert_allclose(ours, gap @ gap / 4 + 0.6**2, rtol=0.05)
  on_line = sliced(jax.random.key(0), x[:50, :1], y[:70, :1], num_projections=3)
  np.testing.assert_allclose(
    on_line, discrepancy.wasserstein_1d(x[:50, 0], y[:70, 0], power=2.0), rtol=1e-9
  )


def entropic_of_gaussians(gap, std1, std2, epsilon):
  """Janati et al., 2020, arXiv:2006.02572, theorem 1, on the line."""
  half = epsilon / 2
  d = math.sqrt(4 * std1**2 * std2**2 + half**2)
  return (
    gap**2 + std1**2 + std2**2 - d
    + half * (1 - math.log(2 * half)) + half * math.log(d + half)
  )  # fmt: skip


@pytest.mark.parametrize('epsilon', [0.3, 1.0, 5.0])
def test_entropic_transport_of_gaussians_is_the_closed_form(epsilon):
  levels = (np.arange(500) + 0.5) / 500
  x = stats.norm(0.0, 1.0).ppf(levels)[:, None]
  y = stats.norm(1.0, 0.5).ppf(levels)[:, None]
  ours = jitted(discrepancy.entropic_transport, num_iterations=100)(
    x, y, epsilon=epsilon
  )
  expected = entropic_of_gaussians(1.0, 1.0, 0.5, epsilon)
  np.testing.assert_allclose(ours, expected, rtol=4e-3)
  debiased = jitted(discrepancy.sinkhorn_divergence, num_iterations=100)(
    x, y, epsilon=epsilon
  )
  expected -= entropic_of_gaussians(0.0, 1.0, 1.0, epsilon) / 2
  expected -= entropic_of_gaussians(0.0, 0.5, 0.5, epsilon) / 2
  np.testing.assert_allclose(debiased, expected, rtol=4e-3)


def test_limits_of_the_sinkhorn_divergence():
  x, y = points(8, 2), points(8, 2, 1.0, seed=1)
  cost = spatial.distance.cdist(x, y, 'sqeuclidean')
  row, column = optimize.linear_sum_assignment(cost)
  sharp = jitted(discrepancy.sinkhorn_divergence, epsilon=0.005, num_iterations=4000)
  np.testing.assert_allclose(sharp(x, y), cost[row, column].mean(), rtol=1e-3)
  # Far above the costs: half the squared MMD of -cost, |mean - mean|^2 for squares.
  divergence = jitted(discrepancy.sinkhorn_divergence)
  wide = divergence(x, y, epsilon=1e5)
  gap = np.asarray(x).mean(0) - np.asarray(y).mean(0)
  np.testing.assert_allclose(wide, gap @ gap, rtol=1e-3)
  by_distance = jitted(discrepancy.sinkhorn_divergence, cost=discrepancy.distances)(
    x, y, epsilon=1e5
  )
  np.testing.assert_allclose(
    by_distance, discrepancy.energy_distance(x, y) / 2, rtol=1e-3
  )
  assert divergence(x, x, epsilon=0.5) == pytest.approx(0)
  biased = jitted(discrepancy.entropic_transport)(x, x, epsilon=0.5)
  assert biased > 0.01


def test_sinkhorn_meets_both_marginals_and_its_gradient_is_that_of_the_value():
  x, y = points(6, 2), points(9, 2, 0.5, seed=1)
  cost = discrepancy.squared_distances(x, y)
  settings = {'epsilon': 0.5, 'num_iterations': 500}
  f, g = jitted(discrepancy.sinkhorn_potentials, **settings)(cost)
  f, g, cost = map(np.asarray, (f, g, cost))
  plan = np.exp((f[:, None] + g - cost) / 0.5) / 54
  np.testing.assert_allclose(plan.sum(0), 1 / 9, rtol=1e-9)
  np.testing.assert_allclose(plan.sum(1), 1 / 6, rtol=1e-6)
  value = jitted(discrepancy.entropic_transport, **settings)
  primal = (plan * cost).sum() + 0.5 * (plan * np.log(plan * 54)).sum()
  np.testing.assert_allclose(value(x, y), primal, rtol=1e-7)
  for loss in (value, jitted(discrepancy.sinkhorn_divergence, **settings)):
    slope = jax.jit(jax.grad(loss))(x, y)
    for i, j in itertools.product(range(0, 6, 2), range(2)):
      bump = np.zeros_like(x)
      bump[i, j] = 1e-5
      difference = (loss(x + bump, y) - loss(x - bump, y)) / 2e-5
      np.testing.assert_allclose(slope[i, j], difference, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
  'loss',
  [discrepancy.energy_distance,
   functools.partial(discrepancy.mmd2_biased, discrepancy.distance_induced()),
   functools.partial(discrepancy.mmd2_biased, discrepancy.polynomial()),
   functools.partial(discrepancy.mmd2_linear, discrepancy.gaussian(std=1.0)),
   lambda x, y: discrepancy.wasserstein_1d(x[:, 0], y[:, 0], power=2.0)],
)  # fmt: skip
def test_gradients_are_finite_differences_and_finite_where_points_coincide(loss):
  x, y = points(8, 2), points(8, 2, 0.5, seed=1)
  loss, slope_of = jax.jit(loss), jax.jit(jax.grad(loss, 1))
  slope = slope_of(x, y)
  for i in (0, 3):
    bump = np.zeros_like(y)
    bump[i, 0] = 1e-6
    difference = (loss(x, y + bump) - loss(x, y - bump)) / 2e-6
    np.testing.assert_allclose(slope[i, 0], difference, rtol=1e-4, atol=1e-8)
  assert np.isfinite(slope_of(x, x)).all()


def test_bad_arguments_are_one_line():
  x = points(4)
  for wrong, words in (
    (lambda: discrepancy.gaussian(std=0.0), 'std must be > 0'),
    (lambda: discrepancy.gaussian_mixture(stds=()), 'stds'),
    (lambda: discrepancy.gaussian_mixture(stds=(1.0, -1.0)), 'stds'),
    (lambda: discrepancy.polynomial(degree=0), 'degree'),
    (lambda: discrepancy.polynomial(scale=-1.0), 'scale'),
    (lambda: discrepancy.mmd2_linear(discrepancy.gaussian(std=1.0), x, x[:3]), 'both'),
    (lambda: discrepancy.wasserstein_1d(x, x), r'\[N\]'),
    (lambda: discrepancy.wasserstein_1d(x[:, 0], x[:, 0], power=0.5), 'power'),
    (lambda: discrepancy.sliced_wasserstein(jax.random.key(0), x, x[:, :2]), 'same D'),
    (lambda: discrepancy.sinkhorn_divergence(x, x, epsilon=0.0), 'epsilon'),
    (lambda: discrepancy.sinkhorn_potentials(x[0], epsilon=1.0), r'\[N, M\]'),
  ):
    with pytest.raises(ValueError, match=words):
      wrong()
