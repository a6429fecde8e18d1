"""Denoising losses: minima that are known of Gaussian data, and weights that agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from gm_jax.losses import denoising, variational

MEAN, VAR, SIGMA = 0.5, 0.3, 0.7
rng = np.random.default_rng(0)
LAMBDA = np.linspace(-9, 9, 7)
E, FOUND = rng.normal(size=(2, 3, 2, 2))
B = np.array([0.3, 2.0, 5.0])
# Gauss-Hermite nodes: expectations of quadratics are exact.
NODES, WEIGHTS = special.roots_hermitenorm(9)
X, NOISE = (MEAN + np.sqrt(VAR) * NODES).repeat(9), np.tile(NODES, 9)
MASS = np.outer(WEIGHTS, WEIGHTS).ravel() / WEIGHTS.sum() ** 2


def least(loss, slope, shift):
  """A loss of slope x_t + shift, and its gradient by both: the mean over data."""

  def mean(params):
    return jnp.asarray(MASS) @ loss(params[0], params[1])

  value, gradient = jax.value_and_grad(mean)((jnp.asarray(slope), jnp.asarray(shift)))
  return float(value), np.asarray(gradient)


def test_the_least_of_score_matching_has_the_score_of_noisy_data():
  """Its value is half of Var(e given x_t) / sigma^2."""
  with jax.enable_x64(True):
    x_t, sigma = (X + SIGMA * NOISE)[:, None], np.full(81, SIGMA)

    def loss(slope, shift):
      score = slope * x_t + shift
      return denoising.denoising_score_matching(score, NOISE[:, None], sigma)

    total = VAR + SIGMA**2
    value, gradient = least(loss, -1 / total, MEAN / total)
  np.testing.assert_allclose(gradient, 0, atol=1e-9)
  np.testing.assert_allclose(value, VAR / (2 * SIGMA**2 * total), rtol=1e-9)


def test_the_least_of_flow_matching_has_the_mean_velocity():
  """Its value is Var(e - x) less what x_t tells of it, Cov^2 / Var(x_t)."""
  with jax.enable_x64(True):
    x_t = ((1 - SIGMA) * X + SIGMA * NOISE)[:, None]

    def loss(slope, shift):
      velocity = slope * x_t + shift
      return denoising.flow_matching(velocity, X[:, None], NOISE[:, None])

    total, along = (1 - SIGMA) ** 2 * VAR + SIGMA**2, SIGMA - (1 - SIGMA) * VAR
    slope = along / total
    value, gradient = least(loss, slope, -MEAN - slope * (1 - SIGMA) * MEAN)
  np.testing.assert_allclose(gradient, 0, atol=1e-9)
  np.testing.assert_allclose(value, 1 + VAR - along**2 / total, rtol=1e-9)


def test_weights_of_three_forms_are_one_weight():
  """|e - e'|^2 = snr |x - x'|^2 = alpha^2 |v - v'|^2 at a given x_t."""
  alpha, sigma = np.sqrt(special.expit(LAMBDA)), np.sqrt(special.expit(-LAMBDA))
  x, noise, wrong = rng.normal(size=(3, 7, 4))
  a, s = alpha[:, None], sigma[:, None]
  x_t = a * x + s * noise
  data = (x_t - s * wrong) / a
  velocity, other = a * noise - s * x, a * wrong - s * data
  found = [
    denoising.min_snr_noise(LAMBDA) * denoising.squared_error(wrong, noise),
    denoising.min_snr_data(LAMBDA) * denoising.squared_error(data, x),
    denoising.min_snr_velocity(LAMBDA) * denoising.squared_error(other, velocity),
  ]
  ratio = np.exp(LAMBDA)
  expected = np.minimum(ratio, 5) / ratio * ((noise - wrong) ** 2).mean(axis=1)
  for each in found:
    np.testing.assert_allclose(each, expected, rtol=2e-4)


def test_weights_of_edm_and_of_the_sigmoid_are_as_published():
  """Table 1 of Karras et al. has the weight of the data where alpha is 1."""
  sigma = np.exp(-LAMBDA / 2)
  of_data = (sigma**2 + 0.5**2) / (sigma * 0.5) ** 2
  np.testing.assert_allclose(
    denoising.edm_weight(LAMBDA, data_std=0.5), of_data * sigma**2, rtol=1e-5
  )
  found = denoising.sigmoid_weight(LAMBDA, bias=1.0)
  np.testing.assert_allclose(found, 1 / (1 + np.exp(LAMBDA - 1)), rtol=1e-5)


def test_the_discrete_term_is_a_kl_and_goes_to_the_continuous_one():
  """T KL(q(x_s | x_t, x) || q(x_s | x_t, x')), of the same variance, by hand."""
  gamma = {'t': B, 's': B - 0.9}
  a, s = ({n: np.sqrt(special.expit(k * g)) for n, g in gamma.items()} for k in (-1, 1))
  var = s['s'] ** 2 * -np.expm1(gamma['s'] - gamma['t'])
  # The mean depends on x by alpha_s times this; x - x' is sigma / alpha times e' - e.
  part = a['s'] * -np.expm1(gamma['s'] - gamma['t']) * s['t'] / a['t']
  squares = ((FOUND - E) ** 2).sum(axis=(1, 2))
  found = denoising.discrete_bound(FOUND, E, B, B - 0.9, num_steps=7)
  np.testing.assert_allclose(found, 7 * part**2 * squares / (2 * var), rtol=1e-5)
  limit = denoising.continuous_bound(FOUND, E, B)
  np.testing.assert_allclose(limit, 0.5 * B * squares, rtol=1e-5)
  with jax.enable_x64(True):
    errors = []
    for num in (10, 100, 1000):
      near = denoising.discrete_bound(FOUND, E, B, B - B / num, num_steps=num)
      errors.append(np.abs(near / limit - 1).max())
  ratios = np.array(errors[:-1]) / errors[1:]
  assert errors[-1] < 3e-3 and (ratios > 9).all()  # of order 1 / T


