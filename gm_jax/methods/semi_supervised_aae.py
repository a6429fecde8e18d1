"""The semi-supervised adversarial auto-encoder: a class and a style, few labels.

The encoder gives a class softmax(l) and a style s. Each step runs the paper's phases:

  1.   min_{e, d} | x - d(softmax(l(x)), s(x)) |^2
  2a.  two discriminators tell a one-hot y ~ Cat(1 / K) from softmax(l(x)), and
       z ~ p(z) from s(x)
  2b.  the encoder makes both pass
  3.   min_e  -ln softmax(l(x))_y  over the labelled examples

Source: Adversarial Autoencoders, Makhzani et al., 2015, arXiv:1511.05644, section 5.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import adversaries, base, conditions, players, priors
from gm_jax.losses import adversarial
from gm_jax.methods import adversarial_autoencoder, autoencoder
from gm_jax.methods.autoencoder import DECODER, ENCODER, PAIR, RECONSTRUCTION

CARD = adversarial_autoencoder.CARD._replace(latents='discrete', condition=('label',))
CLASS, STYLE, SUPERVISED = 'class_discriminator', 'style_discriminator', 'supervised'


class ClassAndStyle(nn.Module):
  """An encoder whose first K outputs are passed through a softmax.

  Attributes:
    body: x [B, ...] -> [B, K + Z].
    num_classes: K.
  """

  body: nn.Module
  num_classes: int

  def logits(self, x: base.Array, *, train: bool = False) -> base.Array:
    """`[B, ...]` -> `[B, K]`."""
    return self.body(x, train=train)[:, : self.num_classes]

  def __call__(self, x: base.Array, *, train: bool = False) -> base.Array:
    """`[B, ...]` -> `[B, K + Z]`: probabilities beside the style."""
    out = self.body(x, train=train)
    logits, style = jnp.split(out, [self.num_classes], axis=1)
    return jnp.concatenate([jax.nn.softmax(logits), style], -1)


def cross_entropy(logits: base.Array, label: base.Array) -> base.Array:
  """The mean over labelled examples, [] nats; 0 where none is (label -1)."""
  known = label >= 0
  each = optax.softmax_cross_entropy_with_integer_labels(
    logits, jnp.where(known, label, 0)
  )
  return jnp.where(known, each, 0.0).sum() / jnp.maximum(known.sum(), 1)


def semi_supervised_aae(
  encoder: nn.Module,
  decoder: nn.Module,
  class_discriminator: nn.Module,
  style_discriminator: nn.Module,
  txs: dict[str, optax.GradientTransformation],
  *,
  prior: priors.Prior,
  num_classes: int,
  game: base.Game = adversarial.NON_SATURATING,
) -> base.Method:
  """A classifier and generator from few labels.

  Args:
    encoder: x [B, ...] -> [B, K + Z], class logits and style.
    decoder: [B, K + Z], probabilities and style -> x [B, ...].
    class_discriminator: [B, K] -> logits [B] or [B, 1].
    style_discriminator: [B, Z] -> likewise.
    txs: optimizers by objective: 'reconstruction', 'class_discriminator',
      'style_discriminator', 'encoder', 'supervised'.
    prior: of the style, (key, num) -> z [num, Z].
    num_classes: K >= 2.
    game: of the encoder and each discriminator.

  Returns:
    The method; batches have `label` [B], -1 for not labelled; samples take
    `condition`, labels [num]; queries `classify`, `encode`, `decode`, `reconstruct`
    and `prior`, codes being one-hot-like classes beside styles.

  Raises:
    ValueError: `num_classes` is below 2, or an optimizer is missing.
  """
  if num_classes < 2:
    raise ValueError(f'num_classes must be >= 2, got {num_classes}')
  expected = {RECONSTRUCTION, CLASS, STYLE, ENCODER, SUPERVISED}
  if txs.keys() != expected:
    raise ValueError(f'txs must be of {sorted(expected)}, got {sorted(txs)}')
  critics = {CLASS: class_discriminator, STYLE: style_discriminator}
  coder = ClassAndStyle(encoder, num_classes)
  reconstruction = autoencoder.loss(coder, decoder)
  steppers = {
    name: adversaries.stepper(module, txs[name], game)
    for name, module in critics.items()
  }

  def parts(code):
    class_part, style = jnp.split(code, [num_classes], axis=1)
    return {CLASS: class_part, STYLE: style}

  def draw_code(key, num, label=None):
    y_key, z_key = jax.random.split(key)
    if label is None:
      label = jax.random.randint(y_key, (num,), 0, num_classes)
    return {CLASS: conditions.one_hot(label, num_classes), STYLE: prior(z_key, num)}

  def init(key, batch):
    pair_key, d_key = jax.random.split(key)
    pair = players.new_group(
      txs[RECONSTRUCTION], autoencoder.init_pair(coder, decoder, pair_key, batch['x'])
    )
    state = players.put_group(players.first_state({}), pair, RECONSTRUCTION)
    for objective in (ENCODER, SUPERVISED):  # each with an optimizer of its own
      params = pair.params[ENCODER]
      e = players.Player(params, txs[objective].init(params), pair.model_state[ENCODER])
      state = players.put(state, ENCODER, e, objective=objective)
    real = draw_code(jax.random.key(0), 2)  # for its shapes
    keys = jax.random.split(d_key)
    for key, (name, module) in zip(keys, critics.items(), strict=True):
      critic = players.new_player(module, txs[name], key, real[name])
      state = players.put(state, name, critic)
    return state

  def step(state, key, batch):
    r_key, z_key, code_key, d_key, e_key, s_key = jax.random.split(key, 6)
    x = batch['x']

    # 1. Reconstruction.
    pair = players.get_group(state, PAIR, RECONSTRUCTION)
    pair, error, _ = players.gradient_step(
      reconstruction, txs[RECONSTRUCTION], pair, r_key, x
    )
    state = players.put_group(state, pair, RECONSTRUCTION)
    e = players.get(state, ENCODER)

    # 2a. Both discriminators.
    code, _ = players.apply(coder, e.params, e.model_state, x, key=code_key)
    real, fake = draw_code(z_key, len(x)), parts(code)
    new_critics, metrics = {}, {}
    for key, name in zip(jax.random.split(d_key), critics, strict=True):
      new_critics[name], critic_metrics = steppers[name](
        players.get(state, name), key, real[name], fake[name]
      )
      metrics[f'{name}_loss'] = critic_metrics['discriminator_loss']

    # 2b. The encoder against both, as they are now.
    def e_loss(params, model_state, key):
      code_key, *keys = jax.random.split(key, 3)
      code, model_state = players.apply(coder, params, model_state, x, key=code_key)
      fake, loss = parts(code), 0.0
      for key, (name, module) in zip(keys, critics.items(), strict=True):
        loss += adversaries.generator_loss(
          module, game, new_critics[name], key, real[name], fake[name]
        )
      return loss, (model_state, {})

    e, fooling, _ = players.gradient_step(e_loss, txs[ENCODER], e, e_key)
    state = players.put(state, ENCODER, e)

    # 3. The labels that there are.
    def supervised_loss(params, model_state, key):
      logits, model_state = players.apply(
        coder, params, model_state, x, key=key, method='logits'
      )
      return cross_entropy(logits, batch['label']), (model_state, {})

    e = players.get(state, ENCODER, objective=SUPERVISED)
    e, nats, _ = players.gradient_step(supervised_loss, txs[SUPERVISED], e, s_key)
    state = players.put(state, ENCODER, e, objective=SUPERVISED)
    metrics |= {'reconstruction': error, 'encoder_loss': fooling, 'cross_entropy': nats}
    return players.after_step(state, new_critics), metrics

  def draw(model, key, num, *, condition=None):
    del model
    conditions.check_num(condition, num)
    return jnp.concatenate(list(draw_code(key, num, condition).values()), -1)

  def sample(model, key, num, *, condition=None):
    code = draw(model, key, num, condition=condition)
    return players.apply_trained(decoder, DECODER, model, code)

  def classify(model, key, x, *, condition=None):
    del key, condition
    return players.apply_trained(coder, ENCODER, model, x, method='logits')

  return base.Method(
    card=CARD,
    init=init,
    step=step,
    sample=sample,
    queries={
      **autoencoder.queries(coder, decoder),
      'classify': classify,
      'prior': draw,
    },
  )
