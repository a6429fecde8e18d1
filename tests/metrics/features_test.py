"""A classifier of digits good enough to measure in, and features that measure."""

import functools
import os
import pathlib
import tempfile

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
  network = features.Perceptron(10)
  return features.train_classifier(
    jax.random.key(0), *train, network=network, test=test, steps=300
  )


def test_held_out_digits_are_recognized():
  classifier, (_, (images, labels)) = _classifier(), _digits()
  assert float(classifier.accuracy) >= 0.96
  logits = jax.jit(classifier.logits)(classifier.params, images)
  right = logits.argmax(axis=-1) == labels
  np.testing.assert_allclose(classifier.accuracy, right.mean(), rtol=1e-6)


def test_logits_are_linear_in_the_features():
  classifier, (_, (images, _)) = _classifier(), _digits()
  inner = np.array(jax.jit(classifier.features)(classifier.params, images))
  assert inner.shape == (360, 64)
  readout = classifier.params['params']['readout']
  np.testing.assert_allclose(
    jax.jit(classifier.logits)(classifier.params, images),
    inner @ np.array(readout['kernel']) + np.array(readout['bias']),
    rtol=1e-4,
    atol=1e-3,
  )


def test_frechet_distance_in_features_orders_damage():
  classifier, (train, test) = _classifier(), _digits()
  inner = jax.jit(functools.partial(classifier.features, classifier.params))
  noise = np.random.default_rng(0).normal(size=test[0].shape).astype('f')
  real = inner(train[0])
  distances = [frechet.frechet(real, inner(test[0] + s * noise)) for s in (0, 0.3, 1)]
  one_class = frechet.frechet(real, inner(test[0][test[1] == 3]))
  assert distances[0] < distances[1] < distances[2]
  assert one_class > 5 * distances[0]


def test_same_key_same_parameters_other_key_others():
  train, _ = _digits()
  network = features.Perceptron(10)
  fit = functools.partial(features.train_classifier, network=network, steps=5)
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
      jax.random.key(0), images, labels[:, None], network=features.Perceptron(10)
    )


def test_convnet_is_flax_convolutions():
  import flax.linen as nn

  images = jax.random.normal(jax.random.key(0), (3, 11, 9, 2))
  network = features.ConvNet(10)
  params = jax.jit(network.init)(jax.random.key(1), images)

  def convolved(x, layer, stride):
    kernel = layer['kernel'].reshape(3, 3, x.shape[-1], -1)
    conv = nn.Conv(kernel.shape[-1], (3, 3), stride, padding=1)
    return nn.gelu(conv.apply({'params': layer | {'kernel': kernel}}, x))

  layers = params['params']
  x = convolved(images, layers['convolutions_0'], 2)
  x = convolved(x, layers['convolutions_1'], 2)
  x = x.reshape(3, -1) @ layers['dense']['kernel'] + layers['dense']['bias']
  inner = network.apply(params, images, method='features')
  np.testing.assert_allclose(inner, nn.gelu(x), rtol=1e-4, atol=1e-5)
  logits = inner @ layers['readout']['kernel'] + layers['readout']['bias']
  np.testing.assert_allclose(
    network.apply(params, images), logits, rtol=1e-4, atol=1e-5
  )


def test_shifted_images_are_the_images_elsewhere_on_their_background():
  images = np.full((400, 8, 8, 1), -1, np.float32)
  images[:, 3, 4] = 0.5
  moved = np.asarray(
    features.random_shift(jax.random.key(0), jnp.asarray(images), pixels=2)
  )
  assert set(np.unique(moved)) == {-1, 0.5}
  rows, columns = np.nonzero(moved[..., 0] == 0.5)[1:]
  assert len(rows) == 400  # one a picture
  counts = np.zeros((8, 8))
  np.add.at(counts, (rows, columns), 1)
  assert (counts[1:6, 2:7] > 0).all() and counts[1:6, 2:7].sum() == 400  # all 25 moves
  same = features.random_shift(jax.random.key(0), jnp.asarray(images), pixels=0)
  np.testing.assert_array_equal(same, images)


@functools.cache
def _briefly_trained():
  """What `train_classifier` gives for the network and the data of `cached`."""
  trained = []
  with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
    patch.setenv('GM_JAX_CACHE', folder)
    train = features.train_classifier
    patch.setattr(
      features, 'train_classifier',
      lambda *args, **kwargs: trained.append(train(*args, **kwargs)) or trained[0],
    )  # fmt: skip
    features.cached_classifier(
      jax.random.key(0), 'my:digits', *_digits(), num_classes=10, steps=20
    )
  return trained[0]


