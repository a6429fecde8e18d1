"""Rows of the table of laws: models whose likelihood is exact."""

import functools

import jax
import jax.numpy as jnp
import optax
from rows.common import Row, plane

from gm_jax.losses import likelihood
from gm_jax.methods import autoregressive, eonade, kde, made, mixture, tables
from gm_jax.models import made as made_network
from gm_jax.models import mlp, nade, pixelcnn, transformer
from gm_jax.samplers import autoregressive as sampler

TX = functools.partial(optax.adam, 5e-3)
NUM, LEVELS = 5, 2
BINARY = {'likelihood': likelihood.bernoulli, 'draw': sampler.bernoulli}
TOKENS = {'likelihood': likelihood.categorical, 'draw': sampler.categorical}


def bits(num):
  """Draws [num, 5] in {0, 1}, each like the one before more often than not."""

  def batch(key):
    steps = jax.random.bernoulli(key, 0.25, (num, NUM)).astype(jnp.int32)
    return {'x': jnp.cumsum(steps, axis=1) % 2}

  return batch


def counting(make, **kwargs):
  return lambda wrap, prior: make((NUM,), LEVELS, smoothing=0.5, **kwargs)


def by_nade(wrap, prior):
  del prior
  module = nade.NADE(NUM, 8)
  return autoregressive.autoregressive(module, wrap(TX()), shape=(NUM,), **BINARY)


def by_transformer(wrap, prior):
  del prior
  module = transformer.Transformer(NUM, LEVELS, width=8, num_layers=1, heads=2)
  return autoregressive.autoregressive(module, wrap(TX()), shape=(NUM,), **TOKENS)


def tiles(shape, levels):
  """Draws [64, *shape] integers, all of an example nearly alike."""

  def batch(key):
    keys = jax.random.split(key)
    one = jax.random.randint(keys[0], (64, *(1 for _ in shape)), 0, levels)
    return {'x': (one + jax.random.bernoulli(keys[1], 0.2, (64, *shape))) % levels}

  return batch


def by_pixelcnn(network):
  def make(wrap, prior):
    del prior
    module = network(2, 2, LEVELS, features=4, num_layers=2, radius=1, dropout=0.1)
    tx = wrap(TX())
    return autoregressive.autoregressive(module, tx, shape=(2, 2, 1), **TOKENS)

  return make


def two_channels(wrap, prior):
  """Pixels whose channels are drawn together, as by PixelCNN++."""
  del prior
  outputs = likelihood.num_pixel_parameters(2, 2)
  module = pixelcnn.GatedPixelCNN(
    1, 2, 3, features=4, num_layers=2, radius=1, outputs=outputs, channels=2
  )
  return autoregressive.autoregressive(
    module, wrap(TX()), shape=(1, 2, 2), event=(2,), draw=sampler.pixels(2, 3),
    likelihood=functools.partial(likelihood.pixels, num_levels=3),
  )  # fmt: skip


def by_made(wrap, prior):
  del prior
  masks, found = made.mask_sets(0, NUM, (8,), num_sets=2)
  module = made_network.MADE(NUM, (8,))
  return made.made(
    module, wrap(TX()), shape=(NUM,), masks=masks, mask_orders=found, **BINARY
  )


def orderless(wrap, prior):
  del prior
  orders = [range(NUM), range(NUM)[::-1]]
  return eonade.eonade(mlp.MLP((8, NUM)), wrap(TX()), shape=(NUM,), ensemble=orders)


def points(wrap, prior):
  del wrap, prior
  return kde.kde((2,), 128, std=0.1)


def mixed(components, shape, num):
  return lambda wrap, prior: mixture.mixture(components, shape, num)


def exact(make, **kwargs):
  return Row(make, bits(64), falls=False, levels=LEVELS, **kwargs)


ROWS = {
  'full_table': exact(
    counting(tables.full_table), structure='what each device has of its own'
  ),
  'independent': exact(counting(tables.independent)),
  'markov_chain': exact(counting(tables.chain, memory=2)),
  'nade': exact(by_nade, structure='one player'),
  'transformer': exact(by_transformer),
  'pixelcnn': Row(
    by_pixelcnn(pixelcnn.PixelCNN),
    tiles((2, 2, 1), 2),
    falls=False,
    levels=2,
    slow=True,
  ),
  'gated_pixelcnn': Row(
    by_pixelcnn(pixelcnn.GatedPixelCNN),
    tiles((2, 2, 1), 2),
    falls=False,
    levels=2,
    slow=True,
  ),
  'pixelcnn_pp': Row(two_channels, tiles((1, 2, 2), 3), falls=False, levels=3),
  'made': exact(by_made),
  'eonade': exact(orderless),
  'bernoulli_mixture': exact(mixed(mixture.bernoullis(), (NUM,), 3)),
  'kde': Row(points, plane(64), falls=False),
  'gaussian_mixture': Row(mixed(mixture.gaussians(), (2,), 3), plane(64), falls=False),
}
