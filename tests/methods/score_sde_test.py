"""Scores in continuous time, of Gaussian data, where all is known."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax import base, processes, times
from gm_jax.methods import score_sde

MEAN, VAR, SIZE, SNR = 0.5, 0.3, 2, 0.16
KEY = jax.random.key(0)
PROCESSES = {
  'vp': processes.variance_preserving(),
  'sub_vp': processes.sub_variance_preserving(),
  've': processes.variance_exploding(0.01, 10.0),
}
every = pytest.mark.parametrize('name', PROCESSES)


def mostly_slow(first):
  """Every process, of which one is tried in `make test`."""
  marks = {name: () if name == first else pytest.mark.slow for name in PROCESSES}
  return pytest.mark.parametrize(
    'name', [pytest.param(name, marks=mark) for name, mark in marks.items()]
  )


class Gaussian(nn.Module):
  """The noise that x_t tells of data N(mean, var), which are parameters."""

  process: processes.Process

  @nn.compact
  def __call__(self, x, t, condition=None, *, train=False):
    mean = self.param('mean', nn.initializers.constant(MEAN), ())
    var = self.param('var', nn.initializers.constant(VAR), ())
    time = t * self.process.last / 1000
    alpha, sigma = (f(time)[:, None] for f in (self.process.alpha, self.process.sigma))
    x_t = x * jnp.hypot(alpha, sigma)
    return sigma * (x_t - alpha * mean) / (alpha**2 * var + sigma**2)


def made(name, size=SIZE, **options):
  process = PROCESSES[name]
  return score_sde.score_sde(
    Gaussian(process), optax.sgd(1.0), shape=(size,), process=process,
    draw=times.stratified, snr=SNR, **options,
  )  # fmt: skip


def data(num):
  x = MEAN + np.sqrt(VAR) * jax.random.normal(jax.random.key(7), (num, SIZE))
  return {'x': x}


def at(state, **params):
  params = {name: jnp.asarray(value) for name, value in params.items()}
  return state._replace(params={'network': {**state.params['network'], **params}})


def moments(process, t):
  """alpha, and the variances of noise and of x_t, in float64."""
  with jax.enable_x64(True):
    t = jnp.asarray(t, jnp.float64)
    alpha, sigma = np.asarray(process.alpha(t)), np.asarray(process.sigma(t))
  return alpha, sigma**2, alpha**2 * VAR + sigma**2


@mostly_slow('vp')
def test_the_exact_score_has_the_least_loss_which_is_known(name):
  """E Var(e | x_t) = E alpha^2 v / (alpha^2 v + sigma^2) over times, slope 0."""
  method, process, batch = made(name), PROCESSES[name], data(100_000)
  state, step = method.init(KEY, batch), jax.jit(method.step)
  after, metrics = step(state, jax.random.key(1), batch)
  t = process.first + (process.last - process.first) * (np.arange(4000) + 0.5) / 4000
  alpha, _, var = moments(process, t)
  np.testing.assert_allclose(metrics['loss'], (alpha**2 * VAR / var).mean(), rtol=0.01)
  for name_, value in (('mean', MEAN + 1.0), ('var', 4 * VAR)):
    moved = after.params['network'][name_] - state.params['network'][name_]
    other = at(state, **{name_: value})
    slope = step(other, jax.random.key(1), batch)[0].params['network'][name_] - value
    assert abs(moved) < 0.15 * abs(slope) and slope < 0  # back to the optimum


@mostly_slow('sub_vp')
def test_the_likelihoods_weight_makes_the_loss_a_divergence(name):
  """(1/2) int g^2 E |s_q - s_p|^2 dt = KL(p || q) at the first time - at the last."""
  method = made(name, weighting=score_sde.likelihood)
  process, batch = PROCESSES[name], data(200_000)
  state, step = method.init(KEY, batch), jax.jit(method.step)
  mean, var = MEAN + 0.3, 1.6 * VAR
  losses = [
    float(step(s, jax.random.key(1), batch)[1]['loss'])
    for s in (state, at(state, mean=mean, var=var))
  ]

  def kl(t):
    alpha, noise, p = moments(process, t)
    q = alpha**2 * var + noise
    shift = alpha * (mean - MEAN)
    return SIZE * 0.5 * (p / q - 1 + shift**2 / q + np.log(q / p))

  length = process.last - process.first
  found = 0.5 * SIZE * length * (losses[1] - losses[0])
  np.testing.assert_allclose(found, kl(process.first) - kl(process.last), rtol=0.03)


def test_the_likelihoods_weight_is_the_rate_of_the_noise():
  """g^2 of each process as the source writes it."""
  t = np.linspace(0.01, 1.0, 7)
  beta, total = 0.1 + t * 19.9, 0.1 * t + 9.95 * t**2
  expected = {
    'vp': beta,
    'sub_vp': beta * -np.expm1(-2 * total),
    've': (0.01 * 1000.0**t) ** 2 * 2 * np.log(1000.0),
  }
  for name, process in PROCESSES.items():
    found = score_sde.likelihood(process, jnp.asarray(t, jnp.float32))
    np.testing.assert_allclose(found, expected[name], rtol=2e-3)


@mostly_slow('ve')
def test_predictor_and_corrector_have_the_moments_of_their_recursion(name):
  """Means and variances of 100 steps in many dimensions, by hand, near the data's."""
  process, size, num = PROCESSES[name], 2048, 100
  method = made(name, size=size)
  state = method.init(KEY, {'x': jnp.zeros((2, size))})
  draw = jax.jit(functools.partial(method.sample, num=16))
  x = np.asarray(draw(base.Model(state.params, {}), jax.random.key(3)))
  t = process.last * (1 - np.arange(num) / num)
  alphas, noises, variances = moments(process, t)
  mean, var = 0.0, noises[0]
  gain = alphas * VAR / variances
  for i in range(num - 1):
    s, (alpha, noise, of_s) = i + 1, (a[i + 1] for a in (alphas, noises, variances))
    small = noise * (1 - noise * alphas[i] ** 2 / (noises[i] * alpha**2))
    kept = np.sqrt((noise - small) / noises[i])
    slope = alpha * gain[i] + kept * (1 - alphas[i] * gain[i])
    center = alpha * MEAN + slope * (mean - alphas[i] * MEAN)
    mean, var = center, slope**2 * var + small
    # The corrector's length by the norms of many dimensions.
    length = 2 * SNR**2 * of_s**2 / (var + (mean - alphas[s] * MEAN) ** 2)
    shrink = 1 - length / of_s
    mean = alpha * MEAN + shrink * (mean - alpha * MEAN)
    var = shrink**2 * var + 2 * length
  mean, var = MEAN + gain[-1] * (mean - alphas[-1] * MEAN), gain[-1] ** 2 * var
  assert abs(x.mean() - mean) < 4 * np.sqrt(VAR / x.size)
  assert abs(x.var() / var - 1) < 4 * np.sqrt(2 / x.size)
  assert abs(mean - MEAN) < 0.02 and abs(var / VAR - 1) < 0.06


