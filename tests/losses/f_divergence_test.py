"""f-divergences against suprema, quadrature, published values and convexity."""

import doctest
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special, stats

from gm_jax.losses import adversarial, f_divergence

D = f_divergence
ALL = {
  'total_variation': D.TOTAL_VARIATION,
  'kl': D.KL,
  'reverse_kl': D.REVERSE_KL,
  'pearson': D.PEARSON,
  'neyman': D.NEYMAN,
  'squared_hellinger': D.SQUARED_HELLINGER,
  'jeffrey': D.JEFFREY,
  'jensen_shannon': D.JENSEN_SHANNON,
  'gan': D.GAN,
  'weighted_0.2': D.weighted_jensen_shannon(0.2),
  'weighted_0.9': D.weighted_jensen_shannon(0.9),
  'alpha_-1': D.alpha(-1.0),
  'alpha_0': D.alpha(0.0),
  'alpha_-3': D.alpha(-3.0),
  'alpha_0.5': D.alpha(0.5),
  'alpha_0.7': D.alpha(0.7),
  'alpha_0.9': D.alpha(0.9),
  'alpha_1': D.alpha(1.0),
  'alpha_2': D.alpha(2.0),
  'alpha_3': D.alpha(3.0),
}


def _weighted(pi):
  return lambda u: (
    pi * special.xlogy(u, u) - special.xlogy(1 - pi + pi * u, 1 - pi + pi * u)
  )


def _alpha(a):
  return lambda u: (u**a - 1 - a * (u - 1)) / (a * (a - 1))


# The generators of the paper's table 1, in numpy, and of the supplement's.
BY_HAND = {
  'total_variation': lambda u: abs(u - 1) / 2,
  'kl': lambda u: special.xlogy(u, u),
  'reverse_kl': lambda u: -np.log(u),
  'pearson': lambda u: (u - 1) ** 2,
  'neyman': lambda u: (1 - u) ** 2 / u,
  'squared_hellinger': lambda u: (np.sqrt(u) - 1) ** 2,
  'jeffrey': lambda u: (u - 1) * np.log(u),
  'jensen_shannon': lambda u: special.xlogy(u, u) - special.xlogy(u + 1, (1 + u) / 2),
  'gan': lambda u: special.xlogy(u, u) - special.xlogy(u + 1, u + 1),
  'weighted_0.2': _weighted(0.2),
  'weighted_0.9': _weighted(0.9),
  'alpha_-1': _alpha(-1.0),
  'alpha_0': lambda u: u - 1 - np.log(u),
  'alpha_-3': _alpha(-3.0),
  'alpha_0.5': _alpha(0.5),
  'alpha_0.7': _alpha(0.7),
  'alpha_0.9': _alpha(0.9),
  'alpha_1': lambda u: special.xlogy(u, u) - u + 1,
  'alpha_2': _alpha(2.0),
  'alpha_3': _alpha(3.0),
}
every_divergence = pytest.mark.parametrize('name', ALL)
RATIOS = np.geomspace(1e-3, 1e3, 61)
LOGITS = np.linspace(-6.0, 6.0, 49)


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def slopes_of(function):
  return jax.vmap(jax.grad(function))


def supremum(f, t):
  """sup_{u >= 0} u t - f(u), by a search over ln u and the limit u -> 0."""

  def negative(log_u):
    return f(np.exp(log_u)) - np.exp(log_u) * t

  grid = np.linspace(-45, 12, 400)
  best = grid[np.argmin(negative(grid))]
  found = optimize.minimize_scalar(
    negative, bounds=(best - 0.3, best + 0.3), method='bounded',
    options={'xatol': 1e-12},
  )  # fmt: skip
  return -found.fun


@every_divergence
def test_f_is_the_papers(name):
  ours = ALL[name].f(jnp.array(RATIOS))
  np.testing.assert_allclose(ours, BY_HAND[name](RATIOS), rtol=1e-9, atol=1e-12)
  at_one = -2 * math.log(2) if name == 'gan' else 0.0
  np.testing.assert_allclose(ALL[name].f(jnp.array(1.0)), at_one, atol=1e-12)


@every_divergence
def test_conjugate_is_the_supremum(name):
  divergence = ALL[name]
  t = divergence.activation(np.linspace(-4.0, 4.0, 17))
  expected = [supremum(BY_HAND[name], one) for one in np.asarray(t)]
  np.testing.assert_allclose(divergence.conjugate(t), expected, rtol=1e-7, atol=1e-7)


