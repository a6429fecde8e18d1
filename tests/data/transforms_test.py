"""Transforms against their Jacobians, their inverses and Jensen's inequality."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from gm_jax import base
from gm_jax.data import dataset, transforms

LEVELS = (2, 3, 17, 100, 200, 255, 256, 1000)
NOISY = {
  'dequantization': transforms.dequantization,
  'logit': transforms.logit,
  'logit, alpha 1e-6': lambda k: transforms.logit(k, alpha=1e-6),
}


@pytest.mark.parametrize('num_levels', LEVELS)
def test_scaling_is_the_even_lattice_and_undone(num_levels):
  transform = transforms.scaling(num_levels)
  raw = jnp.arange(num_levels)
  for forward in (transform.forward, jax.jit(transform.forward)):
    x = forward(jax.random.key(0), raw)
    assert x.dtype == jnp.float32
    np.testing.assert_allclose(x, np.linspace(-1, 1, num_levels), atol=2e-7)
    np.testing.assert_array_equal(transform.inverse(x), raw)
    np.testing.assert_array_equal(x, -x[::-1])
  assert transform.measure == 'mass' and not transform.log_det(None, raw).any()
  beyond = transform.inverse(jnp.array([-9.0, 9.0]))
  np.testing.assert_array_equal(beyond, [0, num_levels - 1])


@pytest.mark.parametrize('dtype', ['uint8', 'int32', 'float32'])
@pytest.mark.parametrize('make', transforms.PIXELS.values(), ids=transforms.PIXELS)
def test_levels_of_every_type_go_the_same_way(make, dtype):
  raw = jnp.arange(256)[:, None]
  transform, key = make(256), jax.random.key(3)
  x = transform.forward(key, raw.astype(dtype))
  assert x.dtype == transforms.dtype(transform)
  assert (x.dtype == jnp.float32) == (make is not transforms.levels)
  np.testing.assert_array_equal(x, transform.forward(key, raw))


@pytest.mark.parametrize('num_levels', LEVELS)
@pytest.mark.parametrize('make', NOISY.values(), ids=NOISY)
def test_every_draw_in_every_level_is_undone(make, num_levels, monkeypatch):
  # The noise has 2^b values: in the place of draws, each of them.
  num = 2 ** min(16, 20 - (num_levels - 1).bit_length())
  every = np.arange(num, dtype=np.uint16) * np.uint16(2**16 // num)
  monkeypatch.setattr(jax.random, 'bits', lambda key, shape, dtype: jnp.asarray(every))
  transform, levels = make(num_levels), np.arange(num_levels)[:, None]

  @jax.jit
  def there_and_back(raw):
    x = transform.forward(jax.random.key(0), raw)
    return x, transform.inverse(x)

  x, back = map(np.asarray, there_and_back(levels))
  assert x.shape == (num_levels, num) and np.isfinite(x).all()
  assert (back == levels).all()
  distinct = np.diff(np.sort(x.ravel())) > 0
  assert distinct.all()  # no two draws are one
  np.testing.assert_array_equal(transform.inverse(x[:, 0]), levels[:, 0])
  beyond = transform.inverse(jnp.array([-99.0, 99.0]))
  np.testing.assert_array_equal(beyond, [0, num_levels - 1])


@pytest.mark.parametrize('num_levels', [2, 17, 256])
def test_noise_is_uniform_in_the_level_and_fresh_for_every_key(num_levels):
  transform = transforms.dequantization(num_levels)
  raw = jnp.full((20_000,), num_levels - 1)
  draws = [np.asarray(transform.forward(jax.random.key(i), raw), float) for i in (0, 1)]
  noise = (draws[0] + 1) * num_levels / 2 - (num_levels - 1)
  assert stats.kstest(noise, 'uniform').pvalue > 1e-4
  assert (draws[0] == draws[1]).mean() < 0.01


def test_logit_is_the_papers_formula_in_float64():
  raw, key = jnp.arange(256)[None], jax.random.key(0)
  u = (transforms.dequantization(256).forward(key, raw) + 1) * 128 - raw
  v = 0.05 + 0.9 * (np.asarray(raw, float) + np.asarray(u, float)) / 256
  np.testing.assert_allclose(
    transforms.logit(256).forward(key, raw), special.logit(v), rtol=2e-5, atol=1e-6
  )


@pytest.mark.parametrize('num_levels', [2, 17, 256])
@pytest.mark.parametrize('make', NOISY.values(), ids=NOISY)
def test_log_det_is_that_of_the_jacobian(make, num_levels):
  transform, key = make(num_levels), jax.random.key(0)
  raw = jax.random.randint(jax.random.key(1), (1, 3, 4), 0, num_levels)
  raw = raw.at[0, 0, :2].set(jnp.array([0, num_levels - 1]))
  with jax.enable_x64(True):

    def forward(flat):
      return transform.forward(key, flat.reshape(1, 3, 4)).ravel()

    jacobian = jax.jit(jax.jacfwd(forward))(jnp.asarray(raw, jnp.float64).ravel())
  expected = np.linalg.slogdet(np.asarray(jacobian))[1]
  found = transform.log_det(key, raw)
  assert found.shape == (1,) and transform.measure == 'density'
  np.testing.assert_allclose(found, expected, rtol=2e-6)
  if make is transforms.dequantization:
    np.testing.assert_allclose(found, 12 * math.log(2 / num_levels), rtol=1e-6)


@pytest.mark.parametrize('make', NOISY.values(), ids=NOISY)
def test_density_bounds_the_mass_from_below_and_meets_it_where_flat(make):
  transform, num = make(4), 200_000
  forward, log_det_of = jax.jit(transform.forward), jax.jit(transform.log_det)
  for level in range(4):
    raw = np.full((num, 1), level)
    key = jax.random.key(level)
    x = np.asarray(forward(key, raw), float)[:, 0]
    log_det = np.asarray(log_det_of(key, raw), float)
    # A model q of x, and the mass that it implies: its integral over the level,
    # here over the draws.
    terms = stats.norm.logpdf(x, 0.3, 0.7) + log_det
    assert terms.mean() < np.log(np.exp(terms).mean())
    lower, upper = (transform.inverse(jnp.array(e))[()] for e in (x.min(), x.max()))
    assert lower == upper == level
  # The push-forward of uniform noise is flat in the level: the bound is met.
  if make is transforms.dequantization:
    flat = stats.uniform.logpdf(x, -1, 2) + log_det
    np.testing.assert_allclose(flat, math.log(1 / 4), rtol=1e-6)


@pytest.mark.parametrize('make', NOISY.values(), ids=NOISY)
def test_mass_implied_by_a_density_is_its_integral_over_the_level(make):
  transform, num = make(4), 400_000
  forward, log_det_of = jax.jit(transform.forward), jax.jit(transform.log_det)
  total = 0.0
  for level in range(4):
    raw, key = np.full((num, 1), level), jax.random.key(level)
    x = np.asarray(forward(key, raw), float)[:, 0]
    log_det = np.asarray(log_det_of(key, raw), float)
    found = np.exp(stats.norm.logpdf(x, 0.3, 0.7) + log_det)
    edges = np.sort(x)[[0, -1]]
    expected = np.diff(stats.norm.cdf(edges, 0.3, 0.7))[0]
    assert abs(found.mean() - expected) < 5 * found.std() / num**0.5 + 1e-4
    total += expected
  assert total < 1


def test_what_is_not_pixels_is_left_alone():
  x = jnp.array([[0.5, -3.0]])
  identity, tokens = transforms.identity(), transforms.tokens()
  np.testing.assert_array_equal(identity.inverse(identity.forward(None, x)), x)
  assert identity.measure == 'density' and not identity.log_det(None, x).any()
  raw = np.array([[3, 0, 7]], np.int32)
  assert tokens.forward(None, raw).dtype == jnp.int32
  np.testing.assert_array_equal(tokens.inverse(tokens.forward(None, raw)), raw)
  assert tokens.measure == 'mass' and tokens.log_det(None, raw).shape == (1,)


def test_transformed_applies_to_x_and_y_alone():
  transform = transforms.dequantization(17)
  spec = base.DataSpec((2,), jnp.float32, 17, None, None, transform)
  raw = np.full((3, 2), 16, np.uint8)
  arrays = {'x': raw, 'y': raw, 'label': np.arange(3)}
  found, key = dataset.transformed(spec, arrays), jax.random.key(5)
  assert list(found) == list(arrays) and found['label'] is arrays['label']
  assert (np.asarray(found['x']) != np.asarray(found['y'])).all()
  np.testing.assert_array_equal(found['x'], dataset.transformed(spec, arrays)['x'])
  np.testing.assert_array_equal(
    dataset.transformed(spec, arrays, key)['x'], transform.forward(key, raw)
  )
  np.testing.assert_array_equal(transform.inverse(found['y']), raw)


@pytest.mark.parametrize('make', transforms.PIXELS.values(), ids=transforms.PIXELS)
@pytest.mark.parametrize('num_levels', [1, 0, 2**16 + 1])
def test_levels_must_be_levels(make, num_levels):
  with pytest.raises(ValueError, match='num_levels must be from 2 to 65536'):
    make(num_levels)


@pytest.mark.parametrize('alpha', [0, 0.5, -1, math.nan])
def test_alpha_must_leave_an_interval(alpha):
  with pytest.raises(ValueError, match='alpha must lie in'):
    transforms.logit(256, alpha=alpha)
