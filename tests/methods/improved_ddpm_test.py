"""Learned variances, of Gaussian data, whose reverse steps are Gaussian."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax import base, denoisers, learned_variance, processes
from gm_jax.methods import improved_ddpm

MEAN, VAR, SIZE, NUM = 0.2, 0.3, 2, 20
KEY = jax.random.key(0)
BETAS = processes.cosine_betas(NUM)


class World:
  """The joint distribution of x_0 ... x_T in one dimension, by hand in float64."""

  alpha = np.sqrt(np.concatenate([[1.0], np.cumprod(1 - BETAS)]))
  var = alpha**2 * VAR + 1 - alpha**2  # of x_i
  cov = np.sqrt(1 - BETAS) * var[:-1]  # of x_{i-1} and x_i
  slope = cov / var[1:]
  reverse = var[:-1] - cov**2 / var[1:]  # of x_{i-1} given x_i
  noise = 1 - alpha**2
  small = BETAS * noise[:-1] / noise[1:]
  log_small = np.log(np.where(np.arange(NUM) > 0, small, small[1]))
  width = np.log(BETAS) - log_small
  fraction = (np.log(reverse) - log_small) / width


class Learned(nn.Module):
  """The best noise, off by `shift`, and the best fraction, off by `wide` / 2."""

  @nn.compact
  def __call__(self, x, t, condition=None, *, train=False):
    shift = self.param('shift', nn.initializers.zeros, ())
    wide = self.param('wide', nn.initializers.zeros, ())
    i = jnp.round(t * NUM / 1000).astype(int)
    alpha, var = (jnp.asarray(a, x.dtype)[i][:, None] for a in (World.alpha, World.var))
    noise = jnp.sqrt(1 - alpha**2) * (x - alpha * MEAN) / var
    fraction = jnp.asarray(World.fraction, x.dtype)[i - 1][:, None]
    second = jnp.broadcast_to(2 * fraction - 1 + wide, x.shape)
    return jnp.concatenate([noise + shift, second], axis=-1)


def made(bound_weight=1.0, **options):
  return improved_ddpm.improved_ddpm(
    Learned(), optax.sgd(1.0), shape=(SIZE,), betas=BETAS, bound=None,
    bound_weight=bound_weight, **options,
  )  # fmt: skip


def data(num):
  x = MEAN + np.sqrt(VAR) * jax.random.normal(jax.random.key(7), (num, SIZE))
  return {'x': x}


def at(state, **params):
  params = {name: jnp.asarray(value) for name, value in params.items()}
  inner = {**state.params['network']['network'], **params}
  return state._replace(params={'network': {'network': inner}})


def own(state):
  return state.params['network']['network']


@pytest.mark.slow
def test_the_best_variance_lies_between_the_two_and_the_losss_slope_vanishes_there():
  """d/d wide of T mean_i L_i / D is sum_i width_i / 4 (1 - 1 / r_i), elsewhere."""
  assert (World.fraction[1:] > 0).all() and (World.fraction[1:] < 1).all()
  method, batch = made(), data(40_000)
  state, step = method.init(KEY, batch), jax.jit(method.step)
  best, off, shifted = (
    step(at(state, **change), jax.random.key(1), batch)[0]
    for change in ({}, {'wide': 0.5}, {'shift': 0.3})
  )
  ratio = np.exp(0.25 * World.width)
  slope = (World.width / 4 * (1 - 1 / ratio)).sum()
  np.testing.assert_allclose(0.5 - own(off)['wide'], slope, rtol=0.05)
  assert abs(own(best)['wide']) < 0.05 * slope
  # The mean moves by the squares alone: 2 shift, as without the bound.
  np.testing.assert_allclose(0.3 - own(shifted)['shift'], 0.6, atol=0.03)
  plain = made(bound_weight=0.0)
  other, _ = jax.jit(plain.step)(at(state, shift=0.3), jax.random.key(1), batch)
  np.testing.assert_allclose(own(shifted)['shift'], own(other)['shift'], atol=1e-5)
  assert own(other)['wide'] == 0


@pytest.mark.slow
def test_the_bound_is_that_of_a_gaussian_chain():
  """-E elbo = H(x) + KL(q(x_T) || N(0, I)), and D sum_i KL_i more of wider steps."""
  method, batch = made(), data(20_000)
  state = method.init(KEY, batch)
  elbo = jax.jit(
    lambda s, x: method.queries['elbo'](
      base.Model(s.params, {}), KEY, x, num_times=NUM - 1
    )
  )
  entropy = 0.5 * np.log(2 * np.pi * np.e * VAR)
  center, var = World.alpha[-1] * MEAN, World.var[-1]
  prior = 0.5 * (var + center**2 - 1 - np.log(var))
  log_ratio = 0.25 * World.width  # of variances, at wide = 0.5
  wider = 0.5 * (log_ratio + np.expm1(-log_ratio)).sum()
  for wide, more in ((0.0, 0.0), (0.5, wider)):
    found = np.asarray(elbo(at(state, wide=wide), batch['x']))
    error = found.std() / np.sqrt(len(found))
    assert abs(-found.mean() - SIZE * (entropy + prior + more)) < 4 * error
    assert error < 0.02 < SIZE * wider
  # Each x: at most the density of the model, whose chain begins with N(0, 1).
  center, var = first_step()
  center = MEAN + World.slope[0] * (center - World.alpha[1] * MEAN)
  var = World.slope[0] ** 2 * var + World.reverse[0]
  points = np.array([[-0.8, 0.1], [0.2, 0.3], [1.5, -0.4], [0.0, 2.0]], np.float32)
  found = np.asarray(elbo(state, np.repeat(points, 5000, axis=0))).reshape(4, -1)
  error = found.std(axis=1) / np.sqrt(5000)
  exact = jax.scipy.stats.norm.logpdf(points, center, np.sqrt(var)).sum(axis=1)
  assert (found.mean(axis=1) < exact + 4 * error).all()
  np.testing.assert_allclose(found.mean(axis=1), exact, atol=0.1)


def test_a_term_is_the_divergence_of_the_posterior_by_quadrature():
  """KL(q(x_{i-1} | x_i, x) || p) of one x and noise, by Bayes' rule on a grid."""
  chain = learned_variance.Chain(
    processes.from_betas(BETAS), learned_variance.posterior(BETAS), denoisers.NOISE,
    None, np.inf,
  )  # fmt: skip
  x, i, output, fraction = 0.7, 8, -0.4, 0.35
  noise = float(jax.random.normal(jax.random.key(2), (1, 1))[0, 0])

  def predict(x_t, t):
    return jnp.full_like(x_t, output), jnp.full_like(x_t, fraction)

  found, _ = learned_variance.terms(
    chain, predict, jax.random.key(2), jnp.array([[x]]), jnp.array([i])
  )
  before, after = World.alpha[i - 1], World.alpha[i]
  x_t = after * x + np.sqrt(1 - after**2) * noise
  grid = np.linspace(-6, 6, 200_001)

  def posterior(x):
    log_q = -((grid - before * x) ** 2) / (2 * (1 - before**2))
    log_q -= (x_t - np.sqrt(1 - BETAS[i - 1]) * grid) ** 2 / (2 * BETAS[i - 1])
    q = np.exp(log_q - log_q.max())
    return q / q.sum()

  q = posterior(x)
  denoised = (x_t - np.sqrt(1 - after**2) * output) / after
  center = (posterior(denoised) * grid).sum()
  log_var = fraction * np.log(BETAS[i - 1]) + (1 - fraction) * World.log_small[i - 1]
  p = np.exp(-((grid - center) ** 2) / (2 * np.exp(log_var)))
  p /= p.sum()
  inside = q > 1e-30
  expected = (q[inside] * np.log(q[inside] / p[inside])).sum()
  np.testing.assert_allclose(found, [expected], rtol=1e-3)