@every_divergence
def test_conjugate_is_infinite_above_its_domain_and_flat_far_below(name):
  divergence = ALL[name]
  lowest, highest = divergence.domain
  if math.isfinite(highest):
    assert divergence.conjugate(jnp.array(highest + 1e-9)) == np.inf
    assert np.isfinite(divergence.conjugate(jnp.array(highest - 1e-6)))
  # f*(-inf) = -f(0): f is infinite below 0.
  f_0 = float(divergence.f(jnp.array(0.0)))
  if math.isfinite(f_0):
    far = divergence.conjugate(jnp.array(-1e7 if lowest < -1 else lowest))
    np.testing.assert_allclose(far, -f_0, atol=1e-5)
  # Highest is f'(inf).
  slope = float(divergence.f(jnp.array(1e150)) / 1e150)
  if math.isfinite(highest):
    np.testing.assert_allclose(slope, highest, atol=1e-5)
  else:
    assert slope > 10


@every_divergence
def test_fenchel_inequality_and_equality_at_the_derivative(name):
  divergence = ALL[name]
  u = RATIOS
  t, tight = divergence.activation(LOGITS), divergence.derivative(u)
  f, conjugate, t, tight, at_tight = map(
    np.asarray, (divergence.f(u), divergence.conjugate(t), t, tight,
                 divergence.conjugate(tight)),
  )  # fmt: skip
  assert (f[:, None] + conjugate - u[:, None] * t).min() > -1e-9
  np.testing.assert_allclose(f + at_tight, u * tight, rtol=1e-7, atol=1e-8)


@every_divergence
def test_conjugate_of_the_conjugate_is_f(name):
  divergence = ALL[name]
  v = np.concatenate([np.linspace(-400, -30, 60_001), np.linspace(-30, 30, 60_001)])
  t = np.asarray(divergence.activation(v))
  if math.isinf(divergence.domain[1]):
    t = np.concatenate([t, np.linspace(30.0, 3000.0, 60_001)])
  u, conjugate = np.array([0.05, 0.4, 1.0, 2.5, 20.0]), divergence.conjugate(t)
  back = [(one * t - conjugate).max() for one in u]
  np.testing.assert_allclose(back, divergence.f(u), rtol=1e-5, atol=1e-6)


@every_divergence
def test_conjugate_reverses_order(name):
  # f <= g implies f* >= g*: g = f + (u - 1)^2 here, its conjugate by search.
  divergence = ALL[name]
  larger = lambda u: BY_HAND[name](u) + (u - 1) ** 2  # noqa: E731
  t = divergence.activation(np.linspace(-4.0, 4.0, 17))
  least = [supremum(larger, one) - 1e-8 for one in np.asarray(t)]
  assert (np.asarray(divergence.conjugate(t)) >= least).all()


@every_divergence
def test_f_and_its_conjugate_are_convex_and_increase_where_they_should(name):
  divergence = ALL[name]
  rng = np.random.default_rng(0)
  u = np.exp(rng.uniform(-6, 6, (2, 400)))
  t = np.asarray(divergence.activation(rng.uniform(-6, 6, (2, 400))))
  w = rng.uniform(size=400)
  for function, x in ((divergence.f, u), (divergence.conjugate, t)):
    both = np.stack([*x, w * x[0] + (1 - w) * x[1]])
    first, second, inside = np.asarray(function(both))
    chord = w * first + (1 - w) * second
    assert (chord - inside > -1e-8 * (1 + np.abs(chord))).all()
  steps = np.diff(divergence.activation(LOGITS))
  assert (steps > 0).all()  # a larger logit means more like data
  assert (np.diff(divergence.conjugate(np.sort(t.ravel()))) >= -1e-12).all()


@every_divergence
def test_conjugate_is_lower_semicontinuous_at_the_end_of_its_domain(name):
  divergence = ALL[name]
  highest = divergence.domain[1]
  if math.isinf(highest):
    return
  at_end = float(divergence.conjugate(jnp.array(highest)))
  below = divergence.conjugate(highest - np.array([1e-4, 1e-8, 1e-12]))
  assert (at_end >= below).all()  # liminf >= the value holds with equality
  if math.isfinite(at_end):
    np.testing.assert_allclose(below[-1], at_end, atol=1e-5)
  else:
    assert (np.diff(below) > 0.001).all()


