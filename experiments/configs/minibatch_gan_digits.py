"""A critic that sees how alike the samples of a batch are, on digits.

  python experiments/main.py --config=experiments/configs/minibatch_gan_digits.py \
      --workdir=runs/minibatch_gan_digits

TODO
"""

from experiments.configs import common
from gm_jax.methods import gan
from gm_jax.models import mlp, remedies

STATISTICS = {
  'stddev': remedies.minibatch_stddev,
  'discrimination': remedies.MinibatchDiscrimination(16, 4),
}

ANOTHER = 'discrimination'  # argument that tests try
make_evaluation = common.image_evaluation


def get_config(arg=None):
  """The config; the argument is stddev or discrimination."""
  config = common.small_images()
  config.r1_gamma = 1.0
  config.statistic = arg or 'stddev'
  config.game = 'non_saturating'
  config.label_smoothing = 0.0
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The networks of gan_digits.py, the critic's last layer with the statistic."""
  parts = common.small_networks(config, spec)
  statistic = common.choose(STATISTICS, config.statistic, 'statistic')
  parts['discriminator'] = remedies.WithStatistics(mlp.MLP((256, 256)), statistic)
  return gan.gan(
    **parts,
    **common.adams(config, wrap),
    penalty=common.r1(config.r1_gamma),
    game=common.game(config),
  )
