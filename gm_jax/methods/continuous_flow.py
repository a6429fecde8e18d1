"""Continuous normalizing flow: noise at the end of a differential equation.

  dz/dt = v(z, t, c),  z(0) = x,  max_theta E log p
  log p(x | c) = log p_noise(z(1)) + int_0^1 tr(dv/dz) dt

Any v that is smooth in z will do: the solution of the equation is invertible, and a
sample is noise carried back from t = 1 to 0. The trace costs D derivatives of v each
time that v is evaluated, or one by Hutchinson's estimate, whose noise is drawn once a
solve: what is solved is an ordinary differential equation still, and what it gives is
unbiased. Densities and samples are exact up to the solver's tolerance.

Source: FFJORD: Free-form Continuous Dynamics for Scalable Reversible Generative Models,
Grathwohl et al., 2019, arXiv:1810.01367; Neural Ordinary Differential Equations, Chen
et al., 2018, arXiv:1806.07366.
"""

import functools
import math
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
import optax

from gm_jax import base, conditions, gradient, ode, priors
from gm_jax.methods import flow

CARD = flow.CARD._replace(
  density_cost='ode', sampling_cost='iterative', architecture='any'
)


def continuous_flow(
  velocity: nn.Module,
  prior: priors.Density,
  tx: optax.GradientTransformation,
  *,
  shape: Sequence[int],
  trace: ode.Trace = ode.EXACT,
  solve: ode.Solve | None = None,
  training_solve: ode.Solve | None = None,
  condition: conditions.Condition | None = None,
) -> base.Method:
  """A density of real numbers by an ordinary differential equation.

  Args:
    velocity: v, from (z [B, *shape], t [B], condition) to [B, *shape], smooth in z, t.
    prior: of the noise z(1) [B, D].
    tx: the optimizer.
    shape: of an example, of D numbers.
    trace: ode.EXACT, or ode.HUTCHINSON, in training along one direction.
    solve: the equation's solver; None is `ode.adaptive()`.
    training_solve: that of training, which may be less accurate; None is `solve`.
    condition: given to v beside z and t, or None.

  Returns:
    The method. By Hutchinson's estimate it has no `log_prob` but `log_prob_estimate`,
    of `num_probes` directions. The option of sampling `temperature` multiplies the
    noise. The metric `num_evaluations` is how often a solve evaluated v.

  Raises:
    ValueError: when called, data or a velocity of another shape.
  """
  shape, size = tuple(shape), math.prod(shape)
  solve = ode.adaptive() if solve is None else solve
  training_solve = solve if training_solve is None else training_solve
  embed = functools.partial(conditions.embedded, condition)

  def checked(x):
    if x.shape[1:] != shape:
      raise ValueError(f'x must be [B, {", ".join(map(str, shape))}], got {x.shape}')
    return x

  def init(key, batch):
    value = embed(conditions.from_batch(condition, batch))
    x = checked(batch['x'])
    return {'velocity': velocity.init(key, x, jnp.zeros(len(x), x.dtype), value)}, {}

  def field(t, z, args):
    params, value = args
    return velocity.apply(params['velocity'], z, jnp.full(len(z), t, z.dtype), value)

  def field_and_trace(t, state, args):
    *args, directions = args
    return ode.along(lambda z: field(t, z, args), state[0], directions)

  def terms(params, key, x, value, num=1, solve=solve):
    """log p_noise(z(1)) [B], integrals along directions [K, B], evaluations []."""
    directions = trace.directions(key, num, checked(x))
    state = x, jnp.zeros(directions.shape[:2], x.dtype)
    args = params, value, directions
    (z, integrals), evaluations = solve(field_and_trace, 0.0, 1.0, state, args)
    return prior.log_prob(z.reshape(-1, size)), integrals, evaluations

  def loss_fn(params, extra, key, batch):
    value = conditions.training_embedding(condition, key, batch)
    found = terms(params, key, batch['x'], value, solve=training_solve)
    nats, integrals, evaluations = found
    metrics = {'num_evaluations': evaluations.astype(jnp.float32)}
    return -(nats + trace.reduce(integrals)).mean(), (extra, metrics)

  def log_prob(model, key, x, *, condition=None):
    nats, integrals, _ = terms(model.params, key, x, embed(condition, len(x)))
    return nats + trace.reduce(integrals)

  def log_prob_estimate(model, key, x, *, condition=None, num_probes=10):
    if num_probes < 2:
      raise ValueError(f'num_probes must be >= 2, for an error, got {num_probes}')
    value = embed(condition, len(x))
    nats, integrals, _ = terms(model.params, key, x, value, num_probes)
    error = integrals.std(axis=0, ddof=1) / math.sqrt(num_probes)
    return nats + trace.reduce(integrals), error

  def encode(model, key, x, *, condition=None):
    del key
    args = model.params, embed(condition, len(x))
    return solve(field, 0.0, 1.0, checked(x), args)[0].reshape(-1, size)

  def decode(model, key, z, *, condition=None):
    del key
    args = model.params, embed(condition, len(z))
    return solve(field, 1.0, 0.0, z.reshape(-1, *shape), args)[0]

  sample, queries = flow.from_noise(prior, decode)
  queries |= {'encode': encode, 'decode': decode}
  exact = {'log_prob': log_prob} if trace.density == 'exact' else {}
  if not exact:
    queries['log_prob_estimate'] = log_prob_estimate
  card = CARD._replace(density=trace.density, condition=conditions.names(condition))
  return gradient.from_loss(
    loss_fn, tx, init, card=card, sample=sample, queries=queries, **exact
  )
