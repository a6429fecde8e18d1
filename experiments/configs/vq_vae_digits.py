"""VQ-VAE: digits as a few integers each, and a transformer of the integers.

  python experiments/main.py --config=experiments/configs/vq_vae_digits.py \
      --workdir=runs/vq_vae_digits

About 60 s on two CPU cores. The argument is the number of codes.
"""

import ml_collections
import optax

from experiments.configs.parts import evaluations, likelihoods, optimizers, runs
from gm_jax import base, observations
from gm_jax.methods import code_prior, vq_vae
from gm_jax.models import latent
from gm_jax.tasks import codes

ANOTHER = '24'  # argument that tests try


def get_config(arg=None):
  """The config; the argument is the number of codes."""
  config = runs.learning('digits?transform=levels', steps=3000, batch_size=64, rate=2e-3)
  config.vq_steps = 2000
  config.num_codes = int(arg or 64)
  config.code_size = 16
  config.halvings = 2
  config.features = 32
  config.commitment = 0.25
  config.decay = 0.99
  config.least = 1e-3
  config.width = 64
  config.layers = 2
  config.heads = 4
  config.dropout = 0.3
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """Two phases: the auto-encoder through a table, then the prior of its codes."""
  likelihoods.check_integers(config, spec)
  runs.check_images(config, spec)
  runs.check_sizes(config, 'num_codes', 'code_size', 'halvings', 'features')
  if not 0 < config.vq_steps < config.steps:
    raise ValueError(f'vq_steps must be in (0, steps), got {config.vq_steps}')
  height, width, channels = spec.shape
  observation = observations.logistics(channels, spec.num_levels, 1)
  sizes = config.halvings, config.features
  net = vq_vae.Networks(
    latent.GridEncoder(config.code_size, *sizes, num_levels=spec.num_levels),
    latent.GridDecoder(observation.parameters(spec.shape)[-1], *sizes),
    observation,
    config.num_codes,
  )
  first = vq_vae.vq_vae(
    net,
    wrap(optimizers.plain_adam(_of_phase(config, config.vq_steps))),
    commitment=config.commitment,
    decay=config.decay,
    least=config.least,
  )
  scale = 2**config.halvings
  in_codes = spec._replace(
    shape=(height // scale, width // scale), num_levels=config.num_codes
  )
  prior = likelihoods.transformer(
    _of_phase(config, config.steps - config.vq_steps), in_codes, wrap
  )
  second = code_prior.code_prior(net, prior)
  return (
    base.Phase(first, config.vq_steps, spec),
    base.Phase(second, config.steps, spec, code_prior.after_vq_vae(second)),
  )


def _of_phase(config, steps):
  """The config of a phase, whose rate decays over its own steps."""
  own = ml_collections.ConfigDict(config.to_dict())
  own.steps = steps
  return own


def make_evaluation(config, data):
  """The bound of held-out data, distances of samples, the use of the codes."""
  splits = evaluations.splits_of(data, {'train': None, 'test': None})
  return evaluations.merged(
    evaluations.likelihoods(config, data),
    evaluations.images(config, data),
    evaluations.bound(codes.usage, data, splits, num_codes=config.num_codes),
  )
