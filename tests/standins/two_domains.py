"""A stand-in of two domains of unlike size: a linear map each way, and back again.

python experiments/main.py --config=tests/standins/two_domains.py --workdir=runs/two
"""

import jax
import jax.numpy as jnp
import optax

from experiments.configs.parts import runs
from gm_jax import base, players
from gm_jax.models import mlp

TO_Y, TO_X, CRITIC = 'to_y', 'to_x', 'critic'
BOTH = 'translators'  # the objective of the two
PATCHES = 4
CARD = base.Card(
  density='none', density_cost='none', measure='none', sampling='none',
  sampling_cost='none', training=('adversarial',), latents='none', architecture='any',
)  # fmt: skip


def get_config(arg=None):
  """The config; the argument is the name of the data."""
  data = arg or 'unpaired:digits|digits?crop=4'
  return runs.run(data, steps=8, batch_size=16)


class Linear:
  """A module that maps images of one shape to images of another."""

  def __init__(self, shape):
    size = shape[0] * shape[1] * shape[2]
    self.shape, self.module = shape, mlp.MLP((size,))

  def __call__(self, params, x):
    out = self.module.apply({'params': params}, x.reshape(len(x), -1))
    return out.reshape(len(x), *self.shape)


def translators(x_shape, y_shape, tx):
  """Two translators against a patch critic of y, and the way back to x."""
  maps = {TO_Y: Linear(y_shape), TO_X: Linear(x_shape)}
  critic = mlp.MLP((PATCHES,))  # a logit a patch

  def flat(x):
    return x.reshape(len(x), -1)

  def init(key, batch):
    y_key, x_key, c_key = jax.random.split(key, 3)
    params = {
      TO_Y: players.init(maps[TO_Y].module, y_key, flat(batch['x'][:2]))[0],
      TO_X: players.init(maps[TO_X].module, x_key, flat(batch['y'][:2]))[0],
    }
    group = players.Player(params, tx.init(params), {name: {} for name in params})
    c = players.new_player(critic, tx, c_key, flat(batch['y'][:2]))
    return players.put_group(players.first_state({CRITIC: c}), group, BOTH)

  def critic_loss(params, model_state, key, real, fake):
    del key
    logits = [
      players.logits(critic, params, model_state, flat(y))[0] for y in (real, fake)
    ]
    loss = players.per_example(jax.nn.softplus(-logits[0]))
    loss += players.per_example(jax.nn.softplus(logits[1]))
    return loss.mean(), (model_state, {})

  def step(state, key, batch):
    # 1. The critic tells y from translations.
    group = players.get_group(state, (TO_Y, TO_X), BOTH)
    fake = maps[TO_Y](group.params[TO_Y], batch['x'])
    c, c_loss, _ = players.gradient_step(
      critic_loss, tx, players.get(state, CRITIC), key, batch['y'], fake
    )

    # 2. The translators fool it, and come back.
    def loss_fn(params, model_state):
      y = maps[TO_Y](params[TO_Y], batch['x'])
      fooled = players.logits(critic, c.params, c.model_state, flat(y))[0]
      cycle = jnp.square(maps[TO_X](params[TO_X], y) - batch['x']).mean(axis=(1, 2, 3))
      loss = players.per_example(jax.nn.softplus(-fooled)) + cycle
      return loss.mean(), (model_state, {'cycle': cycle.mean()})

    group, loss, metrics = players.gradient_step(loss_fn, tx, group)
    state = players.put_group(state, group, BOTH)
    metrics |= {'critic_loss': c_loss, 'loss': loss}
    return players.after_step(state, {CRITIC: c}), metrics

  def translate(model, key, x, *, condition=1):
    del key
    name = TO_Y if condition else TO_X
    return maps[name](model.params[name], x)

  return base.Method(CARD, init, step, queries={'translate': translate})


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The method of the two domains' shapes."""
  del config
  return translators(spec.shape, spec.parts['y'].shape, wrap(optax.adam(1e-2)))


def make_evaluation(config, data):
  """The error of going there and back, on the test split."""
  del config
  x = data.spec.transform.forward(jax.random.key(0), data.arrays('test')['x'])

  def evaluation(method, model, key):
    translate = method.queries['translate']
    back = translate(model, key, translate(model, key, x), condition=0)
    return {'cycle': jnp.sqrt(jnp.square(back - x).mean())}

  return evaluation
