"""Diffusion models: what their losses are at the start, and at their optimum."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax import (
  base,
  conditions,
  denoisers,
  diffusion,
  probability_flow,
  processes,
  times,
)  # fmt: skip
from gm_jax.methods import ddpm, edm, flow_matching

MEAN, VAR, SIZE = 0.5, 0.3, 2
KEY = jax.random.key(0)


class Optimal(nn.Module):
  """The network whose denoiser is E[x | x_t] of N(MEAN, VAR), in any form."""

  process: processes.Process
  form: denoisers.Parameterization
  zero: bool = False

  @nn.compact
  def __call__(self, x, t, condition=None, *, train=False):
    unused = self.param('unused', nn.initializers.zeros, ())
    if self.zero:
      return unused * x
    # The number that is read back to a time.
    if self.form.read is denoisers.by_time:
      time = t * self.process.last / 1000
    else:
      time = self.process.time(-8.0 * t)
    parts = (f(self.process, time) for f in (self.form.skip, self.form.out))
    skip, out = (processes.along(part, x) for part in parts)
    x_t = x / processes.along(self.form.scale(self.process, time), x)
    alpha, sigma = (
      processes.along(f(time), x) for f in (self.process.alpha, self.process.sigma)
    )
    gain = alpha * VAR / (alpha**2 * VAR + sigma**2)
    best = MEAN + gain * (x_t - alpha * MEAN)
    return (best - skip * x_t) / out + unused


class Learned(nn.Module):
  """A linear network of its input and its time."""

  @nn.compact
  def __call__(self, x, t, condition=None, *, train=False):
    return nn.Dense(SIZE)(jnp.concatenate([x, t[:, None]], axis=1))


EDM_STD = float(np.sqrt(MEAN**2 + VAR))
LINE, EDM = processes.rectified(), processes.edm()
BETAS = processes.cosine_betas(50)
STEPS = processes.from_betas(BETAS)


def made(name, zero=False):
  """A method, its process and its form."""
  options = {'shape': (SIZE,)}
  if name == 'edm':
    form = denoisers.edm(EDM_STD)
    net = Optimal(EDM, form, zero)
    return edm.edm(net, optax.sgd(0.1), data_std=EDM_STD, **options), EDM, form
  if name == 'flow_matching':
    net = Optimal(LINE, denoisers.FLOW, zero)
    return (
      flow_matching.flow_matching(net, optax.sgd(0.1), **options), LINE, denoisers.FLOW
    )  # fmt: skip
  net = Optimal(STEPS, denoisers.NOISE, zero)
  return (
    ddpm.ddpm(net, optax.sgd(0.1), betas=BETAS, **options), STEPS, denoisers.NOISE
  )  # fmt: skip


def data(num, key=KEY):
  x = MEAN + np.sqrt(VAR) * jax.random.normal(key, (num, SIZE))
  return {'x': x}


NAMES = ('edm', 'flow_matching', 'ddpm')
every = pytest.mark.parametrize('name', NAMES)


@pytest.mark.parametrize('ratio', [0.01, 0.3, 3.0, 30.0])
def test_edms_loss_is_one_at_the_start_at_every_noise_level(ratio):
  """Of a network that gives 0, with the root mean square of the data."""
  form = denoisers.edm(EDM_STD)
  parts = diffusion.Denoising(
    Optimal(EDM, form, True), EDM, form, (SIZE,), times.karras(EDM)
  )
  batch = data(40_000)
  params, _ = diffusion.init(parts)(KEY, batch)
  t = jnp.full(len(batch['x']), ratio)
  found = diffusion.errors(parts, params, jax.random.key(1), batch, t)
  assert abs(found.mean() - 1) < 4 * found.std() / np.sqrt(len(found)) + 1e-3


@every
def test_the_posterior_mean_has_the_least_error(name):
  """E |F - F*|^2 is the variance of the target given x_t, by a formula."""
  _, process, form = made(name)
  parts = diffusion.Denoising(
    Optimal(process, form), process, form, (SIZE,), times.even(process)
  )
  batch = data(40_000)
  params, _ = diffusion.init(parts)(KEY, batch)
  for u in (0.2, 0.6):
    time = process.first + u * (process.last - process.first)
    if process is STEPS:
      time = round(u * 50) / 50
    t = jnp.full(len(batch['x']), time)
    found = diffusion.errors(parts, params, jax.random.key(1), batch, t)
    alpha, sigma = process.alpha(t)[0], process.sigma(t)[0]
    variance = VAR * sigma**2 / (alpha**2 * VAR + sigma**2)
    expected = variance / form.out(process, t)[0] ** 2
    assert abs(found.mean() - expected) < 5 * found.std() / np.sqrt(len(found)) + 1e-4


@every
def test_samples_and_the_flows_likelihood_are_those_of_the_data(name):
  method, _, _ = made(name)
  state = method.init(KEY, data(4))
  model = base.Model(state.params, state.extra)
  num = {'edm': 60, 'flow_matching': 60, 'ddpm': 50}[name]
  sampler = {'edm': 'heun', 'flow_matching': 'heun', 'ddpm': 'dpm_solver'}[name]
  draw = jax.jit(
    lambda key: method.sample(model, key, 10_000, num_steps=num, sampler=sampler)
  )
  x = np.asarray(draw(jax.random.key(3)))
  assert abs(x.mean() - MEAN) < 0.02
  assert abs(x.var() / VAR - 1) < 0.04
  if name == 'ddpm':  # between its times its schedule has corners
    return
  points = data(5)['x']
  found, error = jax.jit(
    lambda key: method.queries['log_prob_estimate'](model, key, points)
  )(KEY)
  exact = jax.scipy.stats.norm.logpdf(points, MEAN, np.sqrt(VAR)).sum(axis=1)
  np.testing.assert_allclose(found, exact, atol=0.03)
  assert not error.any()  # of so few numbers the trace is exact


def test_the_score_is_that_of_the_noisy_data():
  method, process, _ = made('flow_matching')
  state = method.init(KEY, data(4))
  model = base.Model(state.params, state.extra)
  x, t = data(3)['x'], jnp.array([0.2, 0.5, 0.8])
  found = method.queries['score'](model, KEY, x, t)
  alpha, sigma = process.alpha(t)[:, None], process.sigma(t)[:, None]
  expected = -(x - alpha * MEAN) / (alpha**2 * VAR + sigma**2)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_hutchinsons_likelihood_is_unbiased_and_says_its_error():
  """Of 32 numbers, independent Gaussians of which every fourth has another variance."""
  var = jnp.where(jnp.arange(32) % 4 == 0, 1.0, 0.1)

  def denoise(x_t, t):
    alpha, sigma = (processes.along(f(t), x_t) for f in (LINE.alpha, LINE.sigma))
    return alpha * var / (alpha**2 * var + sigma**2) * x_t

  x = jnp.sqrt(var) * jax.random.normal(KEY, (8, 32))
  found, error = jax.jit(
    lambda key: probability_flow.likelihood(LINE, denoise, key, x, num_probes=8)
  )(jax.random.key(1))
  exact = jax.scipy.stats.norm.logpdf(x, scale=jnp.sqrt(var)).sum(axis=1)
  # The Jacobian is diagonal: Rademacher directions have no variance.
  np.testing.assert_allclose(found, exact, atol=0.1)
  assert (error < 1e-3).all()


def test_the_optimal_coupling_has_the_least_total_distance_of_all_orders():
  x, noise = jax.random.normal(KEY, (2, 5, 3))
  found = flow_matching.optimal(x, noise)
  costs = [
    float(jnp.square(x - noise[jnp.array(order)]).sum())
    for order in itertools.permutations(range(5))
  ]
  assert abs(float(jnp.square(x - found).sum()) - min(costs)) < 1e-4
  np.testing.assert_allclose(jnp.sort(found, axis=0), jnp.sort(noise, axis=0))


def test_a_target_of_noise_has_the_papers_velocity():
  """(x_1 - (1 - s) x) / (1 - (1 - s) u), u = 1 - t, s sigma_min, from noise to data."""
  least, x = 0.1, data(8)['x']
  process = processes.rectified(least)
  noise, t = jax.random.normal(KEY, x.shape), jnp.linspace(0.0, 0.95, 8)
  x_t, u = processes.noised(process, x, noise, t), (1 - t)[:, None]
  found = denoisers.target(denoisers.FLOW, process, x, noise, t)
  expected = (x - (1 - least) * x_t) / (1 - (1 - least) * u)
  np.testing.assert_allclose(found, -expected, rtol=1e-4, atol=1e-5)
  with pytest.raises(ValueError, match='least noise must be in'):
    flow_matching.flow_matching(Learned(), optax.sgd(0.1), shape=(SIZE,), sigma_min=1.0)


def test_min_snr_weighs_errors_of_the_noise():
  """min(snr, 5) / snr, Hang et al., 2023, at the time that is drawn."""
  net = Optimal(STEPS, denoisers.NOISE, True)
  batch = data(20_000)

  def loss(limit):
    method = ddpm.ddpm(net, optax.sgd(0.0), shape=(SIZE,), betas=BETAS, snr_limit=limit)
    return method.step(method.init(KEY, batch), KEY, batch)[1]['loss']

  t = jnp.arange(1, 51) / 50
  snr = jnp.exp(STEPS.log_snr(t))
  expected = jnp.minimum(snr, 5.0) / snr  # of a network of 0, whose error is 1
  np.testing.assert_allclose(loss(5.0), expected.mean(), rtol=0.02)
  np.testing.assert_allclose(loss(np.inf), 1.0, rtol=0.02)


def test_guidance_moves_beyond_the_condition_and_needs_both_models():
  class Shift(nn.Module):
    """A denoiser that tells the class as the data, 0 without one."""

    @nn.compact
    def __call__(self, x, t, condition=None, *, train=False):
      unused = self.param('unused', nn.initializers.zeros, ())
      return x + condition @ jnp.array([[1.0, 1.0], [2.0, 2.0]]) - x + unused

  process, condition = processes.variance_preserving(), conditions.by_class(2)
  parts = diffusion.Denoising(
    Shift(), process, denoisers.DATA, (2,), times.even(process),
    conditions.optional(condition, 0.5),
  )  # fmt: skip
  label = jnp.array([0, 1])
  batch = data(2) | {'label': label}
  params, extra = diffusion.init(parts)(KEY, batch)
  model = base.Model(params, extra)
  for guidance in (1.0, 4.0, 0.0):
    denoise = diffusion.denoiser(parts, model, 2, label, diffusion.Guidance(guidance))
    found = denoise(jnp.zeros((2, 2)), jnp.full(2, 0.5))
    np.testing.assert_allclose(found[:, 0], guidance * (label + 1), rtol=1e-5)
  with pytest.raises(ValueError, match='needs a condition to be guided to'):
    diffusion.denoiser(parts, model, 2, None, diffusion.Guidance(2.0))
  alone = parts._replace(condition=condition)
  with pytest.raises(ValueError, match='trained with and without its condition'):
    diffusion.denoiser(alone, model, 2, label, diffusion.Guidance(2.0))


def test_an_earlier_step_is_kept_and_guides_within_an_interval():
  """D_earlier + w (D - D_earlier), of parameters that are those of step 2 for ever."""
  _, process, form = made('edm')
  parts = diffusion.Denoising(
    Learned(), process, form, (SIZE,), times.karras(process)
  )  # fmt: skip
  method = diffusion.method(parts, optax.sgd(0.3), times.log_normal(process))
  method = diffusion.keep_earlier(method, 2)
  batch, step, params = data(16), jax.jit(method.step), []
  state = method.init(KEY, batch)
  for _ in range(4):
    state, _ = step(state, KEY, batch)
    params.append(state.params)
  chex_equal = jax.tree.map(np.array_equal, state.extra[diffusion.EARLIER], params[1])
  assert all(jax.tree.leaves(chex_equal))
  x, t = data(3)['x'], jnp.array([0.1, 1.0, 10.0])

  def of(params):
    model = base.Model(params, state.extra)
    return diffusion.denoiser(parts, model, 3)(x, t)

  model = base.Model(state.params, state.extra)
  to = diffusion.Guidance(3.0, 'earlier', low=0.5, high=5.0)
  found = diffusion.denoiser(parts, model, 3, None, to)(x, t)
  now, before = of(params[3]), of(params[1])
  assert float(jnp.abs(now - before).min()) > 1e-4
  expected = now.at[1].set(before[1] + 3 * (now[1] - before[1]))
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
  with pytest.raises(ValueError, match='needs a model that has kept one'):
    diffusion.denoiser(parts, base.Model(state.params, {}), 3, None, to)
  with pytest.raises(ValueError, match='weak must be one of unconditional, earlier'):
    diffusion.denoiser(parts, model, 3, None, to._replace(weak='late'))
  with pytest.raises(ValueError, match='the step that is kept must be >= 1, got 0'):
    diffusion.keep_earlier(method, 0)


def test_unknown_samplers_and_other_shapes_are_one_line():
  method, _, _ = made('edm')
  state = method.init(KEY, data(4))
  model = base.Model(state.params, state.extra)
  with pytest.raises(ValueError, match="no sampler 'hein'; there are: heun, ddim"):
    method.sample(model, KEY, 2, sampler='hein')
  with pytest.raises(ValueError, match=r'x must be \[B, 2\], got \(4, 3\)'):
    method.init(KEY, {'x': jnp.zeros((4, 3))})
  with pytest.raises(ValueError, match='snr_limit must be > 0'):
    ddpm.ddpm(
      Optimal(STEPS, denoisers.DATA), optax.sgd(0.1), shape=(2,), betas=BETAS,
      form=denoisers.DATA, snr_limit=5.0,
    )  # fmt: skip
