"""The bound of a diffusion model of integers, by its schedule gamma(t) = -ln snr.

  z_t = alpha_t v + sigma_t e,   gamma(t) = ln sigma_t^2 / alpha_t^2,   t in [0, 1]
  -log p(x) <= KL(q(z_1 | x) || N(0, I)) + E[-log p(x | z_0)] + E_t,e[diffusion]

v is x with its K levels put evenly on [-1, 1], and p(x_d = k | z_0) the posterior of
the level k by z_0 alone, all K alike before. The diffusion loss of T steps is
T/2 expm1(gamma_t - gamma_s) |e - e'|^2, that of infinitely many gamma'(t)/2 |e - e'|^2.
The mean of the latter depends on gamma at both ends alone, by substitution of gamma for
t. A network sees gamma and never t.

Source: Variational Diffusion Models, Kingma et al., 2021, arXiv:2107.00630.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gm_jax import base, denoisers, processes
from gm_jax.losses import denoising, likelihood, shapes

Array = base.Array
# The process whose time is gamma itself.
GAMMA = processes.from_log_snr(jnp.negative, jnp.negative)


class Levels(NamedTuple):
  """All that the bound sees of a schedule."""

  gamma: Array  # [B] at t
  other: Array  # [B] gamma'(t), or gamma at t - 1 / T
  low: Array  # [] gamma(0)
  high: Array  # [] gamma(1)


class Terms(NamedTuple):
  """The bound's parts, `[B]` nats each."""

  diffusion: Array
  reconstruction: Array
  prior: Array


def levels(
  schedule: Callable[[Array], Array], t: Array, *, num_steps: int = 0
) -> Levels:
  """Looks at a schedule at times.

  Args:
    schedule: t `[...]` -> gamma `[...]`, rising.
    t: `[B]` in [0, 1); of T steps each is taken to the end of its own.
    num_steps: T, or 0 for infinitely many.
  """
  ends = schedule(jnp.zeros(())), schedule(jnp.ones(()))
  if not num_steps:
    return Levels(*jax.jvp(schedule, (t,), (jnp.ones_like(t),)), *ends)
  s = jnp.minimum(jnp.floor(t * num_steps), num_steps - 1)
  return Levels(schedule((s + 1) / num_steps), schedule(s / num_steps), *ends)


def centered(x: Array, num_levels: int) -> Array:
  """Returns v `[...]` of integers x `[...]` in [0, K)."""
  shapes.check_integers(x=x)
  return (2.0 * x - (num_levels - 1)) / (num_levels - 1)


def nearest(v: Array, num_levels: int) -> Array:
  """Returns the integers `[...]`, int32, whose v is the nearest."""
  x = jnp.round(0.5 * (v + 1.0) * (num_levels - 1))
  return jnp.clip(x, 0, num_levels - 1).astype(jnp.int32)


def terms(
  denoise: denoisers.Denoiser,
  at: Levels,
  key: Array,
  x: Array,
  *,
  num_levels: int,
  num_steps: int = 0,
) -> Terms:
  """The terms of an upper bound of -log p(x), unbiased, of one noise each.

  Args:
    denoise: (z, gamma `[B]`) -> E[v | z], `[B, ...]`.
    at: the schedule, by `levels`.
    key: of the noise.
    x: `[B, ...]` integers in [0, K).
    num_levels: K.
    num_steps: T, or 0 for infinitely many.

  Raises:
    ValueError: x that are no integers.
  """
  key, first_key = jax.random.split(key)
  v = centered(x, num_levels)
  noise, first = (jax.random.normal(k, v.shape, v.dtype) for k in (key, first_key))
  z = processes.noised(GAMMA, v, noise, at.gamma)
  found = denoisers.noise(GAMMA, denoise(z, at.gamma), z, at.gamma)
  if num_steps:
    lost = denoising.discrete_bound(
      found, noise, at.gamma, at.other, num_steps=num_steps
    )
  else:
    lost = denoising.continuous_bound(found, noise, at.other)
  z_0 = v + jnp.exp(0.5 * at.low) * first  # over alpha_0
  values = centered(jnp.arange(num_levels), num_levels)
  logits = -0.5 * jnp.exp(-at.low) * jnp.square(z_0[..., None] - values)
  reconstruction = -likelihood.categorical(logits, x)
  return Terms(lost, reconstruction, denoising.prior_kl(v, at.high))
