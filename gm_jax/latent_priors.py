"""Priors p(z) of latent-variable models, with densities and perhaps parameters.

  log p(x) >= E_q[log p(x | z)] - KL(q(z | x) || p(z))

Where prior and posterior are Gaussian the last term has a closed form, and that is why
most variational auto-encoders have a Gaussian prior. Any other will do whose density
can be evaluated and differentiated: the term is then log q(z | x) - log p(z) at a draw,
whose expectation it is, at the price of its noise.

A prior may use the encoder: `encode` maps x to the posterior of its code. Densities are
in nats, over the last axis of z.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from gm_jax import base, bijectors
from gm_jax.losses import variational


class Gaussian(NamedTuple):
  """A diagonal Gaussian, as posteriors are."""

  mean: base.Array  # [..., Z]
  log_std: base.Array  # [..., Z], logarithms of the standard deviations

  def log_prob(self, z: base.Array) -> base.Array:
    """The log-density of z `[..., Z]`, `[...]` nats."""
    return variational.gaussian_log_prob_each(self.mean, self.log_std, z).sum(axis=-1)

  def draw(self, key: base.Array, num: int) -> base.Array:
    """Draws `[num, ..., Z]`, with a gradient."""
    noise = jax.random.normal(key, (num, *self.mean.shape), self.mean.dtype)
    return self.mean + jnp.exp(self.log_std) * noise


@flax.struct.dataclass
class Transformed:
  """A Gaussian seen through an invertible map: a posterior that is none itself.

  Source: Variational Inference with Normalizing Flows, Rezende and Mohamed, 2015,
  arXiv:1505.05770, section 4.

  Attributes:
    noise: the Gaussian `[..., Z]`.
    params: of the map.
    condition: `[..., C]`, given to the map.
    bijection: from codes to the noise; its inverse draws.
  """

  noise: Gaussian
  params: Any
  condition: base.Array
  bijection: bijectors.Bijection = flax.struct.field(pytree_node=False)

  @property
  def mean(self) -> base.Array:
    """The Gaussian's mean through the map, `[..., Z]`: a center and not the mean."""
    return self._mapped(self.bijection.inverse, self.noise.mean)[0]

  def _mapped(self, fn: Callable, z: base.Array) -> tuple[base.Array, base.Array]:
    shape = jnp.broadcast_shapes(z.shape, self.noise.mean.shape)
    condition = jnp.broadcast_to(
      self.condition, (*shape[:-1], self.condition.shape[-1])
    )
    flat = jnp.broadcast_to(z, shape).reshape(-1, shape[-1])
    out, log_det = fn(self.params, flat, condition.reshape(len(flat), -1))
    return out.reshape(shape), log_det.reshape(shape[:-1])

  def log_prob(self, z: base.Array) -> base.Array:
    """The log-density of z `[..., Z]`, `[...]` nats."""
    noise, log_det = self._mapped(self.bijection.forward, z)
    return self.noise.log_prob(noise) + log_det

  def draw(self, key: base.Array, num: int) -> base.Array:
    """Draws `[num, ..., Z]`, with a gradient."""
    return self._mapped(self.bijection.inverse, self.noise.draw(key, num))[0]


Encode = Callable[[base.Array], Gaussian]


class LatentPrior(NamedTuple):
  """A distribution of codes."""

  size: int  # Z
  init: Callable[[base.Array], dict]  # key -> parameters, {} where none are learned
  # (parameters, encode, z [N, Z]) -> [N] nats
  log_prob: Callable[[Any, Encode, base.Array], base.Array]
  # (parameters, encode, key, num) -> z [num, Z]
  draw: Callable[[Any, Encode, base.Array, int], base.Array]
  # posterior [B, Z] -> [B, Z] nats of each dimension, where there is a closed form
  kl_each: Callable[[Gaussian], base.Array] | None = None


def normal(size: int) -> LatentPrior:
  """The prior N(0, I), whose divergence has a closed form.

  Args:
    size: Z.
  """
  standard = Gaussian(jnp.zeros(()), jnp.zeros(()))
  return LatentPrior(
    size=size,
    init=lambda key: {},
    log_prob=lambda params, encode, z: standard.log_prob(z),
    draw=lambda params, encode, key, num: jax.random.normal(key, (num, size)),
    kl_each=lambda q: variational.standard_normal_kl_each(q.mean, q.log_std),
  )


