"""Energies of a config's leaves: their networks and their chains."""

import math

import flax.linen as nn

from experiments.configs.parts import runs
from gm_jax import chains as chains_lib
from gm_jax import priors
from gm_jax.models import mlp
from gm_jax.samplers import langevin

PIXELS = (-1.0, 1.0)  # bounds of images in model space


def leaves(data: str, *, steps: int, rate: float, step_size: float, noise_scale: float):
  """The leaves of energies of images by short chains of little noise."""
  config = runs.learning(data, steps=steps, batch_size=64, rate=rate)
  del config.condition
  config.b1 = 0.0  # of Adam, without momentum
  config.chains = 'replay'  # or 'data', where chains begin
  config.num_steps = 40  # of chains a training step
  config.step_size = step_size  # of the energy's gradient
  config.noise_scale = noise_scale  # T = noise_scale^2 / (2 step_size)
  config.largest = 0.03  # of a number of the energy's gradient; 0 for any
  config.buffer_size = 5000  # chains, of which a batch goes on
  config.fresh = 0.05  # rate at which chains begin afresh, at noise
  config.sampling_steps = 40  # that samples go on
  config.squared_weight = 0.1  # of squared energies
  config.input_noise = 0.03  # standard deviation of noise added to data
  config.gap_limit = 10.0  # of energies, beyond which a run has diverged; 0 for none
  config.width = 256
  config.layers = 3
  return config


def temperature(config) -> float:
  """T of chains by their leaves.

  Raises:
    ValueError: a step or a noise that is not above 0.
  """
  if not config.noise_scale > 0:
    raise ValueError(f'noise_scale must be > 0, got {config.noise_scale}')
  sizes = {'step_size': config.step_size, 'noise_scale': config.noise_scale}
  return float(langevin.implied_temperature(**sizes))


def of_images(config, spec) -> chains_lib.Chains:
  """Chains within the bounds of pixels, that begin at uniform noise or at the data."""
  runs.check_images(config, spec)
  runs.check_sizes(config, 'buffer_size', least=config.batch_size)
  starts = {'replay': config.buffer_size, 'data': None}
  return chains_lib.Chains(
    priors.uniform(math.prod(spec.shape)),
    num_steps=config.num_steps,
    step_size=config.step_size,
    temperature=temperature(config),
    largest=config.largest or None,
    bounds=PIXELS,
    size=runs.choose(starts, config.chains, 'chains'),
    rate=config.fresh,
    sampling_steps=config.sampling_steps,
  )


def network(config, num_outputs: int) -> nn.Module:
  """A smooth perceptron of so many outputs."""
  runs.check_sizes(config, 'width', 'layers')
  widths = (config.width,) * config.layers
  return mlp.MLP((*widths, num_outputs), activation=nn.silu)


def objective(config) -> dict:
  """Arguments of a method beside its network and its chains."""
  return {
    'weight': config.squared_weight,
    'input_noise': config.input_noise,
    'gap_limit': config.gap_limit or None,
  }
