"""Networks of texts: an encoder of tokens, and networks that are given its features.

A text is `[B, T]` tokens of which 0 is padding, wherever it stands: features are those
of the words that are left. What a text is encoded to is a vector, `[B, F]`, and so is
an embedding that another program has made: the networks of images take either.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gm_jax import base
from gm_jax.models import layers

_INIT = nn.initializers.normal(0.02)


class TextEncoder(nn.Module):
  """Embeds tokens, convolves along the text and averages: `[B, T]` -> `[B, F]`.

  Words are moved to the front and padding counts nowhere, not in the average and not
  in a convolution's neighborhood: a text has the same features at any length.

  Source: character-level convolutions for texts of images, as in Learning Deep
  Representations of Fine-grained Visual Descriptions, Reed et al., 2016,
  arXiv:1605.05395; the network is our own.

  Attributes:
    num_tokens: K, of tokens in [0, K).
    features: F.
    width: channels of embedding and convolutions.
    num_layers: convolutions, each over three neighbors, with a residual.
  """

  num_tokens: int
  features: int
  width: int = 64
  num_layers: int = 1

  @nn.compact
  def __call__(self, tokens: base.Array, *, train: bool = False) -> base.Array:
    """Maps tokens `[B, T]` to features `[B, F]`, float32; of no word they are fixed.

    Raises:
      ValueError: tokens that are not integers [B, T].
    """
    del train
    if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
      raise ValueError(
        f'a text must be integers [B, T], got {tokens.dtype} {list(tokens.shape)}'
      )
    front = jnp.argsort(tokens == 0, axis=1, stable=True)
    tokens = jnp.take_along_axis(tokens, front, axis=1)
    word = (tokens != 0)[..., None]
    x = nn.Embed(self.num_tokens, self.width)(tokens) * word
    for _ in range(self.num_layers):
      padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0)))
      near = jnp.concatenate([padded[:, :-2], x, padded[:, 2:]], axis=2)
      x = (x + nn.gelu(nn.Dense(self.width)(near))) * word
    # A sum over the root of the number: words keep their weight in long texts.
    pooled = x.sum(axis=1) / jnp.sqrt(jnp.maximum(word.sum(axis=1), 1))
    hidden = nn.gelu(nn.Dense(2 * self.width)(pooled))
    both = jnp.concatenate([pooled, hidden], axis=1)
    features = nn.LayerNorm()(nn.Dense(self.features)(both))
    return layers.at_least_float32(features)


class Denoiser(nn.Module):
  """A denoiser that reads a text; encoder and network are trained together.

  Source: High-Resolution Image Synthesis with Latent Diffusion Models, Rombach et al.,
  2022, arXiv:2112.10752, section 3.3, where the network attends to each word.

  Attributes:
    network: a denoiser of a condition `[B, F]`, see `denoisers`.
    encoder: tokens `[B, T]` -> `[B, F]`.
  """

  network: nn.Module
  encoder: nn.Module

  def __call__(
    self,
    x: base.Array,
    t: base.Array,
    condition: base.Array,
    *,
    train: bool = False,
  ) -> base.Array:
    """Maps x `[B, ...]` at t `[B]`, of tokens `[B, T]`, to the network's output."""
    text = self.encoder(condition, train=train)
    return self.network(x, t, text, train=train)


class Compressed(nn.Module):
  """A network that is given a text's features through a narrow layer.

  Source: Generative Adversarial Text to Image Synthesis, Reed et al., 2016,
  arXiv:1605.05396, section 4.1: 1024 features become 128, in both networks.

  Attributes:
    body: called as `body(x, [B, size], train=...)`.
    size: of the layer.
  """

  body: nn.Module
  size: int

  @nn.compact
  def __call__(
    self, x: base.Array, text: base.Array, *, train: bool = False
  ) -> base.Array:
    """Applies the body to x beside the compressed text `[B, F]`."""
    narrow = nn.Dense(self.size, kernel_init=_INIT, name='narrow')(text)
    return self.body(x, nn.leaky_relu(narrow, 0.2), train=train)


