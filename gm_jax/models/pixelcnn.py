"""PixelCNNs: convolutions that depend on the pixels before and on nothing else.

`PixelCNN` has one stack, of causal windows; what lies above to the right of a window
has no influence however deep the stack is: the blind spot. `GatedPixelCNN` has two,

  vertical    v_l(r, c)  of v_{l-1} in rows <= r; the first of pixels in rows < r
  horizontal  h_l(r, c)  of h_{l-1} at (r, <= c) and v_l(r, c); the first of (r, < c)
  each        tanh(a) sigmoid(b), and h is a sum of them

so that outputs at (r, c) are of all pixels before it in the order of rows. Convolutions
are sums over taps, each a matrix product: no weight is masked away, and in sampling one
pixel is a product with what the memory holds.

Source: Pixel Recurrent Neural Networks, van den Oord et al., 2016, arXiv:1601.06759,
section 3.5; Conditional Image Generation with PixelCNN Decoders, van den Oord et al.,
2016, arXiv:1606.05328; with one distribution of all channels of a pixel, as PixelCNN++,
Salimans et al., 2017, arXiv:1701.05517.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gm_jax import base


class Taps(nn.Module):
  """A convolution written as its taps: y(r, c) = b + sum_t x(r + dy_t, c + dx_t) W_t.

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
    """Applies the convolution to images, or at one row or column alone.

    Args:
      x: `[B, H, W, I]` images.
      row: `[]` the only row to compute, or None for all.
      column: `[]` the only column to compute, or None for all.

    Returns:
      `[B, H, W, O]`, H or W being 1 where one row or column is asked for.
    """
    # The fan-in counts the taps too: the kernel is [taps, I, O].
    shape = len(self.offsets), x.shape[-1], self.features
    init = nn.initializers.variance_scaling(1.0, 'fan_in', 'normal', in_axis=(0, 1))
    kernel = self.param('kernel', init, shape)
    bias = self.param('bias', nn.initializers.zeros, shape[2:])
    margin = tuple(max(abs(offset[axis]) for offset in self.offsets) for axis in (0, 1))
    padded = jnp.pad(x, ((0, 0), (margin[0],) * 2, (margin[1],) * 2, (0, 0)))

    def shift(offset):
      part = padded
      for axis, place in ((0, row), (1, column)):
        begin, size = margin[axis] + offset[axis], x.shape[1 + axis]
        if place is not None:
          begin, size = begin + place, 1
        part = jax.lax.dynamic_slice_in_dim(part, begin, size, axis=1 + axis)
      return part

    taps = zip(self.offsets, kernel, strict=True)
    return bias + sum(shift(offset) @ tap for offset, tap in taps)


def _window(dy: range, dx: range) -> tuple[tuple[int, int], ...]:
  return tuple((i, j) for i in dy for j in dx)


def _gate(x: base.Array) -> base.Array:
  """Halves the channels: tanh(a) sigmoid(b)."""
  a, b = jnp.split(x, 2, axis=-1)
  return jnp.tanh(a) * jax.nn.sigmoid(b)


