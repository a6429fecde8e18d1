"""beta-TCVAE: codes whose dimensions depend less on one another, on drawn characters.

  python experiments/main.py --config=experiments/configs/beta_tcvae_glyphs.py \
      --workdir=runs/beta_tcvae_glyphs

About 75 s on two CPU cores; the first use of the data draws them, in some seconds. The
argument is the weight of the total correlation. --mode=traverse draws a row a dimension
of the code, --options=mean=true of the modes sample and quality takes means.

The data's noise is taken as Gaussian of deviation 0.3, so that samples proper are
snow: look at means. Characters come back readable, a little blurred. Of the ten
dimensions one is the ground's gray (their correlation over 2,000 test images is 1.00),
one the character's height (0.71), one its place from left to right (0.64); slant,
rotation and size stand in none by themselves (0.3 at most), and most rows of a
traversal change the character besides. A bound of the density: 3,739 +- 1 nats (2,000
test images, seed 0), of a model whose deviation is chosen and not learned.
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
  config.hidden = 512
  config.learning_rate = 3e-4
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
