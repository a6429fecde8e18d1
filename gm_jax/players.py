"""Players: networks with parameters of their own, as methods of several use them.

A player is a Flax module with its parameters in `State.params[name]` and its
other collections (batch statistics, spectral vectors) in
`State.extra[collection][name]`. A module is called as `module(x, train=...)`.
Here is what every adversarial method has in common; the objective and the
order of play stand in the method's own file.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import base, gradient, priors

GENERATOR, DISCRIMINATOR = 'generator', 'discriminator'


class Player(NamedTuple):
  """What one player has of a `State`."""

  params: base.Params
  opt_state: base.PyTree
  model_state: dict  # its collections, {collection: variables}


def of(state: base.State, name: str) -> Player:
  """One player of a state."""
  model_state = collections(state.extra, name)
  return Player(state.params[name], state.opt_state[name], model_state)


def after_step(state: base.State, players: Mapping[str, Player]) -> base.State:
  """The state with its step counted and these players, which must be all."""
  return base.State(
    step=state.step + 1,
    params={name: player.params for name, player in players.items()},
    extra=merged({name: player.model_state for name, player in players.items()}),
    opt_state={name: player.opt_state for name, player in players.items()},
    ema=state.ema,
  )


def collections(extra: dict, name: str) -> dict:
  """One player's part of `State.extra`: {collection: variables}."""
  return {c: players[name] for c, players in extra.items() if name in players}


def merged(parts: Mapping[str, dict]) -> dict:
  """`State.extra` from every player's part; the inverse of `collections`."""
  extra: dict = {}
  for name, model_state in parts.items():
    for collection, variables in model_state.items():
      extra.setdefault(collection, {})[name] = variables
  return extra


def init(module: nn.Module, key: base.Array, x: base.Array) -> tuple[dict, dict]:
  """A module's parameters and its other collections."""
  variables = dict(module.init(key, x, train=False))
  return variables.pop('params'), variables


def apply(
  module: nn.Module,
  params: base.Params,
  model_state: dict,
  x: base.Array,
  *,
  key: base.Array | None = None,
  train: bool = True,
  method: str | None = None,
) -> tuple[base.Array, dict]:
  """A module's output and its collections afterwards.

  Args:
    module: called as `module(x, train=train)`.
    params: its parameters.
    model_state: its other collections; returned as they are if not `train`.
    x: [B, ...] input.
    key: of dropout, for modules that have it.
    train: batch statistics, and collections updated.
    method: of the module, `__call__` if None.

  Returns:
    The output and the new collections.
  """
  rngs = {} if key is None else {'dropout': key}
  out, new = module.apply(
    {'params': params, **model_state},
    x,
    train=train,
    rngs=rngs,
    mutable=list(model_state),
    method=method,
  )
  return out, dict(new) if train else model_state


def logits(
  module: nn.Module, params: base.Params, model_state: dict, x: base.Array, **kwargs
) -> tuple[base.Array, dict]:
  """A critic's logits [B], and its collections afterwards; see `apply`.

  Raises:
    ValueError: the critic's output is neither [B] nor [B, 1].
  """
  out, model_state = apply(module, params, model_state, x, **kwargs)
  if out.shape not in {(x.shape[0],), (x.shape[0], 1)}:
    raise ValueError(
      f'a critic must return one logit an example, [{x.shape[0]}] or'
      f' [{x.shape[0]}, 1], got {list(out.shape)}'
    )
  return out.reshape(-1), model_state


