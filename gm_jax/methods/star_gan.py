"""StarGAN: one translator between many domains, and a critic that says which it sees.

  G: (x, c) -> image of domain c,  D: x -> logits s of patches, and of domains
  critic      E d(s(x), s(G(x, c'))) + penalty - w_d E log D(c | x)
  translator  E g(s(G(x, c'))) - w_d E log D(c' | G(x, c'))
              + w_c E |G(G(x, c'), c) - x|

with c the domain of x and c' one drawn for it. The penalty is of the SUM of the logits
of an image's patches, the game of each of them, its mean over patches, as published.
Several data sets may be trained on at once, each with domains of its own: c' is then
drawn among those of the example's data set, the label that G reads is all domains'
one-hot vector and, behind it, that of the data set (the mask), and D's domains are
compared within the data set. What G learned of one it can do to images of another.

Source: StarGAN: Unified Generative Adversarial Networks for Multi-Domain Image-to-Image
Translation, Choi et al., 2018, arXiv:1711.09020.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import base, domains, gradient, players
from gm_jax.losses import adversarial, shapes, translation
from gm_jax.methods import cycle_gan
from gm_jax.players import DISCRIMINATOR, GENERATOR


def star_gan(
  generator: nn.Module,
  discriminator: nn.Module,
  g_tx: optax.GradientTransformation,
  d_tx: optax.GradientTransformation,
  *,
  sizes: Sequence[int],
  game: base.Game = adversarial.WASSERSTEIN,
  penalty: Callable | None = None,
  domain_weight: float = 1.0,
  cycle_weight: float = 10.0,
  num_critic: int = 5,
) -> base.Method:
  """One translator of many domains.

  Args:
    generator: (x [B, ...], labels as of `label_vector`) -> x [B, ...].
    discriminator: x -> logits of patches [B, P] and of domains [B, K].
    g_tx: the generator's optimizer.
    d_tx: the discriminator's.
    sizes: numbers of domains, one for each data set that is trained on.
    game: of the patches' logits.
    penalty: (critic, key, real, fake) -> [B], of the sum over patches, or None.
    domain_weight: w_d.
    cycle_weight: w_c.
    num_critic: critic steps a generator step, each on its own data: a batch holds
      num_critic * B examples.

  Returns:
    The method; a batch has `x` and `domain` [B]; queries `translate`, to the domain
    that is its condition, and `critic`.

  Raises:
    ValueError: less than two domains, a weight below 0, num_critic below 1.
  """
  sizes = tuple(sizes)
  if min(sizes, default=0) < 1 or sum(sizes) < 2:
    raise ValueError(f'at least two domains are needed, got {sizes}')
  if min(domain_weight, cycle_weight) < 0 or num_critic < 1:
    raise ValueError('weights must be >= 0 and num_critic >= 1')

  def classification(logits, domain):
    return translation.domain_classification(logits, domain, sizes=sizes).mean()

  def heads(params, model_state, key, x, train=True):
    """Logits of patches and of domains, and the collections."""
    (patches, domain_logits), model_state = players.apply(
      discriminator, params, model_state, x, key=key, train=train
    )
    return patches, domain_logits, model_state

  def translated(params, model_state, key, x, domain):
    label = domains.label_vector(domain, sizes)
    return players.apply(generator, params, model_state, x, label, key=key)

  def d_loss(params, model_state, key, real, fake, domain):
    real_key, fake_key, critic_key, penalty_key = jax.random.split(key, 4)
    real_logits, domain_logits, model_state = heads(params, model_state, real_key, real)
    fake_logits, _, model_state = heads(params, model_state, fake_key, fake)
    loss = game.discriminator(real_logits, fake_logits).mean()
    if penalty is not None:

      def critic(x):
        return heads(params, model_state, critic_key, x)[0].sum(axis=1)

      loss += penalty(critic, penalty_key, real, fake).mean()
    nats = classification(domain_logits, domain)
    means = {
      'real_logits': real_logits.mean(),
      'fake_logits': fake_logits.mean(),
      'real_domain_loss': nats,
    }
    return loss + domain_weight * nats, (model_state, means)

  def g_loss(params, model_state, key, critic, real, domain, target):
    there_key, back_key, real_key, fake_key = jax.random.split(key, 4)
    fake, model_state = translated(params, model_state, there_key, real, target)
    back, model_state = translated(params, model_state, back_key, fake, domain)
    real_logits = heads(critic.params, critic.model_state, real_key, real)[0]
    fake_logits, domain_logits, _ = heads(
      critic.params, critic.model_state, fake_key, fake
    )
    nats = classification(domain_logits, target)
    cycle = translation.absolute_error(real, back).mean()
    loss = game.generator(real_logits, fake_logits).mean()
    loss += domain_weight * nats + cycle_weight * cycle
    return loss, (model_state, {'fake_domain_loss': nats, 'cycle_loss': cycle})

  def init(key, batch):
    g_key, d_key = jax.random.split(key)
    x, label = batch['x'][:2], domains.label_vector(batch['domain'][:2], sizes)
    return players.first_state({
      GENERATOR: players.new_player(generator, g_tx, g_key, x, label),
      DISCRIMINATOR: players.new_player(discriminator, d_tx, d_key, x),
    })  # fmt: skip

  def step(state, key, batch):
    critic_key, target_key, g_key = jax.random.split(key, 3)
    g = players.get(state, GENERATOR)
    real, domain = gradient.interleaved((batch['x'], batch['domain']), num_critic)

    # 1. The discriminator takes num_critic steps, each on fresh data.
    def critic_step(critic, inputs):
      key, real, domain = inputs
      target_key, fake_key, d_key = jax.random.split(key, 3)
      target = domains.draw_targets(target_key, domain, sizes)
      fake, _ = translated(g.params, g.model_state, fake_key, real, target)
      critic, loss, means = players.gradient_step(
        d_loss, d_tx, critic, d_key, real, fake, domain
      )
      return critic, {'discriminator_loss': loss, **means}

    keys = jax.random.split(critic_key, num_critic)
    critic = players.get(state, DISCRIMINATOR)
    critic, metrics = jax.lax.scan(critic_step, critic, (keys, real, domain))

    # 2. The generator, there and back again, against the new discriminator.
    real, domain = real[-1], domain[-1]
    target = domains.draw_targets(target_key, domain, sizes)
    g, loss, found = players.gradient_step(
      g_loss, g_tx, g, g_key, critic, real, domain, target
    )
    metrics = jax.tree.map(lambda m: m[-1], metrics)
    metrics |= {'generator_loss': loss, **found}
    return players.after_step(state, {GENERATOR: g, DISCRIMINATOR: critic}), metrics

  def translate(model, key, x, *, condition=None):
    del key
    if condition is None:
      raise ValueError('the condition must be the domain to translate to, got none')
    domain = jnp.broadcast_to(jnp.asarray(condition), (len(x),))
    shapes.check_levels(sum(sizes), domain=domain)
    label = domains.label_vector(domain, sizes)
    return players.apply_trained(generator, GENERATOR, model, x, label)

  def critic(model, key, x, *, condition=None):
    del condition
    model_state = players.collections(model.extra, DISCRIMINATOR)
    return heads(model.params[DISCRIMINATOR], model_state, key, x, train=False)[0]

  return base.Method(
    cycle_gan.CARD, init, step, queries={'translate': translate, 'critic': critic}
  )
