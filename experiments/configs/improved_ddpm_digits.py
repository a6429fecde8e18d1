"""Improved DDPM: digits by a hundred steps undone, whose variances are learned.

  python experiments/main.py --config=experiments/configs/improved_ddpm_digits.py \
      --workdir=runs/improved_ddpm_digits

About 80 s on two CPU cores, by the 27 CPU seconds of 1,000 steps. The argument is the
schedule: cosine, or linear, whose betas are those of 1,000 steps times ten. Pixels are
integers of 17 levels, so that the bound is one of a mass. Sampling undoes all 100
steps with the learned variances; --options=num_steps=20,sampler=ddim leaves some out.
With --config.condition=label it is told the class, see `edm_digits`.

Seed 0, at the last of 6,000 steps: nearly all samples are digits at sight, Frechet 9.5,
where random subsets of the training split have 4.1 +- 0.8; at most 120.8 +- 2.2 nats an
image of the test split (a bound; +- over images). The bound is at its best after 2,000
steps, 114.7 +- 1.8 (Frechet 14.8), and then overfits; `vdm_digits`, made for the bound,
has 82.9.
"""

from experiments.configs.parts import (
  diffusions,
  evaluations,
  likelihoods,
  optimizers,
  runs,
)
from gm_jax import processes
from gm_jax.methods import improved_ddpm

ANOTHER = 'linear'  # argument that tests try
BETAS = {'cosine': processes.cosine_betas, 'linear': processes.linear_betas}
make_evaluation = evaluations.likelihoods_and_images


def get_config(arg=None):
  """The config; the argument is the schedule, cosine or linear."""
  config = diffusions.leaves('digits?transform=levels', steps=6000)
  config.betas = arg or 'cosine'
  config.num_steps = 100  # T
  config.bound_weight = 1e-3  # of the bound's terms, nats a pixel
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """A perceptron that tells the noise, and where the variance stands."""
  likelihoods.check_integers(config, spec)
  runs.check_sizes(config, 'num_steps', least=2)
  runs.check_sizes(config, 'bound_weight', least=0)
  return improved_ddpm.improved_ddpm(
    diffusions.network(config, spec, outputs=2),
    wrap(optimizers.plain_adam(config)),
    shape=spec.shape,
    betas=runs.choose(BETAS, config.betas, 'betas')(config.num_steps),
    num_levels=spec.num_levels,
    bound_weight=config.bound_weight,
    condition=diffusions.condition(config, spec),
  )
