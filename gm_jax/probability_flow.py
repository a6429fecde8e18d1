"""The likelihood of a diffusion model, by the flow that has its distributions.

Source: Score-Based Generative Modeling through Stochastic Differential Equations, Song
et al., 2021, arXiv:2011.13456, section 4.3.
"""

import math

import jax
import jax.numpy as jnp

from gm_jax import base, denoisers, ode, processes

Array = base.Array
EXACT = 16  # numbers an example, up to which the trace is exact


def likelihood(
  process: processes.Process,
  denoise: denoisers.Denoiser,
  key: Array,
  x: Array,
  *,
  num_probes: int = 4,
  first: float = 1e-3,
  solve: ode.Solve | None = None,
) -> tuple[Array, Array]:
  """The log-density of data by the probability flow, log p(x) = log N(x_T) + int div.

  Data are taken for x_t of the first time. Up to `EXACT` numbers the divergence is
  exact and the error 0, above it is Hutchinson's estimate: unbiased, up to the
  solver's tolerance.

  Source: Song et al., 2021, arXiv:2011.13456, appendix D.2.

  Args:
    process: of x_t.
    denoise: the model.
    key: of the directions.
    x: `[B, ...]`.
    num_probes: directions an example, at least 2.
    first: the time that the flow begins at, if the process's own is smaller.
    solve: of the equation; None is `ode.adaptive()`.

  Returns:
    Nats `[B]` and their standard errors `[B]`.

  Raises:
    ValueError: fewer than two directions.
  """
  size, begin = math.prod(x.shape[1:]), max(first, process.first)
  end = process.last * (1 - 1e-4)  # the flow may have no derivative at the end
  trace = ode.EXACT if size <= EXACT else ode.HUTCHINSON
  if trace is ode.HUTCHINSON and num_probes < 2:
    raise ValueError(f'num_probes must be >= 2, for an error, got {num_probes}')
  directions = trace.directions(key, num_probes, x)
  solve = ode.adaptive() if solve is None else solve

  def field(t, state, args):
    times_ = jnp.full(len(x), t, x.dtype)

    def flow(z):
      return denoisers.flow(process, denoise(z, times_), z, times_)

    return ode.along(flow, state[0], args)

  state = x, jnp.zeros(directions.shape[:2], x.dtype)
  (z, integrals), _ = solve(field, begin, end, state, directions)
  sigma = process.sigma(jnp.asarray(end, x.dtype))
  log_prob = jax.scipy.stats.norm.logpdf(z.reshape(len(x), -1), scale=sigma).sum(axis=1)
  error = jnp.zeros(len(x), x.dtype)
  if trace is ode.HUTCHINSON:
    error = integrals.std(axis=0, ddof=1) / math.sqrt(num_probes)
  return log_prob + trace.reduce(integrals), error
