"""Layers that several architectures use: faster than the library's, or missing there.

Images are [B, H, W, C]. A layer that carries statistics beside its parameters
keeps them in the collection 'spectral' (power iteration) or 'batch_stats'.

`dtype` is Flax's: the dtype of the computation, by default that of inputs and
parameters; parameters and statistics stay float32, and so does what a network
of `models` returns (`at_least_float32`), so that losses are float32.

The convolutions are written as matrix products, because XLA's own have slow
gradients on a CPU: that of a transposed one's kernel everywhere, and that of any
other's kernel inside a loop (`jax.lax.scan`), where every step of training stands
(jax-ml/jax issue 12868; there 945 ms, against 33 ms for both gradients here, for 64
images of 14x14x64 to 7x7x128 on two cores).
"""

import functools
from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from gm_jax import base
from gm_jax.models import convolution

_CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))


def _check_shapes(x: base.Array, kernel: base.Array) -> None:
  chex.assert_rank(
    x, 4, custom_message='x must be [B, H, W, I]', exception_type=ValueError
  )
  chex.assert_shape(
    kernel,
    (4, 4, x.shape[-1], None),
    custom_message='kernel must be [4, 4, I, O] with the I of x',
    exception_type=ValueError,
  )


def num_doublings(size: int) -> int:
  """Returns how often 4x4 or 7x7 pixels are doubled to images of this size.

  Args:
    size: height and width of the images: 8, 14, 16, 28, 32, 56, 64 and so on.

  Raises:
    ValueError: another size.
  """
  for start in (4, 7):
    ratio = size // start
    if size % start == 0 and ratio > 1 and ratio & (ratio - 1) == 0:
      return ratio.bit_length() - 1
  raise ValueError(
    f'image size {size} is not 4 or 7 times a power of 2, as 8, 16, 28, 32, 64'
  )


def at_least_float32(x: base.Array) -> base.Array:
  """Casts to float32, unless the dtype is wider.

  Args:
    x: `[...]` floats.

  Returns:
    `[...]` of float32, or of the dtype of x where it is wider.
  """
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def scaled_levels(x: base.Array, num_levels: int | None) -> base.Array:
  """Takes levels 0 ... L - 1 to [-1, 1].

  Args:
    x: `[...]` in [0, L), integers or what lies between.
    num_levels: L; None of data that are returned as they are.

  Returns:
    `[...]` floats.
  """
  return x if num_levels is None else 2.0 / max(1, num_levels - 1) * x - 1.0


def conv_4x4(x: base.Array, kernel: base.Array) -> base.Array:
  """The convolution of stride 2 with a 4x4 kernel, padded 'SAME', H and W even.

  In each direction y[j] = sum over u, p in {0, 1} of k[2 u + p] x'[2 (j + u) + p],
  with x' = x behind one zero. A space-to-depth of x' turns p into channels: what
  is left is a 2x2 kernel of stride 1, a sum of four matrix products (one product,
  on concatenated inputs, where inputs are few). It equals
  `jax.lax.conv_general_dilated(x, kernel, (2, 2), 'SAME')` in [B, H, W, C].

  Args:
    x: `[B, 2 H, 2 W, I]` images.
    kernel: `[4, 4, I, O]`.

  Returns:
    `[B, H, W, O]` images.

  Raises:
    ValueError: another shape.
  """
  _check_shapes(x, kernel)
  b, h, w, i = x.shape
  if h % 2 or w % 2:
    raise ValueError(f'x has shape {x.shape}, expected even height and width')
  h, w, o = h // 2, w // 2, kernel.shape[-1]
  x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  x = x.reshape(b, h + 1, 2, w + 1, 2, i).transpose(0, 1, 3, 2, 4, 5)
  x = x.reshape(b, h + 1, w + 1, 4 * i)
  windows = [x[:, u : u + h, v : v + w] for u, v in _CORNERS]
  # Tap 2 u + p: [u, v, (p, p, I), O]. Both phases of both directions become channels.
  taps = kernel.reshape(2, 2, 2, 2, i, o).transpose(0, 2, 1, 3, 4, 5)
  if 16 * i <= o:  # few inputs: a product over 4 I channels would be too thin
    return jnp.concatenate(windows, -1) @ taps.reshape(16 * i, o)
  taps = taps.reshape(4, 4 * i, o)
  return sum(x @ tap for x, tap in zip(windows, taps, strict=True))


