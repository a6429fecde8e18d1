"""The Inception-v3 network whose features the FID is defined on.

It is the graph that TensorFlow published on 2015-12-05, as every published FID has it,
and not the network of torchvision. Where the two differ: average pools do not count
padding, the last block takes a maximum where it would take an average, the first
average pool is followed by 32 channels, the normalization has eps = 1e-3 and no scale,
and images are resized as TensorFlow 1 did, corner to corner of the pixel grid.
Features are those of the last average pool, `pool3`, of size 2048. Weights come from
a file that the user names; see `load`.

Images are [B, H, W, 3] with values from 0 to 255.
"""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from gm_jax.metrics import weights

Array = jax.Array

SIDE = 299  # pixels that the network wants
NUM_FEATURES = 2048
EPSILON = 1e-3  # of the normalization, which `load` folds into the kernels


class Convolution(nn.Module):
  """A convolution with its normalization folded in, and a ReLU.

  Attributes:
    channels: of the output.
    size: height and width of the kernel.
    stride: 1 or 2; with 2 nothing is padded.
    padding: 'SAME' or 'VALID'.
  """

  channels: int
  size: tuple[int, int] = (1, 1)
  stride: int = 1
  padding: str = 'SAME'

  @nn.compact
  def __call__(self, x):
    """Maps `[B, H, W, I]` to `[B, H', W', channels]`."""
    kernel_shape = (*self.size, x.shape[-1], self.channels)
    kernel = self.param('kernel', nn.initializers.he_normal(), kernel_shape)
    bias = self.param('bias', nn.initializers.zeros, (self.channels,))
    strides, axes = (self.stride, self.stride), ('NHWC', 'HWIO', 'NHWC')
    y = jax.lax.conv_general_dilated(
      x, kernel, strides, self.padding, dimension_numbers=axes
    )
    return nn.relu(y + bias)


def _chain(names: str, x: Array, *layers: tuple) -> Array:
  """Convolutions one after the other, named `names`, `names`_1, ..."""
  for index, layer in enumerate(layers):
    name = f'{names}_{index}' if index else names
    x = Convolution(*layer, name=name)(x)
  return x


class Tower(nn.Module):
  """Convolutions one after the other.

  Attributes:
    layers: arguments of each `Convolution`.
  """

  layers: tuple[tuple, ...]

  @nn.compact
  def __call__(self, x):
    """Maps `[B, H, W, I]` to `[B, H', W', O]`."""
    return _chain('conv', x, *self.layers)


def average(x: Array) -> Array:
  """The 3x3 average about each pixel, of those inside the image."""
  return nn.avg_pool(x, (3, 3), padding='SAME', count_include_pad=False)


def _halved(x: Array) -> Array:
  """The 3x3 maximum about every second pixel."""
  return nn.max_pool(x, (3, 3), (2, 2))


class Mixed35(nn.Module):
  """The block of 35x35: towers of 1x1, 5x5, two 3x3, and an average.

  Attributes:
    pooled: channels behind the average.
  """

  pooled: int

  @nn.compact
  def __call__(self, x):
    """Maps `[B, H, W, I]` to `[B, H, W, 224 + pooled]`."""
    towers = (
      ((48,), (64, (5, 5))),
      ((64,), (96, (3, 3)), (96, (3, 3))),
    )
    branches = [
      Convolution(64, name='conv')(x),
      Tower(towers[0], name='tower')(x),
      Tower(towers[1], name='tower_1')(x),
      Tower(((self.pooled,),), name='tower_2')(average(x)),
    ]
    return jnp.concatenate(branches, axis=-1)


class Reduction35(nn.Module):
  """The block that takes 35x35 to 17x17."""

  @nn.compact
  def __call__(self, x):
    """Maps `[B, H, W, I]` to `[B, (H - 1) / 2, (W - 1) / 2, 480 + I]`."""
    last = (2, 'VALID')
    tower = ((64,), (96, (3, 3)), (96, (3, 3), *last))
    branches = [
      Convolution(384, (3, 3), *last, name='conv')(x),
      Tower(tower, name='tower')(x),
      _halved(x),
    ]
    return jnp.concatenate(branches, axis=-1)


