"""Increasing functions against their own derivatives, inverses and closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import monotone

SPLINE = monotone.rational_quadratic(5, 2.0)
FUNCTIONS = {
  'additive': monotone.additive(),
  'affine': monotone.affine(),
  'standardization': monotone.standardization(),
  'sigmoid_affine': monotone.sigmoid_affine(),
  'rational_quadratic': SPLINE,
}
every_function = pytest.mark.parametrize('name', FUNCTIONS)


@functools.cache
def drawn(name, num=400):
  """Parameters and numbers in and beyond the box, in float64."""
  function = FUNCTIONS[name]
  rng = np.random.default_rng(0)
  params = 2.0 * rng.normal(size=(num, function.num_params))
  return params, rng.uniform(-4, 4, size=num)


@every_function
def test_log_derivative_is_that_of_autodiff_and_the_inverse_goes_back(name):
  function = FUNCTIONS[name]
  with jax.enable_x64(True):
    params, x = map(jnp.asarray, drawn(name))
    y, log_slope = jax.jit(function.forward)(params, x)
    slope = jax.jit(jax.vmap(jax.grad(lambda x, p: function.forward(p, x)[0])))(
      x, params
    )
    np.testing.assert_allclose(np.exp(log_slope), slope, rtol=1e-10)
    back, log_back = jax.jit(function.inverse)(params, y)
    np.testing.assert_allclose(back, x, atol=1e-10)
    np.testing.assert_allclose(log_back, -log_slope, atol=1e-9)


@pytest.mark.parametrize(
  'name', ['additive', 'affine', 'standardization', 'rational_quadratic']
)
def test_parameters_of_zero_are_the_identity(name):
  function, x = FUNCTIONS[name], jnp.linspace(-3.0, 3.0, 61)
  y, log_slope = function.forward(jnp.zeros((61, function.num_params)), x)
  np.testing.assert_allclose(y, x, atol=2e-6)
  np.testing.assert_allclose(log_slope, 0, atol=1e-5)


def test_affine_maps_are_those_of_their_papers():
  params, x = jnp.array([[0.4, -1.2]]), jnp.array([0.7])
  y, log_scale = monotone.affine(3.0).forward(params, x)
  scale = 3.0 * np.tanh(0.4 / 3.0)
  np.testing.assert_allclose(y, 0.7 * np.exp(scale) - 1.2, rtol=1e-5)
  np.testing.assert_allclose(log_scale, scale, rtol=1e-6)
  y, log_scale = monotone.standardization(3.0).forward(params, x)
  np.testing.assert_allclose(y, (0.7 + 1.2) * np.exp(-scale), rtol=1e-5)
  np.testing.assert_allclose(log_scale, -scale, rtol=1e-6)
  # Glow's code: the shift comes first, and the scale is sigmoid(s + 2).
  y, log_scale = monotone.sigmoid_affine().forward(params, x)
  np.testing.assert_allclose(y, (0.7 - 1.2) / (1 + np.exp(-2.4)), rtol=1e-6)
  np.testing.assert_allclose(log_scale, -np.log1p(np.exp(-2.4)), rtol=1e-6)


def numpy_knots(params, num_bins, box, least):
  """Knots and slopes of each row of parameters by the formulae of the paper."""

  def places(raw):
    sizes = np.exp(raw - raw.max(axis=1, keepdims=True))
    sizes = least + (1 - least * num_bins) * sizes / sizes.sum(axis=1, keepdims=True)
    return np.pad(2 * box * np.cumsum(sizes, axis=1) - box, ((0, 0), (1, 0)),
                  constant_values=-box)  # fmt: skip

  x, y = places(params[:, :num_bins]), places(params[:, num_bins : 2 * num_bins])
  slopes = least + np.log1p(np.exp(params[:, 2 * num_bins :] + np.log(np.expm1(0.999))))
  return x, y, np.pad(slopes, ((0, 0), (1, 1)), constant_values=1.0)


def test_the_spline_goes_through_its_knots_with_its_slopes():
  params = drawn('rational_quadratic')[0][:50]
  x, y, slopes = numpy_knots(params, 5, 2.0, 1e-3)
  with jax.enable_x64(True):
    for k in range(1, 5):
      found, log_slope = SPLINE.forward(jnp.asarray(params), jnp.asarray(x[:, k]))
      np.testing.assert_allclose(found, y[:, k], atol=1e-9)
      np.testing.assert_allclose(np.exp(log_slope), slopes[:, k], rtol=1e-6)
    # Between two knots, the formula itself.
    r = np.linspace(0.05, 0.95, 50)
    for k in range(5):
      width, height = x[:, k + 1] - x[:, k], y[:, k + 1] - y[:, k]
      s, d, e = height / width, slopes[:, k], slopes[:, k + 1]
      rest = r * (1 - r)
      above = height * (s * r**2 + d * rest) / (s + (e + d - 2 * s) * rest)
      found, _ = SPLINE.forward(jnp.asarray(params), jnp.asarray(x[:, k] + r * width))
      np.testing.assert_allclose(found, y[:, k] + above, atol=1e-9)


@pytest.mark.parametrize('scale', [0.0, 3.0, 100.0])
def test_slopes_are_one_at_both_ends_of_the_box(scale):
  params = scale * np.random.default_rng(1).normal(size=(20, SPLINE.num_params))
  near = np.float64(2.0) * (1 - 1e-12)
  with jax.enable_x64(True):
    for end in (-near, near, -2.0, 2.0, -5.0, 5.0):
      x = jnp.full(20, end)
      y, log_slope = SPLINE.forward(jnp.asarray(params), x)
      np.testing.assert_allclose(y, x, atol=1e-8)
      np.testing.assert_allclose(log_slope, 0, atol=1e-5)


@pytest.mark.parametrize('way', ['forward', 'inverse'])
@pytest.mark.parametrize('scale', [1.0, 30.0, 1e4])
def test_values_and_gradients_of_the_spline_are_finite(way, scale):
  rng = np.random.default_rng(2)
  params = (scale * rng.normal(size=(60, SPLINE.num_params))).astype(np.float32)
  x, y, _ = numpy_knots(params[:10].astype(float) / scale, 5, 2.0, 1e-3)
  at_knots = (x if way == 'forward' else y).astype(np.float32).ravel()
  values = np.r_[at_knots, -1e4, -2.0, 2.0, 1e4, 0.0][:60].astype(np.float32)
  values = np.resize(values, 60)

  def both(params, values):
    out, log_slope = getattr(SPLINE, way)(params, values)
    return (out + log_slope).sum(), (out, log_slope)

  grads, found = jax.jit(jax.grad(both, (0, 1), has_aux=True))(params, values)
  assert all(np.isfinite(a).all() for a in jax.tree.leaves((grads, found)))


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: monotone.rational_quadratic(1), 'num_bins must be >= 2, got 1'),
    (lambda: monotone.rational_quadratic(8, 0.0), 'box must be > 0, got 0.0'),
    (lambda: monotone.rational_quadratic(8, min_size=0.2), 'min_size must lie in'),
    (lambda: monotone.affine(0.0), 'limit must be > 0, got 0.0'),
  ],
)
def test_wrong_numbers_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()
