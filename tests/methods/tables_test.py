"""Counting models against enumeration, frequencies and the laws of probability."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled

from gm_jax import orders
from gm_jax.methods import tables
from gm_jax.training import step as step_lib


def every(num, levels):
  return np.array(list(itertools.product(range(levels), repeat=num)), np.int32)


def fit(method, x, batch=None):
  """Fits in one epoch over x, in batches of this many."""
  state = method.init(jax.random.key(0), {'x': x})
  for i in range(0, len(x), batch or len(x)):
    state, _ = method.step(state, None, {'x': x[i : i + (batch or len(x))]})
  return step_lib.model(state)


def draws(seed, num, dims, levels):
  """Correlated numbers: each leans on the one before."""
  rng = np.random.default_rng(seed)
  x = rng.integers(0, levels, (num, dims), dtype=np.int32)
  for i in range(1, dims):
    x[:, i] = np.where(rng.random(num) < 0.7, x[:, i - 1], x[:, i])
  return x


KINDS = {
  'full': lambda d, k, s: tables.full_table((d,), k, smoothing=s),
  'independent': lambda d, k, s: tables.independent((d,), k, smoothing=s),
  'chain': lambda d, k, s: tables.chain((d,), k, smoothing=s),
  'memory 2': lambda d, k, s: tables.chain((d,), k, memory=2, smoothing=s),
  'stationary': lambda d, k, s: tables.chain((d,), k, shared=True, smoothing=s),
  'backwards': lambda d, k, s: tables.chain((d,), k, order=range(d)[::-1], smoothing=s),
}
every_kind = pytest.mark.parametrize('kind', KINDS)


@every_kind
@pytest.mark.parametrize(
  ('dims', 'levels', 'smoothing'),
  [
    (5, 2, 0.0),
    (4, 3, 0.5),
    pytest.param(4, 3, 0.0, marks=pytest.mark.slow),
    pytest.param(6, 2, 0.5, marks=pytest.mark.slow),
  ],
)
def test_masses_sum_to_one_and_samples_have_them(kind, dims, levels, smoothing):
  method = compiled(KINDS[kind](dims, levels, smoothing))
  model = fit(method, draws(1, 200, dims, levels))
  x = every(dims, levels)
  p = np.exp(method.log_prob(model, None, x))
  np.testing.assert_allclose(p.sum(), 1, rtol=1e-5)
  samples = method.sample(model, jax.random.key(2), 20_000)
  cell = np.asarray(samples) @ levels ** np.arange(dims)[::-1]
  frequency = np.bincount(cell, minlength=len(p)) / 20_000
  assert np.abs(frequency - p).max() < 5 * np.sqrt(0.25 / 20_000)


@every_kind
def test_an_epoch_of_any_batches_is_the_fit_on_all(kind):
  method = KINDS[kind](5, 2, 0.1)
  x = draws(1, 60, 5, 2)
  whole, parts = fit(method, x), fit(method, x, 7)
  np.testing.assert_array_equal(
    whole.extra['local']['counts'], parts.extra['local']['counts']
  )


def test_the_full_table_is_the_empirical_law():
  x = draws(1, 300, 4, 3)
  method = tables.full_table((4,), 3)
  p = np.exp(method.log_prob(fit(method, x), None, every(4, 3)))
  cell = np.asarray(x) @ 3 ** np.arange(4)[::-1]
  np.testing.assert_allclose(p, np.bincount(cell, minlength=81) / 300, atol=1e-6)


def test_chains_of_full_memory_are_the_full_table():
  """The chain rule, and with every order: Bayes' rule."""
  x = draws(1, 500, 4, 2)
  full = tables.full_table((4,), 2)
  expected = np.exp(full.log_prob(fit(full, x), None, every(4, 2)))
  assert expected.min() > 0
  for order in ((0, 1, 2, 3), (3, 1, 0, 2)):
    method = tables.chain((4,), 2, memory=3, order=order)
    p = np.exp(method.log_prob(fit(method, x), None, every(4, 2)))
    np.testing.assert_allclose(p, expected, rtol=1e-4)


def test_a_chain_is_the_product_of_the_pairs_frequencies():
  x = np.asarray(draws(1, 400, 5, 3))
  method = tables.chain((5,), 3)
  found = method.log_prob(fit(method, x), None, x[:20])
  for row, value in zip(x[:20], found, strict=True):
    p = np.mean(x[:, 0] == row[0])
    for i in range(1, 5):
      before = x[:, i - 1] == row[i - 1]
      p *= np.mean(x[before, i] == row[i])
    np.testing.assert_allclose(value, np.log(p), rtol=1e-4)


def test_a_chain_backwards_has_the_same_likelihood():
  x = draws(1, 400, 5, 3)
  forwards, backwards = KINDS['chain'](5, 3, 0.0), KINDS['backwards'](5, 3, 0.0)
  np.testing.assert_allclose(
    forwards.log_prob(fit(forwards, x), None, x),
    backwards.log_prob(fit(backwards, x), None, x),
    rtol=1e-4,
  )  # p(a) p(b | a) = p(b) p(a | b), for all of the chain


