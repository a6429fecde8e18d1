"""Features to measure samples in: a small classifier trained on the spot.

The impure edge of the metrics: weights come from somewhere. Here they come from
a few seconds of training on the data at hand, so that nothing is downloaded and a
number can be had again from its key. Distances in these features are comparable
with one another for one classifier only, never with Inception's.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

Array = jax.Array


class Classifier(NamedTuple):
  """A trained classifier as pure functions of its parameters and images."""

  params: Any
  logits: Callable[[Any, Array], Array]  # (params, images [B, ...]) -> [B, K]
  features: Callable[[Any, Array], Array]  # (params, images) -> [B, num_features]
  accuracy: Array  # [] share of held-out images that are right; NaN without any


class _Network(nn.Module):
  """A multilayer perceptron whose last hidden layer is the features."""

  hidden: int
  num_features: int
  num_classes: int

  def setup(self):
    self.layers = [nn.Dense(self.hidden), nn.Dense(self.num_features)]
    self.readout = nn.Dense(self.num_classes)

  def features(self, images):
    x = images.reshape(images.shape[0], -1)
    for layer in self.layers:
      x = nn.gelu(layer(x))
    return x

  def __call__(self, images):
    return self.readout(self.features(images))


def _fit(network, tx, key, images, labels, steps, batch_size):
  """Parameters after `steps` steps on batches drawn with replacement."""
  init_key, batch_key = jax.random.split(key)
  params = network.init(init_key, images[:1])

  def loss_fn(params, index):
    logits = network.apply(params, images[index])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels[index])
    return losses.mean()

  def step(carry, key):
    params, opt_state = carry
    index = jax.random.randint(key, (batch_size,), 0, images.shape[0])
    grads = jax.grad(loss_fn)(params, index)
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
  num_classes: int,
  test: tuple[Array, Array] | None = None,
  hidden: int = 256,
  num_features: int = 64,
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
  arXiv:1706.08500; the network is our own.

  Args:
    key: of the initialization and the batches.
    images: [N, ...] in model space, of order 1.
    labels: [N] int, in [0, num_classes).
    num_classes: K.
    test: held-out images [M, ...] and labels [M], for `accuracy`.
    hidden: width of the first layer.
    num_features: width of the second layer, the features.
    steps: of the optimizer.
    batch_size: images a step.
    learning_rate: at the peak of the schedule.

  Returns:
    The classifier.

  Raises:
    ValueError: labels that are not [N].
  """
  if labels.shape != images.shape[:1]:
    raise ValueError(
      f'labels must be [N] = {images.shape[:1]} as images, got {labels.shape}'
    )
  network = _Network(hidden, num_features, num_classes)
  tx = optax.adamw(optax.cosine_decay_schedule(learning_rate, steps), weight_decay=1e-2)
  fit = jax.jit(
    lambda key, images, labels: _fit(
      network, tx, key, images, labels, steps, batch_size
    )
  )
  params = fit(key, jnp.asarray(images), jnp.asarray(labels))
  accuracy = jnp.array(jnp.nan)
  if test is not None:
    accuracy = (network.apply(params, test[0]).argmax(axis=-1) == test[1]).mean()
  return Classifier(
    params=params,
    logits=network.apply,
    features=lambda params, x: network.apply(params, x, method='features'),
    accuracy=accuracy,
  )
