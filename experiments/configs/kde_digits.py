"""Kernel density estimation: a Gaussian on every training image.

  python experiments/main.py --config=experiments/configs/kde_digits.py \
      --workdir=runs/kde_digits

About 14 s on two CPU cores. The argument is the bandwidth, of pixels in [-1, 1]; 0.25
is the best on the validation split. 148.7 +- 0.8 nats an image of the test split, a
bound from above by noise on the pixels (uniform has 181.3). The samples are training
images with noise, which no score of them shows.
"""

from experiments.configs.parts import evaluations, likelihoods, runs
from gm_jax.methods import kde

ANOTHER = '0.3'
make_evaluation = evaluations.likelihoods


def get_config(arg=None):
  """The config; the argument is the kernel's bandwidth, of pixels in [-1, 1]."""
  config = runs.counting('digits?transform=dequantization', steps=3, batch_size=419)
  config.bandwidth = float(arg or 0.25)
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """As many kernels as there are training images."""
  likelihoods.check_real(config, spec)
  num = spec.num_train or config.steps * config.batch_size
  return kde.kde(spec.shape, num, std=config.bandwidth)
