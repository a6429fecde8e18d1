"""A semi-supervised VAE whose every part is known: bounds against exact evidence."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rows.variational import networks
from scipy import special, stats

from gm_jax import amortized, base, conditions, latent_priors, observations
from gm_jax.methods import semi_supervised_vae
from gm_jax.models import latent

# x | y, z ~ N(z + 2 y, 0.5^2), z ~ N(0, 1), y in {0, 1} equally likely.
STD = 0.5
X = np.array([[0.4], [1.1], [2.7], [-1.0]], np.float32)
GIVEN = np.stack(
  [stats.norm(2 * y, math.sqrt(1 + STD**2)).logpdf(X)[:, 0] for y in (0, 1)]
)
EXACT = special.logsumexp(GIVEN - math.log(2), axis=0)
PRECISION = 1 + 1 / STD**2


class Plain(nn.Module):
  """A dense layer that takes `train`."""

  size: int
  use_bias: bool = True

  @nn.compact
  def __call__(self, x, *, train=False):
    del train
    return nn.Dense(self.size, self.use_bias)(x.reshape(len(x), -1))


NETWORKS = amortized.Networks(
  latent.Encoder(Plain(2)),
  latent.Decoder(Plain(1, False), (1,)),
  latent_priors.normal(1),
  observations.fixed_gaussian(STD),
  conditions.by_class(2),
)


def method(alpha=0.0):
  return semi_supervised_vae.semi_supervised_vae(
    NETWORKS, Plain(2), optax.sgd(1.0), num_classes=2, alpha=alpha
  )


def model(shift=0.0):
  """All exact, but for the classifier's logit, which is moved."""
  w = 1 / STD**2 / PRECISION
  encoder = {'kernel': [[w, 0.0], [0.0, 0.0], [-2 * w, 0.0]],
             'bias': [0.0, -0.5 * math.log(PRECISION)]}  # fmt: skip
  decoder = {'kernel': [[1.0], [0.0], [2.0]]}
  # log p(x | 1) - log p(x | 0) is (4 x - 4) / (2 (1 + STD^2)).
  slope = 2 / (1 + STD**2)
  classifier = {'kernel': [[0.0, slope]], 'bias': [0.0, shift - slope]}
  params = {
    'encoder': {'body': {'Dense_0': encoder}},
    'decoder': {'body': {'Dense_0': decoder}},
    'classifier': {'Dense_0': classifier},
  }
  is_list = lambda a: isinstance(a, list)  # noqa: E731
  return base.Model(jax.tree.map(jnp.asarray, params, is_leaf=is_list), {})


def many(fn, num=4000):
  return np.asarray(jax.jit(jax.vmap(fn))(jax.random.split(jax.random.key(0), num)))


def close(draws, expected):
  error = draws.std(axis=0) / math.sqrt(len(draws))
  return (np.abs(draws.mean(axis=0) - expected) < 4 * error + 1e-5).all()


def test_bounds_are_the_evidence_where_all_is_exact_and_below_by_the_classifier_s_gap():
  queries, key = method().queries, jax.random.key(0)
  found = queries['iwae'](model(), key, X, num_samples=3)
  np.testing.assert_allclose(found, EXACT, rtol=1e-5)  # every weight is p(x)
  of_ones = queries['iwae'](model(), key, X, num_samples=3, condition=jnp.ones(4, int))
  np.testing.assert_allclose(of_ones, GIVEN[1], rtol=1e-4)
  assert close(many(lambda k: queries['elbo'](model(), k, X)), EXACT)
  q = special.expit(GIVEN[1] - GIVEN[0] + 1.5)  # of a classifier that is wrong
  p = special.expit(GIVEN[1] - GIVEN[0])
  gap = q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))
  assert close(many(lambda k: queries['elbo'](model(1.5), k, X)), EXACT - gap)


def test_the_classifier_s_logits_are_the_posterior_of_the_class():
  logits = method().queries['classify'](model(), jax.random.key(0), X)
  np.testing.assert_allclose(
    logits[:, 1] - logits[:, 0], GIVEN[1] - GIVEN[0], rtol=1e-4, atol=1e-5
  )
  z = method().queries['encode'](model(), jax.random.key(0), X)
  y = (GIVEN[1] > GIVEN[0])[:, None]
  np.testing.assert_allclose(z, (X - 2 * y) / STD**2 / PRECISION, rtol=1e-4)


def test_the_loss_is_of_labelled_and_of_other_examples_by_their_formulas():
  label = jnp.array([0, -1, 1, -1])

  def loss(alpha):
    tried = method(alpha)
    state = tried.init(jax.random.key(0), {'x': X, 'label': label})
    state = state._replace(params=model(1.5).params)
    return many(lambda k: tried.step(state, k, {'x': X, 'label': label})[1]['loss'])

  log_q = np.log(
    special.expit(np.stack([-1, 1])[:, None] * (GIVEN[1] - GIVEN[0] + 1.5))
  )
  each = GIVEN - math.log(2)
  unlabelled = (np.exp(log_q) * (each - log_q)).sum(axis=0)
  expected = np.array([each[0, 0], unlabelled[1], each[1, 2], unlabelled[3]])
  assert close(loss(0.0), -expected.mean())
  more = 3.0 * np.array([log_q[0, 0], 0, log_q[1, 2], 0])
  assert close(loss(3.0), -(expected + more).mean())


def test_samples_are_of_the_class_asked_for_or_of_both_alike():
  draw = method().sample
  ones = np.asarray(
    draw(model(), jax.random.key(0), 5000, condition=jnp.ones(5000, int))
  )
  expected = stats.norm(2, math.sqrt(1 + STD**2))
  assert stats.kstest(ones[:, 0], expected.cdf).pvalue > 0.001
  both = np.asarray(draw(model(), jax.random.key(1), 5000))[:, 0]
  other = stats.norm(0, math.sqrt(1 + STD**2))
  cdf = lambda t: 0.5 * (expected.cdf(t) + other.cdf(t))  # noqa: E731
  assert stats.kstest(both, cdf).pvalue > 0.001


@pytest.mark.parametrize(
  ('net', 'alpha'), [(networks(), 1.0), (NETWORKS, -1.0)], ids=['plain', 'negative']
)
def test_what_does_not_fit_is_one_line(net, alpha):
  with pytest.raises(ValueError, match='conditioned on the class and alpha >= 0'):
    semi_supervised_vae.semi_supervised_vae(
      net, Plain(2), optax.sgd(1.0), num_classes=2, alpha=alpha
    )
