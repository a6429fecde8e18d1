"""InfoGAN: a categorical code that comes to mean the digit.

  python experiments/main.py --config=experiments/configs/infogan_digits.py \
      --workdir=runs/infogan_digits

About 45 s on two CPU cores. Samples are digits of all classes, some broken: Frechet
13.5, MMD^2 0.0034 (one seed, the test split), a little behind gan_digits.py, as is the
price of codes that can be read off. Continuous codes get a tenth of the weight: at
weight 1 their bound, which has no largest value, took the generator over, and samples
were no digits (Frechet 770).
"""

from experiments.configs.parts import evaluations, games, networks, optimizers, runs
from gm_jax import priors
from gm_jax.methods import infogan
from gm_jax.models import mlp

ANOTHER = '0'  # argument that tests try
make_evaluation = evaluations.images


def get_config(arg=None):
  """The config; the argument is the weight of the class's information."""
  config = runs.small_images(steps=6000)
  config.r1_gamma = 1.0
  config.num_classes = 10
  config.num_continuous = 2
  config.information_weight = float(arg or 1.0)
  config.continuous_weight = 0.1
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The networks of gan_digits.py, and a posterior like the critic."""
  codes = infogan.Codes(
    priors.normal(config.latent_size), config.num_classes, config.num_continuous
  )
  parts = networks.small_networks(config, spec)
  del parts['prior']
  outputs = config.num_classes + 2 * config.num_continuous
  return infogan.infogan(
    **parts,
    posterior=mlp.MLP((256, 256, outputs)),
    **optimizers.adams(config, wrap),
    q_tx=wrap(optimizers.adam(config, config.d_learning_rate)),
    codes=codes,
    information_weight=config.information_weight,
    continuous_weight=config.continuous_weight,
    penalty=games.r1(config.r1_gamma),
  )
