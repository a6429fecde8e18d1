"""Latent diffusion: a diffusion model of the latents of a frozen auto-encoder.

  z = (e(x) - m) / s,   a diffusion model of z,   samples d(m + s z)

with encoder e and decoder d trained before, m the mean of each channel of e(x) and s
the deviation of all its numbers about these, measured on the batch that the second
phase begins with: the model sees latents of deviation 1, whatever their unit. (The
paper has no m.) There is no density of data, for the decoder has none.

Source: High-Resolution Image Synthesis with Latent Diffusion Models, Rombach et al.,
2022, arXiv:2112.10752, sections 3.1, 3.2 and, on the scale, appendix G.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from gm_jax import base, imputation, latent_spaces, players
from gm_jax.latent_spaces import Autoencoder
from gm_jax.losses import quantization
from gm_jax.methods import vq_vae

AUTOENCODER = 'autoencoder'  # the frozen networks' name
UNIT = 'unit'  # the collection of what is measured of latents


def by_vectors(net: vq_vae.Networks, method: base.Method) -> Autoencoder:
  """The auto-encoder of a VQ-VAE: latents are vectors, which decoding quantizes.

  Args:
    net: of the VQ-VAE.
    method: of `vq_vae`, of these.
  """

  def encode(model, key, x):
    del key
    return players.apply_trained(net.encoder, vq_vae.ENCODER, model, x)

  def decode(model, z):
    codes = quantization.nearest(z, model.extra[vq_vae.CODEBOOK].codes)
    return method.queries['decode'](model, None, codes)

  return Autoencoder(method.init, encode, decode, encode)


def latent_diffusion(
  autoencoder: Autoencoder, prior: base.Method, *, shape: Sequence[int]
) -> base.Method:
  """A diffusion model of a frozen auto-encoder's latents, and with it one of data.

  Args:
    autoencoder: its model stands in `State.extra['frozen']`, by the name 'autoencoder',
      random at first: `after_autoencoder` puts a trained one.
    prior: of latents of deviation 1: `edm` with `data_std=1`, `flow_matching`, any
      with samples. What else a batch holds, as labels, it is given too.
    shape: of an example's latents, as the prior has it.

  Returns:
    The method; queries `encode`, `decode`, `reconstruct` and `prior`, of latents as the
    prior sees them. Samples have the prior's options. Of latents on a grid also
    `impute`, where the prior has it: the latents of hidden pixels are drawn given those
    of which all pixels are known, and known pixels stay as they are.

  Raises:
    ValueError: a prior without samples; when called, latents of another shape.
  """
  if prior.sample is None:
    raise ValueError('a prior of latents must have samples')

  def own(carried):
    """The state or model without what is frozen and measured: the prior's."""
    extra = {k: v for k, v in carried.extra.items() if k not in (base.FROZEN, UNIT)}
    return carried._replace(extra=extra)

  def in_latents(extra, key, batch):
    z = autoencoder.draw(extra[base.FROZEN][AUTOENCODER], key, batch['x'])
    return {**batch, 'x': latent_spaces.scaled(extra[UNIT], z, shape)}

  def init(key, batch):
    frozen_key, z_key, key = jax.random.split(key, 3)
    state = autoencoder.init(frozen_key, batch)
    frozen = base.Model(state.params, state.extra)
    extra = _carried(autoencoder, z_key, frozen, batch)
    state = prior.init(key, in_latents(extra, z_key, batch))
    return state._replace(extra={**state.extra, **extra})

  def step(state, key, batch):
    z_key, key = jax.random.split(key)
    extra = {name: state.extra[name] for name in (base.FROZEN, UNIT)}
    after, metrics = prior.step(own(state), key, in_latents(extra, z_key, batch))
    state = after._replace(extra={**after.extra, **extra})
    return state, {**metrics, 'scale': extra[UNIT].scale}

  @functools.wraps(prior.sample)
  def draw(model, key, num, **options):
    return prior.sample(own(model), key, num, **options)

  @functools.wraps(prior.sample)
  def sample(model, key, num, **options):
    return decode(model, None, draw(model, key, num, **options))

  def encode(model, key, x, *, condition=None):
    del condition  # latents stand for all that a sample is conditioned on
    z = autoencoder.encode(model.extra[base.FROZEN][AUTOENCODER], key, x)
    return latent_spaces.scaled(model.extra[UNIT], z, shape)

  def decode(model, key, z, *, condition=None):
    del key, condition
    z = model.extra[UNIT].mean + model.extra[UNIT].scale * z
    return autoencoder.decode(model.extra[base.FROZEN][AUTOENCODER], z)

  def reconstruct(model, key, x, *, condition=None):
    return decode(model, None, encode(model, key, x), condition=condition)

  def impute(model, key, x, observed, **options):
    imputation.check(x, observed, x.shape[1:])
    z = encode(model, key, latent_spaces.filled(x, observed))
    known = latent_spaces.observed_latents(observed, shape)
    found = prior.queries['impute'](own(model), key, z, known, **options)
    out = decode(model, None, found.reshape(-1, *shape)).reshape(-1, *x.shape)
    return jnp.where(observed, x, out)

  kind = dict(density='none', density_cost='none', measure='none', latents='continuous')
  card = prior.card._replace(**kind)
  queries = dict(encode=encode, decode=decode, reconstruct=reconstruct, prior=draw)
  if 'impute' in prior.queries and len(shape) == 3:
    queries['impute'] = functools.wraps(prior.queries['impute'])(impute)
  return base.Method(card, init, step, sample, queries=queries)


def after_autoencoder(method: base.Method, autoencoder: Autoencoder) -> Callable:
  """The `Phase.enter` of a latent diffusion: a trained auto-encoder, frozen; measures.

  Args:
    method: of `latent_diffusion`.
    autoencoder: its own.

  Returns:
    (key, state of the auto-encoder or its `Model` of another run, batch) -> state of
    `method`, which refuses other networks than its own by a ValueError.
  """
  freeze = players.after_frozen(method, AUTOENCODER)

  def enter(key, previous, batch):
    needed = jax.eval_shape(autoencoder.init, key, batch)
    shapes = [jax.tree.map(jnp.shape, (s.params, s.extra)) for s in (needed, previous)]
    if shapes[0] != shapes[1]:
      raise ValueError('the auto-encoder has other networks than this model is of')
    state = freeze(key, previous, batch)
    frozen = state.extra[base.FROZEN][AUTOENCODER]
    extra = _carried(autoencoder, jax.random.fold_in(key, 1), frozen, batch)
    return state._replace(extra={**state.extra, **extra})

  return enter


def _carried(autoencoder, key, frozen, batch) -> dict:
  """A frozen model and its latents' unit, which are carried beside the prior."""
  z = autoencoder.draw(frozen, key, batch['x'])
  return {base.FROZEN: {AUTOENCODER: frozen}, UNIT: latent_spaces.measured(z)}
