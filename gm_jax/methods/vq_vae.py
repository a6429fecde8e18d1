"""VQ-VAE: an auto-encoder whose codes are integers, of a learned table of vectors.

  min E_x[-log p(x | e_c) + w |z - sg[e_c]|^2],  z = encoder(x), c = argmin_k |z - e_k|

at every place of a grid, in nats, squares summed over places and dimensions. The choice
has no gradient: the decoder's at e_c goes to z as it is. Nor has the table: a vector of
it is the decayed average of the z that chose it, and one that hardly any chooses begins
anew at a z of the batch. Batch-coupled: the table, and its first vectors.

The table is one of `base.AVERAGED`: where weights are averaged so are its vectors, over
the same steps. As a vector is an average of the encoder's anyway, an averaged encoder
and an averaged table lag alike; with the latest table it would not fit. Its counts and
sums are averaged too, and read by nobody. There is no distribution of codes yet:
`code_prior` fits one, and has the samples.

Source: Neural Discrete Representation Learning, van den Oord et al., 2017,
arXiv:1711.00937, equation 3 and appendix A.1.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import base, gradient, observations, players
from gm_jax.losses import quantization

ENCODER, DECODER, CODEBOOK = 'encoder', 'decoder', 'codebook'
CARD = base.Card(
  density='none',
  density_cost='none',
  measure='none',
  sampling='none',
  sampling_cost='none',
  training=('variational',),
  latents='discrete',
  architecture='any',
)


class Networks(NamedTuple):
  """An auto-encoder through a table of K vectors.

  encoder: x [B, ...] -> z [B, ..., D], one vector a place.
  decoder: vectors [B, ..., D] -> parameters [B, ...] of the observation.
  """

  encoder: nn.Module
  decoder: nn.Module
  observation: observations.Observation
  num_codes: int  # K


def init(net: Networks, key: base.Array, batch: base.Batch) -> tuple[dict, dict]:
  """Parameters by player, other collections, and the table: vectors of the batch.

  Raises:
    ValueError: fewer vectors in the batch than codes, or a decoder whose output does
      not fit the observation.
  """
  e_key, z_key, table_key, d_key = jax.random.split(key, 4)
  x = batch['x']
  e = players.init(net.encoder, e_key, x[:2])
  z, _ = players.apply(net.encoder, *e, x, key=z_key)
  empty = quantization.codebook(jnp.zeros((net.num_codes, z.shape[-1]), z.dtype))
  book = quantization.restarted(empty, table_key, z, least=1.0)
  d = players.init(net.decoder, d_key, z[:2])
  parameters, _ = players.apply(net.decoder, *d, z[:2], train=False)
  net.observation.check_parameters(parameters, x)
  extra = players.with_collections({}, {ENCODER: e[1], DECODER: d[1]})
  return {ENCODER: e[0], DECODER: d[0]}, {**extra, CODEBOOK: book}


def decoded(net: Networks, model: base.Model, codes: base.Array) -> base.Array:
  """The parameters of p(x | codes), codes integers `[B, ...]` in [0, K)."""
  vectors = model.extra[CODEBOOK].codes[codes]
  return players.apply_trained(net.decoder, DECODER, model, vectors)


def queries(
  net: Networks, part: Callable[[base.Model], base.Model] = lambda model: model
) -> dict[str, Callable]:
  """The queries `encode`, to integers, `decode` and `reconstruct`, by the mean.

  They ignore a condition: codes stand for all that a sample is conditioned on.

  Args:
    net: the networks.
    part: of the model asked, the one that has their parameters.
  """

  def encode(model, key, x, *, condition=None):
    del key, condition
    z = players.apply_trained(net.encoder, ENCODER, part(model), x)
    return quantization.nearest(z, part(model).extra[CODEBOOK].codes)

  def decode(model, key, z, *, condition=None):
    del key, condition
    return net.observation.mean(decoded(net, part(model), z))

  def reconstruct(model, key, x, *, condition=None):
    return decode(model, key, encode(model, key, x), condition=condition)

  return {'encode': encode, 'decode': decode, 'reconstruct': reconstruct}


def vq_vae(
  net: Networks,
  tx: optax.GradientTransformation,
  *,
  commitment: float = 0.25,
  decay: float = 0.99,
  least: float = 1e-3,
) -> base.Method:
  """A VQ-VAE, without a distribution of its codes.

  Args:
    net: encoder, decoder, observation model, number of codes.
    tx: the optimizer of encoder and decoder.
    commitment: w, nats for a vector at a distance of 1 from its code; >= 0.
    decay: of the averages a step, in [0, 1).
    least: decayed count below which a code begins anew; 0 for never. A code that n
      vectors choose has a count of (1 - decay) n after that step, and a code chosen in
      every step by n vectors one of n.

  Returns:
    The method, without samples; queries `encode`, `decode`, `reconstruct`.

  Raises:
    ValueError: a number out of range; at init, fewer vectors in a batch than codes, or
      a decoder that does not fit.
  """
  if not commitment >= 0 or not least >= 0 or not 0 <= decay < 1 or net.num_codes < 1:
    raise ValueError(
      'commitment and least must be >= 0, decay in [0, 1) and num_codes >= 1, got'
      f' {commitment}, {least}, {decay} and {net.num_codes}'
    )

  def loss_fn(params, extra, key, batch):
    e_key, d_key, restart_key = jax.random.split(key, 3)
    x, book = batch['x'], extra[CODEBOOK]
    e_state, d_state = (players.collections(extra, n) for n in (ENCODER, DECODER))
    # 1. Vectors, and the code that is nearest to each.
    z, e_state = players.apply(net.encoder, params[ENCODER], e_state, x, key=e_key)
    index = quantization.nearest(z, book.codes)
    quantized = book.codes[index]
    # 2. The decoder sees the codes, the encoder the decoder's gradient.
    passed = quantization.straight_through(z, quantized)
    parameters, d_state = players.apply(
      net.decoder, params[DECODER], d_state, passed, key=d_key
    )
    log_likelihood = net.observation.log_prob(parameters, x)
    distance = quantization.commitment(z, quantized)
    # 3. The table follows its vectors.
    book = quantization.updated(book, z, index, decay=decay)
    book = quantization.restarted(book, restart_key, z, least=least)
    counts = jnp.bincount(index.ravel(), length=net.num_codes)
    metrics = {
      'reconstruction': log_likelihood.mean(),
      'commitment': distance.mean(),
      'perplexity': quantization.perplexity(counts),  # of the batch
    }
    extra = players.with_collections(extra, {ENCODER: e_state, DECODER: d_state})
    loss = (commitment * distance - log_likelihood).mean()
    return loss, ({**extra, CODEBOOK: book}, metrics)

  return gradient.from_loss(
    loss_fn,
    tx,
    lambda key, batch: init(net, key, batch),
    card=CARD,
    queries=queries(net),
  )
