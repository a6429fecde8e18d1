"""GAN-CLS and GAN-INT: images from texts, by a critic that reads the text.

  discriminator  softplus(-D(x, t)) + w softplus(D(x, t')) + (1 - w) softplus(D(y, t))
  generator      softplus(-D(y, t)), and with interpolation also of t = (t_i + t_j) / 2

with y = G(z, t), t' the text of another image, and w = 1/2. A critic of a conditional
GAN may leave the text alone; this one is told of real images that they do not fit. With
interpolation, texts between those of pairs (i, i + B / 2) teach the generator where no
image is: the loss is a mean over 1.5 B.

Texts are features `[B, F]`: of tokens by an encoder trained before and frozen here
(`contrastive.by_encoder`), or embeddings that the data hold
(`text_features.embeddings`).

Source: Generative Adversarial Text to Image Synthesis, Reed et al., 2016,
arXiv:1605.05396, algorithm 1 and equation 5. The authors' code draws another image for
a text; here images and texts of the batch are paired anew.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import base, conditions, players, priors, text_features
from gm_jax.losses import matching
from gm_jax.methods import gan
from gm_jax.players import DISCRIMINATOR, GENERATOR


def gan_cls(
  generator: nn.Module,
  discriminator: nn.Module,
  g_tx: optax.GradientTransformation,
  d_tx: optax.GradientTransformation,
  *,
  prior: priors.Prior,
  source: text_features.Source,
  mismatch: float = 0.5,
  interpolate: bool = False,
  word_dropout: float = 0.0,
  penalty: Callable | None = None,
  regularizer: Callable | None = None,
) -> base.Method:
  """A text-to-image GAN with a matching-aware discriminator.

  Args:
    generator: (z `[B, Z]`, text `[B, F]`) -> x `[B, ...]`.
    discriminator: (x `[B, ...]`, text `[B, F]`) -> logits `[B]` or `[B, 1]`.
    g_tx: the generator's optimizer.
    d_tx: the discriminator's optimizer.
    prior: (key, num) -> z `[num, Z]`.
    source: of the texts' features.
    mismatch: w, the weight of real images with another's text.
    interpolate: whether the generator learns on means of two texts too.
    word_dropout: rate at which words of the texts are left out in training.
    penalty: (critic, key, real, fake) -> [B], added to the discriminator's loss; the
      critic is of the images, each with its text.
    regularizer: (params, model_state, text) -> [B], added to the generator's loss.

  Returns:
    The method; queries `critic`, `decode`, `prior` and, of a source with encoders,
    `encode`.

  Raises:
    ValueError: a weight or a rate out of range.
  """
  if not 0 <= mismatch <= 1:
    raise ValueError(f'mismatch must be in [0, 1], got {mismatch}')
  conditions.check_word_dropout(word_dropout)

  def text_of(frozen, value, num=None):
    return source.text(frozen, conditions.embedded(source.condition, value, num))

  def logits_of(params, model_state, key, x, text):
    return players.logits(discriminator, params, model_state, x, text, key=key)

  def init(key, batch):
    frozen_key, g_key, d_key, z_key = jax.random.split(key, 4)
    two = jax.tree.map(lambda x: x[:2], dict(batch))
    frozen = source.init(frozen_key, two)
    text = text_of(frozen, conditions.from_batch(source.condition, two))
    z = source.inputs(frozen, prior(z_key, 2), text)
    first = {
      GENERATOR: players.new_player(generator, g_tx, g_key, z, text),
      DISCRIMINATOR: players.new_player(discriminator, d_tx, d_key, two['x'], text),
    }
    return players.first_state(first, {base.FROZEN: frozen} if frozen else {})

  def d_loss(params, model_state, key, real, fake, text, wrong_text, is_wrong):
    real_key, wrong_key, fake_key, critic_key, penalty_key = jax.random.split(key, 5)
    real_logits, model_state = logits_of(params, model_state, real_key, real, text)
    wrong_logits, model_state = logits_of(
      params, model_state, wrong_key, real, wrong_text
    )
    fake_logits, model_state = logits_of(params, model_state, fake_key, fake, text)
    # Where all texts of a batch are one, none is wrong: a logit that costs nothing.
    counted = jnp.where(is_wrong, wrong_logits, -jnp.inf)
    loss = matching.discriminator(real_logits, counted, fake_logits, mismatch=mismatch)
    if penalty is not None:

      def critic(x):
        return logits_of(params, model_state, critic_key, x, text)[0]

      loss += penalty(critic, penalty_key, real, fake)
    means = {
      'real_logits': real_logits.mean(),
      'wrong_logits': wrong_logits.mean(),
      'fake_logits': fake_logits.mean(),
    }
    return loss.mean(), (model_state, means)

  def g_loss(params, model_state, key, critic, frozen, z, text, num):
    g_key, d_key = jax.random.split(key)
    inputs = source.inputs(frozen, z, text)
    fake, model_state = players.apply(
      generator, params, model_state, inputs, text, key=g_key
    )
    logits, _ = logits_of(critic.params, critic.model_state, d_key, fake, text)
    loss = matching.generator(logits[:num], logits[num:]).mean()
    metrics = {'generator_loss': loss}
    if regularizer is not None:
      metrics['regularizer'] = regularizer(params, model_state, text).mean()
    return sum(metrics.values()), (model_state, metrics)

  def step(state, key, batch):
    word_key, z_key, fake_key, d_key, g_z_key, g_key = jax.random.split(key, 6)
    g, d = players.get(state, GENERATOR), players.get(state, DISCRIMINATOR)
    frozen, real = state.extra.get(base.FROZEN, {}), batch['x']
    name, num = source.condition.name, len(real)
    value = conditions.from_batch(source.condition, batch)
    other, is_wrong = conditions.mismatched(value)
    value = conditions.without_words(word_key, value, word_dropout)
    kept = conditions.training_value(source.condition, key, {**batch, name: value})
    text, wrong_text = text_of(frozen, kept), text_of(frozen, value)[other]

    # 1. The discriminator: real and right, real and wrong, fake and right. A text that
    # is left out belongs to every image: wrong texts are of those before that.
    inputs = source.inputs(frozen, prior(z_key, num), text)
    fake, _ = players.apply(
      generator, g.params, g.model_state, inputs, text, key=fake_key
    )
    d, loss, metrics = players.gradient_step(
      d_loss, d_tx, d, d_key, real, fake, text, wrong_text, is_wrong
    )

    # 2. The generator against it, on texts and on what lies between two.
    if interpolate:
      half = num // 2
      text = jnp.concatenate([text, (text[:half] + text[half : 2 * half]) / 2])
    g, _, found = players.gradient_step(
      g_loss, g_tx, g, g_key, d, frozen, prior(g_z_key, len(text)), text, num
    )
    state = players.after_step(state, {GENERATOR: g, DISCRIMINATOR: d})
    return state, {'discriminator_loss': loss, **metrics, **found}

  def decode(model, key, z, *, condition=None):
    del key
    frozen = model.extra.get(base.FROZEN, {})
    text = text_of(frozen, condition, len(z))
    inputs = source.inputs(frozen, z, text)
    return players.apply_trained(generator, GENERATOR, model, inputs, text)

  def sample(model, key, num, *, condition=None):
    return decode(model, None, prior(key, num), condition=condition)

  def critic(model, key, x, *, condition=None):
    del key
    text = text_of(model.extra.get(base.FROZEN, {}), condition, len(x))
    model_state = players.collections(model.extra, DISCRIMINATOR)
    params = model.params[DISCRIMINATOR]
    return players.logits(discriminator, params, model_state, x, text, train=False)[0]

  def draw(model, key, num, *, condition=None):
    del model, condition
    return prior(key, num)

  queries = {'critic': critic, 'decode': decode, 'prior': draw, **source.queries}
  card = gan.CARD._replace(condition=conditions.names(source.condition))
  return base.Method(card, init, step, sample, queries=queries)
