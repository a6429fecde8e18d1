"""Autoregressive models: masses sum to one, samplers agree, nothing sees the future."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import weights
from compiled import compiled

from gm_jax import base, conditions, orders
from gm_jax.losses import likelihood
from gm_jax.methods import autoregressive
from gm_jax.models import made, nade
from gm_jax.samplers import autoregressive as sampler
from gm_jax.training import step as step_lib

D, RNG = 6, np.random.default_rng
EVERY = jnp.array(list(itertools.product(range(2), repeat=D)))


def of_nade(condition=None, order=None):
  return autoregressive.autoregressive(
    nade.NADE(D, 5), optax.adam(0.03), shape=(D,), order=order,
    likelihood=likelihood.bernoulli, draw=sampler.bernoulli, condition=condition,
  )  # fmt: skip


def random_model(method, batch):
  """Weights far from their start, so that conditionals differ."""
  state, rng = jax.eval_shape(method.init, jax.random.key(0), batch), RNG(0)
  params = jax.tree.map(lambda p: rng.normal(size=p.shape).astype('f4'), state.params)
  return base.Model(params, {})


def test_nade_by_loops():
  method = compiled(of_nade())
  model = random_model(method, {'x': EVERY})
  w, v, c, b = (np.asarray(model.params[name], float)
                for name in ('encoder', 'decoder', 'hidden_bias', 'bias'))  # fmt: skip
  found = method.log_prob(model, None, EVERY[:9])
  for x, value in zip(np.asarray(EVERY[:9]), found, strict=True):
    total = 0.0
    for i in range(D):
      h = 1 / (1 + np.exp(-(c + sum(w[j] * x[j] for j in range(i)))))
      p = 1 / (1 + np.exp(-(b[i] + v[i] @ h)))
      total += np.log(p if x[i] else 1 - p)
    np.testing.assert_allclose(value, total, rtol=1e-4)


def cached_and_naive(bound, num_dims, draw):
  @jax.jit
  def both(key):
    fast = sampler.cached(
      functools.partial(bound, method='conditional'),
      functools.partial(bound, method='update'),
      bound(50, method='start'), key, num_dims, draw=draw,
    )  # fmt: skip
    return fast, sampler.naive(bound, key, num_dims, 50, draw=draw)

  return both(jax.random.key(3))


@pytest.mark.parametrize('likelihood_of', ['categorical', 'logistics'])
def test_nade_of_several_levels_sums_to_one_and_its_cache_is_the_full_pass(
  likelihood_of,
):
  levels, outputs = 3, 3 if likelihood_of == 'categorical' else 6
  module = nade.NADE(4, 5, levels, outputs)
  every = jnp.array(list(itertools.product(range(levels), repeat=4)))
  nats, draw = likelihood.categorical, sampler.categorical
  if likelihood_of == 'logistics':

    def nats(parameters, x):
      return likelihood.pixels(parameters, x[..., None], num_levels=levels)

    def draw(key, parameters):
      return sampler.pixels(1, levels)(key, parameters)[:, 0]

  bound = functools.partial(module.apply, weights.drawn(module, every))
  masses = jax.jit(lambda x: jnp.exp(nats(bound(x), x)))(every)
  np.testing.assert_allclose(masses.sum(), 1, rtol=1e-4)
  np.testing.assert_array_equal(*cached_and_naive(bound, 4, draw))


@pytest.mark.parametrize('order', [None, (5, 0, 3, 1, 4, 2)])
def test_masses_sum_to_one_and_samples_have_them(order):
  method = compiled(of_nade(order=order))
  model = random_model(method, {'x': EVERY})
  p = np.exp(method.log_prob(model, None, EVERY))
  np.testing.assert_allclose(p.sum(), 1, rtol=1e-5)
  samples = method.sample(model, jax.random.key(2), 20_000)
  cell = np.asarray(samples) @ 2 ** np.arange(D)[::-1]
  frequency = np.bincount(cell, minlength=2**D) / 20_000
  assert np.abs(frequency - p).max() < 5 * np.sqrt(0.25 / 20_000)


@pytest.mark.parametrize(
  ('condition', 'value'),
  [
    (conditions.by_class(3), {'label': jnp.array([2, 0])}),
    (conditions.by_value(), {'condition': jnp.array([[0.5, -1.0], [-6.0, 4.0]])}),
  ],
)
def test_every_condition_has_a_law_of_its_own(condition, value):
  method = compiled(of_nade(condition))
  batch = {'x': EVERY[:2], **value}
  model = random_model(method, batch)
  (both,) = value.values()
  laws = []
  for one in both:
    repeated = jnp.broadcast_to(one, (2**D, *one.shape))
    laws.append(np.exp(method.log_prob(model, None, EVERY, condition=repeated)))
    np.testing.assert_allclose(laws[-1].sum(), 1, rtol=1e-5)
    many = jnp.broadcast_to(one, (8000, *one.shape))
    samples = method.sample(model, jax.random.key(2), 8000, condition=many)
    cell = np.asarray(samples) @ 2 ** np.arange(D)[::-1]
    frequency = np.bincount(cell, minlength=2**D) / 8000
    assert np.abs(frequency - laws[-1]).max() < 5 * np.sqrt(0.25 / 8000)
  assert 0.5 * np.abs(laws[0] - laws[1]).sum() > 0.1


def test_cached_sampling_is_the_naive_ones_key_by_key():
  module = nade.NADE(D, 5)
  bound = functools.partial(module.apply, weights.drawn(module, EVERY))
  np.testing.assert_array_equal(*cached_and_naive(bound, D, sampler.bernoulli))


def dependence(parameters, x):
  """Returns how strongly output i depends on input j, by the Jacobian."""
  jacobian = jax.jit(jax.jacobian(lambda x: parameters(x[None])[0]))(x)
  strength = np.abs(np.asarray(jacobian)).reshape(D, -1, D).max(1)
  return strength


def test_nade_sees_all_before_and_nothing_else():
  module = nade.NADE(D, 5)
  bound = functools.partial(module.apply, weights.drawn(module, EVERY))
  strength = dependence(bound, jnp.full(D, 0.3))
  np.testing.assert_array_equal(strength > 0, np.tril(np.ones((D, D)), -1))


@pytest.mark.parametrize('num_outputs', [1, 3])
def test_made_sees_nothing_that_comes_later_in_its_order(num_outputs):
  rng = np.random.default_rng(0)
  order = np.array([4, 1, 5, 0, 2, 3])
  place = np.argsort(order)
  allowed = place[None] < place[:, None]  # [output, input]
  reached = np.zeros((D, D), bool)
  module = made.MADE(D, (20, 20), num_outputs)

  @jax.jit
  def jacobian(variables, masks):
    run = functools.partial(module.apply, variables, masks=masks)
    return jax.jacobian(lambda x: run(x[None])[0])(jnp.full(D, 0.3))

  for _ in range(8):
    masks = made.masks(rng, order, (20, 20))
    strength = np.asarray(jacobian(weights.drawn(module, EVERY, masks), masks))
    strength = np.abs(strength).reshape(D, -1, D).max(1)
    assert not (strength[~allowed] > 0).any()
    reached |= strength > 0
  np.testing.assert_array_equal(reached, allowed)


def test_made_sums_to_one_for_every_order_and_mask():
  rng, module = np.random.default_rng(1), made.MADE(D, (12,))
  log_prob = jax.jit(
    lambda variables, masks: likelihood.bernoulli(
      module.apply(variables, EVERY, masks), EVERY
    )
  )
  for _ in range(3):
    masks = made.masks(rng, rng.permutation(D), (12,))
    p = np.exp(log_prob(weights.drawn(module, EVERY, masks), masks))
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-5)


def test_training_finds_a_law_that_nade_can_hold():
  truth = jnp.array([0.5, 0.3, 0.2])
  atoms = jnp.array([[1, 1, 0, 0, 1, 0], [0, 1, 1, 0, 0, 1], [1, 0, 0, 1, 1, 1]])
  x = atoms[jax.random.choice(jax.random.key(0), 3, (400, 64), p=truth)]
  method = compiled(of_nade())
  state = method.init(jax.random.key(1), {'x': x[0]})
  state, metrics = jax.jit(step_lib.train_step(method))(
    state, jax.random.key(2), {'x': x}
  )
  p = np.exp(method.log_prob(step_lib.model(state), None, atoms))
  np.testing.assert_allclose(p, truth, atol=0.03)
  entropy = -(truth * jnp.log(truth)).sum()
  assert abs(float(metrics['loss'][-50:].mean()) - entropy) < 0.05
  chex.assert_tree_all_finite(state.params)


def test_conditions_and_shapes_that_do_not_fit_are_refused():
  plain = of_nade()
  model = random_model(plain, {'x': EVERY})
  with pytest.raises(ValueError, match='unconditional'):
    plain.sample(model, jax.random.key(0), 2, condition=jnp.zeros(2))
  with_class = of_nade(conditions.by_class(3))
  model = random_model(with_class, {'x': EVERY[:2], 'label': jnp.zeros(2, int)})
  with pytest.raises(ValueError, match=r'needs a condition, label'):
    with_class.log_prob(model, None, EVERY)
  with pytest.raises(ValueError, match='permutation'):
    of_nade(order=(0, 1))
  with pytest.raises(ValueError, match=r'x must be \[B, 6\]'):
    nade.NADE(D).init(jax.random.key(0), jnp.zeros((2, 5)))
  np.testing.assert_array_equal(orders.checked(None, 3), [0, 1, 2])
  with pytest.raises(ValueError, match='x must be integers, got float32'):
    plain.step(plain.init(jax.random.key(0), {'x': EVERY}), jax.random.key(1),
               {'x': EVERY.astype(jnp.float32)})  # fmt: skip
  with pytest.raises(ValueError, match='x must be from 0 to 1, got 7'):
    plain.log_prob(random_model(plain, {'x': EVERY}), None, EVERY.at[3, 2].set(7))
