"""The layers of flows: bijections with parameters, most of them with a network.

Networks are Flax modules that a layer is given as a function from the number of outputs
to the module, which is called as `module(x, condition)`. Of their conventions see
`bijectors`.
"""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gm_jax import base, bijectors, monotone
from gm_jax.models import made

MakeModule = Callable[[int], nn.Module]  # number of outputs -> module(x, condition)
MakeMatrix = Callable[[base.Array, int, jnp.dtype], base.Array]  # (key, size, dtype)
HALVINGS = 60  # of a bisection: below the rounding of float64


def actnorm() -> bijectors.Bijection:
  """z = (x + shift) exp(log_scale) a channel, of mean 0 and deviation 1 at first.

  Data-dependent: `init` sets both by the batch that it is given.

  Source: Glow: Generative Flow with Invertible 1x1 Convolutions, Kingma and Dhariwal,
  2018, arXiv:1807.03039, section 3.1.
  """

  def init(key, x, condition=None):
    axes = tuple(range(x.ndim - 1))
    return {'shift': -x.mean(axes), 'log_scale': -jnp.log(x.std(axes) + 1e-6)}

  def log_det(params, x):
    places = np.prod(x.shape[1:-1], dtype=int)
    return jnp.full(len(x), places * params['log_scale'].sum(), x.dtype)

  def forward(params, x, condition=None):
    z = (x + params['shift']) * jnp.exp(params['log_scale'])
    return z, log_det(params, x)

  def inverse(params, z, condition=None):
    x = z * jnp.exp(-params['log_scale']) - params['shift']
    return x, -log_det(params, z)

  return bijectors.Bijection(init, forward, inverse)


def rotation(key: base.Array, size: int, dtype: jnp.dtype) -> base.Array:
  """Draws a matrix `[size, size]` uniformly from the rotations and reflections."""
  return jnp.linalg.qr(jax.random.normal(key, (size, size), dtype))[0]


def identity(key: base.Array, size: int, dtype: jnp.dtype) -> base.Array:
  """Gives the matrix `[size, size]` that changes nothing."""
  del key
  return jnp.eye(size, dtype=dtype)


def linear(
  order: Sequence[int], *, matrix: MakeMatrix = rotation
) -> bijectors.Bijection:
  """z = W x along the channels, W = P L U: on images an invertible 1x1 convolution.

  P is fixed, L has ones on its diagonal and U positive numbers, so that the
  determinant is a product and never 0.

  Source: Glow: Generative Flow with Invertible 1x1 Convolutions, Kingma and Dhariwal,
  2018, arXiv:1807.03039, section 3.2.

  Args:
    order: `[C]`, the permutation that P is.
    matrix: what L U is at first, but for signs and the order of its rows; after
      `identity` W permutes channels, which keeps what is special about each.

  Returns:
    The map, of x `[B, ..., C]`.
  """
  permute = bijectors.permutation(order)
  size = len(order)
  below = np.tril(np.ones((size, size), bool), -1)

  def init(key, x, condition=None):
    if x.shape[-1] != size:
      raise ValueError(f'x must have {size} channels, got {x.shape[-1]}')
    both, *_ = jax.lax.linalg.lu(matrix(key, size, x.dtype))
    # Rows and columns change their sign until the diagonal is positive; what the
    # factors then give is the matrix with rows permuted and signs changed.
    sign = jnp.sign(jnp.diag(both))
    return {
      'lower': jnp.where(below, both * sign[:, None] * sign, 0.0),
      'upper': jnp.where(below.T, both * sign[:, None], 0.0),
      'log_diagonal': jnp.log(jnp.abs(jnp.diag(both))),
    }

  def factors(params):
    lower = jnp.where(below, params['lower'], 0.0) + jnp.eye(size)
    upper = jnp.where(below.T, params['upper'], 0.0)
    return lower, upper + jnp.diag(jnp.exp(params['log_diagonal']))

  def log_det(params, x):
    places = np.prod(x.shape[1:-1], dtype=int)
    return jnp.full(len(x), places * params['log_diagonal'].sum(), x.dtype)

  def forward(params, x, condition=None):
    lower, upper = factors(params)
    return permute.forward((), x @ (lower @ upper).T)[0], log_det(params, x)

  def inverse(params, z, condition=None):
    lower, upper = factors(params)
    solve = jax.scipy.linalg.solve_triangular
    flat = permute.inverse((), z)[0].reshape(-1, size).T
    x = solve(upper, solve(lower, flat, lower=True, unit_diagonal=True), lower=False)
    return x.T.reshape(z.shape), -log_det(params, z)

  return bijectors.Bijection(init, forward, inverse)