class Mixed17(nn.Module):
  """The block of 17x17: towers of 7x7 in rows and columns, and an average.

  Attributes:
    inner: channels within the towers.
  """

  inner: int

  @nn.compact
  def __call__(self, x):
    """Maps `[B, H, W, I]` to `[B, H, W, 768]`."""
    row, column, inner = (1, 7), (7, 1), self.inner
    towers = (
      ((inner,), (inner, row), (192, column)),
      ((inner,), (inner, column), (inner, row), (inner, column), (192, row)),
    )
    branches = [
      Convolution(192, name='conv')(x),
      Tower(towers[0], name='tower')(x),
      Tower(towers[1], name='tower_1')(x),
      Tower(((192,),), name='tower_2')(average(x)),
    ]
    return jnp.concatenate(branches, axis=-1)


class Reduction17(nn.Module):
  """The block that takes 17x17 to 8x8."""

  @nn.compact
  def __call__(self, x):
    """Maps `[B, H, W, I]` to `[B, (H - 1) / 2, (W - 1) / 2, 512 + I]`."""
    last = (2, 'VALID')
    towers = (
      ((192,), (320, (3, 3), *last)),
      ((192,), (192, (1, 7)), (192, (7, 1)), (192, (3, 3), *last)),
    )
    branches = [
      Tower(towers[0], name='tower')(x),
      Tower(towers[1], name='tower_1')(x),
      _halved(x),
    ]
    return jnp.concatenate(branches, axis=-1)


class Mixed8(nn.Module):
  """The block of 8x8, whose towers end in a row and a column side by side.

  Attributes:
    pool: 3x3 about each pixel: an average, or the maximum of the last block.
  """

  pool: Callable[[Array], Array]

  @nn.compact
  def __call__(self, x):
    """Maps `[B, H, W, I]` to `[B, H, W, 2048]`."""

    def ends(name, x):
      yield Convolution(384, (1, 3), name=f'{name}_mixed_conv')(x)
      yield Convolution(384, (3, 1), name=f'{name}_mixed_conv_1')(x)

    branches = [
      Convolution(320, name='conv')(x),
      *ends('tower', _chain('tower_conv', x, (384,))),
      *ends('tower_1', _chain('tower_1_conv', x, (448,), (384, (3, 3)))),
      Convolution(192, name='tower_2_conv')(self.pool(x)),
    ]
    return jnp.concatenate(branches, axis=-1)


def maximum(x: Array) -> Array:
  """The 3x3 maximum about each pixel."""
  return nn.max_pool(x, (3, 3), padding='SAME')


class Inception(nn.Module):
  """Inception-v3 as of 2015-12-05, up to its last pool.

  Source: Rethinking the Inception Architecture for Computer Vision, Szegedy et al.,
  2015, arXiv:1512.00567; as features, GANs Trained by a Two Time-Scale Update Rule
  Converge to a Local Nash Equilibrium, Heusel et al., 2017, arXiv:1706.08500.
  """

  @nn.compact
  def __call__(self, x):
    """Maps `[B, 299, 299, 3]`, values (x - 128) / 128, to features `[B, 2048]`."""
    x = Convolution(32, (3, 3), 2, 'VALID', name='conv')(x)
    x = Convolution(32, (3, 3), 1, 'VALID', name='conv_1')(x)
    x = _halved(Convolution(64, (3, 3), name='conv_2')(x))
    x = Convolution(80, name='conv_3')(x)
    x = _halved(Convolution(192, (3, 3), 1, 'VALID', name='conv_4')(x))
    make = functools.partial
    blocks = [
      *(make(Mixed35, pooled) for pooled in (32, 64, 64)),
      Reduction35,
      *(make(Mixed17, inner) for inner in (128, 160, 160, 192)),
      Reduction17,
      make(Mixed8, average),
      make(Mixed8, maximum),
    ]
    for index, block in enumerate(blocks):
      x = block(name=f'mixed_{index}' if index else 'mixed')(x)
    return x.mean(axis=(1, 2))


