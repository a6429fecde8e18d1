"""Conditional GAN.

TODO
"""

from experiments.configs.parts import evaluations, games, optimizers, runs
from gm_jax import conditions, priors
from gm_jax.methods import gan
from gm_jax.models import dcgan, joint, mlp, sngan

ANOTHER = 'projection'  # argument that tests try
KINDS = ('concatenation', 'projection', 'paper')
make_evaluation = evaluations.images_of_classes


def get_config(arg=None):
  """The config; the argument is how the class enters: one of `KINDS`."""
  kind = arg or 'concatenation'
  if kind == 'paper':
    config = runs.game(
      'tfds:cifar10',
      steps=50_000,
      batch_size=64,
      generator=2e-4,
      discriminator=2e-4,
      b1=0.0,
    )
    config.ema_decay = 0.0
    config.latent_size = 128
    config.base_features = 256
    config.d_features = 128
    config.r1_gamma = 0.0
    config.num_critic = 5
    config.game = 'hinge'
  else:
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

  def paper():
    body = sngan.Discriminator(width)
    critic = joint.Projection(body, activation=lambda x: x, spectral_norm=True)
    return sngan.Generator(size, channels, config.base_features), critic

  makers = {'concatenation': concatenation, 'projection': projection, 'paper': paper}
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
