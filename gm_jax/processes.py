"""Forward processes: data that become noise as time goes on.

  x_t = alpha(t) x + sigma(t) e,   e ~ N(0, I),   lambda(t) = ln alpha(t)^2 / sigma(t)^2

A process is a NamedTuple of functions of times `[...]`. The logarithm of the signal to
noise ratio, lambda, falls strictly from `first`, where x_t is nearly data, to `last`,
where it is nearly noise; it may be infinite at either end. With f = alpha' / alpha and
g^2 = -sigma^2 lambda',

  dx = f(t) x dt + g(t) dw                       has these x_t, and
  dx = (alpha' E[x | x_t] + sigma' E[e | x_t]) dt   the same distribution at every t.

Source: Score-Based Generative Modeling through Stochastic Differential Equations, Song
et al., 2021, arXiv:2011.13456; Variational Diffusion Models, Kingma et al., 2021,
arXiv:2107.00630.

  >>> from gm_jax import processes
  >>> process = processes.cosine()
  >>> print(processes.checked(process) is process)
  True
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gm_jax import base

Array = base.Array
GRID = 1000  # times at which a schedule is looked at


class Process(NamedTuple):
  """How much of data and of noise there is at a time."""

  alpha: Callable[[Array], Array]
  sigma: Callable[[Array], Array]
  log_snr: Callable[[Array], Array]  # nats
  time: Callable[[Array], Array]  # the inverse of log_snr
  first: float  # where sampling ends and training begins
  last: float  # where sampling begins


def variance_preserving(
  low: float = 0.1, high: float = 20.0, *, first: float = 1e-3
) -> Process:
  """Returns the process of rates beta that rise along a line, alpha^2 + sigma^2 = 1.

  ln alpha = -(t low + t^2 (high - low) / 2) / 2,   t in [first, 1]

  Args:
    low: beta at time 0, > 0.
    high: beta at time 1, at least `low`.
    first: the first time, > 0.

  Raises:
    ValueError: rates that are not 0 < low <= high.
  """
  if not 0 < low <= high:
    raise ValueError(f'rates must be 0 < low <= high, got {low} and {high}')

  def log_alpha(t):
    return -0.5 * t * (low + 0.5 * t * (high - low))

  def sigma(t):
    return jnp.sqrt(-jnp.expm1(2 * log_alpha(t)))

  def log_snr(t):
    twice = 2 * log_alpha(t)
    return twice - jnp.log(-jnp.expm1(twice))

  def time(log_snr):
    total = jax.nn.softplus(-log_snr)  # -2 ln alpha
    return 2 * total / (low + jnp.sqrt(low**2 + 2 * (high - low) * total))

  return Process(lambda t: jnp.exp(log_alpha(t)), sigma, log_snr, time, first, 1.0)


def cosine(*, offset: float = 0.008, first: float = 1e-3, last: float = 0.999):
  """Returns the process whose alpha is a cosine, alpha^2 + sigma^2 = 1.

  alpha = cos u / cos u_0,   u = (t + offset) / (1 + offset) pi / 2,   u_0 = u(0)

  Source: Improved Denoising Diffusion Probabilistic Models, Nichol and Dhariwal, 2021,
  arXiv:2102.09672, equation 17.

  Args:
    offset: at least 0.
    first: the first time, > 0.
    last: the last, < 1: at 1 nothing of the data is left.
  """
  unit = math.pi / 2 / (1 + offset)
  start = offset * unit

  def angle(t):
    return (t + offset) * unit

  def alpha(t):
    return jnp.cos(angle(t)) / math.cos(start)

  def sigma(t):  # 1 - alpha^2 as a product, which does not cancel near 0
    product = jnp.sin(t * unit) * jnp.sin(angle(t) + start)
    return jnp.sqrt(product) / math.cos(start)

  def log_snr(t):
    return 2 * (jnp.log(alpha(t)) - jnp.log(sigma(t)))

  def time(log_snr):
    # In terms of sin^2 u, which is not rounded to 1 where alpha is nearly 1.
    sine = jax.nn.sigmoid(-log_snr) * math.cos(start) ** 2 + math.sin(start) ** 2
    u = jnp.arctan2(jnp.sqrt(sine), jnp.sqrt(jnp.clip(1 - sine, 0.0)))
    return u / unit - offset

  return Process(alpha, sigma, log_snr, time, first, last)


def variance_exploding(low: float = 0.01, high: float = 50.0) -> Process:
  """Returns the process of noise that grows geometrically, alpha = 1, t in [0, 1].

  sigma = low (high / low)^t

  Args:
    low: the deviation at time 0, > 0.
    high: that at time 1, above `low`.

  Raises:
    ValueError: deviations that are not 0 < low < high.
  """
  if not 0 < low < high:
    raise ValueError(f'deviations must be 0 < low < high, got {low} and {high}')
  growth = math.log(high / low)

  def sigma(t):
    return low * jnp.exp(t * growth)

  def log_snr(t):
    return -2 * (math.log(low) + t * growth)

  def time(log_snr):
    return (-0.5 * log_snr - math.log(low)) / growth

  return Process(jnp.ones_like, sigma, log_snr, time, 0.0, 1.0)


def sub_variance_preserving(
  low: float = 0.1, high: float = 20.0, *, first: float = 1e-3
) -> Process:
  """Returns the process with the alpha of `variance_preserving` and less noise.

  sigma = 1 - alpha^2

  Args:
    low: beta at time 0, > 0.
    high: beta at time 1, at least `low`.
    first: the first time, > 0.

  Raises:
    ValueError: rates that are not 0 < low <= high.
  """
  other = variance_preserving(low, high, first=first)

  def sigma(t):
    return other.sigma(t) ** 2

  def log_snr(t):
    return 2 * (jnp.log(other.alpha(t)) - jnp.log(sigma(t)))

  def time(log_snr):
    # alpha of the ratio r = alpha / (1 - alpha^2), without the cancelling root.
    ratio = jnp.exp(0.5 * log_snr)
    alpha = 2 * ratio / (1 + jnp.sqrt(1 + 4 * ratio**2))
    small = 2 / (1 + jnp.sqrt(1 + 4 * ratio**2))  # 1 - alpha^2 = alpha / r
    return other.time(2 * jnp.log(alpha) - jnp.log(small))

  return Process(other.alpha, sigma, log_snr, time, first, 1.0)


def edm(*, first: float = 0.002, last: float = 80.0) -> Process:
  """Returns the process whose time is the noise's deviation, alpha = 1, sigma = t.

  Source: Elucidating the Design Space of Diffusion-Based Generative Models, Karras et
  al., 2022, arXiv:2206.00364.

  Args:
    first: the smallest deviation, > 0.
    last: the largest.

  Raises:
    ValueError: deviations that are not 0 < first < last.
  """
  if not 0 < first < last:
    raise ValueError(f'deviations must be 0 < first < last, got {first} and {last}')
  return Process(
    jnp.ones_like, lambda t: t, lambda t: -2 * jnp.log(t),
    lambda log_snr: jnp.exp(-0.5 * log_snr), first, last,
  )  # fmt: skip


def rectified(least: float = 0.0) -> Process:
  """Returns the straight line from data, with a little noise, at 0 to noise at time 1.

  alpha = 1 - t,   sigma = least + (1 - least) t

  Source: Flow Straight and Fast, Liu et al., 2023, arXiv:2209.03003, where `least` is
  0; Flow Matching for Generative Modeling, Lipman et al., 2023, arXiv:2210.02747,
  example II, whose sigma_min it is.

  Args:
    least: deviation of the noise at time 0, in [0, 1).

  Raises:
    ValueError: another deviation.
  """
  if not 0 <= least < 1:
    raise ValueError(f'the least noise must be in [0, 1), got {least}')

  def sigma(t):
    return least + (1 - least) * t

  def time(log_snr):
    kept = least * jax.nn.sigmoid(0.5 * log_snr)  # least alpha / (alpha + sigma)
    return (jax.nn.sigmoid(-0.5 * log_snr) - kept) / (1 - kept)

  return Process(
    lambda t: 1 - t, sigma, lambda t: 2 * (jnp.log1p(-t) - jnp.log(sigma(t))),
    time, 0.0, 1.0,
  )  # fmt: skip


def trigonometric() -> Process:
  """Returns the arc alpha = cos t, sigma = sin t, t in [0, pi / 2].

  Source: Simplifying, Stabilizing and Scaling Continuous-Time Consistency Models, Lu
  and Song, 2024, arXiv:2410.11081, whose TrigFlow scales data to deviation 1.
  """

  def alpha(t):  # 0 at the end, where a float's cosine is below
    return jnp.sin(math.pi / 2 - t)

  return Process(
    alpha, jnp.sin, lambda t: 2 * (jnp.log(alpha(t)) - jnp.log(jnp.sin(t))),
    lambda log_snr: jnp.arctan(jnp.exp(-0.5 * log_snr)), 0.0, math.pi / 2,
  )  # fmt: skip


def from_log_snr(
  log_snr: Callable[[Array], Array],
  time: Callable[[Array], Array],
  *,
  first: float = 0.0,
  last: float = 1.0,
) -> Process:
  """Returns the process of this lambda with alpha^2 + sigma^2 = 1.

  Args:
    log_snr: lambda, falling.
    time: its inverse.
    first: the first time.
    last: the last.
  """

  def alpha(t):
    return jnp.sqrt(jax.nn.sigmoid(log_snr(t)))

  def sigma(t):
    return jnp.sqrt(jax.nn.sigmoid(-log_snr(t)))

  return Process(alpha, sigma, log_snr, time, first, last)


def from_betas(betas: Sequence[float]) -> Process:
  """Returns the process of T steps, exact at the times i / T, i = 1..T.

  alpha(i / T)^2 = prod_{j <= i} (1 - beta_j)

  lambda is linear between two of these times. The products are made in float64.

  Source: Denoising Diffusion Probabilistic Models, Ho et al., 2020, arXiv:2006.11239.

  Args:
    betas: `[T]` in (0, 1), T >= 2.

  Raises:
    ValueError: fewer than two, or one outside (0, 1).
  """
  betas = np.asarray(betas, np.float64)
  if betas.ndim != 1 or len(betas) < 2 or not ((betas > 0) & (betas < 1)).all():
    raise ValueError('betas must be at least two numbers between 0 and 1')
  total = np.cumsum(np.log1p(-betas))  # ln alpha^2
  table = total - np.log(-np.expm1(total))
  times = np.arange(1, len(betas) + 1) / len(betas)

  def log_snr(t):
    return jnp.interp(t, times, table)

  def time(log_snr):
    return jnp.interp(-log_snr, -table, times)

  return from_log_snr(log_snr, time, first=float(times[0]), last=1.0)


def linear_betas(num: int = 1000, low: float = 1e-4, high: float = 0.02) -> np.ndarray:
  """Returns `[num]` betas along a line, those of 1,000 steps scaled to `num`.

  Source: Ho et al., 2020, arXiv:2006.11239, section 4.

  Args:
    num: T.
    low: beta_1 of 1,000 steps.
    high: beta_1000.
  """
  return np.linspace(low, high, num) * (1000 / num)


def cosine_betas(num: int = 1000, *, offset: float = 0.008, most: float = 0.999):
  """Returns `[num]` betas whose alpha is that of `cosine`.

  Source: Nichol and Dhariwal, 2021, arXiv:2102.09672, section 3.2.

  Args:
    num: T.
    offset: of the cosine.
    most: the largest beta.
  """
  u = (np.arange(num + 1) / num + offset) / (1 + offset) * np.pi / 2
  squares = np.cos(u) ** 2
  return np.minimum(1 - squares[1:] / squares[:-1], most)


def rates(process: Process, t: Array) -> tuple[Array, Array]:
  """Returns alpha'(t) and sigma'(t), `[...]` each, by forward differentiation.

  Args:
    process: of alpha and sigma.
    t: `[...]` times.
  """
  t = jnp.asarray(t)
  one = jnp.ones_like(t)
  return tuple(jax.jvp(f, (t,), (one,))[1] for f in (process.alpha, process.sigma))


def drift_and_diffusion(process: Process, t: Array) -> tuple[Array, Array]:
  """Returns f(t) and g(t)^2 of the stochastic differential equation, `[...]` each.

  Args:
    process: with alpha(t) > 0 and sigma(t) > 0 there.
    t: `[...]` times.
  """
  alpha_rate, sigma_rate = rates(process, t)
  f, sigma = alpha_rate / process.alpha(t), process.sigma(t)
  return f, 2 * sigma * (sigma_rate - f * sigma)


def noised(process: Process, x: Array, noise: Array, t: Array) -> Array:
  """Returns x_t `[B, ...]`.

  Args:
    process: of alpha and sigma.
    x: `[B, ...]` data.
    noise: `[B, ...]` e.
    t: `[B]` times.
  """
  return along(process.alpha(t), x) * x + along(process.sigma(t), x) * noise


def along(values: Array, x: Array) -> Array:
  """Returns a number an example, `[B]` or `[]`, as it multiplies x `[B, ...]`."""
  values = jnp.asarray(values, x.dtype)
  return values.reshape(values.shape + (1,) * (x.ndim - values.ndim))


def checked(process: Process) -> Process:
  """Returns the process, whose schedule was looked at on a grid of times.

  Args:
    process: any.

  Raises:
    ValueError: lambda does not fall strictly from `first` to `last`.
  """
  with jax.ensure_compile_time_eval():
    times = jnp.linspace(process.first, process.last, GRID)
    log_snr = np.asarray(process.log_snr(times))
  is_falling = np.diff(log_snr) < 0
  if not is_falling.all():
    wrong = float(times[int(np.argmin(is_falling))])
    raise ValueError(
      'the signal to noise ratio must fall from the first time to the last; it does'
      f' not at t = {wrong:.3g}'
    )
  return process
