"""Variational auto-encoders against exact evidence, and priors and objectives apart."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rows.variational import networks
from scipy import stats

from gm_jax import amortized, base, latent_priors, observations
from gm_jax.methods import beta_tcvae, iwae, vae
from gm_jax.models import latent

# z ~ N(0, I) in the plane, x | z ~ N(W z, 0.5^2 I) in space.
W = np.array([[1.0, 0.3], [-0.4, 0.8], [0.2, -1.1]])
STD = 0.5
COVARIANCE = W @ W.T + STD**2 * np.eye(3)
X = jnp.asarray(
  np.random.default_rng(0).multivariate_normal(np.zeros(3), COVARIANCE, 6)
)
EXACT = stats.multivariate_normal(np.zeros(3), COVARIANCE).logpdf(X)
# W's columns made orthogonal, the posterior is diagonal: its precision is P.
U, S, _ = np.linalg.svd(W, full_matrices=False)
DIAGONAL = U * S
PRECISION = 1 + (S / STD) ** 2


class Plain(nn.Module):
  """A dense layer that takes `train`."""

  size: int
  use_bias: bool = True

  @nn.compact
  def __call__(self, x, *, train=False):
    del train
    return nn.Dense(self.size, self.use_bias)(x)


def linear_networks(prior=None):
  return amortized.Networks(
    latent.Encoder(Plain(4)), latent.Decoder(Plain(3, False), (3,)),
    prior or latent_priors.normal(2), observations.fixed_gaussian(STD),
  )  # fmt: skip


def model(shift=0.0, log_std=0.0):
  """The exact posterior, its mean moved and its deviation multiplied."""
  to_mean = DIAGONAL / STD**2 / PRECISION
  kernel = np.concatenate([to_mean, np.zeros((3, 2))], axis=1)
  bias = np.concatenate([[shift] * 2, -0.5 * np.log(PRECISION) + log_std])
  dense = {'kernel': jnp.asarray(kernel), 'bias': jnp.asarray(bias)}
  params = {
    'encoder': {'body': {'Dense_0': dense}},
    'decoder': {'body': {'Dense_0': {'kernel': jnp.asarray(DIAGONAL.T)}}},
  }
  return base.Model(jax.tree.map(lambda a: a.astype(jnp.float32), params), {})


def test_the_elbo_is_exact_at_the_posterior_but_for_its_draw_and_iwae_without():
  method = vae.vae(linear_networks(), optax.sgd(0.1))
  key = jax.random.key(0)
  for num in (1, 7):  # every weight is p(x)
    found = method.queries['iwae'](model(), key, X, num_samples=num)
    np.testing.assert_allclose(found, EXACT, rtol=1e-4)
  elbo = jax.vmap(lambda k: method.queries['elbo'](model(), k, X))
  draws = np.asarray(elbo(jax.random.split(key, 2000)))
  error = draws.std(axis=0) / math.sqrt(2000)
  assert (np.abs(draws.mean(axis=0) - EXACT) < 4 * error).all() and (error > 0).all()


def test_bounds_of_a_wrong_posterior_are_below_by_its_divergence():
  method, shift, log_std = vae.vae(linear_networks(), optax.sgd(0.1)), 0.3, 0.4
  wrong, key = model(shift, log_std), jax.random.key(1)
  gap = 0.5 * (math.exp(2 * log_std) - 1) - log_std + 0.5 * shift**2 * PRECISION
  elbo = jax.vmap(lambda k: method.queries['elbo'](wrong, k, X))
  draws = np.asarray(elbo(jax.random.split(key, 4000)))
  error = draws.std(axis=0) / math.sqrt(4000)
  assert (np.abs(draws.mean(axis=0) + gap.sum() - EXACT) < 4 * error).all()
  many = method.queries['iwae'](wrong, key, X, num_samples=3000)
  np.testing.assert_allclose(many, EXACT, atol=0.1)
  few = method.queries['iwae'](wrong, key, jnp.tile(X, (500, 1)), num_samples=3)
  few = few.reshape(500, 6).mean(axis=0)
  assert (draws.mean(axis=0) < few).all() and (few < EXACT).all()


@pytest.mark.slow
def test_annealed_importance_sampling_from_a_wrong_posterior_finds_the_evidence():
  method = vae.vae(linear_networks(), optax.sgd(0.1))
  found, error = method.queries['log_prob_estimate'](
    model(0.8, 0.5), jax.random.key(0), X, num_steps=200, num_leapfrog=5
  )
  assert (np.abs(found - EXACT) < 4 * error + 0.02).all() and (error < 0.1).all()
  z = jnp.asarray([[0.3, -1.0]])
  log_p = method.queries['log_prior'](model(), jax.random.key(0), z)
  np.testing.assert_allclose(
    log_p, stats.norm.logpdf(np.asarray(z)).sum(axis=1), rtol=1e-5
  )
  drawn = method.queries['prior'](model(), jax.random.key(0), 2000)
  assert stats.kstest(np.asarray(drawn).ravel(), stats.norm.cdf).pvalue > 0.001


def test_queries_are_those_of_the_known_model():
  method = vae.vae(linear_networks(), optax.sgd(0.1))
  key, mean = jax.random.key(0), np.asarray(X) @ DIAGONAL / STD**2 / PRECISION
  q = method.queries['posterior'](model(), key, X)
  np.testing.assert_allclose(q.mean, mean, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(np.exp(-2 * q.log_std), [PRECISION] * 6, rtol=1e-4)
  np.testing.assert_array_equal(method.queries['encode'](model(), key, X), q.mean)
  again = method.queries['reconstruct'](model(), key, X)
  np.testing.assert_allclose(again, mean @ DIAGONAL.T, rtol=1e-4, atol=1e-5)
  samples = np.asarray(method.sample(model(), key, 20_000))
  error = 5 * COVARIANCE.diagonal().max() / math.sqrt(20_000)
  np.testing.assert_allclose(np.cov(samples.T), COVARIANCE, atol=error)
  means = np.asarray(method.sample(model(), key, 20_000, mean=True))
  np.testing.assert_allclose(np.cov(means.T), W @ W.T, atol=error)


def gradients(estimator, num_draws, num=3000):
  """[num] gradients of the loss by the parameters of a wrong posterior, flat."""
  net = linear_networks()
  wrong = model(0.3, 0.4)

  def loss(params, key):
    drawn = amortized.draws(
      net, params, {}, key, X[:1], None, num=num_draws, train=True
    )
    return -estimator(drawn)[0].mean()

  keys = jax.random.split(jax.random.key(3), num)
  found = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(wrong.params, keys)
  return {
    name: np.concatenate([a.reshape(num, -1) for a in jax.tree.leaves(part)], axis=1)
    for name, part in found.items()
  }


def distance(a, b):
  """By how many standard errors the means of paired gradients differ at most."""
  gap = a - b
  error = gap.std(axis=0) / math.sqrt(len(gap))
  return (np.abs(gap.mean(axis=0)) / np.where(error > 1e-7, error, np.inf)).max()


def test_estimators_agree_in_the_method_as_they_do_by_themselves():
  plain, dreg, stl = (
    gradients(e, 5)
    for e in (iwae.plain, iwae.doubly_reparameterized, iwae.sticking_the_landing)
  )
  for other in (dreg, stl):  # the decoder's gradient is the bound's own
    np.testing.assert_allclose(other['decoder'], plain['decoder'], rtol=1e-3, atol=1e-4)
  assert distance(plain['encoder'], dreg['encoder']) < 4.5
  assert distance(plain['encoder'], stl['encoder']) > 8
  elbo, one = gradients(vae.objective(), 1), gradients(iwae.plain, 1)
  assert distance(elbo['encoder'], one['encoder']) < 4.5


def test_a_prior_of_one_standard_component_is_the_standard_prior_by_draws():
  prior = latent_priors.mixture(2, 1)
  params = {'logits': jnp.zeros(1), 'mean': jnp.zeros((1, 2))}
  params['log_std'] = jnp.zeros((1, 2))
  z = jax.random.normal(jax.random.key(0), (50, 2))
  found = prior.log_prob(params, None, z)
  np.testing.assert_allclose(found, stats.norm.logpdf(z).sum(axis=1), rtol=1e-5)
  wrong = model(0.3, 0.4)
  net = linear_networks(prior)
  by_draws = amortized.draws(
    net, {**wrong.params, 'prior': params}, {}, jax.random.key(1), X, None, num=20_000,
    train=False,
  )  # fmt: skip
  terms = by_draws.terms(by_draws.z)
  exact = latent_priors.normal(2).kl_each(by_draws.q).sum(axis=1)
  each = terms.log_posterior - terms.log_prior
  error = each.std(axis=0) / math.sqrt(20_000)
  assert (jnp.abs(amortized.prior_term(by_draws, terms) - exact) < 4 * error).all()


def test_mixtures_have_the_density_of_their_formula_and_draw_it():
  prior = latent_priors.mixture(1, 3)
  params = {
    'logits': jnp.log(jnp.array([0.5, 0.3, 0.2])),
    'mean': jnp.array([[-2.0], [0.0], [1.0]]),
    'log_std': jnp.log(jnp.array([[0.5], [1.0], [0.2]])),
  }
  at = np.linspace(-4, 4, 9)
  expected = sum(
    w * stats.norm(m, s).pdf(at)
    for w, m, s in ((0.5, -2, 0.5), (0.3, 0, 1), (0.2, 1, 0.2))
  )
  found = prior.log_prob(params, None, jnp.asarray(at)[:, None])
  np.testing.assert_allclose(np.exp(found), expected, rtol=1e-4)
  z = np.asarray(prior.draw(params, None, jax.random.key(0), 20_000))[:, 0]

  def cdf(t):
    return sum(
      w * stats.norm(m, s).cdf(t)
      for w, m, s in ((0.5, -2, 0.5), (0.3, 0, 1), (0.2, 1, 0.2))
    )

  assert stats.kstest(z, cdf).pvalue > 0.001


def vamp(num):
  return latent_priors.vamp(1, (1,), num, low=-3.0, high=3.0, start=0.0, spread=1.0)


def narrow(inputs):
  return latent_priors.Gaussian(inputs, jnp.full_like(inputs, -4.0))


def test_the_vamp_prior_draws_its_components_uniformly_and_not_the_first():
  params = {'pseudo_inputs': jnp.arange(-2.0, 3.0)[:, None]}
  z = np.asarray(vamp(5).draw(params, narrow, jax.random.key(0), 1000))
  counts = np.bincount(np.round(z[:, 0]).astype(int) + 2, minlength=5)
  assert stats.chisquare(counts).pvalue > 0.001
  few = np.asarray(vamp(5).draw(params, narrow, jax.random.key(1), 5))
  assert len(set(np.round(few[:, 0]))) < 5  # not each of the first five


def test_the_vamp_prior_is_the_mean_of_posteriors_within_the_data_s_range():
  params = {'pseudo_inputs': jnp.array([[0.5], [7.0]])}  # the second is cut to 3
  at = jnp.array([[0.49], [3.01], [0.0]])
  s = math.exp(-4.0)
  expected = 0.5 * sum(stats.norm(m, s).pdf(np.asarray(at)[:, 0]) for m in (0.5, 3.0))
  found = vamp(2).log_prob(params, narrow, at)
  np.testing.assert_allclose(found, np.log(expected), rtol=1e-3)


def test_total_correlation_of_weight_one_is_the_elbo_by_the_draw():
  net, wrong = linear_networks(), model(0.3, 0.4)
  drawn = amortized.draws(
    net, wrong.params, {}, jax.random.key(0), X, None, num=1, train=True
  )
  one, terms, parts = beta_tcvae.objective(num_train=100, beta=1.0)(drawn)
  np.testing.assert_allclose(one, terms.log_weights[0], rtol=1e-4)
  found, *_ = beta_tcvae.objective(num_train=100, alpha=2.0, beta=5.0, gamma=3.0)(drawn)
  expected = terms.log_likelihood[0] - (
    2 * parts['mutual_information']
    + 5 * parts['total_correlation']
    + 3 * parts['dimension_wise_kl']
  )
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_beta_and_free_bits_weigh_the_prior_term():
  net, wrong = linear_networks(), model(0.3, 0.4)
  drawn = amortized.draws(
    net, wrong.params, {}, jax.random.key(0), X, None, num=1, train=True
  )
  plain, terms, _ = vae.objective()(drawn)
  kl = latent_priors.normal(2).kl_each(drawn.q)
  np.testing.assert_allclose(plain, terms.log_likelihood[0] - kl.sum(1), rtol=1e-5)
  four, *_ = vae.objective(beta=4.0)(drawn)
  np.testing.assert_allclose(four, terms.log_likelihood[0] - 4 * kl.sum(1), rtol=1e-5)
  least = float(kl.mean(axis=0).max()) + 1.0
  free, *_ = vae.objective(minimum=least)(drawn)
  np.testing.assert_allclose(free, terms.log_likelihood[0] - 2 * least, rtol=1e-5)


def test_training_on_linear_data_reaches_the_entropy():
  method = vae.vae(linear_networks(), optax.adam(3e-2))
  rng = np.random.default_rng(1)
  x = rng.multivariate_normal(np.zeros(3), COVARIANCE, (1500, 64)).astype(np.float32)
  state = method.init(jax.random.key(0), {'x': jnp.asarray(x[0])})

  def step(state, x):
    return method.step(state, jax.random.fold_in(jax.random.key(1), state.step), x)

  state, metrics = jax.jit(lambda s, x: jax.lax.scan(step, s, {'x': x}))(
    state, jnp.asarray(x)
  )
  entropy = stats.multivariate_normal(np.zeros(3), COVARIANCE).entropy()
  last = metrics['loss'][-500:]  # maximum likelihood has the data's covariance
  assert abs(last.mean() - entropy) < 4 * last.std() / math.sqrt(500) + 0.02


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: vae.vae(networks(), optax.sgd(0.1), num_draws=0), 'num_draws must be'),
    (lambda: vae.objective(beta=0.0), 'beta must be > 0'),
    (lambda: vae.objective(minimum=-1.0), 'minimum >= 0'),
    (lambda: beta_tcvae.objective(num_train=9, alpha=-1.0), 'weights must be >= 0'),
    (lambda: beta_tcvae.beta_tcvae(networks(prior=vamp(2)), optax.sgd(0.1)), 'N(0, I)'),
    (lambda: latent_priors.mixture(2, 0), 'num_components must be >= 1'),
    (lambda: latent_priors.vamp(
      2, (3,), 4, low=0.0, high=1.0, start=2.0, spread=1.0), 'start must be in'),
    (lambda: observations.fixed_gaussian(0.0), 'std must be > 0'),
    (lambda: vae.vae(
      networks(prior=latent_priors.normal(3)), optax.sgd(0.1)).init(
        jax.random.key(0), {'x': jnp.zeros((2, 2))}), 'the encoder must give [B, 6]'),
    (lambda: vae.vae(
      networks(observation=observations.fixed_gaussian(1.0)), optax.sgd(0.1)).init(
        jax.random.key(0), {'x': jnp.zeros((2, 2))}), 'the decoder must give [B, 2]'),
  ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(call, message):
  with pytest.raises(ValueError) as error:
    call()
  assert message in str(error.value) and '\n' not in str(error.value)