def test_a_chain_fitted_to_a_chains_data_recovers_it():
  start = np.array([0.2, 0.5, 0.3])
  move = np.array([[0.8, 0.1, 0.1], [0.3, 0.3, 0.4], [0.05, 0.9, 0.05]])
  rng = np.random.default_rng(0)
  x = np.zeros((40_000, 6), int)
  x[:, 0] = rng.choice(3, 40_000, p=start)
  for i in range(1, 6):
    u = rng.random(40_000)[:, None]
    x[:, i] = (u > np.cumsum(move[x[:, i - 1]], 1)).sum(1)
  for method in (tables.chain((6,), 3), tables.chain((6,), 3, shared=True)):
    model = fit(method, jnp.array(x))
    test = every(6, 3)
    expected = np.log(start[test[:, 0]])
    for i in range(1, 6):
      expected = expected + np.log(move[test[:, i - 1], test[:, i]])
    p, q = np.exp(method.log_prob(model, None, test)), np.exp(expected)
    assert 0.5 * np.abs(p - q).sum() < 0.02  # total variation
  stationary = np.asarray(model.extra['local']['counts'][3:])
  found = stationary / stationary.sum(1, keepdims=True)
  np.testing.assert_allclose(found, move, atol=0.01)


def test_images_in_columns():
  order = orders.columns((2, 3, 1))
  np.testing.assert_array_equal(order, [0, 3, 1, 4, 2, 5])
  np.testing.assert_array_equal(order[orders.inverse(order)], range(6))
  np.testing.assert_array_equal(orders.rows((2, 3)), range(6))
  x = draws(1, 200, 6, 2)
  image = x[:, orders.inverse(order)].reshape(200, 2, 3, 1)  # columns are the chain
  flat, columns = tables.chain((6,), 2), tables.chain((2, 3, 1), 2, order=order)
  np.testing.assert_allclose(
    flat.log_prob(fit(flat, x), None, x),
    columns.log_prob(fit(columns, image), None, image),
    rtol=1e-5,
  )
  samples = columns.sample(fit(columns, image), jax.random.key(0), 3)
  assert samples.shape == (3, 2, 3, 1)


def test_never_seen_is_impossible_without_smoothing_and_rare_with_it():
  x = jnp.zeros((10, 3), jnp.int32)
  other = jnp.array([[1, 0, 0]])
  plain, smooth = (
    tables.independent((3,), 2),
    tables.independent((3,), 2, smoothing=1.0),
  )
  assert plain.log_prob(fit(plain, x), None, other)[0] == -np.inf
  found = smooth.log_prob(fit(smooth, x), None, other)
  np.testing.assert_allclose(found, np.log(1 / 12 * (11 / 12) ** 2), rtol=1e-5)


def test_parameters_are_as_many_as_the_lecture_counts():
  count = tables.num_parameters
  assert count(3, 256) == 256**3 - 1 == 16_777_215  # one RGB pixel
  assert count(3, 256) != 255**3
  assert count(10, 2) == 2**10 - 1 and count(10, 2, memory=0) == 10
  assert count(10, 2, memory=1) == 2 * 10 - 1
  assert count(784, 2) == 2**784 - 1  # exact, however large
  for n, k, m in itertools.product((1, 2, 5), (2, 3), (0, 1, 2, 4)):
    free = sum((k - 1) * k ** min(i, m) for i in range(n))
    assert count(n, k, memory=m) == free
  assert count(5, 3, memory=4) == count(5, 3)
  assert count(100, 3, memory=1, shared=True) == 2 + 6


def count_once(x):
  method = tables.chain((3,), 2)
  return method.step(method.init(None, {'x': x}), None, {'x': x})


@pytest.mark.parametrize(
  ('call', 'words'),
  [
    (lambda: tables.full_table((784,), 2), 'too large'),
    (lambda: tables.chain((5,), 256, memory=4), 'shorter memory'),
    (lambda: tables.chain((5,), 1), 'num_levels >= 2'),
    (lambda: tables.chain((5,), 2, memory=-1), 'memory must be >= 0'),
    (lambda: tables.chain((5,), 2, smoothing=-0.1), 'smoothing'),
    (lambda: tables.chain((3,), 2, order=[0, 1, 1]), 'permutation of 0 ... 2'),
    (lambda: tables.num_parameters(0, 2), 'num_dims must be >= 1'),
    (lambda: orders.columns((4,)), 'two axes'),
    (lambda: count_once(jnp.array([[0, 1, 2]])), 'x must be from 0 to 1, got 2'),
    (lambda: count_once(jnp.array([[0, -1, 1]])), 'x must be from 0 to 1, got -1'),
    (lambda: count_once(jnp.array([[0.0, 1.0, 1.0]])), 'integers, got float32'),
  ],
)
def test_refusals(call, words):
  with pytest.raises(ValueError, match=words):
    call()
