"""VAE with flows: a flow as the prior and one as the posterior, of digits of 17 levels.

  python experiments/main.py --config=experiments/configs/flow_vae_digits.py \
      --workdir=runs/flow_vae_digits

About 25 s on two CPU cores (half of its 46 CPU seconds; others ran beside). The
argument is both, prior or posterior: which of them is a flow. Of the checkpoint that is
best on the validation split, 84.1 +- 0.7 nats, an upper bound of -log p (seed 0, step
1,250), where vae_digits.py has 87.0; nearly all samples are digits: Frechet 7.4, where
that has 27.
"""

from experiments.configs.parts import evaluations, runs, variational
from gm_jax.methods import vae

KINDS = {
  'both': ('flow', 'flow'),
  'prior': ('flow', 'gaussian'),
  'posterior': ('normal', 'flow'),
}
ANOTHER = 'posterior'  # argument that tests try
make_evaluation = evaluations.likelihoods_and_images


def get_config(arg=None):
  """The config; the argument is both, prior or posterior: which of them is a flow."""
  prior, posterior = runs.choose(KINDS, arg or 'both', 'the argument')
  config = variational.leaves('digits?transform=levels', steps=2000)
  config.prior = prior
  config.posterior = posterior
  config.flow_layers = 4
  config.kind = arg or 'both'
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The VAE of vae_digits.py, with affine couplings of its codes."""
  return vae.vae(*variational.parts(config, spec, wrap))
