"""Scores of outliers on Gaussians, where the best possible area is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from gm_jax import base
from gm_jax.data import registry, transforms
from gm_jax.tasks import outliers, results

KEY, DIM, NUM, SCALE = jax.random.key(5), 3, 4000, 1.6
CARD = base.Card(
  density='exact', density_cost='one_pass', measure='density', sampling='none',
  sampling_cost='none', training=('closed_form',), latents='none', architecture='any',
)  # fmt: skip
SPEC = base.DataSpec((DIM,), jnp.float32, None, None, None, transforms.identity())


def log_prob(model, key, x, *, condition=None):
  del model, key, condition
  return jax.scipy.stats.norm.logpdf(x).sum(axis=1)


def energy(model, key, x, *, condition=None):
  del model, key, condition
  return jnp.square(x).sum(axis=1) / 2


def classify(model, key, x, *, condition=None):
  """Classes around -1.5 and 1.5 on the first axis, by Bayes' rule; not normalized."""
  del model, key, condition
  return jnp.stack([-1.5 * x[:, 0], 1.5 * x[:, 0]], axis=1) + 7.0


def gaussian(card=CARD, log_prob=log_prob, **queries):
  return base.Method(card, None, None, None, log_prob, queries)


@functools.cache
def splits():
  """Inliers of the standard normal distribution, outliers of one that is wider."""
  keys = jax.random.split(KEY)
  test, held_out = (jax.random.normal(k, (NUM, DIM)) for k in keys)
  return {'test': {'x': test}, 'held_out': {'x': SCALE * held_out}}


def test_the_energy_of_a_gaussian_is_the_best_score_of_a_wider_one():
  """The ratio of the densities rises with |x|, whose law is chi^2: by F's law."""
  method = gaussian(energy=energy, classify=classify)
  found = jax.jit(
    lambda splits: results.numbers(outliers.outliers(method, None, KEY, splits, SPEC))
  )(splits())
  best = stats.f.sf(SCALE**-2, DIM, DIM)
  for name in ('energy', 'gradient', 'likelihood'):
    assert abs(found[f'auroc_{name}'] - best) < 3.5 * found[f'auroc_{name}_error']
    assert (
      found[f'auroc_{name}_low'] < found[f'auroc_{name}'] < found[f'auroc_{name}_high']
    )
    # All three are in one order.
    np.testing.assert_allclose(found[f'auroc_{name}'], found['auroc_energy'], atol=1e-5)
  # The threshold that 5% of the outliers are below.
  limit = SCALE**2 * stats.chi2.ppf(0.05, DIM)
  np.testing.assert_allclose(
    found['fpr95_energy'], stats.chi2.sf(limit, DIM), atol=0.02
  )
  assert 0.5 < found['aupr_energy'] < 1


def test_a_classifier_is_least_sure_between_its_classes():
  keys = jax.random.split(jax.random.key(8), 3)
  sign = jax.random.rademacher(keys[0], (NUM, 1)).astype(float)
  x = jax.random.normal(keys[1], (NUM, DIM)) + 1.5 * sign * jnp.eye(DIM)[0]
  arrays = {'test': {'x': x}, 'held_out': {'x': jax.random.normal(keys[2], (NUM, DIM))}}
  method = gaussian(classify=classify)
  found = outliers.outliers(method, None, KEY, arrays, SPEC, names=['classifier'])
  # P(|z| < |z' + 1.5|), by quadrature over z'.
  expected = integrate.quad(
    lambda z: stats.norm.pdf(z - 1.5) * (2 * stats.norm.cdf(abs(z)) - 1), -9, 11
  )[0]
  area = results.numbers(found)
  assert abs(area['auroc_classifier'] - expected) < 3.5 * area['auroc_classifier_error']
  assert set(found.arrays) == {'classifier_test', 'classifier_held_out'}


def test_a_likelihood_is_of_raw_data():
  """y = arsinh(x): p(x) = p(y) / sqrt(1 + x^2)."""
  way = base.Transform(
    lambda key, raw: jnp.arcsinh(raw),
    jnp.sinh,
    lambda key, raw: -jnp.log(1 + raw**2).sum(axis=1) / 2,
    'density',
  )
  found = outliers.outliers(
    gaussian(), None, KEY, splits(), SPEC._replace(transform=way), num=50
  )
  raw = np.asarray(splits()['held_out']['x'][:50], np.float64)
  expected = stats.norm.logpdf(np.arcsinh(raw)) - np.log(1 + raw**2) / 2
  np.testing.assert_allclose(
    found.arrays['likelihood_held_out'], -expected.sum(1), rtol=1e-5
  )
  assert all(name.split('_')[1] == 'likelihood' for name in found.values)


def test_what_a_method_lacks_is_a_sentence_and_no_crash():
  binary = registry.load('dynamic:digits').spec
  none = CARD._replace(density='none')
  bare = outliers.scores_of(gaussian(none, None), None, SPEC)
  assert not bare.found and set(bare.blank) == set(outliers.SCORES)
  assert 'no likelihood' in bare.blank['likelihood']
  assert "needs the query 'energy'" in bare.blank['energy']
  conditional = gaussian(CARD._replace(condition=('label',)), energy=energy)
  found = outliers.scores_of(conditional, None, SPEC)
  assert set(found.found) == {'energy', 'gradient'}
  assert 'of x given label' in found.blank['likelihood']

  shared = {'log_prob_estimate': energy, 'log_partition': None}
  estimate = gaussian(CARD._replace(density='estimate'), None, **shared, energy=energy)
  blank = outliers.scores_of(estimate, None, SPEC).blank
  assert 'log Z of all examples' in blank['likelihood'] and 'energy' not in blank

  def images(model, key, x, *, condition=None):
    return x.reshape(len(x), -1).sum(axis=1).astype(jnp.float32)

  blank = outliers.scores_of(gaussian(none, None, energy=images), None, binary).blank
  assert 'these data are integers' in blank['gradient'] and 'energy' not in blank

  def refuses(model, key, x, *, condition=None):
    raise ValueError('needs\n a label')

  blank = outliers.scores_of(gaussian(none, None, energy=refuses), None, SPEC).blank
  assert blank['energy'] == blank['gradient'] == 'needs a label'
  wrong = gaussian(none, None, energy=lambda m, k, x, condition=None: x)
  assert 'must be [2]' in outliers.scores_of(wrong, None, SPEC).blank['energy']


def test_wrong_input_is_one_line():
  with pytest.raises(ValueError, match='no score of outliers: energy: .*; gradient'):
    method = gaussian(CARD._replace(density='none'), None)
    outliers.outliers(method, None, KEY, splits(), SPEC)
  with pytest.raises(ValueError, match="no score 'enrgy'; there are: energy"):
    outliers.scores_of(gaussian(), None, SPEC, ['enrgy'])
  with pytest.raises(ValueError, match='needs the held_out split'):
    outliers.outliers(gaussian(), None, KEY, {'test': splits()['test']}, SPEC)