class _PixelModel(nn.Module):
  """The attributes and helpers of both networks.

  Attributes:
    height: H.
    width: W.
    num_levels: K.
    features: channels of a layer.
    num_layers: L.
    radius: pixels to each side in a layer's window.
    outputs: O, parameters of a pixel; K logits of its level if None.
    channels: C, where x is [B, H W, C]; None if it is [B, H W].
    dropout: probability of dropping a feature while training.
  """

  height: int
  width: int
  num_levels: int
  features: int = 32
  num_layers: int = 4
  radius: int = 2
  outputs: int | None = None
  channels: int | None = None
  dropout: float = 0.0

  def _image(self, x: base.Array) -> base.Array:
    """Levels `[B, H W]` or `[B, H W, C]` as images `[B, H, W, C]` in [-1, 1]."""
    pixel = () if self.channels is None else (self.channels,)
    if x.shape[1:] != (self.height * self.width, *pixel):
      expected = ', '.join(map(str, (self.height * self.width, *pixel)))
      raise ValueError(f'x must be [B, {expected}], got {x.shape}')
    image = x.reshape(len(x), self.height, self.width, self.channels or 1)
    return self._scale(image)

  def _scale(self, x: base.Array) -> base.Array:
    return 2.0 * x.astype(jnp.float32) / (self.num_levels - 1) - 1.0

  def _num_outputs(self) -> int:
    return self.num_levels if self.outputs is None else self.outputs

  def _flatten(self, out: base.Array) -> base.Array:
    return out.reshape(len(out), -1, out.shape[-1])

  def _empty(self, num: int, features: int) -> base.Array:
    return jnp.zeros((num, self.height, self.width, features))

  def _set_pixel(self, image: base.Array, i: base.Array, value: base.Array):
    """Sets the i-th pixel of images `[B, H, W, C]` to levels `[B]` or `[B, C]`."""
    pixel = self._scale(value).reshape(len(image), 1, 1, -1)
    where = (0, i // self.width, i % self.width, 0)
    return jax.lax.dynamic_update_slice(image, pixel, where)

  def conditional(self, memory: dict, i: base.Array) -> base.Array:
    """Returns the parameters `[B, O]` of the i-th pixel, which the memory holds."""
    del i
    return memory['out']

  def _next_position(self, i: base.Array) -> base.Array:
    """The position after the i-th; the last is clamped, its result never read."""
    return jnp.minimum(i + 1, self.height * self.width - 1)


class PixelCNN(_PixelModel):
  """Parameters of each pixel, conditional on the part of those before it.

  The part is what one stack of windows covers, all but the blind spot.
  """

  def setup(self):
    """Creates a layer without the pixel itself, residual ones with it, two of 1 x 1."""
    side, above = range(-self.radius, self.radius + 1), range(-self.radius, 0)
    first = _window(above, side) + _window(range(1), range(-self.radius, 0))
    later = (*first, (0, 0))
    self.first = Taps(first, self.features)
    self.layers = [Taps(later, self.features) for _ in range(self.num_layers - 1)]
    self.of_condition = nn.Dense(self.features, use_bias=False)
    self.last = nn.Dense(2 * self.features), nn.Dense(self._num_outputs())
    self.drop = nn.Dropout(self.dropout)

  def _head(self, h: base.Array) -> base.Array:
    return self.last[1](nn.relu(self.last[0](nn.relu(h))))

  def _condition_bias(self, condition: base.Array | None) -> base.Array | float:
    return 0.0 if condition is None else self.of_condition(condition)[:, None, None]

  def __call__(
    self, x: base.Array, condition: base.Array | None = None, *, train: bool = False
  ) -> base.Array:
    """Maps images to the parameters of every pixel.

    Args:
      x: `[B, H W]` or `[B, H W, C]` integers in [0, K), row by row.
      condition: `[B, D]` to condition on, or None.
      train: whether features are dropped.

    Returns:
      `[B, H W, O]`, the i-th a function of the pixels before the i-th.

    Raises:
      ValueError: another shape of x.
    """
    h = self.first(self._image(x)) + self._condition_bias(condition)
    for layer in self.layers:
      h = h + self.drop(layer(nn.relu(h)), deterministic=not train)
    return self._flatten(self._head(h))

  def start(self, num: int, condition: base.Array | None = None) -> dict:
    """Returns the memory before the first pixel: empty images of every layer.

    Args:
      num: B, how many images are drawn.
      condition: `[B, D]` to condition on, or None.

    Returns:
      A dict of arrays, with `out` `[B, O]` the first pixel's parameters.
    """
    memory = {
      'x': self._empty(num, self.channels or 1),
      'h': [self._empty(num, self.features) for _ in range(self.num_layers)],
      'condition': self._condition_bias(condition),
    }
    return self._compute_pixel(memory, jnp.zeros((), jnp.int32))

  def _compute_pixel(self, memory: dict, place: base.Array) -> dict:
    """Computes every layer at one pixel, from those before it."""
    row, column = place // self.width, place % self.width
    # A layer reads its input at this pixel too: written before the next layer runs.
    images, at = [], self.first(memory['x'], row, column) + memory['condition']
    for i, image in enumerate(memory['h']):
      where = (0, row, column, 0)
      images.append(jax.lax.dynamic_update_slice(image, at, where))
      if i < len(self.layers):
        at = at + self.layers[i](nn.relu(images[i]), row, column)
    return {**memory, 'h': images, 'out': self._head(at)[:, 0, 0]}

  def update(self, memory: dict, i: base.Array, value: base.Array) -> dict:
    """Returns the memory with the i-th pixel's levels, `[B]` or `[B, C]`."""
    x = self._set_pixel(memory['x'], i, value)
    return self._compute_pixel({**memory, 'x': x}, self._next_position(i))


class GatedPixelCNN(_PixelModel):
  """Parameters of each pixel, conditional on all those before it, row by row."""

  def setup(self):
    """Creates the taps of both stacks, and the layers between them."""
    # The first layers leave out the pixel's row (vertical) or the pixel (horizontal);
    # in the inputs of later ones these are left out already.
    k, both = self.radius, 2 * self.features
    first, later = range(-k - 1, 0), range(-k, 1)
    side = range(-k, k + 1)
    rows = [first] + [later] * (self.num_layers - 1)
    self.vertical = [Taps(_window(dy, side), both) for dy in rows]
    self.horizontal = [Taps(_window(range(1), dx), both) for dx in rows]
    self.joins = [nn.Dense(both) for _ in rows]
    self.residuals = [nn.Dense(self.features) for _ in rows]
    self.of_condition = [nn.Dense(both, use_bias=False) for _ in rows]
    self.last = nn.Dense(2 * self.features), nn.Dense(self._num_outputs())
    self.drop = nn.Dropout(self.dropout)

  def _condition_bias(
    self, layer: int, condition: base.Array | None
  ) -> base.Array | float:
    if condition is None:
      return 0.0
    return self.of_condition[layer](condition)[:, None, None]

  def _head(self, h: base.Array) -> base.Array:
    return self.last[1](nn.relu(self.last[0](nn.relu(h))))

  def __call__(
    self, x: base.Array, condition: base.Array | None = None, *, train: bool = False
  ) -> base.Array:
    """Maps images to the parameters of every pixel.

    Args:
      x: `[B, H W]` or `[B, H W, C]` integers in [0, K), row by row.
      condition: `[B, D]` to condition on, or None.
      train: whether features are dropped.

    Returns:
      `[B, H W, O]`, the i-th a function of the pixels before the i-th.

    Raises:
      ValueError: another shape of x.
    """
    v = h = self._image(x)
    for i in range(self.num_layers):
      bias = self._condition_bias(i, condition)
      # The vertical stack joins the horizontal one before its own gate, as in figure 2.
      raw = self.vertical[i](v)
      v = _gate(raw + bias)
      gated = _gate(self.horizontal[i](h) + self.joins[i](raw) + bias)
      out = self.residuals[i](self.drop(gated, deterministic=not train))
      # No residual around the first layer, which would let the pixel itself through.
      h = out if i == 0 else h + out
    return self._flatten(self._head(h))

  def start(self, num: int, condition: base.Array | None = None) -> dict:
    """Returns the memory before the first pixel: empty images of every layer.

    Args:
      num: B, how many images are drawn.
      condition: `[B, D]` to condition on, or None.

    Returns:
      A dict of arrays, with `out` `[B, O]` the first pixel's parameters.
    """
    layers = [self.channels or 1] + [self.features] * self.num_layers
    memory = {
      'v': [self._empty(num, c) for c in layers],
      'raw': [self._empty(num, 2 * self.features) for _ in layers[1:]],
      'h': [self._empty(num, c) for c in layers],
      'out': jnp.zeros((num, self._num_outputs())),
      'condition': [self._condition_bias(i, condition) for i in range(self.num_layers)],
    }
    return self._compute_pixel(memory, jnp.zeros((), jnp.int32))

  def _row(self, memory: dict, row: base.Array) -> dict:
    """Computes the vertical stack of a row, which depends on the rows above alone."""
    v, raws = list(memory['v']), list(memory['raw'])
    for i in range(self.num_layers):
      raw = self.vertical[i](v[i], row)
      put = jax.lax.dynamic_update_slice_in_dim
      raws[i] = put(raws[i], raw, row, axis=1)
      v[i + 1] = put(v[i + 1], _gate(raw + memory['condition'][i]), row, axis=1)
    return {**memory, 'v': v, 'raw': raws}

  def _compute_pixel(self, memory: dict, place: base.Array) -> dict:
    """Computes every layer at one pixel, from its row up to it and the rows above."""
    row, column = place // self.width, place % self.width
    # Once a row, not once a pixel. Without `nn.cond` while parameters are created, for
    # one of its branches creates none.
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
      out = self.residuals[i](_gate(total + memory['condition'][i]))
      at = out if i == 0 else at + out
      h[i + 1] = jax.lax.dynamic_update_slice(h[i + 1], at, (0, row, column, 0))
    return {**memory, 'h': h, 'out': self._head(at)[:, 0, 0]}

  def update(self, memory: dict, i: base.Array, value: base.Array) -> dict:
    """Returns the memory with the i-th pixel's levels, `[B]` or `[B, C]`."""
    v, h = list(memory['v']), list(memory['h'])
    v[0] = h[0] = self._set_pixel(h[0], i, value)
    return self._compute_pixel({**memory, 'v': v, 'h': h}, self._next_position(i))
