"""Wasserstein auto-encoder: codes held to Gaussian noise by an MMD, on digits.

  python experiments/main.py --workdir=runs/wae_digits \
      --config=experiments/configs/wae_digits.py

About 25 s on two CPU cores. The argument is the size of the code. Networks, steps and
rate are those of adversarial_autoencoder_digits.py. All ten digits are seen, a little
blurred, some gray between two: Frechet 10.3, MMD^2 0.0017; reconstructions are off by
0.23 a pixel of [-1, 1], root mean squared (one seed, the test split). A weight of 10
gave 12.1 and 0.21, 1000 gave 10.7 and 0.26. The authors' weight of 10 stands beside
0.05 times the error of pixels in [0, 1], which here would be 800.
"""

import functools

from experiments.configs.parts import evaluations, networks, optimizers, runs
from gm_jax import priors
from gm_jax.losses import discrepancy
from gm_jax.methods import wae
from gm_jax.models import mlp

ANOTHER = '2'  # argument that tests try
make_evaluation = evaluations.reconstructed_images


def get_config(arg=None):
  """The config; the argument is the size of the code."""
  config = runs.autoencoder('digits')
  del config.adversarial_rate
  config.discrepancy_weight = 100.0
  config.latent_size = int(arg or 8)
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The networks of adversarial_autoencoder_digits.py, without a critic."""
  runs.check_sizes(config, 'latent_size')
  kernel = discrepancy.inverse_multiquadric(lengths=wae.lengths(config.latent_size))
  return wae.wae(
    mlp.MLP((256, 256, config.latent_size)),
    networks.small_generator(config, spec),
    wrap(optimizers.adam(config, config.learning_rate)),
    prior=priors.normal(config.latent_size),
    discrepancy=functools.partial(discrepancy.mmd2_unbiased, kernel),
    weight=config.discrepancy_weight,
  )
