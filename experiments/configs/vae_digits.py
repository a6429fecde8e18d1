"""VAE: a variational auto-encoder of the digits' 17 levels.

  python experiments/main.py --config=experiments/configs/vae_digits.py \
      --workdir=runs/vae_digits

About 15 s on two CPU cores. The argument is the prior: normal, mixture or vamp.
--options=mean=true of the modes sample and quality gives means in place of draws; the
modes encode, reconstruct and traverse show the code.

Of the checkpoint that is best on the validation split (--best): 87.0 +- 0.6 nats, an
upper bound of -log p, and 82.6 +- 0.6 with 1,000 draws (seed 0, the test split, +- over
its 360 examples). Most samples are digits, some are two at once: Frechet 27, MMD^2
0.0061.
"""

from experiments.configs.parts import evaluations, variational
from gm_jax.methods import vae

ANOTHER = 'vamp'  # argument that tests try


def get_config(arg=None):
  """The config; the argument is the prior: normal, mixture or vamp."""
  config = variational.leaves('digits?transform=levels', steps=2000)
  config.prior = arg or 'normal'
  config.components = 50  # of a mixture or vamp
  config.beta = 1.0
  config.free_nats = 0.0  # that a dimension of the code may cost
  return config


make_evaluation = evaluations.likelihoods_and_images


def make_method(config, spec, *, wrap=lambda tx: tx):
  """Perceptrons of 256 units, a code of 16 numbers."""
  return vae.vae(
    *variational.parts(config, spec, wrap),
    beta=config.beta,
    minimum=config.free_nats,
  )
