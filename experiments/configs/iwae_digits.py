"""IWAE: the bound of several draws, on the digits' 17 levels.

  python experiments/main.py --config=experiments/configs/iwae_digits.py \
      --workdir=runs/iwae_digits

TODO
"""

from experiments.configs.parts import evaluations, runs, variational
from gm_jax.methods import iwae

ANOTHER = '5'  # argument that tests try
make_evaluation = evaluations.likelihoods_and_images
ESTIMATORS = {
  'plain': iwae.plain,
  'stl': iwae.sticking_the_landing,
  'dreg': iwae.doubly_reparameterized,
}


def get_config(arg=None):
  """The config; the argument is the number of draws."""
  config = variational.leaves('digits?transform=levels', steps=2000)
  config.num_draws = int(arg or 10)
  config.estimator = 'dreg'
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The networks of vae_digits.py."""
  return iwae.iwae(
    *variational.parts(config, spec, wrap),
    num_draws=config.num_draws,
    estimator=runs.choose(ESTIMATORS, config.estimator, 'estimator'),
  )
