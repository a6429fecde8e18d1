"""A Markov chain through an image: every pixel given the one before it.

  python experiments/main.py --config=experiments/configs/markov_digits.py \
      --workdir=runs/markov_digits

COST
"""

from experiments.configs import explicit
from gm_jax.methods import tables

ANOTHER = 'columns'
make_evaluation = explicit.evaluation


def get_config(arg=None):
  """The config; the argument is the order: rows, columns or random."""
  config = explicit.counting('digits?transform=levels', steps=3, batch_size=419)
  config.order = arg or 'rows'
  config.memory = 1  # pixels before, that are looked at
  config.smoothing = 0.1
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """A table of K x K frequencies for each pixel."""
  explicit.check_whole(config, spec)
  return tables.chain(
    spec.shape,
    spec.num_levels,
    memory=config.memory,
    order=explicit.order(config, spec),
    smoothing=config.smoothing,
  )
