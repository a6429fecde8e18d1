"""StackGAN: a small image from a text, then a larger one from both.

  stage I   GAN-CLS at a small size; its generator draws c ~ N(m(t), s(t)^2) and sees c
            in place of t, at a cost of 2 KL(N(m, s^2) || N(0, 1)), averaged over the
            dimensions of c and over the batch
  stage II  GAN-CLS at the full size; its generator sees the image of stage I, frozen,
            and a condition c of its own, drawn likewise

Both critics are matching-aware and read t itself. The KL makes near texts overlap, so
that the generator learns between them. Weight and averages are those of the published
code: the textbook's KL is a sum over the K dimensions, so that this is 2 / K of it.

Source: StackGAN: Text to Photo-realistic Image Synthesis with Stacked Generative
Adversarial Networks, Zhang et al., 2017, arXiv:1612.03242.
"""

from collections.abc import Callable
from typing import Any

import jax
import optax

from gm_jax import base, players, priors, text_features
from gm_jax.losses import matching
from gm_jax.methods import gan_cls
from gm_jax.models import text as text_lib
from gm_jax.players import GENERATOR

STAGE_ONE = 'stage_one'  # the frozen networks' name
WEIGHT = 2.0  # of the KL


def conditioning(generator: text_lib.Augmented, weight: float = WEIGHT) -> Callable:
  """The `regularizer` of `gan_cls`: the KL of a generator's condition, weighted.

  Raises:
    ValueError: a weight below 0.
  """
  if weight < 0:
    raise ValueError(f'the weight of the KL must be >= 0, got {weight}')

  def regularizer(params, model_state, text):
    moments, _ = players.apply(
      generator, params, model_state, text, text, train=False, method='moments'
    )
    return weight * matching.conditioning_kl(*moments)

  return regularizer


def stage_one(
  generator: text_lib.Augmented,
  discriminator: Any,
  g_tx: optax.GradientTransformation,
  d_tx: optax.GradientTransformation,
  *,
  latent_size: int,
  source: text_features.Source,
  weight: float = WEIGHT,
  **options: Any,
) -> base.Method:
  """GAN-CLS at the small size, its condition augmented.

  Args:
    generator: (z `[B, Z + K]`, text `[B, F]`) -> x `[B, ...]`, z standard normal.
    discriminator: (x `[B, ...]`, text `[B, F]`) -> logits `[B]` or `[B, 1]`.
    g_tx: the generator's optimizer.
    d_tx: the discriminator's optimizer.
    latent_size: Z, beside the K numbers that draw the condition.
    source: of the texts' features.
    weight: of the KL.
    **options: of `gan_cls.gan_cls`.
  """
  return gan_cls.gan_cls(
    generator, discriminator, g_tx, d_tx,
    prior=priors.normal(latent_size + generator.size), source=source,
    regularizer=conditioning(generator, weight), **options,
  )  # fmt: skip


def stage_two(
  generator: text_lib.Augmented,
  discriminator: Any,
  g_tx: optax.GradientTransformation,
  d_tx: optax.GradientTransformation,
  *,
  first: base.Method,
  first_generator: text_lib.Augmented,
  latent_size: int,
  source: text_features.Source,
  weight: float = WEIGHT,
  **options: Any,
) -> base.Method:
  """GAN-CLS at the full size, its generator's input an image of stage I.

  Args:
    generator: ((x1 `[B, ...]` of stage I, noise `[B, K2]`), text) -> x `[B, ...]`.
    discriminator: (x `[B, ...]`, text `[B, F]`) -> logits `[B]` or `[B, 1]`.
    g_tx: the generator's optimizer.
    d_tx: the discriminator's optimizer.
    first: stage I, whose networks are frozen here: random until `after_stage_one`.
    first_generator: of stage I.
    latent_size: Z of stage I.
    source: of stage I.
    weight: of the KL.
    **options: of `gan_cls.gan_cls`.

  Returns:
    The method; z is `[B, Z + K + K2]`, all that both stages draw.
  """
  first_size = latent_size + first_generator.size

  def init(key, batch):
    state = first.init(key, batch)
    return {STAGE_ONE: base.Model(state.params, state.extra)}

  def of_first(frozen):
    return frozen[STAGE_ONE].extra.get(base.FROZEN, {})

  def inputs(frozen, z, text):
    small = players.apply_trained(
      first_generator, GENERATOR, frozen[STAGE_ONE], z[:, :first_size], text
    )
    return small, z[:, first_size:]

  def in_first(query):
    return lambda model, *args, **more: query(
      model.extra[base.FROZEN][STAGE_ONE], *args, **more
    )

  stacked = text_features.Source(
    source.condition,
    init,
    lambda frozen, value: source.text(of_first(frozen), value),
    inputs,
    {name: in_first(query) for name, query in source.queries.items()},
  )
  return gan_cls.gan_cls(
    generator, discriminator, g_tx, d_tx,
    prior=priors.normal(first_size + generator.size), source=stacked,
    regularizer=conditioning(generator, weight), **options,
  )  # fmt: skip


def after_stage_one(method: base.Method) -> Callable[[jax.Array, Any, Any], base.State]:
  """The `Phase.enter` of stage II: the networks of stage I, trained and frozen."""
  return players.after_frozen(method, STAGE_ONE)
