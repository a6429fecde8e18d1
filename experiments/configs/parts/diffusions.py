"""Leaves and networks of diffusion models, and what is measured on the data."""

import math

import numpy as np

from experiments.configs.parts import runs, specs
from gm_jax import conditions
from gm_jax.data import dataset
from gm_jax.models import denoisers, dit, unet

MEASURED = 10_000  # examples of the training split
NEAR = 0.1  # relative difference of a root mean square that is let pass


def leaves(data: str, *, steps: int, batch_size: int = 128, rate: float = 1e-3):
  """The leaves of a diffusion model and its perceptron."""
  config = runs.learning(data, steps=steps, batch_size=batch_size, rate=rate)
  config.network = 'mlp'  # or 'unet', 'dit', of images
  config.width = 256
  config.num_blocks = 3
  config.drop = 0.1  # rate at which the condition is left out, for guidance
  config.self_conditioned = False  # the network sees its own first output
  return config


def network(config, spec, *, outputs: int = 1):
  """The denoiser that `network` names, of so many outputs for each number of x."""
  runs.check_sizes(config, 'width', 'num_blocks')
  image, own = len(spec.shape) == 3, config.self_conditioned
  flat, channels = (
    outputs * n if own or outputs > 1 else None
    for n in (math.prod(spec.shape), spec.shape[-1])
  )

  def perceptron():
    body = denoisers.ResidualMLP(config.width, config.num_blocks, outputs=flat)
    body = denoisers.SelfConditioned(body) if own else body
    return body if len(spec.shape) == 1 else denoisers.Flattened(body)

  def of_images(make):
    if not image:
      raise ValueError(f'network = {config.network!r} is of images [H, W, C]')
    body = make(channels)
    return denoisers.SelfConditioned(body) if own else body

  def u_net(outputs):
    blocks = config.num_blocks
    return unet.UNet(config.width, (1, 2, 2), blocks, attention=(2,), outputs=outputs)

  def transformer(outputs):
    depth = config.num_blocks
    return dit.DiT(patch=4, width=config.width, depth=depth, outputs=outputs)

  table = {
    'mlp': perceptron,
    'unet': lambda: of_images(u_net),
    'dit': lambda: of_images(transformer),
  }
  return runs.choose(table, config.network, 'network')()


def condition(config, spec) -> conditions.Condition | None:
  """What `condition` names, left out at the rate `drop` where that is above 0."""
  found = specs.condition(config, spec)
  if found is None:
    return None
  found = conditions.concatenated(found)
  return conditions.optional(found, config.drop) if config.drop else found


def measure(config, data: dataset.Dataset) -> None:
  """Fills `data_std`, where it is 0, with the root mean square of the training split.

  Raises:
    ValueError: it is another data set's, by more than a tenth.
  """
  x = dataset.transformed(data.spec, data.arrays('train', MEASURED))['x']
  found = float(np.sqrt(np.mean(np.asarray(x, np.float64) ** 2)))
  if config.data_std == 0.0:
    config.data_std = round(found, 4)
  if abs(config.data_std / found - 1) > NEAR:
    raise ValueError(
      f'data_std = {config.data_std:g}, but data = {config.data!r} have {found:.4f}:'
      ' data_std = 0 measures it'
    )
