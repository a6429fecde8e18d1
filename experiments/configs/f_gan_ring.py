"""A GAN for any f-divergence on a ring of eight Gaussians.

  python experiments/main.py --config=experiments/configs/f_gan_ring.py:kl \
      --workdir=runs/f_gan_ring [--config.generator=saddle] [--config.seeds=8]

The argument is a name such as pearson, kl, alpha_0.5, weighted_jensen_shannon_0.3. Two
minutes on two CPU cores, seeds 100 to 103 at once, other work beside them. A divergence
alone does not cure collapse: Pearson with the trick ends as one blob beside the ring,
0.25 +- 0.25 modes by the strict count, as the ordinary GAN of gan_ring.py does. KL with
the saddle's generator ends within 400 steps in a number that is not finite: exp of a
critic that is sure.
"""

from experiments.configs import common
from gm_jax.methods import f_gan

ANOTHER = 'alpha_0.5'  # argument that tests try
make_evaluation = common.modes_evaluation


def get_config(arg=None):
  """The config; the argument is the name of the divergence."""
  config = common.run('toy:ring', steps=10_000, batch_size=128)
  common.add_adam(config, generator=2e-3, discriminator=2e-3, b1=0.5)
  config.decay_steps = 10_000
  config.divergence = arg or 'pearson'
  config.generator = 'trick'  # or saddle
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The ring's networks and the divergence's game."""
  generator = common.choose(common.F_GENERATORS, config.generator, 'generator')
  return f_gan.f_gan(
    **common.ring_networks(),
    g_tx=wrap(common.adam(config, config.g_learning_rate)),
    d_tx=wrap(common.adam(config, config.d_learning_rate)),
    divergence=common.divergence(config),
    generator_loss=generator,
  )
