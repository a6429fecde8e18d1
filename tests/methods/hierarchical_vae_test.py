"""Hierarchies of codes: bounds against exact evidence, the ladder's combination."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from gm_jax import base, gradient, observations
from gm_jax.methods import hierarchical_vae
from gm_jax.models import hierarchical

GAUSSIAN = observations.gaussian()
X = np.array([[0.3], [-1.2], [2.0]], np.float32)
STD = 0.6  # of x given the lower code, and of the lower code given the upper


class Chain(nn.Module):
  """z_1 ~ N(0, 1), z_2 | z_1 ~ N(z_1, STD^2), x | z_2 ~ N(z_2, STD^2), of which all
  is known; the posterior is exact, but for a factor of its deviations."""

  factor: float = 1.0

  @property
  def code_shapes(self):
    return ((1,), (1,))

  @nn.compact
  def __call__(self, x, noise, codes=None, *, train=False):
    shift = self.param('shift', nn.initializers.zeros, ())
    groups = hierarchical._Descent(noise, codes)
    num = len((noise if codes is None else codes)[0])
    zero, v = jnp.zeros((num, 1)), STD**2
    p = q = (zero, zero)
    if x is not None:
      precision = 1 + 1 / (2 * v)
      q = x / (2 * v) / precision, zero - 0.5 * math.log(precision)
      q = q[0], q[1] + math.log(self.factor)
    top = groups.add(p, q)
    p = q = (top, zero + math.log(STD))
    if x is not None:
      q = (top + x) / 2 + shift, zero + 0.5 * math.log(v / 2) + math.log(self.factor)
    z = groups.add(p, q)
    return groups.result(jnp.stack([z, zero + math.log(STD)], axis=-1))


EXACT = stats.norm(0, math.sqrt(1 + 2 * STD**2)).logpdf(X)[:, 0]
MODEL = base.Model({'shift': jnp.zeros(())}, {})


def method(factor=1.0, **options):
  return hierarchical_vae.hierarchical_vae(
    Chain(factor), optax.sgd(0.1), observation=GAUSSIAN, **options
  )


def test_bounds_are_the_evidence_at_the_exact_posterior_and_below_it_elsewhere():
  key = jax.random.key(0)
  found = method().queries['iwae'](MODEL, key, X, num_samples=5)
  np.testing.assert_allclose(found, EXACT, rtol=1e-4)  # every weight is p(x)
  elbo = jax.vmap(lambda k: method(1.4).queries['elbo'](MODEL, k, X))
  draws = np.asarray(elbo(jax.random.split(key, 4000)))
  # The divergence of both groups: the second's means differ by the draw of the first.
  each = 0.5 * (1.4**2 - 1) - math.log(1.4)
  error = draws.std(axis=0) / math.sqrt(4000)
  assert (np.abs(draws.mean(axis=0) - (EXACT - 2 * each)) < 4 * error).all()
  many = method(1.4).queries['iwae'](MODEL, key, X, num_samples=3000)
  np.testing.assert_allclose(many, EXACT, atol=0.1)


def test_samples_and_codes_are_those_of_the_chain():
  samples = np.asarray(method().sample(MODEL, jax.random.key(0), 20_000))[:, 0]
  assert (
    stats.kstest(samples, stats.norm(0, math.sqrt(1 + 2 * STD**2)).cdf).pvalue > 1e-3
  )
  z = method().queries['encode'](MODEL, jax.random.key(0), X)
  top = X / (2 * STD**2) / (1 + 1 / (2 * STD**2))
  np.testing.assert_allclose(z['group_0'], top, rtol=1e-5)
  np.testing.assert_allclose(z['group_1'], (top + X) / 2, rtol=1e-5)
  again = method().queries['reconstruct'](MODEL, jax.random.key(0), X)
  np.testing.assert_allclose(again, z['group_1'], rtol=1e-5)


@pytest.mark.parametrize(('done', 'weight'), [(0, 0.25), (1, 0.5), (3, 1.0), (9, 1.0)])
def test_the_weight_of_the_prior_terms_rises(done, weight):
  made = method(1.4, warmup_steps=4, beta=1.0)
  state = made.init(jax.random.key(0), {'x': X})._replace(step=jnp.int32(done))
  _, metrics = made.step(state, jax.random.key(1), {'x': X})
  expected = weight * metrics['prior_term'] - metrics['reconstruction']
  np.testing.assert_allclose(metrics['loss'], expected, rtol=1e-5)
  total = metrics['prior_term_0'] + metrics['prior_term_1']
  np.testing.assert_allclose(metrics['prior_term'], total, rtol=1e-5)


def test_the_ladder_s_combination_is_the_product_of_the_densities():
  at = np.linspace(-6, 6, 4001)
  a, b = stats.norm(1.0, 0.5), stats.norm(-0.7, 2.0)
  p = a.pdf(at) * b.pdf(at)
  p /= p.sum()
  mean = (p * at).sum()
  std = math.sqrt((p * (at - mean) ** 2).sum())
  pair = [(jnp.array([d.mean()]), jnp.log(jnp.array([d.std()]))) for d in (a, b)]
  found = hierarchical.combined(*pair)
  np.testing.assert_allclose(found[0][0], mean, rtol=1e-4)
  np.testing.assert_allclose(np.exp(found[1][0]), std, rtol=1e-4)


MODULES = {
  'ladder': (hierarchical.Ladder((2, 3), 8, (4, 4, 1, 2)), (4, 4, 1)),
  'top_down': (hierarchical.TopDown((1, 2, 2), 4, 2, (4, 4, 1, 2)), (4, 4, 1)),
}


@functools.cache
def begun(name):
  module, shape = MODULES[name]
  x = jax.random.normal(jax.random.key(0), (2, *shape))
  noise = hierarchical.noise(jax.random.key(1), module, 2)
  params = module.init(jax.random.key(2), x, noise)['params']
  other = jax.tree.map(  # what begins at 0 is something else
    lambda a: a + 0.1 * jax.random.normal(jax.random.key(a.size), a.shape), params
  )
  return module, x, noise, other


@pytest.mark.slow
@pytest.mark.parametrize('name', ['ladder', 'top_down'])
def test_prior_and_posterior_are_drawn_and_measured_by_one_network(name):
  module, x, noise, params = begun(name)
  apply = jax.jit(functools.partial(module.apply, {'params': params}))
  out = apply(x, noise)
  # A pass of the prior with the posterior's codes: the same parameters and prior.
  other_way = apply(None, None, tuple(g.z for g in out.groups))
  np.testing.assert_allclose(other_way.parameters, out.parameters, rtol=1e-4, atol=1e-5)
  for mine, other in zip(other_way.groups, out.groups, strict=True):
    for a, b in zip(mine.prior, other.prior, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(hierarchical_vae.divergences(other_way.groups), 0)
  assert (np.asarray(hierarchical_vae.divergences(out.groups)) > 0).all()
  # Of many draws given the codes above, the divergence is the mean of the log-ratio.
  keys = jax.random.split(jax.random.key(5), 200)
  drawn = jax.jit(jax.vmap(lambda k: apply(x, hierarchical.noise(k, module, 2))))(keys)
  ratio = jax.vmap(hierarchical_vae.log_ratio)(drawn.groups)
  kl = jax.vmap(hierarchical_vae.divergences)(drawn.groups)
  gap = np.asarray(-ratio - kl.sum(axis=2))
  assert (np.abs(gap.mean(axis=0)) < 4 * gap.std(axis=0) / math.sqrt(200)).all()


@pytest.mark.slow
def test_blocks_begin_as_the_identity_of_what_comes_from_above():
  module, x, noise, _ = begun('top_down')
  params = module.init(jax.random.key(2), x, noise)['params']
  for i in range(3):
    last = params[f'prior_{i}']['Dense_1']['kernel']
    np.testing.assert_array_equal(last, 0)
  other = module.apply({'params': params}, None, noise)
  for group in other.groups:  # N(0, I) at first
    for value in group.prior:
      np.testing.assert_array_equal(value, 0)
  residual = np.std(params['residual_0']['Dense_1']['kernel'])
  posterior = np.std(params['posterior_0']['Dense_1']['kernel'])
  assert residual < 0.8 * posterior  # by 1 / sqrt(3)


def test_large_steps_are_left_out_and_counted_and_those_that_are_not_finite_are_not():
  tx = gradient.skip_large(optax.adam(0.1), 10.0)
  params = {'a': jnp.ones(2)}
  state = tx.init(params)
  for value, skipped in ((3.0, 0), (30.0, 1), (3.0, 1)):
    old = state
    updates, state = tx.update({'a': jnp.array([value, 0.0])}, state, params)
    assert state.skipped == skipped and state.gradient_norm == value
    if value == 30.0:
      np.testing.assert_array_equal(updates['a'], 0)
      jax.tree.map(np.testing.assert_array_equal, state.inner, old.inner)
    else:
      assert np.abs(updates['a'][0]) > 0.01
  for value in (jnp.nan, jnp.inf):
    updates, after = tx.update({'a': jnp.array([value, 0.0])}, state, params)
    assert after.skipped == 1 and not np.isfinite(updates['a']).all()


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: method(beta=0.0), 'beta must be > 0'),
    (lambda: method(warmup_steps=-1), 'warmup_steps >= 0'),
    (lambda: gradient.skip_large(optax.sgd(1.0), 0.0), 'limit must be > 0'),
    (
      lambda: hierarchical_vae.hierarchical_vae(
        MODULES['ladder'][0], optax.sgd(0.1), observation=observations.bernoulli()
      ).init(jax.random.key(0), {'x': jnp.zeros((2, 4, 4, 1))}),
      'parameters',
    ),
    (
      lambda: hierarchical.TopDown((3,), 4, 2, (4, 4, 1, 2)).init(
        jax.random.key(0), jnp.zeros((2, 4, 4, 1)), (jnp.zeros((2, 3, 3, 2)),)
      ),
      'sizes must grow and divide',
    ),
  ],
)
def test_what_does_not_fit_is_one_line(call, message):
  with pytest.raises(ValueError, match=message) as error:
    call()
  assert '\n' not in str(error.value)
