"""DCGAN"""

from experiments.configs import common

make_evaluation = common.dcgan_evaluation
make_method = common.dcgan_method


def get_config(arg=None):
  """The config; the argument is the name of the game."""
  return common.dcgan_config(
    'tfds:fashion_mnist',
    arg,
    steps=5000,
    batch_size=64,
    rate=2e-4,
    generator=32,
    discriminator=32,
  )
