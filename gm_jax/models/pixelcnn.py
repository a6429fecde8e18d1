"""The gated PixelCNN, of two stacks that see all that came before and nothing else.

  vertical    v_l(r, c)  of v_{l-1} in rows <= r; the first of pixels in rows < r
  horizontal  h_l(r, c)  of h_{l-1} at (r, <= c) and v_l(r, c); the first of (r, < c)
  each        tanh(a) sigmoid(b), and h is a sum of them

so that logits at (r, c) are of the pixels before it in the order of rows, without the
blind spot of a single stack. Convolutions are sums over taps, each a matrix product: no
weight is masked away, and in sampling one place is a product with what is kept.

Source: Conditional Image Generation with PixelCNN Decoders, van den Oord et al., 2016,
arXiv:1606.05328.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gm_jax import base


class Taps(nn.Module):
  """A convolution given by its taps: y(r, c) = b + sum_t x(r + dy_t, c + dx_t) W_t.

  Attributes:
    offsets: (dy, dx) of each tap; outside of the image x is 0.
    features: of the output.
  """

  offsets: tuple[tuple[int, int], ...]
  features: int

  @nn.compact
  def __call__(
    self,
    x: base.Array,
    row: base.Array | None = None,
    column: base.Array | None = None,
  ) -> base.Array:
    """`[B, H, W, I]` -> `[B, H, W, O]`; H or W is 1 where one place is asked for.

    Args:
      x: images.
      row: [] the only one wanted, or None for all.
      column: likewise.
    """
    shape = len(self.offsets), x.shape[-1], self.features
    init = nn.initializers.variance_scaling(1.0, 'fan_in', 'normal', in_axis=(0, 1))
    kernel = self.param('kernel', init, shape)
    bias = self.param('bias', nn.initializers.zeros, shape[2:])
    far = tuple(max(abs(offset[axis]) for offset in self.offsets) for axis in (0, 1))
    padded = jnp.pad(x, ((0, 0), (far[0],) * 2, (far[1],) * 2, (0, 0)))

    def shifted(offset):
      part = padded
      for axis, place in ((0, row), (1, column)):
        begin, size = far[axis] + offset[axis], x.shape[1 + axis]
        if place is not None:
          begin, size = begin + place, 1
        part = jax.lax.dynamic_slice_in_dim(part, begin, size, axis=1 + axis)
      return part

    taps = zip(self.offsets, kernel, strict=True)
    return bias + sum(shifted(offset) @ tap for offset, tap in taps)


def _window(dy: range, dx: range) -> tuple[tuple[int, int], ...]:
  return tuple((i, j) for i in dy for j in dx)


def _gated(x: base.Array) -> base.Array:
  a, b = jnp.split(x, 2, axis=-1)
  return jnp.tanh(a) * jax.nn.sigmoid(b)


class GatedPixelCNN(nn.Module):
  """Logits of each pixel's level given the pixels before it, row by row.

  Attributes:
    height: H.
    width: W.
    num_levels: K.
    features: of both stacks.
    num_layers: L.
    reach: pixels that a layer looks to each side.
  """

  height: int
  width: int
  num_levels: int
  features: int = 32
  num_layers: int = 4
  reach: int = 2

  def setup(self):
    """The taps of both stacks, and what joins them."""
    k, both = self.reach, 2 * self.features
    first, later = range(-k - 1, 0), range(-k, 1)
    side = range(-k, k + 1)
    rows = [first] + [later] * (self.num_layers - 1)
    self.vertical = [Taps(_window(dy, side), both) for dy in rows]
    self.horizontal = [Taps(_window(range(1), dx), both) for dx in rows]
    self.joins = [nn.Dense(both) for _ in rows]
    self.residuals = [nn.Dense(self.features) for _ in rows]
    self.of_condition = [nn.Dense(both, use_bias=False) for _ in rows]
    self.last = nn.Dense(2 * self.features), nn.Dense(self.num_levels)

  def _given(self, layer: int, condition: base.Array | None) -> base.Array | float:
    if condition is None:
      return 0.0
    return self.of_condition[layer](condition)[:, None, None]

  def _scaled(self, x: base.Array) -> base.Array:
    return 2.0 * x.astype(jnp.float32) / (self.num_levels - 1) - 1.0

  def _head(self, h: base.Array) -> base.Array:
    return self.last[1](nn.relu(self.last[0](nn.relu(h))))

  def __call__(
    self, x: base.Array, condition: base.Array | None = None, *, train: bool = False
  ) -> base.Array:
    """`[B, H W]` whole numbers -> logits `[B, H W, K]`, the i-th of x[:, :i] alone.

    Raises:
      ValueError: another shape of x.
    """
    del train
    if x.ndim != 2 or x.shape[1] != self.height * self.width:
      raise ValueError(f'x must be [B, {self.height * self.width}], got {x.shape}')
    v = h = self._scaled(x).reshape(len(x), self.height, self.width, 1)
    for i in range(self.num_layers):
      given = self._given(i, condition)
      raw = self.vertical[i](v)
      v = _gated(raw + given)
      out = self.residuals[i](
        _gated(self.horizontal[i](h) + self.joins[i](raw) + given)
      )
      h = out if i == 0 else h + out
    return self._head(h).reshape(len(x), -1, self.num_levels)

  def start(self, num: int, condition: base.Array | None = None) -> dict:
    """What is remembered before the first pixel: empty images of every layer."""
    size = (num, self.height, self.width)
    layers = [1] + [self.features] * self.num_layers
    memory = {
      'v': [jnp.zeros((*size, c)) for c in layers],
      'raw': [jnp.zeros((*size, 2 * self.features)) for _ in layers[1:]],
      'h': [jnp.zeros((*size, c)) for c in layers],
      'logits': jnp.zeros((num, self.num_levels)),
      'given': [self._given(i, condition) for i in range(self.num_layers)],
    }
    return self._taken(memory, jnp.zeros((), jnp.int32))

  def _row(self, memory: dict, row: base.Array) -> dict:
    """The vertical stack of a row, every layer; it is of the rows above alone."""
    v, raws = list(memory['v']), list(memory['raw'])
    for i in range(self.num_layers):
      raw = self.vertical[i](v[i], row)
      put = jax.lax.dynamic_update_slice_in_dim
      raws[i] = put(raws[i], raw, row, axis=1)
      v[i + 1] = put(v[i + 1], _gated(raw + memory['given'][i]), row, axis=1)
    return {**memory, 'v': v, 'raw': raws}

  def _taken(self, memory: dict, place: base.Array) -> dict:
    """Logits of a pixel, whose row and those above are known up to it."""
    row, column = place // self.width, place % self.width
    if self.is_initializing():
      memory = self._row(memory, row)
    else:
      memory = nn.cond(
        column == 0, lambda m, s: m._row(s, row), lambda m, s: s, self, memory
      )
    h, at = list(memory['h']), None
    for i in range(self.num_layers):
      line = jax.lax.dynamic_slice_in_dim(h[i], row, 1, axis=1)
      raw = memory['raw'][i]
      size = (len(raw), 1, 1, raw.shape[-1])
      raw = jax.lax.dynamic_slice(raw, (0, row, column, 0), size)
      total = self.horizontal[i](line, column=column) + self.joins[i](raw)
      out = self.residuals[i](_gated(total + memory['given'][i]))
      at = out if i == 0 else at + out
      h[i + 1] = jax.lax.dynamic_update_slice(h[i + 1], at, (0, row, column, 0))
    return {**memory, 'h': h, 'logits': self._head(at)[:, 0, 0]}

  def conditional(self, memory: dict, i: base.Array) -> base.Array:
    """Logits [B, K] of the i-th pixel."""
    del i
    return memory['logits']

  def update(self, memory: dict, i: base.Array, value: base.Array) -> dict:
    """What is remembered with the i-th pixel; of the last nothing is needed."""
    pixel = self._scaled(value)[:, None, None, None]
    where = (0, i // self.width, i % self.width, 0)
    v, h = list(memory['v']), list(memory['h'])
    v[0] = jax.lax.dynamic_update_slice(v[0], pixel, where)
    h[0] = jax.lax.dynamic_update_slice(h[0], pixel, where)
    place = jnp.minimum(i + 1, self.height * self.width - 1)
    return self._taken({**memory, 'v': v, 'h': h}, place)