@pytest.fixture
def trained_once(monkeypatch):
  """Training has one result, since only what becomes of its file is looked at."""
  found, calls = _briefly_trained(), []
  monkeypatch.setattr(
    features, 'train_classifier', lambda *args, **kwargs: calls.append(1) or found
  )
  return calls


@pytest.fixture
def cached(monkeypatch, tmp_path):
  """Calls with a cache of its own, in a folder that is not there yet."""
  folder = tmp_path / 'some' / 'where'
  monkeypatch.setenv('GM_JAX_CACHE', str(folder))

  def call(key=0, train=None, steps=20):
    both = train or _digits()[0], _digits()[1]
    arguments = jax.random.key(key), 'my:digits', *both
    return features.cached_classifier(*arguments, num_classes=10, steps=steps)

  return call, folder


def _files(folder):
  return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.mark.slow
def test_counting_classifier_is_right_on_98_percent_of_digits(cached, capsys):
  call, folder = cached
  classifier = call(steps=600)
  assert float(classifier.accuracy) >= 0.98
  first = capsys.readouterr().out
  percent = f'{100 * float(classifier.accuracy):.1f}%'
  assert first == f'classifier my:digits: {percent} of 360 held-out images\n'
  images, labels = _digits()[1]
  before = _files(folder)
  again = call(steps=600)
  assert _files(folder) == before and len(before) == 1
  assert capsys.readouterr().out == first
  jax.tree.map(np.testing.assert_array_equal, classifier.params, again.params)
  right = jax.jit(again.logits)(again.params, images).argmax(axis=-1) == labels
  np.testing.assert_allclose(again.accuracy, right.mean(), rtol=1e-6)


def test_other_data_or_settings_are_another_file(cached, trained_once):
  call, folder = cached
  images, labels = _digits()[0]
  call()
  call(key=1)
  call(steps=21)
  call(train=(images, labels[::-1].copy()))
  call(train=(images * np.float32(0.5), labels))
  assert len(_files(folder)) == len(trained_once) == 5


def _truncate(path):
  path.write_bytes(path.read_bytes()[:-2000])


def _flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 64
  path.write_bytes(content)


def _forget(path):
  with np.load(path) as file:
    arrays = dict(file)
  del arrays['params/dense/bias']
  np.savez(path, **arrays)


def _reshape(path):
  with np.load(path) as file:
    arrays = dict(file)
  arrays['params/dense/bias'] = np.zeros(3, np.float32)
  np.savez(path, **arrays)


def _poison(path):
  with np.load(path) as file:
    arrays = dict(file)
  arrays['params/dense/bias'][0] = np.nan
  np.savez(path, **arrays)


def _pickle(path):
  np.savez(path, accuracy=np.array(0.5), params=np.array({'a': 1}, dtype=object))


@pytest.mark.parametrize(
  'damage',
  [_truncate, _flip, _forget, _reshape, _poison, _pickle, lambda p: p.write_text('')],
)
def test_a_damaged_file_is_replaced(cached, trained_once, damage):
  call, folder = cached
  good = call().params
  jax.tree.map(np.testing.assert_array_equal, call().params, good)
  assert len(trained_once) == 1  # the second came from the file
  (path,) = folder.iterdir()
  damage(path)
  jax.tree.map(np.testing.assert_array_equal, call().params, good)
  assert len(trained_once) == 2
  with np.load(path) as file:  # whole again
    kernel = file['params/dense/kernel']
  np.testing.assert_array_equal(kernel, good['params']['dense']['kernel'])
  assert [p.name for p in folder.iterdir()] == [path.name]


def test_a_folder_that_cannot_be_written_is_no_error(
  cached, trained_once, monkeypatch, tmp_path
):
  call, _ = cached
  file = tmp_path / 'file'
  file.touch()
  monkeypatch.setenv('GM_JAX_CACHE', str(file / 'below'))
  assert np.isfinite(float(call().accuracy))
  assert [p.name for p in tmp_path.iterdir()] == ['file']


def test_a_failed_write_leaves_nothing_behind(cached, trained_once, monkeypatch):
  call, folder = cached

  def fail(source, target):
    raise OSError('disk full')

  monkeypatch.setattr(os, 'replace', fail)
  call()
  assert not list(folder.iterdir())


def test_the_default_folder_is_below_home(monkeypatch, tmp_path, trained_once):
  monkeypatch.delenv('GM_JAX_CACHE', raising=False)
  monkeypatch.setattr(pathlib.Path, 'home', lambda: tmp_path)
  images, labels = _digits()[0]
  train = images[:64], labels[:64]
  features.cached_classifier(
    jax.random.key(0), 'few', train, train, num_classes=10, steps=1
  )
  (path,) = (tmp_path / '.cache' / 'gm_jax' / 'classifiers').iterdir()
  assert path.name.startswith('few-') and path.suffix == '.npz'
