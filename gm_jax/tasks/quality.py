"""How good samples are, by what is known of the data: distances, modes, errors.

What is slow is prepared once: `image_distances` trains the classifier whose features
the Frechet distance is measured in, and `quality` takes what it returns. All of these
numbers depend on how many samples are drawn, which their kind says; compare only values
of the same N, and of the same classifier.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from gm_jax import base
from gm_jax.losses import discrepancy
from gm_jax.metrics import features, frechet, kernel_distance, modes
from gm_jax.tasks import results

TRAIN, TEST = 10_000, 2000  # images of a split that are used, at most
STACKED_SAMPLES = 25_600  # as in the papers
CHUNK = 512  # samples drawn and classified at once
KINDS = {
  'mmd2': 'estimate, unbiased',
  'frechet': 'estimate by a small classifier, biased upwards',
}


def image_distances(
  splits: Mapping[str, base.Batch], spec: base.DataSpec
) -> Callable[[base.Array], dict[str, base.Array]]:
  """Distances of images from the test split, as a function of [N, H, W, C].

  Images are in model space; integers are scaled to [-1, 1], so that models of levels
  compare with others. `mmd2` is the unbiased squared MMD of pixels, with a
  Gaussian kernel as wide as the median distance between test images; `frechet`, for
  data with classes, the Frechet distance in the features of a small classifier
  trained here on the train split. At most 10,000 train and 2,000 test images are used.

  Args:
    splits: raw, 'test' and, of data with classes, 'train', with labels.
    spec: of the data.

  Returns:
    images -> numbers [] by name.

  Raises:
    ValueError: the data are no images, a split is missing, has a single test image, or
      most of these are identical.
  """
  if len(spec.shape) != 3:
    raise ValueError(
      f'image distances need images [H, W, C], and an example is {list(spec.shape)}'
    )

  def images_of(split, num):
    arrays = results.in_model_space(spec, results.split_of(splits, split), num)
    return {**arrays, 'x': scaled(spec, arrays['x'])}

  test = images_of('test', TEST)
  if len(test['x']) < 2:
    raise ValueError("the split 'test' has a single image, and distances need two")
  classifier = None
  if spec.num_classes:
    train = images_of('train', TRAIN)
    classifier = features.train_classifier(
      jax.random.key(0),
      train['x'],
      train['label'],
      network=features.Perceptron(spec.num_classes),
      test=(test['x'], test['label']),
    )
  test = test['x']

  def flat(x):
    return x.reshape(len(x), -1)

  median = float(kernel_distance.median_bandwidth(flat(test)))
  if not median > 0:
    raise ValueError(
      'most test images are identical, so that no distance between samples and them'
      ' can be measured'
    )
  kernel = discrepancy.gaussian(std=median)
  if classifier is not None:
    inner = functools.partial(classifier.features, classifier.params)
    test_moments = frechet.moments(inner(test))

  def distances(x):
    x = scaled(spec, x)
    fixed = jax.lax.optimization_barrier(test)  # else XLA folds constants for long
    scores = {'mmd2': kernel_distance.mmd2_unbiased(kernel, flat(x), flat(fixed))}
    if classifier is not None:
      found = frechet.moments(inner(x))
      scores['frechet'] = frechet.frechet_distance(*found, *test_moments)
    return scores

  return distances


def scaled(spec: base.DataSpec, x: base.Array) -> base.Array:
  """Takes levels to [-1, 1]; floats stay as they are: what classifiers here are fed.

  Where noise has spread levels over intervals these are the levels, as they are shown:
  what a density puts beyond the last one is the last one. NaN stays NaN.

  Args:
    spec: of the data.
    x: `[B, ...]` in model space.
  """
  if spec.num_levels is None:
    return x
  if spec.transform.measure == 'density':
    x = jnp.where(jnp.isnan(x), jnp.nan, spec.transform.inverse(x))
  elif not jnp.issubdtype(x.dtype, jnp.integer):
    return x
  return 2.0 / max(1, spec.num_levels - 1) * x - 1.0


def quality(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  num: int = TEST,
  distances: Callable[[base.Array], dict[str, base.Array]] | None = None,
) -> base.Result:
  """Distances between samples of images and the test split.

  Args:
    method: with samples.
    model: its parameters.
    key: of the samples.
    arrays: raw, by split.
    spec: of the data.
    num: how many samples, at most as many as there are test images.
    distances: samples -> numbers by name, prepared; `image_distances` if None, which
      trains its classifier when the task is called or traced.

  Returns:
    The numbers, each [].

  Raises:
    ValueError: the data are no images, or the method has no samples.
  """
  if distances is None:
    with jax.ensure_compile_time_eval():  # of the data alone, whatever is traced
      distances = image_distances(arrays, spec)
  num = min(num, len(results.split_of(arrays, 'test')['x']))
  samples = draw_samples(method, model, key, num, arrays, spec)
  return base.Result({
    name: (number, f'{KINDS.get(name, "estimate")}, N = {num}')
    for name, number in distances(samples).items()
  })  # fmt: skip


def draw_samples(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  num: int,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
) -> base.Array:
  """Samples in model space, of the test split's conditions where there must be some.

  Args:
    method: with samples.
    model: its parameters.
    key: of the samples.
    num: how many.
    arrays: raw, by split.
    spec: of the data.

  Returns:
    `[num, ...]`.

  Raises:
    ValueError: the method has no samples, or the test split no such conditions.
  """
  condition = conditions(method, model, key, num, arrays, spec)
  if condition is None:
    return method.sample(model, key, num)
  return method.sample(model, key, num, condition=condition)


def conditions(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  num: int,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
) -> Any:
  """Conditions of samples: the test split's in turn, where there must be some.

  Args:
    method: with samples.
    model: its parameters.
    key: of samples.
    num: how many.
    arrays: raw, by split.
    spec: of the data.

  Returns:
    `[num, ...]`, or None for samples that may go without.

  Raises:
    ValueError: the method has no samples, or the test split no such conditions.
  """
  if method.sample is None:
    raise ValueError('this method has no samples to measure')
  if not _needs_condition(method, model, key):
    return None
  test = results.in_model_space(spec, results.split_of(arrays, 'test'))
  condition = results.repeated(results.condition_of(method.card, test), num)
  return jax.lax.optimization_barrier(condition)  # else XLA folds images for long


def _needs_condition(method, model, key) -> bool:
  """Whether samples are refused without a condition, which some may go without."""
  if not method.card.condition:
    return False
  try:
    jax.eval_shape(lambda m, k: method.sample(m, k, 2), model, key)
  except ValueError:
    return True
  return False


def mode_coverage(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  means: base.Array,
  std: float,
  num: int = 2500,
  min_hits: int = 20,
  threshold: float = 3.0,
) -> base.Result:
  """Coverage of the modes of a known mixture; see `metrics.modes.coverage`.

  Args:
    method: with samples [num, D].
    model: its parameters.
    key: of the samples.
    arrays: raw, by split; read for the conditions of a method that needs some.
    spec: of the data.
    means: [K, D] of the mixture.
    std: of every mode.
    num: how many samples.
    min_hits: close samples that make a mode found.
    threshold: what is close, in standard deviations.
  """
  samples = draw_samples(method, model, key, num, arrays, spec)
  found = modes.coverage(samples, means, std, min_hits=min_hits, threshold=threshold)
  kind = f'estimate, N = {num}, a mode is {min_hits} samples within {threshold:g} std'
  return base.Result({name: (value, kind) for name, value in found._asdict().items()})


def stacked_modes(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  classify: Callable[[base.Array], base.Array],
  num: int = STACKED_SAMPLES,
) -> base.Result:
  """Modes of stacked digits among samples; see `metrics.modes.stacked_coverage`.

  Args:
    method: with samples [num, H, W, C].
    model: its parameters.
    key: of the samples.
    arrays: raw, by split; read for the conditions of a method that needs some.
    spec: of the data.
    classify: a channel [B, H, W, 1] -> [B, 10] logits, prepared.
    num: how many samples, a multiple of 512.

  Raises:
    ValueError: `num` is no multiple of 512.
  """
  if num < CHUNK or num % CHUNK:
    raise ValueError(f'num must be a multiple of {CHUNK}, got {num}')

  def chunk(key):
    samples = draw_samples(method, model, key, CHUNK, arrays, spec)
    return modes.stacked_labels(classify, samples)

  labels = jax.lax.map(chunk, jax.random.split(key, num // CHUNK))
  found = modes.stacked_coverage(labels.ravel())
  kind = f'estimate by a small classifier, N = {num}'
  return base.Result({name: (value, kind) for name, value in found._asdict().items()})


def reconstruction(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  num: int = TEST,
) -> base.Result:
  """The root mean squared error of reconstructions of the test split.

  Args:
    method: with the query `reconstruct`.
    model: its parameters.
    key: of the query.
    arrays: raw, by split.
    spec: of the data.
    num: test examples, at most.

  Returns:
    `reconstruction` [], of a number of an example in model space.

  Raises:
    ValueError: the method does not reconstruct.
  """
  test = results.in_model_space(spec, results.split_of(arrays, 'test'), num)
  condition = results.condition_of(method.card, test)
  query = results.query_of(method, 'reconstruct')
  again = query(model, key, test['x'], condition=condition)
  error = jnp.sqrt(jnp.mean(jnp.square(again - test['x'])))
  kind = f'root mean squared error, N = {len(again)}'
  return base.Result({'reconstruction': (error, kind)})


def accuracy(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  num: int = TEST,
) -> base.Result:
  """The fraction of the test split whose label has the largest logit.

  Args:
    method: with the query `classify`.
    model: its parameters.
    key: of the query.
    arrays: raw, by split, with labels.
    spec: of the data.
    num: test examples, at most.

  Raises:
    ValueError: the method does not classify, or the test split has no labels.
  """
  test = results.in_model_space(spec, results.split_of(arrays, 'test'), num)
  if 'label' not in test:
    raise ValueError(f'accuracy needs labels, and the test split has {sorted(test)}')
  guess = results.query_of(method, 'classify')(model, key, test['x']).argmax(axis=1)
  fraction = jnp.mean(guess == test['label'])
  return base.Result({'accuracy': (fraction, f'fraction, N = {len(guess)}')})
