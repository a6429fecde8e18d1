"""Equilibrium matching: one field without time, which leads from noise down to data.

  min_f E |f(x_g) - c(g) (e - x)|^2,   x_g = g x + (1 - g) e,   g uniform in [0, 1]

e is noise, and c falls to 0 at g = 1, so that the field rests at data. It is a
regression: no chain runs in training. Samples go down f from noise, by gradient steps.

The field may be the gradient of an energy that a network gives, by `equilibrium.dot` or
another. E is low at data and rises towards noise, AND IS NO -log p(x): nothing makes
exp(-E) the density of data. It tells outliers, as the length of f does.

The minimum is f(y) = E[c(g) (e - x) | x_g = y]. As g is not told, it has to be seen in
y: it can be where dimensions are many and data lie in few of them. For data N(0.7,
0.25), of one dimension, f has a single zero, at 1.2, where all descents end.

Steps of size s towards one point take 0.2 / s to g = 0.8, by the default c, and shorten
what is left of the noise by 1 - 20 s each from there on: 120 of 0.003 leave 0.7% of it.
Descents that go on collect at ever fewer points.

Source: Equilibrium Matching: Generative Modeling with Implicit Energy-Based Models,
Wang and Du, 2025, arXiv:2510.02300; its code has steps of 0.003, and of 0.0017 with a
momentum of 0.3.
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import (
  base,
  conditions,
  denoisers,
  diffusion,
  equilibrium,
  gradient,
  processes,
  times,
)  # fmt: skip
from gm_jax.losses import denoising
from gm_jax.samplers import descent

CARD = base.Card(
  density='unnormalized', density_cost='one_pass', measure='density',
  sampling='approximate', sampling_cost='iterative', training=('regression',),
  latents='data_sized', architecture='any',
)  # fmt: skip
STEPS = descent.Steps(120, 0.003)
NO_ENERGY = {'density': 'none', 'density_cost': 'none', 'measure': 'none'}


def equilibrium_matching(
  network: nn.Module,
  tx: optax.GradientTransformation,
  *,
  shape: Sequence[int],
  energy: equilibrium.Energy | None = equilibrium.dot,
  decay: equilibrium.Decay | None = None,
  condition: conditions.Condition | None = None,
  descents: descent.Steps = STEPS,
) -> base.Method:
  """A field that rests at data, learned by regression.

  Args:
    network: F, (x `[B, *shape]`, zeros `[B]`, condition, train) -> as x.
    tx: the optimizer.
    shape: of an example.
    energy: of x and F(x), whose gradient is f; None: f is F itself.
    decay: c; None is `equilibrium.truncated()`.
    condition: of the network, or None; `optional`, it can be guided to.
    descents: steps of sampling, if none are named.

  Returns:
    The method. Queries: `score`, -f(x), at any t; `energy`, E, unless it is None;
    `sample_info`, with `gradient_norm` [num], |f| where descent ended. Options of
    sampling: `num_steps`, `step_size`, `momentum`, `guidance`.

  Raises:
    ValueError: when called, data of another shape, or a number out of range.
  """
  process, decay = processes.rectified(), decay or equilibrium.truncated()
  grid = times.even(process)
  parts = diffusion.Denoising(network, process, denoisers.FLOW, shape, grid, condition)

  def output(params, value, key=None):
    """F of x alone: its time is always 0."""
    apply = diffusion.network(parts, params, value, key)
    return lambda x: apply(diffusion.checked(parts, x), jnp.zeros(len(x), x.dtype))

  def loss_fn(params, extra, key, batch):
    t_key, noise_key, net_key, key = jax.random.split(key, 4)
    x = diffusion.checked(parts, batch['x'])

    # 1. Data on the way to noise; how far, 1 - g, is not told.
    t = times.uniform(process)(t_key, len(x))
    noise = jax.random.normal(noise_key, x.shape, x.dtype)
    x_g = processes.noised(process, x, noise, t)

    # 2. The field there, which is to vanish at data.
    value = conditions.training_embedding(condition, key, batch)
    found = equilibrium.field(energy, output(params, value, net_key))(x_g)
    target = processes.along(decay(1 - t), x) * (noise - x)
    return denoising.squared_error(found, target).mean(), (extra, {})

  def under(model, condition, num):
    value = conditions.embedded(parts.condition, condition, num)
    return equilibrium.field(energy, output(model.params, value))

  def sample_info(
    model, key, num, *, condition=None, num_steps=descents.num_steps,
    step_size=descents.step_size, momentum=descents.momentum, guidance=1.0,
  ):  # fmt: skip
    found = strong = under(model, condition, num)
    if guidance != 1.0:
      if condition is None or not parts.condition.rate:
        raise ValueError(f'guidance = {guidance:g} needs a condition that is optional')
      weak = under(model, None, num)
      found = lambda x: conditions.guided(strong(x), weak(x), guidance)  # noqa: E731
    x = jax.random.normal(key, (num, *shape))
    x = descent.descend(found, x, descent.Steps(num_steps, step_size, momentum))
    norm = jnp.linalg.norm(found(x).reshape(num, -1), axis=1)
    return x, {'gradient_norm': norm}

  @functools.wraps(sample_info)
  def sample(*args, **options):
    return sample_info(*args, **options)[0]

  def score(model, key, x, t, *, condition=None):
    del key, t
    return -under(model, condition, len(x))(x)

  def energy_of(model, key, x, *, condition=None):
    del key
    value = conditions.embedded(parts.condition, condition, len(x))
    return energy(x, output(model.params, value)(x))

  queries, card = {'score': score, 'sample_info': sample_info}, CARD
  if energy is None:
    card = card._replace(**NO_ENERGY)
  else:
    queries['energy'] = energy_of
  return gradient.from_loss(
    loss_fn, tx, diffusion.init(parts), sample=sample, queries=queries,
    card=card._replace(condition=conditions.names(condition)),
  )  # fmt: skip
