"""GAN on a ring of eight Gaussians: the ordinary one, seen to collapse.

  python experiments/main.py --config=experiments/configs/gan_ring.py \
      --workdir=runs/gan_ring [--config.num_critic=6] [--config.seeds=8]

The control of unrolled_gan_ring.py: the same networks, optimizers and data. About
15 s on two CPU cores, one seed; the samples are seen as one blob that wanders
around the ring.
"""

from experiments.configs import common
from gm_jax.methods import gan

batch_size = common.several_critic_steps
make_evaluation = common.modes_evaluation


def get_config(arg=None):
  """The config; the argument is the name of the game."""
  config = common.run('toy:ring', steps=10_000, batch_size=128)
  common.add_adam(config, generator=2e-3, discriminator=2e-3, b1=0.5)
  config.decay_steps = 10_000
  config.num_critic = 1
  config.game = arg or 'minimax'
  config.label_smoothing = 0.0
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The ring's networks and a GAN."""
  return gan.gan(
    **common.ring_networks(),
    **common.adams(config, wrap),
    num_critic=config.num_critic,
    game=common.game(config),
  )
