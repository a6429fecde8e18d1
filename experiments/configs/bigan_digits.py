"""BiGAN: an encoder learned by telling pairs apart, on digits.

  python experiments/main.py --config=experiments/configs/bigan_digits.py \
      --workdir=runs/bigan_digits

About 50 s on two CPU cores. The argument is the size of the code. Samples are digits,
jagged: Frechet 15.2, MMD^2 0.0060; reconstructions are another digit's as often as not:
a root mean squared error of 0.62 a pixel of [-1, 1] (one seed, the test split), far
from the 0.26 of adversarial_autoencoder_digits.py, whose encoder is trained to
reconstruct. The critic is spectrally normalized; without, Frechet was 109.
"""

from experiments.configs.parts import evaluations, networks, optimizers, runs
from gm_jax import priors
from gm_jax.methods import bigan
from gm_jax.models import joint, mlp

ANOTHER = '8'  # argument that tests try
make_evaluation = evaluations.reconstructed_images


def get_config(arg=None):
  """The config; the argument is the size of the code."""
  config = runs.small_images(steps=8000)
  config.latent_size = int(arg or 16)
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The generator of gan_digits.py, dense encoder and critic."""
  parts = networks.small_networks(config, spec)
  return bigan.bigan(
    parts['generator'],
    mlp.MLP((256, 256, config.latent_size)),
    joint.Joint(None, mlp.MLP((256, 256, 1), spectral_norm=True)),
    **optimizers.adams(config, wrap),
    prior=priors.normal(config.latent_size),
  )
