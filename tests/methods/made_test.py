"""MADE's mixtures of orders are likelihoods; the mean of conditionals is none."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compiled import compiled

from gm_jax import conditions
from gm_jax.losses import likelihood
from gm_jax.methods import made
from gm_jax.models import made as network
from gm_jax.samplers import autoregressive as sampler
from gm_jax.training import step as step_lib

D = 5
EVERY = jnp.array(list(itertools.product(range(2), repeat=D)))
ORDERS = [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]]


def method_of(num_sets, mask_orders=None, condition=None):
  masks, found = made.mask_sets(0, D, (14,), num_sets=num_sets, mask_orders=mask_orders)
  method = made.made(
    network.MADE(D, (14,)), optax.adam(0.02), shape=(D,), masks=masks,
    mask_orders=found, likelihood=likelihood.bernoulli, draw=sampler.bernoulli,
    condition=condition,
  )  # fmt: skip
  return compiled(method), masks


def random_model(method, batch):
  state = method.init(jax.random.key(0), batch)
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda p: 2 * rng.normal(size=p.shape).astype('f4'), state.params
  )
  return step_lib.model(state._replace(params=params))


@pytest.mark.parametrize(('num', 'mask_orders'), [(1, None), (3, None), (3, ORDERS)])
def test_masses_sum_to_one_and_samples_have_them(num, mask_orders):
  method, _ = method_of(num, mask_orders)
  model = random_model(method, {'x': EVERY})
  p = np.exp(method.log_prob(model, None, EVERY))
  np.testing.assert_allclose(p.sum(), 1, rtol=1e-5)
  samples = method.sample(model, jax.random.key(2), 8000)
  cell = np.asarray(samples) @ 2 ** np.arange(D)[::-1]
  frequency = np.bincount(cell, minlength=2**D) / 8000
  assert np.abs(frequency - p).max() < 5 * np.sqrt(0.25 / 8000)


def test_the_mean_of_conditionals_over_orders_is_no_likelihood():
  """Public code reports it: it sums to more than one, and so looks better."""
  method, masks = method_of(3, ORDERS)
  model = random_model(method, {'x': EVERY})
  module = network.MADE(D, (14,))
  apply = jax.jit(module.apply)
  logits = [
    apply({'params': model.params}, EVERY, jax.tree.map(lambda m, i=i: m[i], masks))
    for i in range(3)
  ]
  wrong = jnp.exp(likelihood.bernoulli(sum(logits) / 3, EVERY))
  assert abs(float(wrong.sum()) - 1) > 0.05
  right = jnp.exp(method.log_prob(model, None, EVERY))
  joint = sum(jnp.exp(likelihood.bernoulli(one, EVERY)) for one in logits) / 3
  np.testing.assert_allclose(right, joint, rtol=1e-4)


def test_one_condition_one_law():
  method, _ = method_of(2, condition=conditions.by_class(2))
  batch = {'x': EVERY, 'label': jnp.zeros(len(EVERY), jnp.int32)}
  model = random_model(method, batch)
  masses = [
    np.exp(method.log_prob(model, None, EVERY, condition=jnp.full(2**D, c)))
    for c in range(2)
  ]
  for mass in masses:
    np.testing.assert_allclose(mass.sum(), 1, rtol=1e-5)
  assert np.abs(masses[0] - masses[1]).sum() > 0.2


def test_training_reaches_the_entropy_of_what_it_can_hold():
  atoms = jnp.array([[1, 1, 0, 0, 1], [0, 1, 1, 0, 0]])
  x = atoms[jax.random.bernoulli(jax.random.key(0), 0.3, (400, 64)).astype(int)]
  method, _ = method_of(2, ORDERS[:2])
  state = method.init(jax.random.key(1), {'x': x[0]})
  train = jax.jit(step_lib.train_step(method))
  state, _ = train(state, jax.random.key(2), {'x': x})
  p = np.exp(method.log_prob(step_lib.model(state), None, atoms))
  np.testing.assert_allclose(p, [0.7, 0.3], atol=0.04)


def test_wrong_numbers_of_sets_and_orders_are_refused():
  with pytest.raises(ValueError, match='num_sets must be >= 1'):
    made.mask_sets(0, D, (4,), num_sets=0)
  with pytest.raises(ValueError, match='2 orders are needed, got 3'):
    made.mask_sets(0, D, (4,), num_sets=2, mask_orders=ORDERS)
  with pytest.raises(ValueError, match='permutation'):
    made.mask_sets(0, D, (4,), mask_orders=[[0, 0, 1, 2, 3]])
