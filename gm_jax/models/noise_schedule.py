"""Noise schedules that are learned: gamma(t) = -ln snr, rising over t in [0, 1].

  gamma(t) = low + gap (f(t) - f(0)) / (f(1) - f(0)),   gap > 0

The ends are parameters of their own, and f, which is t or a monotone network, moves
nothing but the interior. Time is what the schedule makes of it: x_t depends on gamma.

Source: Variational Diffusion Models, Kingma et al., 2021, arXiv:2107.00630, appendix H.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from gm_jax import base

HALVINGS = 30  # of [0, 1], beyond a float's digits


def _inverse_softplus(value: float) -> float:
  return value + math.log(-math.expm1(-value))


class Monotone(nn.Module):
  """A network of one number that rises for all parameters, its weights being positive.

  f(t) = t + sum_k softplus(a_k) sigmoid(softplus(b_k) (t - c_k))

  Attributes:
    width: number of units k, at first steps evenly placed in [0, 1].
    slope: softplus(b_k) at first.
  """

  width: int = 32
  slope: float = 10.0

  @nn.compact
  def __call__(self, t: base.Array) -> base.Array:
    """Maps t `[...]` to f `[...]`."""

    def start(name, value):
      fill = nn.initializers.constant(_inverse_softplus(value))
      return self.param(name, fill, (self.width,))

    height = jax.nn.softplus(start('height', 1.0 / self.width))
    slope = jax.nn.softplus(start('slope', self.slope))
    center = self.param('center', lambda _: jnp.linspace(0.0, 1.0, self.width))
    return t + jax.nn.sigmoid(slope * (t[..., None] - center)) @ height


class NoiseSchedule(nn.Module):
  """gamma(t), whose parameters are the ends, `low` and `gap`, and those of `interior`.

  Attributes:
    interior: f, a module of t `[...]` that rises, or None for t itself.
    low: gamma(0) at first.
    high: gamma(1) at first, above `low`.
  """

  interior: nn.Module | None = None
  low: float = -8.0
  high: float = 4.0

  @nn.compact
  def __call__(self, t: base.Array) -> base.Array:
    """Maps times t `[...]` in [0, 1] to gamma `[...]`, nats.

    Raises:
      ValueError: unless `low` is below `high`.
    """
    if not self.low < self.high:
      raise ValueError(f'low must be below high, got {self.low} and {self.high}')
    low = self.param('low', nn.initializers.constant(self.low), ())
    gap = _inverse_softplus(self.high - self.low)
    gap = jax.nn.softplus(self.param('gap', nn.initializers.constant(gap), ()))
    t = jnp.asarray(t, low.dtype)
    if self.interior is None:
      return low + gap * t
    begin, end = self.interior(jnp.array([0.0, 1.0], t.dtype))
    return low + gap * (self.interior(t) - begin) / (end - begin)


def inverse(schedule, gamma: base.Array) -> base.Array:
  """Returns the times `[...]` at which a rising function of [0, 1] is `gamma`.

  By bisection, as the schedule is a network; beyond its ends 0 or 1.

  Args:
    schedule: t `[...]` -> `[...]`.
    gamma: `[...]`.
  """

  def halve(_, bounds):
    low, high = bounds
    middle = 0.5 * (low + high)
    is_below = schedule(middle) < gamma
    return jnp.where(is_below, middle, low), jnp.where(is_below, high, middle)

  bounds = jnp.zeros_like(gamma), jnp.ones_like(gamma)
  low, high = jax.lax.fori_loop(0, HALVINGS, halve, bounds)
  return 0.5 * (low + high)
