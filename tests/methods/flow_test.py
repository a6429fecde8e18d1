"""Flows against Gaussians, whose density, entropy and mass are known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from gm_jax import bijectors, flow_layers, monotone, priors
from gm_jax.data import transforms
from gm_jax.methods import flow
from gm_jax.training import step as step_lib

COVARIANCE = np.array([[1.0, 0.8], [0.8, 0.89]])
MEAN = np.array([2.0, -1.0])


def gaussian(key, num=256):
  factor = jnp.asarray(np.linalg.cholesky(COVARIANCE))
  return {'x': jnp.asarray(MEAN) + jax.random.normal(key, (num, 2)) @ factor.T}


def affine_flow(**options):
  layers = bijectors.chain(
    flow_layers.actnorm(), flow_layers.autoregressive(2, monotone.affine(), **options)
  )
  schedule = optax.cosine_decay_schedule(1e-2, 600)
  return flow.flow(layers, priors.normal(2), optax.adam(schedule), shape=(2,))


def test_an_affine_flow_reaches_the_entropy_of_a_gaussian():
  """And its samples have the moments of its density."""
  method = affine_flow(hidden=(8,))
  key = jax.random.key(0)
  state = method.init(key, gaussian(key))
  batches = jax.vmap(gaussian)(jax.random.split(jax.random.key(1), 600))
  state, _ = jax.jit(step_lib.train_step(method))(state, key, batches)
  model = step_lib.model(state)
  test = gaussian(jax.random.key(2), 20_000)['x']
  nats = jax.jit(method.log_prob)(model, None, test)
  exact = stats.multivariate_normal(MEAN, COVARIANCE)
  assert 0 <= (exact.logpdf(test) - nats).mean() < 0.01
  np.testing.assert_allclose(
    -nats.mean(), exact.entropy(), atol=3 * nats.std() / np.sqrt(20_000) + 0.01
  )
  samples = jax.jit(method.sample, static_argnums=2)(model, key, 20_000)
  np.testing.assert_allclose(samples.mean(axis=0), MEAN, atol=0.05)
  np.testing.assert_allclose(np.cov(samples.T), COVARIANCE, atol=0.05)


def test_codes_and_samples_are_one_another():
  method = affine_flow(hidden=(8,))
  data = gaussian(jax.random.key(0))
  model = step_lib.model(method.init(jax.random.key(1), data))
  z = method.queries['encode'](model, None, data['x'])
  back = method.queries['decode'](model, None, z)
  np.testing.assert_allclose(back, data['x'], atol=1e-5)
  ways = (z + 1e-3 * np.eye(2)[i] for i in range(2))
  slopes = [(method.queries['decode'](model, None, way) - back) / 1e-3 for way in ways]
  volume = np.log(np.abs(np.linalg.det(np.stack(slopes, axis=1))))
  nats = method.log_prob(model, None, data['x'])
  expected = method.queries['log_prior'](model, None, z) - volume
  np.testing.assert_allclose(nats, expected, atol=0.02)


def test_temperature_multiplies_the_noise():
  method = affine_flow(hidden=(8,))
  model = step_lib.model(method.init(jax.random.key(1), gaussian(jax.random.key(0))))
  key = jax.random.key(3)
  z = [
    method.queries['encode'](
      model, None, method.sample(model, key, 50, temperature=temperature)
    )
    for temperature in (1.0, 0.7)
  ]
  np.testing.assert_allclose(0.7 * z[0], z[1], atol=1e-5)


@pytest.mark.parametrize('levels', [2, 5])
def test_the_bound_of_levels_is_above_their_exact_mass(levels):
  """Of a normal density, whose mass in a level's interval is known."""
  layers = bijectors.elementwise(monotone.affine())
  method = flow.flow(layers, priors.normal(1), optax.sgd(0.1), shape=(1,))
  raw = jnp.arange(levels)[:, None]
  spread = transforms.dequantization(levels)
  log_scale, shift = 0.3, 0.4
  params = {'flow': jnp.array([[3 * np.arctanh(log_scale / 3), shift]])}
  model = step_lib.model(
    method.init(jax.random.key(0), {'x': jnp.zeros((2, 1))})._replace(params=params)
  )

  def bound(key):
    x = spread.forward(key, raw)
    return method.log_prob(model, None, x) + spread.log_det(key, raw)

  found = jax.vmap(bound)(jax.random.split(jax.random.key(1), 4000))
  edges = np.linspace(-1, 1, levels + 1) * np.exp(log_scale) + shift
  mass = np.diff(stats.norm.cdf(edges))
  gap = np.log(mass) - found.mean(axis=0)
  error = found.std(axis=0) / np.sqrt(4000)
  assert (gap > -4 * error).all() and gap.max() > 4 * error.max()
  # By Jensen's inequality alone: the mean of the exponentials is the mass.
  np.testing.assert_allclose(np.exp(found).mean(axis=0), mass, rtol=0.02)


@pytest.mark.parametrize(
  ('layers', 'x', 'message'),
  [
    (bijectors.reverse(), jnp.zeros((2, 3)), r'x must be \[B, 2\], got \(2, 3\)'),
    (bijectors.chain(), jnp.zeros((2, 2)), None),
  ],
)
def test_data_of_another_shape_are_refused(layers, x, message):
  method = flow.flow(layers, priors.normal(2), optax.sgd(0.1), shape=(2,))
  if message is None:  # no layers: the density of the noise itself
    model = step_lib.model(method.init(jax.random.key(0), {'x': x}))
    np.testing.assert_allclose(method.log_prob(model, None, x), -np.log(2 * np.pi))
    return
  with pytest.raises(ValueError, match=message):
    method.init(jax.random.key(0), {'x': x})


def test_a_map_to_another_size_is_refused():
  method = flow.flow(
    bijectors.squeeze(), priors.normal(4), optax.sgd(0.1), shape=(2, 2, 1)
  )
  model = step_lib.model(method.init(jax.random.key(0), {'x': jnp.zeros((3, 2, 2, 1))}))
  with pytest.raises(ValueError, match=r'the map must give \[B, 4\]'):
    method.log_prob(model, None, jnp.zeros((3, 2, 2, 1)))
