"""D2GAN on a ring of eight Gaussians: a critic for each direction of KL.

  python experiments/main.py --config=experiments/configs/d2gan_ring.py \
      --workdir=runs/d2gan_ring

About 25 s on two CPU cores, other work beside. The argument is alpha. All eight modes
with bridges between neighbors: high quality 0.82, reverse KL 0.002 (one seed). The
critics' rate, four times the generator's, does much of it: at equal rates samples were
one blob beside the ring, and an ordinary GAN with these rates finds all modes too
(docs/results/mode_collapse.md).
"""

from experiments.configs import common
from gm_jax.methods import d2gan

ANOTHER = '0.1'  # argument that tests try
make_evaluation = common.modes_evaluation


def get_config(arg=None):
  """The config; the argument is alpha, KL(p || q)'s weight."""
  config = common.run('toy:ring', steps=10_000, batch_size=128)
  common.add_adam(config, generator=1e-3, discriminator=4e-3, b1=0.5, extras=False)
  config.decay_steps = 10_000
  config.alpha = float(arg or 0.2)
  config.beta = 0.1
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The ring's networks, two critics of the same kind."""
  parts = common.ring_networks()
  return d2gan.d2gan(
    **parts,
    reverse_discriminator=parts['discriminator'],
    **common.adams(config, wrap),
    reverse_tx=wrap(common.adam(config, config.d_learning_rate)),
    alpha=config.alpha,
    beta=config.beta,
  )
