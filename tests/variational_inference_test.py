"""Variational inference against closed forms, enumeration, urns and Monte Carlo."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import integrate, stats

from gm_jax import latent_priors
from gm_jax.variational_inference import amortization, linear_gaussian, topics

rng = np.random.default_rng(0)
WEIGHTS = rng.normal(size=(5, 3))
STD = 0.7
X = rng.normal(size=(4, 5)) * 2.0
ALPHA = np.array([0.3, 1.0, 2.5])
EMISSION = rng.dirichlet(np.ones(6), size=3)
DOCUMENTS = rng.integers(0, 6, (4, 5))
# Compiled whole: op by op they cost many times more.
EVIDENCE, POSTERIOR, ELBO, KL = map(
  jax.jit, (topics.evidence, topics.posterior, topics.elbo, topics.kl)
)
ASCENT = jax.jit(topics.ascent, static_argnames='num_sweeps')


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def model():
  bias = jnp.linspace(-1.0, 1.0, 5)
  return linear_gaussian.LinearGaussian(jnp.array(WEIGHTS), bias, STD)


def some_q():
  """Gaussians of any covariance, another one for each example."""
  lower = np.tril(rng.normal(size=(4, 3, 3)), -1)
  scale = lower + np.exp(0.3 * rng.normal(size=(4, 3)))[..., None] * np.eye(3)
  return linear_gaussian.Gaussian(jnp.array(rng.normal(size=(4, 3))), jnp.array(scale))


def joint():
  """The joint Gaussian of (z, x), by numpy: mean and covariance [8, 8]."""
  mean = np.concatenate([np.zeros(3), np.linspace(-1, 1, 5)])
  loading = np.concatenate([np.eye(3), WEIGHTS])
  noise = np.diag([0.0] * 3 + [STD**2] * 5)
  return mean, loading @ loading.T + noise


def test_evidence_and_posterior_are_those_of_the_joint_gaussian():
  mean, cov = joint()
  expected = stats.multivariate_normal(mean[3:], cov[3:, 3:]).logpdf(X)
  evidence = jax.jit(linear_gaussian.evidence)(model(), X)
  np.testing.assert_allclose(evidence, expected, rtol=1e-12)
  gain = cov[:3, 3:] @ np.linalg.inv(cov[3:, 3:])
  found = linear_gaussian.posterior(model(), X)
  np.testing.assert_allclose(found.mean, (X - mean[3:]) @ gain.T, rtol=1e-10)
  conditional = cov[:3, :3] - gain @ cov[3:, :3]
  np.testing.assert_allclose(found.scale @ found.scale.T, conditional, atol=1e-12)


def test_evidence_is_its_bound_and_the_divergence_for_any_gaussian():
  q, exact = some_q(), linear_gaussian.posterior(model(), X)
  evidence = linear_gaussian.evidence(model(), X)
  for one in (q, exact, linear_gaussian.mean_field(model(), X)):
    bound = linear_gaussian.elbo(model(), one, X)
    gap = linear_gaussian.kl(one, exact)
    np.testing.assert_allclose(bound + gap, evidence, rtol=1e-12)
  np.testing.assert_allclose(gap[0], gap, rtol=1e-10)  # the mean field's, of any x
  assert (linear_gaussian.kl(q, exact) > 0.1).all()
  np.testing.assert_allclose(linear_gaussian.kl(exact, exact), 0, atol=1e-12)


def test_elbo_is_its_definition_by_monte_carlo():
  q, num = some_q(), 200_000
  noise = np.random.default_rng(1).normal(size=(num, 1, 3))
  scale = np.asarray(q.scale)
  z = np.asarray(q.mean) + np.einsum('bij,nbj->nbi', scale, np.broadcast_to(
    noise, (num, 4, 3)))  # fmt: skip
  log_q = stats.norm.logpdf(noise).sum(-1) - np.log(
    np.diagonal(scale, axis1=1, axis2=2)
  ).sum(-1)
  x_mean = z @ WEIGHTS.T + np.linspace(-1, 1, 5)
  log_p = stats.norm.logpdf(z).sum(-1) + stats.norm(x_mean, STD).logpdf(X).sum(-1)
  each = log_p - log_q
  found = linear_gaussian.elbo(model(), q, X)
  assert (abs(each.mean(0) - found) < 4 * each.std(0) / math.sqrt(num)).all()


def test_kl_of_gaussians_is_its_integral_and_that_of_independent_ones():
  q, p = (linear_gaussian.Gaussian(jnp.array([[m]]), jnp.array([[s]]))
          for m, s in ((0.5, 0.8), (-0.3, 1.7)))  # fmt: skip
  a, b = stats.norm(0.5, 0.8), stats.norm(-0.3, 1.7)
  integral = integrate.quad(
    lambda z: a.pdf(z) * (a.logpdf(z) - b.logpdf(z)), -10, 10, points=[0.5]
  )[0]
  np.testing.assert_allclose(linear_gaussian.kl(q, p), [integral], rtol=1e-9)
  # In other coordinates, which correlate the dimensions, it is the same number.
  turn = jnp.array(np.tril(rng.normal(size=(3, 3))) + 3 * np.eye(3))
  q, p = some_q(), some_q()
  turned = [
    linear_gaussian.Gaussian(one.mean @ turn.T, turn @ one.scale) for one in (q, p)
  ]
  np.testing.assert_allclose(
    linear_gaussian.kl(*turned), linear_gaussian.kl(q, p), rtol=1e-10
  )


def test_gaussian_ascent_never_falls_and_ends_in_the_closed_form():
  ascend = jax.jit(functools.partial(linear_gaussian.ascent, num_sweeps=200))
  q, elbos = ascend(model(), X)
  assert elbos.shape == (201, 4)
  assert (np.diff(elbos, axis=0) > -1e-11).all() and (elbos[1] > elbos[0]).all()
  exact = linear_gaussian.posterior(model(), X)
  precision = np.linalg.inv(exact.scale @ exact.scale.T)
  np.testing.assert_allclose(q.mean, exact.mean, atol=1e-8)
  variances = np.diag(q.scale @ q.scale.T)
  np.testing.assert_allclose(variances, 1 / np.diag(precision), rtol=1e-10)
  assert (variances < np.diag(exact.scale @ exact.scale.T)).all()
  fixed = linear_gaussian.mean_field(model(), X)
  np.testing.assert_allclose(elbos[-1], linear_gaussian.elbo(model(), fixed, X))
  # The gap in closed form: half the logarithm of prod P_ii / |P|.
  gap = (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1]) / 2
  np.testing.assert_allclose(linear_gaussian.evidence(model(), X) - elbos[-1], gap)


def test_one_sweep_is_the_gauss_seidel_iteration():
  q, _ = linear_gaussian.ascent(model(), X, num_sweeps=1)
  precision = np.eye(3) + WEIGHTS.T @ WEIGHTS / STD**2
  linear = (X - np.linspace(-1, 1, 5)) @ WEIGHTS / STD**2
  lower = np.tril(precision)  # the rest meets the mean before, which is 0
  np.testing.assert_allclose(q.mean.T, np.linalg.solve(lower, linear.T), rtol=1e-10)


def topic_model():
  return topics.TopicModel(jnp.array(ALPHA), jnp.array(EMISSION))


def urn(word_counts, alpha):
  """ln P of one sequence of a Polya urn, by its draws one after another."""
  balls, total = np.array(alpha, float), 0.0
  for k, count in enumerate(word_counts):
    for _ in range(count):
      total += math.log(balls[k] / balls.sum())
      balls[k] += 1
  return total


def test_evidence_of_words_that_name_their_component_is_the_urns():
  x = np.array([[0, 0, 2, 1], [2, 2, 2, 2]])
  pure = topics.TopicModel(jnp.array(ALPHA), jnp.eye(3))
  expected = [urn(np.bincount(row, minlength=3), ALPHA) for row in x]
  np.testing.assert_allclose(EVIDENCE(pure, x), expected, rtol=1e-12)
  posterior = POSTERIOR(pure, x)  # one assignment alone
  np.testing.assert_allclose(posterior.max(axis=1), 1.0, rtol=1e-12)
  # The mean field knows it as well, and is exact.
  q, elbos = ASCENT(pure, jnp.array(x), num_sweeps=2)
  np.testing.assert_allclose(elbos[-1], expected, rtol=1e-12)
  np.testing.assert_allclose(KL(pure, q, x), 0, atol=1e-12)


def test_evidence_of_one_word_is_the_mean_emission():
  x = np.arange(6)[:, None]
  expected = np.log(ALPHA / ALPHA.sum() @ EMISSION)
  np.testing.assert_allclose(EVIDENCE(topic_model(), x), expected, rtol=1e-12)
  posterior = POSTERIOR(topic_model(), x)
  np.testing.assert_allclose(
    posterior, (ALPHA[:, None] * EMISSION).T / (ALPHA @ EMISSION)[:, None], rtol=1e-12
  )


def test_evidence_sums_to_one_over_all_documents():
  x = np.array(list(itertools.product(range(6), repeat=3)))
  total = np.exp(EVIDENCE(topic_model(), x)).sum()
  np.testing.assert_allclose(total, 1.0, rtol=1e-12)


def test_evidence_is_the_mean_likelihood_of_drawn_mixtures():
  theta = np.random.default_rng(2).dirichlet(ALPHA, size=400_000)
  likelihood = (theta @ EMISSION)[:, DOCUMENTS].prod(axis=-1)  # given theta, z is gone
  mean = likelihood.mean(0)
  error = likelihood.std(0) / math.sqrt(len(theta))
  evidence = EVIDENCE(topic_model(), DOCUMENTS)
  assert (abs(np.exp(evidence) - mean) < 4 * error).all()
  assert (error < 0.01 * mean).all()


def test_evidence_is_its_bound_and_the_divergence_for_any_mean_field():
  q = topics.MeanField(
    jnp.array(rng.gamma(2.0, size=(4, 3))),
    jnp.array(rng.dirichlet(np.ones(3), size=(4, 5))),
  )
  ascended, _ = ASCENT(topic_model(), jnp.array(DOCUMENTS), num_sweeps=300)
  evidence = EVIDENCE(topic_model(), DOCUMENTS)
  for one in (q, ascended):
    bound = ELBO(topic_model(), one, jnp.array(DOCUMENTS))
    gap = KL(topic_model(), one, jnp.array(DOCUMENTS))
    np.testing.assert_allclose(bound + gap, evidence, rtol=1e-12)
    assert (gap > 1e-3).all()


def test_topic_elbo_is_its_definition_by_monte_carlo():
  gamma, phi = np.array([1.5, 0.8, 2.0]), rng.dirichlet(np.ones(3), size=5)
  draw, num = np.random.default_rng(3), 200_000
  theta = draw.dirichlet(gamma, size=num)
  z = np.stack([draw.choice(3, size=num, p=row) for row in phi], axis=1)
  word = DOCUMENTS[0]
  log_p = stats.dirichlet(ALPHA).logpdf(theta.T)
  log_p = log_p + np.log(np.take_along_axis(theta, z, axis=1) * EMISSION[z, word]).sum(
    1
  )
  log_q = stats.dirichlet(gamma).logpdf(theta.T) + np.log(phi[np.arange(5), z]).sum(1)
  each = log_p - log_q
  q = topics.MeanField(jnp.array(gamma)[None], jnp.array(phi)[None])
  found = ELBO(topic_model(), q, DOCUMENTS[:1])[0]
  assert abs(each.mean() - found) < 4 * each.std() / math.sqrt(num)


def test_topic_ascent_never_falls_and_ends_where_each_factor_is_its_optimum():
  q, elbos = ASCENT(topic_model(), jnp.array(DOCUMENTS), num_sweeps=300)
  assert (np.diff(elbos, axis=0) > -1e-12).all() and (elbos[1] > elbos[0]).all()
  gamma, phi = q
  np.testing.assert_allclose(gamma, ALPHA + phi.sum(axis=1), rtol=1e-12)

  def bound(gamma, logits):
    one = topics.MeanField(gamma, jax.nn.softmax(logits))
    return topics.elbo(topic_model(), one, DOCUMENTS).sum()

  for slope in jax.jit(jax.grad(bound, (0, 1)))(gamma, jnp.log(phi)):
    np.testing.assert_allclose(slope, 0, atol=1e-6)
  assert (elbos[-1] < EVIDENCE(topic_model(), DOCUMENTS)).all()


def test_dirichlet_kl_is_that_of_beta_distributions_by_quadrature():
  a, b = (1.7, 0.6), (0.9, 2.2)
  q, p = stats.beta(*a), stats.beta(*b)
  integral = integrate.quad(lambda t: q.pdf(t) * (q.logpdf(t) - p.logpdf(t)), 0, 1)[0]
  found = topics.dirichlet_kl(jnp.array(a), jnp.array(b))
  np.testing.assert_allclose(found, integral, rtol=1e-6)


def diagonal(q, key, x):
  """The closed ELBO of a diagonal q."""
  del key
  scale = jnp.exp(q.log_std)[..., None] * jnp.eye(3)
  return linear_gaussian.elbo(model(), linear_gaussian.Gaussian(q.mean, scale), x)


def log_likelihood(z, x):
  mean = z @ jnp.array(WEIGHTS).T + model().bias
  return jax.scipy.stats.norm.logpdf(jnp.asarray(x), mean, STD).sum(-1)


PRIOR = latent_priors.Gaussian(np.zeros((4, 3)), np.zeros((4, 3)))
TX = optax.adam(optax.cosine_decay_schedule(0.1, 500))


def test_gradient_ascent_of_each_example_is_the_mean_field():
  optimize = jax.jit(functools.partial(
    amortization.optimized, diagonal, tx=TX, num_steps=500
  ))  # fmt: skip
  q, elbos = optimize(PRIOR, jax.random.key(0), X)
  fixed = linear_gaussian.mean_field(model(), X)
  np.testing.assert_allclose(q.mean, fixed.mean, atol=1e-4)
  std = np.broadcast_to(np.diag(fixed.scale), (4, 3))
  np.testing.assert_allclose(np.exp(q.log_std), std, rtol=1e-4)
  assert elbos.shape == (500, 4)
  np.testing.assert_allclose(elbos[0], diagonal(PRIOR, None, X), rtol=1e-12)
  # No example knows of another, though the optimizer clips by a norm.
  clipped = functools.partial(
    amortization.optimized, diagonal, num_steps=5,
    tx=optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.1)),
  )  # fmt: skip
  together = clipped(PRIOR, jax.random.key(0), X)[0].mean
  one = jax.tree.map(lambda a: a[2:3], PRIOR)
  alone = clipped(one, jax.random.key(0), X[2:3])[0].mean
  np.testing.assert_allclose(together[2:3], alone, rtol=1e-10)


@functools.partial(jax.jit, static_argnums=(0, 1))
def gaps(elbo, measure, evidence):
  """Those of the prior in place of an encoder."""
  keys = jax.random.split(jax.random.key(0))
  best, _ = amortization.optimized(elbo, PRIOR, keys[0], X, tx=TX, num_steps=500)
  return amortization.gaps(measure, PRIOR, best, evidence, keys[1], X)


def test_gaps_of_an_encoder_are_the_divergences_in_closed_form():
  evidence = linear_gaussian.evidence(model(), X)
  exact = linear_gaussian.posterior(model(), X)
  family = linear_gaussian.kl(linear_gaussian.mean_field(model(), X), exact)
  found = gaps(diagonal, diagonal, evidence)
  prior = linear_gaussian.Gaussian(jnp.zeros((4, 3)), jnp.eye(3))
  np.testing.assert_allclose(found.approximation, family, rtol=1e-5)
  np.testing.assert_allclose(sum(found), linear_gaussian.kl(prior, exact), rtol=1e-10)
  assert (found.amortization > 1).all()


def test_elbo_by_draws_is_unbiased_and_its_gaps_are_near_the_closed_ones():
  q = latent_priors.Gaussian(*jnp.array(rng.normal(size=(2, 4, 3))) / 2)
  few, many = (
    amortization.monte_carlo_elbo(log_likelihood, num_draws=n) for n in (2, 4000)
  )
  keys = jax.random.split(jax.random.key(1), 5000)
  values = jax.jit(jax.vmap(lambda key: few(q, key, X)))(keys)
  error = values.std(0) / math.sqrt(len(keys))
  assert (abs(values.mean(0) - diagonal(q, None, X)) < 4 * error).all()
  evidence = linear_gaussian.evidence(model(), X)
  by_draws = gaps(few, many, evidence)
  closed = gaps(diagonal, diagonal, evidence)
  np.testing.assert_allclose(by_draws.approximation, closed.approximation, atol=0.2)
  np.testing.assert_allclose(by_draws.amortization, closed.amortization, rtol=0.05)


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: linear_gaussian.evidence(model(), X[:, :3]), r'x must be \[B, 5\]'),
    (lambda: linear_gaussian.evidence(model()._replace(std=0.0), X), 'std must be > 0'),
    (lambda: topics.evidence(topic_model(), DOCUMENTS + 1), 'from 0 to 5, got 6'),
    (lambda: topics.evidence(topic_model(), DOCUMENTS[0]), r'x must be \[B, N\]'),
    (lambda: topics.evidence(topic_model(), np.zeros((1, 13), int)), 'at most 1,000,0'),
    (lambda: topics.elbo(topic_model(), None, X), 'x must be integers'),
    (lambda: amortization.gaps(diagonal, PRIOR, PRIOR, jnp.zeros((4, 1)), None, X),
     'log_prob must be'),
  ],
)  # fmt: skip
def test_what_makes_no_sense_is_one_line(call, message):
  with pytest.raises(ValueError, match=message) as error:
    call()
  assert 'log_prob' in message or '\n' not in str(error.value)
