"""Transformer: characters of text by causal attention.

  python experiments/main.py --config=experiments/configs/transformer_manual.py \
      --workdir=runs/transformer_manual

About 210 s on two CPU cores, other work beside. The argument is the data set, of
integers; text:PATH is your own. 78.2 +- 1.6 nats a window of 64 characters of the test
part, exact: 1.76 bits a character, where pairs of characters before have 2.46. What is
seen are words and lines of the manual's style, without sense.
"""

from experiments.configs.parts import evaluations, likelihoods, runs

ANOTHER = 'manual?length=32'
make_evaluation = evaluations.likelihoods


def get_config(arg=None):
  """The config; the argument is the data set, of integers."""
  config = runs.learning(arg or 'manual', steps=4000, batch_size=32, rate=2e-3)
  config.width = 64
  config.layers = 3
  config.heads = 4
  config.dropout = 0.1
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """Blocks of attention and a perceptron, in the order of memory."""
  return likelihoods.transformer(config, spec, wrap)
