"""EM by numpy and by scikit-learn; the likelihood never falls."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled
from scipy import special, stats
from sklearn import mixture as sklearn_mixture

from gm_jax import base
from gm_jax.methods import mixture
from gm_jax.training import step as step_lib

K = 3
CENTERS = jnp.array([[-2.0, 0.0], [1.5, 1.5], [1.0, -2.0]])


def points(key, num):
  k_key, x_key = jax.random.split(key)
  k = jax.random.choice(k_key, 3, (num,), p=jnp.array([0.5, 0.3, 0.2]))
  return CENTERS[k] + 0.4 * jax.random.normal(x_key, (num, 2))


def binary(num):
  p = jnp.array([[0.9, 0.9, 0.1, 0.1, 0.5], [0.1, 0.2, 0.9, 0.8, 0.5]])
  k = jax.random.bernoulli(jax.random.key(0), 0.4, (num,)).astype(int)
  return jax.random.bernoulli(jax.random.key(1), p[k]).astype(jnp.int32)


def run(method, x, epochs, size):
  state = jax.jit(method.init)(jax.random.key(2), {'x': x})
  step, means = jax.jit(method.step), []
  for _ in range(epochs):
    each = []
    for i in range(0, len(x), size):
      state, metrics = step(state, jax.random.key(0), {'x': x[i : i + size]})
      each.append(float(metrics['log_likelihood']))
    means.append(np.mean(each))
  return state, means


def test_an_iteration_is_numpys():
  x = points(jax.random.key(0), 60)
  method = compiled(mixture.mixture(mixture.gaussians(), (2,), K))
  state = method.init(jax.random.key(2), {'x': x})
  mean, std = (np.asarray(t, float) for t in state.extra['theta'])
  each = stats.norm.logpdf(np.asarray(x)[:, None], mean, std).sum(-1) - np.log(K)
  responsibilities = np.exp(each - special.logsumexp(each, axis=1, keepdims=True))
  counts = responsibilities.sum(0)
  new_mean = responsibilities.T @ np.asarray(x) / counts[:, None]
  spread = (np.asarray(x)[:, None] - new_mean) ** 2
  new_std = np.sqrt((responsibilities[..., None] * spread).sum(0) / counts[:, None])
  after, metrics = method.step(state, jax.random.key(0), {'x': x})
  np.testing.assert_allclose(after.extra['theta'][0], new_mean, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(after.extra['theta'][1], new_std, rtol=1e-3)
  np.testing.assert_allclose(
    jnp.exp(after.extra['log_weights']), counts / 60, rtol=1e-4
  )
  expected = special.logsumexp(each, axis=1).mean()
  np.testing.assert_allclose(metrics['log_likelihood'], expected, rtol=1e-5)


def test_it_ends_where_scikit_learn_does():
  x = points(jax.random.key(0), 600)
  method = compiled(mixture.mixture(mixture.gaussians(), (2,), K))
  state = method.init(jax.random.key(2), {'x': x})
  theirs = sklearn_mixture.GaussianMixture(
    K, covariance_type='diag', reg_covar=0, tol=1e-9, max_iter=300,
    means_init=np.asarray(state.extra['theta'][0]), weights_init=np.full(K, 1 / K),
    precisions_init=np.asarray(state.extra['theta'][1], float) ** -2,
  ).fit(np.asarray(x, float))  # fmt: skip
  state, means = run(method, x, 100, 600)
  model = step_lib.model(state)
  found = method.log_prob(model, None, x)
  np.testing.assert_allclose(found, theirs.score_samples(x), rtol=1e-3, atol=1e-3)
  assert np.all(np.diff(means) > -1e-5) and means[-1] > means[0] + 0.5
  np.testing.assert_allclose(
    np.sort(np.exp(state.extra['log_weights'])), [0.2, 0.3, 0.5], atol=0.05
  )
  samples = method.sample(model, jax.random.key(5), 6000)
  np.testing.assert_allclose(samples.mean(0), x.mean(0), atol=0.1)
  np.testing.assert_allclose(jnp.cov(samples.T), jnp.cov(x.T), atol=0.3)


@pytest.mark.parametrize('kind', ['gaussians', 'bernoullis'])
def test_an_epoch_in_any_batches_is_one_iteration(kind):
  x = points(jax.random.key(0), 64) if kind == 'gaussians' else binary(64)
  components = getattr(mixture, kind)()
  whole = mixture.mixture(components, x.shape[1:], K)
  parts = mixture.mixture(components, x.shape[1:], K, steps_per_epoch=4)
  a, _ = run(whole, x, 5, 64)
  b, _ = run(parts, x, 5, 16)
  jax.tree.map(
    lambda p, q: np.testing.assert_allclose(p, q, rtol=2e-3, atol=1e-4),
    a.extra['theta'], b.extra['theta'],
  )  # fmt: skip


def test_bernoulli_mixtures_sum_to_one_and_find_two_kinds():
  x = binary(4000)
  method = compiled(mixture.mixture(mixture.bernoullis(), (5,), 2))
  state, means = run(method, x, 60, 4000)
  every = jnp.array(list(itertools.product(range(2), repeat=5)))
  p = np.exp(method.log_prob(step_lib.model(state), None, every))
  np.testing.assert_allclose(p.sum(), 1, rtol=1e-5)
  cell = np.asarray(x) @ 2 ** np.arange(5)[::-1]
  frequency = np.bincount(cell, minlength=32) / 4000
  assert 0.5 * np.abs(p - frequency).sum() < 0.05
  assert np.all(np.diff(means) > -1e-4)
  samples = np.asarray(method.sample(step_lib.model(state), jax.random.key(0), 8000))
  drawn = np.bincount(samples @ 2 ** np.arange(5)[::-1], minlength=32) / 8000
  assert np.abs(drawn - p).max() < 5 * np.sqrt(0.25 / 8000)


@pytest.mark.parametrize('smoothing', [1e-9, 1e-37])
def test_a_value_that_is_always_the_same_has_a_likelihood(smoothing):
  x = jnp.stack([jnp.ones(900, int), jnp.zeros(900, int), jnp.arange(900) % 2], 1)
  method = mixture.mixture(mixture.bernoullis(smoothing=smoothing), (3,), 1)
  state, _ = run(method, x, 2, 900)
  log_p = method.log_prob(step_lib.model(state), None, x)
  np.testing.assert_allclose(log_p, np.log(0.5), rtol=1e-5)


def test_a_component_on_one_point_keeps_its_width():
  x = jnp.array([[0.0], [5.0], [5.1], [5.2]])
  method = compiled(mixture.mixture(mixture.gaussians(least_std=0.05), (1,), 2))
  state = method.init(jax.random.key(0), {'x': x})
  theta = jnp.array([[0.0], [5.1]]), jnp.array([[0.2], [0.2]])
  state = state._replace(extra={**state.extra, 'theta': theta})
  for _ in range(30):
    state, metrics = method.step(state, None, {'x': x})
  std = state.extra['theta'][1]
  np.testing.assert_allclose(std[0], 0.05, rtol=1e-5)
  assert np.isfinite(metrics['log_likelihood'])


def test_refusals():
  with pytest.raises(ValueError, match='least_std'):
    mixture.gaussians(least_std=0.0)
  with pytest.raises(ValueError, match='smoothing'):
    mixture.bernoullis(smoothing=0.0)
  with pytest.raises(ValueError, match='must be >= 1'):
    mixture.mixture(mixture.gaussians(), (2,), 0)
  method = mixture.mixture(mixture.gaussians(), (2,), 1)
  with pytest.raises(ValueError, match='unconditional'):
    method.sample(base.Model({}, {}), jax.random.key(0), 1, condition=1)
  binary = mixture.mixture(mixture.bernoullis(), (2,), 1)
  with pytest.raises(ValueError, match='x must be integers, got float32'):
    binary.init(jax.random.key(0), {'x': jnp.array([[0.5, -1.0]])})
  with pytest.raises(ValueError, match='x must be from 0 to 1, got 3'):
    binary.init(jax.random.key(0), {'x': jnp.array([[0, 3]])})
