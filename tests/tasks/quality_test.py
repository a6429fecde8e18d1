"""Quality of samples against direct calls of the metrics; kinds say how many."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import base, model_space
from gm_jax.data import registry, toy, transforms
from gm_jax.losses import discrepancy
from gm_jax.metrics import features, frechet, kernel_distance, modes
from gm_jax.tasks import quality, results

KEY = jax.random.key(3)
CARD = base.Card(
  density='none', density_cost='none', measure='none', sampling='exact',
  sampling_cost='one_pass', training=('adversarial',), latents='continuous',
  architecture='any',
)  # fmt: skip


def method_of(sample, *, card=CARD, **queries):
  return base.Method(card, None, None, sample=sample, queries=queries)


def rows_of(x):
  """A method whose samples are the rows of x, drawn with replacement."""

  def sample(model, key, num, *, condition=None):
    return x[jax.random.randint(key, (num,), 0, len(x))]

  return method_of(sample)


@functools.cache
def digits():
  data = registry.load('digits')
  return {s: data.arrays(s) for s in ('train', 'test')}, data.spec


@functools.cache
def distances():
  return quality.image_distances(*digits())


def images(split):
  splits, spec = digits()
  return model_space.forward(spec, KEY, splits[split])['x']


@pytest.mark.parametrize('name', ['dequantization', 'logit'])
def test_images_of_a_density_are_compared_as_the_levels_that_are_shown(name):
  transform = transforms.PIXELS[name](5)
  spec = base.DataSpec((2, 1, 1), jnp.float32, 5, None, None, transform)
  raw = jnp.arange(10).reshape(5, 2, 1, 1) % 5
  found = quality.scaled(spec, transform.forward(KEY, raw))
  np.testing.assert_allclose(found, raw / 2.0 - 1.0, atol=1e-6)
  # What is beyond the last level is the last one, and NaN is no level.
  ends = quality.scaled(spec, jnp.array([-99.0, 99.0, jnp.nan]))
  np.testing.assert_array_equal(ends, [-1.0, 1.0, jnp.nan])


@pytest.mark.slow
def test_image_distances_are_those_of_the_metrics():
  splits, spec = digits()
  x = 0.7 * images('train')[:200] - 0.3
  found = distances()(x)
  train, test = (model_space.forward(spec, KEY, splits[s]) for s in ('train', 'test'))
  flat = test['x'].reshape(360, -1)
  kernel = discrepancy.gaussian(std=float(kernel_distance.median_bandwidth(flat)))
  mmd2 = kernel_distance.mmd2_unbiased(kernel, x.reshape(200, -1), flat)
  np.testing.assert_allclose(found['mmd2'], mmd2, rtol=1e-4)
  network = features.Perceptron(10)
  classifier = features.train_classifier(
    jax.random.key(0), train['x'], train['label'], network=network
  )
  inner = functools.partial(classifier.features, classifier.params)
  expected = frechet.frechet(inner(x), inner(test['x']))
  np.testing.assert_allclose(found['frechet'], expected, rtol=1e-3)


@pytest.mark.slow
def test_distances_order_images_and_say_how_many_they_are_of():
  splits, spec = digits()
  noise = jax.random.uniform(KEY, (360, 8, 8, 1), minval=-1.0)
  train = images('train')
  options = {'distances': distances()}
  good, blurred, bad = (
    quality.quality(rows_of(x), None, KEY, splits, spec, **options)
    for x in (train, 0.7 * train - 0.3, noise)
  )
  assert {name: kind for name, (_, kind) in good.values.items()} == {
    'mmd2': 'estimate, unbiased, N = 360',
    'frechet': 'estimate by a small classifier, biased upwards, N = 360',
  }
  for name in good.values:
    values = [float(result.values[name][0]) for result in (good, blurred, bad)]
    assert values == sorted(values)
  assert abs(float(good.values['mmd2'][0])) < 0.005
  few = quality.quality(rows_of(train), None, KEY, splits, spec, num=50, **options)
  assert few.values['mmd2'][1].endswith('N = 50')


@pytest.mark.slow
def test_the_plain_task_prepares_itself_and_may_be_compiled():
  splits, spec = digits()
  method = rows_of(images('train'))

  @jax.jit
  def numbers(key):
    return results.numbers(quality.quality(method, None, key, splits, spec))

  prepared = quality.quality(method, None, KEY, splits, spec, distances=distances())
  found = numbers(KEY)
  for name, (value, _) in prepared.values.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-6)


def test_images_without_classes_have_no_frechet_distance():
  splits, spec = digits()
  task = quality.image_distances(splits, spec._replace(num_classes=None))
  assert task(images('test')).keys() == {'mmd2'}


@pytest.mark.slow
@pytest.mark.slow
def test_what_cannot_be_measured_is_one_line():
  splits, spec = digits()
  same = {'test': {'x': np.repeat(splits['test']['x'][:1], 8, axis=0)}}
  with pytest.raises(ValueError, match='most test images are identical'):
    quality.image_distances(same, spec._replace(num_classes=None))
  ring = registry.load('toy:ring')
  points = {'test': ring.arrays('test', 10)}
  with pytest.raises(ValueError, match=r'need images .* an example is \[2\]'):
    quality.quality(rows_of(points['test']['x']), None, KEY, points, ring.spec)
  with pytest.raises(ValueError, match='no samples to measure'):
    quality.quality(method_of(None), None, KEY, splits, spec, distances=distances())
  with pytest.raises(ValueError, match='needs the train split'):
    quality.image_distances({'test': splits['test']}, spec)


def test_samples_that_need_a_condition_have_the_test_splits():
  splits, spec = digits()

  def of_class(model, key, num, *, condition=None):
    if condition is None:
      raise ValueError('this model needs a condition')
    return condition

  card = CARD._replace(condition=('label',))
  conditional = method_of(of_class, card=card)
  label = splits['test']['label']
  found = quality.draw_samples(conditional, None, KEY, 500, splits, spec)
  np.testing.assert_array_equal(found, np.concatenate([label, label[:140]]))
  optional = method_of(lambda m, k, num, *, condition=None: num, card=card)
  assert quality.draw_samples(optional, None, KEY, 7, splits, spec) == 7
  with pytest.raises(ValueError, match="needs 'label'"):
    bare = {'test': {'x': splits['test']['x']}}
    quality.draw_samples(conditional, None, KEY, 5, bare, spec)


def test_mode_coverage_is_that_of_the_metric():
  ring = toy.ring()
  method = method_of(lambda m, k, num, *, condition=None: ring.sample(k, num))
  options = {'means': ring.means, 'std': ring.std}
  found = quality.mode_coverage(method, None, KEY, {}, None, num=900, **options)
  expected = modes.coverage(ring.sample(KEY, 900), ring.means, ring.std)
  assert results.numbers(found) == expected._asdict()
  assert int(found.values['modes'][0]) == 8
  kind = 'estimate, N = 900, a mode is 20 samples within 3 std'
  assert {kind} == {kind for _, kind in found.values.values()}


def test_stacked_modes_are_those_of_the_channels_classes():
  def sample(model, key, num, *, condition=None):
    """Images whose channels are one number each, 0 to 9: 10 of the first two modes."""
    digit = jax.random.randint(key, (num, 1, 1, 1), 0, 10)
    return jnp.concatenate([0 * digit, digit // 5, digit], axis=-1)

  def classify(x):
    return jax.nn.one_hot(x[:, 0, 0, 0], 10)

  method = method_of(sample)
  found = quality.stacked_modes(method, None, KEY, {}, None, classify=classify)
  assert int(found.values['modes'][0]) == 10
  np.testing.assert_allclose(found.values['reverse_kl'][0], np.log(100), atol=0.01)
  assert found.values['modes'][1] == 'estimate by a small classifier, N = 25600'
  with pytest.raises(ValueError, match='num must be a multiple of 512'):
    quality.stacked_modes(method, None, KEY, {}, None, classify=classify, num=100)


def test_errors_of_reconstructions_and_labels_are_of_the_test_split():
  splits, spec = digits()
  label = splits['test']['label']

  def classify(model, key, x, *, condition=None):
    return jax.nn.one_hot((label[: len(x)] + (np.arange(len(x)) % 4 == 0)) % 10, 10)

  method = method_of(
    None, reconstruct=lambda m, k, x, *, condition=None: x + 0.5, classify=classify
  )
  found = quality.reconstruction(method, None, KEY, splits, spec)
  np.testing.assert_allclose(found.values['reconstruction'][0], 0.5, rtol=1e-5)
  found = quality.accuracy(method, None, KEY, splits, spec, num=100)
  assert found.values['accuracy'] == (0.75, 'fraction, N = 100')
  with pytest.raises(ValueError, match="needs the query 'reconstruct'; the method has"):
    quality.reconstruction(method_of(None), None, KEY, splits, spec)
  with pytest.raises(ValueError, match='accuracy needs labels'):
    bare = {'test': {'x': splits['test']['x']}}
    quality.accuracy(method, None, KEY, bare, spec)
