"""IGEBM: digits by chains of an energy, which go on from a replay buffer.

  python experiments/main.py --config=experiments/configs/igebm_digits.py \
      --workdir=runs/igebm_digits

About 110 s on two CPU cores, by a run on one of them. The argument is where chains
begin: replay (a buffer of 5,000) or data (CD-40), of which the first alone was trained.
Chains have IGEBM's step of 10, noise of 0.005 and a clipped gradient: their temperature
is T = 1.25e-6, they climb, and exp(-E) is no density of the data. Samples are chains of
the buffer that go on: --options=num_steps=200 for longer, --options=rate=1 from noise.

Seed 0, at the last of 4,000 steps: Frechet 5.3, where random subsets of the training
split have 4.1 +- 0.8; 5.9 after 1,000 steps. Seen: most samples are digits at sight,
some broken or gray. The gap of energies fell from 1.2 at the first step to 0.0001. At a
rate of 0.02 it is above its limit of 10 at the third step, and with
--config.on_nan=restart the run goes on at half the rate and says so.
"""

from experiments.configs.parts import energies, evaluations, optimizers
from gm_jax.methods import igebm

ANOTHER = 'data'  # argument that tests try
make_evaluation = evaluations.images


def get_config(arg=None):
  """The config; the argument is where chains begin: replay, or data."""
  config = energies.leaves(
    'digits', steps=4000, rate=2e-4, step_size=10.0, noise_scale=0.005
  )
  config.chains = arg or 'replay'
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """A perceptron's energy, chains within the bounds of pixels."""
  return igebm.igebm(
    energies.network(config, 1),
    energies.of_images(config, spec),
    wrap(optimizers.plain_adam(config)),
    shape=spec.shape,
    **energies.objective(config),
  )
