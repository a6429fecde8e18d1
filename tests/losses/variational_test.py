"""Bounds against exact evidence, estimators of gradients against each other."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from gm_jax.losses import variational

# A linear-Gaussian model: z ~ N(0, 1), x | z ~ N(z, 1), at x = 1.5.
X = 1.5
EVIDENCE = stats.norm(0, math.sqrt(2)).logpdf(X)
Q = 0.2, -0.3  # of an approximate posterior, which is wider
POSTERIOR = X / 2, math.log(math.sqrt(0.5))  # mean, log of the standard deviation


def log_prob(mean, log_std, z):
  return variational.gaussian_log_prob_each(mean, log_std, z)


def log_weights(q, z, log_q=None):
  """[K, B] of draws z; `log_q` are the parameters in the posterior's density."""
  mean, log_std = q if log_q is None else log_q
  return log_prob(z, 0.0, X) + log_prob(0.0, 0.0, z) - log_prob(mean, log_std, z)


def draws(q, noise):
  return q[0] + jnp.exp(q[1]) * noise


@pytest.mark.parametrize('log_std', [-3.0, -0.1, 0.0, 0.4, 1.5])
@pytest.mark.parametrize('mean', [0.0, -0.7, 2.0])
def test_kl_is_its_integral(mean, log_std):
  q = stats.norm(mean, math.exp(log_std))
  ends = mean - 12 * math.exp(log_std), mean + 12 * math.exp(log_std)

  def integrand(z):
    return q.pdf(z) * (q.logpdf(z) - stats.norm.logpdf(z))

  integral = integrate.quad(integrand, *ends, points=[mean])[0]
  found = variational.standard_normal_kl(jnp.array([[mean]]), jnp.array([[log_std]]))
  np.testing.assert_allclose(found, [integral], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('prior', [(0.0, 0.0), (1.3, -0.8), (-0.4, 0.6)])
def test_kl_of_two_gaussians_is_its_integral(prior):
  mean, log_std = 0.7, -0.4
  q, p = stats.norm(mean, math.exp(log_std)), stats.norm(prior[0], math.exp(prior[1]))
  integral = integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -9, 9)[0]
  found = variational.gaussian_kl_each(
    *(jnp.array([a]) for a in (mean, log_std, *prior))
  )
  np.testing.assert_allclose(found, [integral], rtol=1e-5)
  if prior == (0.0, 0.0):
    standard = variational.standard_normal_kl_each(
      jnp.array([mean]), jnp.array([log_std])
    )
    np.testing.assert_array_equal(found, standard)


def test_kl_keeps_the_digits_of_a_posterior_near_the_prior():
  log_std = np.float32([-1e-4, 1e-4, 3e-4])
  wide = np.float64(log_std)
  exact = 0.5 * np.expm1(2 * wide) - wide
  found = variational.standard_normal_kl_each(jnp.zeros(3), jnp.array(log_std))
  np.testing.assert_allclose(found, exact, rtol=2e-3)  # the difference of two of 1e-4
  assert (np.asarray(found) >= 0).all()


@pytest.mark.parametrize('log_std', [-1e4, -60.0, 60.0, 1e4])
def test_kl_of_784_dimensions_and_its_gradient_are_finite(log_std):
  args = jnp.ones((2, 784)), jnp.full((2, 784), log_std)
  assert jnp.isfinite(variational.standard_normal_kl(*args)).all()
  gradient = jax.grad(lambda *a: variational.standard_normal_kl(*a).sum(), (0, 1))(
    *args
  )
  assert all(jnp.isfinite(g).all() for g in gradient)


