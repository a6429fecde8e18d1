"""Score matching: an energy of two moons, learned by the gradient of its density.

  python experiments/main.py --config=experiments/configs/score_matching_toy.py \
      --workdir=runs/score_matching_toy

About 154 s on two CPU cores, other work beside (85 s of CPU). The argument is the
objective: implicit, sliced or denoising, of which the first alone was trained. 1.022 +-
0.021 nats a point of the test split, an estimate: log Z, by importance sampling, has a
standard error of 0.012 (seed 0, 2,000 points). By a grid of 501 x 501 points the
divergence of the data from the model is 0.0033 nats. The picture shows two moons with
nothing between them; in the middle, where the data's density is 0.0008, the model's is
0.0025.
"""

import flax.linen as nn

from experiments.configs.parts import flows as parts
from experiments.configs.parts import likelihoods, optimizers, runs
from gm_jax import priors
from gm_jax.losses import score_matching as losses
from gm_jax.methods import score_matching
from gm_jax.models import mlp

ANOTHER = 'sliced'
make_evaluation = parts.densities


def get_config(arg=None):
  """The config; the argument is the objective: implicit, sliced or denoising."""
  config = runs.learning('toy:moons', steps=4000, batch_size=256, rate=3e-3)
  del config.condition
  config.evaluate_every = config.sample_every = config.checkpoint_every = 2000
  config.objective = arg or 'implicit'
  config.denoising_std = 0.05  # of denoising's noise, which the model then has too
  config.noise_std = 1.5  # of the density beside which the energy is one, around 0
  config.width = 64
  config.layers = 3
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """A smooth perceptron of vectors beside a normal distribution."""
  likelihoods.check_real(config, spec)
  runs.check_sizes(config, 'width', 'layers')
  if len(spec.shape) != 1:
    raise ValueError(f'data = {config.data!r} are not vectors, which this config needs')
  for name in ('noise_std', 'denoising_std'):
    if not config[name] > 0:
      raise ValueError(f'{name} must be > 0, got {config[name]}')
  objectives = {
    'implicit': score_matching.implicit,
    'sliced': losses.sliced,
    'denoising': score_matching.denoising(config.denoising_std),
  }
  return score_matching.score_matching(
    mlp.MLP((config.width,) * config.layers + (1,), activation=nn.silu),
    priors.normal(spec.shape[0], std=config.noise_std),
    wrap(optimizers.plain_adam(config)),
    shape=spec.shape,
    objective=runs.choose(objectives, config.objective, 'objective'),
  )
