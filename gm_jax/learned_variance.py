"""The bound of a diffusion model of T steps whose reverse variances are outputs.

  p(x_{i-1} | x_i) = N(mean(x_i, D), exp(f ln beta_i + (1 - f) ln v_i)),   i = 1..T
  -log p(x) <= KL(q(x_T | x) || N(0, I)) + E[sum_i L_i],   L_1 = -log p(x | x_1),
  L_i = KL(q(x_{i-1} | x_i, x) || p(x_{i-1} | x_i)) for i > 1

beta_i is the variance of x_i given x_{i-1} and v_i that of x_{i-1} given x_i and x,
whose v_1 = 0 gives way to v_2. f, a number for each of x, is cut nowhere.

Integers in [0, K) stand evenly on [-1, 1], and p(x | x_1) is the Gaussian's mass
between the midpoints of levels, exactly, where the source approximates its distribution
function. Real data have a density.

Source: Improved Denoising Diffusion Probabilistic Models, Nichol and Dhariwal, 2021,
arXiv:2102.09672, equations 3 to 7 and 15.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gm_jax import base, denoisers, processes
from gm_jax.losses import likelihood, variational

Array = base.Array
Predict = Callable[[Array, Array], tuple[Array, Array]]  # (x_i, t [B]) -> F, f


class FirstHalf(nn.Module):
  """The first half of a network's outputs, as many as x has channels."""

  network: nn.Module

  def __call__(self, x, t, condition=None, *, train: bool = False) -> Array:
    """Maps x `[B, ..., C]` to the same shape."""
    return halves(self.network(x, t, condition, train=train), x)[0]


def halves(output: Array, x: Array) -> tuple[Array, Array]:
  """Returns the two halves of `[B, ..., 2 C]`, each of the shape of x.

  Raises:
    ValueError: another shape.
  """
  wanted = *x.shape[:-1], 2 * x.shape[-1]
  if output.shape != wanted:
    raise ValueError(f'the network must give {wanted}, got {output.shape}')
  return tuple(jnp.split(output, 2, axis=-1))


class Posterior(NamedTuple):
  """The mean's part of x in x_{i-1} given x_i and x, ln v_i and ln beta_i, `[T]`."""

  of_data: Array
  log_small: Array
  log_large: Array


class Chain(NamedTuple):
  """T steps, and how outputs and data are read.

  form: what F is.
  num_levels: K of integers, None of real data.
  bound: to which the absolute values of D are cut; may be infinite.
  """

  process: processes.Process
  posterior: Posterior
  form: denoisers.Parameterization
  num_levels: int | None
  bound: float


def posterior(betas: Sequence[float]) -> Posterior:
  """Returns the constants of T steps, made in float64.

  Args:
    betas: `[T]` in (0, 1), T >= 2.
  """
  betas = np.asarray(betas, np.float64)
  after = -np.expm1(np.cumsum(np.log1p(-betas)))  # sigma_i^2
  before = np.concatenate([[0.0], after[:-1]])
  small = betas * before / after
  small[0] = small[1]
  of_data = np.sqrt(1 - before) * betas / after
  arrays = of_data, np.log(small), np.log(betas)
  return Posterior(*(jnp.asarray(v, jnp.float32) for v in arrays))


def centered(chain: Chain, x: Array) -> Array:
  """Returns what is noised, `[B, ...]`: real data as they are, integers on [-1, 1].

  Raises:
    ValueError: integers where there should be none, or none where there should be.
  """
  if jnp.issubdtype(x.dtype, jnp.integer) != (chain.num_levels is not None):
    raise ValueError(f'num_levels is {chain.num_levels}, and x is of {x.dtype}')
  if chain.num_levels is None:
    return x
  top = chain.num_levels - 1
  return (2.0 * x - top) / top


def levels(chain: Chain, v: Array) -> Array:
  """Returns the data `[B, ...]` of what is noised, of integers the nearest."""
  if chain.num_levels is None:
    return v
  top = chain.num_levels - 1
  return jnp.clip(jnp.round(0.5 * (v + 1.0) * top), 0, top).astype(jnp.int32)


def terms(
  chain: Chain, predict: Predict, key: Array, x: Array, i: Array
) -> tuple[Array, Array]:
  """L_i, whose means have no gradient, and the errors of F, of one noise each.

  Args:
    chain: the steps.
    predict: (x_i, t `[B]`) -> F and f, as x.
    key: of the noise.
    x: `[B, ...]` data.
    i: `[B]` integers, 1 to T.

  Returns:
    L_i, `[B]` nats; and the mean squared errors, `[B]`.
  """
  process, form = chain.process, chain.form
  v, t = centered(chain, x), i / len(chain.posterior.of_data)
  noise = jax.random.normal(key, v.shape, v.dtype)
  x_t = processes.noised(process, v, noise, t)
  output, fraction = predict(x_t, t)
  error = jnp.square(output - denoisers.target(form, process, v, noise, t))
  denoised = denoisers.data(form, process, jax.lax.stop_gradient(output), x_t, t)
  denoised = jnp.clip(denoised, -chain.bound, chain.bound)
  of_data, small, large = (processes.along(a[i - 1], v) for a in chain.posterior)
  log_std = 0.5 * (fraction * large + (1 - fraction) * small)
  # Both means have the same part of x_i.
  own = of_data * v, jnp.broadcast_to(0.5 * small, v.shape)
  kl = variational.gaussian_kl_each(*own, of_data * denoised, log_std)
  if chain.num_levels is None:
    first = variational.gaussian_log_prob_each(denoised, log_std, v)
  else:
    first = likelihood.discretized_gaussian_each(
      denoised, log_std, x, num_levels=chain.num_levels
    )
  each = jnp.where(processes.along(i, v) == 1, -first, kl)
  return each.reshape(len(v), -1).sum(1), error.reshape(len(v), -1).mean(1)


def bound(
  chain: Chain, predict: Predict, key: Array, x: Array, *, num_times: int
) -> Array:
  """The upper bound of -log p(x), unbiased: L_1, and the others at some steps.

  Args:
    chain: the steps.
    predict: as of `terms`.
    key: of the noise and the steps.
    x: `[B, ...]` data.
    num_times: steps an example but the first, spread evenly; T - 1 is all of them.

  Returns:
    `[B]` nats.
  """
  if num_times < 1:
    raise ValueError(f'num_times must be >= 1, got {num_times}')
  num, v = len(chain.posterior.of_data), centered(chain, x)
  first_key, u_key, key = jax.random.split(key, 3)
  first, _ = terms(chain, predict, first_key, x, jnp.ones(len(x), jnp.int32))
  u = jax.random.uniform(u_key, (len(x),))

  def once(inputs):
    key, later = inputs
    i = 2 + jnp.floor((u + later) % 1.0 * (num - 1)).astype(jnp.int32)
    return terms(chain, predict, key, x, jnp.minimum(i, num))[0]

  inputs = jax.random.split(key, num_times), jnp.arange(num_times) / num_times
  others = (num - 1) * jax.lax.map(once, inputs).mean(axis=0)
  alpha, sigma = (f(jnp.ones(())) for f in (chain.process.alpha, chain.process.sigma))
  log_sigma = jnp.broadcast_to(jnp.log(sigma), v.shape)
  return first + others + variational.standard_normal_kl(alpha * v, log_sigma)