def test_elbo_is_the_evidence_at_the_exact_posterior_and_below_it_elsewhere():
  noise = jax.random.normal(jax.random.key(0), (1000,))

  def bound(q):
    """[1000], of which each is exact in its draw: the prior term by the draw."""
    z = draws(q, noise)
    prior_term = log_prob(*q, z) - log_prob(0.0, 0.0, z)
    return variational.elbo(log_prob(z, 0.0, X), prior_term)

  # At the posterior every draw gives the evidence: p(x, z) / p(z | x) is constant.
  np.testing.assert_allclose(bound(POSTERIOR), EVIDENCE, rtol=1e-5)
  for q in (Q, (0.75, 0.3), (-1.0, -0.3)):
    mean, log_std = q
    std = math.exp(log_std)
    # E_q log p(x | z) in closed form, and the gap KL(q || posterior).
    reconstruction = stats.norm.logpdf(X, mean, 1) - std**2 / 2
    prior_term = variational.standard_normal_kl(
      jnp.array([[mean]]), jnp.array([[log_std]])
    )
    exact = variational.elbo(jnp.array([reconstruction]), prior_term)[0]
    ratio = std / math.exp(POSTERIOR[1])
    gap = -math.log(ratio) + (ratio**2 - 1) / 2 + (mean - POSTERIOR[0]) ** 2
    np.testing.assert_allclose(exact + gap, EVIDENCE, rtol=1e-5)
    values = bound(q)
    error = values.std() / math.sqrt(len(noise))
    assert abs(values.mean() - exact) < 4 * error and exact < EVIDENCE


