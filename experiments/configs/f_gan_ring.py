"""f-GAN: a GAN for any f-divergence, on a ring of eight Gaussians.

  python experiments/main.py --config=experiments/configs/f_gan_ring.py:kl \
      --workdir=runs/f_gan_ring [--config.generator=saddle] [--config.seeds=8]

The argument is a name such as pearson, kl, alpha_0.5, weighted_jensen_shannon_0.3.
About 120 s on two CPU cores, seeds 100 to 103 at once, other work beside them. A
divergence alone does not cure collapse: Pearson with the trick ends as one blob beside
the ring, 0.25 +- 0.25 modes by the strict count, as the ordinary GAN of gan_ring.py
does. KL with the saddle's generator ends within 400 steps in a number that is not
finite: exp of a critic that is sure.
"""

from experiments.configs.parts import evaluations, games, networks, optimizers, runs
from gm_jax.methods import f_gan

ANOTHER = 'alpha_0.5'  # argument that tests try
make_evaluation = evaluations.mixture_modes


def get_config(arg=None):
  """The config; the argument is the name of the divergence."""
  config = runs.ring()
  config.warmup_steps = 0
  config.clip = 0.0  # of the gradient's global norm; 0 for none
  config.divergence = arg or 'pearson'
  config.generator = 'trick'  # or saddle
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The ring's networks and the divergence's game."""
  generator = games.f_generator(config)
  return f_gan.f_gan(
    **networks.ring_networks(),
    g_tx=wrap(optimizers.adam(config, config.g_learning_rate)),
    d_tx=wrap(optimizers.adam(config, config.d_learning_rate)),
    divergence=games.divergence(config),
    generator_loss=generator,
  )
