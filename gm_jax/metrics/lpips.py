"""LPIPS: a distance of images that was fitted to what people find alike.

d(x, y) = sum_l mean_{h, w} sum_c w_lc (u_lc(x) - u_lc(y))^2

where u_l is the l-th of five layers of a network for ImageNet, each pixel's channels
scaled to unit length, and w_l >= 0 were fitted (version 0.1). The network is AlexNet or
VGG16; numbers of the two do not compare. Weights come from a file that the user names.

Images are [B, H, W, C] with values from 0 to 255, color, or gray as three alike.

Source: The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, Zhang et
al., 2018, arXiv:1801.03924.
"""

import pathlib
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util

from gm_jax.metrics import weights

Array = jax.Array

# Of colors in [-1, 1]: the mean and standard deviation of ImageNet's.
MEAN, STD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
SMALLEST = 32  # pixels of a side, below which a last layer would be empty
EPSILON = 1e-10  # beside the length of a pixel's channels


class Layer(NamedTuple):
  """A convolution, and what stands about it.

  channels: of the output.
  size: of the kernel.
  stride: of the convolution.
  padding: pixels on each side.
  pool: side of a maximum of stride 2 before it, or 0.
  tapped: whether the distance uses the output.
  """

  channels: int
  size: int = 3
  stride: int = 1
  padding: int = 1
  pool: int = 0
  tapped: bool = True


ALEXNET = (
  Layer(64, size=11, stride=4, padding=2),
  Layer(192, size=5, padding=2, pool=3),
  Layer(384, pool=3),
  Layer(256),
  Layer(256),
)
VGG16 = tuple(
  Layer(channels, pool=2 if i == 0 and block else 0, tapped=i == num - 1)
  for block, (channels, num) in enumerate(
    ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
  )
  for i in range(num)
)
# By the name that a file has for a network.
NETWORKS = {'AlexNet': ALEXNET, 'VGG16': VGG16}


class Trunk(nn.Module):
  """The layers of a network that the distance uses.

  Attributes:
    layers: of the network.
  """

  layers: tuple[Layer, ...]

  @nn.compact
  def __call__(self, x):
    """Maps `[B, H, W, 3]` to five outputs `[B, H', W', C']`, of decreasing size."""
    outputs = []
    for layer in self.layers:
      if layer.pool:
        x = nn.max_pool(x, (layer.pool, layer.pool), (2, 2))
      padding = ((layer.padding, layer.padding),) * 2
      size, strides = (layer.size, layer.size), (layer.stride, layer.stride)
      x = nn.relu(nn.Conv(layer.channels, size, strides, padding)(x))
      if layer.tapped:
        outputs.append(x)
    return outputs


class Lpips(NamedTuple):
  """A network and its weights, as `load` reads them."""

  name: str
  params: Any  # of its `Trunk`
  heads: tuple[Array, ...]  # five of [C'], the w of the distance


def distance(weights: Lpips, x: Array, y: Array) -> Array:
  """The perceptual distance of images, pair by pair.

  Args:
    weights: of `load`.
    x: `[B, H, W, 3]` from 0 to 255, or `[B, H, W, 1]`; sides of 32 pixels or more.
    y: as x.

  Returns:
    `[B]`, nonnegative, and 0 where the two are equal.

  Raises:
    ValueError: two shapes, images neither gray nor color, or too small.
  """
  chex.assert_rank(x, 4, custom_message='x must be [B, H, W, C]',
                   exception_type=ValueError)  # fmt: skip
  if x.shape != y.shape:
    raise ValueError(f'x and y must be alike, got {list(x.shape)} and {list(y.shape)}')
  if x.shape[-1] not in (1, 3) or min(x.shape[1:3]) < SMALLEST:
    raise ValueError(
      f'LPIPS needs images [B, H, W, C] of {SMALLEST} pixels or more a side, C 1 or 3,'
      f' got {list(x.shape)}'
    )
  both = _units(weights, jnp.concatenate([x, y]))  # in one pass of the network
  total = 0.0
  for head, units in zip(weights.heads, both, strict=True):
    u, v = jnp.split(units, 2)
    total += (jnp.square(u - v) @ head).mean(axis=(1, 2))
  return total


def _units(weights: Lpips, x: Array) -> list[Array]:
  """The five layers `[B, H', W', C']`, with pixels of unit length."""
  x = (x.astype(jnp.float32) / 127.5 - 1.0 - jnp.array(MEAN)) / jnp.array(STD)
  outputs = Trunk(NETWORKS[weights.name]).apply({'params': weights.params}, x)

  def unit(u):
    # The square under the root keeps the gradient finite where all channels are 0.
    square = jnp.sum(jnp.square(u), axis=-1, keepdims=True)
    return u / (jnp.sqrt(square + EPSILON**2) + EPSILON)

  return list(map(unit, outputs))


jax.tree_util.register_pytree_node(
  Lpips,
  lambda one: ((one.params, one.heads), one.name),
  lambda name, leaves: Lpips(name, *leaves),
)


def load(path: str | pathlib.Path) -> Lpips:
  """Reads a network and its heads from an .npz file.

  The file has NAME_0.Conv_I.kernel [H, W, I, O] and .bias [O] of each convolution, NAME
  being AlexNet or VGG16, and NetLinLayer_L.Conv_0.kernel [1, 1, C, 1] of five heads.

  Args:
    path: of the file.

  Returns:
    The weights, float32.

  Raises:
    ValueError: no such file, a damaged one, or the weights of another network; one line
      says which.
  """
  names = weights.names(path, 'LPIPS')
  name = next((n for n in NETWORKS if f'{n}_0.Conv_0.kernel' in names), 'AlexNet')
  layers = NETWORKS[name]
  image = jax.ShapeDtypeStruct((1, 2 * SMALLEST, 2 * SMALLEST, 3), jnp.float32)
  shapes = jax.eval_shape(Trunk(layers).init, jax.random.key(0), image)['params']
  wanted = {
    f'{name}_0.{key}': leaf.shape
    for key, leaf in traverse_util.flatten_dict(shapes, sep='.').items()
  }
  tapped = [layer.channels for layer in layers if layer.tapped]
  heads = [f'NetLinLayer_{i}.Conv_0.kernel' for i in range(len(tapped))]
  wanted |= {head: (1, 1, c, 1) for head, c in zip(heads, tapped, strict=True)}
  found = weights.read(path, wanted, f'LPIPS with {name}')
  ours = tuple(found.pop(head).reshape(-1) for head in heads)
  flat = {key.partition('.')[2]: value for key, value in found.items()}
  return Lpips(name, traverse_util.unflatten_dict(flat, sep='.'), ours)
