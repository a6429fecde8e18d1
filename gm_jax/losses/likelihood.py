"""Log-likelihoods log p(x | parameters) of the output layers that models have.

Each takes parameters and data with a leading axis of examples and sums over the event
axes: `[B]` nats. For discrete data it is the logarithm of a probability mass, for
real data that of a density; `bits_per_dimension` converts either and takes the
measure as an argument. Levels are integers; standard deviations are `std`, never
variances.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gm_jax.losses import shapes

Array = jax.Array
# Of ln s: beyond them s, 1 / s or a sum of both over an example has no float32.
LEAST_LOG_SCALE, LARGEST_LOG_SCALE = -60.0, 60.0
_LOG_2 = math.log(2.0)


def _sum_over_event(each: Array) -> Array:
  return each.reshape(each.shape[0], -1).sum(axis=1)


def bernoulli_each(logits: Array, x: Array) -> Array:
  """The log-likelihood of every number by itself, x_d in {0, 1}.

  x_d logit_d - softplus(logit_d),  P(x_d = 1) = sigmoid(logit_d)

  Args:
    logits: `[...]` log-odds of a one.
    x: `[...]` 0 or 1, integer or float; see `bernoulli`.

  Returns:
    `[...]` nats, of a mass each.

  Raises:
    ValueError: concrete integers that are neither 0 nor 1.
  """
  if jnp.issubdtype(jnp.result_type(x), jnp.integer):
    shapes.check_levels(2, x=x)
  logits, x = shapes.floats(logits=logits, x=x)
  return x * logits - jax.nn.softplus(logits)


def bernoulli(logits: Array, x: Array) -> Array:
  """The Bernoulli log-likelihood, independent in each dimension.

  log p(x) = sum_d [x_d logit_d - softplus(logit_d)],  P(x_d = 1) = sigmoid(logit_d)

  Args:
    logits: `[B, ...]` log-odds of a one.
    x: `[B, ...]` 0 or 1, integer or float; a float between them is read as a
      probability, as in a cross-entropy, and the result is no likelihood then.

  Returns:
    `[B]` nats, of a mass.

  Raises:
    ValueError: shapes that differ, or concrete integers that are neither 0 nor 1.
  """
  shapes.check_equal(logits=logits, x=x)
  return _sum_over_event(bernoulli_each(logits, x))


def gaussian(mean: Array, std: Array | float, x: Array) -> Array:
  """The Gaussian log-likelihood, independent in each dimension.

  log p(x) = -sum_d [(x_d - mean_d)^2 / (2 std_d^2) + ln std_d + ln(2 pi) / 2]

  Args:
    mean: `[B, ...]` in the unit of x.
    std: `[B, ...]` or `[]` standard deviation, > 0, in the unit of x.
    x: `[B, ...]` data.

  Returns:
    `[B]` nats, of a density.

  Raises:
    ValueError: shapes that differ.
  """
  mean, std, x = shapes.floats(mean=mean, std=std, x=x)
  shapes.check_equal(mean=mean, x=x)
  std = jnp.broadcast_to(std, mean.shape)
  squares = jnp.square((x - mean) / std)
  return _sum_over_event(-0.5 * squares - jnp.log(std) - 0.5 * math.log(2.0 * math.pi))


def categorical(logits: Array, x: Array) -> Array:
  """The categorical log-likelihood, independent in each dimension.

  log p(x) = sum_d log softmax(logits_d)_{x_d},  x_d in {0 ... K - 1}

  Args:
    logits: `[B, ..., K]` unnormalized log-probabilities.
    x: `[B, ...]` integers in [0, K); others are not checked inside a compiled
      function, and read as the nearest.

  Returns:
    `[B]` nats, of a mass.

  Raises:
    ValueError: `logits` is not `x` with one more axis, or x is not of integers or,
      where it is concrete, not in [0, K).
  """
  if logits.shape[:-1] != x.shape:
    raise ValueError(f'logits must be [*x, K], got {logits.shape} and {x.shape}')
  return _sum_over_event(categorical_each(logits, x))


def categorical_each(logits: Array, x: Array) -> Array:
  """The categorical log-likelihood of every number by itself.

  log softmax(logits)_x

  Args:
    logits: `[..., K]` unnormalized log-probabilities; a constant added to all K
      changes nothing.
    x: `[...]` integers in [0, K), as in `categorical`.

  Returns:
    `[...]` nats, of a mass each.

  Raises:
    ValueError: x is not of integers or, where it is concrete, not in [0, K).
  """
  shapes.check_levels(logits.shape[-1], x=x)
  (logits,) = shapes.floats(logits=logits)
  # log_softmax, for the logarithm of the sum alone would round as the largest logit.
  log_p = jax.nn.log_softmax(logits)
  # The nearest: else what is out of range would be NaN, and -1 the last class. In
  # int32: of many classes a narrow dtype has no last one, in uint8 999 is 231.
  x = jnp.clip(jnp.asarray(x, jnp.int32), 0, logits.shape[-1] - 1)
  return jnp.take_along_axis(log_p, x[..., None], axis=-1)[..., 0]


def discretized_logistic_each(
  mean: Array, log_scale: Array, x: Array, *, num_levels: int
) -> Array:
  """The discretized logistic log-likelihood of every number by itself.

  Level l stands at v = 2 l / (L - 1) - 1 in [-1, 1] and its bin extends half a step
  h = 1 / (L - 1) to either side; the outermost bins extend to infinity, so that the L
  masses sum to one. With a = (v + h - mean) / s and b = (v - h - mean) / s,

    P = sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)),

  the last form exact where the first cancels: no case distinction by size is needed.

  Source: PixelCNN++, Salimans et al., 2017, arXiv:1701.05517, section 2.1.

  Args:
    mean: `[...]` in model space, [-1, 1] or beyond.
    log_scale: `[...]` ln s, s the logistic distribution's scale in model space; read
      as the nearest in [-60, 60], without a gradient beyond.
    x: `[...]` integers in [0, L).
    num_levels: L >= 2.

  Returns:
    `[...]` nats, of a mass each.

  Raises:
    ValueError: x is not of integers or, where it is concrete, not in [0, L); shapes
      that do not broadcast; or L < 2.
  """
  if num_levels < 2:
    raise ValueError(f'num_levels must be >= 2, got {num_levels}')
  shapes.check_levels(num_levels, x=x)
  x = jnp.asarray(x, jnp.int32)  # in int8 the level 255, compared with below, is -1
  mean, log_scale = shapes.floats(mean=mean, log_scale=log_scale)
  log_scale = jnp.clip(log_scale, LEAST_LOG_SCALE, LARGEST_LOG_SCALE)
  half = 1.0 / (num_levels - 1)
  centered = 2.0 * half * x - 1.0 - mean
  inverse = jnp.exp(-log_scale)
  upper, lower = (centered + half) * inverse, (centered - half) * inverse
  # The edge of an outermost bin is infinite: its sigmoid is 1 and its logarithm 0.
  above = jnp.where(x >= num_levels - 1, 0.0, jax.nn.log_sigmoid(upper))
  below = jnp.where(x <= 0, 0.0, jax.nn.log_sigmoid(-lower))
  inside = (x > 0) & (x < num_levels - 1)
  # b - a is -2 h / s whatever x and the mean are; 1.0 keeps the gradient of the branch
  # not taken finite.
  width = jnp.where(inside, 2.0 * half * inverse, 1.0)
  return above + below + jnp.where(inside, jax.nn.log1mexp(width), 0.0)


def discretized_logistic(
  mean: Array, log_scale: Array, x: Array, *, num_levels: int
) -> Array:
  """The discretized logistic log-likelihood, independent in each dimension.

  log P(x) = sum_d log P(x_d), as in `discretized_logistic_each`

  Source: PixelCNN++, Salimans et al., 2017, arXiv:1701.05517, section 2.1.

  Args:
    mean: `[B, ...]` in model space, [-1, 1] or beyond.
    log_scale: `[B, ...]` ln s.
    x: `[B, ...]` integers in [0, L).
    num_levels: L >= 2.

  Returns:
    `[B]` nats, of a mass.

  Raises:
    ValueError: shapes that differ, x not of integers or, where it is concrete, not in
      [0, L); or L < 2.
  """
  shapes.check_equal(mean=mean, log_scale=log_scale, x=x)
  each = discretized_logistic_each(mean, log_scale, x, num_levels=num_levels)
  return _sum_over_event(each)


def discretized_gaussian_each(
  mean: Array, log_std: Array, x: Array, *, num_levels: int
) -> Array:
  """The discretized Gaussian log-likelihood of every number by itself.

  The bins are those of `discretized_logistic_each`. Inside, with a level at distance c
  from the mean and half a step h, the mass is

    P = Phi((h - |c|) / s) - Phi((-h - |c|) / s),

  whose second term is one of the lower tail, so that far bins keep their digits; of
  bins narrow against s it is the density times their width.

  Source: Denoising Diffusion Probabilistic Models, Ho et al., 2020, arXiv:2006.11239,
  equation 13.

  Args:
    mean: `[...]` in model space, [-1, 1] or beyond.
    log_std: `[...]` ln s, in model space; read as the nearest in [-40, 40], without a
      gradient beyond.
    x: `[...]` integers in [0, L).
    num_levels: L >= 2.

  Returns:
    `[...]` nats, of a mass each.

  Raises:
    ValueError: x is not of integers or, where it is concrete, not in [0, L); shapes
      that do not broadcast; or L < 2.
  """
  if num_levels < 2:
    raise ValueError(f'num_levels must be >= 2, got {num_levels}')
  shapes.check_levels(num_levels, x=x)
  x = jnp.asarray(x, jnp.int32)
  mean, log_std = shapes.floats(mean=mean, log_std=log_std)
  log_std = jnp.clip(log_std, -40.0, 40.0)  # beyond, squares have no float32
  half, inverse = 1.0 / (num_levels - 1), jnp.exp(-log_std)
  centered = 2.0 * half * x - 1.0 - mean
  log_cdf = jax.scipy.special.log_ndtr
  upper = log_cdf((half - jnp.abs(centered)) * inverse)
  ratio = upper - log_cdf((-half - jnp.abs(centered)) * inverse)
  narrow = ratio < 1e-2  # then the midpoint's density is right to 4e-6
  log_density = -0.5 * (jnp.square(centered * inverse) + math.log(2.0 * math.pi))
  inside = jnp.where(
    narrow,
    log_density + math.log(2.0 * half) - log_std,
    upper + jax.nn.log1mexp(jnp.where(narrow, 1.0, ratio)),
  )
  first = log_cdf((centered + half) * inverse)
  last = log_cdf((half - centered) * inverse)
  return jnp.where(x <= 0, first, jnp.where(x >= num_levels - 1, last, inside))


def mixture_of_discretized_logistics(
  weight_logits: Array, mean: Array, log_scale: Array, x: Array, *, num_levels: int
) -> Array:
  """The log-likelihood of a mixture of discretized logistics at each position.

    P(x_p) = sum_k softmax(w_p)_k prod_c P(x_pc | mean_pkc, s_pkc)

  A channel's mean may depend on the channels before it, which the caller adds.

  Source: PixelCNN++, Salimans et al., 2017, arXiv:1701.05517, section 2.

  Args:
    weight_logits: `[B, ..., K]` unnormalized log-probabilities of the components.
    mean: `[B, ..., K, C]` in model space.
    log_scale: `[B, ..., K, C]` ln s.
    x: `[B, ..., C]` integers in [0, L).
    num_levels: L >= 2.

  Returns:
    `[B]` nats, of a mass.

  Raises:
    ValueError: other shapes, x not of integers, or L < 2.
  """
  (weight_logits,) = shapes.floats(weight_logits=weight_logits)
  shapes.check_equal(mean=mean, log_scale=log_scale)
  expected = (*weight_logits.shape, x.shape[-1])
  if mean.shape != expected or weight_logits.shape[:-1] != x.shape[:-1]:
    raise ValueError(
      'weight_logits, mean and x must be [B, ..., K], [B, ..., K, C] and [B, ..., C],'
      f' got {weight_logits.shape}, {mean.shape} and {x.shape}'
    )
  each = discretized_logistic_each(
    mean, log_scale, x[..., None, :], num_levels=num_levels
  ).sum(axis=-1)
  weights = jax.nn.log_softmax(weight_logits)
  return _sum_over_event(jax.nn.logsumexp(weights + each, axis=-1))


class PixelMixture(NamedTuple):
  """The parameters of a pixel's distribution; see `pixels`."""

  weight_logits: Array  # [..., K]
  mean: Array  # [..., K, C], without what the channels before it add
  log_scale: Array  # [..., K, C]
  coupling: Array  # [..., K, C (C - 1) / 2], of channel c on 0 ... c - 1, in order


