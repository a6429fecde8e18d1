"""Spaces of phases: specs made of the data's."""

import jax.numpy as jnp

from gm_jax import base


def pooled(spec: base.DataSpec, ratio: int) -> base.DataSpec:
  """The spec of images at a fraction of their size, by means of squares of pixels."""
  height, width, channels = spec.shape
  shape = height // ratio, width // ratio, channels

  def forward(key, raw):
    real = jnp.asarray(raw, jnp.float32)
    squares = real.reshape(len(raw), shape[0], ratio, shape[1], ratio, channels)
    return spec.transform.forward(key, squares.mean(axis=(2, 4)))

  way = spec.transform._replace(forward=forward)
  return spec._replace(shape=shape, transform=way)
