"""Restricted Boltzmann machine: contrastive divergence, and chains that persist.

  -grad log p(v) = grad F(v) - E_{v' ~ p} grad F(v')

The second term is taken of chains of k steps of Gibbs sampling. Those of contrastive
divergence (CD-k) begin at the batch, and the gradient is biased towards data;
persistent ones (PCD) go on from step to step, and follow p as long as the parameters
move slowly. The loss

  mean F(v_data) - mean F(v_model),  v_model held fixed,

has this gradient, and its VALUE IS NO OBJECTIVE: of independent units that have the
data's rates, where nothing is learned, it is 0. What is learned is told by log p(x),
exact where the smaller layer can be enumerated, else an estimate by annealed
importance sampling.

Source: Training Products of Experts by Minimizing Contrastive Divergence, Hinton, 2002,
Neural Computation 14; Training Restricted Boltzmann Machines using Approximations to
the Likelihood Gradient, Tieleman, 2008, ICML; how it begins: A Practical Guide to
Training Restricted Boltzmann Machines, Hinton, 2010.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from gm_jax import base, boltzmann, conditions, gradient
from gm_jax.losses import shapes

CARD = base.Card(
  density='estimate', density_cost='mcmc', measure='mass', sampling='approximate',
  sampling_cost='mcmc', training=('maximum_likelihood', 'contrastive'),
  latents='discrete', architecture='two layers, no connections within',
)  # fmt: skip
CHAINS, BASE = 'chains', 'base_logits'


def rbm(
  tx: optax.GradientTransformation,
  *,
  shape: Sequence[int],
  num_hidden: int,
  num_steps: int = 1,
  num_chains: int | None = None,
  sampling_steps: int = 1000,
) -> base.Method:
  """A machine of binary units.

  Args:
    tx: the optimizer, with momentum and decay of its own.
    shape: of an example, D = prod(shape).
    num_hidden: H.
    num_steps: k, steps of Gibbs sampling a training step.
    num_chains: persistent chains, in `extra[base.LOCAL]`; None for CD.
    sampling_steps: of Gibbs sampling from the data's rates, if none are named.

  Returns:
    The method, with `log_prob` if `boltzmann.is_enumerable`. Queries: `energy`, the
    free one; `encode`, probabilities of hidden units [B, H], and `reconstruct`, of
    visible ones from these; by annealed importance sampling `log_partition` and
    `log_prob_estimate`, whose error all examples share. Options: `num_steps` of
    sampling; `num_chains`, `num_steps` of the estimates.

  Raises:
    ValueError: a number below 1; when called, data that are not integers 0 and 1.
  """
  numbers = {'num_hidden': num_hidden, 'num_steps': num_steps}
  numbers |= {'num_chains': num_chains, 'sampling_steps': sampling_steps}
  for name, number in numbers.items():
    if number is not None and number < 1:
      raise ValueError(f'{name} must be >= 1, got {number}')
  dim, exact = math.prod(shape), boltzmann.is_enumerable(math.prod(shape), num_hidden)

  def flat(x, condition=None):
    conditions.check_unconditional(condition)
    shapes.check_levels(2, x=x)
    return x.reshape(len(x), dim).astype(jnp.float32)

  def start(extra, key, num):
    return boltzmann.draw(key, jnp.broadcast_to(extra[BASE], (num, dim)))

  def init(key, batch):
    weights_key, chains_key = jax.random.split(key)
    v = flat(batch['x'])
    rates = (v.sum(axis=0) + 1.0) / (len(v) + 2.0)  # of the data, never 0 or 1
    visible, hidden = jnp.log(rates) - jnp.log1p(-rates), jnp.zeros(num_hidden)
    weights = 0.01 * jax.random.normal(weights_key, (dim, num_hidden))
    extra = {BASE: jnp.copy(visible)}  # one array twice could not be donated
    if num_chains is not None:
      extra[base.LOCAL] = {CHAINS: start(extra, chains_key, num_chains)}
    return {'visible': visible, 'hidden': hidden, 'weights': weights}, extra

  def loss_fn(params, extra, key, batch):
    v = flat(batch['x'])

    # 1. Chains go on, or leave the data; no gradient passes through them.
    chains = v if num_chains is None else extra[base.LOCAL][CHAINS]
    chains = boltzmann.gibbs(jax.lax.stop_gradient(params), key, chains, num_steps)

    # 2. Energies down at the data, up at the chains.
    free = boltzmann.free_energy(params, v).mean()
    loss = free - boltzmann.free_energy(params, chains).mean()
    if num_chains is not None:
      extra = {**extra, base.LOCAL: {CHAINS: chains}}
    return loss, (extra, {'free_energy': free})

  def energy(model, key, x, *, condition=None):
    return boltzmann.free_energy(model.params, flat(x, condition))

  def encode(model, key, x, *, condition=None):
    return jax.nn.sigmoid(boltzmann.hidden_logits(model.params, flat(x, condition)))

  def reconstruct(model, key, x, *, condition=None):
    h = encode(model, key, x, condition=condition)
    return jax.nn.sigmoid(boltzmann.visible_logits(model.params, h)).reshape(x.shape)

  def log_prob(model, key, x, *, condition=None):
    log_z = boltzmann.log_partition(model.params)
    return -energy(model, key, x, condition=condition) - log_z

  def log_partition(model, key, *, condition=None, num_chains=500, num_steps=1000):
    conditions.check_unconditional(condition)
    sizes = {'num_chains': num_chains, 'num_steps': num_steps}
    at, logits = model.params, model.extra[BASE]
    return boltzmann.annealed_log_partition(at, key, logits, **sizes)

  def log_prob_estimate(
    model, key, x, *, condition=None, num_chains=500, num_steps=1000
  ):
    free = energy(model, key, x, condition=condition)
    log_z, error = log_partition(model, key, num_chains=num_chains, num_steps=num_steps)
    return -free - log_z, jnp.broadcast_to(error, free.shape)

  def sample(model, key, num, *, condition=None, num_steps=sampling_steps):
    conditions.check_unconditional(condition)
    start_key, key = jax.random.split(key)
    v = start(model.extra, start_key, num)
    v = boltzmann.gibbs(model.params, key, v, num_steps)
    return v.astype(jnp.int32).reshape(num, *shape)

  queries = energy, encode, reconstruct, log_partition, log_prob_estimate
  return gradient.from_loss(
    loss_fn, tx, init, sample=sample,
    card=CARD._replace(density='exact', density_cost='one_pass') if exact else CARD,
    log_prob=log_prob if exact else None,
    queries={query.__name__: query for query in queries},
  )  # fmt: skip