class SpatialCritic(nn.Module):
  """A critic that sees the text at every place of its last map of features.

  Halvings by strided convolution to 4x4, the text repeated at each place, a 1x1
  convolution of both, a linear layer. Leaky relu of slope 0.2.

  Source: Reed et al., 2016, arXiv:1605.05396, section 4.1.

  Attributes:
    base_features: channels after the first halving; they double with each.
    normalize: whether there is batch normalization, but after the first layer.
    dtype: of the computation; logits are float32 or wider.
  """

  base_features: int = 64
  normalize: bool = True
  dtype: Any = None

  @nn.compact
  def __call__(
    self, x: base.Array, text: base.Array, *, train: bool = False
  ) -> base.Array:
    """Maps images `[B, H, H, C]` and texts `[B, F]` to logits `[B, 1]`.

    Raises:
      ValueError: the images are not square of 8, 16, 32 ... pixels.
    """
    size = x.shape[1] if x.ndim == 4 and x.shape[1] == x.shape[2] else 0
    if size < 8 or size & (size - 1):
      raise ValueError(
        f'x must be square images of 8, 16, 32 ... pixels, got {x.shape}'
      )

    def activated(x):
      if self.normalize:
        x = nn.BatchNorm(not train, momentum=0.9, dtype=self.dtype)(x)
      return nn.leaky_relu(x, 0.2)

    options = dict(kernel_init=_INIT, dtype=self.dtype)
    for i in range((size // 4).bit_length() - 1):
      x = layers.DownConv(self.base_features * 2**i, **options)(x)
      x = activated(x) if i else nn.leaky_relu(x, 0.2)
    places = jnp.broadcast_to(text[:, None, None], (*x.shape[:3], text.shape[1]))
    both = jnp.concatenate([x, places.astype(x.dtype)], axis=3)
    x = activated(nn.Dense(x.shape[3], **options)(both))
    logits = nn.Dense(1, **options)(x.reshape(len(x), -1))
    return layers.at_least_float32(logits)


class Augmented(nn.Module):
  """A generator whose condition is drawn about the text: conditioning augmentation.

  c = m(t) + s(t) e,  and the body is given c in place of the features of t

  The noise e is the last `size` numbers of the generator's input, so that the prior of
  z draws it too and a sample is a function of z and the text. (The published code
  draws e from a truncated normal.)

  Source: StackGAN, Zhang et al., 2017, arXiv:1612.03242, section 3.2.

  Attributes:
    body: called as `body(z, c, train=...)`.
    size: K, of c.
  """

  body: nn.Module
  size: int

  def setup(self):
    self.head = nn.Dense(2 * self.size)

  def __call__(self, z: Any, text: base.Array, *, train: bool = False) -> base.Array:
    """Maps z `[B, Z + K]` and the text's features `[B, F]` to the body's output.

    z may be a pair of another input `[B, ...]` and the noise `[B, K]`.
    """
    z, noise = z if isinstance(z, tuple) else (z[:, : -self.size], z[:, -self.size :])
    mean, log_std = self.moments(z, text)
    return self.body(z, mean + jnp.exp(log_std) * noise, train=train)

  def moments(
    self, z: Any, text: base.Array, *, train: bool = False
  ) -> tuple[base.Array, base.Array]:
    """The mean and the logarithm of the standard deviation of c, `[B, K]` each."""
    del z, train
    mean, log_std = jnp.split(nn.leaky_relu(self.head(text), 0.2), 2, axis=1)
    return mean, log_std


class Refiner(nn.Module):
  """Draws a small image again at a multiple of its size, with a condition beside it.

  The small image goes through a convolution and halvings to a map, the condition is
  repeated at each place, residual blocks mix them, doublings and a tanh follow.

  Source: StackGAN, Zhang et al., 2017, arXiv:1612.03242, section 3.4: 64x64 to 16x16,
  four residual blocks, then to 256x256; the same for other sizes.

  Attributes:
    size: of the output, the input's times a power of two.
    channels: of the output.
    base_features: channels of the first layer, and of the last before the output.
    halvings: of the input.
    num_blocks: residual.
    normalize: whether there is batch normalization.
  """

  size: int
  channels: int
  base_features: int = 32
  halvings: int = 1
  num_blocks: int = 2
  normalize: bool = True

  @nn.compact
  def __call__(
    self, x: base.Array, condition: base.Array, *, train: bool = False
  ) -> base.Array:
    """Maps images `[B, h, h, C]` and conditions `[B, K]` to `[B, size, size, C]`.

    Raises:
      ValueError: the size is no multiple of the input's by a power of two.
    """
    ratio, rest = divmod(self.size, x.shape[1])
    if rest or ratio < 1 or ratio & (ratio - 1):
      raise ValueError(
        f'size must be that of the image, {x.shape[1]}, times a power of two, got'
        f' {self.size}'
      )

    def normalized(x):
      return nn.BatchNorm(not train, momentum=0.9)(x) if self.normalize else x

    def conv(x, features):
      conv = layers.SameConv(features, use_bias=False, kernel_init=_INIT)
      return normalized(conv(x))

    width = self.base_features
    x = nn.relu(conv(x, width))
    for _ in range(self.halvings):
      width *= 2
      x = nn.relu(normalized(layers.DownConv(width, kernel_init=_INIT)(x)))
    places = jnp.broadcast_to(
      condition[:, None, None], (*x.shape[:3], condition.shape[1])
    )
    x = nn.relu(conv(jnp.concatenate([x, places], axis=3), width))
    for _ in range(self.num_blocks):
      x = nn.relu(x + conv(nn.relu(conv(x, width)), width))
    doublings = self.halvings + ratio.bit_length() - 1
    for i in range(doublings):
      last = i == doublings - 1
      width = self.channels if last else max(self.base_features, width // 2)
      x = layers.UpConv(width, kernel_init=_INIT)(x)
      x = x if last else nn.relu(normalized(x))
    return jnp.tanh(layers.at_least_float32(x))


def as_unit(x: base.Array) -> base.Array:
  """Divides features `[B, F]` by their length."""
  return x * jax.lax.rsqrt(jnp.square(x).sum(axis=1, keepdims=True) + 1e-12)
