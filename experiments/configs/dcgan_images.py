"""DCGAN: a GAN of convolutional networks, on digits, Fashion-MNIST, stacked digits.

  python experiments/main.py --workdir=runs/dcgan_images \
      --config=experiments/configs/dcgan_images.py[:tfds:fashion_mnist] \
      [--config.game=hinge] [--config.bfloat16=true] [--data_dir=PATH]

About 60 s on two CPU cores for digits. The argument is the data set whose sizes are
taken: digits, tfds:fashion_mnist or stacked:digits; others of that kind by --data, as
--data=tfds:mnist or --data=stacked:tfds:mnist. PATH is where TensorFlow Datasets
prepared a set.

digits, 8x8: most samples are digits to the eye, Frechet distance 9.6 (train images:
2.7) and MMD^2 0.0004 from the test split, seed 0; gan_digits.py, with a dense
discriminator and R1, gets 8.5. At 8x8 the discriminator has a single convolution. Its
width, the rates and their decay were chosen by these numbers on this seed; wider
discriminators or higher rates did worse (32 to 44).

tfds:fashion_mnist, 28x28, 8 to 12 minutes on two CPU cores that also did other work:
most samples are recognized at sight, shirts, trousers and shoes of all kinds, some bags
and sandals in pieces, Frechet distance 14.6 (small classifier) and MMD^2 0.0011 from
2,000 test images, seed 0; the first setting tried.

stacked:digits, 1,000 modes that can be counted, about two minutes on two CPU cores: 999
modes in 25,600 samples and a reverse KL of 0.18 nats, seed 0; test examples give 1,000
and 0.020. With a discriminator made small on purpose (--config.d_features=8) modes are
lost: experiments/reproduce.py stacked. The first use trains the classifier that counts,
in some seconds.
"""

import jax.numpy as jnp

from experiments.configs.parts import evaluations, games, networks, optimizers, runs
from gm_jax.methods import gan

SIZES = {
  'digits': {'steps': 8000, 'rate': 1e-3, 'g_features': 64, 'd_features': 128},
  'tfds:fashion_mnist': {
    'steps': 5000, 'rate': 5e-4, 'g_features': 32, 'd_features': 32,
    'steps_per_dispatch': 10,
  },
  'stacked:digits': {'steps': 8000, 'rate': 1e-3, 'g_features': 64, 'd_features': 128},
}  # fmt: skip
ANOTHER = 'stacked:digits'  # argument that tests try
make_evaluation = evaluations.images_or_stacked


def get_config(arg=None):
  """The config; the argument is the data set: digits, fashion_mnist or stacked."""
  return runs.dcgan(
    SIZES,
    arg,
    game='non_saturating',
    label_smoothing=0.0,
    bfloat16=False,
    num_accumulate=1,  # slices of a batch, one after another, to save memory
  )


def make_method(config, spec, *, wrap=lambda tx: tx):
  """A GAN of a DCGAN's networks."""
  num = config.num_accumulate
  if num < 1 or config.batch_size % num:
    raise ValueError(
      f'num_accumulate must be >= 1 and divide batch_size = {config.batch_size}, got'
      f' {num}'
    )
  dtype = jnp.bfloat16 if config.bfloat16 else None
  return gan.gan(
    **networks.dcgan_networks(config, spec, dtype=dtype),
    **optimizers.adams(config, wrap),
    game=games.game(config),
    num_accumulate=num,
  )
