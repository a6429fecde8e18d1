"""Chains of an energy: where they begin, how they move, at what temperature.

  x <- x - s grad E(x) + sqrt(2 s T) xi

As s goes to 0 this leaves exp(-E / T) invariant, and decided by Metropolis, as `mala`
does, it does so at any s. T is the temperature of the chains, and the model that they
contrast with data: where training has ended exp(-E / T), and not exp(-E), is like the
data's density. Published chains name a noise scale n beside the step, which is
T = n^2 / (2 s): `langevin.implied_temperature`. Theirs is so small that they climb, and
stop where the number of steps leaves them: what they reach is no draw from exp(-E / T)
either. For a density take T = 1.

Source: Implicit Generation and Generalization in Energy-Based Models, Du and Mordatch,
2019, arXiv:1903.08689; of temperatures see `gm_jax.samplers.langevin`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gm_jax import base, priors
from gm_jax.samplers import langevin

Array = base.Array
Energy = Callable[[Array], Array]  # [N, ...] -> [N] nats


class Chains(NamedTuple):
  """Numbers of chains, as `checked` has them, and their transition."""

  noise: priors.Prior  # (key, num) -> [num, D], where chains begin
  num_steps: int
  step_size: float  # s
  temperature: float = 1.0  # T
  # (log_prob, key, x, step_size=) -> (x, mcmc.Info): or `langevin.mala`
  transition: Callable = langevin.langevin
  largest: float | None = None  # of each number of the energy's gradient
  bounds: tuple[float, float] | None = None  # of each number of x
  size: int | None = 10_000  # N of the buffer; None: chains begin at the data
  rate: float = 0.05  # at which chains of the buffer begin afresh
  sampling_steps: int | None = None  # of samples if none are named; None: num_steps


def checked(chains: Chains) -> Chains:
  """The chains.

  Args:
    chains: of numbers.

  Returns:
    They themselves.

  Raises:
    ValueError: a number of steps or of chains below 1, a step size, temperature or
      largest gradient <= 0, a rate outside [0, 1], or bounds that hold nothing.
  """
  sizes = {'num_steps': chains.num_steps, 'sampling_steps': chains.sampling_steps}
  for name, number in (sizes | {'size': chains.size}).items():
    if number is not None and number < 1:
      raise ValueError(f'{name} of chains must be >= 1, got {number}')
  for name in ('step_size', 'temperature', 'largest'):
    number = getattr(chains, name)
    if number is not None and not number > 0:
      raise ValueError(f'{name} of chains must be > 0, got {number}')
  if not 0 <= chains.rate <= 1:
    raise ValueError(f'rate of chains must be in [0, 1], got {chains.rate}')
  if chains.bounds is not None and not chains.bounds[0] < chains.bounds[1]:
    raise ValueError(f'bounds of chains must be (low, high), got {chains.bounds}')
  return chains


def begun(chains: Chains, key: Array, num: int, shape: Sequence[int]) -> Array:
  """Noise `[num, *shape]`, where chains begin."""
  return chains.noise(key, num).reshape(num, *shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def clipped(x: Array, largest: float) -> Array:
  """x, through which each number of a gradient is cut to [-largest, largest]."""
  del largest
  return x


clipped.defvjp(
  lambda x, largest: (x, None), lambda largest, _, g: (jnp.clip(g, -largest, largest),)
)


def run(
  chains: Chains,
  energy: Energy,
  key: Array,
  x: Array,
  *,
  num_steps: int | None = None,
  step_size: float | None = None,
) -> tuple[Array, Array]:
  """Moves chains.

  Of bounds, a step that would pass them ends on them, and `mala` rejects it.

  Args:
    chains: how.
    energy: `[N, ...]` -> `[N]` nats, differentiable.
    key: `[]` typed key.
    x: `[N, ...]` where they are, within the bounds.
    num_steps: steps, the chains' own if None.
    step_size: s, the chains' own if None.

  Returns:
    `[N, ...]` where they are afterwards, and `[N]` the mean acceptance.

  Raises:
    ValueError: fewer steps than 1, a step size <= 0, or an energy that is not [N].
  """
  num_steps = chains.num_steps if num_steps is None else num_steps
  step_size = chains.step_size if step_size is None else step_size
  checked(chains._replace(num_steps=num_steps, step_size=step_size))
  low, high = chains.bounds or (-jnp.inf, jnp.inf)
  temperature, largest = chains.temperature, chains.largest

  def log_prob(x):
    inside = ((low <= x) & (x <= high)).reshape(len(x), -1).all(axis=1)
    # What is cut is the gradient of E / T.
    value = -energy(x if largest is None else clipped(x, largest / temperature))
    value = value / temperature
    return value if chains.bounds is None else jnp.where(inside, value, -jnp.inf)

  def step(x, key):
    x, info = chains.transition(log_prob, key, x, step_size=step_size * temperature)
    return jnp.clip(x, low, high), info.acceptance

  x, acceptance = jax.lax.scan(step, x, jax.random.split(key, num_steps))
  return x, acceptance.mean(axis=0)
