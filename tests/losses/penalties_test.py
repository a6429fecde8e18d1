"""Penalties of critics whose gradient is known by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.losses import penalties

SHAPE = (5, 3, 2)
KEY = jax.random.key(0)


def _images(seed=0):
  rng = np.random.default_rng(seed)
  return jnp.array(rng.normal(size=SHAPE), jnp.float32)


REAL, FAKE, WEIGHT = _images(0), _images(1) + 2.0, _images(2)[0]


def _linear(x, w=WEIGHT):
  return (x * w).sum(axis=(1, 2))


def _quadratic(x):  # gradient x
  return 0.5 * jnp.square(x).sum(axis=(1, 2))


# Every penalty as a function of the critic alone.
PENALTIES = {
  'gradient_penalty': lambda c: penalties.gradient_penalty(c, KEY, REAL, FAKE),
  'dragan': lambda c: penalties.dragan(c, KEY, REAL, scale=0.5),
  'r1': lambda c: penalties.r1(c, REAL),
  'r2': lambda c: penalties.r2(c, FAKE),
}


@pytest.mark.parametrize('target', [0.0, 1.0, 2.5])
def test_gradient_penalty_of_a_linear_critic(target):
  value = penalties.gradient_penalty(_linear, KEY, REAL, FAKE, target=target)
  expected = (np.linalg.norm(WEIGHT) - target) ** 2
  np.testing.assert_allclose(value, np.full(5, expected), rtol=1e-5)


def _points_penalized(penalty):
  """The points at which a penalty takes the gradient."""
  seen = []

  def critic(x):
    jax.debug.callback(lambda x: seen.append(np.array(x)), x)
    return _linear(x)

  penalty(critic)
  jax.effects_barrier()
  return seen[0]


def test_interpolation_lies_on_each_examples_segment_with_its_own_uniform():
  points = _points_penalized(PENALTIES['gradient_penalty'])
  epsilon = (points - FAKE) / (REAL - FAKE)
  per_example = epsilon.reshape(5, -1).mean(axis=1)
  np.testing.assert_allclose(  # one number an example, not one a pixel
    epsilon.reshape(5, -1), np.tile(per_example[:, None], (1, 6)), atol=1e-4
  )
  assert np.unique(per_example.round(4)).size == 5  # and not one a batch


def test_interpolation_is_uniform_not_normal():
  num = 20_000
  real, fake = jnp.ones((num, 1)), jnp.zeros((num, 1))

  # A critic with gradient x and target 0: the penalty is epsilon squared.
  def critic(x):
    return 0.5 * jnp.square(x).sum(axis=1)

  value = penalties.gradient_penalty(critic, KEY, real, fake, target=0.0)
  epsilon = np.sqrt(value)
  assert value.max() <= 1.0
  # Four standard errors of the moments of U(0, 1): 1/sqrt(12 N), 1/sqrt(45/4 N).
  np.testing.assert_allclose(epsilon.mean(), 1 / 2, atol=4 / np.sqrt(12 * num))
  np.testing.assert_allclose(value.mean(), 1 / 3, atol=4 / np.sqrt(11.25 * num))


def test_gradient_penalty_of_a_quadratic_critic():
  points = _points_penalized(PENALTIES['gradient_penalty'])
  value = penalties.gradient_penalty(_quadratic, KEY, REAL, FAKE, target=1.5)
  norm = np.sqrt((points.astype(float) ** 2).sum(axis=(1, 2)))
  np.testing.assert_allclose(value, (norm - 1.5) ** 2, rtol=1e-4)


def test_r1_and_r2_are_squared_norms_without_a_half():
  norm = np.linalg.norm(WEIGHT)
  np.testing.assert_allclose(
    penalties.r1(_linear, REAL), np.full(5, norm**2), rtol=1e-5
  )
  squares = (np.array(FAKE, float) ** 2).sum(axis=(1, 2))
  np.testing.assert_allclose(penalties.r2(_quadratic, FAKE), squares, rtol=1e-5)
  np.testing.assert_allclose(
    penalties.r1(_quadratic, REAL),
    (np.array(REAL, float) ** 2).sum(axis=(1, 2)),
    rtol=1e-5,
  )


def test_dragan_perturbs_every_pixel_by_a_normal_of_standard_deviation_scale():
  num, scale = 50_000, 0.3
  real = jnp.full((num, 2), 7.0)

  # With the gradient x - 7 = delta: (|delta| - 1)^2, and |delta| is Rayleigh.
  def critic(x):
    return 0.5 * jnp.square(x - 7.0).sum(axis=1)

  value = penalties.dragan(critic, KEY, real, scale=scale)
  norm_mean, norm_square = scale * np.sqrt(np.pi / 2), 2 * scale**2
  expected = norm_square - 2 * norm_mean + 1
  error = np.array(value).std() / np.sqrt(num)
  assert abs(value.mean() - expected) < 4 * error


def test_dragan_noise_has_zero_mean_and_differs_between_pixels_and_examples():
  noise = (_points_penalized(PENALTIES['dragan']) - REAL).ravel()
  assert np.unique(noise).size == noise.size == 30
  assert abs(noise.mean()) < 4 * 0.5 / np.sqrt(30)
  assert (noise < 0).any() and (noise > 0).any()


def test_dragan_of_a_linear_critic_has_target_one():
  value = penalties.dragan(_linear, KEY, REAL, scale=3.0)
  expected = (np.linalg.norm(WEIGHT) - 1) ** 2
  np.testing.assert_allclose(value, np.full(5, expected), rtol=1e-5)


def test_parameter_gradient_of_the_penalty_is_the_closed_form():
  # d/dw (|w| - 1)^2 = 2 (|w| - 1) w / |w|: the penalty is differentiated twice.
  def loss(w):
    critic = functools.partial(_linear, w=w)
    return penalties.gradient_penalty(critic, KEY, REAL, FAKE).mean()

  norm = np.linalg.norm(WEIGHT)
  expected = 2 * (norm - 1) * WEIGHT / norm
  np.testing.assert_allclose(jax.grad(loss)(WEIGHT), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('name', PENALTIES)
def test_parameter_gradient_is_the_finite_difference(name):
  def loss(w, data):
    real, fake = data

    def critic(x):
      return jnp.tanh((x * w).sum(axis=(1, 2))) + _quadratic(x) * w.sum()

    value = {
      'gradient_penalty': lambda: penalties.gradient_penalty(critic, KEY, real, fake),
      'dragan': lambda: penalties.dragan(critic, KEY, real, scale=0.5),
      'r1': lambda: penalties.r1(critic, real),
      'r2': lambda: penalties.r2(critic, fake),
    }[name]()
    return value.mean()

  with jax.enable_x64(True):
    w = jnp.array(np.array(WEIGHT, float))
    data = jnp.array(np.array(REAL, float)), jnp.array(np.array(FAKE, float))
    gradient = jax.jit(jax.grad(loss))(w, data)
    value = jax.jit(loss)
    for i in ((0, 0), (2, 1)):
      up, down = value(w.at[i].add(1e-6), data), value(w.at[i].add(-1e-6), data)
      np.testing.assert_allclose(gradient[i], (up - down) / 2e-6, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize('name', PENALTIES)
def test_a_flat_critic_gives_its_value_and_finite_parameter_gradients(name):
  flat = jnp.zeros_like(WEIGHT)

  def loss(w):
    return PENALTIES[name](functools.partial(_linear, w=w)).mean()

  value, gradient = jax.value_and_grad(loss)(flat)
  assert value == (1.0 if name in ('gradient_penalty', 'dragan') else 0.0)
  np.testing.assert_array_equal(gradient, flat)

  # And where only some examples are flat: a dead ReLU on the others' side.
  def half(w):
    return PENALTIES[name](lambda x: jax.nn.relu(_linear(x, w) - 2.0)).mean()

  assert jnp.isfinite(jax.grad(half)(WEIGHT)).all()


@pytest.mark.parametrize('name', PENALTIES)
def test_critic_of_the_wrong_shape_raises(name):
  with pytest.raises(ValueError, match='critic must map x'):
    PENALTIES[name](lambda x: _linear(x)[:, None])
  with pytest.raises(ValueError, match='critic must map x'):
    PENALTIES[name](lambda x: _linear(x).sum())


def test_real_and_fake_of_two_shapes_raise():
  with pytest.raises(ValueError, match='real and fake'):
    penalties.gradient_penalty(_linear, KEY, REAL, FAKE[:4])


@pytest.mark.parametrize('name', PENALTIES)
def test_jit_is_eager(name):
  eager = PENALTIES[name](_quadratic)
  compiled = jax.jit(lambda: PENALTIES[name](_quadratic))()
  np.testing.assert_allclose(compiled, eager, rtol=1e-5)


def test_batch_of_one_under_vmap_is_the_batch():
  for penalty, x in ((penalties.r1, REAL), (penalties.r2, FAKE)):
    singles = jax.vmap(lambda x, p=penalty: p(_quadratic, x[None])[0])(x)
    np.testing.assert_allclose(singles, penalty(_quadratic, x), rtol=1e-6)
  keys = jax.random.split(KEY, 5)
  singles = jax.vmap(
    lambda k, r, f: penalties.gradient_penalty(_linear, k, r[None], f[None])[0]
  )(keys, REAL, FAKE)
  batch = penalties.gradient_penalty(_linear, KEY, REAL, FAKE)
  np.testing.assert_allclose(singles, batch, rtol=1e-5)
