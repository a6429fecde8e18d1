"""DiffAugment: a GAN whose critic sees everything augmented, on digits.

  python experiments/main.py --config=experiments/configs/diffaugment_gan_digits.py \
      --workdir=runs/diffaugment_gan_digits

About 35 s on two CPU cores, other work beside. The argument is color, translation,
cutout or everything. With translation by up to a pixel, all ten digits are seen, none
moved off its place: Frechet 6.6, MMD^2 0.0002 (one seed, the test split), against 9.8
and 0.0010 without, after twice the steps (gan_digits.py): 1,257 images are few, and
this is what it is for.
"""

from experiments.configs.parts import evaluations, games, networks, optimizers, runs
from gm_jax.methods import gan
from gm_jax.models import remedies

ANOTHER = 'cutout'  # argument that tests try
make_evaluation = evaluations.images


def get_config(arg=None):
  """The config; the argument is color, translation, cutout or everything."""
  config = runs.small_images()
  config.r1_gamma = 1.0
  config.augmentation = arg or 'translation'
  config.game = 'non_saturating'
  config.label_smoothing = 0.0
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The networks of gan_digits.py, the critic behind the augmentation."""
  return gan.gan(
    **networks.augmented_networks(config, spec, remedies.Augmented),
    **optimizers.adams(config, wrap),
    penalty=games.r1(config.r1_gamma),
    game=games.game(config),
  )
