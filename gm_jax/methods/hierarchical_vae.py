"""Hierarchical variational auto-encoder: groups of codes, each given those above it.

  max E_x E_q [log p(x | z) - beta sum_l KL(q(z_l | z_<l, x) || p(z_l | z_<l))]

The divergence of every group has a closed form given the codes above it. Its weight
rises to beta over the first steps: else groups are given up before the decoder knows
what to do with them. The networks
are the ladder, and residual blocks from coarse to fine (`models.hierarchical`). Deep
ones now and then meet a batch with a huge gradient: an optimizer made by
`gradient.skip_large` leaves such steps out, and the metrics say how many.

Source: Ladder Variational Autoencoders, Sonderby et al., 2016, arXiv:1602.02282; Very
Deep VAEs Generalize Autoregressive Models and Can Outperform Them on Images, Child,
2021, arXiv:2011.10650.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import amortized, base, conditions, gradient, observations
from gm_jax.losses import variational
from gm_jax.metrics import importance
from gm_jax.models import hierarchical

REPORTED = 'gradient_norm', 'skipped'  # of `gradient.skip_large`


def _sum(each: base.Array) -> base.Array:
  return each.reshape(len(each), -1).sum(axis=1)


def divergences(groups: Sequence[hierarchical.Group]) -> base.Array:
  """KL of every group's posterior from its prior given the codes above, [B, L] nats."""
  each = [variational.gaussian_kl_each(*g.posterior, *g.prior) for g in groups]
  return jnp.stack([_sum(kl) for kl in each], axis=1)


def log_ratio(groups: Sequence[hierarchical.Group]) -> base.Array:
  """log p(z) - log q(z | x) of the codes of a pass, [B] nats."""
  log_prob = variational.gaussian_log_prob_each
  each = [log_prob(*g.prior, g.z) - log_prob(*g.posterior, g.z) for g in groups]
  return sum(_sum(ratio) for ratio in each)


def hierarchical_vae(
  module: nn.Module,
  tx: optax.GradientTransformation,
  *,
  observation: observations.Observation,
  beta: float = 1.0,
  minimum: float = 0.0,
  warmup_steps: int = 0,
) -> base.Method:
  """A variational auto-encoder with a hierarchy of codes.

  Args:
    module: as `models.hierarchical.Ladder` or `TopDown`.
    tx: the optimizer.
    observation: of the data.
    beta: weight of the prior terms, > 0.
    minimum: nats that every group may cost freely, see `variational.free_bits`.
    warmup_steps: over which the weight rises from 0 to beta.

  Returns:
    The method; queries `elbo`, `iwae`, `encode` (a dict of the groups' means, from the
    top), `decode` and `reconstruct`.

  Raises:
    ValueError: a number out of range; at init, outputs of another shape than the
      observation's parameters.
  """
  if not beta > 0 or not minimum >= 0 or warmup_steps < 0:
    raise ValueError(
      'beta must be > 0, minimum and warmup_steps >= 0, got'
      f' {beta}, {minimum} and {warmup_steps}'
    )
  names = [f'group_{i}' for i in range(len(module.code_shapes))]

  def apply(params, *args):
    return module.apply({'params': params}, *args)

  def downwards(params, key, x):
    return apply(params, x, hierarchical.noise(key, module, len(x)))

  def init(key, batch):
    x = batch['x'][:2]
    drawn = hierarchical.noise(key, module, 2)
    params = module.init(key, x, drawn)['params']
    shape = apply(params, x, drawn).parameters.shape[1:]
    expected = observation.parameters(x.shape[1:])
    if shape != expected:
      raise ValueError(
        f'the network must give parameters {expected} of the observation, got {shape}'
      )
    zero = jnp.zeros((), jnp.int32)
    return base.State(zero, params, {}, tx.init(params), ())

  def bound(out, x):
    return variational.elbo(
      observation.log_prob(out.parameters, x), divergences(out.groups).sum(axis=1)
    )

  def loss_fn(params, key, x, steps_done):
    weight = beta * jnp.minimum(1.0, (steps_done + 1) / max(1, warmup_steps))
    out = downwards(params, key, x)
    log_likelihood = observation.log_prob(out.parameters, x).mean()
    kl = divergences(out.groups)
    cost = variational.free_bits(kl, minimum=minimum)
    by_group = {f'prior_term_{i}': one for i, one in enumerate(kl.mean(axis=0))}
    prior_term = kl.sum(axis=1).mean()
    metrics = {'reconstruction': log_likelihood, 'prior_term': prior_term, **by_group}
    return weight * cost - log_likelihood, metrics

  def elbo(model, key, x, *, condition=None):
    conditions.check_unconditional(condition)
    return bound(downwards(model.params, key, x), x)

  def iwae(model, key, x, *, num_samples, condition=None):
    conditions.check_unconditional(condition)

    def log_weights(key, num):
      def one(key):
        out = downwards(model.params, key, x)
        log_likelihood = observation.log_prob(out.parameters, x)
        return log_likelihood + log_ratio(out.groups)

      return jax.vmap(one)(jax.random.split(key, num))

    return importance.importance_bound(log_weights, key, num_samples)[0]

  def encode(model, key, x, *, condition=None):
    del key
    conditions.check_unconditional(condition)
    # Without noise every group is the mean, given the means above it.
    still = [jnp.zeros((len(x), *shape)) for shape in module.code_shapes]
    groups = apply(model.params, x, still).groups
    return {n: g.posterior[0] for n, g in zip(names, groups, strict=True)}

  def decode(model, key, z, *, condition=None):
    del key
    conditions.check_unconditional(condition)
    codes = [z[name] for name in names]
    return observation.mean(apply(model.params, None, None, codes).parameters)

  def reconstruct(model, key, x, *, condition=None):
    return decode(model, key, encode(model, key, x, condition=condition))

  def sample(model, key, num, *, condition=None, mean=False):
    conditions.check_unconditional(condition)
    z_key, x_key = jax.random.split(key)
    drawn = hierarchical.noise(z_key, module, num)
    parameters = apply(model.params, None, drawn).parameters
    return observation.mean(parameters) if mean else observation.draw(x_key, parameters)

  def step(state, key, batch):
    params, opt_state, loss, metrics = gradient.gradient_step(
      loss_fn, tx, state.params, state.opt_state, key, batch['x'], state.step
    )
    for name in REPORTED:
      value = optax.tree_utils.tree_get(opt_state, name)
      if value is not None:
        metrics[name] = value.astype(jnp.float32)
    state = base.State(state.step + 1, params, state.extra, opt_state, state.ema)
    return state, {'loss': loss, **metrics}

  found = elbo, iwae, encode, decode, reconstruct
  return base.Method(
    card=amortized.CARD._replace(measure=observation.measure),
    init=init,
    step=step,
    sample=sample,
    queries={fn.__name__: fn for fn in found},
  )
