"""AC-GAN.

TODO
"""

from experiments.configs.parts import evaluations, games, optimizers, runs
from gm_jax import priors
from gm_jax.methods import ac_gan
from gm_jax.models import dcgan, joint, mlp

ANOTHER = '4.0'
make_evaluation = evaluations.images_of_classes


def get_config(arg=None):
  config = runs.small_images(steps=6000)
  config.d_features = 256
  config.r1_gamma = 1.0
  config.class_weight = float(arg or 1.0)
  config.game = 'non_saturating'
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  runs.check_images(config, spec)
  size, _, channels = spec.shape
  width = config.d_features
  return ac_gan.ac_gan(
    joint.Conditioned(dcgan.Generator(size, channels, config.base_features)),
    mlp.MLP((width, width, 1 + spec.num_classes)),
    **optimizers.adams(config, wrap),
    prior=priors.normal(config.latent_size),
    num_classes=spec.num_classes,
    class_weight=config.class_weight,
    game=games.game(config),
    penalty=games.r1(config.r1_gamma),
  )
