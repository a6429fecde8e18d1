"""Score SDE: digits by a diffusion in continuous time, run backwards.

  python experiments/main.py --config=experiments/configs/score_sde_digits.py \
      --workdir=runs/score_sde_digits

About 60 s on two CPU cores, by the 115 CPU seconds of the run. The argument is the
process: vp, which preserves variance, sub_vp with less noise, or ve, whose noise grows
to a deviation of 10. Sampling makes 100 steps by predictor_corrector, 199 evaluations
of the network; --options=num_steps=20,sampler=dpm_solver makes fewer. `weighting` =
likelihood weighs errors by g^2, as the bound of the likelihood does. With
--config.condition=label it is told the class, see `edm_digits`.

Seed 0, vp, at the last of 6,000 steps: most samples are digits at sight, some are
bold or between two; Frechet 7.7, where random subsets of
the training split have 4.1 +- 0.8; 24.7 after 1,000 steps and 8.1 after 5,000.
"""

from experiments.configs.parts import diffusions, evaluations, optimizers, runs
from gm_jax import processes
from gm_jax.methods import score_sde

ANOTHER = 've'  # argument that tests try
HIGHEST = 10.0  # deviation of the noise that explodes: distances of digits
PROCESSES = {
  'vp': processes.variance_preserving,
  'sub_vp': processes.sub_variance_preserving,
  've': lambda: processes.variance_exploding(0.01, HIGHEST),
}
WEIGHTINGS = {'equal': score_sde.equal, 'likelihood': score_sde.likelihood}
make_evaluation = evaluations.images_or_classes


def get_config(arg=None):
  """The config; the argument is the process: vp, sub_vp or ve."""
  config = diffusions.leaves('digits', steps=6000)
  config.process = arg or 'vp'
  config.weighting = 'equal'  # of the noise at all times; or 'likelihood'
  config.num_steps = 100  # of sampling, each evaluates the network twice but the last
  config.snr = 0.16  # of the correction after each
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """A perceptron that tells the noise, and with it the score."""
  runs.check_sizes(config, 'num_steps')
  return score_sde.score_sde(
    diffusions.network(config, spec),
    wrap(optimizers.plain_adam(config)),
    shape=spec.shape,
    process=runs.choose(PROCESSES, config.process, 'process')(),
    weighting=runs.choose(WEIGHTINGS, config.weighting, 'weighting'),
    num_steps=config.num_steps,
    snr=config.snr,
    condition=diffusions.condition(config, spec),
  )