def test_the_priors_term_is_the_kl_of_gaussians():
  for gamma in (-3.0, 0.0, 6.0):
    mean = np.sqrt(special.expit(-gamma)) * E.reshape(3, -1)
    log_std = np.full_like(mean, 0.5 * np.log(special.expit(gamma)))
    expected = variational.standard_normal_kl(mean, log_std)
    found = denoising.prior_kl(E, gamma)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_inputs_of_1e4_are_finite_or_of_the_right_infinity():
  far = np.array([-1e4, 1e4])
  np.testing.assert_array_equal(denoising.min_snr_noise(far), [1, 0])
  np.testing.assert_array_equal(denoising.min_snr_data(far), [0, 5])
  np.testing.assert_array_equal(denoising.min_snr_velocity(far), [0, 0])
  np.testing.assert_array_equal(denoising.sigmoid_weight(far), [1, 0])
  np.testing.assert_array_equal(denoising.edm_weight(far, data_std=1.0), [np.inf, 1])
  large = np.full((2, 3), 1e4)
  np.testing.assert_allclose(denoising.squared_error(large, -large), 4e8)
  np.testing.assert_allclose(denoising.prior_kl(large, 1e4), 0)
  np.testing.assert_allclose(denoising.prior_kl(large, -1e4), 1.5 * (1e8 + 1e4))
  for gamma in far:
    slope = jax.grad(lambda g: denoising.prior_kl(large, g).sum())(gamma)
    assert np.isfinite(slope)
  for loss in (denoising.continuous_bound, denoising.denoising_score_matching):
    assert np.isfinite(loss(large, -large, np.ones(2))).all()


OF_EXAMPLES = {
  'squared_error': denoising.squared_error,
  'score': lambda a, b: denoising.denoising_score_matching(a, b, b[:, 0, 0] ** 2 + 1),
  'flow': lambda a, b: denoising.flow_matching(a, b, a * b),
  'continuous': lambda a, b: denoising.continuous_bound(a, b, b[:, 0, 0] ** 2),
  'discrete': lambda a, b: denoising.discrete_bound(
    a, b, b[:, 0, 0], a[:, 0, 0], num_steps=4),
  'prior': lambda a, b: denoising.prior_kl(a, 0.7) + denoising.prior_kl(b, -1.0),
}  # fmt: skip


@pytest.mark.parametrize('name', OF_EXAMPLES)
def test_an_example_by_itself_is_that_of_the_batch_and_gradients_are_differences(name):
  loss, moved = OF_EXAMPLES[name], 1e-6 * rng.normal(size=(2, 3, 2, 2))

  @jax.jit
  def all_of(a, b):
    alone = jax.vmap(lambda a, b: loss(a[None], b[None])[0])(a, b)
    return loss(a, b), alone, jax.grad(lambda a, b: loss(a, b).sum(), (0, 1))(a, b)

  with jax.enable_x64(True):
    value, alone, slopes = all_of(FOUND, E)
    up, down = (
      float(sum(loss(FOUND + s * moved[0], E + s * moved[1]))) for s in (1, -1)
    )
    along = sum((np.asarray(g) * m).sum() for g, m in zip(slopes, moved, strict=True))
    np.testing.assert_allclose(value, loss(FOUND, E), rtol=1e-12)
  np.testing.assert_allclose(alone, value, rtol=1e-12)
  np.testing.assert_allclose((up - down) / 2, along, rtol=1e-4)


SQUARE, ROW = np.ones((3, 2)), np.ones(3)


@pytest.mark.parametrize(
  ('call', 'word'),
  [
    (lambda: denoising.squared_error(SQUARE, ROW), 'one shape'),
    (lambda: denoising.squared_error(1.0, 1.0), 'one shape'),
    (lambda: denoising.flow_matching(SQUARE, SQUARE, ROW), 'one shape'),
    (lambda: denoising.denoising_score_matching(SQUARE, SQUARE, SQUARE), 'sigma of'),
    (lambda: denoising.continuous_bound(SQUARE, SQUARE, SQUARE), r'rate .* be \[3\]'),
    (
      lambda: denoising.discrete_bound(SQUARE, SQUARE, ROW, 1.0, num_steps=2),
      r'gamma_s .* must be \[3\]',
    ),
    (lambda: denoising.prior_kl(SQUARE, ROW), r'gamma must be \[\]'),
    (lambda: denoising.min_snr_data(ROW, limit=0.0), 'limit must be > 0'),
    (lambda: denoising.edm_weight(ROW, data_std=-1.0), 'data_std must be > 0'),
  ],
)
def test_what_does_not_fit_is_refused(call, word):
  with pytest.raises(ValueError, match=word):
    call()
