"""Variational auto-encoders of a config's leaves: networks, priors, outputs."""

import functools
import math

import flax.linen as nn
import jax.numpy as jnp

from experiments.configs.parts import likelihoods, optimizers, runs, specs
from gm_jax import (
  amortized,
  base,
  bijectors,
  conditions,
  flow_layers,
  gradient,
  latent_priors,
  monotone,
  observations,
)
from gm_jax.methods import hierarchical_vae
from gm_jax.models import flows, latent, mlp


def leaves(data: str, *, steps: int, latent_size: int = 16):
  """The leaves of a variational auto-encoder by Adam, its rate decayed to 0.

  The checkpoint of the best bound of the validation split is kept beside the newest:
  small data are overfitted.

  Args:
    data: name of the data set.
    steps: of training.
    latent_size: Z.
  """
  config = runs.learning(data, steps=steps, batch_size=64, rate=1e-3)
  config.evaluate_every = config.checkpoint_every = steps // 8
  config.best = '-validation_nll_bound'
  config.latent_size = latent_size
  config.hidden = 256
  config.likelihood = 'logistics'
  config.std = 0.3  # of the likelihood fixed_gaussian
  return config


def hierarchical(data: str, *, steps: int):
  """The leaves of a hierarchy of codes, its prior terms warmed up over a quarter."""
  config = leaves(data, steps=steps)
  del config.latent_size, config.hidden, config.condition
  config.beta_warmup = steps // 4
  config.skip_above = 5000.0  # steps whose gradient has a larger norm are left out
  del config.clip
  return config


def sizes(config) -> tuple[int, ...]:
  """The numbers that `sizes` lists with + between.

  Raises:
    ValueError: what is none, or below 1.
  """
  found = str(config.sizes).split('+')
  if not all(size.isdecimal() and int(size) for size in found):
    raise ValueError(
      f'sizes must be numbers >= 1 with + between, as 8+16, got {config.sizes!r}'
    )
  return tuple(int(size) for size in found)


def hierarchy(module, output: observations.Observation, config, wrap) -> base.Method:
  """A hierarchical VAE of a network and a config's numbers."""
  runs.check_sizes(config, 'beta_warmup', least=0)
  tx = gradient.skip_large(optimizers.plain_adam(config), config.skip_above)
  return hierarchical_vae.hierarchical_vae(
    module, wrap(tx), observation=output, warmup_steps=config.beta_warmup
  )


def observation(config, spec) -> observations.Observation:
  """What `likelihood` names, if it fits the data.

  Raises:
    ValueError: an unknown name, or one of other data.
  """
  if config.likelihood in ('gaussian', 'fixed_gaussian'):
    likelihoods.check_real(config, spec)
    if config.likelihood == 'gaussian':
      return observations.gaussian()
    return observations.fixed_gaussian(config.std)
  likelihoods.check_integers(config, spec)
  levels, channels = spec.num_levels, spec.shape[-1] if len(spec.shape) == 3 else 1

  def bernoulli():
    likelihoods.check_binary(config, spec)
    return observations.bernoulli()

  table = {
    'bernoulli': bernoulli,
    'categorical': lambda: observations.categorical(levels),
    'logistics': lambda: observations.logistics(channels, levels, 1),
    'mixture': lambda: observations.logistics(channels, levels, likelihoods.COMPONENTS),
    'gaussian': None,  # of real numbers, above
    'fixed_gaussian': None,
  }
  return runs.choose(table, config.likelihood, 'likelihood')()


def levels_of(spec) -> int | None:
  """L of data that the model sees as integers in [0, L); None of real numbers."""
  return spec.num_levels if jnp.issubdtype(spec.dtype, jnp.integer) else None


def prior(config, spec) -> latent_priors.LatentPrior:
  """What `prior` names, N(0, I) where there is no such leaf; of `components`."""
  runs.check_sizes(config, 'latent_size')
  size, levels = config.latent_size, levels_of(spec)

  def vamp():
    runs.check_sizes(config, 'components')
    low, high = (-1.0, 1.0) if levels is None else (0.0, levels - 1.0)
    middle = (low + high) / 2
    return latent_priors.vamp(
      size, spec.shape, config.components, low=low, high=high,
      start=middle, spread=(high - low) / 4,
    )  # fmt: skip

  table = {
    'normal': lambda: latent_priors.normal(size),
    'mixture': lambda: latent_priors.mixture(size, config.components),
    'vamp': vamp,
  }
  if 'flow_layers' in config:
    table['flow'] = lambda: latent_priors.flow(size, latent_flow(config))
  return runs.choose(table, config.get('prior', 'normal'), 'prior')()


def latent_flow(config) -> bijectors.Bijection:
  """Affine couplings of codes, of `flow_layers` layers."""
  runs.check_sizes(config, 'latent_size', 'flow_layers')
  if config.latent_size < 2:
    raise ValueError(f'a flow needs two codes, got latent_size = {config.latent_size}')
  make = functools.partial(flows.Residual, width=64, num_blocks=1)
  layer = bijectors.chain(
    flow_layers.coupling(make, monotone.affine()), bijectors.reverse()
  )
  return bijectors.repeated(layer, config.flow_layers)


def networks(config, spec) -> amortized.Networks:
  """A perceptron of two hidden layers each way."""
  runs.check_sizes(config, 'latent_size', 'hidden')
  hidden, output = (config.hidden,) * 2, observation(config, spec)
  posterior = config.get('posterior', 'gaussian')
  posteriors = {'gaussian': lambda: None, 'flow': lambda: latent_flow(config)}
  shape = output.parameters(spec.shape)
  dense = functools.partial(mlp.MLP, activation=nn.gelu)
  return amortized.Networks(
    encoder=latent.Encoder(dense((*hidden, 2 * config.latent_size)), levels_of(spec)),
    decoder=latent.Decoder(dense((*hidden, math.prod(shape))), shape),
    prior=prior(config, spec),
    observation=output,
    condition=condition(config, spec),
    flow=runs.choose(posteriors, posterior, 'posterior')(),
  )


def condition(config, spec) -> conditions.Condition | None:
  """What `condition` names, as one array that perceptrons take."""
  found = specs.condition(config, spec)
  return None if found is None else conditions.concatenated(found)


def parts(config, spec, wrap) -> tuple:
  """Networks and their optimizer."""
  return networks(config, spec), wrap(optimizers.plain_adam(config))