def discriminator_loss(
  discriminator: nn.Module, game: base.Game, penalty: Callable | None = None
) -> Callable:
  """What the discriminator minimizes on real and given fake data.

  Args:
    discriminator: x -> logits.
    game: the objective on logits.
    penalty: (critic, key, real, fake) -> [B], or None.

  Returns:
    (params, model_state, key, real, fake) -> ([] loss, (new model_state, mean logits)).
  """

  def loss_fn(params, model_state, key, real, fake):
    real_key, fake_key, critic_key, penalty_key = jax.random.split(key, 4)
    real_logits, model_state = logits(
      discriminator, params, model_state, real, key=real_key
    )
    fake_logits, model_state = logits(
      discriminator, params, model_state, fake, key=fake_key
    )
    loss = game.discriminator(real_logits, fake_logits)
    if penalty is not None:

      def critic(x):
        return logits(discriminator, params, model_state, x, key=critic_key)[0]

      loss += penalty(critic, penalty_key, real, fake)
    means = {
      'real_logits': real_logits.mean(),
      'fake_logits': fake_logits.mean(),
      'real_signs': jnp.sign(real_logits).mean(),
    }
    return loss.mean(), (model_state, means)

  return loss_fn


def pair_logits(
  discriminator: nn.Module,
  critic: Player,
  key: base.Array,
  real: base.Array,
  fake: base.Array,
) -> tuple[base.Array, base.Array]:
  """A discriminator's logits [B] on real and on fake data, itself left as it is."""
  both = zip(jax.random.split(key), (real, fake), strict=True)
  real_logits, fake_logits = (
    logits(discriminator, critic.params, critic.model_state, x, key=k)[0]
    for k, x in both
  )
  return real_logits, fake_logits


def initializer(
  generator: nn.Module,
  discriminator: nn.Module,
  g_tx: optax.GradientTransformation,
  d_tx: optax.GradientTransformation,
  prior: priors.Prior,
) -> Callable[[base.Array, base.Batch], base.State]:
  """The `Method.init` of a generator and a discriminator."""

  def method_init(key, batch):
    g_key, d_key, z_key = jax.random.split(key, 3)
    g_params, g_share = init(generator, g_key, prior(z_key, 2))
    d_params, d_share = init(discriminator, d_key, batch['x'][:2])
    return base.State(
      step=jnp.zeros((), jnp.int32),
      params={GENERATOR: g_params, DISCRIMINATOR: d_params},
      extra=merged({GENERATOR: g_share, DISCRIMINATOR: d_share}),
      opt_state={GENERATOR: g_tx.init(g_params), DISCRIMINATOR: d_tx.init(d_params)},
      ema=(),
    )

  return method_init


def sampler(generator: nn.Module, prior: priors.Prior) -> Callable[..., base.Array]:
  """The `Method.sample` of an unconditional generator of z."""

  def sample(model, key, num, *, condition=None):
    base.check_unconditional(condition)
    model_state = collections(model.extra, GENERATOR)
    z = prior(key, num)
    return apply(generator, model.params[GENERATOR], model_state, z, train=False)[0]

  return sample


def stepper(
  discriminator: nn.Module,
  d_tx: optax.GradientTransformation,
  game: base.Game,
  penalty: Callable | None = None,
  *,
  num_slices: int = 1,
) -> Callable:
  """One gradient step of the discriminator on real and given fake data.

  Args:
    discriminator: x -> logits.
    d_tx: its optimizer.
    game: the objective on logits.
    penalty: (critic, key, real, fake) -> [B], or None.
    num_slices: in which the gradient is accumulated.

  Returns:
    (player, key, real, fake) -> (player, metrics at the old parameters).
  """
  loss_fn = discriminator_loss(discriminator, game, penalty)
  loss_fn = gradient.accumulated(loss_fn, num_slices)

  def step(player, key, real, fake):
    params, opt_state, loss, (model_state, means) = gradient.gradient_step(
      loss_fn,
      d_tx,
      player.params,
      player.opt_state,
      player.model_state,
      key,
      real,
      fake,
    )
    return Player(params, opt_state, model_state), {'discriminator_loss': loss, **means}

  return step


def critic_query(discriminator: nn.Module) -> Callable[..., base.Array]:
  """The `critic` query: (model, key, x) -> [B] logits."""

  def critic(model, key, data, *, condition=None):
    del key, condition
    model_state = collections(model.extra, DISCRIMINATOR)
    params = model.params[DISCRIMINATOR]
    return logits(discriminator, params, model_state, data, train=False)[0]

  return critic
