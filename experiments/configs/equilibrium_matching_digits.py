"""Equilibrium matching: digits at the rest of an energy's slope, by regression.

  python experiments/main.py \
      --config=experiments/configs/equilibrium_matching_digits.py \
      --workdir=runs/equilibrium_matching_digits

About 80 s on two CPU cores, by its 77 CPU seconds. The argument is the energy: dot, the
product of x and the network's output, or none, the output being the field itself; there
is then no query of an energy. With --config.condition=label it is told the class, see
`edm_digits`. Options of sampling are num_steps, step_size and momentum.

Seed 0, at the last of 3,000 steps: most samples are digits at sight, some broken or too
thick, Frechet 9.3. Draws of 360 vary much: of six other keys it is 6.3 +- 1.1, their
deviation; with num_steps=36 and step_size=0.01 it is 6.7 +- 1.2; with num_steps=250,
where samples collect at fewer digits, 19.4 +- 2.5. Without an energy, seed 0 too, it is
6.9 +- 1.1 and, with num_steps=250, 14.0 +- 1.9. Random subsets of the training split
have 4.1 +- 0.8.
"""

from experiments.configs.parts import diffusions, evaluations, optimizers, runs
from gm_jax import equilibrium
from gm_jax.methods import equilibrium_matching
from gm_jax.samplers import descent

ANOTHER = 'none'  # argument that tests try
ENERGIES = {'dot': equilibrium.dot, 'none': None}
make_evaluation = evaluations.images_or_classes


def get_config(arg=None):
  """The config; the argument is the energy: dot, or none, a field alone."""
  config = diffusions.leaves('digits', steps=3000)
  config.energy = arg or 'dot'
  config.threshold = 0.8  # of the way to data, from which the field falls to 0
  config.scale = 4.0  # of the field before
  config.num_steps = 120  # of descent; more collect at fewer digits
  config.step_size = 0.003
  config.momentum = 0.0
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """A perceptron whose product with its input is the energy."""
  steps = descent.Steps(config.num_steps, config.step_size, config.momentum)
  descent.check_steps(steps)
  return equilibrium_matching.equilibrium_matching(
    diffusions.network(config, spec),
    wrap(optimizers.plain_adam(config)),
    shape=spec.shape,
    energy=runs.choose(ENERGIES, config.energy, 'energy'),
    decay=equilibrium.truncated(config.threshold, config.scale),
    condition=diffusions.condition(config, spec),
    descents=steps,
  )
