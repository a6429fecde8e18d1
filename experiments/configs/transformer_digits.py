"""A causal transformer over pixels, one after another.

  python experiments/main.py --config=experiments/configs/transformer_digits.py \
      --workdir=runs/transformer_digits

COST
"""

from experiments.configs import explicit

ANOTHER = 'dynamic:digits'
make_evaluation = explicit.evaluation


def get_config(arg=None):
  """The config; the argument is the data set, of whole numbers."""
  config = explicit.learning(
    arg or 'digits?transform=levels', steps=1000, batch_size=32, rate=2e-3
  )
  config.width = 64
  config.layers = 3
  config.heads = 4
  config.dropout = 0.3
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """Blocks of attention and a perceptron, in the order of memory."""
  return explicit.transformer(config, spec, wrap)
