"""Restricted Boltzmann machines against the table of all their states."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special, stats

from gm_jax import base, boltzmann
from gm_jax.methods import rbm

D, H = 5, 4
RNG = np.random.default_rng(3)
TRUE = {
  'visible': RNG.normal(size=D),
  'hidden': RNG.normal(size=H),
  'weights': 1.5 * RNG.normal(size=(D, H)),
}
PARAMS = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), TRUE)


def states(num):
  return np.array(list(itertools.product((0.0, 1.0), repeat=num)))


V, HIDDEN = states(D), states(H)


def joint(params):
  """-E of every v and h, term by term, [2^D, 2^H]."""
  v, h = states(len(params['visible'])), states(len(params['hidden']))
  first = v @ params['visible']
  products = np.einsum('vi,ij,hj->vh', v, params['weights'], h)
  return first[:, None] + h @ params['hidden'] + products


TABLE = joint(TRUE)
LOG_Z = special.logsumexp(TABLE)
P = np.exp(special.logsumexp(TABLE, axis=1) - LOG_Z)  # of v
HIDDEN_OF_V, V_OF_HIDDEN = special.softmax(TABLE, 1), special.softmax(TABLE, 0)
TRANSITION = HIDDEN_OF_V @ V_OF_HIDDEN.T  # [v, v']


def statistics(p):
  """Means of v, h and v h where v has probabilities p, h its conditional."""
  h = HIDDEN_OF_V @ HIDDEN
  return {'visible': p @ V, 'hidden': p @ h, 'weights': (p[:, None] * V).T @ h}


def after(p, num_steps):
  return p @ np.linalg.matrix_power(TRANSITION, num_steps)


def places(v):
  return np.asarray(v).astype(int) @ 2 ** np.arange(D)[::-1]


def assert_drawn(v, p):
  """States of chains v [N, D] are draws from p, by the binomial of every state."""
  counts = np.bincount(places(v), minlength=len(V))
  tails = [stats.binom.cdf(counts, len(v), p), stats.binom.sf(counts - 1, len(v), p)]
  assert np.min(tails) > 1e-7


def machine(**options):
  tx = options.pop('tx', optax.sgd(1.0))
  return rbm.rbm(tx, shape=(D,), num_hidden=H, **options)


def started(method, x):
  state = jax.jit(method.init)(jax.random.key(0), {'x': x})
  return state._replace(params=PARAMS)


def test_energies_and_conditionals_are_those_of_the_table():
  pairs = [np.repeat(V, len(HIDDEN), 0), np.tile(HIDDEN, (len(V), 1))]
  found = boltzmann.energy(PARAMS, *map(jnp.float32, pairs))
  np.testing.assert_allclose(-found, TABLE.ravel(), rtol=1e-5, atol=1e-5)
  free = boltzmann.free_energy(PARAMS, jnp.float32(V))
  np.testing.assert_allclose(-free, special.logsumexp(TABLE, axis=1), rtol=1e-5)
  for logits, table, units in (
    (boltzmann.hidden_logits(PARAMS, jnp.float32(V)), HIDDEN_OF_V, HIDDEN),
    (boltzmann.visible_logits(PARAMS, jnp.float32(HIDDEN)), V_OF_HIDDEN.T, V),
  ):
    each = np.asarray(logits, float)[:, None] * np.where(units, 1, -1)
    p = np.exp(-np.logaddexp(0, -each).sum(-1))  # independent, of one layer
    np.testing.assert_allclose(p, table, rtol=1e-4, atol=1e-7)


def test_log_partition_is_the_sum_over_the_table_by_either_layer():
  log_partition = jax.jit(boltzmann.log_partition)
  np.testing.assert_allclose(log_partition(PARAMS), LOG_Z, rtol=1e-6)
  turned = {'visible': PARAMS['hidden'], 'hidden': PARAMS['visible']}
  turned['weights'] = PARAMS['weights'].T
  np.testing.assert_allclose(log_partition(turned), LOG_Z, rtol=1e-6)
  # Several chunks, of sums beyond float32: numpy has them as logarithms of all states.
  num = boltzmann.CHUNK_BITS + 2
  large = {
    'visible': RNG.normal(size=num) + 40,
    'hidden': RNG.normal(size=num),
    'weights': RNG.normal(size=(num, num)),
  }
  h = states(num)
  logits = large['visible'] + h @ large['weights'].T
  each = h @ large['hidden'] + np.logaddexp(0, logits).sum(1)
  found = boltzmann.log_partition(jax.tree.map(jnp.float32, large))
  np.testing.assert_allclose(found, special.logsumexp(each), rtol=2e-6)


def test_masses_are_the_tables_and_so_is_the_gradient():
  method, x = machine(), jnp.asarray(V, jnp.int32)
  model = base.Model(PARAMS, {})
  each = jax.jit(lambda params: method.log_prob(base.Model(params, {}), None, x))
  np.testing.assert_allclose(each(PARAMS), np.log(P), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(np.exp(each(PARAMS)).sum(), 1, rtol=1e-5)
  data = RNG.dirichlet(np.ones(len(V)))
  found = jax.grad(lambda params: jnp.float32(data) @ each(params))(PARAMS)
  expected = jax.tree.map(np.subtract, statistics(data), statistics(P))
  for name, gradient in found.items():
    np.testing.assert_allclose(gradient, expected[name], atol=1e-5)
  hidden = method.queries['encode'](model, None, x)
  np.testing.assert_allclose(hidden, HIDDEN_OF_V @ HIDDEN, atol=1e-6)
  visible = method.queries['reconstruct'](model, None, x)
  logits = TRUE['visible'] + (HIDDEN_OF_V @ HIDDEN) @ TRUE['weights'].T
  np.testing.assert_allclose(visible, special.expit(logits), atol=1e-6)


NUM = 1 << 15
DATA = np.zeros(len(V))
DATA[[3, 12, 24, 30]] = 0.25


@pytest.mark.parametrize(
  'num_steps',
  [
    1,
    pytest.param(2, marks=pytest.mark.slow),
    pytest.param(20, marks=pytest.mark.slow),
  ],
)
def test_contrastive_divergence_goes_where_the_transition_leads(num_steps):
  method = machine(num_steps=num_steps)
  x = jnp.asarray(V[np.repeat(np.flatnonzero(DATA), NUM // 4)], jnp.int32)
  state = started(method, x)
  after_step, _ = jax.jit(method.step)(state, jax.random.key(1), {'x': x})
  moved = jax.tree.map(jnp.subtract, after_step.params, PARAMS)  # by minus the gradient
  model = statistics(after(DATA, num_steps))
  expected = jax.tree.map(np.subtract, statistics(DATA), model)
  exact = jax.tree.map(np.subtract, statistics(DATA), statistics(P))
  # Chains are independent, and their statistics in [0, 1]: a deviation is at most 1/2.
  tolerance = 5 * 0.5 / np.sqrt(NUM)
  gap = 0.0
  for name, change in moved.items():
    np.testing.assert_allclose(change, expected[name], atol=tolerance)
    gap = max(gap, np.abs(expected[name] - exact[name]).max())
  # A few steps are biased, by more than the tolerance; many are the gradient itself.
  assert gap < 1e-4 if num_steps == 20 else gap > 3 * tolerance


def test_gibbs_steps_are_the_transition_which_leaves_p_invariant():
  np.testing.assert_allclose(P @ TRANSITION, P, rtol=1e-10)
  repeats = 2000
  v = jnp.float32(np.repeat(V, repeats, 0))
  move = jax.jit(boltzmann.gibbs)  # the number of steps is traced
  for num_steps in (1, 2):
    found = move(PARAMS, jax.random.key(num_steps), v, num_steps)
    expected = np.linalg.matrix_power(TRANSITION, num_steps)
    for i, chains in enumerate(np.asarray(found).reshape(len(V), repeats, D)):
      assert_drawn(chains, expected[i])
  np.testing.assert_array_equal(move(PARAMS, jax.random.key(0), v, 0), v)


@pytest.mark.slow
def test_persistent_chains_reach_the_distribution_of_fixed_parameters():
  num = 8000
  method = machine(num_chains=num, tx=optax.sgd(0.0))
  x = jnp.asarray(V[np.flatnonzero(DATA)], jnp.int32)
  state = started(method, x)

  def step(state, key):
    return method.step(state, key, {'x': x})[0], None

  def chains(state):
    return state.extra[base.LOCAL][rbm.CHAINS]

  keys = jax.random.split(jax.random.key(2), 20)
  end = jax.jit(lambda state: jax.lax.scan(step, state, keys)[0])(state)
  rates = (V[np.flatnonzero(DATA)].sum(0) + 1) / 6  # of four examples and two beside
  start = np.prod(np.where(V, rates, 1 - rates), axis=1)
  assert np.abs(after(start, 20) - P).max() < 1e-4
  assert np.abs(start - P).max() > 0.1
  assert_drawn(chains(state), start)
  assert_drawn(chains(end), P)
  draw = jax.jit(functools.partial(method.sample, num_steps=20), static_argnums=2)
  samples = draw(base.Model(PARAMS, state.extra), keys[0], num)
  assert samples.dtype == jnp.int32
  assert_drawn(samples, P)


@functools.partial(jax.jit, static_argnames=('num_chains', 'num_steps'))
def annealed(params, base_logits, num_chains, num_steps):
  key, sizes = jax.random.key(4), {'num_chains': num_chains, 'num_steps': num_steps}
  return boltzmann.annealed_log_partition(params, key, base_logits, **sizes)


# One temperature is plain importance sampling.
@pytest.mark.parametrize(
  ('num_chains', 'num_steps', 'largest'), [(400, 200, 0.05), (20_000, 1, 0.2)]
)
def test_annealing_finds_log_z_within_its_error(num_chains, num_steps, largest):
  value, error = annealed(PARAMS, jnp.zeros(D), num_chains, num_steps)
  assert abs(value - LOG_Z) < 4 * error and 0 < error < largest


def test_annealing_is_exact_without_weights():
  params = PARAMS | {'weights': jnp.zeros((D, H))}
  value, error = annealed(params, PARAMS['visible'], 400, 200)
  biases = np.concatenate([TRUE['visible'], TRUE['hidden']])
  np.testing.assert_allclose(value, np.logaddexp(0, biases).sum(), rtol=1e-5)
  assert error < 1e-6


def test_too_large_a_machine_has_an_estimate_and_no_log_prob():
  num = boltzmann.MOST_UNITS + 1
  method = rbm.rbm(optax.sgd(0.1), shape=(num,), num_hidden=num)
  assert method.log_prob is None and method.card.density == 'estimate'
  ones = jnp.ones((4, num), jnp.int32)
  state = jax.jit(method.init)(jax.random.key(0), {'x': ones})
  # Nothing learned, and no weights: independent units, whose masses are known.
  params = state.params | {'weights': jnp.zeros((num, num))}
  x = jnp.asarray(RNG.integers(0, 2, (6, num)), jnp.int32)
  sizes = {'num_chains': 3, 'num_steps': 5}
  query = functools.partial(method.queries['log_prob_estimate'], **sizes)
  estimate = jax.jit(query)
  value, error = estimate(base.Model(params, state.extra), jax.random.key(1), x)
  rate = 5 / 6  # of four ones, and a one and a zero beside them
  count = np.asarray(x).sum(1)
  expected = count * np.log(rate) + (num - count) * np.log(1 - rate)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  assert error.shape == (6,) and error.max() < 1e-5
  with pytest.raises(ValueError, match='up to 20 units in the smaller layer, got 21'):
    boltzmann.log_partition(params)


@pytest.mark.parametrize('name', ['num_steps', 'num_chains', 'sampling_steps'])
def test_numbers_below_one_are_refused(name):
  with pytest.raises(ValueError, match=f'{name} must be >= 1, got 0'):
    machine(**{name: 0})
  with pytest.raises(ValueError, match='num_hidden must be >= 1, got 0'):
    rbm.rbm(optax.sgd(0.1), shape=(D,), num_hidden=0)
  if name != 'sampling_steps':
    sizes = {'num_chains': 1, 'num_steps': 1} | {name: 0}
    with pytest.raises(ValueError, match=f'{name} must be >= 1'):
      boltzmann.annealed_log_partition(PARAMS, jax.random.key(0), jnp.zeros(D), **sizes)


def test_data_that_are_not_binary_are_refused():
  method = machine()
  with pytest.raises(ValueError, match='x must be from 0 to 1, got 2'):
    method.log_prob(base.Model(PARAMS, {}), None, jnp.full((2, D), 2))
  with pytest.raises(ValueError, match='x must be'):
    method.init(jax.random.key(0), {'x': jnp.full((2, D), 0.5)})
