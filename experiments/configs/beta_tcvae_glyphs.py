"""beta-TCVAE: codes whose dimensions depend less on one another, on drawn characters.

  python experiments/main.py --config=experiments/configs/beta_tcvae_glyphs.py \
      --workdir=runs/beta_tcvae_glyphs

TODO
"""

from experiments.configs.parts import evaluations, variational
from gm_jax.methods import beta_tcvae

ANOTHER = '1'  # argument that tests try
make_evaluation = evaluations.likelihoods_and_images


def get_config(arg=None):
  """The config; the argument is the weight of the total correlation."""
  data = 'glyphs?transform=dequantization'
  config = variational.leaves(data, steps=4000, latent_size=10)
  config.likelihood = 'fixed_gaussian'
  config.std = 0.3  # of it
  config.hidden = 512
  config.batch_size = 128
  config.steps_per_dispatch = 10
  config.beta = float(arg or 6)
  config.stratified = False  # the estimator of the parts
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The networks of vae_digits.py."""
  if spec.num_train is None:
    raise ValueError(f'data = {config.data!r} have no number of training examples')
  return beta_tcvae.beta_tcvae(
    *variational.parts(config, spec, wrap),
    num_train=spec.num_train,
    beta=config.beta,
    stratified=config.stratified,
  )