@every
def test_the_query_is_the_score(name):
  process, method = PROCESSES[name], made(name)
  state = method.init(KEY, data(2))
  x, t = data(3)['x'], jnp.array([0.1, 0.5, 0.9])
  found = method.queries['score'](base.Model(state.params, {}), KEY, x, t)
  alpha, _, var = (a[:, None] for a in moments(process, t))
  np.testing.assert_allclose(found, -(x - alpha * MEAN) / var, rtol=2e-3, atol=1e-3)


@pytest.mark.slow
@every
def test_the_likelihood_is_that_of_noise_by_the_flow(name):
  method, points = made(name), data(5)['x']
  state = method.init(KEY, data(2))
  found, error = jax.jit(method.queries['log_prob_estimate'])(
    base.Model(state.params, {}), KEY, points
  )
  # Noise N(0, sigma^2) at the last time, by the affine map that the flow is.
  process = PROCESSES[name]
  ends = np.array([max(process.first, 1e-3), process.last])
  alpha, noise, var = moments(process, ends)
  std = np.sqrt(var[0] / var[1])
  center = alpha[0] * MEAN - std * alpha[1] * MEAN
  exact = jax.scipy.stats.norm.logpdf(points, center, std * np.sqrt(noise[1]))
  np.testing.assert_allclose(found, exact.sum(axis=1), atol=0.01)
  assert not error.any()


def test_an_snr_of_zero_is_refused():
  with pytest.raises(ValueError, match='snr must be > 0, got 0'):
    score_sde.score_sde(
      Gaussian(PROCESSES['vp']), optax.sgd(1.0), shape=(2,), snr=0.0,
      process=PROCESSES['vp'],
    )  # fmt: skip
