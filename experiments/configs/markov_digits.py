"""Markov chain: every pixel by the one before it, on digits.

  python experiments/main.py --config=experiments/configs/markov_digits.py \
      --workdir=runs/markov_digits

About 10 s on two CPU cores, nearly all of it compiling. The argument is the order:
rows, columns or random. 102.9 +- 0.5 nats an image of the test split, exact: 4.6 below
independence. What is seen is fog with short strokes along the rows. A longer memory
needs data that digits do not have: 17^2 contexts a pixel already have fewer than five
examples each.
"""

from experiments.configs.parts import evaluations, likelihoods, runs
from gm_jax.methods import tables

ANOTHER = 'columns'
make_evaluation = evaluations.likelihoods


def get_config(arg=None):
  """The config; the argument is the order: rows, columns or random."""
  config = runs.counting('digits?transform=levels', steps=3, batch_size=419)
  config.order = arg or 'rows'
  config.memory = 1  # pixels before, that are looked at
  config.smoothing = 0.1
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """A table of K x K frequencies for each pixel."""
  likelihoods.check_integers(config, spec)
  return tables.chain(
    spec.shape,
    spec.num_levels,
    memory=config.memory,
    order=likelihoods.order(config, spec),
    smoothing=config.smoothing,
  )
