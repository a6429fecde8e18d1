"""WGAN-GP: a Wasserstein GAN with gradient penalty, on digits.

  python experiments/main.py --config=experiments/configs/wgan_gp_digits.py \
      --workdir=runs/wgan_gp_digits

About 35 s on two CPU cores. The argument is the number of critic steps. Clean digits
are seen: Frechet 9.3, MMD^2 0.0005 (one seed, the test split). As in wgan_digits.py the
critic's decay is over all its updates; without that the samples were no digits here
either (Frechet 552).
"""

from experiments.configs.parts import evaluations, games, networks, optimizers, runs
from gm_jax.losses import adversarial, penalties
from gm_jax.methods import gan

ANOTHER = '3'  # argument that tests try
make_evaluation = evaluations.images
batch_size = runs.several_critic_steps


def get_config(arg=None):
  """The config; the argument is the number of critic steps."""
  config = runs.small_images(steps=2000, b1=0.0)
  config.num_critic = int(arg or 5)
  config.penalty_weight = 10.0
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The networks of gan_digits.py, and the gradient's norm held near 1."""
  weight = config.penalty_weight
  return gan.gan(
    **networks.small_networks(config, spec),
    **optimizers.adams(config, wrap),
    penalty=games.weighted(penalties.gradient_penalty, weight, 'penalty_weight'),
    game=adversarial.WASSERSTEIN,
    num_critic=config.num_critic,
  )
