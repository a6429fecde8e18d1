"""Unrolled"""

from experiments.configs import common

make_evaluation = common.dcgan_evaluation
make_method = common.unrolled_method


def get_config(arg=None):
  """The config; the argument is the number of unrolled steps."""
  return common.unrolled_config(
    'tfds:fashion_mnist',
    arg,
    steps=2000,
    batch_size=64,
    rate=2e-4,
    num_unroll=5,
    generator=32,
    discriminator=16,
  )
