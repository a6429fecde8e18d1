"""MADE: one masked perceptron for several orders, a mixture of their likelihoods.

  python experiments/main.py --config=experiments/configs/made_digits.py \
      --workdir=runs/made_digits

About 15 s on two CPU cores. The argument is the number of orders, the first of them
that of rows. 22.63 +- 0.18 nats an image of the test split, exact: of the mixture of
four. The samples look like NADE's.
"""

import math

import numpy as np

from experiments.configs.parts import evaluations, likelihoods, optimizers, runs, specs
from gm_jax import orders
from gm_jax.losses import likelihood
from gm_jax.methods import made
from gm_jax.models import made as network
from gm_jax.samplers import autoregressive as sampler

ANOTHER = '2'
make_evaluation = evaluations.likelihoods


def get_config(arg=None):
  """The config; the argument is the number of orders, that of memory the first."""
  config = runs.learning('dynamic:digits', steps=4000, batch_size=64, rate=2e-3)
  config.num_orders = int(arg or 4)
  config.hidden = 256
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """Two hidden layers, masks drawn by the seed."""
  likelihoods.check_binary(config, spec)
  runs.check_sizes(config, 'num_orders', 'hidden')
  rng, rows = np.random.default_rng(config.seed), orders.rows(spec.shape)
  known = [rows] + [rng.permutation(rows) for _ in range(config.num_orders - 1)]
  hidden = (config.hidden, config.hidden)
  num_dims = math.prod(spec.shape)
  masks, mask_orders = made.mask_sets(
    config.seed, num_dims, hidden, num_sets=config.num_orders, mask_orders=known
  )
  return made.made(
    network.MADE(num_dims, hidden),
    wrap(optimizers.plain_adam(config)),
    shape=spec.shape,
    masks=masks,
    mask_orders=mask_orders,
    likelihood=likelihood.bernoulli,
    draw=sampler.bernoulli,
    condition=specs.condition(config, spec),
  )
