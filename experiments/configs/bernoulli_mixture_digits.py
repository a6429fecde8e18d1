"""Mixture of Bernoullis: binary images, fitted by expectation maximization.

  python experiments/main.py --config=experiments/configs/bernoulli_mixture_digits.py \
      --workdir=runs/bernoulli_mixture_digits

About 10 s on two CPU cores: 30 iterations of EM, new draws of the binary pixels in
each. The argument is the number of components. 23.5 +- 0.2 nats an image of the test
split, exact. What is seen are digits with frayed edges.
"""

from experiments.configs.parts import evaluations, likelihoods, runs
from gm_jax.methods import mixture

ANOTHER = '7'
make_evaluation = evaluations.likelihoods


def get_config(arg=None):
  """The config; the argument is the number of components."""
  config = runs.counting('dynamic:digits', steps=90, batch_size=419)
  config.steps_per_epoch = 3  # 1257 = 3 x 419
  config.steps_per_dispatch = 3
  config.log_every = 30
  config.components = int(arg or 30)
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """One iteration of EM an epoch."""
  likelihoods.check_binary(config, spec)
  runs.check_sizes(config, 'components')
  components = mixture.bernoullis()
  return mixture.mixture(
    components, spec.shape, config.components, steps_per_epoch=config.steps_per_epoch
  )