def test_iwae_grows_with_k_from_the_elbo_to_the_evidence():
  noise = jax.random.normal(jax.random.key(1), (64, 20_000))
  weights = log_weights(Q, draws(Q, noise))
  bounds = []
  for k in (1, 4, 16, 64):
    # Of the same draws: the mean over disjoint groups of k of the 64.
    grouped = weights.reshape(64 // k, k, -1)
    bounds.append(jax.vmap(variational.iwae)(grouped).mean(axis=0))
  np.testing.assert_allclose(bounds[0], weights.mean(axis=0), atol=1e-5)
  for less, more in zip(bounds, bounds[1:], strict=False):
    gain = more - less
    assert (gain > -1e-5).all()  # Jensen, example by example
    assert gain.mean() > 4 * gain.std() / math.sqrt(len(gain))
  assert EVIDENCE - 0.01 < bounds[-1].mean() < EVIDENCE


def gradients(k, estimator, num, key=0):
  """[num, 2] gradients of the bound of k draws in the posterior's two parameters."""

  def bound(q, noise):
    z = draws(q, noise)[:, None]
    if estimator == 'plain':
      return variational.iwae(log_weights(q, z))[0]
    fixed = jax.lax.stop_gradient(q)
    if estimator == 'dreg':
      weights = variational.normalized_weights(log_weights(fixed, z))
      z = variational.scaled_gradient(z, weights)
    return variational.iwae(log_weights(q, z, fixed))[0]

  noise = jax.random.normal(jax.random.key(key), (num, k))
  one = jax.grad(bound)
  q = jnp.array(Q)
  return np.asarray(jax.jit(jax.vmap(lambda n: one(q, n)))(noise), np.float64)


def differ(a, b):
  """By how many standard errors two means differ, [2]; of paired draws."""
  gap = a - b
  return np.abs(gap.mean(0)) / (gap.std(0) / math.sqrt(len(gap)))


def test_estimators_agree_where_they_are_unbiased_and_nowhere_else():
  plain, dreg, stl = (gradients(1, e, 40_000) for e in ('plain', 'dreg', 'stl'))
  np.testing.assert_allclose(dreg, stl, rtol=1e-4, atol=1e-5)  # one weight, which is 1
  assert (differ(plain, stl) < 4).all()
  # The ELBO's gradient in closed form: that of KL(q || posterior), downwards.
  ratio = math.exp(Q[1] - POSTERIOR[1])
  exact = np.array([-2 * (Q[0] - POSTERIOR[0]), 1 - ratio**2])
  assert (np.abs(stl.mean(0) - exact) < 4 * stl.std(0) / 200).all()
  plain, dreg, stl = (gradients(5, e, 100_000) for e in ('plain', 'dreg', 'stl'))
  assert (differ(plain, dreg) < 4).all()
  assert (differ(plain, stl) > 20).all()


def test_dreg_has_a_hundredth_of_the_plain_variance_at_50_draws():
  plain, dreg = (gradients(50, e, 4000) for e in ('plain', 'dreg'))
  assert (dreg.var(0) < plain.var(0) / 100).all()
  assert (differ(plain, dreg) < 4).all()


def test_scaled_gradient_changes_no_value():
  z, scale = (
    jax.random.normal(jax.random.key(0), (3, 2, 4)),
    jnp.arange(6.0).reshape(3, 2),
  )
  found, pullback = jax.vjp(lambda z: variational.scaled_gradient(z, scale), z)
  assert (found == z).all()
  np.testing.assert_array_equal(pullback(jnp.ones_like(z))[0], scale[..., None] + 0 * z)


def test_free_bits_cost_their_minimum_and_have_no_gradient():
  each = jnp.array([[0.1, 2.0], [0.3, 4.0]])
  found, gradient = jax.value_and_grad(variational.free_bits)(each, minimum=0.5)
  np.testing.assert_allclose(found, 0.5 + 3.0)
  np.testing.assert_allclose(gradient, [[0, 0.5], [0, 0.5]])
  assert variational.free_bits(each, minimum=0.0) == each.mean(0).sum()


def posteriors(num, *, std=0.5, correlation=0.6):
  """Means and log deviations whose aggregate is a correlated Gaussian."""
  cov = np.array([[1.0, correlation], [correlation, 1.0]]) - std**2 * np.eye(2)
  mean = np.random.default_rng(0).multivariate_normal([0, 0], cov, num).astype('f4')
  log_std = np.full_like(mean, math.log(std))
  noise = np.random.default_rng(1).normal(size=mean.shape).astype('f4')
  return jnp.array(mean + std * noise), jnp.array(mean), jnp.array(log_std)


def test_parts_of_the_kl_of_a_gaussian_aggregate():
  num, std, correlation = 2000, 0.5, 0.6
  z, mean, log_std = posteriors(num, std=std, correlation=correlation)
  found = variational.decomposed_kl(z, mean, log_std, num_train=num, stratified=True)
  total = log_prob(mean, log_std, z) - log_prob(0.0, 0.0, z)
  np.testing.assert_allclose(sum(found), total.sum(-1), rtol=1e-4, atol=1e-4)
  # The aggregate is N(0, C) with unit variances: its parts in closed form.
  rest = 1 - correlation**2
  exact = -0.5 * math.log(rest)
  information = 0.5 * math.log(rest) - 2 * math.log(std)
  error = [part.std() / math.sqrt(num) for part in found]
  assert abs(found.total_correlation.mean() - exact) < 4 * error[1] + 0.01
  assert abs(found.mutual_information.mean() - information) < 4 * error[0] + 0.01
  assert abs(found.dimension_wise_kl.mean()) < 4 * error[2] + 0.01


def test_stratified_aggregate_is_unbiased_in_batches_and_the_weighted_one_is_low():
  num, batch = 200, 10
  z, mean, log_std = posteriors(num)
  of_all = jnp.exp(log_prob(mean, log_std, z[:1, None]).sum(-1)).mean()

  def aggregate(index, stratified):
    """q(z_0), estimated from a batch that has example 0 in front."""
    parts = variational.decomposed_kl(
      z[index], mean[index], log_std[index], num_train=num, stratified=stratified
    )
    own = log_prob(mean[0], log_std[0], z[0]).sum(-1)
    return jnp.exp(own - parts.mutual_information[0])

  def estimates(stratified):
    def one(key):
      others = jax.random.choice(key, num - 1, (batch - 1,), replace=False) + 1
      return aggregate(jnp.concatenate([jnp.zeros(1, int), others]), stratified)

    return jax.lax.map(one, jax.random.split(jax.random.key(0), 4000), batch_size=500)

  values = estimates(True)
  assert abs(values.mean() - of_all) < 4 * values.std() / math.sqrt(len(values))
  assert estimates(False).mean() < 0.1 * of_all


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: variational.iwae(jnp.zeros((0, 3))), 'K >= 1'),
    (lambda: variational.iwae(jnp.zeros(3)), r'log_weights must be \[K, B\]'),
    (lambda: variational.elbo(jnp.zeros(3), jnp.zeros((3, 1))), 'kl must be'),
    (lambda: variational.standard_normal_kl(jnp.zeros((2, 3)), jnp.zeros(2)), 'one'),
    (lambda: variational.free_bits(jnp.zeros((2, 3)), minimum=-1.0), 'minimum'),
    (lambda: variational.scaled_gradient(jnp.zeros((2, 3, 1)), jnp.zeros((3, 2))),
     'scale must be'),
    (lambda: variational.decomposed_kl(*[jnp.zeros((4, 2))] * 3, num_train=3),
     'at least the batch size'),
  ],
)  # fmt: skip
def test_what_makes_no_sense_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
