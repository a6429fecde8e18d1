"""Feature extractors of images, with what a number must say of how it was made.

Scores of one name differ between libraries by how images were resized, rounded and
counted. Here images have one form, and an `Extractor` one line of protocol.

Images are [N, H, W, C], gray or color, with values from 0 to 255: uint8 where they were
rounded to 8 bits, else float32. `as_images` makes them, and refuses what only looks so.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gm_jax import base, caches
from gm_jax.metrics import features as features_lib
from gm_jax.metrics import frechet, inception

Array = jax.Array

BLOCK = 4096  # images that a checksum is made of at once
MOMENTS = 8192  # features, at most, whose covariance is computed
# Images are rounded to float32 and back on their way, and end up beside the interval.
TOLERANCE = 1e-3


_MOMENTS = jax.jit(frechet.moments)  # compiled once for sets of the same size


class Resize(NamedTuple):
  """A way to 299x299, and its words in a protocol."""

  name: str
  fn: Callable[[Array], Array]  # [B, H, W, C] -> [B, 299, 299, C]


def pillow_bicubic(images: Array, *, size: int = inception.SIDE) -> Array:
  """Resizes as Pillow does floats: bicubic, and antialiased where it makes smaller.

  Source: On Aliased Resizing and Surprising Subtleties in GAN Evaluation, Parmar et
  al., 2022, arXiv:2104.11222.

  Args:
    images: `[B, H, W, C]`.
    size: height and width of the result.

  Returns:
    `[B, size, size, C]` float32; values may go beyond those of the images.
  """
  shape = (images.shape[0], size, size, images.shape[-1])
  return jax.image.resize(images.astype(jnp.float32), shape, 'cubic', antialias=True)


TENSORFLOW = Resize('bilinear as TensorFlow 1, not antialiased', inception.resize)
CLEAN = Resize('bicubic as Pillow, antialiased', pillow_bicubic)


class Extractor(NamedTuple):
  """A map of images to features, and its words in a protocol.

  name: of the network and its weights.
  resize: 'none', or how images come to its size.
  params: of the network, no part of the function: weights in it would be constants.
  apply: (params, images [B, H, W, C] from 0 to 255) -> (features [B, F], logits [B, K]
    or None).
  fingerprint: equal for equal functions; '' where nothing is to be kept.
  chunk: images at a time.
  """

  name: str
  resize: str
  params: Any
  apply: Callable[[Any, Array], tuple[Array, Array | None]]
  fingerprint: str
  chunk: int = 256


def from_function(name: str, fn: Callable[[Array], Array]) -> Extractor:
  """Makes an extractor of any function; nothing of it is kept in files.

  Args:
    name: of the features, for the protocol.
    fn: images `[B, H, W, C]` from 0 to 255 -> features `[B, F]`.
  """
  return Extractor(name, 'none', (), lambda params, x: (fn(x), None), '')


def pixels() -> Extractor:
  """Makes the extractor of the pixels themselves, in [0, 1]."""
  return Extractor('pixels in [0, 1]', 'none', (), _flat, '')


def _flat(params, images):
  del params
  return images.reshape(len(images), -1) / 255.0, None


def inception_v3(path: str, *, resize: Resize = TENSORFLOW) -> Extractor:
  """Makes the extractor of the FID; see `metrics.inception`.

  The weights have no head of classes, so that there are no logits.

  Args:
    path: of the file of weights.
    resize: TENSORFLOW, as published numbers are made, or CLEAN.

  Raises:
    ValueError: no such file, or one of other weights.
  """
  params = inception.load(path)
  checksum = fingerprint(params)

  def apply(params, images):
    return inception.features(params, images, resize=resize.fn), None

  name = f'Inception-v3 of 2015-12-05, pool3, weights {checksum}'
  mark = f'inception {checksum} {resize.name}'
  text = f'{resize.name}, to {inception.SIDE}x{inception.SIDE}'
  return Extractor(name, text, jax.device_put(params), apply, mark, chunk=32)


def classifier(
  name: str,
  train: tuple[np.ndarray, np.ndarray],
  test: tuple[np.ndarray, np.ndarray],
  *,
  num_classes: int,
) -> Extractor:
  """Makes the extractor of a small classifier trained on the set at hand, and cached.

  See `features.cached_classifier`. Its numbers compare for this classifier only.

  Args:
    name: of the data.
    train: images and labels `[N]`.
    test: held-out images and labels.
    num_classes: K.
  """
  key = jax.random.key(0)
  inputs = [(_small(images), np.asarray(labels)) for images, labels in (train, test)]
  found = features_lib.cached_classifier(key, name, *inputs, num_classes=num_classes)
  checksum = fingerprint(jax.device_get(found.params))

  def apply(params, images):
    x = _small(images)
    return found.features(params, x), found.logits(params, x)

  percent = f'{100 * float(found.accuracy):.1f}% of held-out images right'
  name = f'small classifier of {name}, {percent}, weights {checksum}'
  return Extractor(name, 'none', found.params, apply, f'classifier {checksum}')


def _small(images):
  """Takes images to [-1, 1]."""
  return images / np.float32(127.5) - np.float32(1.0)


def by_name(
  text: str, labeled: Callable[[], tuple[str, tuple, tuple, int]]
) -> Extractor:
  """Makes the extractor that the command line names.

  Args:
    text: 'pixels', 'classifier', or 'inception:FILE', with '?resize=clean' after it.
    labeled: makes (name, train, test, num_classes) of `classifier`; called for it only.

  Raises:
    ValueError: no such name; or the file or the data cannot be used.
  """
  kind, colon, rest = text.partition(':')
  if kind == 'inception' and rest:
    path, mark, option = rest.rpartition('?')
    resizes = {'resize=clean': CLEAN, 'resize=tensorflow': TENSORFLOW}
    if not mark:
      return inception_v3(rest)
    if option not in resizes:
      raise ValueError(f'features {text!r}: after the ? comes {" or ".join(resizes)}')
    return inception_v3(path, resize=resizes[option])
  if text == 'pixels':
    return pixels()
  if text == 'classifier':
    name, train, test, num_classes = labeled()
    return classifier(name, train, test, num_classes=num_classes)
  raise ValueError(
    f'no features {text!r}; one of: pixels, classifier, inception:FILE,'
    ' inception:FILE?resize=clean'
  )


def as_images(
  x: np.ndarray, *, interval: tuple[float, float], rounded: bool = True, what: str = 'x'
) -> np.ndarray:
  """Brings images to the form of this module, if they are what they are said to be.

  Args:
    x: `[N, H, W, C]`, C 1 or 3.
    interval: values that become 0 and 255, as (-1, 1).
    rounded: whether they are rounded to 8 bits, as in a file of images.
    what: the name of the images, for messages.

  Returns:
    `[N, H, W, C]` uint8 if rounded, else float32.

  Raises:
    ValueError: another layout, as [N, C, H, W]; values outside of the interval, or all
      of them in the upper half of one, as [0, 1] for [-1, 1]; values not finite.
  """
  x = np.asarray(x)
  check_layout(x.shape, what)
  low, high = interval
  least, most = float(x.min()), float(x.max())
  if not np.isfinite([least, most]).all():
    raise ValueError(f'{what} has values that are not finite')
  slack = TOLERANCE * (high - low)
  if least < low - slack or most > high + slack:
    raise ValueError(
      f'{what} has values from {least:g} to {most:g}, expected from {low:g} to {high:g}'
    )
  if low < 0 and least >= 0 and most > least:
    raise ValueError(
      f'{what} has values from {least:g} to {most:g}, which seem to be in [0,'
      f' {high:g}], expected from {low:g} to {high:g}'
    )
  return scaled(x, interval, rounded)


def scaled(
  x: np.ndarray, interval: tuple[float, float], rounded: bool = True
) -> np.ndarray:
  """Takes an interval to [0, 255]; what is beyond is cut off, as samples may be.

  Args:
    x: `[...]`.
    interval: values that become 0 and 255.
    rounded: whether they are rounded to 8 bits.

  Returns:
    `[...]` uint8 if rounded, else float32.
  """
  low, high = interval
  if x.dtype == np.uint8 and (low, high) == (0, 255):
    return x if rounded else x.astype(np.float32)
  y = (np.asarray(x, np.float32) - low) * np.float32(255 / (high - low))
  y = np.clip(y, 0, 255)
  return np.rint(y).astype(np.uint8) if rounded else y


def check_layout(shape: Sequence[int], what: str = 'x') -> None:
  """Raises ValueError unless a shape is that of gray or color images [N, H, W, C]."""
  right = f'{what} must be [N, H, W, C] with C 1 or 3, got {list(shape)}'
  if len(shape) != 4:
    raise ValueError(right)
  if shape[-1] not in (1, 3):
    swapped = (
      ', which seems to be [N, C, H, W]: transpose it' if shape[1] in (1, 3) else ''
    )
    raise ValueError(f'{right}{swapped}')
  if not all(shape):
    raise ValueError(f'{right}: it has no pixels')


class Statistics(NamedTuple):
  """Features of a set of images, and what is computed from them."""

  features: np.ndarray  # [N, F]
  logits: np.ndarray | None  # [N, K]
  moments: tuple[np.ndarray, np.ndarray] | None  # [F], [F, F]; None of many features


def extract(extractor: Extractor, images: Any) -> tuple[np.ndarray, np.ndarray | None]:
  """Features of many images, in chunks.

  Args:
    extractor: of the features.
    images: `[N, H, W, C]` as the module describes, or whatever has such a length and
      gives such arrays by slices.

  Returns:
    `[N, F]` features and `[N, K]` logits or None.
  """
  num = len(images)
  chunk = -(-num // -(-num // extractor.chunk))  # chunks of about one size
  apply = _compiled(extractor.apply)
  found = []
  for first in range(0, num, chunk):
    x = np.asarray(images[first : first + chunk])
    missing = chunk - len(x)  # the last chunk is filled up: one program does all
    x = np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]) if missing else x
    outputs = apply(extractor.params, x.astype(np.float32))
    found.append(jax.tree.map(lambda a, n=chunk - missing: np.asarray(a)[:n], outputs))
  joined = jax.tree.map(lambda *parts: np.concatenate(parts), *found)
  if not np.isfinite(joined[0]).all():
    raise ValueError(f'{extractor.name}: features that are not finite')
  return joined


@functools.lru_cache(4)
def _compiled(apply: Callable) -> Callable:
  return jax.jit(apply)


def statistics(extractor: Extractor, images: Any) -> Statistics:
  """Features and moments of a reference set, computed or read from a file.

  The file is in the folder that the environment names in GM_JAX_CACHE, by default
  ~/.cache/gm_jax/statistics, and its name has checksums of all pixels and of extractor.
  A file that cannot be used is replaced; a folder that cannot be written is no error.

  Args:
    extractor: of the features.
    images: as in `extract`.
  """
  path = None
  folder = caches.folder('statistics') if extractor.fingerprint else None
  if folder is not None:
    blocks = (images[i : i + BLOCK] for i in range(0, len(images), BLOCK))
    names = caches.fingerprint(blocks), caches.fingerprint([extractor.fingerprint])
    path = folder / f'statistics-{"-".join(names)}.npz'
    found = _read(path, len(images))
    if found is not None:
      return found
  found = summary(*extract(extractor, images))
  if path is not None:
    mean, cov = found.moments or (None, None)
    arrays = {'features': found.features, 'logits': found.logits}
    arrays |= {'mean': mean, 'covariance': cov}
    caches.write(path, {k: v for k, v in arrays.items() if v is not None})
  return found


def summary(features: np.ndarray, logits: np.ndarray | None = None) -> Statistics:
  """Statistics of features.

  Args:
    features: `[N, F]`.
    logits: `[N, K]` or None.
  """
  moments = None
  if len(features) > 1 and features.shape[1] <= MOMENTS:
    moments = tuple(map(np.asarray, _MOMENTS(features)))
  return Statistics(features, logits, moments)


def _read(path, num) -> Statistics | None:
  arrays = caches.read(path) or {}
  features, mean, cov = (arrays.get(k) for k in ('features', 'mean', 'covariance'))
  logits = arrays.get('logits')
  good = (
    features is not None
    and features.ndim == 2
    and len(features) == num
    and (logits is None or logits.ndim == 2 and len(logits) == num)
    and (mean is None) == (cov is None)
    and (mean is None or cov.shape == 2 * mean.shape == 2 * features.shape[1:])
    and all(a.dtype == np.float32 and np.isfinite(a).all() for a in arrays.values())
  )
  moments = None if mean is None else (mean, cov)
  return Statistics(features, logits, moments) if good else None


def fingerprint(tree: base.PyTree) -> str:
  """Eight hexadecimal digits, equal for equal arrays and texts in a tree."""
  found = jax.tree_util.tree_leaves_with_path(tree)
  return caches.fingerprint(
    part
    for path, leaf in found
    for part in (
      jax.tree_util.keystr(path),
      leaf if isinstance(leaf, str) else np.asarray(leaf),
    )
  )


class Protocol(NamedTuple):
  """How a score was made, all that changes its value."""

  extractor: Extractor
  num_real: int
  num_fake: int
  split: str  # of the real images: 'test', 'all'
  size: tuple[int, ...]  # height and width of images before they are resized
  rounded: bool

  def line(self) -> str:
    """All of it in one line."""
    return (
      f'features: {self.extractor.name}; resize: {self.extractor.resize} from'
      f' {self.size[0]}x{self.size[1]}; real: {self.num_real} ({self.split}); fake:'
      f' {self.num_fake}; {"rounded to 8 bits" if self.rounded else "not rounded"}'
    )
