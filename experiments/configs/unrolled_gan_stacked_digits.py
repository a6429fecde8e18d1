"""Unrolled GAN of DCGAN's networks on stacked digits: 1,000 modes to be counted.

  python experiments/main.py --workdir=runs/unrolled_gan_stacked_digits \
      --config=experiments/configs/unrolled_gan_stacked_digits.py \
      [--config.num_unroll=10] [--config.unroll_fn=partial] [--config.seeds=4]

About two minutes on two CPU cores. 999 of 1,000 modes in 25,600 samples and a reverse
KL of 0.28 nats, seed 0, with a discriminator of half the generator's width; test
examples give 1,000 and 0.020. The comparison by k, with its controls, is
experiments/reproduce.py stacked. On stacked MNIST: --data_dir=PATH
--data=stacked:tfds:mnist.
"""

from experiments.configs import common

ANOTHER = '2'  # argument that tests try
make_evaluation = common.dcgan_evaluation
make_method = common.unrolled_method


def get_config(arg=None):
  """The config; the argument is the number of unrolled steps."""
  return common.unrolled_config(
    'stacked:digits',
    arg,
    steps=4000,
    batch_size=64,
    rate=1e-3,
    generator=32,
    discriminator=16,
    num_unroll=5,
  )
