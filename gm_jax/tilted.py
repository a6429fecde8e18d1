"""Energies beside a noise of known density: what can be asked of them, and drawn.

  E(x) = f(x) - log q(x),   Z = E_q exp(-f)

Away from data p falls as the noise q does, whatever a network makes of f there. The
estimate of Z is unbiased, so that its logarithm is low by about half of its standard
error's square, and log p too high.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from gm_jax import base, conditions, priors
from gm_jax.samplers import langevin


class Tilted(NamedTuple):
  """The energy of a network beside a noise, and its queries.

  tilt: (params, x [B, ...], train=False) -> f [B].
  sample: as in `base.Method`.
  queries: `energy`, `log_partition`, `log_prob_estimate`, `sample_info`.
  """

  tilt: Callable
  sample: Callable
  queries: dict[str, Callable]


def tilted(
  network: nn.Module, noise: priors.Density, *, shape: Sequence[int], name: str
) -> Tilted:
  """An energy whose parameters are `params[name]`.

  Samples are drawn from `num_candidates` draws of noise each, by their weights
  exp(-f), and then moved by `num_steps` of MALA of `step_size`; both are exact in the
  limit. Estimates take `num_samples` draws of noise; all examples share their error.

  Args:
    network: f, (x `[B, *shape]`, train) -> `[B, 1]`, differentiable in x.
    noise: q, of `[num, D]`, D = prod(shape), with mass wherever data have.
    shape: of an example.
    name: of the network's parameters.

  Returns:
    The functions, which raise ValueError where x has another shape or the network does
    not return [B, 1].
  """
  shape, dim = tuple(shape), math.prod(shape)

  def tilt(params, x, train=False):
    if x.shape[1:] != shape:
      raise ValueError(f'x must be [B, {", ".join(map(str, shape))}], got {x.shape}')
    f = network.apply(params[name], x, train=train)
    if f.shape != (len(x), 1):
      raise ValueError(f'the energy must be [B, 1], got {f.shape} of {x.shape}')
    return f[:, 0]

  def energy(model, key, x, *, condition=None):
    conditions.check_unconditional(condition)
    return tilt(model.params, x) - noise.log_prob(x.reshape(len(x), dim))

  def log_partition(model, key, *, condition=None, num_samples=50_000):
    conditions.check_unconditional(condition)
    if num_samples < 2:
      raise ValueError(f'num_samples must be >= 2, for an error, got {num_samples}')
    log_weights = -tilt(model.params, noise(key, num_samples).reshape(-1, *shape))
    value = jax.nn.logsumexp(log_weights) - math.log(num_samples)
    error = jnp.exp(log_weights - value).std(ddof=1) / math.sqrt(num_samples)
    return value, error

  def log_prob_estimate(model, key, x, *, condition=None, num_samples=50_000):
    value = -energy(model, key, x, condition=condition)
    log_z, error = log_partition(model, key, num_samples=num_samples)
    return value - log_z, jnp.broadcast_to(error, value.shape)

  def sample_info(
    model, key, num, *, condition=None, num_candidates=64, num_steps=50, step_size=0.01
  ):
    conditions.check_unconditional(condition)
    noise_key, choice_key, key = jax.random.split(key, 3)
    candidates = noise(noise_key, num * num_candidates).reshape(-1, *shape)
    log_weights = -tilt(model.params, candidates).reshape(num, num_candidates)
    chosen = jax.random.categorical(choice_key, log_weights)
    x = candidates.reshape(num, num_candidates, *shape)[jnp.arange(num), chosen]
    log_prob = lambda x: -energy(model, None, x)  # noqa: E731

    def step(x, key):
      x, info = langevin.mala(log_prob, key, x, step_size=step_size)
      return x, info.acceptance

    x, acceptance = jax.lax.scan(step, x, jax.random.split(key, num_steps))
    return x, {'acceptance': acceptance.mean(axis=0)}

  def sample(
    model, key, num, *, condition=None, num_candidates=64, num_steps=50, step_size=0.01
  ):
    sizes = {'num_candidates': num_candidates, 'num_steps': num_steps}
    sizes |= {'condition': condition, 'step_size': step_size}
    return sample_info(model, key, num, **sizes)[0]

  found = energy, log_partition, log_prob_estimate, sample_info
  return Tilted(tilt, sample, {query.__name__: query for query in found})


def card(*training: base.Training) -> base.Card:
  """The card of a method of such an energy.

  Args:
    *training: how it is trained.

  Returns:
    The card.
  """
  return base.Card(
    density='estimate', density_cost='one_pass', measure='density',
    sampling='approximate', sampling_cost='mcmc', training=training,
    latents='none', architecture='any',
  )  # fmt: skip
