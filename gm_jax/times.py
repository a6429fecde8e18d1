"""Times of a process: drawn in training, and on a grid of falling times in sampling.

A distribution of times is a function (key, num) -> t `[num]`. A grid is a function
(i, num) -> t of the step i = 0..num-1, which may be traced, as may `num`: the first is
the process's last time, and behind the last stands time 0, to which every sampler goes
by the denoiser itself.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from gm_jax import base, processes

Array = base.Array
Times = Callable[[Array, int], Array]
Grid = Callable[[Array, Array], Array]


def uniform(process: processes.Process) -> Times:
  """Returns times that are uniform between a process's first and last."""

  def draw(key, num):
    return _between(process, jax.random.uniform(key, (num,)))

  return draw


def stratified(process: processes.Process) -> Times:
  """Returns times uniform between first and last, one in each of `num` equal parts.

  t_i = first + (last - first) ((u + i / num) mod 1), one u for all. Each is uniform;
  together they are a low-discrepancy sequence: a mean over them varies less.

  Source: Variational Diffusion Models, Kingma et al., 2021, arXiv:2107.00630, appendix
  I.1.
  """

  def draw(key, num):
    # Integers are divided: a range by steps of 1 / num has num + 1 floats for some num.
    parts = jnp.arange(num) / num
    return _between(process, (jax.random.uniform(key) + parts) % 1.0)

  return draw


def logit_normal(process: processes.Process, mean: float = 0.0, std: float = 1.0):
  """Returns times whose logit, within first and last, is N(mean, std^2).

  Source: Scaling Rectified Flow Transformers for High-Resolution Image Synthesis, Esser
  et al., 2024, arXiv:2403.03206, section 3.1.
  """

  def draw(key, num):
    logit = mean + std * jax.random.normal(key, (num,))
    return _between(process, jax.nn.sigmoid(logit))

  return draw


def log_normal(
  process: processes.Process, mean: float = -1.2, std: float = 1.2
) -> Times:
  """Returns times whose ratio of noise to signal has the logarithm N(mean, std^2).

  Source: Karras et al., 2022, arXiv:2206.00364, table 1.
  """

  def draw(key, num):
    logarithm = mean + std * jax.random.normal(key, (num,))
    return process.time(-2.0 * logarithm)

  return draw


def _between(process: processes.Process, u: Array) -> Array:
  return process.first + (process.last - process.first) * u


def even(process: processes.Process) -> Grid:
  """Returns the grid of equal steps of time, the last one to 0."""
  return lambda i, num: process.last * (1 - i / num)


def even_log_snr(process: processes.Process) -> Grid:
  """Returns the grid of equal steps of lambda, from the last time to the first.

  Raises:
    ValueError: lambda is infinite at one of them.
  """
  high, low = _log_snr(process, process.first), _log_snr(process, process.last)
  return lambda i, num: process.time(low + (high - low) * _part(i, num))


def karras(process: processes.Process, rho: float = 7.0) -> Grid:
  """Returns the grid of equal steps of (sigma / alpha)^(1 / rho).

  From the last time to the first; the larger rho, the more of them where noise is low.

  Source: Karras et al., 2022, arXiv:2206.00364, equation 5.

  Raises:
    ValueError: lambda is infinite at one of them, or rho is not above 0.
  """
  if not rho > 0:
    raise ValueError(f'rho must be > 0, got {rho}')
  low, high = (
    math.exp(-0.5 * _log_snr(process, t) / rho) for t in (process.first, process.last)
  )

  def grid(i, num):
    ratio = (high + (low - high) * _part(i, num)) ** rho
    return process.time(-2.0 * jnp.log(ratio))

  return grid


def _log_snr(process: processes.Process, t: float) -> float:
  with jax.ensure_compile_time_eval():
    found = float(process.log_snr(jnp.asarray(t)))
  if not math.isfinite(found):
    raise ValueError(
      f'the signal to noise ratio at t = {t:g} is 0 or infinite: take a grid of equal'
      ' steps of time'
    )
  return found


def _part(i: Array, num: Array) -> Array:
  """i / (num - 1), and 0 where there is one step."""
  return i / jnp.maximum(num - 1, 1)
