"""Networks of the data's sizes, with the priors of what they are fed."""

import flax.linen as nn

from experiments.configs.parts import runs
from gm_jax import augmentation, priors
from gm_jax.models import dcgan, mlp

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