def conv_transpose_4x4(x: base.Array, kernel: base.Array) -> base.Array:
  """The transposed convolution of stride 2 with a 4x4 kernel, padded 'SAME'.

  In each direction y[2j] = k[0] x[j-1] + k[2] x[j] and
  y[2j+1] = k[1] x[j] + k[3] x[j+1]: each output is a product with two
  neighbors, so the whole is four matrix products and a depth-to-space. It
  equals `jax.lax.conv_transpose(x, kernel, (2, 2), 'SAME')`, of which XLA
  computes the gradient of the kernel slowly on CPU (88 ms forward and backward
  against 14 ms here, for 64 images of 7x7x128 to 14x14x64 on two cores).

  Source: Real-Time Single Image and Video Super-Resolution Using an Efficient
  Sub-Pixel Convolutional Neural Network, Shi et al., 2016, arXiv:1609.05158, for
  the equivalence with sub-pixel convolution.

  Args:
    x: `[B, H, W, I]` images.
    kernel: `[4, 4, I, O]`, not flipped.

  Returns:
    `[B, 2 H, 2 W, O]` images.

  Raises:
    ValueError: another shape.
  """
  _check_shapes(x, kernel)
  b, h, w, i = x.shape
  o = kernel.shape[-1]
  # Tap 2 u + phase: [neighbor, neighbor, I, phase, phase, O]. The odd phase
  # comes first, as a window ends with the odd row of the pixel before.
  taps = kernel.reshape(2, 2, 2, 2, i, o)[:, ::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5)
  x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))

  def window(y, u, v):
    return y[:, u : u + h + 1, v : v + w + 1]

  if 4 * o <= i:  # few outputs: shift products rather than inputs
    y = x @ taps.transpose(2, 0, 1, 3, 4, 5).reshape(i, 16 * o)
    y = y.reshape(b, h + 2, w + 2, 2, 2, 4 * o)
    y = sum(window(y[..., u, v, :], u, v) for u, v in _CORNERS)
  else:
    patches = jnp.concatenate([window(x, u, v) for u, v in _CORNERS], -1)
    y = patches @ taps.reshape(4 * i, 4 * o)
  y = y.reshape(b, h + 1, w + 1, 2, 2, o).transpose(0, 1, 3, 2, 4, 5)
  return y.reshape(b, 2 * h + 2, 2 * w + 2, o)[:, 1:-1, 1:-1]


def conv_valid(x: base.Array, kernel: base.Array) -> base.Array:
  """The convolution of stride 1, not padded.

  See `convolution`, whose gradients are fast inside a loop on a CPU too.

  Args:
    x: `[B, H + K - 1, W + K - 1, I]` images.
    kernel: `[K, K, I, O]`.

  Returns:
    `[B, H, W, O]` images.

  Raises:
    ValueError: another shape.
  """
  size, width, channels, features = kernel.shape
  if (
    x.ndim != 4 or x.shape[-1] != channels or size != width or min(x.shape[1:3]) < size
  ):
    raise ValueError(
      f'x {x.shape} must be [B, H, W, I] and the kernel {kernel.shape} [K, K, I, O], no'
      ' larger'
    )
  return _convolved(x, kernel, 0)


