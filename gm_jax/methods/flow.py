"""Normalizing flows: data as noise seen through an invertible map.

  log p(x | c) = log p_noise(z) + log |det dz/dx|,  z = f(x; c),   max_theta E log p

f is any chain of `bijectors` and `flow_layers`: NICE, RealNVP, Glow, MAF, IAF, spline
flows, planar and radial maps are this method with another map. A sample is f^-1 of
noise. The density is exact; of pixels that noise has spread over their levels it is an
exact density of what the model sees and, in bits per dimension, a bound.

Source: Variational Inference with Normalizing Flows, Rezende and Mohamed, 2015,
arXiv:1505.05770; Density Estimation using Real NVP, Dinh et al., 2017,
arXiv:1605.08803.
"""

import functools
import math
from collections.abc import Callable, Sequence

import optax

from gm_jax import base, bijectors, conditions, gradient, priors

CARD = base.Card(
  density='exact',
  density_cost='one_pass',
  measure='density',
  sampling='exact',
  sampling_cost='one_pass',
  training=('maximum_likelihood',),
  latents='continuous',
  architecture='invertible',
)


def flow(
  bijection: bijectors.Bijection,
  prior: priors.Density,
  tx: optax.GradientTransformation,
  *,
  shape: Sequence[int],
  condition: conditions.Condition | None = None,
) -> base.Method:
  """A density of real numbers by an invertible map.

  Args:
    bijection: f, from x [B, *shape] to z [B, D].
    prior: of the noise z.
    tx: the optimizer.
    shape: of an example, of D numbers.
    condition: given to the map beside x, or None.

  Returns:
    The method. Its option of sampling `temperature` multiplies the noise: below 1 what
    is drawn is likelier than the model's own samples, and no longer exact. What the map
    costs each way is on its card.

  Raises:
    ValueError: when called, data of another shape, or a map to another size.
  """
  shape, size = tuple(shape), math.prod(shape)
  embed = functools.partial(conditions.embedded, condition)

  def init(key, batch):
    value = embed(conditions.from_batch(condition, batch))
    # The whole batch: what depends on data is set by all of it.
    return {'flow': bijection.init(key, checked(batch['x']), value)}, {}

  def checked(x):
    if x.shape[1:] != shape:
      raise ValueError(f'x must be [B, {", ".join(map(str, shape))}], got {x.shape}')
    return x

  def forward(params, x, value):
    z, log_det = bijection.forward(params['flow'], checked(x), value)
    if z.shape != (len(x), size):
      raise ValueError(f'the map must give [B, {size}], got {z.shape}')
    return z, log_det

  def nats(params, x, value):
    z, log_det = forward(params, x, value)
    return prior.log_prob(z) + log_det

  def loss_fn(params, extra, key, batch):
    value = conditions.training_embedding(condition, key, batch)
    return -nats(params, batch['x'], value).mean(), (extra, {})

  def log_prob(model, key, x, *, condition=None):
    del key
    return nats(model.params, x, embed(condition, len(x)))

  def encode(model, key, x, *, condition=None):
    del key
    return forward(model.params, x, embed(condition, len(x)))[0]

  def decode(model, key, z, *, condition=None):
    del key
    return bijection.inverse(model.params['flow'], z, embed(condition, len(z)))[0]

  sample, queries = from_noise(prior, decode)
  card = CARD._replace(
    condition=conditions.names(condition),
    density_cost=_cost_of_density(bijection.forward_cost),
    sampling_cost=bijection.inverse_cost,
  )
  queries |= {'encode': encode, 'decode': decode}
  return gradient.from_loss(
    loss_fn, tx, init, card=card, sample=sample, log_prob=log_prob, queries=queries
  )


def from_noise(
  prior: priors.Density, decode: Callable
) -> tuple[Callable, dict[str, Callable]]:
  """Samples of a model that maps noise to data, and what is known of the noise.

  Args:
    prior: of the noise z [B, D].
    decode: the query.

  Returns:
    `sample` of a method, with the option `temperature`, which multiplies the noise; and
    the queries `prior` and `log_prior`.
  """

  def sample(model, key, num, *, condition=None, temperature=1.0):
    return decode(model, None, temperature * prior(key, num), condition=condition)

  def draw(model, key, num, *, condition=None):
    del model, condition
    return prior(key, num)

  def log_prior(model, key, z, *, condition=None):
    del model, key, condition
    return prior.log_prob(z)

  return sample, {'prior': draw, 'log_prior': log_prior}


def _cost_of_density(cost: bijectors.Cost) -> base.DensityCost:
  """The card's word: a map that is inverted by bisection costs passes too."""
  return 'per_dimension' if cost == 'iterative' else cost
