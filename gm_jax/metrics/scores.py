"""Scores of samples beside real images by name, each with how it was made.

`score` computes any of SCORES from features of two sets of images (`extractors`).
Every number has a kind of its own, and all have the protocol in common: two numbers
compare only where kind and protocol agree. Random choices are by a key.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gm_jax import base
from gm_jax.losses import discrepancy
from gm_jax.metrics import (
  diversity,
  extractors,
  frechet,
  inception_score,
  kernel_distance,
  lpips,
  neighbors,
  prdc,
  two_sample,
)

Array = jax.Array

NEIGHBORS = 'neighbors'  # an array of indices: of training images near a sample
ROWS, COLUMNS = 8, 7  # samples in a picture of neighbors, and neighbors of each
TESTED = 1000  # rows of each set in a two-sample test, at most
PERMUTATIONS = 500
SUBSETS, SUBSET = 100, 1000  # of the kernel distance
SPLITS = 10  # of the Inception Score
PAIRS = 2000  # of the diversity
SMALLEST = 64  # pixels that LPIPS is given at least
# Compiled once for sets of the same size.
_FRECHET = jax.jit(frechet.frechet_distance)
_PRDC = jax.jit(prdc.prdc, static_argnames=('k', 'chunk'))
_KERNEL = jax.jit(
  kernel_distance.kernel_distance,
  static_argnames=('num_subsets', 'subset_size', 'kernel'),
)
_INCEPTION_SCORE = jax.jit(
  inception_score.inception_score, static_argnames='num_splits'
)
_NEAREST = jax.jit(neighbors.nearest, static_argnames=('num', 'chunk'))


class Perceptual(NamedTuple):
  """LPIPS by weights of a file."""

  weights: lpips.Lpips
  checksum: str


class Sets(NamedTuple):
  """Two sets of images, and what is known of them.

  real, fake: `[N, H, W, C]` and `[M, H, W, C]`, as in `extractors`.
  real_statistics, fake_statistics: of `extractors.statistics`.
  train: images that `neighbors` looks among, and their features; None for `real`.
  k: of the nearest neighbor in `prdc`.
  perceptual: for `diversity`; else it is measured in the features.
  """

  real: Any
  fake: Any
  real_statistics: extractors.Statistics
  fake_statistics: extractors.Statistics
  train: tuple[Any, np.ndarray] | None = None
  k: int = 5
  perceptual: Perceptual | None = None


def perceptual(path: str) -> Perceptual:
  """Reads the weights of LPIPS; see `lpips.load`."""
  weights = lpips.load(path)
  return Perceptual(weights, extractors.fingerprint(weights))


def _frechet(key, sets):
  del key
  both = sets.real_statistics.moments, sets.fake_statistics.moments
  if any(moments is None for moments in both):
    num = sets.fake_statistics.features.shape[1]
    raise ValueError(
      f'frechet needs the covariance of features, of which there are {num}, and at'
      f' most {extractors.MOMENTS} are taken: name other --features'
    )
  value = _FRECHET(*both[0], *both[1])
  return {'frechet': (value, 'estimate, biased upwards')}, {}


def _prdc(key, sets):
  del key
  found = _PRDC(*_features(sets), k=sets.k)
  kind = f'estimate, k = {sets.k}'
  return {name: (value, kind) for name, value in found._asdict().items()}, {}


def _kernel(key, sets):
  real, fake = _features(sets)
  size = min(SUBSET, len(real), len(fake))
  mean, error = _KERNEL(key, real, fake, num_subsets=SUBSETS, subset_size=size)
  kind = f'estimate, unbiased, (x.y / D + 1)^3, {SUBSETS} subsets of {size}'
  return {
    'kernel_distance': (mean, kind),
    'kernel_distance_se': (error, 'standard error over the subsets'),
  }, {}


def _inception_score(key, sets):
  both = sets.fake_statistics.logits, sets.real_statistics.logits
  if any(logits is None for logits in both):
    raise ValueError(
      'inception_score needs the logits of classes, which these features have not:'
      ' name --features=classifier'
    )
  found = {}
  keys = jax.random.split(key)
  for suffix, key, logits in zip(('', '_real'), keys, both, strict=True):
    splits = min(SPLITS, len(logits))
    # Each split shall have all classes, where images are sorted by class.
    shuffled = jax.random.permutation(key, jnp.asarray(logits))
    mean, std = _INCEPTION_SCORE(shuffled, num_splits=splits)
    kind = f'biased downwards, {splits} splits of {len(logits)} images'
    found[f'inception_score{suffix}'] = (mean, f'estimate, {kind}')
    found[f'inception_score{suffix}_std'] = (std, 'standard deviation over splits')
  return found, {}


def _two_sample(key, sets):
  choice_key, permutation_key, classifier_key = jax.random.split(key, 3)
  keys = jax.random.split(choice_key)
  real, fake = (
    rows[np.sort(np.asarray(jax.random.permutation(key, len(rows)))[:TESTED])]
    for key, rows in zip(keys, _features(sets), strict=True)
  )
  # Of both together: that of one would tell the sets apart.
  width = float(kernel_distance.median_bandwidth(jnp.concatenate([real, fake])))
  if not width > 0:
    raise ValueError('most images have the same features: name other --features')
  statistic, p_value = two_sample.permutation_test(
    permutation_key, real, fake, kernel=discrepancy.gaussian(std=width),
    num_permutations=PERMUTATIONS,
  )  # fmt: skip
  test = two_sample.classifier_test(classifier_key, real, fake)
  rows = f'{len(real)} and {len(fake)} rows'
  kernel = f'Gaussian kernel of the median distance {width:.3g}, {rows}'
  permuted = f'{PERMUTATIONS} permutations, {rows}'
  return {
    'mmd2': (statistic, kernel),
    'mmd2_p_value': (p_value, permuted),
    'c2st_accuracy': (test.accuracy, f'of held-out rows, 0.5 if alike, {rows}'),
    'c2st_p_value': (test.p_value, rows),
  }, {}


def _neighbors(key, sets):
  del key
  real, fake = _features(sets)
  points = real if sets.train is None else sets.train[1]
  num = min(COLUMNS, len(points))
  indices, distances = _NEAREST(fake, points, num=num)
  kind = f'median of the distance to the nearest of {len(points)} training images'
  found = {'neighbor_distance': (jnp.median(distances[:, 0]), kind)}
  if sets.train is not None:
    held_out = jnp.median(_NEAREST(real, points, num=num)[1][:, 0])
    found['neighbor_distance_real'] = (held_out, 'the same of the real images')
  return found, {NEIGHBORS: np.asarray(indices)}


def _diversity(key, sets):
  fake_key, real_key = jax.random.split(key)
  if sets.perceptual is None:
    inputs = sets.fake_statistics.features, sets.real_statistics.features
    weights, name = (), 'Euclidean distance of features'

    def distance(weights, x, y):
      return jnp.linalg.norm(x - y, axis=-1)

  else:
    inputs, side = (sets.fake[:PAIRS], sets.real[:PAIRS]), min(sets.fake.shape[1:3])
    weights, checksum = sets.perceptual
    name = f'LPIPS 0.1, {weights.name}, weights {checksum}'
    grown = [max(SMALLEST, length) for length in sets.fake.shape[1:3]]
    name += f', images made {grown[0]}x{grown[1]}' if side < SMALLEST else ''

    def distance(weights, x, y):
      def large(x):
        shape = (len(x), *grown, x.shape[-1])
        return jax.image.resize(x.astype(jnp.float32), shape, 'linear')

      return lpips.distance(weights, large(x), large(y))

  @jax.jit
  def mean(key, weights, x):
    def pairwise(x, y):
      return distance(weights, x, y)

    return diversity.mean_pairwise_distance(key, x, pairwise, num_pairs=PAIRS)

  found = {}
  for suffix, key, rows in zip(
    ('', '_real'), (fake_key, real_key), inputs, strict=True
  ):
    value, error = mean(key, weights, rows)
    kind = f'mean of {PAIRS} pairs, {name}'
    found[f'diversity{suffix}'] = (value, kind)
    found[f'diversity{suffix}_se'] = (error, 'standard error')
  return found, {}


def _features(sets) -> tuple[np.ndarray, np.ndarray]:
  return sets.real_statistics.features, sets.fake_statistics.features


# (key, Sets) -> ({name: (number [], kind)}, {name: array}), and rows that it needs.
SCORES: Mapping[str, tuple[Callable, int]] = {
  'frechet': (_frechet, 2),
  'prdc': (_prdc, 2),
  'kernel': (_kernel, 2),
  'inception_score': (_inception_score, 1),
  'two_sample': (_two_sample, 8),
  'neighbors': (_neighbors, 1),
  'diversity': (_diversity, 2),
}


def check_names(names: Sequence[str]) -> None:
  """Raises ValueError for a name that is none of SCORES, or none at all."""
  known = ', '.join(SCORES)
  if not names:
    raise ValueError(f'no metrics named; there are: {known}')
  for name in names:
    if name not in SCORES:
      near = difflib.get_close_matches(name, SCORES, 1, 0)[0]
      raise ValueError(f'no metric {name!r}; did you mean {near!r}? There are: {known}')


def score(key: Array, names: Sequence[str], sets: Sets) -> base.Result:
  """Computes scores.

  Args:
    key: `[]` typed key of subsets, permutations and pairs.
    names: of SCORES.
    sets: the images and their features.

  Returns:
    Numbers with their kinds, to which the protocol is to be added; and of `neighbors`
    the array NEIGHBORS `[M, n]`, indices of the training images.

  Raises:
    ValueError: an unknown name, or sets that are too small for a score.
  """
  check_names(names)
  values, arrays = {}, {}
  for name in dict.fromkeys(names):
    fn, least = SCORES[name]
    for what in ('real', 'fake'):
      num = len(getattr(sets, f'{what}_statistics').features)
      if num < least:
        raise ValueError(f'{name} needs {least} {what} images or more, got {num}')
    # By name, so that a score does not depend on what else is asked for.
    found, more = fn(jax.random.fold_in(key, list(SCORES).index(name)), sets)
    values |= found
    arrays |= more
  return base.Result(values, arrays)


def neighbor_rows(
  samples: np.ndarray, points: Any, indices: np.ndarray, num: int = ROWS
) -> np.ndarray:
  """Lays out samples, each with its nearest points to the right.

  Args:
    samples: `[M, ...]`.
    points: `[P, ...]`.
    indices: `[M, n]` of the points.
    num: of samples, the first.

  Returns:
    `[rows, 1 + n, ...]`.
  """
  rows = [
    np.stack([samples[i], *(np.asarray(points[j : j + 1])[0] for j in indices[i])])
    for i in range(min(num, len(samples)))
  ]
  return np.stack(rows)
