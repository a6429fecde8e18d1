"""A classifier of digits good enough to measure in, and features that measure."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import datasets

from gm_jax.metrics import features, frechet


@functools.cache
def _digits():
  digits = datasets.load_digits()
  images = (digits.images[..., None] / 8 - 1).astype(np.float32)
  order = np.random.default_rng(0).permutation(len(images))
  images, labels = images[order], digits.target[order]
  return (images[:1437], labels[:1437]), (images[1437:], labels[1437:])


@functools.cache
def _classifier():
  train, test = _digits()
  return features.train_classifier(jax.random.key(0), *train, num_classes=10, test=test)


def test_held_out_digits_are_recognized():
  classifier, (_, (images, labels)) = _classifier(), _digits()
  assert float(classifier.accuracy) >= 0.96
  right = classifier.logits(classifier.params, images).argmax(axis=-1) == labels
  np.testing.assert_allclose(classifier.accuracy, right.mean(), rtol=1e-6)


def test_logits_are_linear_in_the_features():
  classifier, (_, (images, _)) = _classifier(), _digits()
  inner = np.array(classifier.features(classifier.params, images))
  assert inner.shape == (360, 64)
  readout = classifier.params['params']['readout']
  np.testing.assert_allclose(
    classifier.logits(classifier.params, images),
    inner @ np.array(readout['kernel']) + np.array(readout['bias']),
    rtol=1e-4,
    atol=1e-3,
  )


def test_frechet_distance_in_features_orders_damage():
  classifier, (train, test) = _classifier(), _digits()
  inner = functools.partial(classifier.features, classifier.params)
  noise = np.random.default_rng(0).normal(size=test[0].shape).astype('f')
  real = inner(train[0])
  distances = [frechet.frechet(real, inner(test[0] + s * noise)) for s in (0, 0.3, 1)]
  one_class = frechet.frechet(real, inner(test[0][test[1] == 3]))
  assert distances[0] < distances[1] < distances[2]
  assert one_class > 5 * distances[0]


def test_same_key_same_parameters_other_key_others():
  train, _ = _digits()
  fit = functools.partial(features.train_classifier, num_classes=10, steps=5)
  first, again, other = (fit(jax.random.key(k), *train) for k in (0, 0, 1))
  jax.tree.map(np.testing.assert_array_equal, first.params, again.params)

  def kernel(c):
    return c.params['params']['readout']['kernel']

  assert not np.array_equal(kernel(first), kernel(other))
  assert jnp.isnan(first.accuracy)


def test_labels_of_the_wrong_shape_raise():
  (images, labels), _ = _digits()
  with pytest.raises(ValueError, match='labels'):
    features.train_classifier(
      jax.random.key(0), images, labels[:, None], num_classes=10
    )
