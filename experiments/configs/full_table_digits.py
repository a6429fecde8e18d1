"""The full table: a frequency for every image there can be, of 4 x 4 binary pixels.

  python experiments/main.py --config=experiments/configs/full_table_digits.py \
      --workdir=runs/full_table_digits

About 10 s on two CPU cores, nearly all of it compiling. The argument is the smoothing.
65,535 parameters for 1,257 images: 11.10 +- 0.11 nats of the test split, exact, where a
fair coin a pixel has 11.09. The table has learned the training images by heart, and
nothing else: the samples are such blots.
"""

from experiments.configs.parts import evaluations, likelihoods, runs
from gm_jax.methods import tables

ANOTHER = '1.0'
make_evaluation = evaluations.likelihoods


def get_config(arg=None):
  """The config; the argument is the smoothing. One epoch of the digits' middle."""
  config = runs.counting('dynamic:digits?crop=4', steps=3, batch_size=419)
  config.smoothing = float(arg or 0.01)
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """2^16 frequencies."""
  likelihoods.check_integers(config, spec)
  return tables.full_table(spec.shape, spec.num_levels, smoothing=config.smoothing)
