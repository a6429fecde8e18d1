"""PixelCNN: one stack of causal convolutions, with its blind spot.

  python experiments/main.py --config=experiments/configs/pixelcnn_digits.py \
      --workdir=runs/pixelcnn_digits

About 50 s on two CPU cores. The argument is the data set, of one channel. 78.5 +- 0.6
nats an image of the test split, exact (1.77 bits a pixel of 17 levels). The samples are
connected strokes, many of them digits. The blind spot is that of any single stack: it
is in a test.
"""

from experiments.configs.parts import evaluations, likelihoods, runs
from gm_jax.models import pixelcnn

ANOTHER = 'dynamic:digits'
make_evaluation = evaluations.likelihoods


def get_config(arg=None):
  """The config; the argument is the data set, of one channel."""
  data = arg or 'digits?transform=levels'
  config = runs.learning(data, steps=3000, batch_size=32, rate=3e-3)
  config.features = 32
  config.layers = 4
  config.radius = 2
  config.dropout = 0.2
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """Logits of a pixel's levels."""
  return likelihoods.pixels(pixelcnn.PixelCNN, config, spec, wrap)
