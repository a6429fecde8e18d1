"""Paths from noise to data: how straight they are, and how far they go.

Source: Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified
Flow, Liu et al., 2023, arXiv:2209.03003, section 2.2.
"""

import jax
import jax.numpy as jnp

from gm_jax import base, denoisers, processes, times

Array = base.Array


def straightness(
  denoiser: denoisers.Denoiser,
  process: processes.Process,
  x: Array,
  grid: times.Grid,
  num_steps: int | Array,
) -> tuple[Array, dict[str, Array]]:
  """Samples by Euler's steps, and measures the path of every example.

  S = mean_i |v_i - mean_j v_j|^2 over the steps, which is 0 of a straight path that is
  run through evenly: then a single step is exact.

  Args:
    denoiser: (x_t, t `[B]`) -> E[x | x_t].
    process: of x_t.
    x: `[B, ...]` at the last time.
    grid: of equal steps of time, `times.even`.
    num_steps: N, evaluations of the denoiser.

  Returns:
    `[B, ...]` data; and `straightness` S, and `transport_cost` |x_first - x_last|^2,
    `[B]` each, sums of squares over the numbers of an example.
  """

  def squares(a, b):
    return (a * b).reshape(len(x), -1).sum(axis=1)

  def step(i, carry):  # mean and variance of v by Welford's recursion
    now, mean, spread = carry
    t, s = (jnp.full(len(x), grid(i + j, num_steps), x.dtype) for j in (0, 1))
    v = denoisers.flow(process, denoiser(now, t), now, t)
    moved = mean + (v - mean) / (i + 1)
    now = now + processes.along(s - t, now) * v
    return now, moved, spread + squares(v - mean, v - moved)

  first = x, jnp.zeros_like(x), jnp.zeros(len(x), x.dtype)
  data, _, spread = jax.lax.fori_loop(0, num_steps, step, first)
  cost = squares(data - x, data - x)
  return data, {'straightness': spread / num_steps, 'transport_cost': cost}
