"""Losses of energies: Gaussians with known minima, and the joint energy's identity.

Expectations of data and of noise are sums over a grid, exact to rounding.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from gm_jax.losses import energy, likelihood

MEAN, STD = 0.5, 0.7
LOG_Z = 0.5 * np.log(2 * np.pi) + np.log(STD)
GRID = np.linspace(-9.0, 9.0, 1201)
DATA, NOISE = stats.norm(MEAN, STD), stats.norm(-0.3, 1.5)
P, Q = (d.pdf(GRID) * (GRID[1] - GRID[0]) for d in (DATA, NOISE))
rng = np.random.default_rng(0)


def gaussian(params, x):
  """The energy of a Gaussian, without its constant."""
  mean, log_std = params[0], params[1]
  return 0.5 * jnp.square((x - mean) * jnp.exp(-log_std))


def test_contrastive_divergence_has_the_gradient_of_the_likelihood():
  """With negatives of the model itself; grid points of mass Q stand for draws."""
  params = jnp.array([NOISE.mean(), np.log(NOISE.std())])

  def surrogate(params):
    energies = gaussian(params, GRID)
    each = energy.contrastive_divergence(P * energies, Q * energies)
    return each.sum()

  def minus_log_likelihood(params):
    return -jnp.asarray(P) @ jax.scipy.stats.norm.logpdf(
      GRID, params[0], jnp.exp(params[1])
    )

  found, expected = (
    np.asarray(jax.grad(loss)(params)) for loss in (surrogate, minus_log_likelihood)
  )
  np.testing.assert_allclose(found, expected, rtol=1e-4)
  # In closed form: -(m - mu) / s^2 and 1 - E (x - mu)^2 / s^2.
  shift, var = DATA.mean() - NOISE.mean(), NOISE.var()
  closed = [-shift / var, 1 - (DATA.var() + shift**2) / var]
  np.testing.assert_allclose(found, closed, rtol=1e-4)


def test_the_surrogate_and_the_penalty_are_what_is_written():
  a, b = rng.normal(size=(2, 5))
  np.testing.assert_allclose(energy.contrastive_divergence(a, b), a - b, rtol=1e-6)
  np.testing.assert_allclose(energy.squared_energy(a, b), a**2 + b**2, rtol=1e-6)
  # Of a constant c added to both, weighted by w: least at minus the mean energy.
  slope = jax.grad(lambda c: energy.squared_energy(a + c, b + c).sum())
  np.testing.assert_allclose(slope(-np.mean([a, b])), 0, atol=1e-5)


def expected_loss(params, nu):
  """E of the loss, by the grid: a datum's own term and nu of noise, in one row each."""
  log_ratio = -gaussian(params, GRID) - params[2] - jnp.asarray(NOISE.logpdf(GRID))
  no_noise = jnp.full((len(GRID), nu), -jnp.inf)
  data = energy.noise_contrastive(log_ratio, no_noise)
  noise = energy.noise_contrastive(
    jnp.full(len(GRID), jnp.inf), jnp.repeat(log_ratio[:, None], nu, axis=1)
  )
  return jnp.asarray(P) @ data + jnp.asarray(Q) @ noise


@functools.partial(jax.jit, static_argnums=1)
def derivatives(params, nu):
  loss = functools.partial(expected_loss, nu=nu)
  value, slope = jax.value_and_grad(loss)(params)
  return value, slope, jax.hessian(loss)(params)


@pytest.mark.parametrize('nu', [1, 4])
def test_noise_contrast_is_least_at_the_truth_and_its_normalizer(nu):
  """The least value is a divergence of p from the mixture: in closed form."""
  with jax.enable_x64(True):
    truth = jnp.array([MEAN, np.log(STD), LOG_Z])
    value, slope, curvature = derivatives(truth, nu)
  np.testing.assert_allclose(slope, 0, atol=1e-9)
  assert (np.linalg.eigvalsh(curvature) > 1e-3).all()
  mixture = P + nu * Q
  least = -special.xlogy(P, P / mixture).sum()
  least -= nu * special.xlogy(Q, nu * Q / mixture).sum()
  np.testing.assert_allclose(value, least, rtol=1e-9)


def test_newton_finds_the_normalizer_and_the_parameters_from_elsewhere():
  with jax.enable_x64(True):
    params = jnp.array([MEAN + 0.2, np.log(STD) - 0.2, LOG_Z + 0.3])
    for _ in range(8):
      _, slope, curvature = derivatives(params, 4)
      params -= np.linalg.solve(curvature, slope)
  np.testing.assert_allclose(params, [MEAN, np.log(STD), LOG_Z], atol=1e-6)


