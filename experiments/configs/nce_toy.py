"""Noise-contrastive estimation: an energy of two moons, learned against noise.

  python experiments/main.py --config=experiments/configs/nce_toy.py \
      --workdir=runs/nce_toy

About 50 s on two CPU cores, other work beside (30 s of CPU). The argument names other
data, of vectors. 1.025 +- 0.021 nats a point of the test split, an estimate: log Z, by
importance sampling, has a standard error of 0.012 (seed 0, 2,000 points). By a grid of
501 x 501 points the divergence of the data from the model is 0.0038 nats, and log Z is
-0.127, where -0.129 was learned. The picture shows two moons with nothing between them;
in the middle, where the data's density is 0.0008, the model's is 0.003.
"""

import flax.linen as nn

from experiments.configs.parts import flows as parts
from experiments.configs.parts import likelihoods, optimizers, runs
from gm_jax import priors
from gm_jax.methods import nce
from gm_jax.models import mlp

ANOTHER = 'toy:pinwheel'
make_evaluation = parts.densities


def get_config(arg=None):
  """The config; the argument names the data, of vectors."""
  config = runs.learning(arg or 'toy:moons', steps=4000, batch_size=256, rate=3e-3)
  del config.condition
  config.evaluate_every = config.sample_every = config.checkpoint_every = 2000
  config.num_noise = 8  # draws of noise a datum
  config.noise_std = 1.5  # of the noise, around 0
  config.width = 64
  config.layers = 3
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """A perceptron of vectors against a normal distribution."""
  likelihoods.check_real(config, spec)
  runs.check_sizes(config, 'width', 'layers', 'num_noise')
  if len(spec.shape) != 1:
    raise ValueError(f'data = {config.data!r} are not vectors, which this config needs')
  if not config.noise_std > 0:
    raise ValueError(f'noise_std must be > 0, got {config.noise_std}')
  return nce.nce(
    mlp.MLP((config.width,) * config.layers + (1,), activation=nn.silu),
    priors.normal(spec.shape[0], std=config.noise_std),
    wrap(optimizers.plain_adam(config)),
    shape=spec.shape,
    num_noise=config.num_noise,
  )
