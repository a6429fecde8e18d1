"""Evaluations of configs: tasks bound to data, what is slow prepared once.

Each is a `make_evaluation`, (config, data) -> (method, model, key) -> `base.Result`.
"""

import functools
from collections.abc import Callable

import jax

from gm_jax import base
from gm_jax.data import dataset, registry, stacked
from gm_jax.metrics import features
from gm_jax.tasks import classes, density, quality, results

Evaluation = Callable[[base.Method, base.Model, base.Array], base.Result]
HELD_OUT = {'test': 2000, 'validation': 2000}  # examples of a split, at most
INDEPENDENT = 101  # seed of the classifier that judges samples of a class
STACKED = {'train': 20_000, 'test': 10_000}  # for the classifier of channels


def splits_of(data: dataset.Dataset, sizes: dict[str, int | None]) -> dict[str, dict]:
  """Raw arrays of splits, at most so many examples; without those that are not there.

  Raises:
    ValueError: there is no test split.
  """
  found = {}
  for split, num in sizes.items():
    try:
      found[split] = data.arrays(split, num)
    except ValueError:
      if split == 'test':
        raise
  return found


def bound(task: Callable, data: dataset.Dataset, splits: dict, **options) -> Evaluation:
  """A task of these arrays, as (method, model, key) -> Result."""

  def evaluation(method, model, key):
    return task(method, model, key, splits, data.spec, **options)

  return evaluation


def merged(*evaluations: Evaluation) -> Evaluation:
  """The numbers of several evaluations, from the same key."""

  def evaluation(*args):
    return results.merged(*(each(*args) for each in evaluations))

  return evaluation


def likelihoods(config, data) -> Evaluation:
  """`density` of the test split and, as validation_..., of the validation split."""
  splits = splits_of(data, HELD_OUT)
  if any(len(arrays['x']) < 2 for arrays in splits.values()):
    raise dataset.DataError(f'{data.name}: a split has a single example')
  return bound(density.density, data, splits)


def likelihoods_and_images(config, data) -> Evaluation:
  """`likelihoods`, and distances of samples where the data are images with classes."""
  if len(data.spec.shape) != 3:
    return likelihoods(config, data)
  return merged(likelihoods(config, data), images(config, data))


def mixture_modes(config, data) -> Evaluation:
  """Mode coverage of a mixture: 2,500 samples, 3 standard deviations, 20 hits."""
  mixture = registry.toy_density(config.data)
  if mixture is None or mixture.means is None or mixture.std is None:
    raise ValueError(
      f'data = {config.data!r} has no modes to count; use toy:ring or toy:grid'
    )
  splits = splits_of(data, {'test': quality.TEST})
  options = {'means': mixture.means, 'std': mixture.std}
  return bound(quality.mode_coverage, data, splits, **options)


def image_distances(data: dataset.Dataset) -> Callable:
  """`quality.image_distances` of a data set.

  Raises:
    DataError: most test images are identical.
  """
  splits = splits_of(data, {'test': quality.TEST, 'train': quality.TRAIN})
  try:
    return quality.image_distances(splits, data.spec)
  except ValueError as error:
    line = f'{data.name}: {error}; evaluate_every=0 trains without it'
    raise dataset.DataError(line) from error


def images(config, data) -> Evaluation:
  """Distances of as many samples as test images, at most 2,000."""
  splits = splits_of(data, {'test': quality.TEST})
  return bound(quality.quality, data, splits, distances=image_distances(data))


def independent_classifier(
  data: dataset.Dataset, name: str = 'label'
) -> features.Classifier:
  """A classifier of the train split, of another seed than any other here.

  Trained on at most 10,000 images, shifted by a pixel or two, and kept in a cache; it
  prints its accuracy on test images. Its images are as of `quality.scaled`.

  Args:
    data: a data set of images.
    name: of the integers that are read: 'label' or 'domain'.
  """
  num_classes = data.spec.num_classes
  if name != 'label':
    num_classes = data.spec.parts[name].num_levels
  pairs = []
  for split, num in (('train', quality.TRAIN), ('test', quality.TEST)):
    arrays = results.in_model_space(data.spec, data.arrays(split, num))
    pairs.append((quality.scaled(data.spec, arrays['x']), arrays[name]))
  of_what = data.name if name == 'label' else f'{data.name}, {name}'
  return features.cached_classifier(
    jax.random.key(INDEPENDENT), of_what, *pairs, num_classes=num_classes
  )


def images_or_classes(config, data) -> Evaluation:
  """`images_of_classes` where the config names a condition, or `images`."""
  return (images_of_classes if config.condition else images)(config, data)


def images_of_classes(config, data) -> Evaluation:
  """Distances of samples, their agreement with their class, diversity within it."""
  splits, found = splits_of(data, {'test': quality.TEST}), independent_classifier(data)
  agreement = bound(
    classes.agreement,
    data,
    splits,
    classify=functools.partial(found.logits, found.params),
    accuracy=float(found.accuracy),
  )
  return merged(images(config, data), agreement)


def images_of_codes(config, data) -> Evaluation:
  """Distances of samples, and what their categorical code of `num_classes` tells."""
  splits = splits_of(data, {'test': quality.TEST, 'train': quality.TRAIN})
  code = bound(classes.categorical_code, data, splits, num_classes=config.num_classes)
  return merged(images(config, data), code)


def reconstructed_images(config, data) -> Evaluation:
  """Distances of samples, and the error of reconstructions of the test split."""
  splits = splits_of(data, {'test': quality.TEST})
  return merged(images(config, data), bound(quality.reconstruction, data, splits))


def stacked_classifier(data: dataset.Dataset, key: base.Array | None = None):
  """A classifier of a stacked set's channels: [B, H, W, 1] -> [B, 10] logits.

  Trained on the examples in 20,000 stacked ones, kept in a cache; it prints its
  accuracy.
  """
  pairs = []
  for split, num in STACKED.items():
    arrays = stacked.unstacked(data.arrays(split, num))
    pairs.append((dataset.transformed(data.spec, arrays)['x'], arrays['label']))
  classifier = features.cached_classifier(
    jax.random.key(0) if key is None else key,
    data.name.removeprefix('stacked:'),
    *pairs,
    num_classes=stacked.CLASSES,
  )
  return functools.partial(classifier.logits, classifier.params)


def images_or_stacked(config, data) -> Evaluation:
  """Modes of 1,000 and reverse KL of stacked sets, distances of other images."""
  if not config.data.startswith('stacked:'):
    return images(config, data)
  splits, classify = splits_of(data, {'test': quality.TEST}), stacked_classifier(data)
  return bound(quality.stacked_modes, data, splits, classify=classify)