def num_pixel_parameters(num_components: int, num_channels: int) -> int:
  """Returns how many parameters a pixel has: P = K (1 + 2 C + C (C - 1) / 2).

  Args:
    num_components: K of the mixture.
    num_channels: C.

  Returns:
    P, the size of the last axis that `pixels` takes.
  """
  pairs = num_channels * (num_channels - 1) // 2
  return num_components * (1 + 2 * num_channels + pairs)


def pixel_mixture(parameters: Array, num_channels: int) -> PixelMixture:
  """Splits a network's outputs into the parameters of a pixel's mixture.

  log_scale is bounded below by -7, as in the paper's code; coupling is a tanh.

  Args:
    parameters: `[..., P]` outputs, P as in `num_pixel_parameters`.
    num_channels: C.

  Returns:
    The mixture, in which `weight_logits` is `[..., K]`.

  Raises:
    ValueError: P is no multiple of 1 + 2 C + C (C - 1) / 2.
  """
  (parameters,) = shapes.floats(parameters=parameters)
  each = num_pixel_parameters(1, num_channels)
  if parameters.shape[-1] % each:
    raise ValueError(
      f'parameters must have a multiple of {each} for {num_channels} channels, got'
      f' {parameters.shape[-1]}'
    )
  parts = parameters.reshape(*parameters.shape[:-1], -1, each)
  cuts = [1, 1 + num_channels, 1 + 2 * num_channels]
  weight, mean, log_scale, coupling = jnp.split(parts, cuts, axis=-1)
  log_scale = jnp.maximum(log_scale, -7.0)
  return PixelMixture(weight[..., 0], mean, log_scale, jnp.tanh(coupling))


