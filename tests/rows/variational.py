"""Rows of the table of laws: variational auto-encoders."""

import functools

import jax
import jax.numpy as jnp
import optax
from rows.common import Row, plane

from gm_jax import (
  amortized,
  bijectors,
  conditions,
  flow_layers,
  gradient,
  latent_priors,
  monotone,
  observations,
)
from gm_jax.losses import likelihood
from gm_jax.methods import (
  autoregressive,
  beta_tcvae,
  code_prior,
  hierarchical_vae,
  iwae,
  semi_supervised_vae,
  vae,
  vq_vae,
)
from gm_jax.models import flows, hierarchical, latent, mlp, transformer
from gm_jax.samplers import autoregressive as sampler

TX = functools.partial(optax.adam, 1e-2)


def networks(**changes):
  """Of the plane, with two codes and a learned deviation."""
  parts = {
    'encoder': latent.Encoder(mlp.MLP((16, 4))),
    'decoder': latent.Decoder(mlp.MLP((16, 4)), (2, 2)),
    'prior': latent_priors.normal(2),
    'observation': observations.gaussian(),
  }
  return amortized.Networks(**(parts | changes))


def variational(wrap, prior):
  del prior
  return vae.vae(networks(), wrap(TX()))


def importance_weighted(wrap, prior):
  del prior
  pseudo = latent_priors.vamp(2, (2,), 3, low=-3.0, high=3.0, start=0.0, spread=1.0)
  return iwae.iwae(networks(prior=pseudo), wrap(TX()), num_draws=3)


def total_correlation(wrap, prior):
  del prior
  return beta_tcvae.beta_tcvae(networks(), wrap(TX()), num_train=1000, beta=2.0)


def with_flows(wrap, prior):
  del prior
  layer = flow_layers.coupling(
    lambda outputs: flows.Residual(outputs, 8, 1), monotone.affine()
  )
  prior = latent_priors.flow(2, bijectors.chain(layer, bijectors.reverse()))
  return vae.vae(networks(prior=prior, flow=layer), wrap(TX()))


def conditional(wrap, prior):
  del prior
  by_class = conditions.optional(conditions.by_class(2), 0.1)
  mixed = latent_priors.mixture(2, 2)
  return vae.vae(networks(prior=mixed, condition=by_class), wrap(TX()))


def quantized_networks():
  """Two places, at each one of four vectors of three numbers."""
  return vq_vae.Networks(
    latent.Decoder(mlp.MLP((16, 6)), (2, 3)),
    latent.Decoder(mlp.MLP((16, 4)), (2, 2)),
    observations.gaussian(),
    num_codes=4,
  )


def quantized(wrap, prior):
  del prior
  return vq_vae.vq_vae(quantized_networks(), wrap(TX()))


def prior_of_codes(wrap, prior):
  del prior
  of_codes = autoregressive.autoregressive(
    transformer.Transformer(2, 4, width=8, num_layers=1, heads=2),
    wrap(TX()),
    shape=(2,),
    likelihood=likelihood.categorical,
    draw=sampler.categorical,
    condition=conditions.optional(conditions.by_class(2), 0.1),
  )
  return code_prior.code_prior(quantized_networks(), of_codes)


def labelled(num):
  def batch(key):
    x = plane(num)(key)['x']
    return {'x': x, 'label': (x[:, 0] > 1.0).astype('int32')}

  return batch


def ladder(wrap, prior):
  del prior
  module = hierarchical.Ladder((1, 2), 8, (2, 2))
  tx = wrap(gradient.skip_large(TX(), 100.0))
  return hierarchical_vae.hierarchical_vae(
    module, tx, observation=observations.gaussian(), warmup_steps=50
  )


def top_down(wrap, prior):
  del prior
  module = hierarchical.TopDown((1, 2), 4, 2, (4, 4, 1, 2))
  return hierarchical_vae.hierarchical_vae(
    module, wrap(TX()), observation=observations.gaussian()
  )


def semi_supervised(wrap, prior):
  del prior
  net = networks(condition=conditions.by_class(2))
  return semi_supervised_vae.semi_supervised_vae(
    net, mlp.MLP((8, 2)), wrap(TX()), num_classes=2, alpha=1.0
  )


def half_labelled(num):
  def batch(key):
    found = labelled(num)(key)
    hidden = jnp.arange(num) % 2 == 0
    return {'x': found['x'], 'label': jnp.where(hidden, -1, found['label'])}

  return batch


def small_images(num):
  return lambda key: {'x': jax.random.uniform(key, (num, 4, 4, 1), minval=-1.0)}


ROWS = {
  'vae': Row(variational, plane(64)),
  'conditional_vae': Row(conditional, labelled(64), falls=False, slow=True),
  'flow_vae': Row(with_flows, plane(64), falls=False),
  'iwae': Row(importance_weighted, plane(64)),
  'beta_tcvae': Row(total_correlation, plane(64)),
  'ladder_vae': Row(ladder, plane(64)),
  'top_down_vae': Row(top_down, small_images(16), falls=False, slow=True),
  'semi_supervised_vae': Row(semi_supervised, half_labelled(64)),
  'vq_vae': Row(quantized, plane(64), falls=False, structure='a codebook'),
  'code_prior': Row(prior_of_codes, labelled(64), falls=False),
}
