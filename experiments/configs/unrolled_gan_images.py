"""Unrolled GAN: DCGAN's networks, the generator looking k critic steps ahead.

  python experiments/main.py --workdir=runs/unrolled_gan_images \
      --config=experiments/configs/unrolled_gan_images.py[:tfds:fashion_mnist] \
      [--config.num_unroll=10] [--config.unroll_fn=partial] [--data_dir=PATH]

About 150 s on two CPU cores for digits. The argument is the data set whose sizes are
taken: digits, tfds:fashion_mnist or stacked:digits; others of that kind by --data, as
--data=tfds:mnist or --data=stacked:tfds:mnist. PATH is where TensorFlow Datasets
prepared a set.

digits, 8x8: most samples are digits to the eye, Frechet distance 12.1 and MMD^2 0.0001
from the test split, seed 0; dcgan_images.py gets 9.6 and 0.0004 with twice the
discriminator and the steps, in less time.

tfds:fashion_mnist, 28x28, 12 minutes on two CPU cores, one seed, other work beside it:
Frechet distance 101.5 after 200 steps, 30.9 after 1,000, 22.4 after 2,000. Shirts,
trousers, bags and boots are told apart; a fine grid lies over them and shoes come torn.
The discriminator has no batch normalization: with it, it won within 500 steps (loss
0.06) and the minimax game left the generator no gradient (Frechet distance 283, against
78 without).

stacked:digits, 1,000 modes to be counted, about two minutes on two CPU cores: 999 modes
in 25,600 samples and a reverse KL of 0.28 nats, seed 0, with a discriminator of half
the generator's width; test examples give 1,000 and 0.020. The comparison by k, with its
controls, is experiments/reproduce.py stacked.
"""

from experiments.configs.parts import evaluations, games, networks, optimizers, runs
from gm_jax.methods import unrolled_gan

SIZES = {
  'digits': {'steps': 4000, 'rate': 1e-3, 'g_features': 64, 'd_features': 64},
  'tfds:fashion_mnist': {
    'steps': 2000, 'rate': 5e-4, 'g_features': 32, 'd_features': 16,
    'steps_per_dispatch': 10,
  },
  'stacked:digits': {'steps': 4000, 'rate': 1e-3, 'g_features': 32, 'd_features': 16},
}  # fmt: skip
ANOTHER = 'stacked:digits'  # argument that tests try
make_evaluation = evaluations.images_or_stacked


def get_config(arg=None):
  """The config; the argument is the data set: digits, fashion_mnist or stacked."""
  return runs.dcgan(SIZES, arg, num_unroll=5, unroll_fn='full')


def make_method(config, spec, *, wrap=lambda tx: tx):
  """An unrolled GAN of a DCGAN's networks, the critic not normalized."""
  return unrolled_gan.unrolled_gan(
    **networks.dcgan_networks(config, spec, normalize=False),
    **optimizers.adams(config, wrap),
    num_unroll=config.num_unroll,
    unroll_fn=games.unrolling(config),
    diagnostics=False,
  )
