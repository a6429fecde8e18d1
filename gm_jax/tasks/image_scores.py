"""Scores of a model's images beside real ones, by name: what --metrics asks for.

Each number says how it was made: features, resize, counts, split and rounding stand in
its kind. See `metrics.scores` and `metrics.extractors`.
"""

import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from gm_jax import base
from gm_jax.metrics import extractors, scores
from gm_jax.tasks import quality, results

MOST = 10_000  # samples where no number is named
LABELED, HELD_OUT = 10_000, 2000  # images that a classifier is trained and tested on
BATCH = 256  # samples drawn at once


def check(metrics: Sequence[str]) -> None:
  """Raises ValueError for a metric that is not known; see `scores.check_names`."""
  scores.check_names(metrics)


def image_scores(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  metrics: Sequence[str] = ('frechet',),
  features: str = '',
  num: int = 0,
  split: str = 'test',
  k: int = 5,
  rounded: bool = True,
  lpips: str = '',
) -> base.Result:
  """Scores samples of images against a split of the data.

  Args:
    method: with samples.
    model: its parameters.
    key: of the samples, and of the choices of scores.
    arrays: raw, by split.
    spec: of the data.
    metrics: names of `scores.SCORES`.
    features: as `extractors.by_name` takes; the classifier of data with classes, else
      pixels, if empty.
    num: of samples; as many as there are real images, up to 10,000, if 0.
    split: of the real images.
    k: of the nearest neighbor in `prdc`.
    rounded: whether images are rounded to 8 bits.
    lpips: a file of weights for `diversity`.

  Returns:
    The numbers, each with its kind and the protocol; of `neighbors` a grid of samples
    with the nearest training images to the right, and the indices of these.

  Raises:
    ValueError: no images, no samples, an unknown name, a file that cannot be used, or
      too few examples.
  """
  scores.check_names(metrics)
  if len(spec.shape) != 3:
    raise ValueError(f'metrics need images [H, W, C], an example is {list(spec.shape)}')
  extractors.check_layout((1, *spec.shape), 'a batch of the data')
  if num < 0:
    raise ValueError(f'num must be 0 or more, got {num}')
  perceptual = scores.perceptual(lpips) if lpips else None
  raw = results.split_of(arrays, split)['x']
  real = _images(spec, raw, rounded, f'the split {split!r}')
  num = num or min(len(real), MOST)
  extractor = extractors.by_name(
    features or ('classifier' if spec.num_classes else 'pixels'),
    lambda: _labeled(arrays, spec),
  )
  sample_key, score_key = jax.random.split(key)
  drawn = draw(method, model, sample_key, num, arrays, spec)
  if drawn.shape[1:] != raw.shape[1:]:
    raise ValueError(
      f'samples are {list(drawn.shape[1:])} and the data {list(raw.shape[1:])}'
    )
  fake = extractors.scaled(*_levels(spec, drawn), rounded)
  train = None
  if scores.NEIGHBORS in metrics and split != 'train' and 'train' in arrays:
    images = _images(spec, arrays['train']['x'], rounded, "the split 'train'")
    train = images, extractors.statistics(extractor, images).features
  fake_features, logits = extractors.extract(extractor, fake)
  sets = scores.Sets(
    real=real,
    fake=fake,
    real_statistics=extractors.statistics(extractor, real),
    fake_statistics=extractors.summary(fake_features, logits),
    train=train,
    k=k,
    perceptual=perceptual,
  )
  found = scores.score(score_key, metrics, sets)
  protocol = extractors.Protocol(
    extractor, len(real), num, split, real.shape[1:3], rounded
  )
  values = {
    name: (value, f'{kind}; {protocol.line()}')
    for name, (value, kind) in found.values.items()
  }
  more = {}
  if scores.NEIGHBORS in found.arrays:
    points = raw if train is None else arrays['train']['x']
    indices = found.arrays[scores.NEIGHBORS]
    more[results.GRID] = scores.neighbor_rows(drawn, points, indices)
  return base.Result(values, {**found.arrays, **more})


def draw(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  num: int,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
) -> np.ndarray:
  """Draws raw samples in chunks that fit memory, kept on the host.

  Args:
    method: with samples.
    model: its parameters.
    key: of the samples.
    num: how many.
    arrays: raw, by split; read for conditions.
    spec: of the data.

  Returns:
    `[num, ...]`, as the data are.
  """
  size = min(BATCH, num)
  count = math.ceil(num / size)
  condition = quality.conditions(method, model, key, size * count, arrays, spec)

  @jax.jit
  def chunk(model, key, condition):
    more = {} if condition is None else {'condition': condition}
    return spec.transform.inverse(method.sample(model, key, size, **more))

  def rows(index):
    return jax.tree.map(lambda c: c[index * size : (index + 1) * size], condition)

  keys = jax.random.split(key, count)
  chunks = [np.asarray(chunk(model, keys[i], rows(i))) for i in range(count)]
  return np.concatenate(chunks)[:num]


def _levels(spec, raw) -> tuple[np.ndarray, tuple[float, float]]:
  """Pixels, and the interval that they are in."""
  if spec.num_levels:
    return np.asarray(raw), (0, spec.num_levels - 1)
  # Of floats, which transforms add no noise to.
  return np.asarray(spec.transform.forward(jax.random.key(0), raw)), (-1, 1)


def _images(spec, raw, rounded, what) -> np.ndarray:
  x, interval = _levels(spec, raw)
  return extractors.as_images(x, interval=interval, rounded=rounded, what=what)


def _labeled(arrays, spec):
  """The name, the train and test images with labels, and the number of classes."""
  if not spec.num_classes:
    raise ValueError(
      'the features of a classifier need classes, which the data have not: name'
      ' --features=pixels or inception:FILE'
    )

  def labeled(split, num):
    found = results.split_of(arrays, split)
    return _images(spec, found['x'][:num], True, split), found['label'][:num]

  size = 'x'.join(map(str, spec.shape[:2]))
  name = f'{spec.num_classes} classes of {size}'
  train, test = labeled('train', LABELED), labeled('test', HELD_OUT)
  return name, train, test, spec.num_classes
