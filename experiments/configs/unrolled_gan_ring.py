"""Unrolled GAN on a ring of eight Gaussians.

  python experiments/main.py --config=experiments/configs/unrolled_gan_ring.py \
      --workdir=runs/unrolled_gan_ring [--config.num_unroll=10] [--config.seeds=8]

A GAN of these networks without unrolling (num_unroll=0) was seen to collapse.
"""

import flax.linen as nn

from experiments.configs import common
from gm_jax import priors
from gm_jax.methods import unrolled_gan
from gm_jax.models import mlp

make_evaluation = common.modes_evaluation


def get_config(arg=None):
  """The config; the argument is the number of unrolled steps."""
  config = common.run('toy:ring', steps=5000, batch_size=128)
  common.add_adam(config, generator=1e-3, discriminator=1e-3, b1=0.5)
  config.latent_size = 256
  config.num_unroll = 5 if arg is None else int(arg)
  config.how = 'full'
  config.fresh = False
  config.game = 'minimax'
  return config


def batch_size(config):
  """Examples a step: inner steps on fresh data need their own."""
  return config.batch_size * (1 + config.num_unroll if config.fresh else 1)


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The networks of the unrolled GAN's toy experiment, with ReLU."""
  return unrolled_gan.unrolled_gan(
    generator=mlp.MLP((128, 128, *spec.shape), activation=nn.relu),
    discriminator=mlp.MLP((128, 1), activation=nn.relu, input_scale=0.25),
    g_tx=wrap(common.adam(config, config.g_learning_rate)),
    d_tx=wrap(common.adam(config, config.d_learning_rate)),
    prior=priors.normal(config.latent_size),
    num_unroll=config.num_unroll,
    game=common.choose(common.GAMES, config.game, 'game'),
    how=common.choose(common.UNROLLS, config.how, 'how'),
    fresh=config.fresh,
  )
