"""Markov chain: every character of a text by the two before it.

  python experiments/main.py --config=experiments/configs/markov_manual.py \
      --workdir=runs/markov_manual

About 10 s on two CPU cores. The argument is the memory, 0 for single characters. With
two 2.46 bits a character of the test part, exact (109.3 +- 2.2 nats a window of 64).
What is seen are syllables, and some short words.
"""

from experiments.configs.parts import evaluations, likelihoods, runs
from gm_jax.methods import tables

ANOTHER = '1'
make_evaluation = evaluations.likelihoods


def get_config(arg=None):
  """The config; the argument is the memory, 0 for single characters."""
  config = runs.counting('manual', steps=100, batch_size=4096)
  config.memory = 2 if arg is None else int(arg)
  config.smoothing = 0.5
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """One table for all places; the counts are of windows, as many as there are."""
  likelihoods.check_integers(config, spec)
  return tables.chain(
    spec.shape,
    spec.num_levels,
    memory=config.memory,
    shared=True,
    smoothing=config.smoothing,
  )
