"""Differentiable augmentations of images `[B, H, W, C]` in [-1, 1].

Each is a function (key, x) -> x of the same shape that draws one parameter an
example. They are applied to data and samples alike in both players' updates: the critic
is never applied to an image as it is, and the generator's gradient passes through the
augmentation.

Source: Differentiable Augmentation for Data-Efficient GAN Training, Zhao et al., 2020,
arXiv:2006.10738; constants as in the authors' code.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

Array = jax.Array
Augmentation = Callable[[Array, Array], Array]


def _draw(key: Array, x: Array, low: float, high: float) -> Array:
  """Draws a uniform number an example, `[B, 1, 1, 1]`."""
  message = 'x must be images [B, H, W, C]'
  chex.assert_rank(x, 4, custom_message=message, exception_type=ValueError)
  return jax.random.uniform(key, (len(x), 1, 1, 1), x.dtype, low, high)


def brightness(key: Array, x: Array) -> Array:
  """Adds b ~ U(-0.5, 0.5).

  Args:
    key: `[]` typed key.
    x: `[B, H, W, C]` images.

  Returns:
    `[B, H, W, C]` images.
  """
  return x + _draw(key, x, -0.5, 0.5)


def saturation(key: Array, x: Array) -> Array:
  """Scales the distance from a pixel's mean over channels by U(0, 2).

  Args:
    key: `[]` typed key.
    x: `[B, H, W, C]` images.

  Returns:
    `[B, H, W, C]` images.
  """
  scale, mean = _draw(key, x, 0.0, 2.0), x.mean(axis=3, keepdims=True)
  return (x - mean) * scale + mean


def contrast(key: Array, x: Array) -> Array:
  """Scales the distance from the image's mean by U(0.5, 1.5).

  Args:
    key: `[]` typed key.
    x: `[B, H, W, C]` images.

  Returns:
    `[B, H, W, C]` images.
  """
  scale, mean = _draw(key, x, 0.5, 1.5), x.mean(axis=(1, 2, 3), keepdims=True)
  return (x - mean) * scale + mean


def _shift(image: Array, shift: Array, pad: tuple[int, int]) -> Array:
  widths = ((pad[0], pad[0]), (pad[1], pad[1]), (0, 0))
  start = (pad[0] - shift[0], pad[1] - shift[1], 0)
  return jax.lax.dynamic_slice(jnp.pad(image, widths), start, image.shape)


def translation(key: Array, x: Array) -> Array:
  """Moves by up to an eighth of each side, in integer pixels; zeros come in.

  Args:
    key: `[]` typed key.
    x: `[B, H, W, C]` images.

  Returns:
    `[B, H, W, C]` images.
  """
  # Static for the padding, and rounded half up as in the authors' code.
  limits = tuple(int(size / 8 + 0.5) for size in x.shape[1:3])
  limit = jnp.array(limits)
  shift = jax.random.randint(key, (len(x), 2), -limit, limit + 1)
  return jax.vmap(lambda image, shift: _shift(image, shift, limits))(x, shift)


def cutout(key: Array, x: Array) -> Array:
  """Sets a rectangle of half of each side to 0, its center anywhere in the image.

  Args:
    key: `[]` typed key.
    x: `[B, H, W, C]` images.

  Returns:
    `[B, H, W, C]` images.
  """
  height, width = x.shape[1:3]
  keys = jax.random.split(key)

  def inside_interval(key, size):
    # The bound is the authors': one more center where the half is even.
    center = jax.random.randint(key, (len(x), 1), 0, size + 1 - (size // 2) % 2)
    offset = jnp.arange(size) - center + size // 4
    return (offset >= 0) & (offset < size // 2)

  rows, columns = inside_interval(keys[0], height), inside_interval(keys[1], width)
  hidden = rows[:, :, None, None] & columns[:, None, :, None]
  return jnp.where(hidden, 0.0, x)


def noise(std: float) -> Augmentation:
  """Returns the augmentation that adds Gaussian noise to every number.

  Distributions that lie on thin sets overlap with it, and a critic of noisy images
  cannot be moved by patterns that are below the noise.

  Source: Towards Principled Methods for Training Generative Adversarial Networks,
  Arjovsky and Bottou, 2017, arXiv:1701.04862, section 3.

  Args:
    std: standard deviation, of images in [-1, 1].

  Raises:
    ValueError: `std` is below 0.
  """
  if std < 0:
    raise ValueError(f'std must be >= 0, got {std}')
  return lambda key, x: x + std * jax.random.normal(key, x.shape, x.dtype)


def compose(*parts: Augmentation) -> Augmentation:
  """Returns the augmentation that applies others in order.

  Args:
    *parts: augmentations, each of which gets a key of its own.

  Returns:
    The augmentation.
  """

  def augment(key, x):
    for part_key, part in zip(jax.random.split(key, len(parts)), parts, strict=True):
      x = part(part_key, x)
    return x

  return augment


color = compose(brightness, saturation, contrast)
everything = compose(color, translation, cutout)


def with_probability(augment: Augmentation, probability: Array | float) -> Augmentation:
  """Returns the augmentation of each example with a probability.

  Source: Training Generative Adversarial Networks with Limited Data, Karras et al.,
  2020, arXiv:2006.06676, section 2.2: below about 0.8 the augmentation does not leak
  into the samples.

  Args:
    augment: (key, x `[B, H, W, C]`) -> x.
    probability: `[]` in [0, 1]; may be traced.

  Returns:
    The augmentation; an example without it is left as it is.
  """

  def augment_some(key, x):
    coin_key, augment_key = jax.random.split(key)
    coins = jax.random.bernoulli(coin_key, probability, (len(x), 1, 1, 1))
    return jnp.where(coins, augment(augment_key, x), x)

  return augment_some
