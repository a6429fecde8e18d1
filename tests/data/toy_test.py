"""Densities against scipy and against samples; the streams of batches."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from gm_jax.data import toy

# Wide enough for a grid of cells 0.05 wide to integrate to rounding.
PLANAR = {
  'ring': (functools.partial(toy.ring, std=0.1), 3.0),
  'grid': (functools.partial(toy.grid, side=3, std=0.1), 3.0),
  'weighted': (
    lambda: toy.gaussian_mixture([[-1, 0], [1, 1]], [[0.2, 0.4], [0.5, 0.3]], [3, 1]),
    4.0,
  ),
  'concentric_rings': (functools.partial(toy.concentric_rings, std=0.1), 3.0),
  'moons': (toy.moons, 3.0),
  'swiss_roll': (toy.swiss_roll, 3.0),
  'checkerboard': (toy.checkerboard, 4.5),
  'pinwheel': (toy.pinwheel, 6.0),
}

PLAIN = ('moons', 'swiss_roll', 'checkerboard', 'pinwheel')  # as their default is


@functools.cache
def planar(name):
  return jitted(PLANAR[name][0]())


def jitted(distribution):
  return distribution._replace(
    sample=jax.jit(distribution.sample, static_argnums=1),
    log_prob=jax.jit(distribution.log_prob),
  )


def cells(half_width):
  """Midpoints [n * n, 2] of square cells of width 0.05."""
  ticks = np.arange(-half_width + 0.025, half_width, 0.05)
  return np.stack(np.meshgrid(ticks, ticks, indexing='ij'), -1).reshape(-1, 2)


@pytest.mark.parametrize('name', PLANAR)
def test_density_integrates_to_one_and_is_that_of_the_samples(name):
  distribution, half_width, num = planar(name), PLANAR[name][1], 20_000
  x, samples = cells(half_width), distribution.sample(jax.random.key(0), num)
  points = np.concatenate([x, samples]).astype(np.float32)
  found = np.asarray(distribution.log_prob(points), float)
  log_prob, at_samples = found[:-num], found[-num:]
  mass = np.exp(log_prob) * 0.05**2
  assert abs(mass.sum() - 1) < 2e-4

  entropy = -(mass[mass > 0] * log_prob[mass > 0]).sum()
  error = at_samples.std() / num**0.5
  assert abs(-at_samples.mean() - entropy) <= 4 * error + 1e-3

  # Pearson's statistic over blocks of 6 x 6 cells, rare ones pooled.
  edges = np.arange(-half_width, half_width + 0.01, 0.3)
  seen = np.histogram2d(*np.asarray(samples).T, bins=[edges, edges])[0].ravel()
  expected = num * np.histogram2d(*x.T, bins=[edges, edges], weights=mass)[0].ravel()
  common = expected >= 10
  seen = np.append(seen[common], num - seen[common].sum())
  expected = np.append(expected[common], max(num - expected[common].sum(), 1))
  statistic = ((seen - expected) ** 2 / expected).sum()
  assert statistic < stats.chi2.isf(1e-5, len(seen) - 1)


@pytest.mark.parametrize('make', [toy.ring, toy.grid, PLANAR['weighted'][0]])
def test_mixture_density_against_scipy(make):
  distribution = jitted(make())
  std = np.array([[0.2, 0.4], [0.5, 0.3]])
  std = std if distribution.std is None else np.full((999, 2), distribution.std)
  x = np.asarray(distribution.sample(jax.random.key(1), 200), float)
  components = zip(distribution.means.astype(float), std, strict=False)
  density = sum(
    w * stats.multivariate_normal(m, np.diag(s**2)).pdf(x)
    for w, (m, s) in zip(distribution.weights, components, strict=True)
  )
  # The centers are float32: at std 0.02 they are 1e-5 std off.
  np.testing.assert_allclose(distribution.log_prob(x), np.log(density), atol=1e-3)


def test_ring_has_all_its_modes():
  distribution = jitted(toy.ring())
  means = distribution.means
  assert means.shape == (8, 2)
  np.testing.assert_allclose(np.linalg.norm(means, axis=-1), 2, rtol=1e-6)
  distance = np.linalg.norm(means[:, None] - means, axis=-1)[~np.eye(8, dtype=bool)]
  np.testing.assert_allclose(distance.min(), 4 * np.sin(np.pi / 8), rtol=1e-5)
  np.testing.assert_array_equal(distribution.weights, 1 / 8)
  x = np.asarray(distribution.sample(jax.random.key(0), 8000))
  offset = x[:, None] - means
  nearest = np.linalg.norm(offset, axis=-1).argmin(-1)
  assert stats.chisquare(np.bincount(nearest, minlength=8)).pvalue > 1e-4
  noise = offset[np.arange(8000), nearest] / 0.02
  assert stats.kstest(noise.ravel(), 'norm').pvalue > 1e-4


def test_grid_modes_are_the_even_lattice():
  distribution = jitted(toy.grid())
  lattice = set(itertools.product([-4, -2, 0, 2, 4], repeat=2))
  assert {tuple(m) for m in distribution.means.tolist()} == lattice
  assert len(distribution.means) == 25
  x = np.asarray(distribution.sample(jax.random.key(0), 20_000))
  # Var = 8 (lattice) + 0.05^2; its standard error is 0.05 (kurtosis 1.7).
  np.testing.assert_allclose(x.mean(0), 0, atol=4 * (8 / 20_000) ** 0.5)
  np.testing.assert_allclose(x.var(0), 8.0025, atol=4 * 8 * (0.7 / 20_000) ** 0.5)


def test_weights_are_proportions():
  distribution = toy.gaussian_mixture([[-5.0], [0.0], [5.0]], 0.1, [1, 0, 3])
  np.testing.assert_allclose(distribution.weights, [0.25, 0, 0.75])
  x = np.asarray(distribution.sample(jax.random.key(0), 4000))
  assert np.abs(x).min() > 4
  assert abs((x > 0).mean() - 0.75) < 4 * (0.75 * 0.25 / 4000) ** 0.5
  for weights in ([1, 2], [1, -1, 1]):
    with pytest.raises(ValueError, match='non-negative'):
      toy.gaussian_mixture([[-5.0], [0.0], [5.0]], 0.1, weights)


def test_shapes_of_a_mixture_are_checked_by_name():
  with pytest.raises(ValueError, match='means must be'):
    toy.gaussian_mixture([0.0, 1.0], 0.1)
  with pytest.raises(ValueError, match=r'stds must be \[\], \[2\] or \[2, 1\], got'):
    toy.gaussian_mixture([[0.0], [1.0]], [0.1, 0.1, 0.1])


def test_rings_against_scipy_where_folding_matters():
  radii, std = (0.1, 0.6), 0.2
  distribution = jitted(toy.concentric_rings(radii=radii, std=std))
  x = np.asarray(distribution.sample(jax.random.key(0), 5000), float)
  r = np.linalg.norm(x, axis=-1)
  density = sum(stats.foldnorm(c / std, scale=std).pdf(r) for c in radii) / 2
  expected = np.log(density / (2 * np.pi * r))
  np.testing.assert_allclose(distribution.log_prob(x), expected, atol=1e-4)

  def cdf(r):
    return sum(stats.foldnorm(c / std, scale=std).cdf(r) for c in radii) / 2

  assert stats.kstest(r, cdf).pvalue > 1e-4
  angle = np.arctan2(x[:, 1], x[:, 0])
  assert stats.kstest(angle, 'uniform', (-np.pi, 2 * np.pi)).pvalue > 1e-4
  slope = jax.jit(jax.grad(lambda y: distribution.log_prob(y).sum()))
  gradient = slope(jnp.zeros((1, 2)))
  assert np.isfinite(gradient).all()


def _moons(t):
  yield np.cos(t), np.sin(t)
  yield 1 - np.cos(t), 0.5 - np.sin(t)


def _spiral(t):
  t = 1.5 * np.pi + 3 * t  # from [0, pi] to [3 pi / 2, 9 pi / 2]
  yield 2 * t / (4.5 * np.pi) * np.cos(t), 2 * t / (4.5 * np.pi) * np.sin(t)


@pytest.mark.parametrize(
  ('make', 'curves', 'std'),
  [(toy.moons, _moons, 0.05), (toy.moons, _moons, 0.3),
   (toy.swiss_roll, _spiral, 0.15), (toy.swiss_roll, _spiral, 0.3)],
)  # fmt: skip
def test_curve_density_against_simpson(make, curves, std):
  distribution = jitted(make(std=std))
  x = np.array([[0.0, 1.0], [1.0, -0.4], [0.2, 0.3], [-1.0, 0.0], [1.2, 1.1]])

  t = np.linspace(0, np.pi, 20_001)

  def density(x):
    squares = [(x[0] - a) ** 2 + (x[1] - b) ** 2 for a, b in curves(t)]
    terms = [np.exp(-square / (2 * std**2)) for square in squares]
    return integrate.simpson(np.mean(terms, 0), x=t) / np.pi / (2 * np.pi * std**2)

  expected = np.log([density(x_i) for x_i in x])
  np.testing.assert_allclose(distribution.log_prob(x), expected, rtol=1e-5, atol=1e-4)


def test_checkerboard_squares():
  distribution = jitted(toy.checkerboard(side=4, width=2.0))
  centers = itertools.product(range(4), repeat=2)
  for i, j in centers:
    x = jnp.array([[2.0 * i - 3 + 0.9, 2.0 * j - 3 - 0.9]])
    expected = -np.log(8 * 4) if (i + j) % 2 == 0 else -np.inf
    np.testing.assert_allclose(distribution.log_prob(x)[0], expected, rtol=1e-6)
  outside = jnp.array([[-4.1, -3.0], [3.0, 4.1], [-5.0, 5.0]])
  assert (distribution.log_prob(outside) == -jnp.inf).all()
  odd = jitted(toy.checkerboard(side=3, width=0.7))
  samples = odd.sample(jax.random.key(0), 200_000)
  np.testing.assert_allclose(odd.log_prob(samples), -np.log(5 * 0.49), rtol=1e-6)


def test_pinwheel_is_an_exact_change_of_variables():
  distribution = jitted(toy.pinwheel())
  angles = 2 * np.pi * np.arange(5) / 5
  rotation = [
    np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in angles
  ]
  arms = [
    stats.multivariate_normal(r @ [2, 0], r @ np.diag([0.36, 0.0225]) @ r.T)
    for r in rotation
  ]

  def warp(y):
    angle = 0.6 * np.linalg.norm(y)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([cos * y[0] - sin * y[1], sin * y[0] + cos * y[1]])

  for y in np.random.default_rng(0).normal(size=(20, 2), scale=1.5):
    columns = [(warp(y + e) - warp(y - e)) / 2e-6 for e in 1e-6 * np.eye(2)]
    jacobian = np.linalg.det(columns)
    expected = np.log(np.mean([arm.pdf(y) for arm in arms]) / abs(jacobian))
    found = distribution.log_prob(warp(y)[None])[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_funnel():
  distribution = jitted(toy.funnel(dim=3))
  x = np.asarray(distribution.sample(jax.random.key(0), 5000), float)
  v, rest = x[:, 0], x[:, 1:]
  assert stats.kstest(v / 3, 'norm').pvalue > 1e-4
  for column in (rest / np.exp(v / 2)[:, None]).T:
    assert stats.kstest(column, 'norm').pvalue > 1e-4
    assert abs(stats.spearmanr(np.abs(column), v)[0]) < 4 / 5000**0.5
  expected = stats.norm.logpdf(v, scale=3)
  expected += stats.norm.logpdf(rest, scale=np.exp(v / 2)[:, None]).sum(-1)
  np.testing.assert_allclose(distribution.log_prob(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', toy.TOYS)
def test_every_toy_by_name(name):
  distribution = planar(name) if name in PLAIN else jitted(toy.TOYS[name]())
  assert distribution.name == name
  x = distribution.sample(jax.random.key(0), 50)
  other = distribution.sample(jax.random.key(1), 50)
  assert len(np.unique(np.concatenate([x, other]), axis=0)) == 100
  np.testing.assert_array_equal(x, distribution.sample(jax.random.key(0), 50))
  assert np.isfinite(distribution.log_prob(x)).all()
  with pytest.raises(ValueError, match=r'x must be points \[B, \d+\]'):
    distribution.log_prob(x[0])


def take(data, split, num, **options):
  stream = data.batches(split, 6, **options)
  return np.stack([batch['x'] for batch in itertools.islice(stream, num)])


def test_batches_are_a_function_of_seed_split_and_position():
  data = toy.dataset(toy.ring())
  straight = take(data, 'train', 5, seed=3)
  np.testing.assert_array_equal(take(data, 'train', 2, seed=3, start=3), straight[3:])
  others = [take(data, 'train', 5, seed=4)]
  others += [take(data, split, 5, seed=3) for split in ('validation', 'test')]
  others += [data.arrays(split, 30)['x'].reshape(5, 6, 2) for split in toy.SPLITS]
  points = np.concatenate([straight, *others]).reshape(-1, 2)
  assert len(np.unique(points, axis=0)) == len(points)


def test_arrays_are_fixed_and_need_a_number():
  data = toy.dataset(toy.moons())
  many = data.arrays('test', 1500)['x']
  assert many.shape == (1500, 2)
  np.testing.assert_array_equal(data.arrays('test', 40)['x'], many[:40])
  assert len(np.unique(many, axis=0)) == 1500
  with pytest.raises(ValueError, match='endless'):
    data.arrays('test', None)
  with pytest.raises(ValueError, match="no split 'valid'"):
    next(data.batches('valid', 3, seed=0))


def test_shards_are_parts_of_the_same_batches():
  data = toy.dataset(toy.ring())
  whole = take(data, 'train', 3, seed=3, start=62)
  parts = [take(data, 'train', 3, seed=3, start=62, shard=(i, 3)) for i in range(3)]
  np.testing.assert_array_equal(np.concatenate(parts, 1), whole)
  with pytest.raises(ValueError, match='multiple of the 4 shards, got 6'):
    data.batches('train', 6, seed=0, shard=(0, 4))


@pytest.mark.parametrize(
  ('make', 'words'),
  [
    (lambda: toy.ring(num_modes=0), 'num_modes must be from 1 to 10000, got 0'),
    (lambda: toy.grid(side=10**9), 'side must be'),
    (lambda: toy.grid(side=200), 'modes must be from 1 to 10000, got 40000'),
    (lambda: toy.funnel(dim=-3), 'dim must be'),
    (lambda: toy.ring(std=0.0), 'std must be from 1e-6 to 1e6, got 0.0'),
    (lambda: toy.pinwheel(radial_std=float('nan')), 'radial_std must be'),
    (lambda: toy.concentric_rings(radii=()), 'radii must be'),
    (lambda: toy.moons(std=1e-4), 'std of moons must be at least 0.002'),
  ],
)
def test_numbers_out_of_range_are_named(make, words):
  with pytest.raises(ValueError, match=words):
    make()
