"""Transformer: pixels, one after another, by causal attention.

  python experiments/main.py --config=experiments/configs/transformer_digits.py \
      --workdir=runs/transformer_digits

About 50 s on two CPU cores, other work beside. The argument is the data set, of
integers. 84.3 +- 0.5 nats an image of the test split, exact; readable digits. With
1,257 images what a convolution knows of neighbors saves 6 nats, and longer training
only learns them by heart (96.3 after 4,000 steps with dropout 0.1).
"""

from experiments.configs.parts import evaluations, likelihoods, runs

ANOTHER = 'dynamic:digits'
make_evaluation = evaluations.likelihoods


def get_config(arg=None):
  """The config; the argument is the data set, of integers."""
  config = runs.learning(
    arg or 'digits?transform=levels', steps=1000, batch_size=32, rate=2e-3
  )
  config.order = 'rows'  # or columns, random
  config.width = 64
  config.layers = 3
  config.heads = 4
  config.dropout = 0.3
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """Blocks of attention and a perceptron, in the order of memory."""
  return likelihoods.transformer(config, spec, wrap)
