"""Amortized inference: an encoder and a decoder, and what is known of a batch's codes.

A decoder gives the parameters of an observation model p(x | z), an encoder those of a
diagonal Gaussian q(z | x), and z = mean + std * noise carries the gradient from the one
to the other. What a method adds is its objective (`Objective`), of draws z_1 ... z_K of
every example and of the terms of their log-weights,

  log w_k = log p(x | z_k) + log p(z_k) - log q(z_k | x).

Whatever it is trained on, `elbo` and `iwae` bound log p(x). With a condition, both
networks are given it and the prior is the same for all.

Source: Auto-Encoding Variational Bayes, Kingma and Welling, 2013, arXiv:1312.6114;
Learning Structured Output Representation using Deep Conditional Generative Models, Sohn
et al., 2015, NeurIPS.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import (
  base,
  bijectors,
  conditions,
  gradient,
  latent_priors,
  observations,
  players,
)
from gm_jax.losses import variational
from gm_jax.metrics import annealed, importance

ENCODER, DECODER, PRIOR = 'encoder', 'decoder', 'prior'
POSTERIOR = 'posterior'  # the map of a posterior that is no Gaussian
CARD = base.Card(
  density='lower_bound',
  density_cost='one_pass',
  measure='density',
  sampling='exact',
  sampling_cost='one_pass',
  training=('variational',),
  latents='continuous',
  architecture='any',
)


Posterior = latent_priors.Gaussian | latent_priors.Transformed


class Networks(NamedTuple):
  """A latent-variable model with its encoder.

  encoder: x [B, ...] -> [B, 2 Z], means and logarithms of standard deviations.
  decoder: z [B, Z] -> parameters [B, ...] of the observation.
  prior: of the codes.
  observation: of the data.
  condition: given to both networks beside their input, or None.
  flow: from codes to the encoder's Gaussian, given the encoder's output: q(z | x) is
    that Gaussian seen through its inverse. None for the Gaussian itself.
  """

  encoder: nn.Module
  decoder: nn.Module
  prior: latent_priors.LatentPrior
  observation: observations.Observation
  condition: conditions.Condition | None = None
  flow: bijectors.Bijection | None = None

  def embed(self, value, num=None):
    """The condition's value as the networks see it; see `conditions.embedded`."""
    return conditions.embedded(self.condition, value, num)

  def posterior(self, params: dict, out: base.Array) -> Posterior:
    """q(z | x) of the encoder's output, by the parameters of the players."""
    noise = self.gaussian(out)
    if self.flow is None:
      return noise
    return latent_priors.Transformed(noise, params[POSTERIOR], out, self.flow)

  def gaussian(self, out: base.Array) -> latent_priors.Gaussian:
    """Splits the encoder's output; log deviations are kept in [-38, 38].

    Raises:
      ValueError: an output that is not [B, 2 Z].
    """
    size = self.prior.size
    if out.shape[1:] != (2 * size,):
      raise ValueError(
        f'the encoder must give [B, {2 * size}], means and log deviations of'
        f' {size} codes as the prior has, got {list(out.shape)}'
      )
    mean, log_std = jnp.split(out, 2, axis=1)
    limits = variational.LEAST_LOG_STD, variational.LARGEST_LOG_STD
    return latent_priors.Gaussian(mean, jnp.clip(log_std, *limits))

  def pseudo_posterior(self, params: dict, extra: dict) -> latent_priors.Encode:
    """The encoder as a prior may use it, without batch statistics or condition."""

    def encode(inputs):
      if self.condition is not None:
        raise ValueError('a prior made of posteriors cannot stand beside a condition')
      if self.flow is not None:
        raise ValueError('a prior made of posteriors needs them to be Gaussian')
      model = base.Model(params, extra)
      return self.gaussian(players.apply_trained(self.encoder, ENCODER, model, inputs))

    return encode


class Terms(NamedTuple):
  """The parts of the log-weights of draws, `[K, B]` nats each."""

  log_likelihood: base.Array  # log p(x | z)
  log_prior: base.Array  # log p(z)
  log_posterior: base.Array  # log q(z | x)
  model_state: dict  # the decoder's collections afterwards

  @property
  def log_weights(self) -> base.Array:
    """log p(x, z) - log q(z | x)."""
    return self.log_likelihood + self.log_prior - self.log_posterior


class Draws(NamedTuple):
  """Codes of a batch, as an objective is given them."""

  q: Posterior  # [B, Z]
  z: base.Array  # [K, B, Z]
  terms: Callable[..., Terms]  # of (z, fixed=False): log q's parameters are constants
  kl_each: base.Array | None  # [B, Z] nats, where there is a closed form
  model_state: dict  # the encoder's collections afterwards


