"""Markov chains that leave a density invariant, known up to its normalization.

A transition is a function of a batch of chains that know nothing of one another,

  (log_prob, key, position [N, ...]) -> (position [N, ...], information),

with log_prob: [N, ...] -> [N] nats, each number of its own row alone. It moves a chain
with the acceptance probability of Metropolis, so that the density is left as it is
whatever the step size; what the step size decides is how far the chains get. NaN moves
no chain: a proposal that is not finite, or whose density is not, is rejected.

`langevin` has transitions of the same signature that follow the gradient alone.

The step size may be adapted while chains run, towards an acceptance that is wanted.
Adapted chains leave the density invariant only in the limit: to be exact, adapt first
and sample afterwards with what was found.

  >>> import jax, jax.numpy as jnp
  >>> from gm_jax.samplers import mcmc
  >>> log_prob = lambda z: -0.5 * jnp.sum(z**2, axis=1)
  >>> z, info = mcmc.hmc(
  ...     log_prob, jax.random.key(0), jnp.ones((3, 2)), step_size=0.1, num_leapfrog=5)
  >>> print(info.accepted)
  [ True  True  True]
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
LogProb = Callable[[Array], Array]  # [N, ...] -> [N] nats, up to a constant


class Info(NamedTuple):
  """The outcome of a transition, by chain."""

  acceptance: Array  # [N] probability of the proposal, 0 where it was not finite
  accepted: Array  # [N] bool, whether the chain moved
  log_prob: Array | None  # [N] nats, at the position after; None of a score alone


class Adaptation(NamedTuple):
  """Step sizes and what they are adapted by."""

  step_size: Array  # [N]
  acceptance: Array  # [N] running mean of acceptance probabilities


def check_step_size(step_size: Array | float) -> None:
  """Raises unless step sizes are positive.

  Args:
    step_size: `[]` or `[N]`; a traced one passes.

  Raises:
    ValueError: one that is not > 0.
  """
  if not isinstance(step_size, jax.core.Tracer):
    sizes = np.asarray(step_size)
    if not (sizes > 0).all():  # NaN too
      wrong = sizes[~(sizes > 0)].flat[0]
      raise ValueError(f'step_size must be > 0, got {wrong}')


def per_chain(values: Array | float, position: Array) -> Array:
  """Numbers of chains, so that they multiply positions.

  Args:
    values: `[]` or `[N]`.
    position: `[N, ...]`.

  Returns:
    `[]` or `[N, 1, ...]`.
  """
  values = jnp.asarray(values)
  return values.reshape(values.shape + (1,) * (position.ndim - 1) * (values.ndim > 0))


def _sum(values: Array) -> Array:
  return values.reshape(len(values), -1).sum(axis=1)


def value_and_gradient(log_prob: LogProb, position: Array) -> tuple[Array, Array]:
  """The log-density of every chain, and its gradient.

  Args:
    log_prob: `[N, ...]` -> `[N]` nats, differentiable.
    position: `[N, ...]`.

  Returns:
    `[N]` and `[N, ...]`.

  Raises:
    ValueError: a log_prob that does not return [N].
  """
  value, pull = jax.vjp(log_prob, position)
  if value.shape != position.shape[:1]:
    raise ValueError(
      f'log_prob must return [N], one number a chain, got {list(value.shape)} of'
      f' {list(position.shape)}'
    )
  return value, pull(jnp.ones_like(value))[0]


def leapfrog(
  log_prob: LogProb,
  position: Array,
  momentum: Array,
  *,
  step_size: Array | float,
  num_leapfrog: int,
) -> tuple[Array, Array]:
  """Follows the Hamiltonian -log p(z) + |m|^2 / 2 by leapfrog steps of size s.

  m <- m + s/2 grad log p(z);  z <- z + s m;  m <- m + s/2 grad log p(z)

  It keeps volumes, and with the momentum reversed it goes back to where it began. The
  Hamiltonian changes by O(s^2) over a fixed time.

  Source: MCMC using Hamiltonian dynamics, Neal, 2011, arXiv:1206.1901, eq. 2.28-2.30.

  Args:
    log_prob: `[N, ...]` -> `[N]` nats, differentiable.
    position: `[N, ...]` z.
    momentum: `[N, ...]` m.
    step_size: `[]` or `[N]` s.
    num_leapfrog: steps, at least 1.

  Returns:
    `[N, ...]` position and momentum at the end.

  Raises:
    ValueError: `num_leapfrog` below 1, or a momentum of another shape.
  """
  if momentum.shape != position.shape:
    raise ValueError(
      f'momentum must be as position, {position.shape}, got {momentum.shape}'
    )
  return _trajectory(log_prob, position, momentum, step_size, num_leapfrog)[:2]


def _trajectory(log_prob, position, momentum, step_size, num_leapfrog):
  """Position and momentum of `leapfrog`, and log_prob `[N]` before and after."""
  if num_leapfrog < 1:
    raise ValueError(f'num_leapfrog must be >= 1, got {num_leapfrog}')
  size = per_chain(step_size, position)

  def step(carry, part):
    position, momentum, _ = carry
    position = position + size * momentum
    value, gradient = value_and_gradient(log_prob, position)
    return (position, momentum + part * size * gradient, value), None

  # Half steps of momentum that meet are one; the last stands alone.
  parts = jnp.ones(num_leapfrog, position.dtype).at[-1].set(0.5)
  before, gradient = value_and_gradient(log_prob, position)
  start = position, momentum + 0.5 * size * gradient, before
  (position, momentum, after), _ = jax.lax.scan(step, start, parts)
  return position, momentum, before, after


def hmc(
  log_prob: LogProb,
  key: Array,
  position: Array,
  *,
  step_size: Array | float,
  num_leapfrog: int,
) -> tuple[Array, Info]:
  """One transition of Hamiltonian Monte Carlo, of every chain.

  m ~ N(0, I);  (z', m') by `leapfrog`;  z' is accepted with probability

  min(1, exp(log p(z') - |m'|^2 / 2 - log p(z) + |m|^2 / 2)),  else z stays.

  A path whose length is about pi standard deviations of some direction only mirrors it,
  and chains mix slowly: then another number of steps is better.

  Source: Hybrid Monte Carlo, Duane et al., 1987, Physics Letters B 195; MCMC using
  Hamiltonian dynamics, Neal, 2011, arXiv:1206.1901, section 3.

  Args:
    log_prob: `[N, ...]` -> `[N]` nats up to a constant, differentiable; -inf where
      there is no density.
    key: `[]` typed key.
    position: `[N, ...]` z; a chain whose density is NaN there never moves.
    step_size: `[]` or `[N]` of leapfrog, > 0.
    num_leapfrog: leapfrog steps, at least 1.

  Returns:
    `[N, ...]` position, and `[N]` each of `Info`.

  Raises:
    ValueError: `num_leapfrog` below 1, a step size <= 0, or a log_prob that does not
      return [N].
  """
  check_step_size(step_size)
  momentum_key, accept_key = jax.random.split(key)
  momentum = jax.random.normal(momentum_key, position.shape, position.dtype)
  proposal, end, before, after = _trajectory(
    log_prob, position, momentum, step_size, num_leapfrog
  )
  kinetic = 0.5 * (_sum(jnp.square(momentum)) - _sum(jnp.square(end)))
  ratio = after - before + kinetic
  return _metropolis(accept_key, position, proposal, before, after, ratio)


def _metropolis(
  key: Array,
  position: Array,
  proposal: Array,
  before: Array,
  after: Array,
  ratio: Array,
) -> tuple[Array, Info]:
  """Accepts proposals by the logarithms of their ratios, `[N]` nats."""
  finite = jnp.isfinite(proposal).reshape(len(proposal), -1).all(axis=1)
  usable = finite & jnp.isfinite(after) & ~jnp.isnan(ratio)
  acceptance = jnp.exp(jnp.minimum(jnp.where(usable, ratio, -jnp.inf), 0.0))
  accepted = jax.random.uniform(key, acceptance.shape) < acceptance
  position = jnp.where(per_chain(accepted, position), proposal, position)
  return position, Info(acceptance, accepted, jnp.where(accepted, after, before))


def adaptation(step_size: Array, *, target: float = 0.65) -> Adaptation:
  """The adaptation before the first transition: as if the target were met.

  Args:
    step_size: `[N]`, to begin with.
    target: acceptance that is wanted.

  Returns:
    The adaptation.
  """
  return Adaptation(step_size, jnp.full_like(step_size, target))


def adapted(
  old: Adaptation,
  acceptance: Array,
  *,
  target: float = 0.65,
  increase: float = 1.02,
  decrease: float = 0.98,
  largest: float = 0.5,
  memory: float = 0.9,
) -> Adaptation:
  """The step sizes after a transition, larger where more than wanted is accepted.

  a <- memory a + (1 - memory) acceptance;  s <- min(largest, s increase) if a > target,
  else s decrease

  The running mean, and not the last probability alone, is compared: else half of the
  probabilities would come to lie above the target, and their mean elsewhere.

  Source: On the Quantitative Analysis of Decoder-Based Generative Models, Wu et al.,
  2017, arXiv:1611.04273, appendix; the numbers are those of its code.

  Args:
    old: before.
    acceptance: `[N]` of the transition, as `Info` has it.
    target: acceptance that is wanted, in (0, 1).
    increase: factor above 1.
    decrease: factor below 1.
    largest: step size at most.
    memory: of the running mean, in [0, 1).

  Returns:
    `[N]` step sizes and running means.
  """
  mean = memory * old.acceptance + (1.0 - memory) * acceptance
  factor = jnp.where(mean > target, increase, decrease)
  return Adaptation(jnp.minimum(old.step_size * factor, largest), mean)