@every_divergence
def test_derivative_and_threshold(name):
  divergence = ALL[name]
  u = np.array([0.01, 0.3, 0.9, 1.2, 7.0, 300.0])
  slope = slopes_of(divergence.f)(u)
  np.testing.assert_allclose(divergence.derivative(u), slope, rtol=1e-9, atol=1e-12)
  at_one = divergence.derivative(jnp.array(1.0))
  np.testing.assert_allclose(divergence.threshold, at_one, atol=1e-12)
  # The maximizing u of the conjugate is its derivative.
  t = divergence.derivative(u)
  maximizer = slopes_of(divergence.conjugate)(t)
  if name != 'total_variation':
    np.testing.assert_allclose(maximizer, u, rtol=1e-6)


@every_divergence
def test_stable_composition_is_the_composition(name):
  divergence = ALL[name]
  v = jnp.array(LOGITS)
  expected = divergence.conjugate(divergence.activation(v))
  np.testing.assert_allclose(
    divergence.conjugate_of_activation(v), expected, rtol=1e-8, atol=1e-9
  )


FINITE = ('total_variation', 'pearson', 'jensen_shannon', 'gan', 'reverse_kl',
          'weighted_0.2', 'weighted_0.9', 'alpha_0', 'alpha_2', 'alpha_3')  # fmt: skip


@every_divergence
def test_huge_logits_give_a_value_or_the_right_infinity_and_never_nan(name):
  divergence = ALL[name]
  v = jnp.array([-1e4, 1e4], jnp.float32)
  value = divergence.conjugate_of_activation(v)
  assert value.dtype == jnp.float32
  assert not np.isnan(value).any() and value[0] <= value[1]
  assert np.isfinite(value).all() if name in FINITE else not value[1] < 0
  raw = divergence.activation(v)
  assert not np.isnan(raw).any() and raw[0] < raw[1]
  moderate = np.linspace(-50.0, 50.0, 1001, dtype=np.float32)
  for function in (divergence.activation, divergence.conjugate_of_activation):
    slope = slopes_of(function)
    *slopes, far, farther = np.asarray(slope(np.concatenate([moderate, v])))
    assert np.isfinite(slopes).all() and (np.array(slopes) >= 0).all()
    exact = slope(moderate.astype(np.float64))
    # At the kink of alpha(3) the slope is a root, hence the tolerance.
    np.testing.assert_allclose(slopes, exact, rtol=3e-4, atol=2e-3)
    assert not np.isnan([far, farther]).any()


# Published with the definitions: p = N(0, 1), q = N(0.8, 1.3).
X = np.linspace(-12.0, 12.0, 20_001)
P, Q = stats.norm(0, 1).pdf(X), stats.norm(0.8, 1.3).pdf(X)
W = np.full_like(X, X[1] - X[0])
INTEGRALS = {
  'total_variation': lambda p, q: abs(p - q) / 2,
  'kl': lambda p, q: p * np.log(p / q),
  'reverse_kl': lambda p, q: q * np.log(q / p),
  'pearson': lambda p, q: (p - q) ** 2 / q,
  'neyman': lambda p, q: (p - q) ** 2 / p,
  'squared_hellinger': lambda p, q: (np.sqrt(p) - np.sqrt(q)) ** 2,
  'jeffrey': lambda p, q: (p - q) * np.log(p / q),
  'jensen_shannon': lambda p, q: (
    p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q))
  ),
  'gan': lambda p, q: p * np.log(p / (p + q)) + q * np.log(q / (p + q)),
  'weighted_0.2': lambda p, q: (
    0.2 * p * np.log(p / (0.2 * p + 0.8 * q))
    + 0.8 * q * np.log(q / (0.2 * p + 0.8 * q))
  ),
  'alpha_-1': lambda p, q: (p - q) ** 2 / p / 2,
  'alpha_0': lambda p, q: q * np.log(q / p),
  'alpha_0.5': lambda p, q: 2 * (np.sqrt(p) - np.sqrt(q)) ** 2,
  'alpha_1': lambda p, q: p * np.log(p / q),
  'alpha_2': lambda p, q: (p - q) ** 2 / q / 2,
  'alpha_3': lambda p, q: (p**3 / q**2 - q - 3 * (p - q)) / 6,
}


@pytest.mark.parametrize('name', INTEGRALS)
def test_divergence_is_its_integral_and_the_bound_is_tight(name):
  divergence = ALL[name]
  value = functools.partial(D.evaluate, divergence)(P, Q, weights=W)
  expected = (INTEGRALS[name](P, Q) * W).sum()
  np.testing.assert_allclose(value, expected, rtol=1e-8)
  bound = functools.partial(D.variational_bound, divergence)
  tight = bound(P, Q, divergence.derivative(P / Q), weights=W)
  np.testing.assert_allclose(tight, value, rtol=1e-8)
  rng = np.random.default_rng(0)
  for _ in range(5):
    logits = rng.normal() + rng.normal() * X + rng.normal() * X**2 / 10
    other = divergence.activation(np.clip(logits, -5, 5))
    assert bound(P, Q, other, weights=W) < value


