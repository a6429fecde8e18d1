"""Objectives on parts and their places: composites, and terms of a mask and an image.

A mask says of every pixel how much it belongs to the parts, 1 in them and 0 on the
ground. A composite takes the parts of one image and the ground of another; a critic
that is told of both kinds of composites must see whether parts and ground belong
together, and not only whether each looks real. Logits are log-odds of "real".

The terms of mask and appearance are sums over the pixels of an example, `[B]`. The
authors' code sums over the batch as well: a weight w there, at their batch of 64, is
64 w on the mean over examples here, at any batch.

Source: Unsupervised Holistic Image Generation from Key Local Patches, Lee et al., 2017,
arXiv:1703.10730, section 3.

  >>> import jax.numpy as jnp
  >>> from gm_jax.losses import placement
  >>> zero = jnp.zeros(1)
  >>> print(placement.discriminator(zero, zero, zero, zero) / jnp.log(2.0))  # ln 2 each
  [4.]
"""

import jax
import jax.numpy as jnp

from gm_jax.losses import shapes

Array = jax.Array


def composite(parts: Array, ground: Array, mask: Array) -> Array:
  """Lays the parts of one image on the ground of another.

  m p + (1 - m) g

  Args:
    parts: `[B, H, W, C]` p, images whose parts are taken.
    ground: `[B, H, W, C]` g, images whose ground is taken.
    mask: `[B, H, W, 1]` m in [0, 1].

  Returns:
    `[B, H, W, C]` in the unit of the images.

  Raises:
    ValueError: shapes that do not fit.
  """
  parts, ground, mask = shapes.floats(parts=parts, ground=ground, mask=mask)
  shapes.check_equal(parts=parts, ground=ground)
  _check_mask(parts, mask)
  return mask * parts + (1.0 - mask) * ground


def discriminator(
  real_logits: Array, fake_logits: Array, part_logits: Array, ground_logits: Array
) -> Array:
  """The loss of a critic of four kinds of images, three of which are not real.

  softplus(-r) + softplus(f) + softplus(p) + softplus(g)

  Source: Lee et al., 2017, arXiv:1703.10730, section 3.4.

  Args:
    real_logits: `[B]` r, of data.
    fake_logits: `[B]` f, of painted images.
    part_logits: `[B]` p, of the parts of other data on the ground of these.
    ground_logits: `[B]` g, of the parts of these on the ground of other data.

  Returns:
    `[B]` nats.

  Raises:
    ValueError: shapes that are not [B].
  """
  logits = dict(
    real_logits=real_logits, fake_logits=fake_logits,
    part_logits=part_logits, ground_logits=ground_logits,
  )  # fmt: skip
  real, *others = shapes.floats(**logits)
  shapes.check_examples(**dict(zip(logits, (real, *others), strict=True)))
  return jax.nn.softplus(-real) + sum(jax.nn.softplus(other) for other in others)


def spatial(mask: Array, real_mask: Array) -> Array:
  """How far a mask is from the places that the parts were cut from.

  sum over pixels |m - m*|

  Source: Lee et al., 2017, arXiv:1703.10730, section 3.4.

  Args:
    mask: `[B, H, W, 1]` m in [0, 1], predicted.
    real_mask: `[B, H, W, 1]` m*, 1 where a part was cut.

  Returns:
    `[B]` pixels.

  Raises:
    ValueError: shapes that differ.
  """
  mask, real_mask = shapes.floats(mask=mask, real_mask=real_mask)
  shapes.check_equal(mask=mask, real_mask=real_mask)
  return _sum(jnp.abs(mask - real_mask))


def appearance(image: Array, mask: Array, real: Array, real_mask: Array) -> Array:
  """How far the parts of a painted image are from those of the real one.

  sum over pixels and channels |m y - m* x|

  Parts that are painted right in a wrong place count twice, once in each place.

  Source: Lee et al., 2017, arXiv:1703.10730, section 3.4.

  Args:
    image: `[B, H, W, C]` y, painted.
    mask: `[B, H, W, 1]` m in [0, 1], predicted.
    real: `[B, H, W, C]` x, that the parts were cut from.
    real_mask: `[B, H, W, 1]` m*, 1 where a part was cut.

  Returns:
    `[B]` in the unit of the images.

  Raises:
    ValueError: shapes that do not fit.
  """
  image, mask, real, real_mask = shapes.floats(
    image=image, mask=mask, real=real, real_mask=real_mask
  )
  shapes.check_equal(image=image, real=real)
  shapes.check_equal(mask=mask, real_mask=real_mask)
  _check_mask(image, mask)
  return _sum(jnp.abs(mask * image - real_mask * real))


def _sum(values: Array) -> Array:
  return values.sum(axis=tuple(range(1, values.ndim)))


def _check_mask(image: Array, mask: Array) -> None:
  """Raises ValueError unless a mask has one channel, beside an image's size."""
  if jnp.ndim(image) < 2 or mask.shape != (*image.shape[:-1], 1):
    raise ValueError(
      f'the mask of images {list(image.shape)} must be {[*image.shape[:-1], 1]}, got'
      f' {list(mask.shape)}'
    )
