"""Samplers of diffusion models: from noise at the last time to data, by any denoiser.

Each is a function

  (denoiser, process, key, x [B, ...], grid, num_steps, **options) -> [B, ...]

where x is what `noise` draws at the process's last time, the denoiser is (x_t, t `[B]`)
-> E[x | x_t], and `num_steps`, an int or a traced number, is N: there are N - 1 steps
between the N times of the grid, and the last goes to time 0 by the denoiser alone. That
is the step of order one, and needs no logarithm of a noise level of 0. One program does
for every N if that is traced.

With D = denoiser(x_t, t), e = (x_t - alpha_t D) / sigma_t and a step from t to s < t:

  ddim         x_s = alpha_s D + sqrt(sigma_s^2 - eta^2 v) e + eta sqrt(v) z,
               v = sigma_s^2 / sigma_t^2 (sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2)
  ancestral    the mean of x_s given x_t and D, which is that of eta = 1, and a variance
               between v, its own, and that of x_t given x_s
  euler, heun  the probability flow dx_t / dt = alpha' D + sigma' e
  dpm_solver   x_s = sigma_s / sigma_t x_t - alpha_s (e^-h - 1) (D + (D - D_before)/2r),
               h = lambda_s - lambda_t, r = h_before / h
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from gm_jax import base, denoisers, processes, times

Array = base.Array
Process = processes.Process
MOST_CHURN = math.sqrt(2) - 1


def noise(process: Process, key: Array, shape: tuple[int, ...]) -> Array:
  """Draws noise at the last time, of deviation sigma(last).

  Args:
    process: any.
    key: `[]` typed key.
    shape: B and the shape of an example.

  Returns:
    `[B, ...]` x_t.
  """
  return process.sigma(jnp.asarray(process.last)) * jax.random.normal(key, shape)


def ddim(
  denoiser: denoisers.Denoiser,
  process: Process,
  key: Array | None,
  x: Array,
  grid: times.Grid,
  num_steps: int | Array,
  *,
  eta: float = 0.0,
) -> Array:
  """Samples by the implicit model, deterministic at eta = 0.

  Of a straight line it is Euler's method in time, of the EDM process in sigma.

  Source: Denoising Diffusion Implicit Models, Song et al., 2021, arXiv:2010.02502.

  Args:
    denoiser: see above, as the five that follow.
    process: of x_t.
    key: `[]` typed key, or None at eta = 0.
    x: `[B, ...]` at the last time.
    grid: of times.
    num_steps: N, evaluations of the denoiser.
    eta: 1 is DDPM's ancestral sampling with the posterior's variance.

  Returns:
    `[B, ...]` data.
  """

  def step(key, x, denoised, t, s, carry):
    part = eta**2 * _shrunk(process, t, s)  # of the noise's variance, drawn anew
    e = jnp.sqrt(1 - part) * denoisers.noise(process, denoised, x, t)
    if eta:
      e += jnp.sqrt(part) * jax.random.normal(key, x.shape, x.dtype)
    return process.alpha(s) * denoised + process.sigma(s) * e, carry

  return _sample(denoiser, step, key, x, grid, num_steps)


def ancestral(
  denoiser: denoisers.Denoiser,
  process: Process,
  key: Array,
  x: Array,
  grid: times.Grid,
  num_steps: int | Array,
  *,
  fraction: float | Callable[[Array, Array], Array] = 0.0,
) -> Array:
  """Samples by draws from Gaussians with the posterior's mean.

  The logarithm of the variance is f ln w + (1 - f) ln v, with w the variance of x_t
  given x_s and v that of x_s given x_t and x.

  Source: Ho et al., 2020, arXiv:2006.11239; Nichol and Dhariwal, 2021,
  arXiv:2102.09672, equation 15, where f is learned.

  Args:
    denoiser: as in `ddim`, as the next four.
    process: of x_t.
    key: `[]` typed key.
    x: `[B, ...]` at the last time.
    grid: of times.
    num_steps: N.
    fraction: f, a number, or a function (x_t, t `[B]`) -> `[B, ...]`.

  Returns:
    `[B, ...]` data.
  """

  def step(key, x, denoised, t, s, carry):
    e = denoisers.noise(process, denoised, x, t)
    small, large = _posterior(process, t, s), _transition(process, t, s)
    part = fraction(x, _each(t, x)) if callable(fraction) else fraction
    std = jnp.exp(0.5 * (part * jnp.log(large) + (1 - part) * jnp.log(small)))
    kept = jnp.sqrt(process.sigma(s) ** 2 - small)
    z = jax.random.normal(key, x.shape, x.dtype)
    return process.alpha(s) * denoised + kept * e + std * z, carry

  return _sample(denoiser, step, key, x, grid, num_steps)


def euler(
  denoiser: denoisers.Denoiser,
  process: Process,
  key: Array | None,
  x: Array,
  grid: times.Grid,
  num_steps: int | Array,
) -> Array:
  """Samples by Euler's steps of time along the probability flow.

  Args:
    denoiser: as in `ddim`, as the next five.
    process: of x_t.
    key: not used, may be None.
    x: `[B, ...]` at the last time.
    grid: of times.
    num_steps: N.

  Returns:
    `[B, ...]` data.
  """

  def step(key, x, denoised, t, s, carry):
    del key
    return x + (s - t) * denoisers.flow(process, denoised, x, t), carry

  return _sample(denoiser, step, key, x, grid, num_steps)


def heun(
  denoiser: denoisers.Denoiser,
  process: Process,
  key: Array | None,
  x: Array,
  grid: times.Grid,
  num_steps: int | Array,
  *,
  churn: float = 0.0,
  low: float = 0.0,
  high: float = math.inf,
  scale: float = 1.0,
) -> Array:
  """Samples by Heun's steps along the probability flow, 2N - 1 evaluations.

  With churn noise is added first, to a ratio sigma / alpha that is 1 + gamma times as
  large, gamma = min(churn / N, sqrt(2) - 1): stochastic sampling that corrects what
  earlier steps did wrong.

  Source: Karras et al., 2022, arXiv:2206.00364, algorithms 1 and 2.

  Args:
    denoiser: as in `ddim`, as the next four.
    process: of x_t.
    key: `[]` typed key, or None without churn.
    x: `[B, ...]` at the last time.
    grid: of times.
    num_steps: N.
    churn: 0 is deterministic.
    low: the smallest ratio of noise to signal at which noise is added.
    high: the largest.
    scale: of the noise that is added.

  Returns:
    `[B, ...]` data.
  """

  def raised(key, x, t):
    ratio = jnp.exp(-0.5 * process.log_snr(t))
    inside = (ratio >= low) & (ratio <= high) & jnp.isfinite(ratio)
    gamma = jnp.where(inside, jnp.minimum(churn / num_steps, MOST_CHURN), 0.0)
    up = process.time(-2 * jnp.log(ratio * (1 + gamma)))
    up = jnp.where(gamma > 0, up, t)  # not by way of logarithms and back
    z = jax.random.normal(key, x.shape, x.dtype)
    # The variance that is added, sigma_up^2 - (alpha_up / alpha_t)^2 sigma_t^2.
    added = process.sigma(up) ** 2 * (1 - (1 + gamma) ** -2)
    x = process.alpha(up) / process.alpha(t) * x + scale * jnp.sqrt(added) * z
    return x, up

  def step(key, x, denoised, t, s, carry):
    if churn:
      x, t = raised(key, x, t)
      denoised = denoiser(x, _each(t, x))
    slope = denoisers.flow(process, denoised, x, t)
    ahead = x + (s - t) * slope
    again = denoisers.flow(process, denoiser(ahead, _each(s, x)), ahead, s)
    return x + (s - t) * 0.5 * (slope + again), carry

  return _sample(denoiser, step, key, x, grid, num_steps)


def dpm_solver(
  denoiser: denoisers.Denoiser,
  process: Process,
  key: Array | None,
  x: Array,
  grid: times.Grid,
  num_steps: int | Array,
) -> Array:
  """Samples by the multistep solver DPM-Solver++(2M), of order two.

  Its first step and its last, to time 0, are of order one.

  Source: DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic
  Models, Lu et al., 2022, arXiv:2211.01095, algorithm 2.

  Args:
    denoiser: as in `ddim`, as the next five.
    process: of x_t.
    key: not used, may be None.
    x: `[B, ...]` at the last time.
    grid: of times.
    num_steps: N.

  Returns:
    `[B, ...]` data.
  """

  def step(key, x, denoised, t, s, carry):
    del key
    before, h_before = carry
    h = process.log_snr(s) - process.log_snr(t)
    # h is twice the step of ln(alpha / sigma), in which the solver is written.
    half = 0.5 * h
    weight = jnp.where(h_before > 0, h / (2 * h_before), 0.0)
    weight = jnp.where(jnp.isfinite(weight), weight, 0.0)
    ahead = denoised + weight * (denoised - before)
    ratio = process.sigma(s) / process.sigma(t)
    x = ratio * x - process.alpha(s) * jnp.expm1(-half) * ahead
    return x, (denoised, h)

  first = jnp.zeros_like(x), jnp.zeros((), x.dtype)
  return _sample(denoiser, step, key, x, grid, num_steps, first)


def predictor_corrector(
  denoiser: denoisers.Denoiser,
  process: Process,
  key: Array,
  x: Array,
  grid: times.Grid,
  num_steps: int | Array,
  *,
  num_corrections: int = 1,
  snr: float = 0.16,
) -> Array:
  """Samples by ancestral steps, each followed by steps of Langevin dynamics.

  x + a score + sqrt(2 a) z,   a = 2 (snr |z| / |score|)^2, norms of each example's own

  Source: Song et al., 2021, arXiv:2011.13456, algorithms 2 to 5.

  Args:
    denoiser: as in `ddim`, as the next five.
    process: of x_t.
    key: `[]` typed key.
    x: `[B, ...]` at the last time.
    grid: of times.
    num_steps: N; the denoiser is evaluated N + (N - 1) `num_corrections` times.
    num_corrections: of Langevin dynamics after each step.
    snr: of such a step: the larger, the longer it is.

  Returns:
    `[B, ...]` data.
  """

  def norms(a):
    return jnp.sqrt(jnp.sum(jnp.square(a), axis=range(1, a.ndim), keepdims=True))

  def step(key, x, denoised, t, s, carry):
    key, own = jax.random.split(key)
    e, variance = denoisers.noise(process, denoised, x, t), _posterior(process, t, s)
    kept = jnp.sqrt(process.sigma(s) ** 2 - variance)
    z = jax.random.normal(own, x.shape, x.dtype)
    x = process.alpha(s) * denoised + kept * e + jnp.sqrt(variance) * z

    def correct(i, x):
      z = jax.random.normal(jax.random.fold_in(key, i), x.shape, x.dtype)
      score = denoisers.score(process, denoiser(x, _each(s, x)), x, s)
      length = 2 * (snr * norms(z) / norms(score)) ** 2
      return x + length * score + jnp.sqrt(2 * length) * z

    return jax.lax.fori_loop(0, num_corrections, correct, x), carry

  return _sample(denoiser, step, key, x, grid, num_steps)


def _sample(denoiser, step, key, x, grid, num_steps, carry=()):
  """Runs `step` between the times of the grid, and the denoiser at the last.

  step: (key, x, D(x, t), t, s, carry) -> (x at s, carry).
  """
  if isinstance(num_steps, int) and num_steps < 1:
    raise ValueError(f'num_steps must be >= 1, got {num_steps}')

  def body(i, inputs):
    x, carry = inputs
    t, s = (jnp.asarray(grid(i + j, num_steps), x.dtype) for j in (0, 1))
    denoised = denoiser(x, _each(t, x))
    own = None if key is None else jax.random.fold_in(key, i)
    return step(own, x, denoised, t, s, carry)

  x, _ = jax.lax.fori_loop(0, num_steps - 1, body, (x, carry))
  return denoiser(x, _each(jnp.asarray(grid(num_steps - 1, num_steps), x.dtype), x))


def _each(t: Array, x: Array) -> Array:
  """The time of each example, `[B]`."""
  return jnp.full(len(x), t, x.dtype)


def _shrunk(process: Process, t: Array, s: Array) -> Array:
  """1 - e^(lambda_t - lambda_s), without cancellation."""
  return -jnp.expm1(process.log_snr(t) - process.log_snr(s))


def _transition(process: Process, t: Array, s: Array) -> Array:
  """The variance of x_t given x_s, sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2."""
  return process.sigma(t) ** 2 * _shrunk(process, t, s)


def _posterior(process: Process, t: Array, s: Array) -> Array:
  """The variance of x_s given x_t and x."""
  return process.sigma(s) ** 2 * _shrunk(process, t, s)
