"""MMD GAN: a kernel whose features are learned, on digits.

  python experiments/main.py --config=experiments/configs/mmd_gan_digits.py \
      --workdir=runs/mmd_gan_digits

About 45 s on two CPU cores, other work beside. The argument is the number of critic
steps. Digits with gray blots between the strokes: Frechet 25, MMD^2 0.0073 (one seed,
the test split), behind gmmn_digits.py, whose fixed kernel is enough for images of 64
pixels.
"""

from experiments.configs.parts import evaluations, games, networks, optimizers, runs
from gm_jax.losses import discrepancy, penalties
from gm_jax.methods import mmd_gan
from gm_jax.models import mlp

ANOTHER = '3'  # argument that tests try
ALPHAS = (0.2, 0.5, 1.0, 2.0, 5.0)  # of the rational quadratic kernel
batch_size = runs.several_critic_steps
make_evaluation = evaluations.images


def get_config(arg=None):
  """The config; the argument is the number of critic steps."""
  config = runs.small_images(steps=3000, rate=1e-3, b1=0.5)
  config.num_critic = int(arg or 2)
  config.num_features = 16
  config.penalty_weight = 1.0
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The generator of gan_digits.py, 16 features, the witness's gradient near 1."""
  runs.check_sizes(config, 'num_features', 'num_critic')
  parts = networks.small_networks(config, spec)
  txs = optimizers.adams(config, wrap)
  weight = config.penalty_weight
  return mmd_gan.mmd_gan(
    parts['generator'],
    mlp.MLP((256, 256, config.num_features)),
    txs['g_tx'],
    txs['d_tx'],
    prior=parts['prior'],
    kernel=discrepancy.rational_quadratic(alphas=ALPHAS),
    penalty=games.weighted(penalties.gradient_penalty, weight, 'penalty_weight'),
    num_critic=config.num_critic,
  )