def test_noise_that_is_the_data_costs_the_entropy_of_a_guess():
  for nu in (1, 5):
    found = energy.noise_contrastive(jnp.zeros(3), jnp.zeros((3, nu)))
    expected = np.log(1 + nu) + nu * np.log((1 + nu) / nu)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_classifier_is_an_energy_of_x_and_of_both():
  """p(x, y) = p(y | x) p(x), by enumeration of a space of seven x and four y."""
  logits = rng.normal(size=(7, 4)) * 3
  table = np.exp(logits) / np.exp(logits).sum()
  log_z = np.log(np.exp(logits).sum())
  marginal = np.asarray(energy.marginal_energy(logits))
  np.testing.assert_allclose(-marginal - log_z, np.log(table.sum(1)), atol=1e-5)
  for y in range(4):
    label = np.full(7, y)
    joint = np.asarray(energy.joint_energy(logits, label))
    np.testing.assert_allclose(-joint - log_z, np.log(table[:, y]), atol=1e-5)
    conditional = likelihood.categorical(logits[:, None], label[:, None])
    np.testing.assert_allclose(-joint, conditional - marginal, atol=1e-5)


def test_logits_of_1e4_have_values_and_gradients():
  far = jnp.array([1e4, -1e4])
  ratios = jnp.stack([far, -far], axis=1)
  np.testing.assert_allclose(
    energy.noise_contrastive(far, ratios), [1e4, 2e4], rtol=1e-3
  )
  np.testing.assert_allclose(energy.marginal_energy(ratios), -1e4)
  slopes = jax.grad(lambda r: energy.noise_contrastive(far, r).sum())(ratios)
  np.testing.assert_allclose(slopes, [[1, 0], [0, 1]])
  slopes = jax.grad(lambda f: energy.marginal_energy(f).sum())(ratios)
  np.testing.assert_allclose(slopes, [[-1, 0], [0, -1]])
  np.testing.assert_allclose(energy.squared_energy(far, far), 2e8)
  never = energy.noise_contrastive(jnp.array([-jnp.inf]), jnp.zeros((1, 1)))
  np.testing.assert_array_equal(never, np.inf)


OF_EXAMPLES = {
  'contrastive_divergence': lambda a: energy.contrastive_divergence(a[:, 0], a[:, 1]),
  'squared_energy': lambda a: energy.squared_energy(a[:, 0], a[:, 1]),
  'noise_contrastive': lambda a: energy.noise_contrastive(a[:, 0], a[:, 1:]),
  'marginal_energy': energy.marginal_energy,
  'joint_energy': lambda a: energy.joint_energy(a, jnp.full(len(a), 2)),
}


@pytest.mark.parametrize('name', OF_EXAMPLES)
def test_an_example_by_itself_is_that_of_the_batch_and_gradients_are_differences(name):
  loss, x = OF_EXAMPLES[name], rng.normal(size=(4, 3))
  moved = 1e-6 * rng.normal(size=x.shape)

  @jax.jit
  def all_of(x):
    alone = jax.vmap(lambda x: loss(x[None])[0])(x)
    return loss(x), alone, jax.grad(lambda x: loss(x).sum())(x)

  with jax.enable_x64(True):
    value, alone, slope = all_of(x)
    up, down = (float(loss(x + s * moved).sum()) for s in (1, -1))
    np.testing.assert_allclose(value, loss(x), rtol=1e-12)
  np.testing.assert_allclose(alone, value, rtol=1e-12)
  np.testing.assert_allclose(
    (up - down) / 2, (np.asarray(slope) * moved).sum(), rtol=1e-4
  )


ROW, TABLE = np.ones(3), np.ones((3, 2))


@pytest.mark.parametrize(
  ('call', 'word'),
  [
    (lambda: energy.contrastive_divergence(ROW, TABLE), r'must be \[B\]'),
    (lambda: energy.contrastive_divergence(ROW, ROW[:2]), 'same B'),
    (lambda: energy.squared_energy(TABLE, TABLE), r'must be \[B\]'),
    (lambda: energy.noise_contrastive(TABLE, TABLE), r'must be \[B\]'),
    (lambda: energy.noise_contrastive(ROW, ROW), r'must be \[3, nu\]'),
    (lambda: energy.noise_contrastive(ROW, TABLE[:2]), r'must be \[3, nu\]'),
    (lambda: energy.noise_contrastive(ROW, TABLE[:, :0]), r'must be \[3, nu\]'),
    (lambda: energy.marginal_energy(ROW), r'logits must be \[B, C\]'),
    (lambda: energy.joint_energy(TABLE, np.array([0, 1, 2])), 'label must be from 0'),
    (lambda: energy.joint_energy(TABLE, np.array([0, 1])), r'label must be \[3\]'),
  ],
)
def test_what_does_not_fit_is_refused(call, word):
  with pytest.raises(ValueError, match=word):
    call()
