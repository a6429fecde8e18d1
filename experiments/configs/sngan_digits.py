"""SNGAN: hinge loss and a spectrally normalized critic, on digits.

  python experiments/main.py --config=experiments/configs/sngan_digits.py \
      --workdir=runs/sngan_digits

About 25 s on two CPU cores, other work beside. All ten digits are seen, some with a
stroke too many: Frechet 6.9, MMD^2 0.0002 (one seed, the test split), below the
penalized GANs here without computing a penalty.
"""

from experiments.configs.parts import evaluations, games, networks, optimizers, runs
from gm_jax.methods import gan
from gm_jax.models import mlp

ANOTHER = 'non_saturating'  # argument that tests try
make_evaluation = evaluations.images


def get_config(arg=None):
  """The config; the argument is the name of the game."""
  config = runs.small_images()
  config.game = arg or 'hinge'
  config.label_smoothing = 0.0
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The networks of gan_digits.py, every layer of the critic of norm 1."""
  parts = networks.small_networks(config, spec)
  parts['discriminator'] = mlp.MLP((256, 256, 1), spectral_norm=True)
  return gan.gan(**parts, **optimizers.adams(config, wrap), game=games.game(config))
