"""Contrastive learning of images and texts: each finds the other among a batch.

  max  E 1/2 [ I(x -> t) + I(t -> x) ],   I(x -> t) = ln B + ln softmax_j(s_ij)_i,
  s_ij = exp(l) <f(x_i), g(t_j)>

with f and g the features of unit length and l a trained number. Both directions bound
the mutual information of image and text from below, by at most ln B. The encoder of
texts is what a text-to-image model is given; both together retrieve.

Source: Contrastive Learning of Medical Visual Representations from Paired Images and
Text, Zhang et al., 2020, arXiv:2010.00747, for the objective; Learning Transferable
Visual Models From Natural Language Supervision, Radford et al., 2021,
arXiv:2103.00020, for the trained l, which begins at ln(1 / 0.07) and is at most ln 100.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import base, conditions, gradient, players, text_features
from gm_jax.losses import mutual_information
from gm_jax.models import text as text_lib

CARD = base.Card(
  density='none', density_cost='none', measure='none', sampling='none',
  sampling_cost='none', training=('contrastive',), latents='none', architecture='any',
  condition=('text',),
)  # fmt: skip
IMAGE, TEXT, SCALE = 'image', 'text', 'scale'
ENCODERS = 'encoders'  # the frozen networks' name
FIRST, MOST = math.log(1 / 0.07), math.log(100.0)  # of l


class Networks(NamedTuple):
  """The two encoders."""

  image: nn.Module  # x [B, ...] -> [B, F]
  text: nn.Module  # tokens [B, T] -> [B, F]


def scores(model: base.Model, image: base.Array, text: base.Array) -> base.Array:
  """Scores of all pairs, `[B, M]`, of features `[B, F]` and `[M, F]`."""
  scale = jnp.exp(jnp.minimum(model.params[SCALE], MOST))
  return scale * text_lib.as_unit(image) @ text_lib.as_unit(text).T


def contrastive(
  net: Networks,
  tx: optax.GradientTransformation,
  *,
  condition: conditions.Condition,
  word_dropout: float = 0.0,
) -> base.Method:
  """Two encoders that are trained to find each other's partner.

  Args:
    net: the encoders.
    tx: their optimizer.
    condition: texts, as tokens.
    word_dropout: rate at which words are left out of texts, so that a text may say
      less than those of the data do.

  Returns:
    The method; query `encode`: features of images, and with `condition` a dict of
    those of `image` and `text`.

  Raises:
    ValueError: a rate outside [0, 1).
  """
  conditions.check_word_dropout(word_dropout)

  def init(key, batch):
    image_key, text_key = jax.random.split(key)
    two = jax.tree.map(lambda x: x[:2], dict(batch))
    tokens = conditions.embedded(condition, conditions.from_batch(condition, two))
    image, image_state = players.init(net.image, image_key, two['x'])
    text, text_state = players.init(net.text, text_key, tokens)
    parts = {IMAGE: image_state, TEXT: text_state}
    params = {IMAGE: image, TEXT: text, SCALE: jnp.asarray(FIRST, jnp.float32)}
    return params, players.with_collections({}, parts)

  def loss_fn(params, extra, key, batch):
    word_key, image_key, text_key = jax.random.split(key, 3)
    tokens = conditions.embedded(condition, conditions.from_batch(condition, batch))
    tokens = conditions.without_words(word_key, tokens, word_dropout)
    found, states = {}, {}
    for name, module, x, own_key in (
      (IMAGE, net.image, batch['x'], image_key),
      (TEXT, net.text, tokens, text_key),
    ):
      found[name], states[name] = players.apply(
        module, params[name], players.collections(extra, name), x, key=own_key
      )
    s = scores(base.Model(params, extra), found[IMAGE], found[TEXT])
    both = [mutual_information.info_nce(each) for each in (s, s.T)]
    metrics = {
      'information': sum(both).mean() / 2,
      'retrieval': (s.argmax(axis=1) == jnp.arange(len(s))).mean(),
    }
    return -sum(both).mean() / 2, (players.with_collections(extra, states), metrics)

  return gradient.from_loss(
    loss_fn, tx, init, card=CARD._replace(condition=conditions.names(condition)),
    queries={'encode': encoder(net, condition)},
  )  # fmt: skip


def encoder(net: Networks, condition: conditions.Condition, model_of=lambda m: m):
  """The query `encode` of two encoders, which `model_of` finds in a model."""
  taken = condition

  def encode(model, key, x, *, condition=None):
    del key
    model = model_of(model)
    image = players.apply_trained(net.image, IMAGE, model, x)
    if condition is None:
      return image
    tokens = conditions.embedded(taken, condition, len(x))
    text = players.apply_trained(net.text, TEXT, model, tokens)
    return {IMAGE: image, TEXT: text}

  return encode


def by_encoder(net: Networks, condition: conditions.Condition) -> text_features.Source:
  """Texts as tokens, which frozen encoders read: random until `after_encoder`."""

  def init(key, batch):
    # Of the encoders alone: their optimizer is none of ours.
    trainer = contrastive(net, optax.identity(), condition=condition)
    state = trainer.init(key, batch)
    return {ENCODERS: base.Model(state.params, state.extra)}

  def text(frozen, tokens):
    return players.apply_trained(net.text, TEXT, frozen[ENCODERS], tokens)

  def encoders(model):
    return model.extra[base.FROZEN][ENCODERS]

  queries = {'encode': encoder(net, condition, encoders)}
  return text_features.Source(condition, init, text, queries=queries)


def after_encoder(method: base.Method) -> Callable[[Any, Any, Any], base.State]:
  """The `Phase.enter` of a GAN whose texts the encoders of the phase before read."""
  return players.after_frozen(method, ENCODERS)
