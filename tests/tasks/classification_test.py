"""A model as a classifier, of Bayes' rule itself and of what is wrong with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from gm_jax import base
from gm_jax.data import transforms
from gm_jax.metrics import calibration
from gm_jax.tasks import classification, results

KEY, NUM, SHIFT = jax.random.key(6), 20_000, 0.8
SPEC = base.DataSpec((1,), jnp.float32, None, 2, None, transforms.identity())


def method_of(sharpness=1.0):
  """p(y | x) of two normal distributions around -SHIFT and SHIFT, made sharper."""

  def classify(model, key, x, *, condition=None):
    logits = sharpness * jnp.concatenate([-SHIFT * x, SHIFT * x], axis=1)
    return jax.nn.log_softmax(logits)

  return base.Method(None, None, None, queries={'classify': classify})


def arrays():
  keys = jax.random.split(KEY)
  label = jax.random.bernoulli(keys[0], shape=(NUM,)).astype(jnp.int32)
  x = jax.random.normal(keys[1], (NUM,)) + SHIFT * (2 * label - 1)
  return {'test': {'x': x[:, None], 'label': label}}


def numbers(sharpness, arrays):
  return results.numbers(
    classification.classification(method_of(sharpness), None, KEY, arrays, SPEC)
  )


def test_bayes_rule_has_its_own_error_and_is_calibrated_and_a_sharper_one_is_not():
  """Accuracy is Phi(SHIFT) of both; log-loss and Brier's score by quadrature."""
  found, sharp = jax.jit(lambda a: [numbers(s, a) for s in (1.0, 3.0)])(arrays())
  assert found['accuracy'] == sharp['accuracy']
  expected = stats.norm.cdf(SHIFT)
  assert abs(found['accuracy'] - expected) < 3.5 * found['accuracy_error']

  def mean(f):  # over x of the class 1, by symmetry
    p = lambda x: 1 / (1 + np.exp(-2 * SHIFT * x))  # noqa: E731
    return integrate.quad(lambda x: stats.norm.pdf(x - SHIFT) * f(p(x)), -9, 9)[0]

  for name, f in (
    ('classification_nll', lambda p: -np.log(p)),
    ('brier', lambda p: 2 * (1 - p) ** 2),
  ):
    assert abs(found[name] - mean(f)) < 3.5 * found[f'{name}_error'], name
    assert sharp[name] > found[name] + 3 * found[f'{name}_error']
  # At its rate, see tests/metrics: 15 bins of which half are met, 20,000 examples.
  assert found['calibration_error'] < 0.015 < 0.08 < sharp['calibration_error']


def test_the_numbers_are_those_of_the_metrics_and_the_logits():
  few = jax.tree.map(lambda a: a[:200], arrays())
  found = classification.classification(method_of(), None, KEY, few, SPEC, num_bins=4)
  logits, label = found.arrays['logits'], few['test']['label']
  assert logits.shape == (200, 2)
  ece = calibration.expected_calibration_error(logits, label, num_bins=4)
  assert found.values['calibration_error'][0] == ece
  assert found.values['calibration_error'][1].startswith('4 bins')


def test_wrong_input_is_one_line():
  bare = base.Method(None, None, None)
  with pytest.raises(ValueError, match="needs the query 'classify'"):
    classification.classification(bare, None, KEY, arrays(), SPEC)
  unlabelled = {'test': {'x': arrays()['test']['x']}}
  with pytest.raises(ValueError, match='classification needs labels'):
    classification.classification(method_of(), None, KEY, unlabelled, SPEC)
