"""In-painting by any denoiser: what is not known of an example, given what is.

Each function goes from noise to data as `diffusion.ancestral` does, by draws

  x_s ~ N(alpha_s D + kept e, v I + a^2 Cov[x | x_t]),   a = alpha_s (1 - snr_t / snr_s)

(D, e, v as there), and the last from N(D, Cov[x | x_t]). It has `diffusion`'s arguments
and, by keyword, what is known:

  known       `[B, ...]` data; where they are not known the values do not matter
  observed    `[B, ...]` bool, True where they are known
  covariance  t `[]` -> `[D, D]` Cov[x | x_t] of an example's D numbers, where it is
              known and does not depend on x_t, as of Gaussian data; None is 0, the
              smaller of DDPM's variances

What is known of x_t is drawn as the process draws it. Put in its place at each time it
is `replacement`, which is wrong at any number of steps: what is not known was drawn
without it. `repaint` goes back and forth between two times until they agree, nearly.
`particles`, in a module of its own, is right in the limit. Masks are arrays: one
program does for all.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gm_jax import base, denoisers, processes, times

Array = base.Array
Process = processes.Process
Covariance = Callable[[Array], Array]  # t [] -> [D, D]
# Streams of a step's key, far above the numbers that `split` counts by.
_KNOWN, _AGAIN = 0x6B6E6F77, 0x61676169


class Step(NamedTuple):
  """The distribution of x_s given x_t."""

  mean: Array  # as x_t
  std: Array | float  # of each number, where these are independent
  total: Array | None  # [D, D] their covariance, where they are not


def replacement(
  denoiser: denoisers.Denoiser,
  process: Process,
  key: Array,
  x: Array,
  grid: times.Grid,
  num_steps: int | Array,
  *,
  known: Array,
  observed: Array,
  covariance: Covariance | None = None,
) -> Array:
  """Samples with the known part put in, at the noise of x_t, before every step.

  Where nothing is known it is `diffusion.ancestral`.

  Source: Song et al., 2021, arXiv:2011.13456, appendix I.2.

  Args:
    denoiser: as of `diffusion.ddim`, as the next five.
    process: of x_t.
    key: `[]` typed key.
    x: `[B, ...]` at the last time.
    grid: of times.
    num_steps: N, evaluations of the denoiser.
    known: see above, as the next two.
    observed: `[B, ...]`.
    covariance: or None.

  Returns:
    `[B, ...]` data, the known part as it is.

  Raises:
    ValueError: no steps, or known or observed of another shape.
  """
  return repaint(
    denoiser, process, key, x, grid, num_steps, known=known, observed=observed,
    covariance=covariance, resamplings=1,
  )  # fmt: skip


def repaint(
  denoiser: denoisers.Denoiser,
  process: Process,
  key: Array,
  x: Array,
  grid: times.Grid,
  num_steps: int | Array,
  *,
  known: Array,
  observed: Array,
  covariance: Covariance | None = None,
  jump: int | Array = 10,
  resamplings: int | Array = 10,
) -> Array:
  """Samples by `replacement` that is undone and done again on the way.

  At every `jump`-th time x_s is noised by the process to what it was `jump` steps
  before, in one draw, and brought back, `resamplings` - 1 times: what is not known is
  drawn again beside what is. The known part is drawn anew before every step.

  Source: RePaint: Inpainting using Denoising Diffusion Probabilistic Models, Lugmayr et
  al., 2022, arXiv:2201.09865, section 4.2. In the authors' code the first step goes
  without the known part, and what is returned has the model's own in its place.

  Args:
    denoiser: as of `diffusion.ddim`, as the next five.
    process: of x_t.
    key: `[]` typed key.
    x: `[B, ...]` at the last time.
    grid: of times.
    num_steps: N; `num_evaluations` says how often the denoiser is evaluated.
    known: see above, as the next two.
    observed: `[B, ...]`.
    covariance: or None.
    jump: steps that are undone at once; of N or more nothing is.
    resamplings: how often each of these is done; 1 is `replacement`.

  Returns:
    `[B, ...]` data, the known part as it is.

  Raises:
    ValueError: no steps, jumps or resamplings, or known or observed of another shape.
  """
  check_shapes(x.shape, known, observed)
  check_counts(num_steps=num_steps, jump=jump, resamplings=resamplings)

  def time_of(level):  # the time at which so many steps are to be done
    return jnp.asarray(grid(num_steps - level, num_steps), x.dtype)

  def moved(own, x, t, s):
    z = jax.random.normal(jax.random.fold_in(own, _KNOWN), x.shape, x.dtype)
    noised = process.alpha(t) * known + process.sigma(t) * z
    x = jnp.where(observed, noised, x)
    denoised = denoiser(x, jnp.full(len(x), t, x.dtype))
    step = reverse_step(process, covariance, denoised, x, t, s)
    return step.mean + spread(step, jax.random.normal(own, x.shape, x.dtype))

  def body(i, x):
    level, again = _level(i, num_steps, jump, resamplings)
    own, t = jax.random.fold_in(key, i), time_of(level)
    below = time_of(jnp.maximum(level - jump, 1))
    z = jax.random.normal(jax.random.fold_in(own, _AGAIN), x.shape, x.dtype)
    # x_t given x_below, which stands for `jump` steps of the process.
    variance = process.sigma(t) ** 2 * _shrunk(process, t, below)
    noised = process.alpha(t) / process.alpha(below) * x + jnp.sqrt(variance) * z
    return moved(own, jnp.where(again, noised, x), t, time_of(level - 1))

  last = num_evaluations(num_steps, jump=jump, resamplings=resamplings) - 1
  x = jax.lax.fori_loop(0, last, body, x)
  x = moved(jax.random.fold_in(key, last), x, time_of(1), None)
  return jnp.where(observed, known, x)


def num_evaluations(
  num_steps: int | Array, *, jump: int | Array = 10, resamplings: int | Array = 10
) -> int | Array:
  """Counts the evaluations of the denoiser by `repaint`.

  N + M (resamplings - 1) jump, with M = floor((N - 1) / jump) times to go back from:
  2,410 at the paper's 250, 10 and 10, beside 2,160 steps of noise.

  Args:
    num_steps: N.
    jump: steps that are undone at once.
    resamplings: how often each of these is done.

  Returns:
    The number, an int or `[]` of traced numbers.
  """
  return num_steps + (num_steps - 1) // jump * (resamplings - 1) * jump


def _level(i, num_steps, jump, resamplings):
  """The steps that are to be done at the i-th evaluation, and if x is noised before.

  From N down to the first stop; then `jump` steps at a time, of which at every stop
  `resamplings` - 1 begin with a jump back. The stops are 1 + m jump <= N - jump.
  """
  stops = (num_steps - 1) // jump
  top = 1 + (stops - 1) * jump
  after = i - (num_steps - top)
  turn, inside = after // jump, after % jump
  stop, again = top - turn // resamplings * jump, turn % resamplings < resamplings - 1
  again &= (after >= 0) & (stops > 0)
  level = jnp.where(again, stop + jump, stop) - inside
  early = (after < 0) | (stops == 0)
  return jnp.where(early, num_steps - i, level), again & (inside == 0)


def reverse_step(
  process: Process,
  covariance: Covariance | None,
  denoised: Array,
  x: Array,
  t: Array,
  s: Array | None,
) -> Step:
  """The distribution of x_s given x_t.

  Args:
    process: of x_t.
    covariance: see above, or None.
    denoised: `[..., *shape]` D(x_t, t).
    x: `[..., *shape]` x_t.
    t: `[]` its time.
    s: `[]` an earlier time, or None for the data themselves.

  Returns:
    The distribution, of each example.
  """
  if s is None:
    mean, part, variance = denoised, 1.0, 0.0
  else:
    shrunk = _shrunk(process, t, s)
    part, variance = process.alpha(s) * shrunk, process.sigma(s) ** 2 * shrunk
    kept = jnp.sqrt(process.sigma(s) ** 2 - variance)
    mean = process.alpha(s) * denoised
    mean += kept * denoisers.noise(process, denoised, x, t)
  if covariance is None:
    return Step(mean, jnp.sqrt(variance), None)
  own = covariance(t)
  return Step(mean, 0.0, part**2 * own + variance * jnp.eye(len(own), dtype=x.dtype))


def spread(step: Step, z: Array) -> Array:
  """Gives independent normal numbers the covariance of a step.

  Args:
    step: of x_s given x_t.
    z: `[..., *shape]` standard normal numbers.

  Returns:
    `[..., *shape]`.
  """
  if step.total is None:
    return step.std * z
  factor = jnp.linalg.cholesky(step.total)
  return (z.reshape(-1, len(factor)) @ factor.T).reshape(z.shape)


def check_shapes(shape: tuple[int, ...], known: Array, observed: Array) -> None:
  """Raises ValueError unless what is known and its mask are of x's shape.

  Args:
    shape: of x.
    known: data.
    observed: where they are known.
  """
  for name, a in (('known', known), ('observed', observed)):
    if a.shape != tuple(shape):
      raise ValueError(f'{name} must be {list(shape)}, as x is, got {list(a.shape)}')


def check_counts(**counts: int | Array) -> None:
  """Raises ValueError for a number below 1, unless it is traced.

  Args:
    **counts: by name.
  """
  for name, value in counts.items():
    if isinstance(value, int) and value < 1:
      raise ValueError(f'{name} must be >= 1, got {value}')


def _shrunk(process: Process, t: Array, s: Array) -> Array:
  """1 - e^(lambda_t - lambda_s), without cancellation."""
  return -jnp.expm1(process.log_snr(t) - process.log_snr(s))
