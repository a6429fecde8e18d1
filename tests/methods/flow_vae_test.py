"""Flows as posterior and prior of a VAE, against exact evidence."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from gm_jax import amortized, base, bijectors, latent_priors, monotone, observations
from gm_jax.methods import beta_tcvae, vae
from gm_jax.models import latent, mlp

# z ~ N(0, I) in the plane, x | z ~ N(W z, 0.5^2 I): the posterior's precision has
# entries off the diagonal, so that no diagonal Gaussian is exact.
W = np.array([[1.0, 0.3], [-0.4, 0.8], [0.2, -1.1]])
STD = 0.5
PRECISION = np.eye(2) + W.T @ W / STD**2
ROOT = np.linalg.cholesky(PRECISION).T  # noise = ROOT (z - mean)
X = np.random.default_rng(0).normal(size=(6, 3)) * 1.5
EXACT = stats.multivariate_normal(np.zeros(3), W @ W.T + STD**2 * np.eye(3)).logpdf(X)
PSEUDO = latent_priors.vamp(2, (3,), 4, low=-1.0, high=1.0, start=0.0, spread=1.0)


def triangular():
  """z -> ROOT z, by a parameter."""

  def run(matrix, x):
    log_det = jnp.linalg.slogdet(matrix)[1]
    return x @ matrix.T, jnp.full(len(x), log_det, x.dtype)

  return bijectors.Bijection(
    lambda key, x, condition=None: jnp.eye(x.shape[-1]),
    lambda params, x, condition=None: run(params, x),
    lambda params, z, condition=None: run(jnp.linalg.inv(params), z),
  )


def networks(**changes):
  return amortized.Networks(**{
    'encoder': latent.Encoder(mlp.MLP((4,))),
    'decoder': latent.Decoder(mlp.MLP((3,), use_bias=False), (3,)),
    'prior': latent_priors.normal(2),
    'observation': observations.fixed_gaussian(STD),
    'flow': triangular(),
    **changes,
  })  # fmt: skip


def exact_model():
  """The Gaussian that the exact posterior is of, and the map that makes it that."""
  to_mean = ROOT @ np.linalg.inv(PRECISION) @ W.T / STD**2
  kernel = np.concatenate([to_mean.T, np.zeros((3, 2))], axis=1)
  dense = {'kernel': kernel, 'bias': np.zeros(4)}
  params = {
    'encoder': {'body': {'Dense_0': dense}},
    'decoder': {'body': {'Dense_0': {'kernel': W.T}}},
    'posterior': ROOT,
  }
  return base.Model(jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params), {})


def with_pseudo_inputs():
  params = {**exact_model().params, 'prior': PSEUDO.init(jax.random.key(0))}
  return base.Model(params, {})


def test_every_weight_is_the_evidence_where_the_flow_is_the_posterior():
  method, x = vae.vae(networks(), optax.sgd(0.1)), jnp.asarray(X, jnp.float32)
  for num in (1, 5):
    found = method.queries['iwae'](exact_model(), jax.random.key(1), x, num_samples=num)
    np.testing.assert_allclose(found, EXACT, rtol=1e-4)
  # The prior term is of the draw: there is no closed form, and the bound has no noise.
  found = method.queries['elbo'](exact_model(), jax.random.key(1), x)
  np.testing.assert_allclose(found, EXACT, rtol=1e-4)
  center = method.queries['encode'](exact_model(), jax.random.key(1), x)
  mean = X @ W @ np.linalg.inv(PRECISION) / STD**2
  np.testing.assert_allclose(center, mean, atol=1e-4)
  assert 'posterior' not in method.queries


def test_parameters_of_the_posterior_learn_and_are_constants_where_fixed():
  net, x = networks(), jnp.asarray(X, jnp.float32)
  model = exact_model()

  def bound(params, fixed):
    drawn = amortized.draws(
      net, params, {}, jax.random.key(0), x, None, num=3, train=False
    )
    z = jax.lax.stop_gradient(drawn.z)
    return drawn.terms(z, fixed).log_posterior.sum()

  for fixed in (False, True):
    grad = jax.grad(bound)(model.params, fixed)['posterior']
    assert (np.abs(grad).max() > 1e-3) != fixed


def test_a_flow_prior_has_the_density_of_its_map_and_draws_it():
  """Of an affine map: N(-t exp(-s), exp(-s)^2)."""
  prior = latent_priors.flow(2, bijectors.elementwise(monotone.affine()))
  log_scale, shift = np.array([0.4, -0.6]), np.array([1.0, 0.5])
  raw = 3.0 * np.arctanh(log_scale / 3.0)
  params = {'flow': jnp.asarray(np.stack([raw, shift], axis=-1), jnp.float32)}
  std, mean = np.exp(-log_scale), -shift * np.exp(-log_scale)
  z = np.random.default_rng(1).normal(size=(20, 2))
  found = prior.log_prob(params, None, jnp.asarray(z, jnp.float32))
  np.testing.assert_allclose(
    found, stats.norm.logpdf(z, mean, std).sum(axis=1), rtol=1e-4
  )
  drawn = np.asarray(prior.draw(params, None, jax.random.key(2), 20_000))
  np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=5 * std.max() / 141)
  np.testing.assert_allclose(drawn.std(axis=0), std, rtol=0.03)


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: beta_tcvae.beta_tcvae(networks(), optax.sgd(0.1)), 'a Gaussian posterior'),
    (
      lambda: vae.vae(networks(prior=PSEUDO), optax.sgd(0.1)).queries['prior'](
        with_pseudo_inputs(), jax.random.key(0), 3
      ),
      'a prior made of posteriors needs them to be Gaussian',
    ),
  ],
)  # fmt: skip
def test_what_needs_a_gaussian_posterior_says_so(make, message):
  with pytest.raises(ValueError, match=message):
    make()
