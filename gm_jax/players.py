"""Players: networks with parameters of their own, as methods of several use them.

A player is a Flax module with its parameters in `State.params[name]` and its other
collections (batch statistics, spectral vectors) in `State.extra[collection][name]`. A
module is called as `module(x, train=...)`, or as `module(x, condition, train=...)`
where there is a condition. Several players that one objective moves together are a
group: a `Player` whose fields are dicts by name. What else a state carries (pools,
frozen networks) is left as it is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import base, gradient

GENERATOR, DISCRIMINATOR = 'generator', 'discriminator'
# (params, model_state, *args) -> ([] loss, (model_state, metrics))
LossFn = Callable[..., tuple[base.Array, tuple[dict, dict]]]


class Player(NamedTuple):
  """The part of a `State` that belongs to one player, or to a group of them."""

  params: base.Params
  opt_state: base.PyTree
  model_state: dict  # its collections, {collection: variables}


def get(state: base.State, name: str, *, objective: str | None = None) -> Player:
  """Returns one player of a state, with the optimizer of an objective (its own)."""
  opt_state = state.opt_state[objective or name]
  return Player(state.params[name], opt_state, collections(state.extra, name))


def put(
  state: base.State, name: str, player: Player, *, objective: str | None = None
) -> base.State:
  """Returns the state with one player replaced; the inverse of `get`."""
  return state._replace(
    params={**state.params, name: player.params},
    extra=with_collections(state.extra, {name: player.model_state}),
    opt_state={**state.opt_state, objective or name: player.opt_state},
  )


def get_group(state: base.State, names: Sequence[str], objective: str) -> Player:
  """Returns the players that one objective moves together."""
  return Player(
    {name: state.params[name] for name in names},
    state.opt_state[objective],
    {name: collections(state.extra, name) for name in names},
  )


def put_group(state: base.State, group: Player, objective: str) -> base.State:
  """Returns the state with a group replaced; the inverse of `get_group`."""
  return state._replace(
    params={**state.params, **group.params},
    extra=with_collections(state.extra, group.model_state),
    opt_state={**state.opt_state, objective: group.opt_state},
  )


def new_group(
  tx: optax.GradientTransformation, parts: Mapping[str, tuple[base.Params, dict]]
) -> Player:
  """A group before its first step.

  Args:
    tx: the optimizer of all of them.
    parts: parameters and other collections by player, of `init`.
  """
  params = {name: params for name, (params, _) in parts.items()}
  model_state = {name: model_state for name, (_, model_state) in parts.items()}
  return Player(params, tx.init(params), model_state)


def joint_optimizer(
  txs: Mapping[str, optax.GradientTransformation],
) -> optax.GradientTransformation:
  """One optimizer of a group, each of whose players has its own.

  Args:
    txs: optimizers by player.

  Returns:
    An optimizer of parameters by player, its state a dict by player.
  """

  def init_fn(params):
    return {name: tx.init(params[name]) for name, tx in txs.items()}

  def update_fn(grads, opt_state, params):
    updates, new_state = {}, {}
    for name, tx in txs.items():
      updates[name], new_state[name] = tx.update(
        grads[name], opt_state[name], params[name]
      )
    return updates, new_state

  return optax.GradientTransformation(init_fn, update_fn)


def first_state(
  players: Mapping[str, Player], extra: Mapping[str, Any] = base.NOTHING
) -> base.State:
  """The state before the first step: these players, and what else is carried."""
  state = base.State(jnp.zeros((), jnp.int32), {}, dict(extra), {}, ())
  for name, player in players.items():
    state = put(state, name, player)
  return state


def after_step(
  state: base.State, players: Mapping[str, Player] = base.NOTHING
) -> base.State:
  """The state with its step counted and these players replaced; all else carried."""
  for name, player in players.items():
    state = put(state, name, player)
  return state._replace(step=state.step + 1)


def collections(extra: dict, name: str) -> dict:
  """One player's part of `State.extra`: {collection: variables}."""
  return {
    collection: by_player[name]
    for collection, by_player in extra.items()
    if collection not in (base.LOCAL, base.FROZEN)
    and isinstance(by_player, Mapping)
    and name in by_player
  }


def with_collections(extra: dict, parts: Mapping[str, dict]) -> dict:
  """`State.extra` with these players' collections replaced."""
  extra = dict(extra)
  for name, model_state in parts.items():
    for collection, variables in model_state.items():
      extra[collection] = {**extra.get(collection, {}), name: variables}
  return extra


