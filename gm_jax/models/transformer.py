"""Causal transformers over tokens: characters, notes, pixels, patches.

Blocks x + attention(norm(x)), x + perceptron(norm(x)); position i attends to i and to
the positions before it. The input is shifted by one, a start token first, so that
output i depends on x[:, :i] alone. For sampling, `update` takes one token and attends
to a cache of keys and values: a token costs a token's work and not a pass over all.
`Decoder` is all of this between embeddings and outputs; `Transformer` embeds integers,
and the network of `patch_transformer` vectors of real numbers.

Source: Attention Is All You Need, Vaswani et al., 2017, arXiv:1706.03762; the norm
before each part: Generating Long Sequences with Sparse Transformers, Child et al.,
2019, arXiv:1904.10509.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from gm_jax import base

SMALL: Callable = nn.initializers.normal(0.02)


def apply_to_rows(layer: Callable, x: base.Array) -> base.Array:
  """Applies a layer to x [..., I] as rows [N, I]: twice as fast a gradient on a CPU."""
  return layer(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


def attend(query, keys, values, allowed=None) -> base.Array:
  """Averages values by softmax(q . k / sqrt(size)), where `allowed` `[T, S]`.

  Args:
    query: `[..., T, size]`.
    keys: `[..., S, size]`.
    values: `[..., S, size]`.
    allowed: whether position t sees s; None is everywhere.

  Returns:
    `[..., T, size]`.
  """
  scores = query / math.sqrt(query.shape[-1]) @ keys.swapaxes(-1, -2)
  if allowed is not None:
    scores = jnp.where(allowed, scores, -jnp.inf)
  # The softmax by hand, divided after the product with the values: [T, size] numbers
  # to divide rather than [T, S]. Its shift cancels, so the gradient is stopped.
  weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
  return weights @ values / weights.sum(-1, keepdims=True)


def _causal_attention(query, keys, values) -> base.Array:
  """Attention of each position up to itself, by eighths: skips most masked scores."""
  num = query.shape[-2]
  # At least 64 rows: smaller products are slower than what is skipped saves.
  size = max(64, -(-num // 8))
  parts = []
  for first in range(0, num, size):
    last = min(first + size, num)
    allowed = jnp.tril(jnp.ones((last - first, last), bool), first)
    before = keys[..., :last, :], values[..., :last, :]
    parts.append(attend(query[..., first:last, :], *before, allowed))
  return jnp.concatenate(parts, axis=-2)


class Block(nn.Module):
  """One layer: attention and a perceptron of four times the width.

  Attributes:
    width: of the features, divisible by `heads`.
    heads: of the attention.
    dropout: probability of dropping a feature of either part's output in training.
  """

  width: int
  heads: int
  dropout: float = 0.0

  def setup(self):
    """Creates the layers, under names common to both ways of calling."""
    self.norms = nn.LayerNorm(), nn.LayerNorm()
    self.to_qkv = nn.Dense(3 * self.width, use_bias=False)
    self.from_heads = nn.Dense(self.width)
    self.up, self.down = nn.Dense(4 * self.width), nn.Dense(self.width)
    self.drop = nn.Dropout(self.dropout)

  def project_qkv(self, x: base.Array) -> tuple[base.Array, ...]:
    """Maps x `[B, T, width]` to q, k and v, each `[B, heads, T, width / heads]`."""
    parts = apply_to_rows(self.to_qkv, self.norms[0](x))
    parts = parts.reshape(*x.shape[:2], 3, self.heads, -1)
    return tuple(jnp.moveaxis(parts, (2, 3), (0, 2)))

  def add_residuals(self, x: base.Array, attention: base.Array, *, train: bool):
    """Adds the attention `[B, heads, T, width / heads]`, then the perceptron, to x."""
    attention = apply_to_rows(
      self.from_heads, attention.swapaxes(1, 2).reshape(x.shape)
    )
    x = x + self.drop(attention, deterministic=not train)
    gelu = jax.checkpoint(nn.gelu)  # its input alone is kept for the gradient
    y = apply_to_rows(lambda h: self.down(gelu(self.up(h))), self.norms[1](x))
    return x + self.drop(y, deterministic=not train)

  def __call__(self, x: base.Array, *, train: bool = False) -> base.Array:
    """Maps `[B, T, width]` to the same shape, causally."""
    return self.add_residuals(x, _causal_attention(*self.project_qkv(x)), train=train)

  def decode_step(self, x: base.Array, cache: tuple, place: base.Array) -> tuple:
    """Applies the block to one position, which attends to a cache.

    Args:
      x: `[B, 1, width]` features of the position.
      cache: keys and values, `[B, heads, T, width / heads]` each.
      place: `[]` the position.

    Returns:
      `[B, 1, width]` features, and the cache with the position's key and value.
    """
    query, key, value = self.project_qkv(x)
    keys, values = (
      jax.lax.dynamic_update_slice_in_dim(old, new, place, axis=2)
      for old, new in zip(cache, (key, value), strict=True)
    )
    allowed = (jnp.arange(keys.shape[2]) <= place)[None]
    attention = attend(query, keys, values, allowed)
    return self.add_residuals(x, attention, train=False), (keys, values)


class Decoder(nn.Module):
  """Outputs of each position, by the embedded tokens before it.

  Attributes:
    num_dims: T, tokens of an example.
    outputs: K, of every position.
    width: of the features.
    num_layers: number of blocks.
    heads: of the attention.
    dropout: probability of dropping a feature while training.
    head_init: initializer of the last layer.
  """

  num_dims: int
  outputs: int
  width: int
  num_layers: int
  heads: int
  dropout: float = 0.0
  head_init: Callable = nn.linear.default_kernel_init

  def setup(self):
    """Creates the start token, the places, the blocks and the last layer."""
    if self.width % self.heads:
      raise ValueError(f'width {self.width} is not divisible by heads {self.heads}')
    self.places = self.param('places', SMALL, (self.num_dims, self.width))
    self.first = self.param('first', SMALL, (self.width,))
    self.of_condition = nn.Dense(self.width)
    self.blocks = [
      Block(self.width, self.heads, self.dropout) for _ in range(self.num_layers)
    ]
    self.norm = nn.LayerNorm()
    self.head = nn.Dense(self.outputs, kernel_init=self.head_init)

  def _start_token(self, num: int, condition: base.Array | None) -> base.Array:
    first = jnp.broadcast_to(self.first, (num, self.width))
    return first if condition is None else first + self.of_condition(condition)

  def __call__(
    self, before: base.Array, condition: base.Array | None, *, train: bool = False
  ) -> base.Array:
    """Maps the tokens but the last to the outputs of every position.

    Args:
      before: `[B, T - 1, width]` embedded tokens.
      condition: `[B, C]` to condition on, or None.
      train: whether features are dropped.

    Returns:
      `[B, T, K]`, the i-th a function of before[:, :i].
    """
    first = self._start_token(len(before), condition)[:, None]
    h = jnp.concatenate([first, before], 1) + self.places
    for block in self.blocks:
      h = block(h, train=train)
    return apply_to_rows(self.head, self.norm(h))

  def start(self, num: int, condition: base.Array | None = None) -> dict:
    """Returns the memory before the first token: the start token, in every cache.

    Args:
      num: B, how many examples are drawn.
      condition: `[B, C]` to condition on, or None.

    Returns:
      A dict of `caches`, one a block, and `outputs` `[B, K]` of the first token.
    """
    size = self.width // self.heads
    empty = jnp.zeros((num, self.heads, self.num_dims, size), self.first.dtype)
    caches = [(empty, empty)] * self.num_layers
    return self._decode_token(
      caches, self._start_token(num, condition), jnp.zeros((), jnp.int32)
    )

  def _decode_token(
    self, caches: list, embedded: base.Array, place: base.Array
  ) -> dict:
    h, after = (embedded + self.places[place])[:, None], []
    for block, cache in zip(self.blocks, caches, strict=True):
      h, cache = block.decode_step(h, cache, place)
      after.append(cache)
    return {'caches': after, 'outputs': self.head(self.norm(h[:, 0]))}

  def update(self, memory: dict, i: base.Array, embedded: base.Array) -> dict:
    """Returns the memory with the i-th embedded token `[B, width]` in it."""
    # The last is clamped: what would follow it is computed in vain and never read.
    place = jnp.minimum(i + 1, self.num_dims - 1)
    return self._decode_token(memory['caches'], embedded, place)


class Transformer(nn.Module):
  """Logits of each token, conditional on those before.

  Attributes:
    num_dims: T, tokens of an example.
    num_levels: K, size of the vocabulary.
    width: of the features.
    num_layers: number of blocks.
    heads: of the attention.
    dropout: probability of dropping a feature while training.
  """

  num_dims: int
  num_levels: int
  width: int = 64
  num_layers: int = 2
  heads: int = 4
  dropout: float = 0.0

  def setup(self):
    """Creates the embedding and what follows it, with parameters side by side."""
    self.tokens = nn.Embed(self.num_levels, self.width, embedding_init=SMALL)
    sizes = self.num_dims, self.num_levels, self.width, self.num_layers, self.heads
    self.decoder = Decoder(*sizes, self.dropout)
    nn.share_scope(self, self.decoder)

  def __call__(
    self, x: base.Array, condition: base.Array | None = None, *, train: bool = False
  ) -> base.Array:
    """Maps tokens to the logits of every position.

    Args:
      x: `[B, T]` integers in [0, K).
      condition: `[B, C]` to condition on, or None.
      train: whether features are dropped.

    Returns:
      `[B, T, K]` logits, the i-th a function of x[:, :i].

    Raises:
      ValueError: another shape of x, or a width that the heads do not divide.
    """
    if x.ndim != 2 or x.shape[1] != self.num_dims:
      raise ValueError(f'x must be [B, {self.num_dims}], got {x.shape}')
    return self.decoder(self.tokens(x[:, :-1]), condition, train=train)

  def start(self, num: int, condition: base.Array | None = None) -> dict:
    """Returns the memory before the first of B = num tokens, see `Decoder.start`."""
    return self.decoder.start(num, condition)

  def conditional(self, memory: dict, i: base.Array) -> base.Array:
    """Returns the logits `[B, K]` of the i-th token, which the memory holds."""
    del i
    return memory['outputs']

  def update(self, memory: dict, i: base.Array, value: base.Array) -> dict:
    """Returns the memory with the i-th token `[B]` in it."""
    return self.decoder.update(memory, i, self.tokens(value))
