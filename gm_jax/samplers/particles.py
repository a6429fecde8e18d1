"""In-painting by a particle filter: completions weighed by what is known.

What is known is as in `inpainting`; the filter is right in the limit of many particles.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gm_jax import base, denoisers, processes, times
from gm_jax.samplers import inpainting

Array = base.Array
# Streams of a step's key, far above the numbers that `split` counts by.
_KNOWN, _CHOICE = 0x6B6E6F77, 0x63686F69


class Particles(NamedTuple):
  """Completions of every example, with weights."""

  x: Array  # [P, B, ...]
  log_weights: Array  # [P, B] nats; their exponentials sum to one over P
  effective_size: Array  # [B] the least of all steps, from 1 to P


def particles(
  denoiser: denoisers.Denoiser,
  process: processes.Process,
  key: Array,
  x: Array,
  grid: times.Grid,
  num_steps: int | Array,
  *,
  known: Array,
  observed: Array,
  covariance: inpainting.Covariance | None = None,
  threshold: float = 0.5,
) -> Particles:
  """Samples many completions at once, weighed by what is known.

  What is known goes from data to noise and is one path for all particles. Each goes
  back from noise beside it; a step from t to s multiplies its weight by the density of
  the known part of x_s given all of its x_t, and then draws the rest of x_s given both.
  Particles are drawn anew by their weights where these have become uneven.

  Of many particles, each by its weight, it is a draw from the rest given what is known,
  if the steps are those of the process turned back: with the exact `covariance`, or in
  the limit of many steps. Without it the last step weighs nothing.

  Source: Diffusion Probabilistic Modeling of Protein Backbones in 3D for the
  Motif-Scaffolding Problem, Trippe et al., 2023, arXiv:2206.04119, SMCDiff.

  Args:
    denoiser: as of `diffusion.ddim`, as the next five; mapped over the particles.
    process: of x_t.
    key: `[]` typed key.
    x: `[P, B, ...]` at the last time.
    grid: of times.
    num_steps: N, evaluations of the denoiser for every particle.
    known: see above, as the next two.
    observed: `[B, ...]`.
    covariance: or None.
    threshold: fraction of P, below which an effective size has particles drawn anew.

  Returns:
    The particles.

  Raises:
    ValueError: no steps, or known or observed of another shape.
  """
  inpainting.check_shapes(x.shape[1:], known, observed)
  inpainting.check_counts(num_steps=num_steps)
  each = jax.vmap(denoiser, in_axes=(0, None))

  def time_of(i):
    return jnp.asarray(grid(i, num_steps), x.dtype)

  def noise(i):
    own = jax.random.fold_in(jax.random.fold_in(key, i), _KNOWN)
    return jax.random.normal(own, known.shape, x.dtype)

  def moved(i, x, t, s, value, weights):
    own = jax.random.fold_in(key, i)
    denoised = each(x, jnp.full(len(known), t, x.dtype))
    step = inpainting.reverse_step(process, covariance, denoised, x, t, s)
    mean, conditional = step.mean, _conditional(step, observed)
    if s is not None or covariance is not None:
      log_prob = conditional.log_prob(value, mean)
      mean, weights = _resampled(own, mean, log_prob, weights, threshold)
    z = jax.random.normal(own, x.shape, x.dtype)
    return conditional.draw(z, value, mean), weights

  def body(i, inputs):
    x, value, weights = inputs
    t, s = time_of(i), time_of(i + 1)
    # What is known at s, given it at t and the data: one path, backwards.
    path = inpainting.reverse_step(process, None, known, value, t, s)
    value = path.mean + path.std * noise(i)
    x, weights = moved(i, x, t, s, value, weights)
    return x, value, weights

  num, size = x.shape[:2]
  first = time_of(0)
  value = process.alpha(first) * known + process.sigma(first) * noise(num_steps)
  weights = jnp.full((num, size), -math.log(num), x.dtype), jnp.full(size, num, x.dtype)
  inputs = jnp.where(observed, value, x), value, weights
  last = num_steps - 1
  x, _, weights = jax.lax.fori_loop(0, last, body, inputs)
  x, weights = moved(last, x, time_of(last), None, known, weights)
  return Particles(jnp.where(observed, known, x), *weights)


def choose(key: Array, found: Particles) -> Array:
  """Draws one particle of each example, by the weights.

  Args:
    key: `[]` typed key.
    found: P particles of B examples.

  Returns:
    `[B, ...]` data.
  """
  index = jax.random.categorical(key, found.log_weights, axis=0)
  return jax.vmap(lambda x, i: x[i], (1, 0))(found.x, index)


def effective_size(log_weights: Array) -> Array:
  """Computes how many equal weights would vary an average as much, 1 / sum w^2.

  Args:
    log_weights: `[P, ...]` nats, w their exponentials, which sum to one over P.

  Returns:
    `[...]` from 1 to P.
  """
  return jnp.exp(-jax.nn.logsumexp(2 * log_weights, axis=0))


def systematic(key: Array, log_weights: Array) -> Array:
  """Draws P of P particles, each floor(P w) or ceil(P w) times.

  The points (u + i) / P, of one uniform u, are looked up in the weights' running sum.

  Source: Monte Carlo Filter and Smoother for Non-Gaussian Nonlinear State Space Models,
  Kitagawa, 1996, Journal of Computational and Graphical Statistics 5(1).

  Args:
    key: `[]` typed key.
    log_weights: `[P]` nats, w their exponentials, which sum to one.

  Returns:
    `[P]` indices that do not fall.
  """
  num = len(log_weights)
  points = (jax.random.uniform(key) + jnp.arange(num)) / num
  total = jnp.cumsum(jnp.exp(log_weights))
  index = jnp.searchsorted(total / total[-1], points, side='right')
  return jnp.minimum(index, num - 1)


def _resampled(key, mean, log_prob, weights, threshold):
  """Means of particles `[P, B, ...]` and their weights, after another factor of these.

  Args:
    key: of the choice.
    mean: of the particles.
    log_prob: `[P, B]` the factor.
    weights: log-weights `[P, B]` and the least effective size `[B]` so far.
    threshold: fraction of P.
  """
  num = len(mean)
  log_weights = jax.nn.log_softmax(weights[0] + log_prob, axis=0)
  size = effective_size(log_weights)
  keys = jax.random.split(jax.random.fold_in(key, _CHOICE), len(size))
  index = jax.vmap(systematic, (0, 1), 1)(keys, log_weights)
  index = jnp.where(size < threshold * num, index, jnp.arange(num)[:, None])
  log_weights = jnp.where(size < threshold * num, -math.log(num), log_weights)
  index = index.reshape(index.shape + (1,) * (mean.ndim - 2))
  mean = jnp.take_along_axis(mean, index, axis=0)
  return mean, (log_weights, jnp.minimum(weights[1], size))


class _Conditional(NamedTuple):
  """The distribution of x_s given x_t, about other means too: by its known part."""

  log_prob: Callable[[Array, Array], Array]  # (value [B, ...], mean [P, B, ...]) [P, B]
  draw: Callable[[Array, Array, Array], Array]  # (z, value, mean) -> [P, B, ...]


def _conditional(step: inpainting.Step, observed: Array) -> _Conditional:
  if step.total is not None:
    return _dependent(step, observed)

  def log_prob(value, mean):
    terms = jax.scipy.stats.norm.logpdf(value, mean, step.std)
    return jnp.where(observed, terms, 0.0).sum(axis=tuple(range(2, mean.ndim)))

  def draw(z, value, mean):
    return jnp.where(observed, value, mean + step.std * z)

  return _Conditional(log_prob, draw)


def _dependent(step: inpainting.Step, observed: Array) -> _Conditional:
  """`_conditional` where the numbers of an example depend on each other."""
  flat = observed.reshape(len(observed), -1)
  both = flat[:, :, None] & flat[:, None, :]
  # The covariance of the known part, with ones where the rest is: it stays apart.
  own = jnp.where(both, step.total, jnp.eye(flat.shape[1], dtype=step.total.dtype))
  factor = jnp.linalg.cholesky(own)  # [B, D, D]

  def solved(gap):  # of what is known, [P, B, D]
    gap = jnp.where(observed, gap, 0.0).reshape(*gap.shape[:2], -1, 1)
    solve = jax.vmap(lambda d: jax.scipy.linalg.cho_solve((factor, True), d))
    return gap[..., 0], solve(gap)[..., 0]

  def log_prob(value, mean):
    gap, scaled = solved(value - mean)
    log_det = 2 * jnp.log(jnp.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
    constant = math.log(2 * math.pi) * flat.sum(axis=1)
    return -0.5 * (jnp.sum(gap * scaled, axis=2) + log_det + constant)

  def draw(z, value, mean):
    # All of x_s is drawn, then moved by how far its known part is from the value.
    x = mean + inpainting.spread(step, z)
    _, scaled = solved(value - x)
    return jnp.where(observed, value, x + (scaled @ step.total).reshape(x.shape))

  return _Conditional(log_prob, draw)
