"""Row of the table of laws: a diffusion model of a frozen auto-encoder's latents."""

import optax
from rows import diffusion
from rows.common import Row

from gm_jax import conditions, latent_spaces
from gm_jax.methods import autoencoder, edm, latent_diffusion
from gm_jax.models import mlp


def of_class(wrap, prior):
  """Codes of a perceptron, random; told a class, which is left out now and then."""
  del prior
  first = autoencoder.autoencoder(
    mlp.MLP((8, 2)), mlp.MLP((8, 2)), wrap(optax.identity())
  )
  condition = conditions.optional(conditions.by_class(2), 0.2)
  second = edm.edm(
    diffusion.NETWORK, wrap(diffusion.TX()), shape=(2,), data_std=1.0,
    condition=condition, last=20.0,
  )  # fmt: skip
  space = latent_spaces.by_codes(first)
  return latent_diffusion.latent_diffusion(space, second, shape=(2,))


ROWS = {'latent_diffusion': Row(of_class, diffusion.of_two_classes, falls=False)}
