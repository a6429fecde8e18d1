"""Gated PixelCNN: two stacks of convolutions that see all the pixels before.

  python experiments/main.py --config=experiments/configs/gated_pixelcnn_digits.py \
      --workdir=runs/gated_pixelcnn_digits

COST
"""

from experiments.configs import explicit
from gm_jax.models import pixelcnn

ANOTHER = 'dynamic:digits'
make_evaluation = explicit.evaluation


def get_config(arg=None):
  """The config; the argument is the data set, of one channel."""
  data = arg or 'digits?transform=levels'
  config = explicit.learning(data, steps=1000, batch_size=32, rate=3e-3)
  config.features = 32
  config.layers = 4
  config.reach = 2
  config.dropout = 0.5
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """Logits of a pixel's levels."""
  return explicit.pixels(pixelcnn.GatedPixelCNN, config, spec, wrap)
