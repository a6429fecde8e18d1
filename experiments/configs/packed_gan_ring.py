"""PacGAN: a critic of several examples at once, on a ring of eight Gaussians.

  python experiments/main.py --config=experiments/configs/packed_gan_ring.py \
      --workdir=runs/packed_gan_ring

About 20 s on two CPU cores, other work beside. The argument is m. With m = 2: all eight
modes, high quality 0.75, reverse KL 0.010 (one seed); straight bridges join neighboring
modes. The ordinary GAN of gan_ring.py ends as one blob. Eight seeds, and m = 3 and 4,
are in docs/results/mode_collapse.md.
"""

from experiments.configs.parts import evaluations, games, networks, optimizers, runs
from gm_jax.methods import gan
from gm_jax.models import remedies

ANOTHER = '4'  # argument that tests try
make_evaluation = evaluations.mixture_modes


def get_config(arg=None):
  """The config; the argument is how many are packed, m."""
  config = runs.ring()
  config.num_packed = int(arg or 2)
  config.game = 'minimax'
  config.label_smoothing = 0.0
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The ring's networks, the critic seeing m examples side by side."""
  runs.check_sizes(config, 'num_packed')
  if config.batch_size % config.num_packed:
    raise ValueError(
      f'num_packed = {config.num_packed} must divide batch_size = {config.batch_size}'
    )
  parts = networks.ring_networks()
  critic = remedies.Packed(parts['discriminator'], config.num_packed)
  return gan.gan(
    **{**parts, 'discriminator': critic},
    **optimizers.adams(config, wrap),
    game=games.game(config),
  )
