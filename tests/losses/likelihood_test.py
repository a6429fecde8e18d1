"""Output layers: they sum or integrate to one, and are scipy's."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import integrate, special, stats

from gm_jax.losses import likelihood
from gm_jax.samplers import autoregressive as sampler

KEY = jax.random.key(0)
of_each = functools.partial(likelihood.discretized_logistic_each, 0.0, 0.0)
EXTREME = [(m, s) for m in (-1e4, -3.0, -1.0, -0.3, 0.0, 0.999, 1.0, 50.0)
           for s in (-20.0, -7.0, -3.0, 0.0, 4.0)]  # fmt: skip


def test_bernoulli_and_categorical_are_scipys():
  logits = jax.random.normal(KEY, (5, 2, 3))
  x = jax.random.bernoulli(jax.random.key(1), 0.4, (5, 2, 3)).astype(jnp.int32)
  p = 1 / (1 + np.exp(-np.asarray(logits, float)))
  expected = stats.bernoulli.logpmf(x, p).sum((1, 2))
  np.testing.assert_allclose(likelihood.bernoulli(logits, x), expected, rtol=1e-5)
  both = jnp.stack([jnp.zeros_like(logits), logits], -1)
  np.testing.assert_allclose(likelihood.categorical(both, x), expected, rtol=1e-5)


def test_gaussian_is_scipys():
  mean, x = jax.random.normal(KEY, (2, 5, 4))
  std = jnp.exp(jax.random.normal(jax.random.key(1), (5, 4)))
  expected = stats.norm.logpdf(x, mean, std).sum(1)
  np.testing.assert_allclose(likelihood.gaussian(mean, std, x), expected, rtol=1e-5)
  expected = stats.norm.logpdf(x, mean, 0.3).sum(1)
  np.testing.assert_allclose(likelihood.gaussian(mean, 0.3, x), expected, rtol=1e-5)


@pytest.mark.parametrize('num_levels', [2, 17, 256])
def test_discretized_logistics_sum_to_one_at_every_extreme(num_levels):
  mean, log_scale = jnp.array(EXTREME, jnp.float32).T[:, :, None]
  x = jnp.arange(num_levels)
  each = likelihood.discretized_logistic_each(mean, log_scale, x, num_levels=num_levels)
  assert not np.isnan(each).any()
  np.testing.assert_allclose(jnp.exp(each).sum(1), 1.0, rtol=3e-4)


def test_discretized_logistic_is_the_difference_of_cdfs():
  with jax.enable_x64(True):
    mean, log_scale, x = jnp.array(0.13), jnp.array(-2.1), jnp.arange(17)
    each = likelihood.discretized_logistic_each(mean, log_scale, x, num_levels=17)
  edges = np.r_[-np.inf, (2 * np.arange(16) + 1) / 16 - 1, np.inf]
  cdf = stats.logistic.cdf(edges, 0.13, np.exp(-2.1))
  np.testing.assert_allclose(np.exp(each), np.diff(cdf), rtol=1e-10)


@pytest.mark.parametrize(
  'num_levels', [17, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 256))]
)
def test_discretized_gaussians_sum_to_one_and_are_differences_of_cdfs(num_levels):
  """At every scale, in float64 by scipy; the tails by its survival function."""
  x = np.arange(num_levels)
  mean, log_std = np.meshgrid([-3.0, 0.33, 1.5], [-40, -5, -3, -1, 0, 2, 15, 40])
  mean, log_std = (a.reshape(-1, 1).astype(np.float32) for a in (mean, log_std))
  call = functools.partial(likelihood.discretized_gaussian_each, num_levels=num_levels)
  each = np.asarray(call(mean, log_std, x[None]), np.float64)
  assert np.isfinite(each).all()
  np.testing.assert_allclose(np.exp(each).sum(axis=1), 1, rtol=2e-4)
  slopes = jax.grad(lambda m, s: call(m, s, x[None]).sum(), (0, 1))(mean, log_std)
  assert all(np.isfinite(slope).all() for slope in slopes)
  some = (log_std[:, 0] > -4) & (log_std[:, 0] < 3)
  mean, std = mean[some].astype(np.float64), np.exp(log_std[some].astype(np.float64))
  half = 1 / (num_levels - 1)
  away = np.abs(2 * half * x - 1 - mean)  # from the mean: all in the upper tail
  sf = stats.norm.sf
  expected = sf((away - half) / std) - sf((away + half) / std)
  expected[:, 0] = stats.norm.cdf((half - 1 - mean) / std)[:, 0]
  expected[:, -1] = sf((1 - half - mean) / std)[:, 0]
  seen = expected > 1e-250
  np.testing.assert_allclose(
    each[some][seen], np.log(expected[seen]), rtol=2e-3, atol=1e-9
  )


def test_discretized_logistic_far_from_its_mean_is_finite_and_linear():
  # log P falls by 2 h / s a level in the tail, where cdfs differ by 0 in floats.
  x = jnp.array([100, 101, 102])
  each = likelihood.discretized_logistic_each(
    jnp.array(-1.0), jnp.array(-7.0), x, num_levels=256
  )
  np.testing.assert_allclose(jnp.diff(each), -2 / 255 * np.exp(7), rtol=1e-3)
  slope = jax.grad(
    lambda m: likelihood.discretized_logistic_each(
      m, jnp.array(-7.0), x, num_levels=256
    ).sum()
  )(jnp.array(-1.0))
  np.testing.assert_allclose(slope, 3 * np.exp(7), rtol=1e-3)  # towards the data


def test_a_sharp_logistic_puts_all_on_its_bin():
  x = jnp.arange(256)
  each = likelihood.discretized_logistic_each(
    jnp.array(2 * 77 / 255 - 1), jnp.array(-15.0), x, num_levels=256
  )
  np.testing.assert_allclose(np.exp(each), np.eye(256)[77], atol=1e-6)


def test_mixture_sums_to_one_over_all_pairs_of_channels():
  keys = jax.random.split(KEY, 3)
  weights = jax.random.normal(keys[0], (1, 3))
  mean = jax.random.normal(keys[1], (1, 3, 2))
  log_scale = jax.random.normal(keys[2], (1, 3, 2)) - 1.0
  x = jnp.stack(jnp.meshgrid(jnp.arange(5), jnp.arange(5)), -1).reshape(25, 2)
  of_all = functools.partial(likelihood.mixture_of_discretized_logistics, num_levels=5)
  masses = jnp.exp(
    of_all(*(jnp.repeat(p, 25, 0) for p in (weights, mean, log_scale)), x)
  )
  np.testing.assert_allclose(masses.sum(), 1.0, rtol=1e-5)
  # By hand: the weighted sum of products over channels.
  one = functools.partial(likelihood.discretized_logistic_each, num_levels=5)
  parts = [np.exp(one(mean[0, k], log_scale[0, k], x)).prod(1) for k in range(3)]
  expected = jax.nn.softmax(weights[0]) @ np.stack(parts)
  np.testing.assert_allclose(masses, expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('scale', [0.3, 30.0])
def test_pixels_of_two_and_three_channels_sum_to_one(scale):
  for channels, levels in ((2, 6), (3, 4)):
    num = likelihood.num_pixel_parameters(3, channels)
    parameters = scale * jax.random.normal(KEY, (1, num))
    every = np.array(list(itertools.product(range(levels), repeat=channels)))
    repeated = jnp.repeat(parameters, len(every), 0)
    p = np.exp(likelihood.pixels(repeated, jnp.asarray(every), num_levels=levels))
    np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-4)


def test_pixels_by_loops_over_components_and_channels():
  channels, levels = 3, 5
  num = likelihood.num_pixel_parameters(2, channels)
  parameters = np.asarray(jax.random.normal(KEY, (4, num)), float)
  x = np.asarray(jax.random.randint(jax.random.key(1), (4, channels), 0, levels))
  found = likelihood.pixels(jnp.asarray(parameters), jnp.asarray(x), num_levels=levels)
  for row, pixel, value in zip(parameters, x, found, strict=True):
    parts = row.reshape(2, -1)  # weight, 3 means, 3 scales, then r on g, r and g on b
    v = 2 * pixel / (levels - 1) - 1
    added = [[0, c[0] * v[0], c[1] * v[0] + c[2] * v[1]] for c in np.tanh(parts[:, 7:])]
    masses = []
    for part, more in zip(parts, added, strict=True):
      each = stats.logistic(part[1:4] + more, np.exp(part[4:7]))
      upper = np.where(pixel == levels - 1, 1, each.cdf(v + 0.25))
      masses.append(np.prod(upper - np.where(pixel == 0, 0, each.cdf(v - 0.25))))
    weights = special.softmax(parts[:, 0])
    np.testing.assert_allclose(value, np.log(weights @ masses), rtol=1e-4)


def test_drawn_pixels_have_their_masses():
  channels, levels, num = 2, 4, 40_000
  outputs = likelihood.num_pixel_parameters(2, channels)
  parameters = 1.5 * jax.random.normal(jax.random.key(2), (1, outputs))
  every = jnp.array(list(itertools.product(range(levels), repeat=channels)))
  repeated = jnp.repeat(parameters, 16, 0)
  p = np.exp(np.float64(likelihood.pixels(repeated, every, num_levels=levels)))
  draw = jax.jit(sampler.pixels(channels, levels))
  x = draw(jax.random.key(3), jnp.repeat(parameters, num, 0))
  frequency = np.bincount(np.asarray(x) @ [levels, 1], minlength=16) / num
  assert stats.chisquare(frequency * num, p / p.sum() * num).pvalue > 1e-3


def test_log1mexp_near_and_far():
  # JAX's, on which `discretized_logistic` and `f_divergence` rely in their tails.
  t = np.array([1e-8, 1e-3, 0.5, 0.7, 3.0, 30.0, 200.0])
  exact = np.log(-np.expm1(-t))
  np.testing.assert_allclose(jax.nn.log1mexp(jnp.array(t, jnp.float32)), exact,
                             rtol=3e-4, atol=1e-37)  # fmt: skip
  slopes = jax.vmap(jax.grad(jax.nn.log1mexp))(jnp.array(t, jnp.float32))
  np.testing.assert_allclose(slopes, 1 / np.expm1(t), rtol=3e-4, atol=1e-37)


def test_large_logits_are_finite_or_infinite_never_nan():
  logits = jnp.array([[1e4], [-1e4], [1e4], [-1e4]])
  x = jnp.array([[1], [0], [0], [1]])
  np.testing.assert_allclose(likelihood.bernoulli(logits, x), [0, 0, -1e4, -1e4])
  slopes = jax.grad(lambda v: likelihood.bernoulli(v, x).sum())(logits)
  np.testing.assert_allclose(slopes[:, 0], [0, 0, -1, 1])
  two = jnp.stack([0 * logits, logits], -1)
  np.testing.assert_allclose(likelihood.categorical(two, x), [0, 0, -1e4, -1e4])


@pytest.mark.parametrize('name', ['bernoulli', 'gaussian', 'categorical', 'logistic'])
def test_gradients_are_those_of_finite_differences(name):
  with jax.enable_x64(True):
    a, b = jax.random.normal(KEY, (2, 3, 4))
    levels = jnp.array([[0, 1, 2, 3]] * 3)
    losses = {
      'bernoulli': lambda a, b: likelihood.bernoulli(a, levels % 2),
      'gaussian': lambda a, b: likelihood.gaussian(a, jnp.exp(b), levels * 0.3),
      'categorical': lambda a, b: likelihood.categorical(
        a[..., None] * jnp.arange(4.0) + b[..., None] * jnp.arange(4.0) ** 2, levels
      ),
      'logistic': lambda a, b: likelihood.discretized_logistic(
        a, b, levels, num_levels=4
      ),
    }
    check_grads(losses[name], (a, b), order=1, modes=['rev'], rtol=1e-6)
    one = jax.vmap(lambda a, b: losses[name](jnp.stack([a] * 3), jnp.stack([b] * 3))[0])
    np.testing.assert_allclose(one(a, b), losses[name](a, b), rtol=1e-12)
    np.testing.assert_allclose(jax.jit(losses[name])(a, b), losses[name](a, b))


def test_bits_of_uniform_bytes_are_eight():
  nats = jnp.array([-3 * np.log(256)])
  bits = functools.partial(likelihood.bits_per_dimension, nats, 3)
  np.testing.assert_allclose(bits(measure='mass'), 8.0, rtol=1e-6)
  # The same distribution, dequantized and scaled by 1 / 256: density 1 on the cube.
  log_det = jnp.full(1, -3 * np.log(256))
  of_density = likelihood.bits_per_dimension(
    jnp.zeros(1), 3, measure='density', log_det=log_det
  )
  np.testing.assert_allclose(of_density, 8.0, rtol=1e-6)


def test_gaussian_integrates_to_one():
  density = lambda v: float(  # noqa: E731
    jnp.exp(likelihood.gaussian(jnp.array([[0.4]]), 0.7, jnp.array([[v]])))[0]
  )
  np.testing.assert_allclose(integrate.quad(density, -6, 7)[0], 1.0, rtol=1e-5)


@pytest.mark.parametrize(
  ('call', 'words'),
  [
    (lambda: likelihood.bernoulli(jnp.zeros((3, 1)), jnp.zeros(3)), 'one shape'),
    (lambda: likelihood.gaussian(jnp.zeros((3, 1)), 1.0, jnp.zeros((3, 2))), 'one'),
    (lambda: likelihood.categorical(jnp.zeros((3, 4)), jnp.zeros(3)), 'integers'),
    (lambda: likelihood.categorical(jnp.zeros((3, 4)), jnp.zeros((3, 4), int)), 'x, K'),
    (lambda: of_each(jnp.zeros(3), num_levels=9), 'integers'),
    (lambda: of_each(jnp.arange(3), num_levels=2), 'x must be from 0 to 1, got 2'),
    (lambda: likelihood.categorical(jnp.zeros((1, 1, 4)), -jnp.ones((1, 1), int)),
     'x must be from 0 to 3, got -1'),
    (lambda: likelihood.pixels(jnp.zeros((2, 7)), jnp.zeros((2, 1), int),
                               num_levels=4), 'multiple of 3'),
    (lambda: of_each(jnp.arange(3), num_levels=1), 'num_levels'),
    (lambda: likelihood.mixture_of_discretized_logistics(
      jnp.zeros((2, 3)), jnp.zeros((2, 4, 1)), jnp.zeros((2, 4, 1)),
      jnp.zeros((2, 1), int), num_levels=4), 'weight_logits'),
    (lambda: likelihood.bits_per_dimension(1.0, 0, measure='mass'), 'num_dims'),
    (lambda: likelihood.bits_per_dimension(1.0, 1, measure='bits'), 'measure'),
    (lambda: likelihood.bits_per_dimension(
      1.0, 1, measure='mass', log_det=2.0), 'mass'),
    (lambda: likelihood.bits_per_dimension(1.0, 1, measure='mass',
                                           log_det=jnp.zeros(2)), 'mass'),
  ],
)  # fmt: skip
def test_refusals(call, words):
  with pytest.raises(ValueError, match=words):
    call()
