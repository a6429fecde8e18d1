"""Players: what moves them, what is carried, and critics of patches and conditions."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rows.common import Joined

from gm_jax import base, conditions, players, priors
from gm_jax.losses import adversarial, penalties
from gm_jax.methods import gan, unrolled_gan
from gm_jax.models import mlp

KEY = jax.random.key(0)
X = 1.0 + jax.random.normal(jax.random.key(8), (8, 2))
TX = optax.adam(0.1)
NAMES = ('encoder', 'decoder', 'critic')
FROZEN = base.Model({'encoder': {'w': jnp.ones(2)}}, {'batch_stats': jnp.zeros(1)})
POOL = {'critic': jnp.arange(3.0), 'count': jnp.int32(2)}  # named like a player


def new(name):
  value = float(NAMES.index(name) + 1)
  params = {'w': jnp.full(3, value)}
  model_state = {'batch_stats': {'mean': jnp.array(value)}}
  if name == 'critic':  # the others are not spectrally normalized
    model_state['spectral'] = {'u': jnp.array([value])}
  return players.Player(params, TX.init(params), model_state)


def first():
  extra = {
    'codebook': jnp.zeros((2, 2)), base.LOCAL: POOL,
    base.FROZEN: {'critic': FROZEN}, 'theta': (jnp.zeros(2), jnp.ones(2)),
  }  # fmt: skip
  return players.first_state({name: new(name) for name in NAMES}, extra)


def carried(state):
  return {k: state.extra[k] for k in ('codebook', base.LOCAL, base.FROZEN, 'theta')}


@pytest.mark.parametrize('name', NAMES)
def test_get_and_put_are_inverse(name):
  state = first()
  chex.assert_trees_all_equal(players.get(state, name), new(name))
  chex.assert_trees_all_equal(players.put(state, name, new(name)), state)
  other = jax.tree.map(lambda x: x + 1, new(name))
  after = players.put(state, name, other)
  chex.assert_trees_all_equal(players.get(after, name), other)
  for rest in set(NAMES) - {name}:  # nobody else moved
    chex.assert_trees_all_equal(players.get(after, rest), new(rest))
  chex.assert_trees_all_equal(carried(after), carried(state))
  chex.assert_trees_all_equal(players.get(state, name), new(name))  # nor the argument


def test_a_player_may_have_an_optimizer_for_each_objective():
  state = first()
  other = new('encoder')._replace(opt_state={'momentum': jnp.ones(3)})
  after = players.put(state, 'encoder', other, objective='supervised')
  chex.assert_trees_all_equal(
    players.get(after, 'encoder', objective='supervised'), other
  )
  chex.assert_trees_all_equal(
    players.get(after, 'encoder').opt_state, new('encoder').opt_state
  )


def test_a_group_shares_an_optimizer_and_its_members_are_players():
  pair = ('encoder', 'decoder')
  group = players.new_group(
    TX, {name: (new(name).params, new(name).model_state) for name in pair}
  )
  state = players.put_group(first(), group, 'reconstruction')
  chex.assert_trees_all_equal(players.get_group(state, pair, 'reconstruction'), group)
  moved = jax.tree.map(lambda x: x + 1, group)
  after = players.put_group(state, moved, 'reconstruction')
  chex.assert_trees_all_equal(after.params['encoder'], moved.params['encoder'])
  alone = players.get(after, 'decoder')
  chex.assert_trees_all_equal(alone.params, moved.params['decoder'])
  chex.assert_trees_all_equal(alone.model_state, moved.model_state['decoder'])
  chex.assert_trees_all_equal(alone.opt_state, new('decoder').opt_state)
  chex.assert_trees_all_equal(players.get(after, 'critic'), new('critic'))


def test_a_step_is_counted_and_carries_all_that_is_no_players():
  state = first()._replace(step=jnp.int32(4), ema={'count': jnp.int32(1)})
  other = jax.tree.map(lambda x: x + 1, new('critic'))
  after = jax.jit(lambda s: players.after_step(s, {'critic': other}))(state)
  assert after.step == 5
  chex.assert_trees_all_equal(carried(after), carried(state))
  chex.assert_trees_all_equal(after.ema, state.ema)
  chex.assert_trees_all_equal(players.get(after, 'critic'), other)
  chex.assert_trees_all_equal(players.after_step(state), state._replace(step=5))


def test_a_method_carries_what_another_put_into_its_state():
  method = gan.gan(
    mlp.MLP((2,)), mlp.MLP((1,), spectral_norm=True), TX, TX, prior=priors.normal(2)
  )
  state = method.init(KEY, {'x': X})
  more = {base.LOCAL: POOL, base.FROZEN: {'generator': FROZEN}, 'theta': jnp.ones(2)}
  wider = state._replace(extra={**state.extra, **more})
  plain, after = (method.step(s, KEY, {'x': X})[0] for s in (state, wider))
  chex.assert_trees_all_equal(after.params, plain.params)
  chex.assert_trees_all_equal(after.extra, {**plain.extra, **more})


def test_collections_are_those_of_a_name_and_stop_at_arrays():
  state = first()
  found = players.collections(state.extra, 'critic')
  chex.assert_trees_all_equal(found, new('critic').model_state)
  assert players.collections(state.extra, 'nobody') == {}
  assert players.collections({'counts': jnp.zeros(3), 'critic': 1.0}, 'critic') == {}
  back = players.with_collections(state.extra, {'critic': found})
  chex.assert_trees_all_equal(back, state.extra)


def quadratic(params, model_state, scale):
  loss = scale * jnp.sum((params['w'] - 0.5) ** 2)
  return loss, ({'seen': model_state['seen'] + 1}, {'largest': params['w'].max()})


def test_a_gradient_step_is_optax_by_hand():
  params = {'w': jnp.array([1.0, -2.0, 0.25])}
  player = players.Player(params, TX.init(params), {'seen': jnp.int32(0)})
  expected, opt_state = params, TX.init(params)
  for i in range(3):
    grads = {'w': 2 * 3.0 * (expected['w'] - 0.5)}
    value = 3.0 * jnp.sum((expected['w'] - 0.5) ** 2)
    player, loss, metrics = players.gradient_step(quadratic, TX, player, 3.0)
    np.testing.assert_allclose(loss, value, rtol=1e-6)  # at the old parameters
    assert metrics['largest'] == expected['w'].max()
    updates, opt_state = TX.update(grads, opt_state, expected)
    expected = optax.apply_updates(expected, updates)
    chex.assert_trees_all_close(player.params, expected, rtol=1e-6)
    chex.assert_trees_all_close(player.opt_state, opt_state, rtol=1e-6)
    assert player.model_state['seen'] == i + 1


def test_a_group_moves_down_one_loss_each_by_its_own_optimizer():
  params = {'a': jnp.array(2.0), 'b': jnp.array(-1.0)}
  tx = players.joint_optimizer({'a': optax.sgd(0.1), 'b': optax.sgd(0.3, momentum=0.9)})
  group = players.new_group(tx, {name: (p, {}) for name, p in params.items()})
  assert group.opt_state.keys() == {'a', 'b'}

  def product(params, model_state):
    return params['a'] * params['b'], (model_state, {})

  group, _, _ = players.gradient_step(product, tx, group)
  np.testing.assert_allclose(group.params['a'], 2.0 - 0.1 * -1.0, rtol=1e-6)
  np.testing.assert_allclose(group.params['b'], -1.0 - 0.3 * 2.0, rtol=1e-6)
  before = group.params
  group, _, _ = players.gradient_step(product, tx, group)
  step = before['a'] + 0.9 * 2.0  # momentum is of b alone
  np.testing.assert_allclose(group.params['b'], before['b'] - 0.3 * step, rtol=1e-6)
  np.testing.assert_allclose(
    group.params['a'], before['a'] - 0.1 * before['b'], rtol=1e-6
  )


class Patches(nn.Module):
  """The same logit for each of many patches."""

  num: int

  @nn.compact
  def __call__(self, x, *, train=False):
    logit = mlp.MLP((6, 1), nn.tanh, name='critic')(x, train=train)
    return jnp.tile(logit, (1, self.num)).reshape(len(x), 1, self.num)


def r1(critic, key, real, fake):
  return penalties.r1(critic, real)


@pytest.mark.parametrize(
  'make',
  [
    functools.partial(gan.gan, game=adversarial.RELATIVISTIC, penalty=r1),
    functools.partial(gan.gan, game=adversarial.HINGE, num_accumulate=2),
    functools.partial(unrolled_gan.unrolled_gan, num_unroll=2),
  ],
)
def test_a_critic_of_equal_patches_is_the_critic_of_one(make):
  tx, found = optax.sgd(0.3), {}
  for num in (1, 5):
    method = make(mlp.MLP((2,)), Patches(num), tx, tx, prior=priors.normal(3))
    state = method.init(KEY, {'x': X})
    found[num] = jax.jit(method.step)(state, jax.random.key(1), {'x': X})
    logits = method.queries['critic'](base.Model(*state[1:3]), None, X)
    assert logits.shape == ((8,) if num == 1 else (8, 5))
  chex.assert_trees_all_close(found[5], found[1], rtol=1e-4, atol=1e-6)


def test_a_critic_of_no_logits_is_refused():
  params, model_state = players.init(mlp.MLP((1,)), KEY, X)

  class Mean(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
      return mlp.MLP((1,), name='critic')(x).mean()

  with pytest.raises(ValueError, match=r'one logit an example, \[8\].*got \[\]'):
    players.logits(Mean(), {'critic': params}, model_state, X)


class Deaf(nn.Module):
  """A network that ignores its condition."""

  body: nn.Module

  def __call__(self, x, condition, *, train=False):
    return self.body(x, train=train)


def both_games(wrapper, condition):
  networks = mlp.MLP((5, 2), nn.tanh), mlp.MLP((6, 1), nn.tanh)
  networks = [wrapper(network) for network in networks]
  tx = optax.adam(0.1, eps_root=1e-8)
  return {
    'gan': gan.gan(*networks, tx, tx, prior=priors.normal(3), num_critic=2,
                   condition=condition),
    'unrolled': unrolled_gan.unrolled_gan(
      *networks, tx, tx, prior=priors.normal(3), num_unroll=1, fresh=True,
      condition=condition),
  }  # fmt: skip


@pytest.mark.parametrize('name', ['gan', 'unrolled'])
@pytest.mark.parametrize('rate', [0.0, pytest.param(0.5, marks=pytest.mark.slow)])
def test_networks_that_ignore_the_condition_are_the_unconditional_gan(name, rate):
  condition = conditions.by_class(3)
  if rate:
    condition = conditions.optional(condition, rate)
  deaf, plain = both_games(Deaf, condition)[name], both_games(lambda m: m, None)[name]
  batch = {'x': X, 'label': jnp.arange(8) % 3}
  state = plain.init(KEY, batch)
  heard = deaf.init(KEY, batch)
  heard = heard._replace(
    params={player: {'body': state.params[player]} for player in state.params}
  )
  key = jax.random.key(1)
  after, metrics = jax.jit(plain.step)(state, key, batch)
  deaf_after, deaf_metrics = jax.jit(deaf.step)(heard, key, batch)
  for player in after.params:
    chex.assert_trees_all_equal(deaf_after.params[player]['body'], after.params[player])
  chex.assert_trees_all_equal(deaf_metrics, metrics)
  assert deaf.card.condition == ('label',) and plain.card.condition == ()


@pytest.mark.parametrize(
  'name', ['gan', pytest.param('unrolled', marks=pytest.mark.slow)]
)
def test_a_conditional_generator_learns_each_class(name):
  centers = jnp.array([[-1.0, 0.0], [1.0, 1.0], [0.0, -1.0]])
  label = jnp.arange(96) % 3
  condition = conditions.optional(conditions.by_class(3), 0.2)
  method = both_games(Joined, condition)[name]
  batch = {'x': centers[label], 'label': label}
  state = method.init(KEY, batch)

  # Fakes have the labels of the reals: with the labels of the batch in another order
  # the step is another.
  step = jax.jit(method.step)
  one, _ = step(state, KEY, batch)
  other, _ = step(state, KEY, {**batch, 'label': label[::-1]})
  gap = optax.tree.norm(
    jax.tree.map(jnp.subtract, one.params['generator'], other.params['generator'])
  )
  assert gap > 1e-3

  # Sampling may leave the condition out, which is the null's embedding.
  model = base.Model(one.params, one.extra)
  left_out = method.sample(model, KEY, 4)
  null = method.sample(model, KEY, 4, condition=jnp.full(4, -1))
  np.testing.assert_array_equal(left_out, null)
  classes = method.sample(model, KEY, 4, condition=jnp.array([0, 1, 2, 0]))
  assert jnp.abs(classes - null).max() > 1e-3
  critic = functools.partial(method.queries['critic'], model, None, X)
  np.testing.assert_array_equal(critic(), critic(condition=jnp.full(8, -1)))
  with pytest.raises(ValueError, match=r'for 4 examples must be \[4, ...\], got \[3\]'):
    method.sample(model, KEY, 4, condition=jnp.zeros(3, int))


def test_a_batch_without_the_condition_is_refused():
  method = both_games(Joined, conditions.by_class(3))['gan']
  with pytest.raises(ValueError, match="needs 'label' in its batches"):
    method.init(KEY, {'x': X})
  state = method.init(KEY, {'x': X, 'label': jnp.zeros(8, int)})
  with pytest.raises(ValueError, match=r'needs a condition, label'):
    method.sample(base.Model(state.params, state.extra), KEY, 2)


def test_a_trained_player_is_applied_with_its_own_statistics():
  class Centered(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
      return nn.BatchNorm(use_running_average=not train, use_scale=False)(x)

  params, model_state = players.init(Centered(), KEY, X)
  stats = {'BatchNorm_0': {'mean': jnp.array([1.0, 2.0]), 'var': jnp.array([4.0, 9.0])}}
  extra = {'batch_stats': {'g': stats, 'other': model_state['batch_stats']}}
  found = players.apply_trained(Centered(), 'g', base.Model({'g': params}, extra), X)
  expected = (X - jnp.array([1.0, 2.0])) / jnp.array([2.0, 3.0])
  np.testing.assert_allclose(found, expected, rtol=1e-4)
