"""Flow with variational dequantization: digits whose noise a second flow learns.

  python experiments/main.py --config=experiments/configs/variational_flow_digits.py \
      --workdir=runs/variational_flow_digits

About 40 s on two CPU cores (half of its 74 CPU seconds; others ran beside). The
argument is the number of steps of the flow that makes the noise. 90.7 +- 0.8 nats an
image of the test split, 2.05 bits a number, a lower bound of the mass by one draw of
the noise, of the checkpoint that is best on the validation split (seed 0, step 800).
The same flow with uniform noise, glow_digits.py, has 93.2. Samples look like Glow's:
most are digits, Frechet 15.
"""

from experiments.configs.parts import evaluations, flows, likelihoods, optimizers, runs
from gm_jax import bijectors, priors
from gm_jax.methods import dequantized_flow

ANOTHER = '1'  # argument that tests try
make_evaluation = evaluations.likelihoods_and_images


def get_config(arg=None):
  """The config; the argument is the number of steps of the noise's flow."""
  config = runs.learning(
    'digits?transform=levels', steps=1000, batch_size=64, rate=1e-3
  )
  del config.condition
  flows.keep_best(config)
  config.levels = 2
  config.num_layers = 8  # steps of a level
  config.width = 32  # of the couplings' convolutions
  config.function = 'affine'
  config.mixing = 'linear'  # of the channels
  config.noise_layers = int(arg or 4)
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """A multi-scale flow of images, and a flow of their noise."""
  likelihoods.check_integers(config, spec)
  flows.check_squeezes(config, spec)
  runs.check_sizes(config, 'noise_layers')
  size = spec.shape[0] * spec.shape[1] * spec.shape[2]
  return dequantized_flow.dequantized_flow(
    bijectors.chain(bijectors.logit(), flows.image_layers(config, spec.shape)),
    flows.noise_layers(config),
    priors.normal(size),
    wrap(optimizers.plain_adam(config)),
    shape=spec.shape,
    num_levels=spec.num_levels,
    context=flows.squeezed,
  )
