"""Agreement with a class, diversity within it and codes, of methods that are known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import base
from gm_jax.data import registry
from gm_jax.tasks import classes, results

CARD = base.Card(
  density='none', density_cost='none', measure='none', sampling='exact',
  sampling_cost='one_pass', training=('adversarial',), latents='continuous',
  architecture='any', condition=('label',),
)  # fmt: skip
KEY = jax.random.key(3)


@functools.cache
def digits():
  data = registry.load('digits')
  return {s: data.arrays(s) for s in ('train', 'test')}, data.spec


def images(split):
  splits, spec = digits()
  return results.in_model_space(spec, splits[split])


def classify(x):
  """By the nearest mean of the train split's classes, in [-1, 1]."""
  train = images('train')
  one_hot = jnp.eye(10)[train['label']]
  means = one_hot.T @ train['x'].reshape(-1, 64) / one_hot.sum(0)[:, None]
  return -jnp.square(x.reshape(-1, 1, 64) - means).sum(axis=2)


def of(sample, **queries):
  return base.Method(CARD, None, None, sample=sample, queries=queries)


def measured(sample, num, **more):
  splits, spec = digits()
  found = classes.agreement(
    of(sample), None, KEY, splits, spec, classify=classify, accuracy=0.5,
    num=num, **more,
  )  # fmt: skip
  return results.numbers(found)


def of_class(split):
  """Draws images of the class that is asked for from a split."""
  data = images(split)

  def sample(model, key, num, *, condition):
    same = data['label'] == condition[:, None]
    index = jax.random.categorical(key, jnp.where(same, 0.0, -jnp.inf))
    return data['x'][index]

  return sample


@pytest.mark.slow
def test_images_of_the_class_agree_as_often_as_the_classifier_is_right():
  test = images('test')

  def sample(model, key, num, *, condition):  # the test split itself
    np.testing.assert_array_equal(condition, test['label'])
    return test['x']

  found = measured(sample, 360)
  right = np.mean(classify(test['x']).argmax(1) == test['label'])
  np.testing.assert_allclose(found['agreement'], right, rtol=1e-6)
  np.testing.assert_allclose(found['diversity'], 1, rtol=1e-5)
  assert found['accuracy_on_real'] == 0.5
  # Training images: its accuracy on them, up to the error of 4,000 draws.
  train = images('train')
  right = np.array([
    np.mean(classify(train['x'][train['label'] == k]).argmax(1) == k) for k in range(10)
  ])[np.asarray(test['label'])].mean()  # fmt: skip
  found = measured(of_class('train'), 4000)
  assert abs(found['agreement'] - right) < 4 * np.sqrt(right * (1 - right) / 4000)
  assert abs(found['diversity'] - 1) < 0.05


@pytest.mark.slow
def test_samples_of_any_class_agree_by_chance_and_a_single_one_is_no_diversity():
  draw = of_class('train')

  def of_any(model, key, num, *, condition):
    a, b = jax.random.split(key)
    return draw(model, a, num, condition=jax.random.randint(b, (num,), 0, 10))

  assert abs(measured(of_any, 4000)['agreement'] - 0.1) < 4 * np.sqrt(0.09 / 4000)
  first = jnp.array([jnp.argmax(images('train')['label'] == k) for k in range(10)])

  def one_each(model, key, num, *, condition):
    return images('train')['x'][first[condition]]

  np.testing.assert_allclose(measured(one_each, 360)['diversity'], 0, atol=1e-6)


def test_agreement_is_a_function_that_jax_compiles():
  splits, spec = digits()

  @jax.jit
  def numbers(key):
    return results.numbers(classes.agreement(
      of(of_class('test')), None, key, splits, spec, classify=classify, accuracy=1.0,
      num=100,
    ))  # fmt: skip

  assert 0.8 < numbers(KEY)['agreement'] <= 1


def test_a_code_tells_what_it_tells_and_belongs_to_its_most_frequent_class():
  splits, spec = digits()
  train, test = images('train'), images('test')
  logits = jnp.log(jnp.array([0.9, 0.1]))

  def code(split):  # 0 of classes below 5, else 1
    return lambda x: jnp.where(label_of(x) < 5, 0, 1)

  every = {np.asarray(x).tobytes(): int(k) for s in (train, test) for x, k in zip(
    s['x'], s['label'], strict=True
  )}  # fmt: skip

  def label_of(x):
    def host(x):
      return np.array([every.get(np.asarray(one).tobytes(), 0) for one in x], np.int32)

    return jax.pure_callback(host, jax.ShapeDtypeStruct((len(x),), jnp.int32), x)

  def cluster(model, key, x, *, condition=None):
    right = jnp.where(label_of(x) < 5, 0, 1)
    return jnp.where(right[:, None] == jnp.arange(2), logits[0], logits[1])

  def sample(model, key, num, *, condition):
    first = jnp.array([0, jnp.argmax(train['label'] >= 5)])  # an image of either code
    return train['x'][first[condition]]

  method = of(sample, cluster=cluster)._replace(card=CARD)
  found = results.numbers(
    classes.categorical_code(method, None, KEY, splits, spec, num_classes=2, num=40)
  )
  assert int(train['label'][0]) < 5
  np.testing.assert_allclose(found['information'], np.log(0.9) + np.log(2), rtol=1e-5)
  counts = np.bincount(train['label'], minlength=10)
  owners = [counts[:5].argmax(), 5 + counts[5:].argmax()]
  expected = np.mean(~np.isin(test['label'], owners))
  np.testing.assert_allclose(found['class_error'], expected, rtol=1e-6)


def test_what_does_not_fit_is_named():
  splits, spec = digits()
  plain = of(of_class('test'))._replace(card=CARD._replace(condition=()))
  rest = {'classify': classify, 'accuracy': 1.0}
  with pytest.raises(ValueError, match='this method is given nothing'):
    classes.agreement(plain, None, KEY, splits, spec, **rest)
  with pytest.raises(ValueError, match="needs 'label'"):
    unlabelled = {'test': {'x': splits['test']['x']}}
    classes.agreement(of(of_class('test')), None, KEY, unlabelled, spec, **rest)
  with pytest.raises(ValueError, match="query 'cluster'"):
    classes.categorical_code(
      of(of_class('test')), None, KEY, splits, spec, num_classes=2
    )