def mixture(size: int, num_components: int) -> LatentPrior:
  """A mixture of diagonal Gaussians, all of it learned.

  Args:
    size: Z.
    num_components: K.

  Raises:
    ValueError: K < 1.
  """
  _check_components(num_components)

  def init(key):
    mean = jax.random.normal(key, (num_components, size))
    zeros = jnp.zeros((num_components, size))
    return {'logits': zeros[:, 0], 'mean': mean, 'log_std': zeros}

  def components(params, encode):
    del encode
    return params['logits'], Gaussian(params['mean'], params['log_std'])

  return _of_components(size, init, components)


def vamp(
  size: int, shape: Sequence[int], num_components: int, *, low: float, high: float,
  start: float, spread: float,
) -> LatentPrior:  # fmt: skip
  """The mixture of posteriors of learned pseudo-inputs u_k, all of one weight.

    p(z) = 1/K sum_k q(z | u_k),  u_k in [low, high]

  The best prior for the ELBO is the mean of all posteriors of the data; this is one of
  few. Its samples are of components drawn uniformly (public code takes the first ones).

  Source: VAE with a VampPrior, Tomczak and Welling, 2018, arXiv:1705.07120, eq. 9.

  Args:
    size: Z.
    shape: of an example.
    num_components: K.
    low: least value of the data in model space.
    high: largest.
    start: mean of the pseudo-inputs in the beginning.
    spread: their standard deviation in the beginning.

  Raises:
    ValueError: K < 1, or `start` outside [low, high].
  """
  _check_components(num_components)
  if not low <= start <= high:
    raise ValueError(f'start must be in [{low}, {high}], got {start}')

  def init(key):
    noise = jax.random.normal(key, (num_components, *shape))
    return {'pseudo_inputs': start + spread * noise}

  def components(params, encode):
    inputs = jnp.clip(params['pseudo_inputs'], low, high)
    return jnp.zeros(num_components), encode(inputs)

  return _of_components(size, init, components)


def flow(size: int, bijection: bijectors.Bijection) -> LatentPrior:
  """A standard normal distribution seen through an invertible map, which is learned.

  Source: Variational Lossy Autoencoder, Chen et al., 2017, arXiv:1611.02731, section
  3.2.

  Args:
    size: Z.
    bijection: from codes `[N, Z]` to the noise.
  """
  standard = Gaussian(jnp.zeros(()), jnp.zeros(()))

  def init(key):
    z_key, key = jax.random.split(key)
    return {'flow': bijection.init(key, jax.random.normal(z_key, (256, size)))}

  def log_prob(params, encode, z):
    noise, log_det = bijection.forward(params['flow'], z)
    return standard.log_prob(noise) + log_det

  def draw(params, encode, key, num):
    return bijection.inverse(params['flow'], jax.random.normal(key, (num, size)))[0]

  return LatentPrior(size, init, log_prob, draw)


def _of_components(size: int, init: Callable, components: Callable) -> LatentPrior:
  """The prior of Gaussians: `components(params, encode) -> (logits [K], Gaussian)`."""

  def log_prob(params, encode, z):
    logits, each = components(params, encode)
    log_prob_each = each.log_prob(z[:, None])  # [N, K]
    return jax.nn.logsumexp(jax.nn.log_softmax(logits) + log_prob_each, axis=1)

  def draw(params, encode, key, num):
    which_key, z_key = jax.random.split(key)
    logits, each = components(params, encode)
    which = jax.random.categorical(which_key, logits, shape=(num,))
    chosen = jax.tree.map(lambda a: a[which], each)
    return chosen.draw(z_key, 1)[0]

  return LatentPrior(size, init, log_prob, draw)


def _check_components(num_components: int) -> None:
  if num_components < 1:
    raise ValueError(f'num_components must be >= 1, got {num_components}')


def log_prob_of_draws(
  prior: LatentPrior, params: Any, encode: Encode, z: base.Array
) -> base.Array:
  """The log-density of codes with any leading axes, `[..., Z] -> [...]` nats."""
  flat = prior.log_prob(params, encode, z.reshape(math.prod(z.shape[:-1]), -1))
  return flat.reshape(z.shape[:-1])
