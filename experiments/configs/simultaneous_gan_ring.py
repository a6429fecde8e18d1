"""A GAN whose players move together on a ring of eight Gaussians, by any dynamics.

  python experiments/main.py --workdir=runs/simultaneous_gan_ring \
      --config=experiments/configs/simultaneous_gan_ring.py:consensus [--config.seeds=8]

The argument is simultaneous, extragradient, optimistic, consensus or symplectic. About
15 s on two CPU cores for consensus: all eight modes, high quality 0.42, reverse KL
0.029 (one seed), with small crosses around the modes and few samples between them.
Simultaneous steps, otherwise the same, end with no mode: they spiral outwards, as on
the bilinear game.
"""

import optax

from experiments.configs import common
from gm_jax import dynamics
from gm_jax.methods import simultaneous_gan

ANOTHER = 'extragradient'  # argument that tests try
make_evaluation = common.modes_evaluation


def get_config(arg=None):
  """The config; the argument is the name of the dynamics."""
  config = common.run('toy:ring', steps=10_000, batch_size=128)
  common.add_adam(config, generator=2e-3, discriminator=2e-3, b1=0.5, extras=False)
  config.decay_steps = 10_000
  config.dynamics = arg or 'consensus'
  config.strength = 1.0  # of consensus and symplectic
  config.game = 'minimax'
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The ring's networks and players that move at once."""
  steps = {
    'simultaneous': dynamics.simultaneous,
    'optimistic': dynamics.simultaneous,
    'extragradient': dynamics.extragradient,
    'consensus': dynamics.consensus(config.strength),
    'symplectic': dynamics.symplectic(config.strength),
  }
  chosen = common.choose(steps, config.dynamics, 'dynamics')

  def tx(rate):
    if config.dynamics != 'optimistic':
      return wrap(common.adam(config, rate))
    common.adam(config, rate)  # for its checks
    schedule = optax.cosine_decay_schedule(rate, config.decay_steps or 1 << 30)
    return wrap(optax.optimistic_adam_v2(schedule, b1=config.b1, nesterov=False))

  return simultaneous_gan.simultaneous_gan(
    **common.ring_networks(),
    g_tx=tx(config.g_learning_rate),
    d_tx=tx(config.d_learning_rate),
    dynamics=chosen,
    game=common.choose(common.GAMES, config.game, 'game'),
  )
