"""Mixtures by expectation maximization.

  p(x) = sum_k w_k p(x | theta_k)

  E  r_bk = w_k p(x_b | theta_k) / p(x_b)
  M  w_k = mean_b r_bk, theta_k the fit of x_b with weights r_bk

A step adds its batch's expected statistics; after `steps_per_epoch` of them comes the M
step: an epoch in any batches is one iteration of EM on all data, and the likelihood of
the data never falls. With a prior on theta, as the smoothing of `bernoullis`, the fit
is of the posterior (MAP): likelihood times prior never falls, the likelihood may.

Source: Maximum Likelihood from Incomplete Data via the EM Algorithm, Dempster et al.,
1977, JRSS B 39.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gm_jax import base, conditions
from gm_jax.losses import shapes
from gm_jax.methods import kde

TINY = 1e-30
LEAST_COUNT = 1e-6  # examples; a component of fewer is left as it is
CARD = kde.CARD._replace(training=('maximum_likelihood', 'em'), latents='discrete')


class Components(NamedTuple):
  """A family of components, on flat examples [B, D]."""

  start: Callable  # (key, x [B, D], num) -> theta, from some of the data
  log_prob: Callable  # (theta, x) -> [B, K]
  # (theta, statistics: tuple of [K, D], counts [K], responsibilities [B, K], x)
  # -> statistics of the examples so far, counts in all, and of a batch
  add: Callable
  num_statistics: int
  fit: Callable  # (theta, statistics, counts) -> theta
  sample: Callable  # (theta, key, component [B]) -> x [B, D]
  measure: str


def gaussians(*, least_std: float = 1e-3) -> Components:
  """Gaussians with a standard deviation for each dimension.

  Args:
    least_std: below which none falls: a component on a single point would have density
      infinite.

  Raises:
    ValueError: `least_std` is not above 0.
  """
  if not least_std > 0:
    raise ValueError(f'least_std must be > 0, got {least_std}')

  def start(key, x, num):
    mean = x[jax.random.choice(key, len(x), (num,), replace=len(x) < num)]
    std = jnp.broadcast_to(jnp.maximum(x.std(axis=0), least_std), mean.shape)
    return mean, std

  def log_prob(theta, x):
    def log_density(one):
      mean, std = one
      squares = jnp.square((x - mean) / std)
      return -(0.5 * squares + jnp.log(std) + 0.5 * math.log(2 * math.pi)).sum(axis=1)

    return jax.lax.map(log_density, theta).T

  # Statistics are a shift, the mean less the present one, and the sum of squares about
  # the mean: E[x^2] - E[x]^2 would lose the variance of data far from 0, and squares
  # about the present mean that of a component about to move far.
  def add(theta, statistics, counts, responsibilities, x):
    def add_to_one(one):
      mean, shift, squares, count, weights = one
      total = weights.sum()
      gap, fractions = x - mean, weights / jnp.maximum(total, TINY)
      batch_shift = (fractions[:, None] * gap).sum(axis=0)
      batch_squares = (weights[:, None] * jnp.square(gap - batch_shift)).sum(axis=0)
      # Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm for
      # Computing Sample Variances, 1979: both parts about their common mean.
      portion, between = total / jnp.maximum(count + total, TINY), batch_shift - shift
      squares = squares + batch_squares + count * portion * jnp.square(between)
      return shift + portion * between, squares

    return jax.lax.map(add_to_one, (theta[0], *statistics, counts, responsibilities.T))

  def fit(theta, statistics, counts):
    (mean, std), (shift, squares) = theta, statistics
    variance = squares / jnp.maximum(counts, TINY)[:, None]
    new = mean + shift, jnp.sqrt(jnp.maximum(variance, least_std**2))
    some = counts[:, None] > LEAST_COUNT  # of a component of none, theta stays
    return jax.tree.map(lambda a, b: jnp.where(some, a, b), new, (mean, std))

  def sample(theta, key, component):
    mean, std = (part[component] for part in theta)
    return mean + std * jax.random.normal(key, mean.shape)

  return Components(start, log_prob, add, 2, fit, sample, 'density')


def bernoullis(*, smoothing: float = 1.0) -> Components:
  """Independent binary values, {0, 1}, with a probability each.

  Args:
    smoothing: added to the counts of 0 and of 1: a prior Beta(1 + smoothing, 1 +
      smoothing) of each probability, whose posterior EM then climbs.

  Raises:
    ValueError: `smoothing` is not above 0: a probability of 0 would never come back.
  """
  if not smoothing > 0:
    raise ValueError(f'smoothing must be > 0, got {smoothing}')

  def start(key, x, num):
    noise = jax.random.uniform(key, (num, x.shape[1]), minval=0.25, maxval=0.75)
    return (0.5 * noise + 0.5 * jnp.clip(x.mean(axis=0), 0.05, 0.95),)

  def log_prob(theta, x):
    (p,) = theta
    log_odds = (jnp.log(p) - jnp.log1p(-p)).T
    product = jnp.matmul(x, log_odds, precision=jax.lax.Precision.HIGHEST)
    return product + jnp.log1p(-p).sum(axis=1)

  def add(theta, statistics, counts, responsibilities, x):
    del theta, counts
    product = jnp.matmul(responsibilities.T, x, precision=jax.lax.Precision.HIGHEST)
    return (statistics[0] + product,)

  def fit(theta, statistics, counts):
    del theta
    p = (statistics[0] + smoothing) / (counts[:, None] + 2 * smoothing)
    # Rounded to 0 or 1, as by many examples, it would make a NaN of every likelihood.
    limits = jnp.finfo(p.dtype)
    return (jnp.clip(p, limits.tiny, 1.0 - limits.epsneg),)

  def sample(theta, key, component):
    return jax.random.bernoulli(key, theta[0][component]).astype(jnp.int32)

  return Components(start, log_prob, add, 1, fit, sample, 'mass')


def mixture(
  components: Components,
  shape: Sequence[int],
  num_components: int,
  *,
  steps_per_epoch: int = 1,
) -> base.Method:
  """A mixture fitted by EM.

  Args:
    components: what is mixed, as `gaussians()`.
    shape: of an example, D = prod(shape).
    num_components: K.
    steps_per_epoch: steps between M steps.

  Returns:
    The method; its metric `log_likelihood` is the batch's mean under the parameters
    before the step; query `cluster`, log p(x, k) [B, K].

  Raises:
    ValueError: a number below 1.
  """
  if num_components < 1 or steps_per_epoch < 1:
    raise ValueError(
      'num_components and steps_per_epoch must be >= 1, got'
      f' {num_components} and {steps_per_epoch}'
    )
  dim = math.prod(shape)

  def flat(x):
    if components.measure == 'mass':
      shapes.check_levels(2, x=x)
    return x.reshape(len(x), dim).astype(jnp.float32)

  def empty():
    zeros = (jnp.zeros((num_components, dim)),) * components.num_statistics
    return zeros, jnp.zeros(num_components)

  def init(key, batch):
    x = flat(batch['x'])
    theta = components.start(key, x, num_components)
    log_weights = jnp.full(num_components, -math.log(num_components), jnp.float32)
    local = {'statistics': empty()}
    extra = {'theta': theta, 'log_weights': log_weights, base.LOCAL: local}
    return base.State(jnp.zeros((), jnp.int32), {}, extra, (), ())

  def log_joint(extra, x):
    return components.log_prob(extra['theta'], x) + extra['log_weights']

  def step(state, key, batch):
    del key
    x, extra = flat(batch['x']), state.extra

    # E: the batch's responsibilities, and the statistics expected under them.
    joint = log_joint(extra, x)
    log_p = jax.nn.logsumexp(joint, axis=1, keepdims=True)
    responsibilities = jnp.exp(joint - log_p)  # [B, K]
    statistics, counts = extra[base.LOCAL]['statistics']
    statistics = components.add(extra['theta'], statistics, counts, responsibilities, x)
    counts = counts + responsibilities.sum(axis=0)

    # M: only at the end of an epoch, when the statistics are of all data.
    fitted = {
      'theta': components.fit(extra['theta'], statistics, counts),
      'log_weights': jnp.log(jnp.maximum(counts, 1e-30) / counts.sum()),
      base.LOCAL: {'statistics': empty()},
    }
    within = {**extra, base.LOCAL: {'statistics': (statistics, counts)}}
    ends = (state.step + 1) % steps_per_epoch == 0
    extra = jax.tree.map(lambda a, b: jnp.where(ends, a, b), fitted, within)
    metrics = {'log_likelihood': log_p.mean()}
    return state._replace(step=state.step + 1, extra=extra), metrics

  def cluster(model, key, x, *, condition=None):
    del key
    conditions.check_unconditional(condition)
    return log_joint(model.extra, flat(x))

  def log_prob(model, key, x, *, condition=None):
    return jax.nn.logsumexp(cluster(model, key, x, condition=condition), axis=1)

  def sample(model, key, num, *, condition=None):
    conditions.check_unconditional(condition)
    k_key, x_key = jax.random.split(key)
    component = jax.random.categorical(k_key, model.extra['log_weights'], shape=(num,))
    return components.sample(model.extra['theta'], x_key, component).reshape(
      num, *shape
    )

  card = CARD._replace(measure=components.measure)
  return base.Method(card, init, step, sample, log_prob, {'cluster': cluster})
