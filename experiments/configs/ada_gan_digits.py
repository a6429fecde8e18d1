"""ADA: a GAN that augments as much as it needs, on digits.

  python experiments/main.py --config=experiments/configs/ada_gan_digits.py \
      --workdir=runs/ada_gan_digits

About 30 s on two CPU cores, other work beside. The argument is color, translation,
cutout or everything. All ten digits are seen: Frechet 8.3, MMD^2 0.0003 (one seed, the
test split). `strength`, the probability, stays near 0 for half of the run and rises to
0.17, which holds the mean sign of the critic on the data at its target of 0.6. Without
R1 it rose to 0.6, and the samples were fewer kinds of digits (Frechet 65).
"""

from experiments.configs.parts import evaluations, games, networks, optimizers, runs
from gm_jax.methods import ada_gan
from gm_jax.models import remedies

ANOTHER = 'cutout'  # argument that tests try
make_evaluation = evaluations.images


def get_config(arg=None):
  """The config; the argument is color, translation, cutout or everything."""
  config = runs.small_images()
  config.augmentation = arg or 'translation'
  config.r1_gamma = 1.0
  config.target = 0.6
  config.rate = 1e-3  # of the probability, a step
  config.game = 'non_saturating'
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The networks of gan_digits.py; the probability starts at 0."""
  return ada_gan.ada_gan(
    **networks.augmented_networks(config, spec, remedies.AdaptivelyAugmented),
    **optimizers.adams(config, wrap),
    target=config.target,
    rate=config.rate,
    penalty=games.r1(config.r1_gamma),
    game=games.game(config),
  )
