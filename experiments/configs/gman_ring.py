"""GMAN: a generator against several critics, on a ring of eight Gaussians.

  python experiments/main.py --config=experiments/configs/gman_ring.py \
      --workdir=runs/gman_ring

About 25 s on two CPU cores, other work beside. The argument is max, mean or softmax.
Softmax: all eight modes with bridges between neighbors, high quality 0.79, reverse KL
0.002 (one seed). As in d2gan_ring.py the critics' rate is four times the generator's;
at equal rates samples were one blob beside the ring.
"""

from experiments.configs.parts import evaluations, games, networks, optimizers, runs
from gm_jax.methods import gman

ANOTHER = 'max'  # argument that tests try
make_evaluation = evaluations.mixture_modes


def get_config(arg=None):
  """The config; the argument is max, mean or softmax."""
  config = runs.ring(generator=1e-3, discriminator=4e-3)
  config.combine = arg or 'softmax'
  config.strength = 1.0  # of softmax; 0 is mean
  config.num_discriminators = 3
  config.game = 'minimax'
  config.label_smoothing = 0.0
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The ring's networks, the critics alike but for their beginning."""
  combinations = {
    'max': gman.maximum,
    'mean': gman.mean,
    'softmax': gman.softmax_weighted(config.strength),
  }
  return gman.gman(
    **networks.ring_networks(),
    **optimizers.adams(config, wrap),
    num_discriminators=config.num_discriminators,
    combine=runs.choose(combinations, config.combine, 'combine'),
    game=games.game(config),
  )