def test_values_on_two_gaussians():
  # N(0, 1) against N(0.8, 1.3), computed by quadrature apart from this code; Neyman's
  # by its closed form, int q^2 / p - 1 of Gaussians.
  known = {'kl': 0.247571, 'reverse_kl': 0.402636, 'pearson': 0.433452,
           'squared_hellinger': 0.147284, 'jensen_shannon': 0.137637,
           'gan': -1.248657}  # fmt: skip
  m, s = 0.8, 1.3
  a, b, c = 1 / s**2 - 0.5, m / s**2, m**2 / s**2
  integral = math.sqrt(math.pi / a) * math.exp(b**2 / a - c)
  known['neyman'] = integral / (math.sqrt(2 * math.pi) * s**2) - 1
  for name, expected in known.items():
    wide = np.linspace(-30.0, 30.0, 200_001)  # Neyman's tail is long
    p, q = stats.norm(0, 1).pdf(wide), stats.norm(m, s).pdf(wide)
    value = D.evaluate(ALL[name], jnp.array(p), jnp.array(q), weights=6e-4 / 2)
    np.testing.assert_allclose(value, expected, rtol=5e-6)


def test_jensen_shannon_row_is_twice_the_divergence():
  half = D.weighted_jensen_shannon(0.5)
  args = jnp.array(P), jnp.array(Q)
  twice = D.evaluate(D.JENSEN_SHANNON, *args, weights=jnp.array(W))
  once = D.evaluate(half, *args, weights=jnp.array(W))
  np.testing.assert_allclose(twice, 2 * once, rtol=1e-10)
  np.testing.assert_allclose(
    D.evaluate(D.GAN, *args, weights=jnp.array(W)), twice - math.log(4), rtol=1e-8
  )


def test_weight_must_be_a_probability():
  # Public code has put 3.14159 here, and taken the logarithm of a negative.
  for pi in (np.pi, 0.0, 1.0, -0.5, math.nan):
    with pytest.raises(ValueError, match=r'in \(0, 1\)'):
      D.weighted_jensen_shannon(pi)
  with pytest.raises(ValueError, match='finite'):
    D.alpha(math.nan)


def test_alpha_is_continuous_in_a():
  u = jnp.array([0.1, 0.7, 2.0, 9.0])
  for a in (0.0, 1.0):
    near, at = D.alpha(a + 1e-5), D.alpha(a)
    np.testing.assert_allclose(near.f(u), at.f(u), rtol=2e-4)
    np.testing.assert_allclose(near.derivative(u), at.derivative(u), rtol=2e-4)
    t = at.derivative(u)
    np.testing.assert_allclose(near.conjugate(t), at.conjugate(t), rtol=2e-3)


@pytest.mark.parametrize('name', ALL)
def test_disjoint_tables_cost_f_of_zero_and_the_slope_at_infinity(name):
  divergence = ALL[name]
  evaluate = functools.partial(D.evaluate, divergence)
  p, q = np.array([0.25, 0.75, 0.0, 0.0]), np.array([0.0, 0.0, 1.0, 0.0])
  f_0, f_1 = (float(divergence.f(jnp.array(u))) for u in (0.0, 1.0))
  assert evaluate(p, q) == pytest.approx(f_0 + divergence.domain[1])
  assert evaluate(p, p) == pytest.approx(f_1, abs=1e-12)


@every_divergence
def test_bound_is_tight_on_tables_with_empty_cells(name):
  evaluate, bound = (
    functools.partial(f, ALL[name]) for f in (D.evaluate, D.variational_bound)
  )
  divergence = ALL[name]
  for p, q in (([0.0, 0.5, 0.5], [0.4, 0.3, 0.3]), ([0.4, 0.6, 0.0], [0.3, 0.3, 0.4]),
               ([0.2, 0.8, 0.0], [0.5, 0.5, 0.0])):  # fmt: skip
    p, q = np.array(p), np.array(q)
    critic = divergence.derivative(np.where(q > 0, p / np.where(q > 0, q, 1.0), 1.0))
    np.testing.assert_allclose(bound(p, q, critic), evaluate(p, q), rtol=1e-9)


