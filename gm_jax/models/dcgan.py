"""The deep convolutional GAN's two networks, for square images.

Strided convolutions in place of pooling, batch normalization, kernels from
N(0, 0.02^2). Images are [B, H, W, C] in [-1, 1]. Batch-coupled while training:
batch statistics are those of the batch that is passed, and their running means are
in 'batch_stats', in float32 whatever the computation's dtype.

Source: Unsupervised Representation Learning with Deep Convolutional Generative
Adversarial Networks, Radford et al., 2016, arXiv:1511.06434.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gm_jax import base
from gm_jax.models import layers

_INIT = nn.initializers.normal(0.02)


def _batch_norm(train: bool, dtype: Any) -> nn.BatchNorm:
  return nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=dtype)


def _block(function: Callable, remat: bool) -> Callable:
  """Returns `function` (module, x, i) -> x; with `remat` only its input is kept.

  Lifted as a function, and not as a module, a block has no name of its own:
  parameters stand where they do without rematerialization.
  """
  return nn.remat(function, static_argnums=2) if remat else function


class Generator(nn.Module):
  """Maps latents to images: a projection to 4x4 (or 7x7), then doublings to a tanh.

  Channels halve as the size doubles, down to `base_features` before the last
  doubling, as in figure 1 of the paper. Of a condition beside z, batch normalization
  takes its gains and shifts (`layers.ConditionalBatchNorm`).

  Attributes:
    size: height and width, 4 or 7 times a power of 2 (`layers.num_doublings`).
    channels: of the image.
    base_features: channels before the last doubling.
    normalize: whether hidden layers have batch normalization.
    dtype: of the computation, as in Flax; images are float32 (or wider).
    remat: whether blocks are computed again in the backward pass: less memory,
      the same numbers. (XLA undoes it on a CPU.)
  """

  size: int
  channels: int
  base_features: int = 64
  normalize: bool = True
  dtype: Any = None
  remat: bool = False

  @nn.compact
  def __call__(
    self, z: base.Array, condition: base.Array | None = None, *, train: bool = False
  ) -> base.Array:
    """Maps latents to images.

    Args:
      z: `[B, Z]` latents.
      condition: `[B, K]`, or None.
      train: whether batch normalization uses and updates the batch's statistics.

    Returns:
      `[B, size, size, channels]` images in [-1, 1], float32 or wider.

    Raises:
      ValueError: the size is not an allowed one, z is not of rank 2, or there is a
        condition and no normalization that could take it.
    """
    doublings = layers.num_doublings(self.size)
    if z.ndim != 2:
      raise ValueError(f'z has shape {z.shape}, expected [B, Z]')
    if condition is not None and not self.normalize:
      raise ValueError('a condition needs normalize=True: it enters by normalization')

    start = self.size // 2**doublings
    features = self.base_features * 2 ** (doublings - 1)
    options = dict(kernel_init=_INIT, dtype=self.dtype)

    def normalized(x):
      if condition is None:
        return _batch_norm(train, self.dtype)(x)
      return layers.ConditionalBatchNorm(self.dtype)(x, condition, train=train)

    def hidden_block(module, x, i):
      del module
      use_bias = not self.normalize  # batch normalization has its own
      if i:
        x = layers.UpConv(features // 2**i, use_bias, **options)(x)
      else:
        x = nn.Dense(start * start * features, use_bias, **options)(x)
        x = x.reshape(-1, start, start, features)
      return nn.relu(normalized(x) if self.normalize else x)

    x, block = z, _block(hidden_block, self.remat)
    for i in range(doublings):
      x = block(self, x, i)
    x = layers.UpConv(self.channels, **options)(x)
    return jnp.tanh(layers.at_least_float32(x))


class Discriminator(nn.Module):
  """Maps images to a logit: halvings by strided convolution, then a linear layer.

  Leaky relu of slope 0.2; batch normalization except in the first layer. What each
  halving gives is sown in 'intermediates' as 'maps'; see `pooled_maps`.

  Attributes:
    base_features: channels after the first halving; they double with each.
    normalize: whether to use batch normalization. Off for penalties on the
      gradient of each example, which batch statistics would couple.
    spectral_norm: whether kernels are divided by their largest singular value
      (see `layers.normalize`), in place of batch normalization.
    dtype: of the computation, as in Flax; logits are float32 (or wider).
    remat: whether blocks are computed again in the backward pass: less memory,
      the same numbers. (XLA undoes it on a CPU.)
    num_outputs: F, 1 for a critic.
  """

  base_features: int = 64
  normalize: bool = True
  spectral_norm: bool = False
  dtype: Any = None
  remat: bool = False
  num_outputs: int = 1

  @nn.compact
  def __call__(self, x: base.Array, *, train: bool = False) -> base.Array:
    """Maps images to logits.

    Args:
      x: `[B, H, H, C]` images.
      train: whether batch normalization uses and updates the batch's statistics, and
        spectral normalization its vectors.

    Returns:
      `[B, F]` logits, float32 or wider.

    Raises:
      ValueError: the images are not square, or not of an allowed size.
    """
    if x.ndim != 4 or x.shape[1] != x.shape[2]:
      raise ValueError(f'x has shape {x.shape}, expected square images [B, H, H, C]')
    wrap = functools.partial(
      layers.normalize, spectral_norm=self.spectral_norm, train=train
    )
    batch_norm = self.normalize and not self.spectral_norm
    options = dict(kernel_init=_INIT, dtype=self.dtype)

    def halving_block(module, x, i):
      del module
      use_bias = not (batch_norm and i)
      features = self.base_features * 2**i
      # Named as the `nn.Conv` would be whose parameters it has.
      conv = layers.DownConv(features, use_bias, **options, name=f'Conv_{i}')
      x = wrap(conv)(x)
      x = _batch_norm(train, self.dtype)(x) if batch_norm and i else x
      return nn.leaky_relu(x, 0.2)

    block = _block(halving_block, self.remat)
    for i in range(layers.num_doublings(x.shape[1])):
      x = block(self, x, i)
      self.sow('intermediates', 'maps', x)
    x = x.reshape(x.shape[0], -1)
    return layers.at_least_float32(wrap(nn.Dense(self.num_outputs, **options))(x))


def pooled_maps(maps: Sequence[base.Array], size: int = 4) -> base.Array:
  """Features of images: the maps of all convolutions, each max-pooled, flattened.

  Cell i of a map of height h is the maximum over rows floor(i h / size) to
  ceil((i + 1) h / size); maps that are not larger stay as they are.

  Source: Unsupervised Representation Learning with Deep Convolutional Generative
  Adversarial Networks, Radford et al., 2016, arXiv:1511.06434, section 5.1.

  Args:
    maps: `[B, h, h, C]` each, as a `Discriminator` sows them.
    size: of what a map is pooled to.

  Returns:
    `[B, F]`.
  """

  def pooled(x, axis):
    num = x.shape[axis]
    if num <= size:
      return x
    cells = [(i * num // size, -(-(i + 1) * num // size)) for i in range(size)]
    parts = [jax.lax.slice_in_dim(x, *cell, axis=axis) for cell in cells]
    return jnp.stack([part.max(axis=axis) for part in parts], axis)

  flat = [pooled(pooled(x, 1), 2).reshape(len(x), -1) for x in maps]
  return jnp.concatenate(flat, axis=1)
