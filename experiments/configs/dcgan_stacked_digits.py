"""DCGAN on stacked digits"""

from experiments.configs import common

make_evaluation = common.dcgan_evaluation
make_method = common.dcgan_method


def get_config(arg=None):
  """The config; the argument is the name of the game."""
  return common.dcgan_config(
    'stacked:digits',
    arg,
    steps=8000,
    batch_size=64,
    rate=5e-4,
    generator=64,
    discriminator=64,
  )
