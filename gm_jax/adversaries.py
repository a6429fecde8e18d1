"""Generators against discriminators: the parts that adversarial methods share.

The objective and the order of play stand in the method's own file. Critics may give a
logit an example, `[B]`, or a logit a patch, `[B, P]`; both networks may be given a
condition, which real and fake examples then have in common.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import base, conditions, gradient, players, priors


def discriminator_loss(
  discriminator: nn.Module, game: base.Game, penalty: Callable | None = None
) -> players.LossFn:
  """The discriminator's loss on real and fake data.

  Args:
    discriminator: x -> logits.
    game: the objective on logits.
    penalty: (critic, key, real, fake) -> [B], or None.

  Returns:
    (params, model_state, key, real, fake, condition=None) -> ([] loss, (new
    model_state, mean logits)); both kinds of data have the same condition.
  """

  def loss_fn(params, model_state, key, real, fake, condition=None):
    real_key, fake_key, critic_key, penalty_key = jax.random.split(key, 4)
    real_logits, model_state = players.logits(
      discriminator, params, model_state, real, condition, key=real_key
    )
    fake_logits, model_state = players.logits(
      discriminator, params, model_state, fake, condition, key=fake_key
    )
    loss = game.discriminator(real_logits, fake_logits)
    if penalty is not None:

      def critic(x):
        out = players.logits(
          discriminator, params, model_state, x, condition, key=critic_key
        )
        return players.per_example(out[0])

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
  critic: players.Player,
  key: base.Array,
  real: base.Array,
  fake: base.Array,
  condition: Any = None,
) -> tuple[base.Array, base.Array]:
  """A discriminator's logits on real and on fake data, itself left as it is."""
  real_key, fake_key = jax.random.split(key)

  def one(key, x):
    return players.logits(
      discriminator, critic.params, critic.model_state, x, condition, key=key
    )[0]

  return one(real_key, real), one(fake_key, fake)


def generator_loss(
  discriminator: nn.Module,
  game: base.Game,
  critic: players.Player,
  key: base.Array,
  real: base.Array,
  fake: base.Array,
  condition: Any = None,
) -> base.Array:
  """The generator's loss against a discriminator, `[]`."""
  both = pair_logits(discriminator, critic, key, real, fake, condition)
  return game.generator(*both).mean()


def initializer(
  generator: nn.Module,
  discriminator: nn.Module,
  g_tx: optax.GradientTransformation,
  d_tx: optax.GradientTransformation,
  prior: priors.Prior,
  condition: conditions.Condition | None = None,
) -> Callable[[base.Array, base.Batch], base.State]:
  """The `Method.init` of a generator and a discriminator."""

  def method_init(key, batch):
    g_key, d_key, z_key = jax.random.split(key, 3)
    two = jax.tree.map(lambda x: x[:2], dict(batch))
    value = conditions.embedded(condition, conditions.from_batch(condition, two))
    z, x = prior(z_key, 2), two['x']
    return players.first_state({
      players.GENERATOR: players.new_player(generator, g_tx, g_key, z, value),
      players.DISCRIMINATOR: players.new_player(discriminator, d_tx, d_key, x, value),
    })  # fmt: skip

  return method_init


def sampler(
  generator: nn.Module,
  prior: priors.Prior,
  condition: conditions.Condition | None = None,
) -> Callable[..., base.Array]:
  """The `Method.sample` of a generator of z."""
  taken = condition

  def sample(model, key, num, *, condition=None):
    value = conditions.embedded(taken, condition, num)
    return players.apply_trained(
      generator, players.GENERATOR, model, prior(key, num), value
    )

  return sample


def latent_queries(
  generator: nn.Module,
  prior: priors.Prior,
  condition: conditions.Condition | None = None,
) -> dict[str, Callable]:
  """The queries of a generator of z: `decode`, and those of `prior_queries`."""
  taken = condition

  def decode(model, key, z, *, condition=None):
    del key
    value = conditions.embedded(taken, condition, len(z))
    return players.apply_trained(generator, players.GENERATOR, model, z, value)

  return {'decode': decode, **prior_queries(prior)}


def prior_queries(prior: priors.Prior) -> dict[str, Callable]:
  """The query `prior` and, of one that is a `priors.Density`, `log_prior`.

  They ignore a condition, of which z is independent.
  """

  def draw(model, key, num, *, condition=None):
    del model, condition
    return prior(key, num)

  def log_prior(model, key, z, *, condition=None):
    del model, key, condition
    return prior.log_prob(z)

  found = {'prior': draw}
  return found | ({'log_prior': log_prior} if isinstance(prior, priors.Density) else {})


def stepper(
  discriminator: nn.Module,
  d_tx: optax.GradientTransformation,
  game: base.Game,
  penalty: Callable | None = None,
  *,
  num_accumulate: int = 1,
) -> Callable:
  """One gradient step of the discriminator on real and fake data.

  Args:
    discriminator: x -> logits.
    d_tx: its optimizer.
    game: the objective on logits.
    penalty: (critic, key, real, fake) -> [B], or None.
    num_accumulate: slices in which the gradient is accumulated.

  Returns:
    (player, key, real, fake, condition=None) -> (player, metrics at the old
    parameters).
  """
  loss_fn = discriminator_loss(discriminator, game, penalty)
  loss_fn = gradient.accumulated(loss_fn, num_accumulate)

  def step(player, key, real, fake, condition=None):
    player, loss, means = players.gradient_step(
      loss_fn, d_tx, player, key, real, fake, condition
    )
    return player, {'discriminator_loss': loss, **means}

  return step


def critic_query(
  discriminator: nn.Module, condition: conditions.Condition | None = None
) -> Callable[..., base.Array]:
  """The `critic` query: (model, key, x) -> logits `[B]`, or `[B, P]` of patches."""
  taken = condition

  def critic(model, key, x, *, condition=None):
    del key
    value = conditions.embedded(taken, condition, len(jax.tree.leaves(x)[0]))
    params = model.params[players.DISCRIMINATOR]
    model_state = players.collections(model.extra, players.DISCRIMINATOR)
    return players.logits(discriminator, params, model_state, x, value, train=False)[0]

  return critic


def move(
  state: base.State,
  names: Sequence[str],
  txs: Mapping[str, optax.GradientTransformation],
  loss_fn: players.LossFn,
  *args: Any,
) -> tuple[base.State, base.Array, dict]:
  """One step of some players down a loss of all, each by its own optimizer.

  Args:
    state: of players that each have an optimizer state of their own.
    names: who moves; all others, and their collections, are held fixed.
    txs: optimizers by player.
    loss_fn: (params, model_states, *args) -> ([] loss, (model_states, metrics)), where
      parameters and collections are those of all players, by name.
    *args: passed to the loss.

  Returns:
    The state, its step not counted, and loss and metrics at the old parameters.
  """
  fixed = {name: players.collections(state.extra, name) for name in state.params}

  def of_moved(params, model_states, *args):
    everything = {**state.params, **params}, {**fixed, **model_states}
    loss, (after, metrics) = loss_fn(*everything, *args)
    return loss, ({name: after[name] for name in names}, metrics)

  group = players.Player(*({name: of[name] for name in names}
                   for of in (state.params, state.opt_state, fixed)))  # fmt: skip
  tx = players.joint_optimizer({name: txs[name] for name in names})
  group, loss, metrics = players.gradient_step(of_moved, tx, group, *args)
  for name in names:
    state = players.put(state, name, players.Player(*(of[name] for of in group)))
  return state, loss, metrics