def after_frozen(method: base.Method, name: str) -> Callable:
  """The `Phase.enter` of a method that begins with what the phase before has trained.

  Args:
    method: reads `State.extra['frozen'][name]`, which its init makes at random.
    name: of the frozen networks.

  Returns:
    (key, previous, batch) -> state of `method` at the step of the phase before, whose
    latest parameters (not their average) are frozen in it; at step 0 after the `Model`
    of another run.
  """

  def enter(key, previous, batch):
    state = method.init(key, batch)
    frozen = {name: base.Model(previous.params, previous.extra)}
    step = previous.step if isinstance(previous, base.State) else state.step
    return state._replace(step=step, extra={**state.extra, base.FROZEN: frozen})

  return enter


def gradient_step(
  loss_fn: LossFn,
  tx: optax.GradientTransformation,
  player: Player,
  *args: Any,
) -> tuple[Player, base.Array, dict]:
  """One step of a player, or of a group, down the gradient of its loss.

  Args:
    loss_fn: (params, model_state, *args) -> ([] loss, (model_state, metrics)).
    tx: the player's optimizer.
    player: what moves.
    *args: passed to the loss.

  Returns:
    The player after the step, and loss and metrics at its old parameters.
  """
  params, opt_state, loss, (model_state, metrics) = gradient.gradient_step(
    loss_fn, tx, player.params, player.opt_state, player.model_state, *args
  )
  return Player(params, opt_state, model_state), loss, metrics


def init(
  module: nn.Module, key: base.Array, x: base.Array, condition: Any = None
) -> tuple[dict, dict]:
  """A module's parameters and its other collections.

  Raises:
    ValueError: it has no parameters.
  """
  inputs = (x,) if condition is None else (x, condition)
  variables = dict(module.init(key, *inputs, train=False))
  if 'params' not in variables:
    raise ValueError(f'{type(module).__name__} has no parameters to be trained')
  return variables.pop('params'), variables


def new_player(
  module: nn.Module,
  tx: optax.GradientTransformation,
  key: base.Array,
  x: base.Array,
  condition: Any = None,
) -> Player:
  """A player before its first step."""
  params, model_state = init(module, key, x, condition)
  return Player(params, tx.init(params), model_state)


def apply(
  module: nn.Module,
  params: base.Params,
  model_state: dict,
  x: base.Array,
  condition: Any = None,
  *,
  key: base.Array | None = None,
  train: bool = True,
  method: str | None = None,
) -> tuple[base.Array, dict]:
  """A module's output and its collections afterwards.

  Args:
    module: called as `module(x, train=train)`, or with the condition after x.
    params: its parameters.
    model_state: its other collections; returned as they are if not `train`.
    x: `[B, ...]` input.
    condition: embedded, `[B, ...]`, or None.
    key: of dropout, for modules that have it.
    train: batch statistics, and collections updated.
    method: of the module, `__call__` if None.

  Returns:
    The output and the new collections.
  """
  rngs = {} if key is None else {'dropout': key}
  inputs = (x,) if condition is None else (x, condition)
  out, new = module.apply(
    {'params': params, **model_state},
    *inputs,
    train=train,
    rngs=rngs,
    mutable=list(model_state),
    method=method,
  )
  return out, dict(new) if train else model_state


def apply_trained(
  module: nn.Module,
  name: str,
  model: base.Model,
  x: base.Array,
  condition: Any = None,
  *,
  method: str | None = None,
) -> base.Array:
  """The output of a trained player of a model, without batch statistics or dropout."""
  model_state = collections(model.extra, name)
  return apply(
    module, model.params[name], model_state, x, condition, train=False, method=method
  )[0]


def logits(
  module: nn.Module, params: base.Params, model_state: dict, x: base.Array,
  condition: Any = None, **kwargs,
) -> tuple[base.Array, dict]:  # fmt: skip
  """A critic's logits, and its collections afterwards; see `apply`.

  Returns:
    Logits `[B]`, or `[B, P]` of a critic of P patches (any trailing axes, flat).

  Raises:
    ValueError: the critic's output does not begin with B.
  """
  out, model_state = apply(module, params, model_state, x, condition, **kwargs)
  num = len(jax.tree.leaves(x)[0])
  if out.ndim == 0 or out.shape[0] != num:
    raise ValueError(
      f'a critic must return one logit an example, [{num}] or [{num}, 1], or one a'
      f' patch, [{num}, ...], got {list(out.shape)}'
    )
  out = out.reshape(num, -1)
  return (out[:, 0] if out.shape[1] == 1 else out), model_state


def per_example(values: base.Array) -> base.Array:
  """Means over patches: `[B]` or `[B, P]` -> `[B]`."""
  return values.reshape(len(values), -1).mean(axis=1) if values.ndim > 1 else values
