"""f-GAN: a GAN for any f-divergence, through its variational bound.

  D_f(p || q) >= E_p g_f(V(x)) - E_q f*(g_f(V(x)))

which the critic V maximizes and the generator minimizes; g_f is the divergence's
output activation, f* its Fenchel conjugate. All divergences stand in
`losses.f_divergence`; with GAN's it is the minimax game of `gan.gan`.

Source: f-GAN: Training Generative Neural Samplers using Variational Divergence
Minimization, Nowozin et al., 2016, arXiv:1606.00709.
"""

from collections.abc import Callable

from gm_jax import base
from gm_jax.losses import f_divergence
from gm_jax.methods import gan


def f_gan(
  *args,
  divergence: f_divergence.Divergence,
  generator_loss: Callable = f_divergence.trick_generator,
  **kwargs,
) -> base.Method:
  """A GAN that minimizes an f-divergence.

  Args:
    *args: of `gan.gan`: generator, discriminator and their optimizers.
    divergence: from `losses.f_divergence`.
    generator_loss: `f_divergence.saddle_generator`, the bound itself, or
      `trick_generator` of the paper's section 3.2, whose gradient does not vanish
      where the critic is sure.
    **kwargs: of `gan.gan`, but for the game.

  Returns:
    The method; queries as `gan.gan`'s, `critic` of V.
  """
  game = f_divergence.f_gan(divergence, generator=generator_loss)
  return gan.gan(*args, game=game, **kwargs)
