"""Features for metrics of samples: those of a small classifier trained on the spot.

This is the impure edge of the metrics. Weights come from a few seconds of training on
the data at hand, so that nothing is downloaded and a number can be reproduced from its
key; `cached_classifier` keeps them in a file. Distances in these features are to be
compared for one classifier only, never with Inception's.

A network here is a Flax module, called as `network(images [B, H, W, C])` -> logits
[B, K], with a method `features` -> [B, F] of which the logits are linear. Images are
in model space, of order 1.
"""

import pathlib
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from gm_jax import caches
from gm_jax.losses import shapes

Array = jax.Array

CHUNK = 512  # images at a time where there may be many


class Classifier(NamedTuple):
  """A trained classifier as pure functions of its parameters and images."""

  params: Any
  logits: Callable[[Any, Array], Array]  # (params, images [B, ...]) -> [B, K]
  features: Callable[[Any, Array], Array]  # (params, images) -> [B, F]
  accuracy: Array  # [] fraction of held-out images that are right; NaN without any


class Perceptron(nn.Module):
  """A multilayer perceptron whose last hidden layer is the features.

  Attributes:
    num_classes: K.
    hidden: width of the first layer.
    num_features: F, width of the second layer.
  """

  num_classes: int
  hidden: int = 256
  num_features: int = 64

  def setup(self):
    self.layers = [nn.Dense(self.hidden), nn.Dense(self.num_features)]
    self.readout = nn.Dense(self.num_classes)

  def features(self, images):
    """Maps images `[B, ...]` to features `[B, F]`."""
    x = images.reshape(images.shape[0], -1)
    for layer in self.layers:
      x = nn.gelu(layer(x))
    return x

  def __call__(self, images):
    """Maps images `[B, ...]` to logits `[B, K]`."""
    return self.readout(self.features(images))


class ConvNet(nn.Module):
  """Two 3x3 convolutions, down to at most half the size, and a dense layer.

  The first convolution halves the size of images above 8x8, the second of all.

  Attributes:
    num_classes: K.
    channels: of the two convolutions.
    num_features: F, width of the dense layer.
  """

  num_classes: int
  channels: tuple[int, int] = (16, 32)
  num_features: int = 128

  def setup(self):
    self.convolutions = [nn.Dense(channels) for channels in self.channels]
    self.dense = nn.Dense(self.num_features)
    self.readout = nn.Dense(self.num_classes)

  def features(self, images):
    """Maps images `[B, H, W, C]` to features `[B, F]`."""
    x = nn.gelu(self.convolutions[0](_patches(images, 2 if images.shape[1] > 8 else 1)))
    x = nn.gelu(self.convolutions[1](_patches(x, 2)))
    return nn.gelu(self.dense(x.reshape(x.shape[0], -1)))

  def __call__(self, images):
    """Maps images `[B, H, W, C]` to logits `[B, K]`."""
    return self.readout(self.features(images))


def _patches(x: Array, stride: int) -> Array:
  """The 3x3 patch about every stride-th pixel: [B, H, W, C] -> [B, H', W', 9 C].

  A dense layer of patches is a convolution; the gradient of XLA's own is slow on a CPU
  inside a scan.
  """
  rows, columns = x.shape[1:3]
  x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  taps = [
    x[:, i : i + rows : stride, j : j + columns : stride]
    for i in range(3)
    for j in range(3)
  ]
  return jnp.concatenate(taps, axis=-1)


def random_shift(key: Array, images: Array, *, pixels: int) -> Array:
  """Shifts each image by up to some pixels in both directions, uniformly.

  Pixels from outside have the smallest value among all images: the background of
  digits.

  Args:
    key: `[]` typed key of the shifts.
    images: `[B, H, W, C]` images.
    pixels: the largest shift.

  Returns:
    `[B, H, W, C]` images.
  """
  pad = ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0))
  padded = jnp.pad(images, pad, constant_values=images.min())
  corners = jax.random.randint(key, (images.shape[0], 2), 0, 2 * pixels + 1)

  def window(image, corner):
    return jax.lax.dynamic_slice(image, (*corner, 0), images.shape[1:])

  return jax.vmap(window)(padded, corners)


def _fit(network, tx, key, images, labels, *, augment, steps, batch_size):
  """Parameters after `steps` steps on batches drawn with replacement."""
  init_key, batch_key = jax.random.split(key)
  params = network.init(init_key, images[:1])

  def loss_fn(params, x, labels):
    logits = network.apply(params, x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

  def step(carry, key):
    params, opt_state = carry
    index_key, augment_key = jax.random.split(key)
    index = jax.random.randint(index_key, (batch_size,), 0, images.shape[0])
    x = images[index] if augment is None else augment(augment_key, images[index])
    grads = jax.grad(loss_fn)(params, x, labels[index])
    updates, opt_state = tx.update(grads, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), None

  keys = jax.random.split(batch_key, steps)
  (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), keys)
  return params


