"""DDPM: digits by a hundred steps of noise undone.

  python experiments/main.py --config=experiments/configs/ddpm_digits.py \
      --workdir=runs/ddpm_digits

About 80 s on two CPU cores, by the 33 CPU seconds of 1,000 steps. The argument is the
schedule: cosine, or linear, whose betas are those of 1,000 steps times ten. Sampling
undoes all 100 steps, with the variance of the posterior;
--options=num_steps=20,sampler=ddim leaves some out. With --config.condition=label it is
told the class, see `edm_digits`.

Seed 0, at the last of 6,000 steps: most samples are digits at sight, with strokes
bolder than the data's, Frechet 6.9, where random subsets of the training split have
4.1 +- 0.8. What sampling predicts the pixels to be is cut to [-1, 1] (`bound`): where
nothing of the data is left, an error of the noise is one of the data many times as
large, and without the cut samples of the first 300 steps were far outside. Betas of few
linear steps are above 1, and refused. docs/results/diffusion.md has three seeds by
sampler and number of steps.
"""

from experiments.configs.parts import diffusions, evaluations, optimizers, runs
from gm_jax import denoisers, processes
from gm_jax.methods import ddpm

ANOTHER = 'linear'  # argument that tests try
BETAS = {'cosine': processes.cosine_betas, 'linear': processes.linear_betas}
FORMS = {
  'noise': denoisers.NOISE, 'data': denoisers.DATA, 'velocity': denoisers.VELOCITY,
}  # fmt: skip
make_evaluation = evaluations.images_or_classes


def get_config(arg=None):
  """The config; the argument is the schedule, cosine or linear."""
  config = diffusions.leaves('digits', steps=6000)
  config.betas = arg or 'cosine'
  config.num_steps = 100  # T
  config.predicts = 'noise'  # or 'data', 'velocity'
  config.bound = 1.0  # of the pixels that sampling predicts; 0 for none
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """A perceptron that tells the noise."""
  runs.check_sizes(config, 'num_steps', least=2)
  runs.check_sizes(config, 'bound', least=0)
  if config.bound and len(spec.shape) != 3:
    raise ValueError(
      f'bound = {config.bound:g} cuts pixels, and data = {config.data!r} are no images:'
      ' bound = 0'
    )
  return ddpm.ddpm(
    diffusions.network(config, spec),
    wrap(optimizers.plain_adam(config)),
    shape=spec.shape,
    betas=runs.choose(BETAS, config.betas, 'betas')(config.num_steps),
    form=runs.choose(FORMS, config.predicts, 'predicts'),
    bound=config.bound or None,
    condition=diffusions.condition(config, spec),
  )