@pytest.mark.slow
def test_samples_have_the_learned_variances():
  """By the recursion of T ancestral steps, whose last is the denoiser's alone."""
  method = made()
  state = method.init(KEY, data(2))
  draw = jax.jit(
    lambda s: method.sample(base.Model(s.params, {}), jax.random.key(3), 50_000)
  )
  found = {}
  for wide in (0.0, 1.0):
    x = np.asarray(draw(at(state, wide=wide)))
    expected = World.slope[0] ** 2 * first_step(wide)[1]
    assert abs(x.var() / expected - 1) < 4 * np.sqrt(2 / x.size)
    found[wide] = expected
  assert found[1.0] / found[0.0] > 1.05


def first_step(wide=0.0):
  """Mean and variance of the model's x_1."""
  center, var = 0.0, 1.0
  for i in range(NUM - 1, 0, -1):
    away = center - World.alpha[i + 1] * MEAN
    center = World.alpha[i] * MEAN + World.slope[i] * away
    spread = World.reverse[i] * np.exp(0.5 * wide * World.width[i])
    var = World.slope[i] ** 2 * var + spread
  return center, var


@pytest.mark.slow
def test_the_bound_of_integers_is_one_of_their_mass():
  """p(x) is N(E D, var D + that of x given x_1) between midpoints, D linear in x_1."""
  method = improved_ddpm.improved_ddpm(
    Learned(), optax.sgd(1.0), shape=(1,), betas=BETAS, num_levels=5, bound=None
  )
  every = jnp.arange(5)[:, None]
  model = base.Model(method.init(KEY, {'x': every}).params, {})
  x = jnp.repeat(every, 4000, axis=0)
  elbo = jax.jit(lambda key: method.queries['elbo'](model, key, x, num_times=NUM - 1))
  found = np.asarray(elbo(KEY)).reshape(5, -1)
  center, var = first_step()
  center = MEAN + World.slope[0] * (center - World.alpha[1] * MEAN)
  var *= World.slope[0] ** 2
  edges = np.array([-np.inf, -0.75, -0.25, 0.25, 0.75, np.inf])

  def mass(var):
    return np.diff(jax.scipy.stats.norm.cdf(edges, center, np.sqrt(var)))

  gap = np.log(mass(var + World.reverse[0])) - found.mean(axis=1)
  assert (gap > -4 * found.std(axis=1) / np.sqrt(4000)).all() and (gap < 1).all()
  samples = jax.jit(lambda key: method.sample(model, key, 20_000))(KEY)
  assert samples.dtype == jnp.int32
  frequency = np.bincount(np.asarray(samples)[:, 0], minlength=5) / 20_000
  np.testing.assert_allclose(frequency, mass(var), atol=4 * np.sqrt(0.25 / 20_000))
  assert 'log_prob_estimate' not in method.queries


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match='bound_weight must be >= 0'):
    made(bound_weight=-1.0)
  with pytest.raises(ValueError, match='num_levels is None, and x is of int32'):
    made().init(KEY, {'x': jnp.zeros((2, SIZE), jnp.int32)})
  with pytest.raises(ValueError, match=r'the network must give \(2, 2\), got \(2, 1\)'):
    learned_variance.halves(jnp.zeros((2, 1)), jnp.zeros((2, 1)))
