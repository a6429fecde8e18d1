"""Mixture of Gaussians: noisy images, fitted by expectation maximization.

  python experiments/main.py --config=experiments/configs/gaussian_mixture_digits.py \
      --workdir=runs/gaussian_mixture_digits

About 12 s on two CPU cores: 30 iterations of EM. The argument is the number of
components. 119.2 +- 1.1 nats an image of the test split, a bound from above by noise on
the pixels. The samples are blurred digits, pixels of a component independent of each
other.
"""

from experiments.configs.parts import evaluations, likelihoods, runs
from gm_jax.methods import mixture

ANOTHER = '7'
make_evaluation = evaluations.likelihoods


def get_config(arg=None):
  """The config; the argument is the number of components."""
  config = runs.counting('digits?transform=dequantization', steps=90, batch_size=419)
  config.steps_per_epoch = 3  # 1257 = 3 x 419
  config.steps_per_dispatch = 3
  config.log_every = 30
  config.components = int(arg or 30)
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """One iteration of EM an epoch."""
  likelihoods.check_real(config, spec)
  runs.check_sizes(config, 'components')
  components = mixture.gaussians(least_std=0.05)
  return mixture.mixture(
    components, spec.shape, config.components, steps_per_epoch=config.steps_per_epoch
  )