def conv_same(x: base.Array, kernel: base.Array) -> base.Array:
  """The convolution of stride 1 with an odd kernel, padded 'SAME', as `conv_valid`.

  Args:
    x: `[B, H, W, I]` images.
    kernel: `[K, K, I, O]`, K odd.

  Returns:
    `[B, H, W, O]` images.

  Raises:
    ValueError: another shape.
  """
  size, width, channels, _ = kernel.shape
  if x.ndim != 4 or x.shape[-1] != channels or size != width or not size % 2:
    raise ValueError(
      f'x {x.shape} must be [B, H, W, I] and the kernel {kernel.shape} [K, K, I, O], K'
      ' odd'
    )
  return _convolved(x, kernel, size // 2)  # 'SAME' of an odd kernel is symmetric


def _convolved(x, kernel, pad):
  """A kernel of one pixel is a matrix product of its own."""
  if len(kernel) == 1 and not pad:
    return x @ kernel[0, 0]
  return convolution.conv(x, kernel, pad)


def conv_grouped(x: base.Array, kernel: base.Array, num_groups: int) -> base.Array:
  """The convolution of stride 1 in groups of channels, padded 'SAME'.

  It equals `jax.lax.conv_general_dilated(x, kernel, (1, 1), 'SAME',
  feature_group_count=num_groups)` in [B, H, W, C], as matrix products a group:
  XLA's own has a slow gradient inside a loop on a CPU (92 ms against 17 here, for
  both gradients of 64 images of 8x8x96 in 12 groups on two cores).

  Args:
    x: `[B, H, W, I]` images.
    kernel: `[K, K, I / num_groups, O]`, K odd.
    num_groups: of channels, a divisor of I and O.

  Returns:
    `[B, H, W, O]` images.

  Raises:
    ValueError: another shape.
  """
  size, _, per_group, features = kernel.shape
  if x.shape[-1] != per_group * num_groups or features % num_groups or not size % 2:
    raise ValueError(
      f'x {x.shape} and the kernel {kernel.shape} do not fit {num_groups} groups'
    )
  groups = jnp.moveaxis(x.reshape(*x.shape[:3], num_groups, per_group), 3, 0)
  kernels = kernel.reshape(size, size, per_group, num_groups, -1)
  y = jax.vmap(conv_same)(groups, jnp.moveaxis(kernels, 3, 0))
  return jnp.moveaxis(y, 0, 3).reshape(*x.shape[:3], features)


def _apply_conv(layer: Any, conv: Callable, size: int, x: base.Array) -> base.Array:
  """Applies `conv` to x and the layer's kernel, and adds its bias if it has one."""
  shape = (size, size, x.shape[-1], layer.features)
  kernel, bias = layer.param('kernel', layer.kernel_init, shape), None
  if layer.use_bias:
    bias = layer.param('bias', nn.initializers.zeros, (layer.features,))
  x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=layer.dtype)
  y = conv(x, kernel)
  return y if bias is None else y + bias


class SameConv(nn.Module):
  """Keeps height and width by a convolution of stride 1.

  The parameters are those of `nn.Conv(features, (size, size))`.

  Attributes:
    features: channels of the output.
    size: of the kernel, odd.
    use_bias: whether to add a bias.
    kernel_init: of the kernel `[size, size, I, features]`.
    dtype: of the computation.
  """

  features: int
  size: int = 3
  use_bias: bool = True
  kernel_init: Callable = nn.initializers.lecun_normal()
  dtype: Any = None

  @nn.compact
  def __call__(self, x: base.Array) -> base.Array:
    """Maps images `[B, H, W, I]` to `[B, H, W, features]`."""
    return _apply_conv(self, conv_same, self.size, x)


