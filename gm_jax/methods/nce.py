"""Noise-contrastive estimation: an energy learned by telling data from known noise.

  E(x) = f(x) - log q(x),   log p(x) = -E(x) - log Z

  min_{f, log Z} E_p [-ln sigmoid(r - ln nu)] + nu E_q [-ln sigmoid(ln nu - r)],
  r = log p(x) - log q(x) = -f(x) - log Z

The normalizer is a parameter, learned with the rest, and no chain runs in training. The
energy is one beside the noise's: away from data p falls as q does. Where f has a
constant of its own, only the sum of both is told by the data.

The log Z that was learned makes p sum to one only where training has ended. What is
reported is another, by importance sampling, with its standard error: `gm_jax.tilted`.

Source: Noise-contrastive estimation: A new estimation principle for unnormalized
statistical models, Gutmann and Hyvarinen, 2010, AISTATS.
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
import optax

from gm_jax import base, gradient, priors, tilted
from gm_jax.losses import energy as losses

ENERGY, LOG_Z = 'energy', 'log_partition'
CARD = tilted.card('contrastive')


def nce(
  network: nn.Module,
  noise: priors.Density,
  tx: optax.GradientTransformation,
  *,
  shape: Sequence[int],
  num_noise: int = 1,
) -> base.Method:
  """An energy of real numbers against noise.

  Args:
    network: f, (x `[B, *shape]`, train) -> `[B, 1]`, differentiable in x.
    noise: q, of `[num, D]`, D = prod(shape), with mass wherever data have.
    tx: the optimizer.
    shape: of an example.
    num_noise: nu, draws of noise a datum.

  Returns:
    The method; options of samples and of estimates are those of `tilted.tilted`.

  Raises:
    ValueError: `num_noise` below 1; when called, data of another shape or a network
      that does not return [B, 1].
  """
  if num_noise < 1:
    raise ValueError(f'num_noise must be >= 1, got {num_noise}')
  tilt, sample, queries = tilted.tilted(network, noise, shape=shape, name=ENERGY)

  def init(key, batch):
    return {ENERGY: network.init(key, batch['x']), LOG_Z: jnp.zeros(())}, {}

  def loss_fn(params, extra, key, batch):
    # 1. Noise, nu draws a datum.
    x = batch['x']
    drawn = noise(key, num_noise * len(x)).reshape(-1, *shape)

    # 2. Log-ratios of the model, with its normalizer, to the noise.
    f = functools.partial(tilt, params, train=True)
    data, other = -f(x) - params[LOG_Z], -f(drawn) - params[LOG_Z]

    # 3. Which of them are data.
    loss = losses.noise_contrastive(data, other.reshape(len(x), num_noise)).mean()
    return loss, (extra, {LOG_Z: params[LOG_Z]})

  return gradient.from_loss(
    loss_fn, tx, init, card=CARD, sample=sample, queries=queries
  )
