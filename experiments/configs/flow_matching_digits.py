"""Flow matching: digits by straight paths from noise.

  python experiments/main.py --config=experiments/configs/flow_matching_digits.py \
      --workdir=runs/flow_matching_digits

About 80 s on two CPU cores, by the 33 CPU seconds of 1,000 steps. The argument is the
coupling of data and noise: independent, or optimal, the nearest order within a batch.
Sampling makes 50 of Euler's steps; --options=num_steps=10 fewer, sampler=heun others.
With --config.condition=label it is told the class, see `edm_digits`.

Seed 0, at the last of 6,000 steps: nearly all samples are digits at sight, Frechet 5.0,
where random subsets of the training split have 4.1 +- 0.8. docs/results/diffusion.md
has three seeds by sampler and number of steps.
"""

from experiments.configs.parts import diffusions, evaluations, optimizers, runs
from gm_jax import times
from gm_jax.methods import flow_matching

ANOTHER = 'optimal'  # argument that tests try
TIMES = {'uniform': times.uniform, 'logit_normal': times.logit_normal}
COUPLINGS = {
  'independent': flow_matching.independent, 'optimal': flow_matching.optimal,
}  # fmt: skip
make_evaluation = evaluations.images_or_classes


def get_config(arg=None):
  """The config; the argument is the coupling, independent or optimal."""
  config = diffusions.leaves('digits', steps=6000)
  config.coupling = arg or 'independent'
  config.times = 'uniform'  # or 'logit_normal'
  config.sigma_min = 0.0  # deviation of the noise that data keep; Lipman et al.'s
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """A perceptron that is the velocity."""
  return flow_matching.flow_matching(
    diffusions.network(config, spec),
    wrap(optimizers.plain_adam(config)),
    shape=spec.shape,
    draw=runs.choose(TIMES, config.times, 'times'),
    coupling=runs.choose(COUPLINGS, config.coupling, 'coupling'),
    sigma_min=config.sigma_min,
    condition=diffusions.condition(config, spec),
  )
