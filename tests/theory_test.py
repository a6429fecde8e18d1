"""The theory against quadrature, enumeration and published values."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from gm_jax import theory
from gm_jax.losses import divergence, f_divergence, mutual_information

LN2, LN4 = math.log(2), math.log(4)
X = np.linspace(-15.0, 15.0, 60_001)
STEP = X[1] - X[0]


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def tables(num, size=6, seed=0, zeros=True):
  rng = np.random.default_rng(seed)
  raw = rng.exponential(size=(num, size))
  if zeros:
    raw *= rng.uniform(size=raw.shape) > 0.3
  return jnp.array(raw / raw.sum(1, keepdims=True))


def gaussians(*pairs):
  return (jnp.array(stats.norm(m, s).pdf(X)) for m, s in pairs)


# p = N(0, 1) against q; V and JSD computed once, apart from this code.
@pytest.mark.parametrize(
  ('q', 'value', 'jsd'),
  [((1, 1), -1.163451, 0.111421), ((2, 0.5), -0.437680, 0.474307),
   ((6, 0.3), -1.4e-5, 0.693140)],
)  # fmt: skip
def test_value_at_the_optimum_is_two_jsd_minus_ln_4(q, value, jsd):
  p, q = gaussians((0, 1), q)
  best = theory.gan_value(p, q, theory.optimal_logit(p, q), weights=STEP)
  found = divergence.jensen_shannon(p, q, weights=STEP)
  np.testing.assert_allclose(best, value, atol=1e-6)
  np.testing.assert_allclose(found, jsd, atol=1e-6)
  np.testing.assert_allclose(best, 2 * found - LN4, atol=1e-9)
  assert abs(best - (found - LN4)) > 0.1  # the lecture's slip
  # The f-GAN's GAN row is the same number.
  row = f_divergence.evaluate(f_divergence.GAN, p, q, weights=STEP)
  np.testing.assert_allclose(row, best, atol=1e-9)


def test_no_discriminator_is_better_than_the_optimum():
  value, information = jax.jit(theory.gan_value), jax.jit(theory.source_information)
  values = jax.jit(jax.vmap(theory.gan_value, (None, None, 0)))
  discriminator = jax.jit(theory.optimal_discriminator)
  for p, q in itertools.pairwise(tables(8)):
    best = jax.jit(theory.optimal_logit)(p, q)
    np.testing.assert_allclose(jax.nn.sigmoid(best), discriminator(p, q), atol=1e-12)
    top, shared = value(p, q, best), information(p, q)
    noise = np.random.default_rng(1).normal(size=(20, *p.shape))
    others = values(p, q, jnp.clip(best, -9.0, 9.0) + noise)
    assert (others <= top + 1e-12).all()
    # Any discriminator bounds the information about the source from below.
    assert (others / 2 + LN2 <= shared + 1e-12).all()
    np.testing.assert_allclose(top / 2 + LN2, shared)


def test_optimum_is_that_of_mixtures_too():
  parts = [stats.norm(m, s).pdf(X) for m, s in ((-2, 0.5), (1, 1), (3, 0.3))]
  p = jnp.array(0.5 * parts[0] + 0.5 * parts[1])
  q = jnp.array(0.2 * parts[1] + 0.8 * parts[2])
  logits = theory.optimal_logit(p, q)
  slope = jax.grad(lambda at: theory.gan_value(p, q, at, weights=STEP))(logits)
  dense = np.asarray(p + q) > 1e-6
  np.testing.assert_allclose(np.asarray(slope)[dense], 0, atol=1e-15)
  flat = theory.gan_value(p, q, jnp.zeros_like(p), weights=STEP)
  np.testing.assert_allclose(flat, -LN4)


def test_information_of_the_source_is_jsd_three_ways():
  information, entropy = jax.jit(theory.source_information), jax.jit(divergence.entropy)
  jensen_shannon = jax.jit(divergence.jensen_shannon)
  for p, q in itertools.pairwise(tables(10)):
    by_table = information(p, q)
    entropies = entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2
    jsd = jensen_shannon(p, q)
    np.testing.assert_allclose(by_table, jsd, atol=1e-12)
    np.testing.assert_allclose(entropies, jsd, atol=1e-12)
    joint = np.stack([p, q]) / 2  # H(X) + H(Y) - H(X, Y), by hand
    h = lambda t: -sum(v * math.log(v) for v in np.ravel(t) if v > 0)  # noqa: E731
    by_hand = h(joint.sum(0)) + h(joint.sum(1)) - h(joint)
    np.testing.assert_allclose(by_table, by_hand, atol=1e-12)


def test_jsd_lies_in_0_ln_2_with_both_ends_reached_and_kl_has_no_bound():
  several = tables(12)
  pairs = jax.vmap(jax.vmap(divergence.jensen_shannon, (None, 0)), (0, None))
  values = jax.jit(pairs)(several, several)
  assert (values >= -1e-15).all() and (values <= LN2 + 1e-12).all()
  np.testing.assert_allclose(values, values.T, atol=1e-12)
  np.testing.assert_allclose(jnp.diagonal(values), 0, atol=1e-15)
  p, q = jnp.array([0.3, 0.7, 0.0, 0.0]), jnp.array([0.0, 0.0, 1.0, 0.0])
  np.testing.assert_allclose(divergence.jensen_shannon(p, q), LN2)
  assert divergence.kl(p, q) == math.inf
  for small in (1e-2, 1e-5, 1e-9):
    pair = jnp.array([0.5, 0.5]), jnp.array([1 - small, small])
    assert divergence.kl(*pair) > -0.5 * math.log(4.01 * small)


def test_entropy_has_its_minus():
  fair = jnp.full(8, 1 / 8)
  np.testing.assert_allclose(divergence.entropy(fair), math.log(8))
  for table in tables(5):
    assert divergence.entropy(table) >= 0  # without its minus it would be negative
  (density,) = gaussians((0, 2))
  np.testing.assert_allclose(
    divergence.entropy(density, weights=STEP), divergence.gaussian_entropy(2.0)
  )


def test_parameters_of_one_rgb_pixel():
  # The free parameters of a table are the directions in which its chances can move.
  def free(levels, channels=3):
    logits = jnp.array(np.random.default_rng(0).normal(size=levels**channels))
    return np.linalg.matrix_rank(jax.jit(jax.jacobian(jax.nn.softmax))(logits))

  for levels in (2, 3, 4):
    assert free(levels) == levels**3 - 1 != (levels - 1) ** 3
  assert 256**3 - 1 == 16_777_215  # the same law at 256 levels


@pytest.mark.slow
def test_bounded_divergences_saturate_on_parallel_lines():
  import pathlib
  import sys

  sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
  from experiments.ledger import theory as ledger

  thetas = np.array([-1.0, -0.5, 0.5, 1.2])
  found = ledger.on_lines(thetas)
  for std in ledger.THICKNESS:
    apart = abs(thetas) / (2 * std)
    values, slopes = found['total variation', std]
    np.testing.assert_allclose(values, 2 * stats.norm.cdf(apart) - 1, atol=1e-6)
    density = np.sign(thetas) * stats.norm.pdf(apart) / std
    np.testing.assert_allclose(slopes, density, atol=1e-4)
    values, slopes = found['KL', std]
    np.testing.assert_allclose(values, thetas**2 / (2 * std**2), rtol=1e-7)
    np.testing.assert_allclose(slopes, thetas / std**2, rtol=1e-7)
    value, game = found['JSD', std], found['V(G, D*)', std]
    np.testing.assert_allclose(game[0], 2 * value[0] - LN4, atol=1e-9)
    np.testing.assert_allclose(game[1], 2 * value[1], atol=1e-9)
  # The thinner the lines, the less there is to descend, however near they are.
  for name, most in (('JSD', LN2), ('total variation', 1), ('V(G, D*)', 0)):
    steep = [abs(found[name, std][1][2]) for std in ledger.THICKNESS]
    assert steep[0] > 3 * steep[1] > 300 * steep[2], steep
    np.testing.assert_allclose(found[name, 0.05][0], most, atol=1e-4)
  values, slopes = found['W1', 0.0]
  np.testing.assert_allclose(values, abs(thetas))
  np.testing.assert_allclose(slopes, np.sign(thetas))
  x, y = (np.asarray(ledger.line(theta, 12)) for theta in (0.0, -0.5))
  cost = np.linalg.norm(x[:, None] - y, axis=2)  # the best plan in the plane
  matched = optimize.linear_sum_assignment(cost)
  np.testing.assert_allclose(cost[matched].mean(), values[1])
  values, slopes = found['W2^2', 0.0]
  np.testing.assert_allclose(values, thetas**2)
  np.testing.assert_allclose(slopes, 2 * thetas)
  values, slopes = found['Sinkhorn, epsilon 0.01', 0.0]
  np.testing.assert_allclose(values, thetas**2, rtol=1e-3)
  np.testing.assert_allclose(slopes, 2 * thetas, rtol=1e-3)
  # 2 E k(along the line) (1 - exp(-theta^2 / 2 l^2)), l = 1.
  along = np.asarray(ledger.line(0.0))[:, 1]
  mean = np.exp(-((along[:, None] - along) ** 2) / 2).mean()
  values, slopes = found['MMD^2, Gaussian kernel', 0.0]
  np.testing.assert_allclose(values, 2 * mean * (1 - np.exp(-(thetas**2) / 2)))
  np.testing.assert_allclose(slopes, 2 * mean * thetas * np.exp(-(thetas**2) / 2))


@pytest.mark.slow
@pytest.mark.slow
def test_table_of_axioms_is_the_literatures():
  from experiments.ledger import theory as ledger

  held = {row[0]: [cell == 'holds' for cell in row[1:]] for row in ledger.axioms()}
  metric = [True] * 4
  for name in ('total variation', 'root of JSD', 'Hellinger', 'W1', 'W2',
               'MMD, Gaussian kernel', 'root of the energy distance'):  # fmt: skip
    assert held[name] == metric, name
  for name in ('KL(p || q)', 'KL(q || p)', 'Pearson chi^2', 'Neyman chi^2'):
    assert held[name][:3] == [True, True, False], name
  for name in ('JSD', 'squared Hellinger', 'W2^2', 'MMD^2, Gaussian kernel',
               'energy distance'):  # fmt: skip
    assert held[name] == [True, True, True, False], name
  assert not held['V(G, D*)'][0] and not held['V(G, D*)'][1]
  assert not held['MMD, linear kernel'][1]  # it sees the mean alone
  assert not held['entropic transport'][1]  # its bias
  assert held['Sinkhorn divergence'][:3] == [True] * 3


def test_axioms_finds_what_fails_and_nothing_else():
  points = np.array([0.0, 1.0, 3.0])
  distance = abs(points[:, None] - points)
  assert theory.axioms(distance) == (None,) * 4
  assert theory.axioms(distance**2).triangle == (0, 1, 2, pytest.approx(4.0))
  assert theory.axioms(distance - 5).non_negative[2] == 5
  one_way = distance.copy()
  one_way[0, 1] = 1.5
  assert theory.axioms(one_way).symmetric == (0, 1, 0.5)
  merged = distance.copy()
  merged[0, 1] = merged[1, 0] = 0
  assert theory.axioms(merged).identity[:2] == (0, 1)
  infinite = np.where(np.eye(3), 0, np.inf)
  assert theory.axioms(infinite) == (None,) * 4
  with pytest.raises(ValueError, match=r'\[N, N\]'):
    theory.axioms(np.ones((2, 3)))


def test_errata_name_tests_that_exist():
  from experiments.ledger import theory as ledger

  for _, _, test in ledger.ERRATA:
    file, name = test.split('::')
    assert file == 'theory_test.py' and callable(globals()[name])


def test_mutual_information_of_a_table_by_hand():
  joint = jnp.array([[0.4, 0.1], [0.1, 0.4]])
  expected = sum(v * math.log(v / 0.25) for v in (0.4, 0.1, 0.1, 0.4))
  np.testing.assert_allclose(mutual_information.of_table(joint), expected)
