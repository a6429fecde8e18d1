"""Rows of the table of laws: text to image, and the encoders of texts."""

import jax.numpy as jnp
import optax
from rows.common import Joined, Row, plane, players

from gm_jax import conditions, text_features
from gm_jax.methods import contrastive, gan_cls, stack_gan
from gm_jax.models import mlp
from gm_jax.models import text as text_lib

LENGTH, TOKENS, FEATURES = 3, 4, 8
CONDITION = conditions.by_tokens(LENGTH)


def described(num):
  """The plane's data with three words: of both coordinates, and a last that is none."""

  def batch(key):
    x = plane(num)(key)['x']
    right, upper = x[:, 0] > 1.0, x[:, 1] > -0.5
    words = jnp.stack([1 + right, 2 + upper, jnp.zeros_like(right)], axis=1)
    return {'x': x, 'text': words.astype(jnp.int32)}

  return batch


def embedded(num):
  """The plane's data with the embeddings of another program."""

  def batch(key):
    found = described(num)(key)
    return {'x': found['x'], 'condition': jnp.sign(found['x'] - jnp.array([1.0, -0.5]))}

  return batch


def encoders():
  return contrastive.Networks(
    mlp.MLP((16, FEATURES)), text_lib.TextEncoder(TOKENS, FEATURES, width=8)
  )


def optional(source):
  """A source whose texts may be left out, as the laws of samples do."""
  return source._replace(condition=conditions.optional(source.condition, 0.3))


def by_encoder():
  return optional(contrastive.by_encoder(encoders(), CONDITION))


def by_embeddings():
  return optional(text_features.embeddings(2))


def pair(wrap, prior):
  del prior
  tx = wrap(optax.adam(1e-2))
  return contrastive.contrastive(encoders(), tx, condition=CONDITION, word_dropout=0.1)


def txs(wrap):
  tx = optax.adam(5e-3, b1=0.5)
  return {'g_tx': wrap(tx), 'd_tx': wrap(tx)}


def networks():
  return {name: Joined(network) for name, network in players().items()}


def from_tokens(wrap, prior):
  return gan_cls.gan_cls(
    **networks(), **txs(wrap), prior=prior, source=by_encoder(), interpolate=True,
    word_dropout=0.1,
  )  # fmt: skip


def from_embeddings(wrap, prior):
  return gan_cls.gan_cls(**networks(), **txs(wrap), prior=prior, source=by_embeddings())


def augmented():
  found = networks()
  return {**found, 'generator': text_lib.Augmented(found['generator'], 2)}


def first_stage(wrap, **more):
  options = dict(latent_size=2, source=by_embeddings(), **more)
  return stack_gan.stage_one(**augmented(), **txs(wrap), **options)


def second_stage(wrap, prior):
  del prior
  return stack_gan.stage_two(
    **augmented(), **txs(wrap), first=first_stage(wrap), latent_size=2,
    first_generator=augmented()['generator'], source=by_embeddings(),
  )  # fmt: skip


ROWS = {
  'contrastive': Row(pair, described(16), falls=False),
  'gan_cls': Row(from_tokens, described(16), falls=False, structure='a frozen encoder'),
  'gan_cls_embeddings': Row(from_embeddings, embedded(16), falls=False, slow=True),
  'stack_gan_second': Row(second_stage, embedded(16), falls=False),
}
