"""R3GAN: its own networks, told the class or not, on images of 28 to 64 pixels.

  python experiments/main.py --workdir=runs/r3gan_images \
      --config=experiments/configs/r3gan_images.py[:label|:paper] [--data=NAME]

About 520 s on two CPU cores. The argument is 'label', to be told classes, or 'paper',
its sizes for CIFAR-10. Data are images, as --data=glyphs?size=32 or tfds:fashion_mnist.

Seed 0, glyphs of 28 pixels: digits of several faces, most of them readable, a third
with a stroke too many or too few, on grounds of one gray where the data have black too.
Frechet distance 42 from 2,000 test images (30 after 1,500 steps), MMD^2 0.014. With
'label' (560 s) a column a class, most its digit at sight, sixes, eights and nines often
broken: a classifier that is right on 100% of 2,000 test images reads 80.5% of as many
samples as their class, two samples of a class are 0.79 times as far apart as two test
images of it, and the distance is 15. At this budget sngan_images.py is ahead.

Penalties are a derivative of a derivative: a step of 32 images takes 0.24 s, one of 64
of sngan_images.py 0.13 s. Of one width of 16, in batches of 64, it was 94 after 1,000
steps. Channels double from 16 to 64 here; the paper's are one width, and its gamma,
rates and averages change over the run, and examples are augmented: these are constant,
but for the rates, which fall to 0, and images are as they are.
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
    'max_features': 768, 'num_blocks': 2, 'gamma': 0.05, 'b2': 0.99,
  },
}  # fmt: skip


def get_config(arg=None):
  """The config; the argument is 'label', to be told classes, or 'paper', its sizes."""
  chosen = runs.choose(SIZES, arg or '', 'the argument')
  config = runs.small_images(steps=2000, b1=0.0)
  config.batch_size = 32
  config.data = 'glyphs'
  config.steps_per_dispatch = 10
  config.condition = ''  # or 'label'
  config.game = 'relativistic'
  config.b2 = 0.99
  config.base_features = 16  # at the images' size; they double with each halving
  config.max_features = 64
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