# draws -> what is maximized [B], the terms, further metrics [B] or [] by name
Objective = Callable[[Draws], tuple[base.Array, Terms, dict]]


def init(net: Networks, key: base.Array, batch: base.Batch) -> tuple[dict, dict]:
  """Parameters and other collections of all, by player.

  Raises:
    ValueError: outputs whose shapes do not fit the prior or the observation.
  """
  e_key, d_key, p_key = jax.random.split(key, 3)
  q_key = jax.random.fold_in(p_key, 1)
  two = jax.tree.map(lambda x: x[:2], dict(batch))
  value = net.embed(conditions.from_batch(net.condition, two))
  e = players.init(net.encoder, e_key, two['x'], value)
  out, _ = players.apply(net.encoder, *e, two['x'], value, train=False)
  z = net.gaussian(out).mean
  d = players.init(net.decoder, d_key, z, value)
  parameters, _ = players.apply(net.decoder, *d, z, value, train=False)
  net.observation.check_parameters(parameters, two['x'])
  params = {ENCODER: e[0], DECODER: d[0], PRIOR: net.prior.init(p_key)}
  if net.flow is not None:
    params[POSTERIOR] = net.flow.init(q_key, z, out)
  params = {name: p for name, p in params.items() if p}  # a prior may have none
  return params, players.with_collections({}, {ENCODER: e[1], DECODER: d[1]})


def draws(
  net: Networks,
  params: dict,
  extra: dict,
  key: base.Array,
  x: base.Array,
  value: base.PyTree,
  *,
  num: int,
  train: bool,
) -> Draws:
  """Draws codes of a batch.

  Args:
    net: the networks.
    params: by player.
    extra: collections by player.
    key: of the draws, and of dropout.
    x: `[B, ...]` in model space.
    value: the condition, embedded.
    num: K.
    train: whether batch statistics are used and updated, and dropout acts.
  """
  z_key, e_key, d_key = jax.random.split(key, 3)
  e_state, d_state = (players.collections(extra, n) for n in (ENCODER, DECODER))
  out, e_state = players.apply(
    net.encoder, params[ENCODER], e_state, x, value, key=e_key, train=train
  )
  q = net.posterior(params, out)

  def terms(z, fixed=False):
    repeated = jax.tree.map(
      lambda v: jnp.broadcast_to(v, (len(z), *v.shape)).reshape(-1, *v.shape[1:]),
      value,
    )
    parameters, state = players.apply(
      net.decoder, params[DECODER], d_state, z.reshape(-1, net.prior.size), repeated,
      key=d_key, train=train,
    )  # fmt: skip
    parameters = parameters.reshape(*z.shape[:2], *parameters.shape[1:])
    log_likelihood = jax.vmap(net.observation.log_prob, (0, None))(parameters, x)
    encode = net.pseudo_posterior(params, extra)
    log_prior = latent_priors.log_prob_of_draws(
      net.prior, params.get(PRIOR, {}), encode, z
    )
    density = jax.lax.stop_gradient(q) if fixed else q
    return Terms(log_likelihood, log_prior, density.log_prob(z), state)

  closed = net.prior.kl_each is not None and net.flow is None
  kl_each = net.prior.kl_each(q) if closed else None
  return Draws(q, q.draw(z_key, num), terms, kl_each, e_state)


def prior_term(drawn: Draws, terms: Terms) -> base.Array:
  """KL(q(z | x) || p(z)), `[B]` nats: by its closed form, or else by the draws."""
  if drawn.kl_each is not None:
    return drawn.kl_each.sum(axis=1)
  return (terms.log_posterior - terms.log_prior).mean(axis=0)


def sampler(net: Networks) -> Callable:
  """Ancestral samples z ~ p(z), x ~ p(x | z), as in `base.Method`.

  Their option `mean` gives the mean of p(x | z) in place of a draw.
  """

  def sample(model, key, num, *, condition=None, mean=False):
    z_key, x_key = jax.random.split(key)
    value = net.embed(condition, num)
    encode = net.pseudo_posterior(model.params, model.extra)
    z = net.prior.draw(model.params.get(PRIOR, {}), encode, z_key, num)
    parameters = players.apply_trained(net.decoder, DECODER, model, z, value)
    if mean:
      return net.observation.mean(parameters)
    return net.observation.draw(x_key, parameters)

  return sample


