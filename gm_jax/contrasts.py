"""Energies in training: a network, its chains, and what is contrasted with data.

  -grad log p(x) = grad E(x) - E_{x' ~ p} grad E(x')

The second term is taken where chains get, which begin at the data (contrastive
divergence) or go on from a `replay.Buffer`. They see the network as in evaluation, and
no gradient passes through them. What methods of energies share stands here; each has
its objective in its own file.

Source: Training Products of Experts by Minimizing Contrastive Divergence, Hinton, 2002,
Neural Computation 14; Implicit Generation and Generalization in Energy-Based Models, Du
and Mordatch, 2019, arXiv:1903.08689.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from gm_jax import base, players, replay
from gm_jax import chains as chains_lib
from gm_jax.losses import energy as losses

Array = base.Array
REPLAY = 'replay'  # in `State.extra[base.LOCAL]`


def card(chains: chains_lib.Chains) -> base.Card:
  """The card of an energy by such chains, which tells their temperature."""
  return base.Card(
    density='unnormalized', density_cost='one_pass', measure='density',
    sampling='approximate', sampling_cost='mcmc',
    training=('maximum_likelihood', 'contrastive'), latents='none',
    architecture=f'any; chains of T = {chains.temperature:.3g}',
  )  # fmt: skip


class Network(NamedTuple):
  """A player of a method of energies."""

  init: Callable  # (key, batch) -> (params, extra), with chains that begin
  # (params, extra, x [N, *shape], key=, train=) -> (outputs [N, F], extra)
  apply: Callable


def network(
  module: nn.Module,
  name: str,
  chains: chains_lib.Chains,
  *,
  shape: Sequence[int],
  num_outputs: int,
) -> Network:
  """A network whose parameters are `params[name]`, with the buffer of its chains.

  Args:
    module: (x `[N, *shape]`, train) -> `[N, F]`.
    name: of the player.
    chains: which may keep a buffer, in `extra[base.LOCAL]`.
    shape: of an example.
    num_outputs: F.

  Returns:
    The functions, which raise ValueError where x has another shape or the module does
    not return [N, F].
  """
  shape = tuple(shape)

  def init(key, batch):
    module_key, key = jax.random.split(key)
    params, state = players.init(module, module_key, batch['x'][:2])
    extra = {}
    if chains.size is not None:
      draw = functools.partial(chains_lib.begun, chains, shape=shape)
      extra = {base.LOCAL: {REPLAY: replay.filled(draw, key, chains.size)}}
    return {name: params}, players.with_collections(extra, {name: state})

  def apply(params, extra, x, *, key=None, train=False):
    _check_shape(x, shape)
    state = players.collections(extra, name)
    out, state = players.apply(module, params[name], state, x, key=key, train=train)
    if out.shape != (len(x), num_outputs):
      raise ValueError(f'the {name} must return [B, {num_outputs}], got {out.shape}')
    return out, players.with_collections(extra, {name: state})

  return Network(init, apply)


def _check_shape(x, shape):
  if x.shape[1:] != shape:
    raise ValueError(f'x must be [B, {", ".join(map(str, shape))}], got {x.shape}')


def negatives(
  chains: chains_lib.Chains,
  energy: chains_lib.Energy,
  key: Array,
  data: Array,
  extra: dict,
) -> tuple[Array, dict, Array]:
  """Chains that a training step contrasts with its data.

  Args:
    chains: how.
    energy: `[N, ...]` -> `[N]` nats, of constant parameters.
    key: `[]` typed key.
    data: `[B, ...]`.
    extra: of the state.

  Returns:
    `[B, ...]` where chains got, the extra with these in their buffer, and `[B]` the
    mean acceptance.

  Raises:
    ValueError: a buffer of fewer chains than the data's, or of another shape.
  """
  start_key, noise_key, key = jax.random.split(key, 3)
  if chains.size is None:
    x, acceptance = chains_lib.run(chains, energy, key, data)
    return x, extra, acceptance
  buffer = extra[base.LOCAL][REPLAY]
  _check_shape(data, buffer.chains.shape[1:])
  fresh = chains_lib.begun(chains, noise_key, len(data), data.shape[1:])
  index, x = replay.starts(buffer, start_key, fresh, rate=chains.rate)
  x, acceptance = chains_lib.run(chains, energy, key, x)
  held = {**extra[base.LOCAL], REPLAY: replay.put(buffer, index, x)}
  return x, {**extra, base.LOCAL: held}, acceptance


def check_objective(weight: float, input_noise: float, gap_limit: float | None) -> None:
  """Raises ValueError for numbers of an objective that make no sense.

  Args:
    weight: of squared energies, >= 0.
    input_noise: standard deviation, >= 0.
    gap_limit: of the energies' gap, > 0 or None.
  """
  for name, number in {'weight': weight, 'input_noise': input_noise}.items():
    if not number >= 0:
      raise ValueError(f'{name} must be >= 0, got {number}')
  if gap_limit is not None and not gap_limit > 0:
    raise ValueError(f'gap_limit must be > 0, or None for no limit, got {gap_limit}')


def contrast(
  data_energy: Array, negative_energy: Array, *, weight: float, gap_limit: float | None
) -> tuple[Array, dict]:
  """The loss of energies at data and where chains got, and its metrics.

  mean of E(x) - E(x') + w (E(x)^2 + E(x')^2)

  The gap of the two means is small as long as chains keep up with the energy. One that
  is far larger, either way, is how such training runs off.

  Args:
    data_energy: `[B]` nats.
    negative_energy: `[B]` nats.
    weight: w.
    gap_limit: of the gap's size, beyond which the run has diverged; None for no limit.

  Returns:
    `[]`, and metrics.
  """
  gap = losses.contrastive_divergence(data_energy, negative_energy).mean()
  metrics = {'energy': data_energy.mean(), 'energy_gap': gap}
  if gap_limit is not None:
    beyond = jnp.abs(gap) > gap_limit
    metrics[f'{base.DIVERGED}_energy_gap'] = beyond.astype(gap.dtype)
  penalty = losses.squared_energy(data_energy, negative_energy).mean()
  return gap + weight * penalty, metrics


def sampler(
  chains: chains_lib.Chains,
  energy: Callable,
  *,
  shape: Sequence[int],
  choose: Callable,
) -> tuple[Callable, Callable]:
  """Samples: chains of the buffer that go on, or begin at noise.

  Options: `num_steps` and `step_size` of `run`; `rate` at which samples begin at noise,
  as all do where there is no buffer.

  Args:
    chains: how.
    energy: (model, x `[N, *shape]`, condition) -> `[N]` nats.
    shape: of an example.
    choose: (model, key, held `[N, *shape]`, num, condition) -> `[num]` places of chains
      to go on from.

  Returns:
    `sample`, as in `base.Method`, and the query `sample_info`, with `[num]` each of
    `energy` and `acceptance`.
  """
  steps = chains.sampling_steps or chains.num_steps

  def sample_info(
    model, key, num, *, condition=None,
    num_steps=steps, step_size=chains.step_size, rate=0.0,
  ):  # fmt: skip
    chains_lib.checked(chains._replace(rate=rate))
    noise_key, rate_key, place_key, key = jax.random.split(key, 4)
    x = chains_lib.begun(chains, noise_key, num, shape)
    if chains.size is not None:
      held = model.extra[base.LOCAL][REPLAY].chains
      index = choose(model, place_key, held, num, condition)
      anew = jax.random.bernoulli(rate_key, rate, (num,))
      x = jnp.where(anew.reshape(-1, *[1] * len(shape)), x, held[index])
    of = functools.partial(energy, model, condition=condition)
    sizes = {'num_steps': num_steps, 'step_size': step_size}
    x, acceptance = chains_lib.run(chains, of, key, x, **sizes)
    return x, {'energy': of(x), 'acceptance': acceptance}

  def sample(
    model, key, num, *, condition=None,
    num_steps=steps, step_size=chains.step_size, rate=0.0,
  ):  # fmt: skip
    options = {'num_steps': num_steps, 'step_size': step_size, 'rate': rate}
    return sample_info(model, key, num, condition=condition, **options)[0]

  return sample, sample_info


def any_of(model: base.Model, key: Array, held: Array, num: int, condition) -> Array:
  """Places `[num]` of chains at random, in turn where there are fewer: a `choose`."""
  del model, condition
  index = replay.places(replay.Buffer(held), key, len(held))
  return index[jnp.arange(num) % len(held)]
