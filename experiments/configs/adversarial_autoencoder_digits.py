"""Adversarial auto-encoder: codes that pass for Gaussian noise, on digits.

  python experiments/main.py --workdir=runs/adversarial_autoencoder_digits \
      --config=experiments/configs/adversarial_autoencoder_digits.py

About 35 s on two CPU cores. The argument is the size of the code. All ten digits are
seen, a little blurred: Frechet 8.7, MMD^2 0.0010; reconstructions are off by 0.26 a
pixel of [-1, 1], root mean squared (one seed, the test split).
"""

from experiments.configs.parts import evaluations, networks, optimizers, runs
from gm_jax import priors
from gm_jax.methods import adversarial_autoencoder
from gm_jax.models import mlp

ANOTHER = '2'  # argument that tests try
make_evaluation = evaluations.reconstructed_images


def get_config(arg=None):
  """The config; the argument is the size of the code."""
  config = runs.autoencoder('digits')
  config.latent_size = int(arg or 8)
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """A dense encoder, the generator of gan_digits.py, a critic of the codes."""
  runs.check_sizes(config, 'latent_size')
  return adversarial_autoencoder.adversarial_autoencoder(
    mlp.MLP((256, 256, config.latent_size)),
    networks.small_generator(config, spec),
    mlp.MLP((128, 128, 1)),
    **optimizers.autoencoder_adams(config, wrap),
    prior=priors.normal(config.latent_size),
  )
