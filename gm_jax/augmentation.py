"""Augmentations that a gradient passes through, of images [B, H, W, C] in [-1, 1].

Each is a function (key, x) -> x of the same shape that draws one parameter an
example. Applied to data and samples alike in both players' updates, a critic never
sees an image as it is, and the generator's gradient comes through the augmentation.

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
  message = 'x must be images [B, H, W, C]'
  chex.assert_rank(x, 4, custom_message=message, exception_type=ValueError)
  return jax.random.uniform(key, (len(x), 1, 1, 1), x.dtype, low, high)


def brightness(key: Array, x: Array) -> Array:
  """x + b, b ~ U(-0.5, 0.5)."""
  return x + _draw(key, x, -0.5, 0.5)


def saturation(key: Array, x: Array) -> Array:
  """Scales the distance from a pixel's mean over channels by U(0, 2)."""
  scale, mean = _draw(key, x, 0.0, 2.0), x.mean(axis=3, keepdims=True)
  return (x - mean) * scale + mean


def contrast(key: Array, x: Array) -> Array:
  """Scales the distance from the image's mean by U(0.5, 1.5)."""
  scale, mean = _draw(key, x, 0.5, 1.5), x.mean(axis=(1, 2, 3), keepdims=True)
  return (x - mean) * scale + mean


def _moved(image: Array, shift: Array, pad: tuple[int, int]) -> Array:
  widths = ((pad[0], pad[0]), (pad[1], pad[1]), (0, 0))
  start = (pad[0] - shift[0], pad[1] - shift[1], 0)
  return jax.lax.dynamic_slice(jnp.pad(image, widths), start, image.shape)


def translation(key: Array, x: Array) -> Array:
  """Moves by up to an eighth of each side, in whole pixels; zeros come in."""
  far = tuple(int(size / 8 + 0.5) for size in x.shape[1:3])
  limit = jnp.array(far)
  shift = jax.random.randint(key, (len(x), 2), -limit, limit + 1)
  return jax.vmap(lambda image, shift: _moved(image, shift, far))(x, shift)


def cutout(key: Array, x: Array) -> Array:
  """Sets a rectangle of half of each side to 0, its center anywhere in the image."""
  height, width = x.shape[1:3]
  keys = jax.random.split(key)

  def inside(key, size):
    center = jax.random.randint(key, (len(x), 1), 0, size + 1 - (size // 2) % 2)
    offset = jnp.arange(size) - center + size // 4
    return (offset >= 0) & (offset < size // 2)

  rows, columns = inside(keys[0], height), inside(keys[1], width)
  hidden = rows[:, :, None, None] & columns[:, None, :, None]
  return jnp.where(hidden, 0.0, x)


def compose(*parts: Augmentation) -> Augmentation:
  """One after the other, each with a key of its own."""

  def augment(key, x):
    for one, part in zip(jax.random.split(key, len(parts)), parts, strict=True):
      x = part(one, x)
    return x

  return augment


color = compose(brightness, saturation, contrast)
everything = compose(color, translation, cutout)


def with_probability(augment: Augmentation, probability: Array | float) -> Augmentation:
  """Each example is augmented with this probability, else left as it is.

  Source: Training Generative Adversarial Networks with Limited Data, Karras et al.,
  2020, arXiv:2006.06676, section 2.2: below about 0.8 the augmentation does not leak
  into the samples.

  Args:
    augment: (key, x [B, H, W, C]) -> x.
    probability: [] in [0, 1]; may be traced.
  """

  def maybe(key, x):
    coin_key, augment_key = jax.random.split(key)
    coins = jax.random.bernoulli(coin_key, probability, (len(x), 1, 1, 1))
    return jnp.where(coins, augment(augment_key, x), x)

  return maybe
