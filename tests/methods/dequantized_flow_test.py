"""Learned noise on levels, against a mass that is known and against uniform noise."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from gm_jax import base, bijectors, flow_layers, monotone, priors
from gm_jax.data import transforms
from gm_jax.methods import dequantized_flow

LEVELS = 4
LOG_SCALE, SHIFT = 1.4, 0.5  # of z = y exp(log_scale) + shift: steep within a cell
RAW = jnp.arange(LEVELS)[:, None]
MASS = np.diff(
  stats.norm.cdf(np.linspace(-1, 1, LEVELS + 1) * np.exp(LOG_SCALE) + SHIFT)
)


def by_level(x):
  level = jnp.round((x[:, 0] + 1) * (LEVELS - 1) / 2).astype(jnp.int32)
  return jax.nn.one_hot(level, LEVELS)


def method(tx):
  noise = flow_layers.autoregressive(1, monotone.affine(), hidden=(4,))
  return dequantized_flow.dequantized_flow(
    bijectors.elementwise(monotone.affine()), noise, priors.normal(1), tx,
    shape=(1,), num_levels=LEVELS, context=by_level,
  )  # fmt: skip


def known(params):
  """The model's own density fixed to the known one."""
  raw = jnp.array([[3.0 * np.arctanh(LOG_SCALE / 3.0), SHIFT]], jnp.float32)
  return {**params, 'flow': raw}


def mean_bound(found, params, num=4000):
  keys = jax.random.split(jax.random.key(5), num)
  one = jax.vmap(lambda key: found.queries['elbo'](base.Model(params, {}), key, RAW))
  draws = np.asarray(jax.jit(one)(keys))
  return draws.mean(axis=0), draws.std(axis=0) / np.sqrt(num)


def test_at_the_identity_the_bound_is_that_of_uniform_noise():
  found = method(optax.sgd(0.1))
  state = found.init(jax.random.key(0), {'x': RAW})
  mean, error = mean_bound(found, known(state.params))
  spread = transforms.dequantization(LEVELS)

  def uniform(key):
    y = spread.forward(key, RAW)
    z = y * np.exp(LOG_SCALE) + SHIFT
    nats = jax.scipy.stats.norm.logpdf(z).sum(axis=1) + LOG_SCALE
    return nats + spread.log_det(key, RAW)

  draws = np.asarray(jax.vmap(uniform)(jax.random.split(jax.random.key(6), 4000)))
  both = np.hypot(error, draws.std(axis=0) / np.sqrt(4000))
  assert (np.abs(mean - draws.mean(axis=0)) < 4 * both).all()
  assert (np.log(MASS) - mean > 4 * error).all()


def test_learned_noise_closes_most_of_the_gap_to_the_exact_mass():
  found = method(optax.adam(2e-2))
  state = found.init(jax.random.key(0), {'x': RAW})
  state = state._replace(params=known(state.params))
  before, _ = mean_bound(found, state.params)

  def body(state, key):
    state, _ = found.step(state, key, {'x': jnp.tile(RAW, (16, 1))})
    return state._replace(params=known(state.params)), None

  state, _ = jax.jit(lambda s: jax.lax.scan(
    body, s, jax.random.split(jax.random.key(1), 400)))(state)  # fmt: skip
  after, error = mean_bound(found, state.params)
  assert (np.log(MASS) - after > -4 * error).all()  # still a bound
  assert (np.log(MASS) - after).sum() < 0.2 * (np.log(MASS) - before).sum()
  model, key = base.Model(state.params, {}), jax.random.key(2)
  many = found.queries['iwae'](model, key, RAW, num_samples=4000)
  np.testing.assert_allclose(many, np.log(MASS), atol=0.02)


def test_samples_have_the_mass_of_the_levels():
  found = method(optax.sgd(0.1))
  params = known(found.init(jax.random.key(0), {'x': RAW}).params)
  levels = found.sample(base.Model(params, {}), jax.random.key(3), 20_000)
  below, above = (
    stats.norm.cdf(-np.exp(LOG_SCALE) + SHIFT),
    stats.norm.sf(np.exp(LOG_SCALE) + SHIFT),
  )
  expected = MASS + np.array([below, 0, 0, above])  # outside is the outermost cell
  found = np.bincount(levels[:, 0], minlength=LEVELS) / 20_000
  assert np.abs(found - expected).max() < 5 * np.sqrt(0.25 / 20_000)


def test_codes_decode_to_the_levels_they_are_of_and_follow_the_noise_they_add():
  """z is y moved and scaled, y within the cell of its level, another with each key."""
  found = method(optax.sgd(0.1))
  model = base.Model(known(found.init(jax.random.key(0), {'x': RAW}).params), {})
  x = jnp.tile(RAW, (500, 1))
  z = found.queries['encode'](model, jax.random.key(1), x)
  np.testing.assert_array_equal(found.queries['decode'](model, None, z), x)
  y = (np.asarray(z) - SHIFT) * np.exp(-LOG_SCALE)
  assert np.ptp(y[x[:, 0] == 1]) > 0.9 * 2 / LEVELS  # over nearly all of its cell
  assert np.abs(z - found.queries['encode'](model, jax.random.key(2), x)).max() > 0.1


@pytest.mark.parametrize(
  ('x', 'message'),
  [
    (jnp.zeros((2, 1)), 'x must be integers'),
    (jnp.zeros((2, 3), jnp.int32), r'x must be \[B, 1\], got \(2, 3\)'),
  ],
)
def test_data_that_do_not_fit_are_refused(x, message):
  with pytest.raises(ValueError, match=message):
    method(optax.sgd(0.1)).init(jax.random.key(0), {'x': x})
