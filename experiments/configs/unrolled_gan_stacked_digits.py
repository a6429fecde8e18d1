"""Unrolled"""

from experiments.configs import common

make_evaluation = common.dcgan_evaluation
make_method = common.unrolled_method


def get_config(arg=None):
  """The config; the argument is the number of unrolled steps."""
  return common.unrolled_config(
    'stacked:digits',
    arg,
    steps=8000,
    batch_size=64,
    rate=5e-4,
    num_unroll=5,
    generator=64,
    discriminator=32,
  )
