"""Two laws of whatever compares points: what a shift and what an outlier may change.

Far from 0, in float32, every number is that of float64 on the very same points; and a
point at 1e6 leaves what is of the others as it was.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, spatial, special, stats

from gm_jax import base
from gm_jax.losses import discrepancy, likelihood, regularizers
from gm_jax.losses import mutual_information as mi
from gm_jax.methods import kde, mixture
from gm_jax.metrics import frechet, kernel_distance, modes, neighbors, prdc

pytestmark = pytest.mark.slow
OFFSETS = [0.0, 1e3, 1e4]
rng = np.random.default_rng(0)
NOISE = rng.standard_normal((2, 60, 2))
NOISE[1] = 0.7 * NOISE[1] + 0.5


def cloud(offset):
  """Two sets of points about an offset in float32, and the same in float64."""
  points = [jnp.asarray(part + offset, jnp.float32) for part in NOISE]
  return points, [np.asarray(part, float) for part in points]


def squares(x, y):
  return spatial.distance.cdist(x, y, 'sqeuclidean')


KERNELS = {
  'gaussian': (
    discrepancy.gaussian(std=0.5),
    lambda x, y: np.exp(-squares(x, y) / 0.5),
  ),
  'gaussian_mixture': (
    discrepancy.gaussian_mixture(stds=(0.3, 2.0)),
    lambda x, y: np.exp(-squares(x, y) / 0.18) + np.exp(-squares(x, y) / 8.0),
  ),
  'rational_quadratic': (
    discrepancy.rational_quadratic(alphas=(0.2, 2.0)),
    lambda x, y: sum((1 + squares(x, y) / (2 * a)) ** -a for a in (0.2, 2.0)),
  ),
  'inverse_multiquadric': (
    discrepancy.inverse_multiquadric(lengths=(0.4, 2.0)),
    lambda x, y: sum(c / (c + squares(x, y)) for c in (0.16, 4.0)),
  ),
  'squared_distances': (discrepancy.squared_distances, squares),
  'distances': (discrepancy.distances, lambda x, y: np.sqrt(squares(x, y))),
}
KERNELS = {name: (jax.jit(kernel), exact) for name, (kernel, exact) in KERNELS.items()}
WIDE = {name: pair for name, pair in KERNELS.items() if 'distances' not in name}


def mmd2(kernel, x, y, biased=False):
  within = []
  for part in (x, y):
    gram, num = kernel(part, part), len(part)
    rest = gram.sum() if biased else gram.sum() - np.trace(gram)
    within.append(rest / (num * num if biased else num * num - num))
  return sum(within) - 2 * kernel(x, y).mean()


@pytest.mark.parametrize('offset', OFFSETS)
@pytest.mark.parametrize('name', KERNELS)
def test_kernels_far_from_zero(name, offset):
  kernel, exact = KERNELS[name]
  points, doubles = cloud(offset)
  np.testing.assert_allclose(kernel(*points), exact(*doubles), rtol=3e-5, atol=1e-7)
  # And where D takes several passes.
  wide = [jnp.tile(part, (1, 20)) for part in points]
  expected = exact(*(np.tile(part, (1, 20)) for part in doubles))
  np.testing.assert_allclose(kernel(*wide), expected, rtol=3e-4, atol=1e-7)


@pytest.mark.parametrize('name', KERNELS)
def test_an_outlier_changes_no_other_entry(name):
  kernel, exact = KERNELS[name]
  (x, y), _ = cloud(0.0)
  spoiled = y.at[3].set(1e6), x.at[5].set(-1e6)
  before, after = kernel(x, y), kernel(spoiled[1], spoiled[0])
  same = np.ones(before.shape, bool)
  same[5], same[:, 3] = False, False
  np.testing.assert_array_equal(after[same], before[same])
  far = exact(np.asarray(spoiled[1], float), np.asarray(spoiled[0], float))
  np.testing.assert_allclose(after, far, rtol=3e-5, atol=1e-7)


@pytest.mark.parametrize('num', [2, 60])
@pytest.mark.parametrize('name', KERNELS)
def test_an_outlier_changes_no_other_gradient(name, num):
  kernel, _ = KERNELS[name]
  (x, y), _ = cloud(0.0)
  x, y = x[:num], y[:num]

  @jax.jit
  def slopes(x, y):  # of the entries without the last of y
    return jax.grad(lambda *args: kernel(*args)[:, : num - 1].sum(), (0, 1))(x, y)

  plain, spoiled = slopes(x, y), slopes(x, y.at[-1].set(1e6))
  for one, other in zip(plain, spoiled, strict=True):
    np.testing.assert_allclose(other[: num - 1], one[: num - 1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('offset', OFFSETS)
def test_gradients_of_kernels_far_from_zero(offset):
  (x, y), doubles = cloud(offset)
  kernel = discrepancy.gaussian(std=0.5)
  slope = jax.grad(lambda x: discrepancy.mmd2_unbiased(kernel, x, y))(x)
  a, b = doubles
  pull = np.exp(-squares(a, b) / 0.5)[..., None] * (a[:, None] - b) / 0.25
  push = np.exp(-squares(a, a) / 0.5)[..., None] * (a[:, None] - a) / 0.25
  expected = 2 * pull.sum(1) / 60**2 - 2 * push.sum(1) / (60 * 59)
  np.testing.assert_allclose(slope, expected, atol=1e-6)


@pytest.mark.parametrize('offset', OFFSETS)
@pytest.mark.parametrize('name', WIDE)
def test_maximum_mean_discrepancies_far_from_zero(name, offset):
  kernel, exact = WIDE[name]
  points, doubles = cloud(offset)
  unbiased = mmd2(exact, *doubles)
  for estimate in (discrepancy.mmd2_unbiased, kernel_distance.mmd2_unbiased):
    np.testing.assert_allclose(estimate(kernel, *points), unbiased, atol=1e-6)
  biased = mmd2(exact, *doubles, biased=True)
  np.testing.assert_allclose(
    discrepancy.mmd2_biased(kernel, *points), biased, atol=1e-6
  )
  even = slice(0, None, 2), slice(1, None, 2)
  a, b = doubles
  pairs = [np.diag(exact(p[even[0]], q[even[1]])) for p, q in
           ((a, a), (b, b), (a, b), (b, a))]  # fmt: skip
  linear = (pairs[0] + pairs[1] - pairs[2] - pairs[3]).mean()
  np.testing.assert_allclose(
    discrepancy.mmd2_linear(kernel, *points), linear, atol=1e-6
  )


@pytest.mark.parametrize('size', [1e3, 1e6])
@pytest.mark.parametrize('name', WIDE)
def test_maximum_mean_discrepancies_beside_an_outlier(name, size):
  kernel, exact = WIDE[name]
  points, _ = cloud(0.0)
  points[1] = points[1].at[0].set(size)
  expected = mmd2(exact, *(np.asarray(part, float) for part in points))
  for estimate in (discrepancy.mmd2_unbiased, kernel_distance.mmd2_unbiased):
    np.testing.assert_allclose(estimate(kernel, *points), expected, atol=1e-6)


def energy(x, y):
  mean = lambda a, b: np.sqrt(squares(a, b)).mean()  # noqa: E731
  return 2 * mean(x, y) - mean(x, x) - mean(y, y)


def transport(x, y):
  cost = squares(x, y)
  rows, columns = optimize.linear_sum_assignment(cost)
  return cost[rows, columns].mean()


def sliced(x, y):
  """The mean over the directions that the key gives."""
  w = np.asarray(jax.random.normal(jax.random.key(0), (100, 2)), float)
  w /= np.linalg.norm(w, axis=1, keepdims=True)
  gaps = np.sort(x @ w.T, axis=0) - np.sort(y @ w.T, axis=0)
  return np.square(gaps).mean()


def gaussians_apart(x, y):
  (m, s), (n, t) = ((a.mean(0), np.cov(a.T)) for a in (x, y))
  cross = np.sqrt(np.linalg.eigvals(s @ t).real).sum()
  return np.square(m - n).sum() + np.trace(s) + np.trace(t) - 2 * cross


def middle_of_pairs(x, y):
  del y
  return np.median(spatial.distance.pdist(x))


def cubic(x, y):
  return mmd2(lambda a, b: (a @ b.T / 2 + 1) ** 3, x, y)


def of_balls(x, y, k=5):
  radii, others = (np.sort(squares(a, a), axis=1)[:, k] for a in (x, y))
  inside = squares(x, y) < radii[:, None]
  recall = (squares(x, y) < others).any(1).mean()
  return inside.any(0).mean(), recall, inside.sum() / (k * len(y)), inside.any(1).mean()


WHOLE = {
  'prdc': (jax.jit(lambda x, y: jnp.stack(prdc.prdc(x, y))), of_balls),
  'nearest': (
    jax.jit(lambda x, y: neighbors.nearest(x, y, num=3).distances),
    lambda x, y: np.sqrt(np.sort(squares(x, y), axis=1)[:, :3]),
  ),
  'kernel_distance': (
    lambda x, y: kernel_distance.kernel_distance(
      jax.random.key(0), x, y, num_subsets=1, subset_size=60
    )[0],
    cubic,
  ),
  'energy_distance': (discrepancy.energy_distance, energy),
  'wasserstein_1d': (
    lambda x, y: discrepancy.wasserstein_1d(x[:, 0], y[:, 0]),
    lambda x, y: stats.wasserstein_distance(x[:, 0], y[:, 0]),
  ),
  'sliced_wasserstein': (
    functools.partial(discrepancy.sliced_wasserstein, jax.random.key(0)), sliced,
  ),
  'sinkhorn_divergence': (
    lambda x, y: discrepancy.sinkhorn_divergence(
      x[:5], y[:5], epsilon=0.02, num_iterations=1500
    ),
    lambda x, y: transport(x[:5], y[:5]),
  ),
  'frechet': (frechet.frechet, gaussians_apart),
  'median_bandwidth': (
    lambda x, y: kernel_distance.median_bandwidth(x), middle_of_pairs,
  ),
  'feature_matching': (
    regularizers.feature_matching,
    lambda x, y: np.square(x.mean(0) - y.mean(0)).sum(),
  ),
}  # fmt: skip
TOLERANCE = {'sinkhorn_divergence': 3e-2, 'frechet': 1e-4}


@pytest.mark.parametrize('offset', OFFSETS)
@pytest.mark.parametrize('name', WHOLE)
def test_distances_of_samples_far_from_zero(name, offset):
  ours, exact = WHOLE[name]
  points, doubles = cloud(offset)
  rtol = TOLERANCE.get(name, 2e-5)
  found = jax.jit(ours)(*points)
  np.testing.assert_allclose(found, exact(*doubles), rtol=rtol, atol=2e-6)


def test_the_distance_induced_kernel_about_an_origin_near_the_data():
  (x, y), doubles = cloud(1e4)
  kernel = discrepancy.distance_induced(origin=x[0])
  half = discrepancy.mmd2_biased(kernel, x, y)
  np.testing.assert_allclose(2 * half, energy(*doubles), rtol=1e-5)


def test_moments_of_many_features_far_from_zero():
  features = 1e3 + rng.standard_normal((100_000, 2)).astype(np.float32)
  mean, cov = frechet.moments(features)
  np.testing.assert_allclose(mean, features.mean(0, dtype=float), atol=1e-4)
  np.testing.assert_allclose(cov, np.cov(features.T.astype(float)), atol=1e-5)


@pytest.mark.parametrize('offset', OFFSETS)
def test_modes_far_from_zero_and_beside_an_outlier(offset):
  means = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]]) + offset
  labels = rng.integers(0, 2, 400)
  samples = means[labels] + 0.1 * rng.standard_normal((400, 2))
  found = modes.coverage(jnp.float32(samples), jnp.float32(means), 0.1, threshold=2.0)
  exact = squares(np.float32(samples).astype(float), np.float32(means).astype(float))
  np.testing.assert_allclose(
    found.high_quality, (exact.min(1) <= 0.04).mean(), atol=1e-6
  )
  assert found.modes == 2
  spoiled = samples.copy()
  spoiled[0] = 1e6
  other = modes.coverage(jnp.float32(spoiled), jnp.float32(means), 0.1, threshold=2.0)
  lost = (exact.min(1) <= 0.04)[0] / 400
  np.testing.assert_allclose(other.high_quality, found.high_quality - lost, atol=1e-6)


@pytest.mark.parametrize('offset', OFFSETS)
def test_kernel_density_far_from_zero_and_beside_an_outlier(offset):
  points, doubles = cloud(offset)

  def exact(points, x):
    each = special.logsumexp(-squares(x, points) / (2 * 0.3**2), axis=1)
    return each - np.log(len(points)) - 2 * (np.log(0.3) + np.log(2 * np.pi) / 2)

  ours = kde.log_density(*points, 0.3, 60)
  np.testing.assert_allclose(ours, exact(*doubles), rtol=1e-5)
  spoiled = points[0].at[0].set(1e6)
  ours = kde.log_density(spoiled, points[1], 0.3, 60)
  expected = exact(np.asarray(spoiled, float), doubles[1])
  np.testing.assert_allclose(ours, expected, rtol=1e-5)


# Scores and logits: what is added to all of them cancels.
@pytest.mark.parametrize('offset', OFFSETS)
def test_bounds_of_shifted_scores(offset):
  scores = np.float32(3 * rng.standard_normal((6, 6)) + offset)
  exact = scores.astype(float)
  expected = np.diag(exact) - special.logsumexp(exact, axis=1) + np.log(6)
  np.testing.assert_allclose(mi.info_nce(jnp.array(scores)), expected, atol=1e-5)
  ours = mi.donsker_varadhan(jnp.array(scores[0]), jnp.array(scores[1]))
  expected = exact[0].mean() - special.logsumexp(exact[1]) + np.log(6)
  np.testing.assert_allclose(ours, expected, atol=1e-5)
  classes = np.arange(6) % 6
  expected = np.diag(exact) - special.logsumexp(exact, axis=1)
  for bound in (likelihood.categorical, mi.categorical):
    ours = bound(jnp.array(scores), jnp.array(classes))
    entropy = np.log(6) if bound is mi.categorical else 0.0
    np.testing.assert_allclose(ours, expected + entropy, atol=1e-5)


# EM: the fit of shifted data is the shifted fit, and no step lowers the likelihood.
def em(x, theta, weights, rounds):
  """Rounds of EM in float64, a standard deviation for each dimension."""
  mean, std = (np.asarray(part, float) for part in theta)
  values = []
  for _ in range(rounds):
    each = stats.norm.logpdf(x[:, None], mean, std).sum(-1) + np.log(weights)
    log_p = special.logsumexp(each, axis=1, keepdims=True)
    values.append(log_p.mean())
    r = np.exp(each - log_p)
    counts = r.sum(0)
    mean = r.T @ x / counts[:, None]
    gaps = np.square(x[:, None] - mean)
    std = np.sqrt(np.maximum((r[..., None] * gaps).sum(0) / counts[:, None], 1e-6))
    weights = counts / len(x)
  return mean, std, np.array(values)


def fit(x, theta, rounds, batches=1):
  """The method, its state afterwards, and the mean of its metric by round."""
  num = len(theta[0])
  method = mixture.mixture(
    mixture.gaussians(), x.shape[1:], num, steps_per_epoch=batches
  )
  state = method.init(jax.random.key(0), {'x': x})
  state = state._replace(extra={**state.extra, 'theta': theta})
  step, values = jax.jit(method.step), []
  for _ in range(rounds):
    each = []
    for part in jnp.split(x, batches):
      state, metrics = step(state, jax.random.key(0), {'x': part})
      each.append(metrics['log_likelihood'])
    values.append(np.mean(each))
  return method, state, np.array(values)


def clusters(offset, spread, num=300):
  """Two clusters of width 0.1 that are `spread` apart, about an offset."""
  noise = np.random.default_rng(1).standard_normal((num, 2))
  centers = np.array([[0.0, 0.0], [spread, -spread]])[np.arange(num) % 3 // 2]
  return jnp.asarray(offset + centers + 0.1 * noise, jnp.float32)


@pytest.mark.parametrize('batches', [1, 6])
@pytest.mark.parametrize(
  ('offset', 'spread'), [(0.0, 1.0), (1e3, 1.0), (1e4, 10.0), (0.0, 1e4)]
)
def test_em_is_that_of_float64_wherever_the_data_are(offset, spread, batches):
  x = clusters(offset, spread)
  theta = jnp.stack([x[0], x[2]]), jnp.full((2, 2), 0.3 * spread)
  _, last, values = fit(x, theta, 12, batches)
  mean, std, expected = em(np.asarray(x, float), theta, np.full(2, 0.5), 12)
  np.testing.assert_allclose(values, expected, rtol=1e-3, atol=3e-3)
  np.testing.assert_allclose(last.extra['theta'][0], mean, rtol=3e-7, atol=1e-4)
  np.testing.assert_allclose(last.extra['theta'][1], std, rtol=2e-3)
  assert (np.diff(values) > -2e-4).all()


@pytest.mark.parametrize('batches', [1, 6])
def test_a_component_that_moves_by_far_more_than_its_width_finds_its_width(batches):
  x = clusters(1e4, 0.0)
  theta = jnp.zeros((1, 2)), jnp.full((1, 2), 1e4)
  _, last, _ = fit(x, theta, 1, batches)
  exact = np.asarray(x, float)
  np.testing.assert_allclose(last.extra['theta'][0][0], exact.mean(0), rtol=2e-7)
  np.testing.assert_allclose(last.extra['theta'][1][0], exact.std(0), rtol=1e-3)


def test_em_beside_an_outlier_and_with_a_component_that_gets_nothing():
  x = clusters(0.0, 1.0)
  theta = jnp.stack([x[0], x[2]]), jnp.full((2, 2), 0.3)
  _, plain, _ = fit(x, theta, 10)
  aside = tuple(jnp.concatenate([t, jnp.full((1, 2), 1e6)]) for t in theta)
  aside = aside[0], aside[1].at[2].set(1.0)
  method, spoiled, values = fit(jnp.concatenate([x, aside[0][2:]]), aside, 10)
  for one, other in zip(plain.extra['theta'], spoiled.extra['theta'], strict=True):
    np.testing.assert_allclose(other[:2], one, rtol=1e-6, atol=1e-6)
  assert (np.diff(values) > -1e-5).all()
  # Without it the third component, of no examples, is where it was.
  _, after, _ = fit(x, aside, 1)
  for old, new in zip(aside, after.extra['theta'], strict=True):
    np.testing.assert_array_equal(new[2], old[2])
  log_p = method.log_prob(base.Model(after.params, after.extra), None, x)
  assert np.isfinite(log_p).all()


def test_em_with_a_prior_climbs_the_posterior_and_the_likelihood_may_fall():
  x = jnp.array(list(itertools.product((0, 1), repeat=3)))[jnp.array([0, 0, 0, 7, 7])]
  method = mixture.mixture(mixture.bernoullis(smoothing=1.0), (3,), 2)
  state = method.init(jax.random.key(0), {'x': x})
  sharp = (jnp.array([[0.01] * 3, [0.99] * 3]),)
  state = state._replace(extra={**state.extra, 'theta': sharp})
  likelihoods, posteriors = [], []
  for _ in range(10):
    (p,) = state.extra['theta']
    prior = (jnp.log(p) + jnp.log1p(-p)).sum()  # Beta(2, 2), up to a constant
    state, metrics = method.step(state, None, {'x': x})
    likelihoods.append(5 * float(metrics['log_likelihood']))
    posteriors.append(likelihoods[-1] + float(prior))
  assert (np.diff(posteriors) > -1e-5).all()
  assert min(np.diff(likelihoods)) < -0.5
