"""Conditional GAN: digits of the class that is asked for.

  python experiments/main.py --workdir=runs/conditional_gan_digits \
      --config=experiments/configs/conditional_gan_digits.py[:projection]

About 130 s on two CPU cores, other work beside. The argument is how the class enters:
concatenated to the input of both networks, or by the generator's normalization and a
projection critic. --mode=sample --condition=7 draws one class, --mode=sample alone a
column a class.

Seed 0, 2,000 samples for the classes of the test split: an independently trained
classifier, right on 99.4% of the test split's 360 digits, reads 98.4% of them as the
class asked for, and by projection 97.7%. Two samples of a class are 0.93 times as far
apart as two test digits of it, either way. Frechet distance 3.2 and MMD^2 -0.0006
(unbiased: nothing to tell), by projection 4.8 and 0.0001: lower than those of any GAN
here that is not told the class. Every column is its digit at sight, fives and eights
grayest.

The residual networks and sizes of cGANs with Projection Discriminator, Miyato and
Koyama, 2018, arXiv:1802.05637: sngan_images.py:paper with --config.condition=label.
"""

from experiments.configs.parts import evaluations, games, optimizers, runs
from gm_jax import conditions, priors
from gm_jax.methods import gan
from gm_jax.models import dcgan, joint, mlp

ANOTHER = 'projection'  # argument that tests try
make_evaluation = evaluations.images_of_classes


def get_config(arg=None):
  """The config; the argument is 'projection' or 'concatenation'."""
  kind = arg or 'concatenation'
  config = runs.small_images(steps=6000)
  config.d_features = 256
  config.r1_gamma = 1.0
  config.num_critic = 1
  config.game = 'non_saturating'
  config.kind = kind
  return config


def batch_size(config):
  """Every critic step has its own data."""
  return runs.several_critic_steps(config)


def make_method(config, spec, *, wrap=lambda tx: tx):
  """Both networks are given the class, in the way that `kind` names."""
  runs.check_images(config, spec)
  runs.check_sizes(config, 'latent_size', 'base_features', 'd_features')
  if not spec.num_classes:
    raise ValueError(f'data = {config.data!r} has no classes, which this config needs')
  size, _, channels = spec.shape
  width = config.d_features

  def concatenation():
    generator = joint.Conditioned(dcgan.Generator(size, channels, config.base_features))
    return generator, joint.Conditioned(mlp.MLP((width, width, 1)))

  def projection():
    generator = dcgan.Generator(size, channels, config.base_features)
    return generator, joint.Projection(mlp.MLP((width, width)))

  makers = {'concatenation': concatenation, 'projection': projection}
  generator, critic = runs.choose(makers, config.kind, 'kind')()
  return gan.gan(
    generator,
    critic,
    **optimizers.adams(config, wrap),
    prior=priors.normal(config.latent_size),
    penalty=games.r1(config.r1_gamma),
    game=games.game(config),
    condition=conditions.by_class(spec.num_classes),
    num_critic=config.num_critic,
  )
