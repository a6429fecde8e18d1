"""Invertible maps with the determinant of their derivative; pure.

A `Bijection` is a NamedTuple of functions, as an optimizer is in optax. There is one
convention: `forward` and `inverse` both return log |det| of their OWN derivative, [B]
nats an example. A flow takes data forward to noise,

  log p(x) = log p_noise(z) + log |det dz/dx|,   z, log_det = forward(params, x).

`init` sees the data as they arrive at the map, so that what depends on them is set
there and never in `forward`. What a map costs stands beside it, and a chain costs what
its dearest part does. Maps with networks are in `flow_layers`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gm_jax import base, monotone

Cost = Literal['one_pass', 'per_dimension', 'iterative']
COSTS: tuple[Cost, ...] = (
  'one_pass',
  'per_dimension',
  'iterative',
)  # from cheap to dear
Shape = tuple[int, ...]


class Bijection(NamedTuple):
  """An invertible map of x [B, ...] to z [B, ...], by parameters."""

  # (key, x, condition) -> params; x is only looked at where a map depends on data
  init: Callable[..., Any]
  # (params, x, condition=None) -> (z, log |det dz/dx| [B])
  forward: Callable[..., tuple[base.Array, base.Array]]
  # (params, z, condition=None) -> (x, log |det dx/dz| [B])
  inverse: Callable[..., tuple[base.Array, base.Array]]
  forward_cost: Cost = 'one_pass'
  inverse_cost: Cost = 'one_pass'


def total(each: base.Array) -> base.Array:
  """Sums `[B, ...]` over all but the first axis: of numbers, that of examples `[B]`."""
  return each.reshape(len(each), -1).sum(axis=1)


def _none(key, x, condition=None) -> tuple:
  return ()


def _rearranged(there: Callable, back: Callable) -> Bijection:
  """A map that moves numbers and changes none."""

  def with_zero(fn):
    return lambda params, x, condition=None: (fn(x), jnp.zeros(len(x), x.dtype))

  return Bijection(_none, with_zero(there), with_zero(back))


def inverted(bijection: Bijection) -> Bijection:
  """The other way round: of a MAF an IAF.

  Source: Improved Variational Inference with Inverse Autoregressive Flow, Kingma et
  al., 2016, arXiv:1606.04934.
  """
  init, forward, inverse, cost, inverse_cost = bijection
  return Bijection(init, inverse, forward, inverse_cost, cost)


def _dearest(costs: Sequence[Cost]) -> Cost:
  return max(costs, key=COSTS.index, default=COSTS[0])


def chain(*bijections: Bijection) -> Bijection:
  """One map after another, the first of them the first to see x."""

  def init(key, x, condition=None):
    params = []
    for each, own_key in zip(
      bijections, jax.random.split(key, len(bijections)), strict=True
    ):
      params.append(each.init(own_key, x, condition))
      x, _ = each.forward(params[-1], x, condition)
    return tuple(params)

  def through(steps, x, condition):
    total = jnp.zeros(len(x), x.dtype)
    for fn, params in steps:
      x, log_det = fn(params, x, condition)
      total += log_det
    return x, total

  def forward(params, x, condition=None):
    steps = [(b.forward, p) for b, p in zip(bijections, params, strict=True)]
    return through(steps, x, condition)

  def inverse(params, z, condition=None):
    steps = [(b.inverse, p) for b, p in zip(bijections, params, strict=True)]
    return through(steps[::-1], z, condition)

  return Bijection(
    init, forward, inverse,
    _dearest([b.forward_cost for b in bijections]),
    _dearest([b.inverse_cost for b in bijections]),
  )  # fmt: skip


def repeated(bijection: Bijection, num: int) -> Bijection:
  """The same map `num` times with parameters of its own each, compiled once.

  Args:
    bijection: whose z has the shape of x; arrays of its params get an axis [num].
    num: >= 1.

  Raises:
    ValueError: num below 1.
  """
  if num < 1:
    raise ValueError(f'a map must be repeated >= 1 times, got {num}')

  def init(key, x, condition=None):
    def one(x, key):
      params = bijection.init(key, x, condition)
      return bijection.forward(params, x, condition)[0], params

    return jax.lax.scan(one, x, jax.random.split(key, num))[1]

  def through(fn, params, x, condition, reverse):
    def one(carry, params):
      x, total = carry
      x, log_det = fn(params, x, condition)
      return (x, total + log_det), None

    start = x, jnp.zeros(len(x), x.dtype)
    return jax.lax.scan(one, start, params, length=num, reverse=reverse)[0]

  return bijection._replace(
    init=init,
    forward=lambda params, x, condition=None: through(
      bijection.forward, params, x, condition, False
    ),
    inverse=lambda params, z, condition=None: through(
      bijection.inverse, params, z, condition, True
    ),
  )


def permutation(order: Sequence[int]) -> Bijection:
  """z_i = x_{order[i]} along the last axis.

  Args:
    order: `[C]`, a permutation.

  Raises:
    ValueError: `order` is no permutation.
  """
  places = np.asarray(order)
  if sorted(places.tolist()) != list(range(len(places))):
    raise ValueError(f'order must be a permutation, got {places.tolist()}')
  back = np.argsort(places)
  return _rearranged(lambda x: x[..., places], lambda z: z[..., back])


def reverse(axis: int = -1) -> Bijection:
  """One axis from its end to its beginning; by default the last."""
  return _rearranged(lambda x: jnp.flip(x, axis), lambda z: jnp.flip(z, axis))


def flatten(shape: Shape) -> Bijection:
  """Examples of a shape as vectors `[B, D]`."""
  return _rearranged(
    lambda x: x.reshape(len(x), -1), lambda z: z.reshape(len(z), *shape)
  )


def squeeze() -> Bijection:
  """Images `[B, H, W, C]` to `[B, H/2, W/2, 4 C]`, 2 x 2 pixels to channels of one.

  The two of a diagonal come first: halves of the channels are the two colors of a
  checkerboard, so that a coupling of them is RealNVP's first kind.

  Source: Density Estimation using Real NVP, Dinh et al., 2017, arXiv:1605.08803,
  sections 3.4 and 3.6.
  """
  order = np.array([0, 3, 1, 2])  # of (0, 0), (0, 1), (1, 0), (1, 1)

  def there(x):
    if x.ndim != 4 or x.shape[1] % 2 or x.shape[2] % 2:
      raise ValueError(
        f'a squeeze halves the sides, and x of shape {list(x.shape[1:])} has odd ones'
      )
    num, height, width, channels = x.shape
    x = x.reshape(num, height // 2, 2, width // 2, 2, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(*x.shape[:2], width // 2, 4, channels)
    return x[..., order, :].reshape(num, height // 2, width // 2, 4 * channels)

  def back(z):
    num, height, width, channels = z.shape
    z = z.reshape(num, height, width, 4, channels // 4)[..., np.argsort(order), :]
    z = z.reshape(num, height, width, 2, 2, channels // 4).transpose(0, 1, 3, 2, 4, 5)
    return z.reshape(num, 2 * height, 2 * width, channels // 4)

  return _rearranged(there, back)


def patches(shape: Shape, size: int) -> Bijection:
  """Images `[B, H, W, C]` to sequences of squares `[B, T, P]`, row by row.

  T = (H / size) (W / size), and P = size^2 C are the numbers of a square, in the order
  of memory.

  Args:
    shape: (H, W, C), of an example.
    size: side of a square, in pixels.

  Raises:
    ValueError: `shape` is no image's, or its sides are no multiples of `size`.
  """
  if len(shape) != 3 or size < 1 or shape[0] % size or shape[1] % size:
    raise ValueError(
      f'patches of {size} x {size} pixels do not cover examples of shape {list(shape)}:'
      ' they must be [H, W, C], with H and W multiples of the side'
    )
  height, width, channels = shape
  rows, columns = height // size, width // size

  def there(x):
    if x.shape[1:] != tuple(shape):
      raise ValueError(f'x must be {[*shape]} an example, got {[*x.shape[1:]]}')
    x = x.reshape(len(x), rows, size, columns, size, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(len(x), rows * columns, -1)

  def back(z):
    z = z.reshape(len(z), rows, columns, size, size, channels)
    return z.transpose(0, 1, 3, 2, 4, 5).reshape(len(z), *shape)

  return _rearranged(there, back)


def logit(alpha: float = 0.05) -> Bijection:
  """Numbers of [-1, 1] to all of R: z = logit(alpha + (1 - 2 alpha) (x + 1) / 2).

  Source: Density Estimation using Real NVP, Dinh et al., 2017, arXiv:1605.08803,
  section 4.1.

  Args:
    alpha: what keeps the logits finite, in (0, 1/2).

  Raises:
    ValueError: alpha outside (0, 1/2).
  """
  if not 0 < alpha < 0.5:
    raise ValueError(f'alpha must lie in (0, 0.5), got {alpha}')
  width = 0.5 - alpha  # of p by x

  def log_slope(z):
    """log dz/dx, of z."""
    return -jax.nn.log_sigmoid(z) - jax.nn.log_sigmoid(-z) + np.log(width)

  def forward(params, x, condition=None):
    z = jnp.log(0.5 + width * x) - jnp.log(0.5 - width * x)
    return z, total(log_slope(z))

  def inverse(params, z, condition=None):
    x = (jax.nn.sigmoid(z) - 0.5) / width
    return x, -total(log_slope(z))

  return Bijection(_none, forward, inverse)


def factored(inner: Bijection, shape: Shape) -> Bijection:
  """Half of the channels go on through `inner`, the others are done.

  Behind a `coupling` that changes the second half by the first, this is the split of a
  multi-scale flow with its learned conditional prior: N(mean(first), std(first)) of
  the second half is a standard normal of what the coupling makes of it.

  Source: Density Estimation using Real NVP, Dinh et al., 2017, arXiv:1605.08803,
  section 3.6; the conditional prior is of Glow's code.

  Args:
    inner: of `[B, ..., C - C // 2]`, to vectors `[B, D']`.
    shape: of an example, C its last.

  Returns:
    A map to vectors `[B, D]`.
  """
  channels = shape[-1]
  kept = channels - channels // 2

  def init(key, x, condition=None):
    return inner.init(key, x[..., :kept], condition)

  def forward(params, x, condition=None):
    z, log_det = inner.forward(params, x[..., :kept], condition)
    return jnp.concatenate([z, x[..., kept:].reshape(len(x), -1)], axis=1), log_det

  def inverse(params, z, condition=None):
    done = np.prod(shape[:-1], dtype=int) * (channels - kept)
    x, log_det = inner.inverse(params, z[:, :-done], condition)
    rest = z[:, -done:].reshape(len(z), *shape[:-1], channels - kept)
    return jnp.concatenate([x, rest], axis=-1), log_det

  return inner._replace(init=init, forward=forward, inverse=inverse)


def elementwise(function: monotone.Monotone) -> Bijection:
  """Each number of an example by parameters of its own, 0 at first."""

  def init(key, x, condition=None):
    return jnp.zeros((*x.shape[1:], function.num_params), x.dtype)

  def run(fn, params, x, condition=None):
    y, each = fn(jnp.broadcast_to(params, (*x.shape, params.shape[-1])), x)
    return y, total(each)

  return Bijection(
    init,
    functools.partial(run, function.forward),
    functools.partial(run, function.inverse),
  )
