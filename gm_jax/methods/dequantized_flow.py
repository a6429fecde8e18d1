"""Variational dequantization: a flow of levels, whose noise a second flow learns.

  log P(x) >= E_q(u | x) [log p(y) + D log(2 / L) - log q(u | x)],
  y = 2 (x + u) / L - 1,  u in (0, 1)^D

p is a flow of real numbers, and the mass of levels x that it implies is bounded by
noise u of any distribution (Jensen's inequality). Uniform noise asks p to be flat on
every cell of the lattice; q learns the noise that p gives the best bound. q is a
logistic variable seen through a flow that is told x, and a sigmoid: uniform where that
flow is the identity.

Source: Flow++: Improving Flow-Based Generative Models with Variational Dequantization
and Architecture Design, Ho et al., 2019, arXiv:1902.00275, section 3.1.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from gm_jax import base, bijectors, conditions, gradient, priors
from gm_jax.losses import shapes
from gm_jax.methods import flow
from gm_jax.metrics import importance

FLOW, DEQUANTIZER = 'flow', 'dequantizer'
CARD = base.Card(
  density='lower_bound',
  density_cost='one_pass',
  measure='mass',
  sampling='exact',
  sampling_cost='one_pass',
  training=('variational',),
  latents='continuous',
  architecture='invertible',
)


def dequantized_flow(
  bijection: bijectors.Bijection,
  dequantizer: bijectors.Bijection,
  prior: priors.Density,
  tx: optax.GradientTransformation,
  *,
  shape: Sequence[int],
  num_levels: int,
  context: Callable[[base.Array], base.Array] = lambda x: x,
) -> base.Method:
  """A mass of levels by two flows.

  Args:
    bijection: of p, from y [B, *shape] in [-1, 1] to z [B, D].
    dequantizer: of q, from numbers [B, *shape] to logistic noise of the same shape, its
      condition `context`; its inverse is what draws, and is to be one pass.
    prior: of the noise z.
    tx: the optimizer of both.
    shape: of an example, of D levels.
    num_levels: L.
    context: levels as floats in [-1, 1], [B, *shape] -> what the dequantizer is told.

  Returns:
    The method, of integers in [0, L); queries `elbo` and `encode`, by one draw of u,
    `iwae`, `decode`, `prior` and `log_prior`. Its samples are levels: what p puts
    outside is in the outermost cells.

  Raises:
    ValueError: L < 2; when called, data that are no integers of the shape.
  """
  shape, size = tuple(shape), math.prod(shape)
  if num_levels < 2:
    raise ValueError(f'num_levels must be >= 2, got {num_levels}')

  def as_context(x):
    shapes.check_integers(x=x)
    if x.shape[1:] != shape:
      raise ValueError(f'x must be [B, {", ".join(map(str, shape))}], got {x.shape}')
    return context(2.0 * x / (num_levels - 1) - 1.0)

  def init(key, batch):
    p_key, q_key, u_key = jax.random.split(key, 3)
    x, noise = batch['x'], jax.random.uniform(u_key, batch['x'].shape)
    return {
      FLOW: bijection.init(p_key, spread(x, noise)),
      DEQUANTIZER: dequantizer.init(
        q_key, jax.scipy.special.logit(noise), as_context(x)
      ),
    }, {}

  def spread(x, u):
    return (x + u) * (2.0 / num_levels) - 1.0

  def dequantized(params, key, x):
    """A draw y [B, *shape] of levels in their cells, and log q(u | x) [B] nats."""
    noise = jax.random.logistic(key, x.shape)
    v, log_det = dequantizer.inverse(params[DEQUANTIZER], noise, as_context(x))
    each = jax.scipy.stats.logistic.logpdf
    # Of u = sigmoid(v), whose derivative is the logistic density at v.
    log_q = bijectors.total(each(noise) - each(v)) - log_det
    return spread(x, jax.nn.sigmoid(v)), log_q

  def bound(params, key, x):
    """One term of the bound, [B] nats."""
    y, log_q = dequantized(params, key, x)
    z, log_det = bijection.forward(params[FLOW], y)
    log_p = prior.log_prob(z) + log_det
    return log_p + size * math.log(2.0 / num_levels) - log_q

  def loss_fn(params, extra, key, batch):
    return -bound(params, key, batch['x']).mean(), (extra, {})

  def elbo(model, key, x, *, condition=None):
    conditions.check_unconditional(condition)
    return bound(model.params, key, x)

  def iwae(model, key, x, *, num_samples, condition=None):
    conditions.check_unconditional(condition)

    def log_weights(key, num):
      one = functools.partial(bound, model.params)
      return jax.vmap(one, (0, None))(jax.random.split(key, num), x)

    return importance.importance_bound(log_weights, key, num_samples)[0]

  def encode(model, key, x, *, condition=None):
    conditions.check_unconditional(condition)
    y, _ = dequantized(model.params, key, x)
    return bijection.forward(model.params[FLOW], y)[0]

  def decode(model, key, z, *, condition=None):
    del key
    conditions.check_unconditional(condition)
    y, _ = bijection.inverse(model.params[FLOW], z)
    levels = jnp.floor((y + 1.0) * (num_levels / 2))
    return jnp.clip(levels, 0, num_levels - 1).astype(jnp.int32)

  sample, queries = flow.from_noise(prior, decode)
  queries |= {'elbo': elbo, 'iwae': iwae, 'encode': encode, 'decode': decode}
  card = CARD._replace(sampling_cost=bijection.inverse_cost)
  return gradient.from_loss(
    loss_fn, tx, init, card=card, sample=sample, queries=queries
  )