def coupling(make: MakeModule, function: monotone.Monotone) -> bijectors.Bijection:
  """The second half of the channels by a function whose parameters the first gives.

  Both ways cost one pass of the network, which need not be invertible.

  Source: NICE: Non-linear Independent Components Estimation, Dinh et al., 2014,
  arXiv:1410.8516, section 3.2; Density Estimation using Real NVP, Dinh et al., 2017,
  arXiv:1605.08803, section 3.2.

  Args:
    make: number of outputs -> module that maps the first half `[B, ..., A]` to
      `[B, ..., outputs]`.
    function: of each number of the second half.

  Returns:
    The map; of C channels the first C - C // 2 stay.

  Raises:
    ValueError: when called, a single channel.
  """

  def halves(x):
    channels = x.shape[-1]
    if channels < 2:
      raise ValueError(f'a coupling needs two channels, got {channels}')
    kept = channels - channels // 2
    return x[..., :kept], x[..., kept:], make(channels // 2 * function.num_params)

  def init(key, x, condition=None):
    first, _, module = halves(x)
    return module.init(key, first, condition)['params']

  def run(fn, params, x, condition=None):
    first, second, module = halves(x)
    found = module.apply({'params': params}, first, condition)
    second, each = fn(found.reshape(*second.shape, function.num_params), second)
    return jnp.concatenate([first, second], axis=-1), bijectors.total(each)

  return bijectors.Bijection(
    init,
    functools.partial(run, function.forward),
    functools.partial(run, function.inverse),
  )


def autoregressive(
  num_dims: int,
  function: monotone.Monotone,
  *,
  hidden: Sequence[int] = (64, 64),
  seed: int = 0,
) -> bijectors.Bijection:
  """Each number by a function whose parameters the numbers before it give, by MADE.

  z_d = f(x_d; params_d(x_1 ... x_{d-1})); forward in one pass, the inverse one pass
  a dimension.

  Source: Masked Autoregressive Flow for Density Estimation, Papamakarios et al., 2017,
  arXiv:1705.07057, with (x - m) exp(-a) as its function.

  Args:
    num_dims: D, of x `[B, D]`.
    function: of each number.
    hidden: sizes of MADE's hidden layers.
    seed: of its connections.
  """
  module = made.MADE(num_dims, tuple(hidden), function.num_params)
  masks = made.masks(np.random.default_rng(seed), np.arange(num_dims), hidden)
  depth = len(hidden)

  def params_of(params, x, condition):
    found = module.apply({'params': params}, x, masks, condition)
    return found.reshape(*x.shape, function.num_params)

  def init(key, x, condition=None):
    params = module.init(key, x, masks, condition)['params']
    # Near the identity at first: at random the inverse of many layers overflows.
    last = [n for n in params if n in (f'kernel_{depth}', f'condition_{depth}')]
    return params | {n: jax.tree.map(jnp.zeros_like, params[n]) for n in last}

  def forward(params, x, condition=None):
    z, each = function.forward(params_of(params, x, condition), x)
    return z, bijectors.total(each)

  def inverse(params, z, condition=None):
    def one(x, _):  # after d passes the first d numbers are right
      return function.inverse(params_of(params, x, condition), z)[0], None

    x, _ = jax.lax.scan(one, jnp.zeros_like(z), length=num_dims - 1)
    x, each = function.inverse(params_of(params, x, condition), z)
    return x, bijectors.total(each)

  return bijectors.Bijection(init, forward, inverse, inverse_cost='per_dimension')


def planar() -> bijectors.Bijection:
  """z = x + u tanh(w . x + b) of vectors, with w . u >= -1.

  Its inverse is found by bisection along w.

  Source: Variational Inference with Normalizing Flows, Rezende and Mohamed, 2015,
  arXiv:1505.05770, equation 10 and appendix A.1.
  """

  def init(key, x, condition=None):
    w_key, u_key = jax.random.split(key)
    size = x.shape[-1:]
    draw = functools.partial(jax.random.normal, shape=size, dtype=x.dtype)
    return {'w': draw(w_key), 'u': 0.01 * draw(u_key), 'b': jnp.zeros((), x.dtype)}

  def vectors(params):
    w, u = params['w'], params['u']
    product, square = w @ u, jnp.maximum(w @ w, 1e-12)
    along = jax.nn.softplus(product) - 1.0  # >= -1, what w . u becomes
    return w, u + (along - product) * w / square, params['b'], along

  def forward(params, x, condition=None):
    w, u, b, along = vectors(params)
    bent = jnp.tanh(x @ w + b)
    return x + bent[:, None] * u, jnp.log1p(along * (1.0 - bent**2))

  def inverse(params, z, condition=None):
    w, u, b, along = vectors(params)
    target = z @ w

    def halve(_, ends):
      low, high = ends
      middle = 0.5 * (low + high)
      below = middle + along * jnp.tanh(middle + b) < target
      return jnp.where(below, middle, low), jnp.where(below, high, middle)

    ends = target - jnp.abs(along), target + jnp.abs(along)
    low, high = jax.lax.fori_loop(0, HALVINGS, halve, ends)
    bent = jnp.tanh(0.5 * (low + high) + b)
    return z - bent[:, None] * u, -jnp.log1p(along * (1.0 - bent**2))

  return bijectors.Bijection(init, forward, inverse, inverse_cost='iterative')


def radial() -> bijectors.Bijection:
  """z = x + beta (x - c) / (alpha + |x - c|) of vectors, with beta >= -alpha.

  The distance from c solves a quadratic equation, so that the inverse is closed.

  Source: Variational Inference with Normalizing Flows, Rezende and Mohamed, 2015,
  arXiv:1505.05770, equation 14 and appendix A.2.
  """

  def init(key, x, condition=None):
    center = jax.random.normal(key, x.shape[-1:], x.dtype)
    zero = jnp.zeros((), x.dtype)
    # softplus(0.54) = 1: beta is nearly 0 at first.
    return {'center': center, 'log_alpha': zero, 'raw_beta': zero + 0.54}

  def numbers(params):
    alpha = jnp.exp(params['log_alpha'])
    return alpha, jax.nn.softplus(params['raw_beta']) - alpha

  def length(away):
    square = (away**2).sum(axis=-1)
    return jnp.sqrt(jnp.where(square > 0, square, 1.0)) * (square > 0)

  def log_det(alpha, beta, distance, num_dims):
    around = jnp.log1p(beta / (alpha + distance))
    return (num_dims - 1) * around + jnp.log1p(beta * alpha / (alpha + distance) ** 2)

  def forward(params, x, condition=None):
    alpha, beta = numbers(params)
    away = x - params['center']
    distance = length(away)
    z = x + (beta / (alpha + distance))[:, None] * away
    return z, log_det(alpha, beta, distance, x.shape[-1])

  def inverse(params, z, condition=None):
    alpha, beta = numbers(params)
    away = z - params['center']
    far = length(away)
    # distance^2 + b distance - far alpha = 0, by the form without cancellation.
    b = alpha + beta - far
    root = jnp.sqrt(b**2 + 4.0 * far * alpha)
    positive = b >= 0
    distance = jnp.where(
      positive, 2.0 * far * alpha / jnp.where(positive, b + root, 1.0), 0.5 * (root - b)
    )
    x = params['center'] + away / (1.0 + beta / (alpha + distance))[:, None]
    return x, -log_det(alpha, beta, distance, z.shape[-1])

  return bijectors.Bijection(init, forward, inverse)
