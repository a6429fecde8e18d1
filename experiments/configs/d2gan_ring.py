"""D2GAN: a critic for each direction of KL, on a ring of eight Gaussians.

  python experiments/main.py --config=experiments/configs/d2gan_ring.py \
      --workdir=runs/d2gan_ring

About 25 s on two CPU cores, other work beside. The argument is alpha. All eight modes
with bridges between neighbors: high quality 0.82, reverse KL 0.002 (one seed). The
critics' rate, four times the generator's, does much of it: at equal rates samples were
one blob beside the ring, and an ordinary GAN with these rates finds all modes too
(docs/results/mode_collapse.md).
"""

from experiments.configs.parts import evaluations, networks, optimizers, runs
from gm_jax.methods import d2gan

ANOTHER = '0.1'  # argument that tests try
make_evaluation = evaluations.mixture_modes


def get_config(arg=None):
  """The config; the argument is alpha, KL(p || q)'s weight."""
  config = runs.ring(generator=1e-3, discriminator=4e-3)
  config.alpha = float(arg or 0.2)
  config.beta = 0.1
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The ring's networks, two critics of the same kind."""
  parts = networks.ring_networks()
  return d2gan.d2gan(
    **parts,
    reverse_discriminator=parts['discriminator'],
    **optimizers.adams(config, wrap),
    reverse_tx=wrap(optimizers.adam(config, config.d_learning_rate)),
    alpha=config.alpha,
    beta=config.beta,
  )
