"""Latents of frozen auto-encoders: the way to them and back, and their unit.

What a model of latents is fitted to are real numbers `[B, ...]`; whatever the unit of
an auto-encoder, they are taken to deviation 1 by what is measured of a batch.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gm_jax import base


class Autoencoder(NamedTuple):
  """The way from data to latents and back, by a trained model."""

  init: Callable  # (key, batch) -> State, random
  encode: Callable  # (model, key, x) -> z [B, ...], real numbers
  decode: Callable  # (model, z [B, ...]) -> x [B, ...]
  draw: Callable  # (model, key, x) -> z [B, ...], what a model of latents is fitted to


class Unit(NamedTuple):
  """The unit of latents: what is taken off them, and what they are divided by."""

  mean: base.Array  # [C] of channels
  scale: base.Array  # []


def by_codes(method: base.Method) -> Autoencoder:
  """The auto-encoder of a method whose codes are real numbers, as that of `vae`.

  Where it has the query `posterior`, the latents are draws from that.
  """
  queries = method.queries

  def posterior_draw(model, key, x):
    own, key = jax.random.split(key)
    return queries['posterior'](model, own, x).draw(key, 1)[0]

  return Autoencoder(
    method.init,
    queries['encode'],
    lambda model, z: queries['decode'](model, None, z),
    posterior_draw if 'posterior' in queries else queries['encode'],
  )


def on_grid(autoencoder: Autoencoder, shape: Sequence[int]) -> Autoencoder:
  """An auto-encoder of codes `[B, Z]`, its latents of this shape.

  Args:
    autoencoder: of flat codes.
    shape: of an example's latents, of Z numbers.

  Raises:
    ValueError: when used, another number of codes.
  """

  def reshaped(encode):
    def reshape(*args):
      z = encode(*args)
      if math.prod(z.shape[1:]) != math.prod(shape):
        raise ValueError(f'codes {z.shape} cannot be latents {_batch(shape)}')
      return z.reshape(len(z), *shape)

    return reshape

  return autoencoder._replace(
    encode=reshaped(autoencoder.encode),
    decode=lambda model, z: autoencoder.decode(model, z.reshape(len(z), -1)),
    draw=reshaped(autoencoder.draw),
  )


def measured(z: base.Array) -> Unit:
  """The mean of each channel of latents, and the deviation of all numbers about them.

  Batch-coupled.

  Args:
    z: `[B, ..., C]`.
  """
  mean = z.mean(axis=range(z.ndim - 1))
  return Unit(mean, jnp.sqrt(jnp.square(z - mean).mean()))


def scaled(unit: Unit, z: base.Array, shape: Sequence[int]) -> base.Array:
  """Returns latents of this shape in their unit, `[B, *shape]`.

  Raises:
    ValueError: an auto-encoder of another shape.
  """
  if z.shape[1:] != tuple(shape):
    raise ValueError(
      f'the auto-encoder gives latents {z.shape}, and their model is of {_batch(shape)}'
    )
  return (z - unit.mean) / unit.scale


def observed_latents(observed: base.Array, shape: Sequence[int]) -> base.Array:
  """Which latents of a grid are known: those all of whose pixels are.

  Args:
    observed: `[B, H, W, C]` bool.
    shape: of an example's latents, (h, w, Z), whose sides divide the image's.

  Returns:
    `[B, *shape]` bool.

  Raises:
    ValueError: sides that do not divide the image's.
  """
  num, height, width, channels = observed.shape
  rows, columns, _ = shape
  if height % rows or width % columns:
    raise ValueError(f'latents {_batch(shape)} are no grid over {height} x {width}')
  squares = observed.reshape(
    num, rows, height // rows, columns, width // columns, channels
  )
  return jnp.broadcast_to(squares.all(axis=(2, 4, 5))[..., None], (num, *shape))


def filled(x: base.Array, observed: base.Array) -> base.Array:
  """Returns examples `[B, ..., C]` whose hidden numbers are the mean of the known ones.

  The mean is that of the example and the channel, and 0 where nothing of it is known:
  an encoder sees nothing of what is hidden.
  """
  inside = tuple(range(1, x.ndim - 1))
  count = observed.sum(axis=inside, keepdims=True)
  total = jnp.where(observed, x, 0.0).sum(axis=inside, keepdims=True)
  return jnp.where(observed, x, total / jnp.maximum(count, 1))


def _batch(shape: Sequence[int]) -> str:
  return f'[{", ".join(("B", *map(str, shape)))}]'
