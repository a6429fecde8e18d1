"""Generative moment matching networks: no critic, a kernel tells samples from data.

  min_G L({x_i}, {G(z_i)}),  L a discrepancy of two samples, as the root of MMD^2;

in the space of a trained auto-encoder's codes, where a fixed kernel sees more,

  min_G L({e(x_i)}, {G(z_i)}),  and samples are d(G(z)).

Batch-coupled: the discrepancy is of the whole batch.

Source: Generative Moment Matching Networks, Li et al., 2015, arXiv:1502.02761,
sections 3 and 4.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import optax

from gm_jax import adversaries, base, players, priors
from gm_jax.methods import autoencoder
from gm_jax.methods.autoencoder import DECODER, ENCODER
from gm_jax.players import GENERATOR

AUTOENCODER = 'autoencoder'  # the frozen network's name
CARD = autoencoder.CARD._replace(
  sampling='exact', sampling_cost='one_pass', training=('moment_matching',)
)


class Codes(NamedTuple):
  """The auto-encoder in whose codes samples are matched."""

  encoder: nn.Module  # x [B, ...] -> z [B, Z]
  decoder: nn.Module  # z [B, Z] -> x [B, ...]


def gmmn(
  generator: nn.Module,
  tx: optax.GradientTransformation,
  *,
  prior: priors.Prior,
  discrepancy: Callable[[base.Array, base.Array], base.Array],
  codes: Codes | None = None,
) -> base.Method:
  """A generator trained on a discrepancy.

  Args:
    generator: z [B, Z] -> x [B, ...], or the code [B, K] if there are `codes`.
    tx: its optimizer.
    prior: (key, num) -> z [num, Z].
    discrepancy: (data [B, D], samples [B, D]) -> [], of examples made flat.
    codes: None in data space. The auto-encoder stands in `State.extra['frozen']`, by
      the name 'autoencoder', random at first: `after_autoencoder` puts a trained one.

  Returns:
    The method; queries `decode`, `prior` and, of a prior with a density, `log_prior`.
  """

  def init(key, batch):
    g_key, z_key, codes_key = jax.random.split(key, 3)
    g = players.new_player(generator, tx, g_key, prior(z_key, 2))
    if codes is None:
      return players.first_state({GENERATOR: g})
    pair = players.new_group(
      optax.identity(), autoencoder.init_pair(*codes, codes_key, batch['x'])
    )
    extra = players.with_collections({}, pair.model_state)
    frozen = {AUTOENCODER: base.Model(pair.params, extra)}
    return players.first_state({GENERATOR: g}, {base.FROZEN: frozen})

  def in_matched_space(extra, x):
    if codes is not None:
      frozen = extra[base.FROZEN][AUTOENCODER]
      x = players.apply_trained(codes.encoder, ENCODER, frozen, x)
    return x.reshape(len(x), -1)

  def loss_fn(params, model_state, key, real):
    z_key, g_key = jax.random.split(key)
    z = prior(z_key, len(real))
    fake, model_state = players.apply(generator, params, model_state, z, key=g_key)
    return discrepancy(real, fake.reshape(len(fake), -1)), (model_state, {})

  def step(state, key, batch):
    g = players.get(state, GENERATOR)
    real = in_matched_space(state.extra, batch['x'])
    g, loss, _ = players.gradient_step(loss_fn, tx, g, key, real)
    return players.after_step(state, {GENERATOR: g}), {'loss': loss}

  queries = adversaries.latent_queries(generator, prior)

  def decode(model, key, z, *, condition=None):
    x = queries['decode'](model, key, z, condition=condition)
    if codes is None:
      return x
    frozen = model.extra[base.FROZEN][AUTOENCODER]
    return players.apply_trained(codes.decoder, DECODER, frozen, x)

  def sample(model, key, num, *, condition=None):
    return decode(model, None, prior(key, num), condition=condition)

  return base.Method(CARD, init, step, sample, queries={**queries, 'decode': decode})


def after_autoencoder(method: base.Method) -> Callable:
  """The `Phase.enter` of a method with codes: a trained auto-encoder's, frozen.

  Args:
    method: of `gmmn` with `codes`.

  Returns:
    (key, state of `autoencoder`, batch) -> state of `method` at the same step.
  """
  return players.after_frozen(method, AUTOENCODER)
