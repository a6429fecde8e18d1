"""Divergences and likelihoods over the whole range of float32, against float64.

Masses from 1e-38 to 1e3, ratios of them that have no float, families next to the ends
of their parameter and scales far from 1: what is finite is found, with its gradient.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from gm_jax.losses import divergence, f_divergence, likelihood

D = f_divergence
TINY = 1.2e-38  # nearly the smallest normal float32


def _jensen_shannon(p, q, pi=0.5):
  m = pi * p + (1 - pi) * q
  return pi * special.rel_entr(p, m) + (1 - pi) * special.rel_entr(q, m)


def _alpha(a):
  def each(p, q):
    ratio = p / q  # of floats whose ratio is one of float64
    return q * (ratio**a - 1 - a * (ratio - 1)) / (a * (a - 1))

  return each


# Each term of the sum in float64, from the definition.
TERMS = {
  'total_variation': (D.TOTAL_VARIATION, lambda p, q: abs(p - q) / 2),
  'kl': (D.KL, special.rel_entr),
  'reverse_kl': (D.REVERSE_KL, lambda p, q: special.rel_entr(q, p)),
  'jeffrey': (
    D.JEFFREY,
    lambda p, q: special.rel_entr(p, q) + special.rel_entr(q, p),
  ),
  'squared_hellinger': (
    D.SQUARED_HELLINGER,
    lambda p, q: (np.sqrt(p) - np.sqrt(q)) ** 2,
  ),
  'jensen_shannon': (D.JENSEN_SHANNON, lambda p, q: 2 * _jensen_shannon(p, q)),
  'gan': (D.GAN, lambda p, q: special.rel_entr(p, p + q) + special.rel_entr(q, p + q)),
  'weighted_0.2': (
    D.weighted_jensen_shannon(0.2),
    lambda p, q: _jensen_shannon(p, q, 0.2),
  ),
  'alpha_0.5': (D.alpha(0.5), _alpha(0.5)),
  'alpha_1': (D.alpha(1.0), lambda p, q: special.rel_entr(p, q) - p + q),
}
EXTREMES = [
  ([1.0, TINY], [1.0, TINY]),
  ([0.5, 0.5], [1.0, TINY]),
  ([300.0, TINY], [TINY, 300.0]),  # densities whose ratio is above any float32
  ([1.0, 1e-30, 2e-38], [1e-37, 1.0, 1.5e-38]),
]


def _values_and_slopes(function, p, q):
  return jax.value_and_grad(function, (0, 1))(*(jnp.float32(t) for t in (p, q)))


@pytest.mark.parametrize('name', TERMS)
def test_extreme_tables_have_their_value_and_a_gradient(name):
  record, each = TERMS[name]
  for p, q in EXTREMES:
    exact = tuple(np.float32(t).astype(float) for t in (p, q))
    value, slopes = _values_and_slopes(lambda p, q: D.evaluate(record, p, q), p, q)
    np.testing.assert_allclose(value, each(*exact).sum(), rtol=1e-5, atol=1e-6)
    assert not np.isnan(np.asarray(slopes)).any()


@pytest.mark.parametrize(
  ('ours', 'each'),
  [
    (divergence.kl, special.rel_entr),
    (divergence.jensen_shannon, _jensen_shannon),
    (lambda p, q: divergence.jensen_shannon(p, q, pi=0.1),
     lambda p, q: _jensen_shannon(p, q, 0.1)),
    (divergence.total_variation, lambda p, q: abs(p - q) / 2),
    (divergence.squared_hellinger, TERMS['squared_hellinger'][1]),
  ],
)  # fmt: skip
def test_extreme_tables_by_their_own_functions(ours, each):
  for p, q in EXTREMES:
    exact = tuple(np.float32(t).astype(float) for t in (p, q))
    value, slopes = _values_and_slopes(ours, p, q)
    np.testing.assert_allclose(value, each(*exact).sum(), rtol=1e-5, atol=1e-6)
    assert not np.isnan(np.asarray(slopes)).any()


GRID = np.linspace(-40.0, 40.0, 4001)
STEP = GRID[1] - GRID[0]


@pytest.mark.parametrize('name', ['jensen_shannon', 'gan', 'weighted_0.2'])
def test_gaussians_on_a_wide_grid_where_most_of_both_underflows(name):
  record, each = TERMS[name]
  p, q = (np.float32(stats.norm(m, 1.0).pdf(GRID)) for m in (-3.0, 5.0))
  exact = (each(p.astype(float), q.astype(float)) * STEP).sum()
  value, slopes = _values_and_slopes(
    lambda p, q: D.evaluate(record, p, q, weights=STEP), p, q
  )
  np.testing.assert_allclose(value, exact, rtol=1e-5)
  # The slope in p is w f'(p / q), where both have mass.
  normal = np.finfo(np.float32).tiny
  both = (p >= normal) & (q >= normal)
  ratio = p[both].astype(float) / q[both]
  with jax.enable_x64(True):
    expected = np.asarray(record.derivative(jnp.array(ratio)))
  np.testing.assert_allclose(slopes[0][both] / STEP, expected, rtol=1e-4, atol=1e-5)
  assert np.isfinite(np.asarray(slopes)).all()


def test_jensen_shannon_of_gaussians_on_a_wide_grid_and_its_gradient():
  p, q = (np.float32(stats.norm(m, 1.0).pdf(GRID)) for m in (-3.0, 5.0))
  exact = tuple(t.astype(float) for t in (p, q))
  value, slopes = _values_and_slopes(
    lambda p, q: divergence.jensen_shannon(p, q, weights=STEP), p, q
  )
  np.testing.assert_allclose(value, (_jensen_shannon(*exact) * STEP).sum(), rtol=1e-5)
  normal = np.finfo(np.float32).tiny
  both = (p >= normal) & (q >= normal)
  for mass, slope in zip(exact, slopes, strict=True):
    expected = 0.5 * np.log(2 * mass[both] / (exact[0] + exact[1])[both])
    np.testing.assert_allclose(slope[both] / STEP, expected, rtol=1e-4, atol=1e-6)
  assert np.isfinite(np.asarray(slopes)).all()


def test_second_derivatives_of_jensen_shannon_are_those_of_the_formula():
  p, q = jnp.array([0.2, 0.5, 0.3]), jnp.array([0.4, 0.4, 0.2])
  curvature = np.diag(jax.hessian(divergence.jensen_shannon)(p, q))
  m = (p + q) / 2
  np.testing.assert_allclose(curvature, 0.5 / p - 0.25 / m, rtol=1e-5)


@pytest.mark.parametrize('a', [1 + 1e-6, 1 - 1e-6, 1e-6, -1e-6, 1 + 1e-4])
def test_alpha_is_its_limit_next_to_it(a):
  near, limit = D.alpha(a), D.alpha(float(round(a)))
  t = jnp.linspace(-0.9, 0.9, 7)
  for name in ('conjugate', 'activation', 'conjugate_of_activation', 'derivative'):
    values = getattr(near, name)(t + (1.0 if name == 'derivative' else 0.0))
    expected = getattr(limit, name)(t + (1.0 if name == 'derivative' else 0.0))
    np.testing.assert_allclose(values, expected, rtol=2e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize('pi', [1e-6, 1 - 1e-6])
def test_weighted_jensen_shannon_keeps_its_digits_next_to_its_ends(pi):
  record, least = D.weighted_jensen_shannon(pi), min(pi, 1 - pi)
  u = np.array([0.2, 0.9, 1.1, 5.0])
  with jax.enable_x64(True):
    t = np.asarray(record.derivative(jnp.array(u)))
    expected = {
      'f': np.asarray(record.f(jnp.array(u))),
      'conjugate': u * t - np.asarray(record.f(jnp.array(u))),
    }
  mixed = 1 - pi + pi * u
  np.testing.assert_allclose(
    expected['f'], pi * u * np.log(u) - mixed * np.log(mixed), atol=1e-14
  )
  atol = 1e-6 * least
  np.testing.assert_allclose(record.f(jnp.float32(u)), expected['f'], 1e-4, 1e-6)
  np.testing.assert_allclose(record.derivative(jnp.float32(u)), t, 1e-4, atol)
  ours = record.conjugate(jnp.float32(t))
  np.testing.assert_allclose(ours, expected['conjugate'], 1e-3, 30 * atol)


def test_closed_forms_of_gaussians_near_one_another_and_of_tiny_widths():
  for m1, s1, m2, s2 in ((0, 1, 1e-3, 1.001), (0, 1e-20, 2e-20, 3e-20), (0, 2, 5, 1)):
    exact = tuple(np.float32(v).astype(float) for v in (m1, s1, m2, s2))
    ours = tuple(map(jnp.float32, exact))
    a, b, c, d = exact
    ratio, gap = b / d, (a - c) / d
    kl = -np.log(ratio) + (ratio**2 + gap**2 - 1) / 2
    np.testing.assert_allclose(divergence.gaussian_kl(*ours), kl, rtol=1e-4, atol=1e-9)
    overlap = np.sqrt(2 / (ratio + 1 / ratio)) * np.exp(-(gap**2) / 4 / (1 + ratio**2))
    np.testing.assert_allclose(
      divergence.gaussian_squared_hellinger(*ours), 2 - 2 * overlap, rtol=1e-4
    )


PROBABILITIES = [0.0, 1e-30, 1e-8, 1e-9, 1e-3, 1.001e-3, 0.3, 0.3001, 0.5, 0.9, 0.9991,
                 1 - 1e-6, 1.0]  # fmt: skip


def test_bernoulli_variables_of_small_probabilities_and_near_one_another():
  p, q = (np.ravel(t) for t in np.meshgrid(*[np.float32(PROBABILITIES)] * 2))
  exact, other = p.astype(float), q.astype(float)
  with np.errstate(divide='ignore', invalid='ignore'):
    rest = (1 - exact) * (np.log1p(-exact) - np.log1p(-other))
  expected = special.rel_entr(exact, other) + np.where(exact < 1, rest, 0.0)
  ours = divergence.bernoulli_kl(p, q)
  np.testing.assert_allclose(ours, expected, rtol=1e-3)
  assert (np.asarray(ours) >= 0).all()
  inside = (p > 0) & (p < 1) & (q > 0) & (q < 1)
  slopes = jax.vmap(jax.grad(divergence.bernoulli_kl, (0, 1)))(p[inside], q[inside])
  x, y = exact[inside], other[inside]
  by_p = special.logit(x) - special.logit(y)
  np.testing.assert_allclose(slopes[0], by_p, rtol=1e-3, atol=1e-6)
  np.testing.assert_allclose(slopes[1], (y - x) / y / (1 - y), rtol=1e-3, atol=1e-6)
  entropy = special.entr(exact) - special.xlog1py(1 - exact, -exact)
  np.testing.assert_allclose(divergence.bernoulli_entropy(p), entropy, rtol=1e-5)
  slopes = jax.vmap(jax.grad(divergence.bernoulli_entropy))(p[inside])
  np.testing.assert_allclose(slopes, -special.logit(x), rtol=1e-4, atol=1e-6)
  assert [float(jax.grad(divergence.bernoulli_entropy)(v)) for v in (0.0, 1.0)] == [
    np.inf, -np.inf
  ]  # fmt: skip


SCALES = [-1e4, -90.0, -50.0, -7.0, 0.0, 50.0, 90.0, 1e4]


@pytest.mark.parametrize('log_scale', SCALES)
def test_discretized_logistics_at_every_scale(log_scale):
  levels, mean = jnp.arange(16), 0.13
  log_p = likelihood.discretized_logistic_each(
    mean, jnp.float32(log_scale), levels, num_levels=16
  )
  slopes = jax.vmap(
    jax.grad(
      lambda m, s, x: likelihood.discretized_logistic_each(m, s, x, num_levels=16),
      (0, 1),
    ),
    (None, None, 0),
  )(mean, jnp.float32(log_scale), levels)
  assert np.isfinite(log_p).all() and np.isfinite(np.asarray(slopes)).all()
  assert np.exp(np.asarray(log_p, float)).sum() == pytest.approx(1, abs=1e-5)
  # In float64 at what the scale is read as.
  scale = np.exp(np.clip(log_scale, -60.0, 60.0))
  edges = ((2 * np.arange(15) + 1) / 15 - 1 - np.float32(mean)) / scale
  cut = np.concatenate([[-np.inf], edges, [np.inf]])
  upper, lower = -np.logaddexp(0, -cut[1:]), -np.logaddexp(0, cut[:-1])
  with np.errstate(invalid='ignore', divide='ignore'):
    width = np.where(np.isinf(cut[1:] - cut[:-1]), 0.0, np.diff(cut))
    inner = np.where(np.isinf(np.diff(cut)), 0.0, np.log(-np.expm1(-width)))
  np.testing.assert_allclose(log_p, upper + lower + inner, rtol=1e-4, atol=1e-5)


def test_a_pixel_of_scales_that_a_network_has_blown_up_has_a_gradient():
  parameters = jnp.full((2, 2, likelihood.num_pixel_parameters(3, 3)), 1e3)
  x = jnp.array([[[0, 3, 7], [1, 2, 5]]] * 2)
  value, slope = jax.value_and_grad(
    lambda parameters: likelihood.pixels(parameters, x, num_levels=8).sum()
  )(parameters)
  assert np.isfinite(value) and np.isfinite(slope).all()
