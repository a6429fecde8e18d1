"""GAN of DCGAN's two networks on stacked digits: 1,000 modes that can be counted.

  python experiments/main.py --config=experiments/configs/dcgan_stacked_digits.py \
      --workdir=runs/dcgan_stacked_digits [--config.d_features=8] [--config.seeds=4]

About two minutes on two CPU cores. 999 of 1,000 modes in 25,600 samples and a reverse
KL of 0.18 nats, seed 0; test examples give 1,000 and 0.020. With a discriminator made
small on purpose modes are lost: experiments/reproduce.py stacked. The first use
trains the classifier that counts, in some seconds. On stacked MNIST: --data_dir=PATH
--data=stacked:tfds:mnist.
"""

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
    rate=1e-3,
    generator=64,
    discriminator=128,
  )
