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

from gm_jax import base, gradient, players, priors
from gm_jax.methods import autoencoder
from gm_jax.methods.autoencoder import DECODER, ENCODER
from gm_jax.players import GENERATOR

FROZEN = 'frozen'
CARD = autoencoder.CARD._replace(
  sampling='one_pass, exact', training=('moment_matching',)
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
    codes: None in data space. The auto-encoder's parameters stand in
      `State.extra['frozen']`, random at first: `after_autoencoder` puts trained ones.

  Returns:
    The method, without queries.
  """

  def init(key, batch):
    g_key, z_key, codes_key = jax.random.split(key, 3)
    params, share = players.init(generator, g_key, prior(z_key, 2))
    extra = players.merged({GENERATOR: share})
    if codes is not None:
      frozen = autoencoder.init_pair(*codes, codes_key, batch['x'])
      extra[FROZEN] = base.Model(*frozen)
    return {GENERATOR: params}, extra

  def seen(extra, x):
    if codes is not None:
      x = autoencoder.applied(codes.encoder, ENCODER, extra[FROZEN], x)
    return x.reshape(len(x), -1)

  def loss_fn(params, extra, key, batch):
    z_key, g_key = jax.random.split(key)
    share = players.collections(extra, GENERATOR)
    z = prior(z_key, len(batch['x']))
    fake, share = players.apply(generator, params[GENERATOR], share, z, key=g_key)
    loss = discrepancy(seen(extra, batch['x']), fake.reshape(len(fake), -1))
    return loss, ({**extra, **players.merged({GENERATOR: share})}, {})

  def sample(model, key, num, *, condition=None):
    x = players.sampler(generator, prior)(model, key, num, condition=condition)
    if codes is None:
      return x
    return autoencoder.applied(codes.decoder, DECODER, model.extra[FROZEN], x)

  return gradient.from_loss(loss_fn, tx, init, card=CARD, sample=sample)


def after_autoencoder(method: base.Method) -> Callable:
  """The `Phase.enter` of a method with codes: a trained auto-encoder's, frozen.

  Args:
    method: of `gmmn` with `codes`.

  Returns:
    (key, state of `autoencoder`, batch) -> state of `method` at the same step.
  """

  def enter(key, previous, batch):
    state = method.init(key, batch)
    frozen = base.Model(previous.params, previous.extra)
    return state._replace(step=previous.step, extra={**state.extra, FROZEN: frozen})

  return enter
