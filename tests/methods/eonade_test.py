"""Orderless NADE: every order is a law, J is their mean, ensembles are laws too."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compiled import compiled

from gm_jax import conditions
from gm_jax.methods import eonade
from gm_jax.models import mlp
from gm_jax.training import step as step_lib

D = 4
EVERY = jnp.array(list(itertools.product(range(2), repeat=D)))
ALL = np.array(list(itertools.permutations(range(D))))


def method_of(ensemble=None, tx=None):
  tx = tx or optax.adam(5e-3)
  return eonade.eonade(mlp.MLP((24, D)), tx, shape=(D,), ensemble=ensemble)


def random_state(method, **more):
  state = method.init(jax.random.key(0), {'x': EVERY, **more})
  rng = np.random.default_rng(1)
  params = jax.tree.map(lambda p: rng.normal(size=p.shape).astype('f4'), state.params)
  return state._replace(params=params)


@pytest.mark.parametrize('ensemble', [None, [[3, 1, 0, 2]], ALL[::5]])
def test_masses_sum_to_one_and_samples_have_them(ensemble):
  method = compiled(method_of(ensemble))
  model = step_lib.model(random_state(method))
  p = np.exp(method.log_prob(model, None, EVERY))
  np.testing.assert_allclose(p.sum(), 1, rtol=1e-5)
  samples = method.sample(model, jax.random.key(2), 8000)
  cell = np.asarray(samples) @ 2 ** np.arange(D)[::-1]
  frequency = np.bincount(cell, minlength=2**D) / 8000
  assert np.abs(frequency - p).max() < 5 * np.sqrt(0.25 / 8000)


def test_every_class_has_a_law_of_its_own():
  condition = conditions.by_class(2)
  method = compiled(eonade.eonade(
    mlp.MLP((24, D)), optax.adam(5e-3), shape=(D,), ensemble=ALL[::7],
    condition=condition,
  ))  # fmt: skip
  model = step_lib.model(random_state(method, label=np.zeros(16, int)))
  laws = []
  for one in range(2):
    label = jnp.full(16, one)
    laws.append(np.exp(method.log_prob(model, None, EVERY, condition=label)))
    np.testing.assert_allclose(laws[-1].sum(), 1, rtol=1e-5)
    many = jnp.full(8000, one)
    samples = method.sample(model, jax.random.key(2), 8000, condition=many)
    cell = np.asarray(samples) @ 2 ** np.arange(D)[::-1]
    frequency = np.bincount(cell, minlength=16) / 8000
    assert np.abs(frequency - laws[-1]).max() < 5 * np.sqrt(0.25 / 8000)
  assert 0.5 * np.abs(laws[0] - laws[1]).sum() > 0.1
  with pytest.raises(ValueError, match='needs a condition, label'):
    method.log_prob(model, None, EVERY)


def test_the_ensemble_is_the_mean_of_joint_likelihoods():
  model = step_lib.model(random_state(method_of()))
  each = [
    np.exp(method_of([order]).log_prob(model, None, EVERY)) for order in ALL[[0, 9, 17]]
  ]
  assert np.abs(each[0] - each[1]).max() > 0.01  # untrained, orders disagree
  found = np.exp(method_of(ALL[[0, 9, 17]]).log_prob(model, None, EVERY))
  np.testing.assert_allclose(found, np.mean(each, 0), rtol=1e-4)


def test_the_loss_is_the_mean_over_all_orders_without_bias():
  method = compiled(method_of(tx=optax.sgd(0.0)))
  state = random_state(method)
  x = jnp.tile(EVERY[jnp.array([3, 10])], (2000, 1))
  step = method.step
  losses = [
    float(step(state, jax.random.key(i), {'x': x})[1]['loss']) for i in range(10)
  ]
  model = step_lib.model(state)
  nats = [method_of([o]).log_prob(model, None, EVERY[jnp.array([3, 10])]) for o in ALL]
  error = np.std(losses) / np.sqrt(10)
  assert abs(np.mean(losses) + np.mean(nats)) < 5 * error + 1e-3


def test_trained_orders_agree_on_the_law_of_the_data():
  atoms = jnp.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 1]])
  truth = jnp.array([0.5, 0.3, 0.2])
  x = atoms[jax.random.choice(jax.random.key(0), 3, (1500, 64), p=truth)]
  tx = optax.adam(optax.cosine_decay_schedule(0.02, 1500))
  method = compiled(method_of(ALL[::5], tx))
  state = method.init(jax.random.key(1), {'x': x[0]})
  train = jax.jit(step_lib.train_step(method))
  state, _ = train(state, jax.random.key(2), {'x': x})
  p = np.exp(method.log_prob(step_lib.model(state), None, atoms))
  np.testing.assert_allclose(p, truth, atol=0.06)


def test_an_ensemble_of_no_permutations_is_refused():
  with pytest.raises(ValueError, match='permutation'):
    method_of([[0, 1, 2, 2]])
