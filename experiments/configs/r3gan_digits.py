"""R3GAN: a relativistic game, R1 and R2, networks without normalization; on digits.

  python experiments/main.py --config=experiments/configs/r3gan_digits.py \
      --workdir=runs/r3gan_digits

About 300 s on two CPU cores, other work beside: penalties take the derivative of a
derivative of grouped convolutions. One block of 32 channels a resolution. Digits,
grayer than those of gan_digits.py: Frechet 19.5, MMD^2 0.0026 (one seed, the test
split); two blocks and more time gave 11.0. It is the networks: those of gan_digits.py,
put in their place with this game, these penalties, rates and 2,000 steps, come to 9.7,
7.1 and 6.9 (seeds 0 to 2), and in gan_digits.py itself, 2,000 steps, to 9.9, 6.8 and
9.3. These are made for larger images and longer runs.
"""

from experiments.configs.parts import evaluations, games, networks, optimizers, runs
from gm_jax.methods import gan

make_evaluation = evaluations.images


def get_config(arg=None):
  """The config; the argument is the name of the game."""
  config = runs.small_images(steps=2000, rate=1e-3, b1=0.0)
  config.base_features = 32
  config.max_features = 32
  config.num_blocks = 1
  config.gamma = 0.5
  config.game = arg or 'relativistic'
  config.label_smoothing = 0.0
  config.condition = ''  # or 'label'
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """A residual block at each resolution, both penalties of the same weight."""
  return gan.gan(
    **networks.r3gan_networks(config, spec),
    **optimizers.adams(config, wrap),
    penalty=games.r1_r2(config.gamma),
    game=games.game(config),
  )
