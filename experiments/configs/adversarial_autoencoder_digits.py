"""An adversarial auto-encoder on digits: codes that pass for Gaussian noise.

  python experiments/main.py --workdir=runs/adversarial_autoencoder_digits \
      --config=experiments/configs/adversarial_autoencoder_digits.py

About 35 s on two CPU cores. The argument is the size of the code. All ten digits are
seen, a little blurred: Frechet 8.7, MMD^2 0.0010; reconstructions are off by 0.26 a
pixel of [-1, 1], root mean squared (one seed, the test split).
"""

from experiments.configs import common
from gm_jax import priors
from gm_jax.methods import adversarial_autoencoder
from gm_jax.models import mlp

ANOTHER = '2'  # argument that tests try


def get_config(arg=None):
  """The config; the argument is the size of the code."""
  config = common.run('digits', steps=6000, batch_size=64)
  config.learning_rate = 1e-3
  config.adversarial_rate = 1e-3  # of the discriminator, and of the encoder against it
  config.b1 = 0.5
  config.decay_steps = 6000
  config.ema_decay = 0.99
  config.base_features = 64
  config.latent_size = int(arg or 8)
  return config


def make_evaluation(config, data):
  """Distances of samples, and the error of reconstructions of the test split."""
  return common.with_reconstruction(data, common.image_evaluation(config, data))


def make_method(config, spec, *, wrap=lambda tx: tx):
  """A dense encoder, the generator of gan_digits.py, a critic of the codes."""
  common.check_sizes(config, 'latent_size')
  return adversarial_autoencoder.adversarial_autoencoder(
    mlp.MLP((256, 256, config.latent_size)),
    common.small_generator(config, spec),
    mlp.MLP((128, 128, 1)),
    **common.autoencoder_adams(config, wrap),
    prior=priors.normal(config.latent_size),
  )
