"""CycleGAN's step by the paper's formulas, what each term wants, and the pools."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compiled import compiled

from gm_jax import base
from gm_jax.methods import cycle_gan
from gm_jax.models import mlp
from gm_jax.training import step as step_lib

B, RATE, PATCHES = 6, 0.05, 3
WEIGHTS = {'adversarial_weight': 0.7, 'cycle_weight': 10.0, 'identity_weight': 5.0}


def make(tx=None, **changes):
  tx = optax.sgd(RATE) if tx is None else tx
  networks = [mlp.MLP((2,)), mlp.MLP((2,)), mlp.MLP((PATCHES,)), mlp.MLP((PATCHES,))]
  return cycle_gan.cycle_gan(*networks, tx, tx, **(WEIGHTS | changes))


def batch(seed=0, num=B):
  keys = jax.random.split(jax.random.key(seed))
  x, y = (jax.random.normal(key, (num, 2)) for key in keys)
  return {'x': x, 'y': 1.0 + 0.5 * y}


def dense(weights, x):
  return x @ weights['Dense_0']['kernel'] + weights['Dense_0']['bias']


def step_of(method, seed=0):
  state = jax.jit(method.init)(jax.random.key(0), batch(seed))
  after, metrics = jax.jit(method.step)(state, jax.random.key(1), batch(seed))
  return state, after, metrics


def down(loss, params):
  slope = jax.jit(jax.grad(loss))(params)
  return jax.tree.map(lambda p, s: p - RATE * s, params, slope)


def test_a_step_is_down_the_gradients_of_the_papers_objectives():
  state, after, metrics = step_of(make())
  x, y = batch()['x'], batch()['y']
  names = ('to_y', 'to_x', 'critic_y', 'critic_x')
  old = {name: state.params[name] for name in names}

  def terms(params):
    g, f = params['to_y'], params['to_x']
    fake_y, fake_x = dense(g, x), dense(f, y)
    against = jnp.square(dense(old['critic_y'], fake_y) - 1).mean()
    against += jnp.square(dense(old['critic_x'], fake_x) - 1).mean()
    cycle = jnp.abs(dense(f, fake_y) - x).mean() + jnp.abs(dense(g, fake_x) - y).mean()
    same = jnp.abs(dense(g, y) - y).mean() + jnp.abs(dense(f, x) - x).mean()
    return against, cycle, same

  def g_loss(params):
    return jnp.dot(jnp.array(list(WEIGHTS.values())), jnp.stack(terms(params)))

  both = {name: old[name] for name in names[:2]}
  new = down(g_loss, both)
  chex.assert_trees_all_close({n: after.params[n] for n in new}, new, rtol=1e-5)
  names_of_terms = ('adversarial_loss', 'cycle_loss', 'identity_loss')
  for name, value in zip(names_of_terms, terms(both), strict=True):
    np.testing.assert_allclose(metrics[name], value, rtol=1e-5)

  def d_loss(params):  # of the translations before the step; the pools are empty
    total = 0.0
    for name, real, fake in (
      ('critic_y', y, dense(old['to_y'], x)), ('critic_x', x, dense(old['to_x'], y)),
    ):  # fmt: skip
      total += jnp.square(dense(params[name], real) - 1).mean()
      total += jnp.square(dense(params[name], fake)).mean()
    return total

  new = down(d_loss, {name: old[name] for name in names[2:]})
  chex.assert_trees_all_close({n: after.params[n] for n in new}, new, rtol=1e-5)
  np.testing.assert_allclose(metrics['critics_loss'], d_loss(old), rtol=1e-5)


def test_nothing_is_learned_from_which_y_stands_beside_which_x():
  method = make(pool_size=0)
  state = jax.jit(method.init)(jax.random.key(0), batch())
  step, moved = jax.jit(method.step), batch()
  moved = {**moved, 'y': jnp.roll(moved['y'], 2, axis=0)}
  one, other = (step(state, jax.random.key(1), b)[0] for b in (batch(), moved))
  chex.assert_trees_all_close(one.params, other.params, atol=1e-6)


def test_exact_translators_have_no_cycle_and_no_slope_of_it():
  # y = a x + b and back; the identity term is 0 for the identity alone.
  method = make(pool_size=0, adversarial_weight=0.0, identity_weight=0.0)
  state, _, _ = step_of(method)
  there, shift = jnp.array([[2.0, 1.0], [0.0, 0.5]]), jnp.array([0.3, -1.0])
  back = jnp.linalg.inv(there)
  layers = {'to_y': (there, shift), 'to_x': (back, -shift @ back)}
  for name, (kernel, bias) in layers.items():
    state.params[name] = {'Dense_0': {'kernel': kernel, 'bias': bias}}
  _, metrics = jax.jit(method.step)(state, jax.random.key(1), batch())
  assert metrics['cycle_loss'] < 1e-6
  assert 'identity_loss' not in metrics
  model = step_lib.model(state)
  translate, x = method.queries['translate'], batch()['x']
  y = translate(model, None, x, condition=1)
  np.testing.assert_allclose(y, x @ there + shift, rtol=1e-5)
  np.testing.assert_allclose(translate(model, None, y, condition=0), x, atol=1e-5)
  # Each example to a domain of its own.
  domain = jnp.arange(B) % 2
  mixed = translate(model, None, x, condition=domain)
  expected = jnp.where(domain[:, None] == 1, y, translate(model, None, x, condition=0))
  np.testing.assert_allclose(mixed, expected, rtol=1e-6)


@pytest.mark.parametrize('left_out', ['adversarial_weight', 'cycle_weight'])
def test_an_ablation_leaves_its_term_out(left_out):
  _, _, metrics = step_of(make(**{left_out: 0.0, 'identity_weight': 0.0}))
  other = {'adversarial_weight': 'cycle', 'cycle_weight': 'adversarial'}[left_out]
  weight = WEIGHTS[f'{other}_weight']
  np.testing.assert_allclose(
    metrics['translators_loss'], weight * metrics[f'{other}_loss'], rtol=1e-6
  )


def test_critics_see_what_the_pools_give():
  """After the pool is full, critics move by older translations than the step's own."""
  method = compiled(make(pool_size=B))
  states = [method.init(jax.random.key(0), batch())]
  for i in range(3):
    states.append(method.step(states[-1], jax.random.key(i), batch(i))[0])
  pool = states[1].extra[base.LOCAL]['y']
  fake = dense(states[0].params['to_y'], batch(0)['x'])
  np.testing.assert_allclose(pool.kept, fake, rtol=1e-5)
  assert pool.count == B
  # The pool of the third state has translations of all steps.
  kept = np.asarray(states[3].extra[base.LOCAL]['y'].kept)
  made = [dense(s.params['to_y'], batch(i)['x']) for i, s in enumerate(states[:3])]
  near = np.abs(kept[:, None] - np.concatenate(made)).max(axis=2).min(axis=1)
  np.testing.assert_allclose(near, 0, atol=1e-5)
  assert (np.abs(kept[:, None] - made[0]).max(axis=2).min(axis=1) < 1e-5).any()
  assert (np.abs(kept[:, None] - made[2]).max(axis=2).min(axis=1) < 1e-5).any()


