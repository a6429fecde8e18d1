"""Energy-based model: a network's energy, by chains contrasted with data.

  -grad log p(x) = grad E(x) - E_{x' ~ p} grad E(x')

The second term is taken of chains of Langevin dynamics that go on from a replay buffer,
as IGEBM has them, or that begin at the data (CD-k). The loss

  mean of E(x) - E(x') + w (E(x)^2 + E(x')^2),  x' held fixed,

has this gradient but for the penalty, which pins the constant of E; its value is no
objective. The density that is learned is exp(-E / T), T the temperature of the chains,
see `gm_jax.chains`: IGEBM's step of 10 and noise of 0.005 are T = 1.25e-6, where E is a
score of what looks like data rather than minus a log-density. With T = 1 it is one, and
beside a noise q, E(x) = f(x) - log q(x), its normalizer can be estimated.

Source: Implicit Generation and Generalization in Energy-Based Models, Du and Mordatch,
2019, arXiv:1903.08689.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import base, conditions, contrasts, gradient, players, priors, tilted
from gm_jax import chains as chains_lib

ENERGY = 'energy'


def igebm(
  network: nn.Module,
  chains: chains_lib.Chains,
  tx: optax.GradientTransformation,
  *,
  shape: Sequence[int],
  beside: priors.Density | None = None,
  weight: float = 1.0,
  input_noise: float = 0.0,
  gap_limit: float | None = None,
) -> base.Method:
  """An energy of real numbers.

  Args:
    network: f, (x `[B, *shape]`, train) -> `[B, 1]`, differentiable in x; data and
      negatives are one batch of it.
    chains: which draw the negatives.
    tx: the optimizer.
    shape: of an example.
    beside: q of `[num, D]`, with E = f - log q; None for E = f. At T = 1 there are then
      estimates.
    weight: w of the squared energies.
    input_noise: standard deviation of noise added to data.
    gap_limit: of |E(x) - E(x')|, means of a batch, beyond which the metric
      `diverged_energy_gap` is 1; None for no such metric.

  Returns:
    The method. Queries: `energy`, `sample_info`; estimates `log_partition` and
    `log_prob_estimate`, with the option `num_samples`. Samples are chains of the buffer
    that go on; options `num_steps`, `step_size`, and `rate` at which they begin at
    noise.

  Raises:
    ValueError: chains that make no sense, a negative weight or noise, or a limit <= 0;
      when called, data of another shape, a network that does not return [B, 1], or a
      batch above the buffer.
  """
  shape, chains = tuple(shape), chains_lib.checked(chains)
  contrasts.check_objective(weight, input_noise, gap_limit)

  init, apply = contrasts.network(network, ENERGY, chains, shape=shape, num_outputs=1)

  def energy_of(f, x):
    log_q = 0.0 if beside is None else beside.log_prob(x.reshape(len(x), -1))
    return f[:, 0] - log_q

  def evaluated(model, x, condition=None):
    conditions.check_unconditional(condition)
    return energy_of(apply(*model, x)[0], x)

  def loss_fn(params, extra, key, batch):
    x, model = batch['x'], base.Model(jax.lax.stop_gradient(params), extra)
    chains_key, noise_key, key = jax.random.split(key, 3)

    # 1. Chains, with the network as in evaluation; no gradient passes through them.
    negatives, extra, acceptance = contrasts.negatives(
      chains, lambda x: evaluated(model, x), chains_key, x, extra
    )

    # 2. Energies down at the data, up where chains got.
    x = x + input_noise * jax.random.normal(noise_key, x.shape, x.dtype)
    both = jnp.concatenate([x, negatives])
    f, extra = apply(params, extra, both, key=key, train=True)
    energies = jnp.split(energy_of(f, both), 2)
    loss, metrics = contrasts.contrast(*energies, weight=weight, gap_limit=gap_limit)
    return loss, (extra, metrics | {'acceptance': acceptance.mean()})

  def energy(model, key, x, *, condition=None):
    del key
    return evaluated(model, x, condition)

  sample, sample_info = contrasts.sampler(
    chains, evaluated, shape=shape, choose=contrasts.any_of
  )
  queries = {'energy': energy, 'sample_info': sample_info}
  card = contrasts.card(chains)
  if beside is not None and chains.temperature == 1:
    estimates = tilted.tilted(network, beside, shape=shape, name=ENERGY).queries
    card = card._replace(density='estimate')

    def variables(model):
      state = players.collections(model.extra, ENERGY)
      return base.Model({ENERGY: {'params': model.params[ENERGY], **state}}, {})

    def log_partition(model, key, *, condition=None, num_samples=50_000):
      sizes = {'condition': condition, 'num_samples': num_samples}
      return estimates['log_partition'](variables(model), key, **sizes)

    def log_prob_estimate(model, key, x, *, condition=None, num_samples=50_000):
      sizes = {'condition': condition, 'num_samples': num_samples}
      return estimates['log_prob_estimate'](variables(model), key, x, **sizes)

    queries |= {'log_partition': log_partition, 'log_prob_estimate': log_prob_estimate}
  return gradient.from_loss(
    loss_fn, tx, init, card=card, sample=sample, queries=queries
  )