def queries(net: Networks) -> dict[str, Callable]:
  """The queries of a trained model.

  `elbo` is by one draw, `iwae` by as many as are asked for, `log_prob_estimate` by
  annealed importance sampling from the posterior, whose options are its sizes; its
  logarithm is low on average. `encode` gives the mean of the posterior (or its center,
  see `latent_priors.Transformed`), `decode` that
  of the observation, and `reconstruct` both in turn.
  """

  def trained(model, key, x, condition, num=1):
    value = net.embed(condition, len(x))
    return draws(net, *model, key, x, value, num=num, train=False)

  def elbo(model, key, x, *, condition=None):
    drawn = trained(model, key, x, condition)
    terms = drawn.terms(drawn.z)
    return variational.elbo(terms.log_likelihood[0], prior_term(drawn, terms))

  def iwae(model, key, x, *, num_samples, condition=None):
    def log_weights(key, num):
      drawn = trained(model, key, x, condition, num)
      return drawn.terms(drawn.z).log_weights

    return importance.importance_bound(log_weights, key, num_samples)[0]

  def posterior(model, key, x, *, condition=None):
    return trained(model, key, x, condition).q

  def encode(model, key, x, *, condition=None):
    return posterior(model, key, x, condition=condition).mean

  def decode(model, key, z, *, condition=None):
    del key
    value = net.embed(condition, len(z))
    parameters = players.apply_trained(net.decoder, DECODER, model, z, value)
    return net.observation.mean(parameters)

  def reconstruct(model, key, x, *, condition=None):
    z = encode(model, key, x, condition=condition)
    return decode(model, key, z, condition=condition)

  def prior(model, key, num, *, condition=None):
    del condition  # one prior for all
    encode = net.pseudo_posterior(model.params, model.extra)
    return net.prior.draw(model.params.get(PRIOR, {}), encode, key, num)

  def log_prior(model, key, z, *, condition=None):
    del key, condition
    encode = net.pseudo_posterior(model.params, model.extra)
    return net.prior.log_prob(model.params.get(PRIOR, {}), encode, z)

  def log_prob_estimate(
    model, key, x, *, condition=None, num_chains=16, num_steps=300, num_leapfrog=10
  ):
    value = net.embed(condition, len(x))

    def log_likelihood(z, data):
      parameters = players.apply_trained(net.decoder, DECODER, model, z, data['value'])
      return net.observation.log_prob(parameters, data['x'])

    def q(data):
      out = players.apply_trained(net.encoder, ENCODER, model, data['x'], data['value'])
      return net.posterior(model.params, out)

    found = annealed.forward(
      annealed.Decoder(
        log_likelihood,
        lambda z: log_prior(model, key, z),
        lambda key, num: prior(model, key, num),
      ),
      key,
      {'x': x, 'value': value},
      posterior=annealed.Posterior(
        lambda key, data: q(data).draw(key, 1)[0],
        lambda z, data: q(data).log_prob(z),
      ),
      chains=annealed.Chains(num_chains, num_steps, num_leapfrog),
    )
    return found.log_prob, found.standard_error

  found = (
    elbo, iwae, log_prob_estimate, posterior, encode, decode, reconstruct, prior,
    log_prior,
  )  # fmt: skip
  names = {fn.__name__: fn for fn in found}
  if net.flow is not None:
    del names['posterior']  # not of parameters of examples alone
  return names


def method(
  net: Networks,
  tx: optax.GradientTransformation,
  objective: Objective,
  *,
  num_draws: int = 1,
) -> base.Method:
  """A method that maximizes an objective of draws of the batch's codes.

  Args:
    net: the networks.
    tx: the optimizer of all of them, and of the prior.
    objective: what is maximized.
    num_draws: K, of each example in training.

  Raises:
    ValueError: K < 1; at init, networks whose outputs have other shapes.
  """
  if num_draws < 1:
    raise ValueError(f'num_draws must be >= 1, got {num_draws}')

  def loss_fn(params, extra, key, batch):
    value = conditions.training_embedding(net.condition, key, batch)
    drawn = draws(net, params, extra, key, batch['x'], value, num=num_draws, train=True)
    bound, terms, metrics = objective(drawn)
    metrics = {
      'reconstruction': terms.log_likelihood,
      'prior_term': prior_term(drawn, terms),
      **metrics,
    }
    model_state = {ENCODER: drawn.model_state, DECODER: terms.model_state}
    extra = players.with_collections(extra, model_state)
    return -bound.mean(), (extra, {name: m.mean() for name, m in metrics.items()})

  return gradient.from_loss(
    loss_fn,
    tx,
    lambda key, batch: init(net, key, batch),
    card=CARD._replace(
      measure=net.observation.measure, condition=conditions.names(net.condition)
    ),
    sample=sampler(net),
    queries=queries(net),
  )
