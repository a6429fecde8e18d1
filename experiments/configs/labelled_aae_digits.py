"""Labelled adversarial auto-encoder: a petal of the prior for each class, on digits.

  python experiments/main.py --config=experiments/configs/labelled_aae_digits.py \
      --workdir=runs/labelled_aae_digits

About 35 s on two CPU cores. The argument is the data's name; `digits?labels=100` shows
a hundred labels only. Two numbers a digit: samples are blurred, as is the best decoder
of so small a code, and some are gray between two digits: Frechet 19.8, MMD^2 0.0126;
reconstructions are off by 0.39 a pixel of [-1, 1] (one seed, the test split).
"""

from experiments.configs.parts import evaluations, networks, optimizers, runs
from gm_jax import priors
from gm_jax.methods import adversarial_autoencoder
from gm_jax.models import mlp

ANOTHER = 'digits?labels=100'  # argument that tests try
make_evaluation = evaluations.reconstructed_images


def get_config(arg=None):
  """The config; the argument is the name of the data."""
  config = runs.autoencoder(arg or 'digits')
  config.radius = 4.0
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """Codes in the plane: a Gaussian for each class, long from the center outwards."""
  classes = spec.num_classes
  if classes is None:
    raise ValueError(f'data = {config.data!r} have no classes, which this config needs')
  ring = priors.ring_mixture(
    classes, radius=config.radius, radial_std=config.radius / 4, tangential_std=0.4
  )
  return adversarial_autoencoder.adversarial_autoencoder(
    mlp.MLP((256, 256, 2)),
    networks.small_generator(config, spec),
    mlp.MLP((128, 128, 1)),
    **optimizers.autoencoder_adams(config, wrap),
    prior=priors.mixture(ring, classes),
    classes=adversarial_autoencoder.Classes(ring, classes),
  )
