"""Energy-based model: two moons by chains of temperature 1, whose energy is a density.

  python experiments/main.py --config=experiments/configs/ebm_toy.py \
      --workdir=runs/ebm_toy

About 43 s on two CPU cores, by the CPU seconds of a run on one of them, other work
beside. The argument names other data, of vectors. Chains of a replay buffer are moved
by MALA, 20 steps a training step, of which 77% are accepted: T = 1, and p is exp(-E) /
Z. Those that began afresh would still be on their way and bias p: with 5% of them,
--config.fresh=0.05, the estimate of the divergence is 0.055 instead of 0.026.

Seed 0: 1.028 +- 0.021 nats a point of the test split, an estimate: log Z, by importance
sampling, has a standard error of 0.012 (2,000 points). By a grid of 501 x 501 points
the divergence of the data from the model is 0.0069 nats; at (0.5, 0.25), where the
data's density is 0.0001, the model's is 0.005. The picture shows two moons with nothing
between them.
"""

from experiments.configs.parts import energies, likelihoods, optimizers, runs
from experiments.configs.parts import flows as parts
from gm_jax import chains as chains_lib
from gm_jax import priors
from gm_jax.methods import igebm
from gm_jax.samplers import langevin

ANOTHER = 'toy:pinwheel'  # argument that tests try
make_evaluation = parts.densities


def get_config(arg=None):
  """The config; the argument names the data, of vectors."""
  config = runs.learning(arg or 'toy:moons', steps=4000, batch_size=256, rate=3e-3)
  del config.condition
  config.evaluate_every = config.sample_every = config.checkpoint_every = 2000
  config.transition = 'mala'  # or 'langevin', which no density decides
  config.num_steps = 20  # of chains a training step
  config.step_size = 0.01
  config.buffer_size = 4096  # chains, of which a batch goes on
  config.fresh = 0.0  # rate at which chains begin afresh, at noise
  config.sampling_steps = 100  # that samples go on
  config.gap_limit = 20.0  # of energies, beyond which a run has diverged; 0 for none
  config.noise_std = 1.5  # of the density beside which the energy is one, around 0
  config.width = 64
  config.layers = 3
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """A smooth perceptron beside a normal distribution, without a squared energy."""
  likelihoods.check_real(config, spec)
  runs.check_sizes(config, 'buffer_size', least=config.batch_size)
  if len(spec.shape) != 1:
    raise ValueError(f'data = {config.data!r} are not vectors, which this config needs')
  if not config.noise_std > 0:
    raise ValueError(f'noise_std must be > 0, got {config.noise_std}')
  transitions = {'mala': langevin.mala, 'langevin': langevin.langevin}
  noise = priors.normal(spec.shape[0], std=config.noise_std)
  chains = chains_lib.Chains(
    noise,
    num_steps=config.num_steps,
    step_size=config.step_size,
    transition=runs.choose(transitions, config.transition, 'transition'),
    size=config.buffer_size,
    rate=config.fresh,
    sampling_steps=config.sampling_steps,
  )
  return igebm.igebm(
    energies.network(config, 1),
    chains,
    wrap(optimizers.plain_adam(config)),
    shape=spec.shape,
    beside=noise,
    weight=0.0,
    gap_limit=config.gap_limit or None,
  )
