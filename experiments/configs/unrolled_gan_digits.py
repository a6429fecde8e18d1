"""Unrolled GAN of DCGAN's networks on scikit-learn's digits, real 8x8 images.

  python experiments/main.py --config=experiments/configs/unrolled_gan_digits.py \
      --workdir=runs/unrolled_gan_digits [--config.num_unroll=10]

Two to three minutes on two CPU cores. Most samples are digits to the eye: Frechet
distance 12.1 and MMD^2 0.0001 from the test split, seed 0; dcgan_digits.py gets 9.6
and 0.0004 with twice the discriminator and the steps, in less time. The discriminator
has no batch normalization, see unrolled_gan_fashion_mnist.py.
"""

from experiments.configs import common

ANOTHER = '2'  # argument that tests try
make_evaluation = common.dcgan_evaluation
make_method = common.unrolled_method


def get_config(arg=None):
  """The config; the argument is the number of unrolled steps."""
  return common.unrolled_config(
    'digits',
    arg,
    steps=4000,
    batch_size=64,
    rate=1e-3,
    generator=64,
    discriminator=64,
    num_unroll=5,
  )
