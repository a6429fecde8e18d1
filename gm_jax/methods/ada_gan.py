"""Adaptive discriminator augmentation: a GAN that augments as much as it needs.

The critic sees each image augmented with probability p, and p follows how sure it is
of the data,

  r = E sign(D(x)),   p <- clip(p + rate sign(r - target), 0, 1):

r near 1 says that the critic remembers the data. p is carried in
`State.extra['augment']` by `models.remedies.AdaptivelyAugmented`.

Source: Training Generative Adversarial Networks with Limited Data, Karras et al., 2020,
arXiv:2006.06676, section 3; there r is averaged over 4 batches, target 0.6.
"""

import jax.numpy as jnp

from gm_jax import base
from gm_jax.methods import gan
from gm_jax.models import remedies
from gm_jax.players import DISCRIMINATOR


def ada_gan(*args, target: float = 0.6, rate: float, **kwargs) -> base.Method:
  """A GAN whose discriminator is a `remedies.AdaptivelyAugmented`.

  Args:
    *args: of `gan.gan`.
    target: of the mean sign of the critic on data, in (-1, 1).
    rate: of p a step: batch size over the number of images in which p may go from 0
      to 1.
    **kwargs: of `gan.gan`.

  Returns:
    The method, with the metric `strength`, p after the step.

  Raises:
    ValueError: `target` outside (-1, 1), `rate` not above 0; when initialized, a
      discriminator without a strength.
  """
  if not -1 < target < 1:
    raise ValueError(f'target must be in (-1, 1), got {target}')
  if not rate > 0:
    raise ValueError(f'rate must be > 0, got {rate}')
  plain = gan.gan(*args, **kwargs)

  def init(key, batch):
    state = plain.init(key, batch)
    if 'augment' not in state.extra:
      raise ValueError('the discriminator must be a remedies.AdaptivelyAugmented')
    return state

  def step(state, key, batch):
    state, metrics = plain.step(state, key, batch)
    change = rate * jnp.sign(metrics['real_signs'] - target)
    strength = remedies.strength_of(state.extra, DISCRIMINATOR)
    strength = jnp.clip(strength + change, 0.0, 1.0)
    augment = {**state.extra['augment'], DISCRIMINATOR: {'strength': strength}}
    state = state._replace(extra={**state.extra, 'augment': augment})
    return state, {**metrics, 'strength': strength}

  return plain._replace(init=init, step=step)