@pytest.mark.slow
def test_translators_of_the_plane_bring_one_domain_to_the_other():
  """x ~ N(0, 1), y ~ N((2, -1), 1): what is least in cycle and identity is a shift."""
  move = jnp.array([2.0, -1.0])
  method = make(optax.adam(2e-2, b1=0.5), cycle_weight=5.0, identity_weight=0.0,
                adversarial_weight=1.0)  # fmt: skip

  def draw(key):
    x, y = jax.random.normal(key, (2, 64, 2))
    return {'x': x, 'y': move + y}

  def steps(state, key):
    return method.step(state, key, draw(key))[0], None

  state = jax.jit(method.init)(jax.random.key(0), draw(jax.random.key(1)))
  keys = jax.random.split(jax.random.key(2), 1500)
  state, _ = jax.jit(lambda s: jax.lax.scan(steps, s, keys))(state)
  x = draw(jax.random.key(3))['x']
  y = method.queries['translate'](step_lib.model(state), None, x)
  np.testing.assert_allclose((y - x).mean(axis=0), move, atol=0.35)


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match='must be >= 0'):
    make(cycle_weight=-1.0)
  shapes = {'x': jnp.zeros((2, 2)), 'y': jnp.zeros((2, 3))}
  with pytest.raises(ValueError, match='domains of one shape'):
    jax.eval_shape(make().init, jax.random.key(0), shapes)
  method = make()
  state = method.init(jax.random.key(0), batch())
  translate = functools.partial(
    method.queries['translate'], step_lib.model(state), None
  )
  with pytest.raises(ValueError, match='1, of y, or 0, of x, got 2'):
    translate(batch()['x'], condition=2)
