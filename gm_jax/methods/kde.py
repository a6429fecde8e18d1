"""Kernel density estimation: a Gaussian on every training point.

  p(x) = 1/N sum_i N(x; x_i, h^2 I)

A step stores its batch, so that an epoch is the fit. The bandwidth h is chosen on
validation data (`bandwidth`): of the training points themselves the best is 0.

As a score of samples of another model (Parzen window) it ranks models wrongly: one that
repeats k-means centroids beats the true distribution, as Theis et al., 2016, A note on
the evaluation of generative models, arXiv:1511.01844, show.

Source: On Estimation of a Probability Density Function and Mode, Parzen, 1962.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from gm_jax import base, conditions
from gm_jax.losses import shapes

CHUNK = 1024  # points at once: no [B, N] array
CARD = base.Card(
  density='exact',
  density_cost='one_pass',
  measure='density',
  sampling='exact',
  sampling_cost='one_pass',
  training=('maximum_likelihood', 'closed_form'),
  latents='data_sized',
  architecture='any',
)


def log_density(
  points: base.Array, x: base.Array, std: base.Array | float, count: base.Array | int
) -> base.Array:
  """Evaluates log p(x) of the first `count` points, without a [B, N] array.

  Differences are taken before squares: |x|^2 - 2 x . s + |s|^2 in float32 would lose
  the digits that a narrow kernel needs.

  Args:
    points: [N, D].
    x: [B, D].
    std: h > 0.
    count: how many points count, from the first; at least 1.

  Returns:
    [B] nats.
  """
  points, x = shapes.floats(points=points, x=x)  # bytes have no differences below 0
  num, dim = points.shape
  chunks = -(-num // CHUNK)
  size = min(num, CHUNK)
  padded = jnp.pad(points, ((0, chunks * size - num), (0, 0)))
  parts = padded.reshape(chunks, size, dim), jnp.arange(chunks * size).reshape(-1, size)

  def log_sum(x, part, place):
    squares = jnp.square((x - part) / std).sum(axis=1)
    return jax.nn.logsumexp(jnp.where(place < count, -0.5 * squares, -jnp.inf))

  def add(total, inputs):
    each = jax.lax.map(lambda one: log_sum(one, *inputs), x, batch_size=64)
    return jnp.logaddexp(total, each), None

  total, _ = jax.lax.scan(add, jnp.full(len(x), -jnp.inf), parts)
  return total - jnp.log(count) - dim * (jnp.log(std) + 0.5 * math.log(2 * math.pi))


def bandwidth(
  points: base.Array, validation: base.Array, stds: Sequence[float]
) -> tuple[float, base.Array]:
  """The bandwidth that is best on validation data, and the means of all.

  Args:
    points: [N, D] of training.
    validation: [M, D], others than the points.
    stds: to choose from, > 0.

  Returns:
    The best, and the mean log-densities [len(stds)] in nats.

  Raises:
    ValueError: no bandwidth, or one that is not above 0.
  """
  if not len(stds) or min(stds) <= 0:
    raise ValueError(f'bandwidths must be > 0, got {list(stds)}')
  mean = jax.jit(lambda std: log_density(points, validation, std, len(points)).mean())
  means = jnp.stack([mean(jnp.float32(std)) for std in stds])
  return float(stds[int(means.argmax())]), means


def kde(shape: Sequence[int], num_points: int, *, std: float) -> base.Method:
  """A kernel density estimate of as many points as are stored.

  Args:
    shape: of an example, D = prod(shape).
    num_points: N, places for points; when all are taken the oldest go.
    std: bandwidth h > 0.

  Returns:
    The method; samples are points with noise of the bandwidth.

  Raises:
    ValueError: h or N is not above 0.
  """
  if not std > 0:
    raise ValueError(f'std, the bandwidth, must be > 0, got {std}')
  if num_points < 1:
    raise ValueError(f'num_points must be >= 1, got {num_points}')
  dim = math.prod(shape)

  def init(key, batch):
    del key, batch
    zero = jnp.zeros((), jnp.int32)
    memory = {'points': jnp.zeros((num_points, dim)), 'count': zero}
    return base.State(zero, {}, {base.LOCAL: memory}, (), ())

  def step(state, key, batch):
    del key
    x, memory = batch['x'].reshape(-1, dim), state.extra[base.LOCAL]
    if len(x) > num_points:
      raise ValueError(f'a batch of {len(x)} does not fit {num_points} points')
    places = (memory['count'] + jnp.arange(len(x))) % num_points
    points = memory['points'].at[places].set(x)
    extra = {base.LOCAL: {'points': points, 'count': memory['count'] + len(x)}}
    stored = num_stored(extra).astype(jnp.float32)
    return state._replace(step=state.step + 1, extra=extra), {'stored': stored}

  def num_stored(extra):
    return jnp.minimum(extra[base.LOCAL]['count'], num_points)

  def log_prob(model, key, x, *, condition=None):
    del key
    conditions.check_unconditional(condition)
    points = model.extra[base.LOCAL]['points']
    return log_density(points, x.reshape(len(x), dim), std, num_stored(model.extra))

  def sample(model, key, num, *, condition=None):
    conditions.check_unconditional(condition)
    points = model.extra[base.LOCAL]['points']
    point_key, noise_key = jax.random.split(key)
    index = jax.random.randint(point_key, (num,), 0, num_stored(model.extra))
    noise = std * jax.random.normal(noise_key, (num, dim))
    return (points[index] + noise).reshape(num, *shape)

  return base.Method(CARD, init, step, sample, log_prob)
