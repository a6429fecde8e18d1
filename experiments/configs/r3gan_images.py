"""R3GAN, told the class or not, on images of 28 to 64 pixels.

  python experiments/main.py --workdir=runs/r3gan_images \
      --config=experiments/configs/r3gan_images.py[:label|:paper] [--data=NAME]

About 0 s on two CPU cores. HEADER
"""

from experiments.configs.parts import evaluations, games, networks, optimizers, runs
from gm_jax.methods import gan

ANOTHER = 'label'  # argument that tests try
make_evaluation = evaluations.images_or_classes
SIZES = {
  '': {},
  'label': {'condition': 'label'},
  'paper': {
    'data': 'tfds:cifar10', 'batch_size': 512, 'steps': 40_000, 'ema_decay': 0.999,
    'g_learning_rate': 2e-4, 'd_learning_rate': 2e-4, 'base_features': 768,
    'num_blocks': 2, 'gamma': 0.05, 'b2': 0.99,
  },
}  # fmt: skip


def get_config(arg=None):
  """The config; the argument is 'label', to be told classes, or 'paper', its sizes."""
  chosen = runs.choose(SIZES, arg or '', 'the argument')
  config = runs.small_images(steps=1500, b1=0.0)
  config.data = 'glyphs'
  config.steps_per_dispatch = 10
  config.condition = ''  # or 'label'
  config.game = 'relativistic'
  config.b2 = 0.99
  config.base_features = 16
  config.num_blocks = 1
  config.gamma = 0.5
  config.update(chosen)
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The relativistic game, both penalties of the same weight, R3GAN's networks."""
  return gan.gan(
    **networks.r3gan_networks(config, spec),
    **optimizers.adams(config, wrap),
    penalty=games.r1_r2(config.gamma),
    game=games.game(config),
  )