def train_classifier(
  key: Array,
  images: Array,
  labels: Array,
  *,
  network: nn.Module,
  test: tuple[Array, Array] | None = None,
  augment: Callable[[Array, Array], Array] | None = None,
  steps: int = 1000,
  batch_size: int = 128,
  learning_rate: float = 2e-3,
) -> Classifier:
  """Trains a small classifier, whose penultimate layer gives features.

  min over params of E[-log softmax(logits(x))_label]

  with AdamW and a cosine schedule, in one compiled scan; the same key and data
  give the same parameters on the same device. The images stay on the device: for
  data that fit there.

  Source: the practice, with Inception, of GANs Trained by a Two Time-Scale Update
  Rule Converge to a Local Nash Equilibrium, Heusel et al., 2017,
  arXiv:1706.08500; the networks are our own.

  Args:
    key: `[]` typed key of the initialization, the batches and the augmentation.
    images: `[N, ...]` in model space, of order 1.
    labels: `[N]` int, in [0, K).
    network: as the module describes.
    test: held-out images `[M, ...]` and labels `[M]`, for `accuracy`.
    augment: (key, images `[B, ...]`) -> images, drawn afresh in every step.
    steps: of the optimizer.
    batch_size: images a step.
    learning_rate: at the peak of the schedule.

  Returns:
    The classifier.

  Raises:
    ValueError: labels that are not [N], not integers or not in [0, K).
  """
  if labels.shape != images.shape[:1]:
    raise ValueError(
      f'labels must be [N] = {images.shape[:1]} as images, got {labels.shape}'
    )
  images, labels = jnp.asarray(images), jnp.asarray(labels)
  logits, _ = jax.eval_shape(network.init_with_output, key, images[:1])
  shapes.check_levels(logits.shape[-1], labels=labels)  # else NaN would train on
  tx = optax.adamw(optax.cosine_decay_schedule(learning_rate, steps), weight_decay=1e-2)

  @jax.jit
  def fit(key, images, labels):
    sizes = {'steps': steps, 'batch_size': batch_size}
    return _fit(network, tx, key, images, labels, augment=augment, **sizes)

  params = fit(key, images, labels)
  accuracy = np.float32(np.nan)  # on the host: NaN is looked for on devices
  if test is not None:
    accuracy = _accuracy(network, params, *map(jnp.asarray, test))
  return _classifier(network, params, accuracy)


def _classifier(network: nn.Module, params: Any, accuracy: Array) -> Classifier:
  return Classifier(
    params=params,
    logits=network.apply,
    features=lambda params, x: network.apply(params, x, method='features'),
    accuracy=accuracy,
  )


def _accuracy(network: nn.Module, params: Any, images: Array, labels: Array) -> Array:
  """The fraction `[]` of images `[M, ...]` whose largest logit is their label's."""

  def predict(image):
    return network.apply(params, image[None])[0].argmax()

  return (jax.lax.map(predict, images, batch_size=CHUNK) == labels).mean()


def cached_classifier(
  key: Array,
  name: str,
  train: tuple[Array, Array],
  test: tuple[Array, Array],
  *,
  num_classes: int,
  steps: int = 1500,
  shift: int | None = None,
) -> Classifier:
  """Trains a convolutional classifier, or reads the one trained before.

  `ConvNet` on shifted images by `train_classifier`. The parameters are kept in the
  folder that the environment names in GM_JAX_CACHE, by default
  ~/.cache/gm_jax/classifiers, in a file whose name has a checksum of the data and
  the settings. A file that cannot be used is replaced; a folder that cannot be
  written is no error. Prints the name and the fraction of held-out images that
  are right.

  Args:
    key: `[]` typed key, as in `train_classifier`.
    name: of the data, for the file and the printed line.
    train: images `[N, H, W, C]` in model space, and labels `[N]`.
    test: held-out images `[M, H, W, C]` and labels `[M]`.
    num_classes: K.
    steps: of the optimizer.
    shift: pixels that images are shifted by at most, 0 where the place is the class;
      two of MNIST's 28, and in proportion, if None.

  Returns:
    The classifier.
  """
  network = ConvNet(num_classes)
  pixels = max(1, train[0].shape[1] // 14) if shift is None else shift
  settings = f'{network} shifted {pixels} steps {steps}'
  path = _cache_file(name, settings, [jax.random.key_data(key), *train, *test])
  like = jax.eval_shape(network.init, key, train[0][:1])
  found = _read(path, like) if path else None
  if found is None:
    classifier = train_classifier(
      key,
      *train,
      network=network,
      test=test,
      augment=(lambda key, x: random_shift(key, x, pixels=pixels)) if pixels else None,
      steps=steps,
      batch_size=64,
    )
    if path:
      flat = traverse_util.flatten_dict(jax.device_get(classifier.params), sep='/')
      caches.write(path, {'accuracy': np.asarray(classifier.accuracy), **flat})
  else:
    classifier = _classifier(network, *found)
  percent = f'{100 * float(classifier.accuracy):.1f}%'
  print(f'classifier {name}: {percent} of {len(test[1])} held-out images', flush=True)
  return classifier


def _cache_file(name: str, settings: str, arrays: list) -> pathlib.Path | None:
  checksum = zlib.crc32(settings.encode())
  for array in map(np.asarray, arrays):
    checksum = zlib.crc32(f'{array.shape}{array.dtype}'.encode(), checksum)
    checksum = zlib.crc32(np.ascontiguousarray(array).data.cast('B'), checksum)
  folder = caches.folder('classifiers')
  if folder is None:
    return None
  # Of a long name, as of joined sets, the beginning: file systems have a limit.
  plain = ''.join(c if c.isalnum() else '_' for c in name[:100])
  return folder / f'{plain}-{checksum:08x}.npz'


def _read(path: pathlib.Path, like: Any) -> tuple[Any, Array] | None:
  """Reads parameters like those of `like`, and the accuracy; None if they differ."""
  like = traverse_util.flatten_dict(like, sep='/')
  arrays = caches.read(path)
  if arrays is None:
    return None
  accuracy = arrays.pop('accuracy', np.array(np.nan))
  same = arrays.keys() == like.keys() and all(
    (arrays[n].shape, arrays[n].dtype) == (like[n].shape, like[n].dtype)
    and np.isfinite(arrays[n]).all()
    for n in like
  )
  if not same or accuracy.shape != () or not 0 <= accuracy <= 1:
    return None
  params = traverse_util.unflatten_dict(arrays, sep='/')
  return jax.tree.map(jnp.asarray, params), jnp.asarray(accuracy)