class DownConv(nn.Module):
  """Halves height and width by a 4x4 convolution of stride 2.

  The parameters are those of `nn.Conv(features, (4, 4), 2)`.

  Attributes:
    features: channels of the output.
    use_bias: whether to add a bias.
    kernel_init: of the kernel `[4, 4, I, features]`.
    dtype: of the computation.
  """

  features: int
  use_bias: bool = True
  kernel_init: Callable = nn.initializers.lecun_normal()
  dtype: Any = None

  @nn.compact
  def __call__(self, x: base.Array) -> base.Array:
    """Maps images `[B, 2 H, 2 W, I]` to `[B, H, W, features]`."""
    return _apply_conv(self, conv_4x4, 4, x)


class UpConv(nn.Module):
  """Doubles height and width by a 4x4 transposed convolution of stride 2.

  The parameters are those of `nn.ConvTranspose(features, (4, 4), (2, 2))`.

  Attributes:
    features: channels of the output.
    use_bias: whether to add a bias.
    kernel_init: of the kernel `[4, 4, I, features]`.
    dtype: of the computation.
  """

  features: int
  use_bias: bool = True
  kernel_init: Callable = nn.initializers.lecun_normal()
  dtype: Any = None

  @nn.compact
  def __call__(self, x: base.Array) -> base.Array:
    """Maps images `[B, H, W, I]` to `[B, 2 H, 2 W, features]`."""
    return _apply_conv(self, conv_transpose_4x4, 4, x)


def normalize(layer: nn.Module, spectral_norm: bool, *, train: bool) -> Callable:
  """Returns the layer, its kernel spectrally normalized if asked for.

  W -> W / sigma(W), with sigma from one power iteration a call, whose vector is
  carried in the collection 'spectral' and moves only while training; a
  convolution's kernel counts as the matrix [H W I, O]. The library's `init`
  stores the kernel divided by its first estimate already, so the scale of
  `kernel_init` is lost: the function is the same, the step's relative size not.

  Source: Spectral Normalization for Generative Adversarial Networks, Miyato et
  al., 2018, arXiv:1802.05957, algorithm 1.

  Args:
    layer: with a `kernel`, made inside a compact `__call__`.
    spectral_norm: whether to normalize.
    train: whether the carried vector moves.

  Returns:
    A function of the layer's input `[B, ...]`.
  """
  if not spectral_norm:
    return layer
  wrapped = nn.SpectralNorm(layer, collection_name='spectral')
  return functools.partial(wrapped, update_stats=train)


class ConditionalBatchNorm(nn.Module):
  """Batch normalization whose gain and shift are linear in a condition.

  y = (1 + gamma(c)) (x - mean) / sqrt(var + epsilon) + beta(c)

  Both are 0 at first, and of a condition of zeros for ever: there it is the
  normalization without a condition. Without the 1 its output would vanish.
  Batch-coupled while training, as `nn.BatchNorm`, whose 'batch_stats' it has.

  Source: A Learned Representation for Artistic Style, Dumoulin et al., 2017,
  arXiv:1610.07629; for generators cGANs with Projection Discriminator, Miyato and
  Koyama, 2018, arXiv:1802.05637.

  Attributes:
    dtype: of the computation.
  """

  dtype: Any = None

  @nn.compact
  def __call__(
    self, x: base.Array, condition: base.Array, *, train: bool = False
  ) -> base.Array:
    """Normalizes x `[B, ..., C]` for conditions `[B, K]`.

    Raises:
      ValueError: the condition is not `[B, K]`.
    """
    if condition.ndim != 2 or len(condition) != len(x):
      raise ValueError(
        f'the condition of x {x.shape} must be [{len(x)}, K], got {condition.shape}'
      )

    def linear(name):
      layer = nn.Dense(
        x.shape[-1], False, self.dtype, kernel_init=nn.initializers.zeros, name=name
      )
      return layer(condition).reshape(len(x), *(1,) * (x.ndim - 2), -1)

    normalized = nn.BatchNorm(
      use_running_average=not train,
      momentum=0.9,
      use_bias=False,
      use_scale=False,
      dtype=self.dtype,
      name='normalization',
    )(x)
    return (1.0 + linear('gamma')) * normalized + linear('beta')
