"""Continuous flows against linear fields, whose flows are matrix exponentials."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import linalg, stats

from gm_jax import conditions, ode, priors
from gm_jax.methods import continuous_flow
from gm_jax.models import flows
from gm_jax.training import step as step_lib

MATRIX = np.array([[0.4, -1.0], [0.7, -0.9]])
TIGHT = ode.adaptive(rtol=1e-9, atol=1e-9)


class Linear(nn.Module):
  """v = A z, whatever the time."""

  @nn.compact
  def __call__(self, z, t, condition=None):
    del t, condition
    return nn.Dense(z.shape[1], use_bias=False)(z)


def of(module, tx=None, **options):
  tx = optax.sgd(0.1) if tx is None else tx
  return continuous_flow.continuous_flow(
    module, priors.normal(2), tx, shape=(2,), **options
  )


def curved(**options):
  """A method and a model of a velocity that is neither linear nor constant."""
  method = of(flows.Velocity(8, 1, last_init=nn.initializers.normal(0.7)), **options)
  x = jax.random.normal(jax.random.key(0), (16, 2))
  return method, step_lib.model(method.init(jax.random.key(1), {'x': x})), x


def linear(**options):
  method = of(Linear(), **options)
  x = jax.random.normal(jax.random.key(0), (16, 2))
  state = method.init(jax.random.key(1), {'x': x})
  kernel = jnp.asarray(MATRIX.T, x.dtype)  # z @ A.T is A z of every row
  params = {'velocity': {'params': {'Dense_0': {'kernel': kernel}}}}
  return method, step_lib.model(state._replace(params=params)), x


def test_a_linear_field_has_the_density_of_its_matrix_exponential():
  """z(1) = exp(A) x, and the volume changes by exp(tr A)."""
  method, model, x = linear()
  end = np.asarray(x) @ linalg.expm(MATRIX).T
  expected = stats.norm.logpdf(end).sum(axis=1) + np.trace(MATRIX)
  np.testing.assert_allclose(method.log_prob(model, None, x), expected, atol=1e-5)


@pytest.mark.slow
def test_a_linear_field_has_the_codes_of_its_matrix_exponential():
  method, model, x = linear()
  end = np.asarray(x) @ linalg.expm(MATRIX).T
  z = method.queries['encode'](model, None, x)
  np.testing.assert_allclose(z, end, atol=1e-5)
  back = method.queries['decode'](model, None, jnp.asarray(end, x.dtype))
  np.testing.assert_allclose(back, x, atol=1e-5)


@pytest.mark.slow
def test_the_change_of_volume_is_the_codes_determinant():
  """In float64 and by a tight tolerance; and codes go back to what they are of."""
  with jax.enable_x64(True):
    method, model, x = curved(solve=TIGHT)
    encode, decode = (method.queries[name] for name in ('encode', 'decode'))

    def code(x):
      return encode(model, None, x[None])[0]

    z, jacobian = jax.vmap(code)(x), jax.vmap(jax.jacobian(code))(x)
    volume = np.linalg.slogdet(jacobian)[1]
    assert np.abs(volume).max() > 0.1
    expected = method.queries['log_prior'](model, None, z) + volume
    found = method.log_prob(model, None, x)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=1e-7)
    np.testing.assert_allclose(decode(model, None, z), x, atol=1e-7)


@pytest.mark.slow
def test_codes_go_back_to_data_by_the_usual_tolerance():
  method, model, x = curved()
  z = method.queries['encode'](model, None, x)
  assert np.abs(z - x).max() > 0.1
  np.testing.assert_allclose(method.queries['decode'](model, None, z), x, atol=1e-4)
  key = jax.random.key(3)
  cold = method.sample(model, key, 5, temperature=0.5)
  noise = method.queries['prior'](model, key, 5)
  np.testing.assert_allclose(
    method.queries['encode'](model, None, cold), 0.5 * noise, atol=1e-4
  )


def test_the_exact_trace_is_that_of_the_jacobian():
  kernel = jax.random.normal(jax.random.key(0), (3, 3))
  z = jax.random.normal(jax.random.key(1), (5, 3))

  def one(z):
    return jnp.tanh(z @ kernel) * z[::-1]

  value, products = ode.along(jax.vmap(one), z, ode.basis(None, 0, z))
  np.testing.assert_allclose(value, jax.vmap(one)(z), rtol=1e-6)
  jacobian = np.asarray(jax.vmap(jax.jacobian(one))(z))
  diagonal = np.diagonal(jacobian, axis1=1, axis2=2)
  np.testing.assert_allclose(products.T, diagonal, atol=1e-6)
  found = ode.EXACT.reduce(products)
  np.testing.assert_allclose(found, np.trace(jacobian, axis1=1, axis2=2), atol=1e-6)


def test_hutchinsons_estimate_is_unbiased_and_exact_of_a_diagonal():
  z, num = jnp.ones((2, 2)), 4000
  directions = ode.rademacher(jax.random.key(0), num, z)
  assert set(np.unique(directions)) == {-1.0, 1.0}
  _, products = ode.along(lambda z: z @ MATRIX.T, z, directions)
  error = products.std(axis=0) / np.sqrt(num)
  estimate = ode.HUTCHINSON.reduce(products)
  assert (np.abs(estimate - np.trace(MATRIX)) < 4 * error).all() and (error > 0).all()
  _, products = ode.along(lambda z: jnp.array([2.0, -0.5]) * z, z, directions[:1])
  np.testing.assert_allclose(products, 1.5, rtol=1e-6)


@pytest.mark.slow
def test_estimated_densities_are_within_their_errors_of_the_exact_ones():
  exact, model, x = curved()
  method, _, _ = curved(trace=ode.HUTCHINSON)
  assert method.card.density == 'estimate' and method.log_prob is None
  query = method.queries['log_prob_estimate']
  value, error = query(model, jax.random.key(5), x, num_probes=400)
  nats = exact.log_prob(model, None, x)
  assert value.shape == error.shape == (16,)
  z = (value - nats) / error
  assert np.abs(z).max() < 4 and 0.5 < z.std() < 1.6
  with pytest.raises(ValueError, match='num_probes must be >= 2, for an error, got 1'):
    query(model, jax.random.key(5), x, num_probes=1)


@pytest.mark.slow
def test_evaluations_are_counted():
  calls = []

  def field(t, z, args):
    jax.debug.callback(lambda: calls.append(1))
    return jnp.cos(6 * t) * z * args

  end, evaluations = ode.adaptive()(field, 0.0, 1.0, jnp.ones((2, 1)), 1.5)
  jax.effects_barrier()
  assert len(calls) == evaluations > 20
  np.testing.assert_allclose(end, np.exp(1.5 * np.sin(6.0) / 6), rtol=1e-5)


def gaussian(key):
  factor = jnp.array([[1.0, 0.0], [0.8, 0.5]])
  return {'x': jax.random.normal(key, (256, 2)) @ factor.T}


@pytest.mark.slow
@pytest.mark.parametrize(
  'trace', [ode.EXACT, ode.HUTCHINSON], ids=['exact', 'estimate']
)
def test_a_linear_field_reaches_the_entropy_of_a_gaussian(trace):
  method = of(
    Linear(), optax.adam(optax.cosine_decay_schedule(0.1, 150)), trace=trace,
    training_solve=ode.adaptive(rtol=1e-3, atol=1e-3),
  )  # fmt: skip
  key = jax.random.key(0)
  state = method.init(key, gaussian(key))
  batches = jax.vmap(gaussian)(jax.random.split(jax.random.key(1), 150))
  state, metrics = jax.jit(step_lib.train_step(method))(state, key, batches)
  assert set(metrics) == {'loss', 'num_evaluations', 'finite'}
  model = step_lib.model(state)
  test = jax.vmap(gaussian)(jax.random.split(jax.random.key(2), 20))['x'].reshape(-1, 2)
  nats = of(Linear()).log_prob(model, None, test)
  exact = stats.multivariate_normal(np.zeros(2), [[1.0, 0.8], [0.8, 0.89]])
  gap = exact.logpdf(test) - nats
  assert -0.001 < gap.mean() < 0.01


@pytest.mark.slow
def test_a_condition_moves_the_flow():
  method = of(
    flows.Velocity(8, 1, last_init=nn.initializers.lecun_normal()),
    condition=conditions.by_class(3),
  )
  x = jnp.ones((3, 2))
  batch = {'x': x, 'label': jnp.arange(3)}
  model = step_lib.model(method.init(jax.random.key(0), batch))
  z = method.queries['encode'](model, None, x, condition=jnp.arange(3))
  assert method.card.condition == ('label',) and np.ptp(z, axis=0).max() > 0.01


def test_a_velocity_begins_at_rest():
  module, z = flows.Velocity(8), jnp.ones((4, 2))
  params = module.init(jax.random.key(0), z, jnp.zeros(4))
  np.testing.assert_array_equal(module.apply(params, z, jnp.ones(4)), 0.0)


@pytest.mark.slow
def test_a_solve_of_too_many_steps_is_nan():
  method, model, x = linear(solve=ode.adaptive(max_steps=1))
  assert np.isnan(method.log_prob(model, None, x)).all()


class Narrow(nn.Module):
  """A velocity of one number."""

  @nn.compact
  def __call__(self, z, t, condition=None):
    return nn.Dense(1)(z)


def test_what_does_not_fit_is_refused_in_a_line():
  with pytest.raises(ValueError, match='rtol must be > 0, got 0.0'):
    ode.adaptive(rtol=0.0)
  with pytest.raises(ValueError, match='max_steps must be > 0, got 0'):
    ode.adaptive(max_steps=0)
  method, model, _ = linear()
  with pytest.raises(ValueError, match=r'x must be \[B, 2\], got \(2, 3\)'):
    method.log_prob(model, None, jnp.zeros((2, 3)))
  method, x = of(Narrow()), jnp.zeros((3, 2))
  state = method.init(jax.random.key(0), {'x': x})
  with pytest.raises(ValueError, match=r'velocity must be \(3, 2\) as its z, got'):
    method.log_prob(step_lib.model(state), None, x)
