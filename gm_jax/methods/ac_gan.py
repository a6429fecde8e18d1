"""The auxiliary classifier GAN: the critic also says of which class an image is.

  discriminator  min_{S, P} E d(S(x), S(G(z, c)))
                            - weight (E log P(c | x) + E log P(c | G(z, c)))
  generator      min_G E g(S(x), S(G(z, c))) - weight E log P(c | G(z, c))

with (g, d) any `Game` of the logit S of the source, and P of the class. S sees no
class: it compares all images with all, and only P ties an image to its class. The
generator is paid for images whose class is certain: it leaves out what two share
(`tests/methods/ac_gan_test.py`; Twin Auxiliary Classifiers GAN, Gong et al., 2019,
arXiv:1907.02690).

Source: Conditional Image Synthesis with Auxiliary Classifier GANs, Odena et al., 2017,
arXiv:1610.09585, section 3.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import optax

from gm_jax import base, conditions, players, priors
from gm_jax.losses import adversarial, likelihood
from gm_jax.methods import gan
from gm_jax.players import DISCRIMINATOR, GENERATOR

CARD = gan.CARD._replace(condition=('label',))


def ac_gan(
  generator: nn.Module,
  discriminator: nn.Module,
  g_tx: optax.GradientTransformation,
  d_tx: optax.GradientTransformation,
  *,
  prior: priors.Prior,
  num_classes: int,
  class_weight: float = 1.0,
  game: base.Game = adversarial.NON_SATURATING,
  penalty: Callable | None = None,
) -> base.Method:
  """A GAN whose critic classifies.

  Args:
    generator: z [B, Z] beside classes, one-hot [B, K], -> x [B, ...].
    discriminator: x [B, ...] -> [B, 1 + K], the logit of the source, then of classes.
    g_tx: the generator's optimizer.
    d_tx: the discriminator's.
    prior: (key, num) -> z [num, Z].
    num_classes: K.
    class_weight: of the class for both players, >= 0; the paper's is 1.
    game: what the two minimize of the source's logits.
    penalty: (critic of the source, key, real, fake) -> [B], or None.

  Returns:
    The method; a batch has `label` [B] in [0, K), which real and fake examples have in
    common; samples are of the classes `condition` [num], or of uniform ones; queries
    `critic`, `classify`, `decode` and `prior` (a dict of `label` and `noise`).

  Raises:
    ValueError: K < 2 or a weight < 0.
  """
  if num_classes < 2 or class_weight < 0:
    raise ValueError(
      'an auxiliary classifier needs num_classes >= 2 and class_weight >= 0, got'
      f' {num_classes} and {class_weight}'
    )
  by_class = conditions.by_class(num_classes)

  def heads(params, model_state, key, x, train=True):
    """Logits of the source `[B]` and of classes `[B, K]`, and the collections."""
    out, model_state = players.apply(
      discriminator, params, model_state, x, key=key, train=train
    )
    if out.shape != (len(x), 1 + num_classes):
      raise ValueError(
        f'this critic must return [B, 1 + {num_classes}], a logit of the source and'
        f' of {num_classes} classes, got {list(out.shape)}'
      )
    return out[:, 0], out[:, 1:], model_state

  def d_loss(params, model_state, key, real, fake, label):
    real_key, fake_key, critic_key, penalty_key = jax.random.split(key, 4)
    real_source, real_class, model_state = heads(params, model_state, real_key, real)
    fake_source, fake_class, model_state = heads(params, model_state, fake_key, fake)
    loss = game.discriminator(real_source, fake_source)
    if penalty is not None:

      def critic(x):
        return heads(params, model_state, critic_key, x)[0]

      loss += penalty(critic, penalty_key, real, fake)
    real_nats = -likelihood.categorical(real_class, label).mean()
    fake_nats = -likelihood.categorical(fake_class, label).mean()
    means = {
      'real_logits': real_source.mean(),
      'fake_logits': fake_source.mean(),
      'real_class_loss': real_nats,
      'fake_class_loss': fake_nats,
    }
    return loss.mean() + class_weight * (real_nats + fake_nats), (model_state, means)

  def g_loss(params, model_state, key, real, z, label, critic):
    g_key, real_key, fake_key = jax.random.split(key, 3)
    fake, model_state = players.apply(
      generator, params, model_state, z, by_class.embed(label), key=g_key
    )
    real_source = heads(*critic, real_key, real)[0]
    fake_source, fake_class, _ = heads(*critic, fake_key, fake)
    loss = game.generator(real_source, fake_source)
    loss -= class_weight * likelihood.categorical(fake_class, label)
    return loss.mean(), (model_state, {})

  def init(key, batch):
    g_key, d_key, z_key = jax.random.split(key, 3)
    label = by_class.embed(conditions.from_batch(by_class, batch)[:2])
    g = players.new_player(generator, g_tx, g_key, prior(z_key, 2), label)
    d = players.new_player(discriminator, d_tx, d_key, batch['x'][:2])
    return players.first_state({GENERATOR: g, DISCRIMINATOR: d})

  def step(state, key, batch):
    z_key, fake_key, d_key, g_z_key, g_key = jax.random.split(key, 5)
    g, d = players.get(state, GENERATOR), players.get(state, DISCRIMINATOR)
    real, label = batch['x'], conditions.from_batch(by_class, batch)

    # 1. The discriminator, on fake images of the real ones' classes.
    fake, _ = players.apply(
      generator, g.params, g.model_state, prior(z_key, len(real)),
      by_class.embed(label), key=fake_key,
    )  # fmt: skip
    d, loss, means = players.gradient_step(d_loss, d_tx, d, d_key, real, fake, label)
    metrics = {'discriminator_loss': loss, **means}

    # 2. The generator against the new discriminator, on fresh latents.
    z, critic = prior(g_z_key, len(real)), (d.params, d.model_state)
    g, loss, _ = players.gradient_step(g_loss, g_tx, g, g_key, real, z, label, critic)
    metrics['generator_loss'] = loss
    return players.after_step(state, {GENERATOR: g, DISCRIMINATOR: d}), metrics

  def draw(model, key, num, *, condition=None):
    del model
    noise_key, label_key = jax.random.split(key)
    if condition is None:
      condition = jax.random.randint(label_key, (num,), 0, num_classes)
    conditions.check_num(condition, num)
    return {'label': condition, 'noise': prior(noise_key, num)}

  def decode(model, key, z, *, condition=None):
    del key, condition  # the class in z stands for it
    label = by_class.embed(z['label'])
    return players.apply_trained(generator, GENERATOR, model, z['noise'], label)

  def sample(model, key, num, *, condition=None):
    return decode(model, None, draw(model, key, num, condition=condition))

  def read(model, x):
    model_state = players.collections(model.extra, DISCRIMINATOR)
    return heads(model.params[DISCRIMINATOR], model_state, None, x, train=False)

  return base.Method(
    card=CARD,
    init=init,
    step=step,
    sample=sample,
    queries={
      'critic': lambda model, key, x, *, condition=None: read(model, x)[0],
      'classify': lambda model, key, x, *, condition=None: read(model, x)[1],
      'decode': decode,
      'prior': draw,
    },
  )