def resize(images: Array) -> Array:
  """Resizes to 299x299 as TensorFlow 1 did, bilinear and without antialiasing.

  y[i] = (1 - f) x[k] + f x[k + 1],  k + f = i H / 299

  for rows, then likewise for columns, with x[H] = x[H - 1]: positions count from the
  first pixel's corner, not from centers, as the published network was used.

  Args:
    images: `[B, H, W, C]`.

  Returns:
    `[B, 299, 299, C]` float32.
  """

  def along(x, axis):
    length = x.shape[axis]
    position = np.arange(SIDE, dtype=np.float32) * np.float32(length / SIDE)
    low = np.minimum(position.astype(np.int32), length - 1)
    high = np.minimum(low + 1, length - 1)
    shape = [1] * x.ndim
    shape[axis] = SIDE
    fraction = (position - low).reshape(shape)
    first, second = jnp.take(x, low, axis), jnp.take(x, high, axis)
    return first + (second - first) * fraction

  x = images.astype(jnp.float32)
  return along(along(x, 1), 2)


def features(
  params: Any, images: Array, *, resize: Callable[[Array], Array] = resize
) -> Array:
  """Maps images to the 2048 features of the FID.

  Args:
    params: of `load`.
    images: `[B, H, W, 3]` from 0 to 255; `[B, H, W, 1]` counts as gray.
    resize: `[B, H, W, C]` -> `[B, 299, 299, C]`.

  Returns:
    `[B, 2048]`, all of them nonnegative.

  Raises:
    ValueError: images that are neither gray nor color, as such of shape [B, C, H, W].
  """
  message = 'images must be [B, H, W, C]'
  chex.assert_rank(images, 4, custom_message=message, exception_type=ValueError)
  if images.shape[-1] not in (1, 3):
    raise ValueError(
      f'images must be [B, H, W, 3] or [B, H, W, 1], got {list(images.shape)}'
    )
  x = (resize(images) - 128.0) / 128.0
  return Inception().apply({'params': params}, jnp.broadcast_to(x, (*x.shape[:3], 3)))


def load(path: str | pathlib.Path) -> Any:
  """Reads the parameters of `Inception` from an .npz file.

  The file has, for each of 94 convolutions by its name in the graph, as `conv_1` or
  `mixed_4.tower.conv_2`, the arrays NAME.weight [O, I, H, W], NAME.beta, NAME.mean and
  NAME.var [O]. The normalization becomes part of the kernel,

  relu((w * x - mean) / sqrt(var + eps) + beta)

  with eps = 1e-3.

  Args:
    path: of the file.

  Returns:
    Parameters, float32.

  Raises:
    ValueError: no such file, a damaged one, or the weights of another network; one line
      says which.
  """
  network = 'the Inception-v3 of the FID'
  weights.names(path, network)  # a file that is not there is told at once
  found = weights.read(path, _arrays(), network)
  return traverse_util.unflatten_dict(fold(found), sep='.')


@functools.cache
def _arrays() -> dict[str, tuple[int, ...]]:
  """Shapes of the arrays of a file, by name."""
  image = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
  shapes = jax.eval_shape(Inception().init, jax.random.key(0), image)['params']
  wanted: dict[str, tuple[int, ...]] = {}
  for name, leaf in traverse_util.flatten_dict(shapes, sep='.').items():
    layer, _, part = name.rpartition('.')
    if part == 'kernel':
      height, width, inputs, outputs = leaf.shape
      wanted[f'{layer}.weight'] = (outputs, inputs, height, width)
      wanted |= {f'{layer}.{part}': (outputs,) for part in ('beta', 'mean', 'var')}
  return wanted


def fold(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Kernels `[H, W, I, O]` and biases `[O]` of convolutions, from arrays of `load`."""
  params = {}
  for name in arrays:
    layer, _, part = name.rpartition('.')
    if part == 'weight':
      scale = 1 / np.sqrt(arrays[f'{layer}.var'].astype(np.float64) + EPSILON)
      kernel = arrays[name].transpose(2, 3, 1, 0) * scale
      bias = arrays[f'{layer}.beta'] - arrays[f'{layer}.mean'] * scale
      params[f'{layer}.kernel'] = kernel.astype(np.float32)
      params[f'{layer}.bias'] = bias.astype(np.float32)
  return params
