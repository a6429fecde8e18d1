"""A stand-in with a pool of its samples and a frozen encoder of another run.

  python experiments/main.py --config=tests/standins/pool_and_frozen.py:encoder \
      --workdir=runs/encoder
  python experiments/main.py --config=tests/standins/pool_and_frozen.py \
      --config.encoder=runs/encoder --workdir=runs/generator
"""

import jax
import jax.numpy as jnp
import optax

from experiments.configs.parts import runs
from gm_jax import base, players, priors
from gm_jax.methods import autoencoder
from gm_jax.models import mlp
from gm_jax.players import GENERATOR
from gm_jax.training import trained

POOL = 32  # samples that are kept
CARD = base.Card(
  density='none', density_cost='none', measure='none', sampling='exact',
  sampling_cost='one_pass', training=('moment_matching',), latents='continuous',
  architecture='any',
)  # fmt: skip


def get_config(arg=None):
  """The config; the argument 'encoder' trains what the other run freezes."""
  config = runs.run('toy:ring', steps=8, batch_size=16)
  config.role = arg or 'generator'
  config.encoder = ''  # workdir of the run with the encoder
  return config


def matcher(encoder, tx):
  """Matches the mean code of data; a replay pool keeps the newest samples."""
  generator, prior = mlp.MLP((2,)), priors.normal(3)

  def start(key, model, batch):
    g = players.new_player(generator, tx, key, prior(key, 2))
    extra = {
      base.FROZEN: {autoencoder.ENCODER: model},
      base.LOCAL: {'pool': jnp.zeros((POOL, 2)), 'count': jnp.zeros((), jnp.int32)},
    }
    del batch
    return players.first_state({GENERATOR: g}, extra)

  def init(key, batch):
    params, model_state = players.init(encoder, key, batch['x'][:2])
    extra = players.with_collections({}, {autoencoder.ENCODER: model_state})
    return start(key, base.Model({autoencoder.ENCODER: params}, extra), batch)

  def enter(key, previous, batch):
    params = {autoencoder.ENCODER: previous.params[autoencoder.ENCODER]}
    return start(key, base.Model(params, {}), batch)

  def step(state, key, batch):
    z_key, g_key = jax.random.split(key)
    frozen = state.extra[base.FROZEN][autoencoder.ENCODER]
    z = prior(z_key, len(batch['x']))

    def code(x):
      return players.apply_trained(encoder, autoencoder.ENCODER, frozen, x)

    def loss_fn(params, model_state, key):
      x, model_state = players.apply(generator, params, model_state, z, key=key)
      gap = code(x).mean(axis=0) - code(batch['x']).mean(axis=0)
      return jnp.square(gap).sum(), (model_state, {'samples': x})

    g, loss, found = players.gradient_step(
      loss_fn, tx, players.get(state, GENERATOR), g_key
    )
    pool = state.extra[base.LOCAL]
    places = (pool['count'] + jnp.arange(len(z))) % POOL
    pool = {
      'pool': pool['pool'].at[places].set(found['samples']),
      'count': pool['count'] + len(z),
    }
    state = state._replace(extra={**state.extra, base.LOCAL: pool})
    return players.after_step(state, {GENERATOR: g}), {'loss': loss}

  sample = players.sampler(generator, prior)
  return base.Method(CARD, init, step, sample), enter


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The auto-encoder, or the generator that is given its encoder."""
  encoder, tx = mlp.MLP((8, 4)), wrap(optax.adam(1e-2))
  if config.role == 'encoder':
    return autoencoder.autoencoder(encoder, mlp.MLP((2,)), tx)
  method, enter = matcher(encoder, tx)
  if not config.encoder:
    return method
  previous = trained.load(config.encoder).model
  return (base.Phase(method, config.steps, spec, enter, previous=previous),)
