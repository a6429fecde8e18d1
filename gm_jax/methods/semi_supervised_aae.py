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

from gm_jax import base, gradient, players, priors
from gm_jax.losses import adversarial
from gm_jax.methods import adversarial_autoencoder, autoencoder
from gm_jax.methods.adversarial_autoencoder import RECONSTRUCTION
from gm_jax.methods.autoencoder import DECODER, ENCODER

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
    `condition`, labels [num]; queries `classify`, `encode`, `decode`, `reconstruct`,
    codes being one-hot-like classes beside styles.

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
  stepper = {
    name: players.stepper(module, txs[name], game) for name, module in critics.items()
  }

  def parts(code):
    one, other = jnp.split(code, [num_classes], axis=1)
    return {CLASS: one, STYLE: other}

  def drawn(key, num, label=None):
    y_key, z_key = jax.random.split(key)
    if label is None:
      label = jax.random.randint(y_key, (num,), 0, num_classes)
    return {CLASS: jax.nn.one_hot(label, num_classes), STYLE: prior(z_key, num)}

  def init(key, batch):
    pair_key, d_key = jax.random.split(key)
    params, extra = autoencoder.init_pair(coder, decoder, pair_key, batch['x'])
    shares = {name: players.collections(extra, name) for name in params}
    opt_state = {RECONSTRUCTION: txs[RECONSTRUCTION].init(params)}
    for name in (ENCODER, SUPERVISED):
      opt_state[name] = txs[name].init(params[ENCODER])
    real = drawn(jax.random.key(0), 2)
    for key, (name, module) in zip(
      jax.random.split(d_key), critics.items(), strict=True
    ):
      params[name], shares[name] = players.init(module, key, real[name])
      opt_state[name] = txs[name].init(params[name])
    step = jnp.zeros((), jnp.int32)
    return base.State(step, params, players.merged(shares), opt_state, ())

  def step(state, key, batch):
    r_key, z_key, code_key, d_key, e_key, s_key = jax.random.split(key, 6)
    x, params, opt_state = batch['x'], dict(state.params), dict(state.opt_state)

    # 1. Reconstruction.
    pair = {name: params[name] for name in (ENCODER, DECODER)}
    pair, opt_state[RECONSTRUCTION], error, (extra, _) = gradient.gradient_step(
      reconstruction, txs[RECONSTRUCTION], pair, opt_state[RECONSTRUCTION],
      state.extra, r_key, batch,
    )  # fmt: skip
    params |= pair
    shares = {name: players.collections(extra, name) for name in pair}

    # 2a. Both discriminators.
    real, metrics, judges = drawn(z_key, len(x)), {}, {}
    code, _ = players.apply(coder, params[ENCODER], shares[ENCODER], x, key=code_key)
    fake = parts(code)
    for key, name in zip(jax.random.split(d_key), critics, strict=True):
      judge, told = stepper[name](players.of(state, name), key, real[name], fake[name])
      judges[name], metrics[f'{name}_loss'] = judge, told['discriminator_loss']
      params[name], opt_state[name] = judge.params, judge.opt_state
      shares[name] = judge.model_state

    # 2b. The encoder against both.
    def e_loss(params, share, key):
      code_key, *keys = jax.random.split(key, 3)
      code, share = players.apply(coder, params, share, x, key=code_key)
      fake, loss = parts(code), 0.0
      for key, (name, module) in zip(keys, critics.items(), strict=True):
        logits = players.pair_logits(module, judges[name], key, real[name], fake[name])
        loss += game.generator(*logits).mean()
      return loss, share

    params[ENCODER], opt_state[ENCODER], fooled, share = gradient.gradient_step(
      e_loss, txs[ENCODER], params[ENCODER], opt_state[ENCODER], shares[ENCODER], e_key
    )

    # 3. The labels that there are.
    def supervised(params, share, key):
      out, share = players.apply(coder, params, share, x, key=key, method='logits')
      return cross_entropy(out, batch['label']), share

    params[ENCODER], opt_state[SUPERVISED], loss, share = gradient.gradient_step(
      supervised, txs[SUPERVISED], params[ENCODER], opt_state[SUPERVISED], share, s_key
    )
    shares[ENCODER] = share
    metrics |= {'reconstruction': error, 'encoder_loss': fooled, 'cross_entropy': loss}
    extra = players.merged(shares)
    return base.State(state.step + 1, params, extra, opt_state, state.ema), metrics

  def sample(model, key, num, *, condition=None):
    code = jnp.concatenate(list(drawn(key, num, condition).values()), -1)
    return autoencoder.applied(decoder, DECODER, model, code)

  def classify(model, key, data, *, condition=None):
    del key, condition
    share = players.collections(model.extra, ENCODER)
    return players.apply(
      coder, model.params[ENCODER], share, data, train=False, method='logits'
    )[0]

  queries = {**autoencoder.queries(coder, decoder), 'classify': classify}
  card = adversarial_autoencoder.CARD._replace(latents='discrete')
  return base.Method(card, init, step, sample, None, queries)
