"""RBM: binary digits by two layers of units, learned by chains that persist.

  python experiments/main.py --config=experiments/configs/rbm_digits.py \
      --workdir=runs/rbm_digits

About 20 s on two CPU cores, by its 20 CPU seconds. The argument is what chains do: pcd
(64 persist, and go on from step to step) or cd (they begin at the batch).

Seed 0: 22.27 +- 0.19 nats an image of the test split, AN ESTIMATE by annealed
importance sampling of 500 chains and 1,000 temperatures, whose own error is 0.014. Its
log Z tends to be too small, and the likelihood too good: with 5,000 temperatures log Z
was 0.01 and 0.02 nats larger. With cd 22.41. With --config.hidden=16 log Z is exact:
23.09 nats, and the estimate of log Z is 0.006 and 0.010 below, its error 0.007. Exact
on the same data, by docs/results/likelihoods.md: EoNADE 22.21, PixelCNN 22.43, MADE
22.67, NADE 22.82. What is seen, after 1,000 steps of Gibbs sampling, are binary digits
about as clear as NADE's, some broken or with stray pixels.
"""

import optax

from experiments.configs.parts import evaluations, likelihoods, optimizers, runs
from gm_jax.methods import rbm

ANOTHER = 'cd'
make_evaluation = evaluations.likelihoods


def get_config(arg=None):
  """The config; the argument is pcd, chains that persist, or cd."""
  config = runs.run('dynamic:digits', steps=20_000, batch_size=64)
  config.evaluate_every = config.sample_every = config.checkpoint_every = 10_000
  config.log_every = 2500
  config.chains = arg or 'pcd'
  config.hidden = 128  # up to 20 log p(x) is exact
  config.num_steps = 1  # of Gibbs sampling a training step
  config.learning_rate = 0.05  # decays to 0 along a line
  config.momentum = 0.5
  config.ema_decay = 0.999
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """As many chains as the batch has examples."""
  likelihoods.check_binary(config, spec)
  runs.check_sizes(config, 'hidden', 'num_steps')
  optimizers.check_adam(config.learning_rate, 0.0)
  runs.check_dropout(config, 'momentum')
  chains = {'pcd': config.batch_size, 'cd': None}
  rate = optax.linear_schedule(config.learning_rate, 0.0, max(1, config.steps))
  return rbm.rbm(
    wrap(optax.sgd(rate, momentum=config.momentum)),
    shape=spec.shape,
    num_hidden=config.hidden,
    num_steps=config.num_steps,
    num_chains=runs.choose(chains, config.chains, 'chains'),
  )