def pixels(parameters: Array, x: Array, *, num_levels: int) -> Array:
  """The log-likelihood of pixels whose channels depend on one another in turn.

  Each pixel is a mixture as in `mixture_of_discretized_logistics`. In a component the
  mean of channel c is m_c + sum_{d < c} a_cd v_d, v_d in [-1, 1] the level of the
  channel d before it.

  Source: PixelCNN++, Salimans et al., 2017, arXiv:1701.05517, sections 2.1 and 2.2.

  Args:
    parameters: `[B, ..., P]` outputs that `pixel_mixture` splits.
    x: `[B, ..., C]` integers in [0, L).
    num_levels: L >= 2.

  Returns:
    `[B]` nats, of a mass.

  Raises:
    ValueError: shapes that do not fit, x not of integers, or L < 2.
  """
  shapes.check_integers(x=x)
  channels = x.shape[-1]
  weights, mean, log_scale, coupling = pixel_mixture(parameters, channels)
  scaled = (2.0 * x / (num_levels - 1) - 1.0)[..., None, :]
  # Couplings stand in the order (1, 0), (2, 0), (2, 1), ...: c of them for channel c.
  added, start = [jnp.zeros_like(mean[..., 0])], 0
  for c in range(1, channels):
    added.append((coupling[..., start : start + c] * scaled[..., :c]).sum(axis=-1))
    start += c
  mean = mean + jnp.stack(added, axis=-1)
  return mixture_of_discretized_logistics(
    weights, mean, log_scale, x, num_levels=num_levels
  )


