"""TarFlow: digits as sequences of patches, by causal transformers.

  python experiments/main.py --config=experiments/configs/tarflow_digits.py \
      --workdir=runs/tarflow_digits

About 45 s on two CPU cores (half of its 93 CPU seconds; others ran beside). The
argument is the side of a patch: 2 makes 16 patches of 4 numbers, 1 makes 64 pixels.
Sides of other data must be its multiples, as 28 is of 4. Pixels are standardized first,
each by itself. 91.6 +- 0.6 nats an image of the test split, 2.06 bits a number, a bound
by noise on the levels, of the checkpoint that is best on the validation split (seed 0,
step 900). Most samples are digits, some are strokes that are none: Frechet 17.

With two layers a block on [-1, 1] at a rate of 1e-3 the bound stood still after 1,250
steps, at 2.28 bits with 2.13 on the train split: logits and standardization are what
helped. A `weight_decay` of 1e-2 was on throughout; `noise` was not tried.
"""

import functools
import math

import jax

from experiments.configs.parts import evaluations, likelihoods, optimizers, runs, specs
from gm_jax import bijectors, flow_layers, patch_flow_layers, priors
from gm_jax.methods import flow
from gm_jax.models import patch_transformer

ANOTHER = '1'  # argument that tests try
make_evaluation = evaluations.likelihoods_and_images


def get_config(arg=None):
  """The config; the argument is the side of a patch, in pixels."""
  config = runs.learning('digits?transform=logit', steps=1200, batch_size=64, rate=4e-3)
  config.evaluate_every = config.checkpoint_every = 300
  config.best = '-validation_bits_per_dim_bound'
  config.weight_decay = 1e-2  # of a step, times the rate
  config.noise = 0.0  # standard deviation of what is added to x in training
  config.patch = int(arg or 2)
  config.blocks = 4  # of the flow, the order of patches reversed after each
  config.layers = 1  # of the transformer in each
  config.width = 64
  config.heads = 4
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """A flow of patches to a standard normal distribution."""
  likelihoods.check_real(config, spec)
  runs.check_images(config, spec)
  runs.check_sizes(config, 'patch', 'blocks', 'layers', 'width', 'heads')
  runs.check_sizes(config, 'noise', least=0)
  flat = bijectors.flatten(spec.shape)
  standardized = bijectors.chain(flat, flow_layers.actnorm(), bijectors.inverted(flat))
  cut = bijectors.patches(spec.shape, config.patch)
  num_dims = math.prod(spec.shape)
  per_patch = config.patch**2 * spec.shape[-1]
  length = num_dims // per_patch

  def make(outputs):
    sizes = config.width, config.layers, config.heads
    return patch_transformer.PatchTransformer(length, outputs, *sizes)

  shape = (length, per_patch)
  tarflow = patch_flow_layers.tarflow(make, config.blocks, shape=shape)
  method = flow.flow(
    bijectors.chain(standardized, cut, tarflow),
    priors.normal(num_dims),
    wrap(optimizers.plain_adam(config)),
    shape=spec.shape,
    condition=specs.condition(config, spec),
  )
  return with_noise(method, config.noise)


def with_noise(method, std):
  """The method whose steps see x with normal noise added."""
  if not std:
    return method

  @functools.wraps(method.step)
  def step(state, key, batch):
    noise_key, key = jax.random.split(key)
    noise = std * jax.random.normal(noise_key, batch['x'].shape)
    return method.step(state, key, {**batch, 'x': batch['x'] + noise})

  return method._replace(step=step)
