"""Models with a likelihood: what data they take, their orders, outputs."""

import functools
import math

import jax.numpy as jnp
import numpy as np

from experiments.configs.parts import optimizers, runs, specs
from gm_jax import base, orders
from gm_jax.losses import likelihood
from gm_jax.methods import autoregressive
from gm_jax.models import transformer as transformer_lib
from gm_jax.samplers import autoregressive as sampler

COMPONENTS = 5  # logistics of a pixel


def check_integers(config, spec) -> None:
  """Raises ValueError unless the model sees integers of known levels."""
  if spec.num_levels is None or not jnp.issubdtype(spec.dtype, jnp.integer):
    raise ValueError(
      f'data = {config.data!r} gives the model real numbers, and it needs integers:'
      ' images with ?transform=levels, dynamic:NAME, melodies or text'
    )


def check_binary(config, spec) -> None:
  """Raises ValueError unless the model sees zeros and ones."""
  check_integers(config, spec)
  if spec.num_levels != 2:
    raise ValueError(
      f'data = {config.data!r} has {spec.num_levels} levels, and this model needs 2:'
      ' dynamic:NAME or static:NAME'
    )


def check_real(config, spec) -> None:
  """Raises ValueError if the model, which has a density, would see a lattice."""
  if spec.transform.measure != 'density':
    raise ValueError(
      f'data = {config.data!r} gives the model a lattice, and a density on it has no'
      ' bound: images with ?transform=dequantization, or points'
    )


def order(config, spec) -> np.ndarray:
  """The order named by `order`: rows, columns, or random by the seed."""
  table = {
    'rows': orders.rows,
    'columns': orders.columns,
    'random': lambda s: np.random.default_rng(config.seed).permutation(orders.rows(s)),
  }
  return runs.choose(table, config.order, 'order')(spec.shape)


def output_distribution(config, spec) -> dict:
  """The log-mass, the draw and the number of outputs that `likelihood` names."""
  check_integers(config, spec)
  levels = spec.num_levels

  def bernoulli():
    check_binary(config, spec)
    return None, likelihood.bernoulli, sampler.bernoulli

  def logistics():
    def nats(parameters, x):
      return likelihood.pixels(parameters, x[..., None], num_levels=levels)

    draw = sampler.pixels(1, levels)
    outputs = likelihood.num_pixel_parameters(COMPONENTS, 1)
    return outputs, nats, lambda key, parameters: draw(key, parameters)[:, 0]

  table = {
    'bernoulli': bernoulli,
    'categorical': lambda: (levels, likelihood.categorical, sampler.categorical),
    'logistics': logistics,
  }
  outputs, nats, draw = runs.choose(table, config.likelihood, 'likelihood')()
  return {'outputs': outputs, 'likelihood': nats, 'draw': draw}


def sequence(module, config, spec, wrap, **kwargs) -> base.Method:
  """An autoregressive method of a module that takes numbers one after another."""
  return autoregressive.autoregressive(
    module,
    wrap(optimizers.plain_adam(config)),
    shape=spec.shape,
    order=order(config, spec) if 'order' in config else None,
    condition=specs.condition(config, spec),
    **kwargs,
  )


def transformer(config, spec, wrap) -> base.Method:
  """A causal transformer over integers in the order of memory."""
  check_integers(config, spec)
  runs.check_sizes(config, 'width', 'layers', 'heads')
  runs.check_dropout(config)
  module = transformer_lib.Transformer(
    math.prod(spec.shape),
    spec.num_levels,
    config.width,
    config.layers,
    config.heads,
    config.dropout,
  )
  output = {'likelihood': likelihood.categorical, 'draw': sampler.categorical}
  return sequence(module, config, spec, wrap, **output)


def pixels(network, config, spec, wrap) -> base.Method:
  """A PixelCNN; with `components`, of pixels whose channels are drawn together."""
  check_integers(config, spec)
  runs.check_images(config, spec)
  runs.check_sizes(config, 'features', 'layers', 'radius')
  runs.check_dropout(config)
  height, width, channels = spec.shape
  sizes = config.features, config.layers, config.radius
  make = functools.partial(
    network, height, width, spec.num_levels, *sizes, dropout=config.dropout
  )
  if 'components' not in config:
    if channels != 1:
      raise ValueError(
        f'data = {config.data!r} has {channels} channels, and this model takes 1;'
        ' pixelcnn_pp_digits.py takes more'
      )
    output = {'likelihood': likelihood.categorical, 'draw': sampler.categorical}
    return sequence(make(), config, spec, wrap, **output)
  runs.check_sizes(config, 'components')
  outputs = likelihood.num_pixel_parameters(config.components, channels)
  module = make(outputs=outputs, channels=channels)
  return sequence(
    module,
    config,
    spec,
    wrap,
    likelihood=functools.partial(likelihood.pixels, num_levels=spec.num_levels),
    draw=sampler.pixels(channels, spec.num_levels),
    event=(channels,),
  )
