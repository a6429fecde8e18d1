"""InfoGAN.

TODO
"""

from experiments.configs.parts import evaluations, optimizers, runs
from gm_jax import priors
from gm_jax.methods import infogan
from gm_jax.models import infogan as networks

PAPER = 'paper'
ANOTHER = 'tfds:fashion_mnist'  # argument that tests try
make_evaluation = evaluations.images_of_codes


def get_config(arg=None):
  """The config; the argument is the data, or 'paper' for its sizes on MNIST."""
  paper = arg == PAPER
  config = runs.game(
    'tfds:mnist' if paper else arg or 'glyphs',
    steps=5000 if paper else 2500,
    batch_size=128 if paper else 64,
    generator=1e-3,
    discriminator=2e-4,
    b1=0.5,
  )
  config.ema_decay = 0.99
  config.steps_per_dispatch = 10
  config.latent_size = 62
  config.base_features = 64 if paper else 32
  config.hidden = 1024 if paper else 256
  config.num_classes = 10
  config.num_continuous = 2
  config.information_weight = 1.0
  config.continuous_weight = 0.1
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The paper's networks; Q has layers of its own, and the critic's rate."""
  runs.check_images(config, spec)
  runs.check_sizes(config, 'latent_size', 'base_features', 'hidden')
  size, _, channels = spec.shape
  outputs = config.num_classes + 2 * config.num_continuous
  features, hidden = config.base_features, config.hidden
  return infogan.infogan(
    networks.Generator(size, channels, features, hidden),
    networks.Reader(1, features, (hidden,)),
    networks.Reader(outputs, features, (hidden, max(1, hidden // 8))),
    **optimizers.adams(config, wrap),
    q_tx=wrap(optimizers.adam(config, config.d_learning_rate)),
    codes=infogan.Codes(
      priors.uniform(config.latent_size), config.num_classes, config.num_continuous
    ),
    information_weight=config.information_weight,
    continuous_weight=config.continuous_weight,
  )
