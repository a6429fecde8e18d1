"""A prior of codes: what makes a VQ-VAE a generative model, fitted after it.

  max E_x log p(c(x)),  log p(x) = log sum_c p(c) p(x | c) >= log p(x | c(x)) p(c(x))

with encoder, table and decoder of the trained VQ-VAE, frozen, and any model of integers
for p(c): a causal transformer, a PixelCNN. The bound is the ELBO of a posterior that is
certain of c(x), the only code it knows: what other codes would add to the sum is lost.
It is nats of the data, as the observation measures them.

Source: Neural Discrete Representation Learning, van den Oord et al., 2017,
arXiv:1711.00937, section 3.3.
"""

from collections.abc import Callable

import jax

from gm_jax import base, players
from gm_jax.methods import vq_vae

VQ_VAE = 'vq_vae'  # the frozen networks' name


def code_prior(net: vq_vae.Networks, prior: base.Method) -> base.Method:
  """A model of the codes of a frozen VQ-VAE, and with it one of the data.

  Args:
    net: of the VQ-VAE. It stands in `State.extra['frozen']`, by the name 'vq_vae',
      random at first: `after_vq_vae` puts a trained one.
    prior: a model of integers in [0, K) of the shape of an example's codes, with
      samples and `log_prob`. Whatever else a batch holds, as labels, it is given too.

  Returns:
    The method; queries `elbo`, `encode`, `decode`, `reconstruct`. The option `mean` of
    its samples gives the mean of p(x | c) in place of a draw.

  Raises:
    ValueError: a prior without samples or without `log_prob`.
  """
  if prior.sample is None or prior.log_prob is None:
    raise ValueError('a prior of codes must have samples and log_prob')
  encode = vq_vae.queries(net)['encode']

  def frozen_of(carried):
    return carried.extra[base.FROZEN][VQ_VAE]

  def prior_of(carried):
    """The state or model without what is frozen: the prior's own."""
    extra = {name: part for name, part in carried.extra.items() if name != base.FROZEN}
    return carried._replace(extra=extra)

  def joined(state, frozen):
    return state._replace(extra={**state.extra, base.FROZEN: {VQ_VAE: frozen}})

  def in_codes(frozen, batch):
    return {**batch, 'x': encode(frozen, None, batch['x'])}

  def init(key, batch):
    frozen_key, prior_key = jax.random.split(key)
    frozen = base.Model(*vq_vae.init(net, frozen_key, batch))
    return joined(prior.init(prior_key, in_codes(frozen, batch)), frozen)

  def step(state, key, batch):
    frozen = frozen_of(state)
    after, metrics = prior.step(prior_of(state), key, in_codes(frozen, batch))
    return joined(after, frozen), metrics

  def sample(model, key, num, *, condition=None, mean=False):
    codes_key, x_key = jax.random.split(key)
    codes = prior.sample(prior_of(model), codes_key, num, condition=condition)
    parameters = vq_vae.decoded(net, frozen_of(model), codes)
    if mean:
      return net.observation.mean(parameters)
    return net.observation.draw(x_key, parameters)

  def elbo(model, key, x, *, condition=None):
    codes = encode(frozen_of(model), None, x)
    parameters = vq_vae.decoded(net, frozen_of(model), codes)
    log_prior = prior.log_prob(prior_of(model), key, codes, condition=condition)
    return net.observation.log_prob(parameters, x) + log_prior

  card = prior.card._replace(
    density='lower_bound', measure=net.observation.measure, latents='discrete'
  )
  queries = {'elbo': elbo, **vq_vae.queries(net, frozen_of)}
  return base.Method(card, init, step, sample, queries=queries)


def after_vq_vae(method: base.Method) -> Callable:
  """The `Phase.enter` of a prior of codes: a trained VQ-VAE, frozen.

  Args:
    method: of `code_prior`.

  Returns:
    (key, state of `vq_vae`, batch) -> state of `method` at the same step.
  """
  return players.after_frozen(method, VQ_VAE)
