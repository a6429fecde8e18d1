"""Simultaneous GAN: players that move together by any dynamics, on a ring.

  python experiments/main.py --workdir=runs/simultaneous_gan_ring \
      --config=experiments/configs/simultaneous_gan_ring.py:consensus [--config.seeds=8]

The argument is simultaneous, extragradient, optimistic, consensus or symplectic. About
15 s on two CPU cores for consensus: all eight modes, high quality 0.42, reverse KL
0.029 (one seed), with small crosses around the modes and few samples between them.
Simultaneous steps, otherwise the same, end with no mode: they spiral outwards, as on
the bilinear game.
"""

import optax

from experiments.configs.parts import evaluations, games, networks, optimizers, runs
from gm_jax import dynamics
from gm_jax.methods import simultaneous_gan

ANOTHER = 'extragradient'  # argument that tests try
make_evaluation = evaluations.mixture_modes


def get_config(arg=None):
  """The config; the argument is the name of the dynamics."""
  config = runs.ring()
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
  chosen = runs.choose(steps, config.dynamics, 'dynamics')

  def tx(rate):
    if config.dynamics != 'optimistic':
      return wrap(optimizers.adam(config, rate))
    optimizers.adam(config, rate)  # for its checks
    schedule = optax.cosine_decay_schedule(
      rate, optimizers.decay_steps(config) or 1 << 30
    )
    return wrap(optax.optimistic_adam_v2(schedule, b1=config.b1, nesterov=False))

  return simultaneous_gan.simultaneous_gan(
    **networks.ring_networks(),
    g_tx=tx(config.g_learning_rate),
    d_tx=tx(config.d_learning_rate),
    dynamics=chosen,
    game=games.game(config),
  )
