"""Conditional VAE: the class is given, the code is what it does not say.

  python experiments/main.py --config=experiments/configs/conditional_vae_digits.py \
      --workdir=runs/conditional_vae_digits

About 20 s on two CPU cores. The argument is the size of the code; --mode=sample
--condition=7 draws one class.

Of the checkpoint that is best on the validation split (--best), given the class: 82.6
+- 0.7 nats, an upper bound of -log p(x | class), and 78.7 +- 0.6 with 1,000 draws.
Samples are of the class that is asked for, readable and grainy: Frechet 8.1, MMD^2
0.0022 (seed 0, the test split).
"""

from experiments.configs.parts import evaluations, variational
from gm_jax.methods import vae

ANOTHER = '4'  # argument that tests try
make_evaluation = evaluations.likelihoods_and_images


def get_config(arg=None):
  """The config; the argument is the size of the code."""
  config = variational.leaves(
    'digits?transform=levels', steps=2000, latent_size=int(arg or 16)
  )
  config.condition = 'label'
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The networks of vae_digits.py, each beside the class."""
  return vae.vae(*variational.parts(config, spec, wrap))
