"""GAN: the ordinary one, seen to collapse on a ring of eight Gaussians.

  python experiments/main.py --config=experiments/configs/gan_ring.py \
      --workdir=runs/gan_ring [--config.num_critic=6] [--config.seeds=8]

The control of unrolled_gan_ring.py: the same networks, optimizers and data. About
15 s on two CPU cores, one seed; the samples are seen as one blob that wanders
around the ring.
"""

from experiments.configs.parts import evaluations, games, networks, optimizers, runs
from gm_jax.methods import gan

batch_size = runs.several_critic_steps
make_evaluation = evaluations.mixture_modes


def get_config(arg=None):
  """The config; the argument is the name of the game."""
  config = runs.ring()
  config.warmup_steps = 0
  config.clip = 0.0  # of the gradient's global norm; 0 for none
  config.num_critic = 1
  config.game = arg or 'minimax'
  config.label_smoothing = 0.0
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The ring's networks and a GAN."""
  return gan.gan(
    **networks.ring_networks(),
    **optimizers.adams(config, wrap),
    num_critic=config.num_critic,
    game=games.game(config),
  )
