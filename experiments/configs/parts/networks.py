"""Networks of the data's sizes, with the priors of what they are fed."""

import math

import flax.linen as nn

from experiments.configs.parts import runs, specs
from gm_jax import augmentation, priors
from gm_jax.models import dcgan, joint, mlp, r3gan, sngan

AUGMENTATIONS = {
  'color': augmentation.color,
  'translation': augmentation.translation,
  'cutout': augmentation.cutout,
  'everything': augmentation.everything,
}


def ring_networks() -> dict:
  """Networks and prior of the ring: z 256, G 256-128-128-2, D(x / 4) 2-128-1."""
  return {
    'generator': mlp.MLP((128, 128, 2)),
    'discriminator': mlp.MLP((128, 1), input_scale=0.25),
    'prior': priors.normal(256),
  }


def small_generator(config, spec) -> dcgan.Generator:
  """A DCGAN generator, or decoder, of the data's size."""
  runs.check_images(config, spec)
  runs.check_sizes(config, 'base_features')
  size, _, channels = spec.shape
  return dcgan.Generator(size, channels, config.base_features)


def small_networks(config, spec) -> dict:
  """That generator, a small dense critic, a normal prior."""
  runs.check_sizes(config, 'latent_size')
  return {
    'generator': small_generator(config, spec),
    'discriminator': mlp.MLP((256, 256, 1)),
    'prior': priors.normal(config.latent_size),
  }


def dcgan_networks(config, spec, *, normalize: bool = True, dtype=None) -> dict:
  """A DCGAN's networks for the data's images, and a normal prior.

  Args:
    config: whose leaves are read.
    spec: of the data.
    normalize: whether the discriminator has batch normalization.
    dtype: of the computation.

  Raises:
    ValueError: the data are no images, or a size is below 1.
  """
  runs.check_images(config, spec)
  size, _, channels = spec.shape
  runs.check_sizes(config, 'latent_size', 'g_features', 'd_features')
  return {
    'generator': dcgan.Generator(size, channels, config.g_features, dtype=dtype),
    'discriminator': dcgan.Discriminator(config.d_features, normalize, dtype=dtype),
    'prior': priors.normal(config.latent_size),
  }


def sngan_networks(config, spec) -> dict:
  """SNGAN's residual networks, a normal prior, and what `condition` names.

  The critic halves images down to at most 8 pixels; of a condition it takes the
  projection, the generator its normalization's gains and shifts.
  """
  runs.check_images(config, spec)
  runs.check_sizes(config, 'latent_size', 'base_features', 'd_features')
  condition, (size, _, channels) = specs.condition(config, spec), spec.shape
  halvings = max(1, math.ceil(math.log2(size / 8)))
  if condition is None:
    critic = sngan.Discriminator(config.d_features, halvings, num_outputs=1)
  else:
    body = sngan.Discriminator(config.d_features, halvings)
    critic = joint.Projection(body, activation=lambda x: x, spectral_norm=True)
  return {
    'generator': sngan.Generator(size, channels, config.base_features),
    'discriminator': critic,
    'prior': priors.normal(config.latent_size),
    'condition': condition,
  }


def r3gan_networks(config, spec) -> dict:
  """R3GAN's networks, a normal prior, and what `condition` names.

  Channels double with each halving, from `base_features` to at most `max_features`. A
  condition stands beside z, and the critic takes the projection of it.
  """
  runs.check_images(config, spec)
  sizes = 'latent_size', 'base_features', 'max_features', 'num_blocks'
  runs.check_sizes(config, *sizes)
  condition, (size, _, channels) = specs.condition(config, spec), spec.shape
  first, most = config.base_features, config.max_features
  features = tuple(min(first * 2**i, most) for i in range(r3gan.num_resolutions(size)))
  generator = r3gan.Generator(size, channels, features[::-1], config.num_blocks)
  critic = r3gan.Discriminator(features, config.num_blocks)
  if condition is not None:
    body = critic.clone(num_outputs=features[-1])
    critic = joint.Projection(body, activation=lambda x: x)
    generator = joint.Conditioned(generator)
  return {
    'generator': generator,
    'discriminator': critic,
    'prior': priors.normal(config.latent_size),
    'condition': condition,
  }


def augmented_networks(config, spec, wrapper: type[nn.Module]) -> dict:
  """`small_networks`, the critic behind the augmentation named by `augmentation`.

  Args:
    config: whose leaves are read.
    spec: of the data.
    wrapper: of the critic, as `remedies.Augmented`.
  """
  parts = small_networks(config, spec)
  augment = runs.choose(AUGMENTATIONS, config.augmentation, 'augmentation')
  return {**parts, 'discriminator': wrapper(parts['discriminator'], augment)}