def bits_per_dimension(
  nats: Array, num_dims: int, *, measure: str, log_det: Array | float = 0.0
) -> Array:
  """The negative log-likelihood of raw data in bits per dimension.

    -(log p(x) + log |dx / draw|) / (D ln 2)

  Args:
    nats: `[...]` log p in model space; a lower bound of it gives an upper bound.
    num_dims: D >= 1, dimensions of an example.
    measure: 'mass', of discrete data, whose `log_det` must be 0, or 'density'.
    log_det: `[...]` nats, ln |dx / draw| of the transform to model space.

  Returns:
    `[...]` bits.

  Raises:
    ValueError: another measure, D < 1, or a mass with a log-determinant.
  """
  if measure not in {'mass', 'density'}:
    raise ValueError(f"measure must be 'mass' or 'density', got {measure!r}")
  if num_dims < 1:
    raise ValueError(f'num_dims must be >= 1, got {num_dims}')
  if measure == 'mass' and not isinstance(log_det, (int, float)):
    raise ValueError('a mass has no log-determinant: log_det must be 0')
  if measure == 'mass' and log_det:
    raise ValueError(f'a mass has no log-determinant: log_det must be 0, got {log_det}')
  (nats,) = shapes.floats(nats=nats)
  return -(nats + log_det) / (num_dims * _LOG_2)
