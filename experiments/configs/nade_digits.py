"""NADE: every pixel by a network of the pixels before it, a hidden layer shared.

  python experiments/main.py --config=experiments/configs/nade_digits.py \
      --workdir=runs/nade_digits

COST
"""

import math

from experiments.configs import common, explicit
from gm_jax.models import nade

ANOTHER = 'columns'
make_evaluation = explicit.evaluation


def get_config(arg=None):
  """The config; the argument is the order: rows, columns or random."""
  config = explicit.learning('dynamic:digits', steps=4000, batch_size=64, rate=3e-3)
  config.order = arg or 'rows'
  config.law = 'bernoulli'  # or categorical, logistics, of data with more levels
  config.hidden = 128
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """One hidden layer."""
  common.check_sizes(config, 'hidden')
  law = explicit.law(config, spec)
  module = nade.NADE(
    math.prod(spec.shape), config.hidden, spec.num_levels, law.pop('outputs')
  )
  order = explicit.order(config, spec)
  return explicit.sequence(module, config, spec, wrap, order=order, **law)