@every_divergence
def test_games_at_huge_logits_are_never_nan(name):
  far = jnp.array([-1e4, -1e4, 1e4, 1e4], jnp.float32)
  near = jnp.array([-1e4, 1e4, -1e4, 1e4], jnp.float32)
  game = D.f_gan(ALL[name])
  discriminator = game.discriminator
  loss = np.asarray(discriminator(far, near))
  assert not np.isnan(loss).any()
  # Calling data fake and samples real costs the most, the reverse the least.
  assert loss[1] == loss.max() and loss[2] == loss.min()
  both = np.asarray(discriminator(far, far))[0]
  assert both >= 0  # sure that all are fake: data are missed, whatever is gained
  for generator in (game.generator, D.f_gan(ALL[name], generator=D.trick_generator)[0]):
    assert not np.isnan(generator(far, near)).any()


def test_alpha_keeps_its_digits_next_to_its_limits():
  u = jnp.array([1e-3, 0.5, 1.0, 2.0, 50.0], jnp.float32)
  exact = np.asarray(u, np.float64)
  kl, reverse = exact * np.log(exact) - exact + 1, exact - 1 - np.log(exact)
  for near, limit in (
    (1e-6, reverse),
    (-1e-6, reverse),
    (1 + 1e-6, kl),
    (1 - 1e-6, kl),
  ):
    np.testing.assert_allclose(D.alpha(near).f(u), limit, rtol=1e-4, atol=1e-6)
  for a in (0.0, 0.3, 0.64, 0.8, 0.9, 0.95, 0.99, 1.0, 1.01, 1.2):
    zero = jnp.zeros(1, jnp.float32)
    game = D.f_gan(D.alpha(a))
    assert game.discriminator(zero, zero) == 0  # an untrained critic sees nothing


def test_bounded_divergences_of_disjoint_tables():
  p, q = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
  for name, most in (('total_variation', 1.0), ('squared_hellinger', 2.0),
                     ('jensen_shannon', 2 * math.log(2)), ('gan', 0.0),
                     ('kl', math.inf), ('pearson', math.inf)):  # fmt: skip
    assert D.evaluate(ALL[name], p, q) == pytest.approx(most, abs=1e-12)


def test_gan_divergence_plays_the_known_games():
  rng = np.random.default_rng(0)
  r, f = (jnp.array(3 * rng.normal(size=50)) for _ in range(2))
  saddle = D.f_gan(D.GAN)
  trick = D.f_gan(D.GAN, generator=D.trick_generator)
  for ours, known in ((saddle, adversarial.MINIMAX),
                      (trick, adversarial.NON_SATURATING)):  # fmt: skip
    for side in ('generator', 'discriminator'):
      np.testing.assert_allclose(
        getattr(ours, side)(r, f), getattr(known, side)(r, f), rtol=1e-12
      )


@every_divergence
def test_game_is_the_variational_bound(name):
  divergence = ALL[name]
  rng = np.random.default_rng(1)
  r, f = (jnp.array(rng.normal(size=20)) for _ in range(2))
  game = D.f_gan(divergence)
  t_r, t_f = divergence.activation(r), divergence.activation(f)
  np.testing.assert_allclose(
    -game.discriminator(r, f), t_r - divergence.conjugate(t_f), rtol=1e-7, atol=1e-9
  )
  np.testing.assert_allclose(
    -game.generator(r, f), divergence.conjugate(t_f), rtol=1e-7, atol=1e-9
  )
  trick = D.f_gan(divergence, generator=D.trick_generator)
  np.testing.assert_allclose(-trick.generator(r, f), t_f, rtol=1e-12)
  with pytest.raises(ValueError, match=r'\[B\]'):
    game.discriminator(r[:, None], f)
  with pytest.raises(ValueError, match='same B'):
    trick.generator(r, f[:-1])


@every_divergence
def test_float32_value_is_the_float64_one(name):
  v = np.linspace(-30, 30, 301)
  exact = ALL[name].conjugate_of_activation(jnp.array(v))
  rounded = ALL[name].conjugate_of_activation(jnp.array(v, jnp.float32))
  np.testing.assert_allclose(rounded, exact, rtol=2e-4, atol=2e-6)


def test_wrong_shapes_are_refused():
  with pytest.raises(ValueError, match='one shape'):
    D.evaluate(D.KL, jnp.ones(3), jnp.ones(4))
  with pytest.raises(ValueError, match='one shape'):
    D.variational_bound(D.KL, jnp.ones(3), jnp.ones(3), jnp.ones((3, 1)))


def test_docstring_examples():
  with jax.enable_x64(False):
    failed, tried = doctest.testmod(f_divergence)
  assert failed == 0 and tried > 3
