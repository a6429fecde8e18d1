"""Parts that the networks of diffusion models have in common, and one of vectors.

A denoiser is called as `module(x, t, condition, train=False)`: x `[B, ...]` scaled to
about unit variance, t `[B]` any real number that orders the noise, as log-SNR / 4 or
1000 times the time, condition `[B, E]` or None. What it returns, noise, data, score or
velocity, is the method's. Its last layer is 0 at first, and so is its output. A
condition of zeros is none. The networks of images are `unet` and `dit`.

Sources: Denoising Diffusion Probabilistic Models, Ho et al., 2020, arXiv:2006.11239,
appendix B; the scale and shift of normalized features: Diffusion Models Beat GANs on
Image Synthesis, Dhariwal and Nichol, 2021, arXiv:2105.05233, section 3.1.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from gm_jax import base

ZEROS = nn.initializers.zeros


def check_shapes(
  x: base.Array, t: base.Array, condition: base.Array | None, axes: str
) -> None:
  """Raises ValueError unless x is `[B, axes]`, t `[B]` and condition `[B, E]` or None.

  A t of one number would else be broadcast.
  """
  if x.ndim != 2 + axes.count(','):
    raise ValueError(f'x must be [B, {axes}], got {x.shape}')
  if t.shape != x.shape[:1]:
    raise ValueError(f't of x {x.shape} must be [{len(x)}], got {t.shape}')
  if condition is not None and (condition.ndim != 2 or len(condition) != len(x)):
    raise ValueError(
      f'the condition of x {x.shape} must be [{len(x)}, E], got {condition.shape}'
    )


def sinusoids(t: base.Array, size: int, *, max_period: float = 10_000.0) -> base.Array:
  """Embeds real numbers by cosines and sines of geometric frequencies.

  w_i = max_period^(-i / N), i = 0 ... N - 1, N = size / 2: the inner product of two
  embeddings is the sum of cos(w_i (t - s)), a function of the difference alone.

  Source: Attention Is All You Need, Vaswani et al., 2017, arXiv:1706.03762, section
  3.5.

  Args:
    t: `[...]`.
    size: of the embedding, even.
    max_period: bounds 1 / w_i.

  Returns:
    `[..., size]`, first all cosines.

  Raises:
    ValueError: an odd size.
  """
  if size % 2:
    raise ValueError(f'the size of an embedding must be even, got {size}')
  num = size // 2
  angles = t[..., None] * max_period ** (-jnp.arange(num) / num)
  return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class TimeEmbedding(nn.Module):
  """Embeds time by a perceptron of its sinusoids; a projected condition is added.

  Attributes:
    width: of the embedding.
    size: number of sinusoids, even.
  """

  width: int
  size: int

  @nn.compact
  def __call__(self, t: base.Array, condition: base.Array | None) -> base.Array:
    """Maps t `[B]` and condition `[B, E]`, or None, to `[B, width]`."""
    h = nn.silu(nn.Dense(self.width)(sinusoids(t, self.size)))
    h = nn.Dense(self.width)(h)
    if condition is not None:
      projection = nn.Dense(self.width, use_bias=False, name='condition')
      h += projection(condition.astype(h.dtype))
    return nn.silu(h)  # of an embedding only linear maps are taken


class Modulation(nn.Module):
  """Linear maps of the embedding to scales, shifts or gates of features.

  Attributes:
    num: of the maps.
    kernel_init: of their kernel; zeros for adaLN-Zero.
  """

  num: int
  kernel_init: nn.initializers.Initializer = nn.linear.default_kernel_init

  @nn.compact
  def __call__(self, embedding: base.Array, x: base.Array) -> list[base.Array]:
    """Maps the embedding `[B, W]` of x `[B, ..., F]` to `num` of `[B, 1 ..., F]`."""
    maps = nn.Dense(self.num * x.shape[-1], kernel_init=self.kernel_init)(embedding)
    maps = maps.reshape(len(x), *(1,) * (x.ndim - 2), -1)
    return jnp.split(maps, self.num, axis=-1)


class ResidualMLP(nn.Module):
  """A perceptron of residual blocks, of vectors.

  A block is that of `unet`, its convolutions linear maps.

  Attributes:
    width: of the hidden layers, even.
    num_blocks: of two layers each.
    dropout: probability of dropping a feature while training.
    outputs: of the last layer, by default D.
  """

  width: int = 256
  num_blocks: int = 3
  dropout: float = 0.0
  outputs: int | None = None

  @nn.compact
  def __call__(
    self,
    x: base.Array,
    t: base.Array,
    condition: base.Array | None = None,
    *,
    train: bool = False,
  ) -> base.Array:
    """Maps x `[B, D]` at t `[B]` of condition `[B, E]`, or None, to `[B, outputs]`.

    Raises:
      ValueError: another shape.
    """
    check_shapes(x, t, condition, 'D')
    embedding = TimeEmbedding(self.width, self.width)(t, condition)
    h = nn.Dense(self.width)(x)
    for _ in range(self.num_blocks):
      inner = nn.Dense(self.width)(nn.silu(nn.LayerNorm()(h)))
      scale, shift = Modulation(2)(embedding, inner)
      inner = nn.silu(nn.LayerNorm()(inner) * (1 + scale) + shift)
      inner = nn.Dropout(self.dropout, deterministic=not train)(inner)
      h += nn.Dense(self.width, kernel_init=ZEROS)(inner)
    last = nn.Dense(self.outputs or x.shape[-1], kernel_init=ZEROS, name='last')
    return last(nn.silu(nn.LayerNorm()(h)))


class FourierFeatures(nn.Module):
  """Shows a denoiser the fine scales of x: sines and cosines of 2^n 2 pi x beside it.

  Source: Variational Diffusion Models, Kingma et al., 2021, arXiv:2107.00630, section
  5.1, for the likelihood of the lowest bits of pixels in [-1, 1].

  Attributes:
    network: a denoiser with `outputs` of its own, for it sees more channels than x has.
    exponents: n.
  """

  network: nn.Module
  exponents: tuple[int, ...] = (6, 7)

  def __call__(self, x, t, condition=None, *, train: bool = False) -> base.Array:
    """Maps x `[B, ..., C]` as the network does `[B, ..., (1 + 2 N) C]`, N exponents.

    Raises:
      ValueError: the network's outputs are None.
    """
    if self.network.outputs is None:
      raise ValueError('outputs of the network within FourierFeatures must be a number')
    angles = [2**n * 2 * math.pi * x for n in self.exponents]
    waves = [wave(angle) for angle in angles for wave in (jnp.sin, jnp.cos)]
    x = jnp.concatenate([x, *waves], axis=-1)
    return self.network(x, t, condition, train=train)


class SelfConditioned(nn.Module):
  """Shows a denoiser its own first output beside x, which it then betters.

  F(x, F(x, 0)): the first pass has no gradient, and half of the examples have zeros in
  its place while training. Here the first pass is of the same x at every step, which
  costs a sampler twice the evaluations; the source carries that of the step before.

  Source: Analog Bits: Generating Discrete Data using Diffusion Models with
  Self-Conditioning, Chen et al., 2023, arXiv:2208.04202, section 3.

  Attributes:
    network: a denoiser with `outputs` of its own, for it sees twice the channels.
    rate: at which training shows the first output.
  """

  network: nn.Module
  rate: float = 0.5

  def __call__(self, x, t, condition=None, *, train: bool = False) -> base.Array:
    """Maps x `[B, ..., C]` to the same shape, as the network does `[B, ..., 2 C]`.

    Raises:
      ValueError: the network's outputs are not C.
    """
    if self.network.outputs != x.shape[-1]:
      raise ValueError(
        f'outputs of the network within SelfConditioned must be {x.shape[-1]}, got'
        f' {self.network.outputs}'
      )

    def run(beside):
      both = jnp.concatenate([x, beside], axis=-1)
      return self.network(both, t, condition, train=train)

    first = jax.lax.stop_gradient(run(jnp.zeros_like(x)))
    if train:
      key = self.make_rng('dropout')
      shown = jax.random.bernoulli(key, self.rate, (len(x), *(1,) * (x.ndim - 1)))
      first = jnp.where(shown, first, 0.0)
    return run(first)


class Flattened(nn.Module):
  """A denoiser of vectors for examples of any shape.

  Attributes:
    network: a denoiser of `[B, D]`, with D outputs or a multiple.
  """

  network: nn.Module

  def __call__(self, x, t, condition=None, *, train: bool = False) -> base.Array:
    """Maps x `[B, ..., C]` as the network does `[B, D]`, to C or more channels."""
    flat = x.reshape(len(x), -1)
    found = self.network(flat, t, condition, train=train)
    return found.reshape(*x.shape[:-1], -1)


class Classifier(nn.Module):
  """A classifier of noisy data, a denoiser of vectors whose outputs are logits.

  Attributes:
    network: a denoiser of `[B, D]` with `outputs`, the number of classes.
  """

  network: nn.Module

  def __call__(self, x, t, condition=None, *, train: bool = False) -> base.Array:
    """Maps x `[B, ...]` at t `[B]` to logits `[B, C]`."""
    return self.network(x.reshape(len(x), -1), t, condition, train=train)
