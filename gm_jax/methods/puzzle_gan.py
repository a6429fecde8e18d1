"""Puzzle-GAN: an image painted around a few patches whose places are not told.

  discriminator  softplus(-D(x)) + softplus(D(y)) + softplus(D(m x' + (1 - m) x))
                                                  + softplus(D(m x + (1 - m) x'))
  painter        softplus(-D(y)) + s(t) |m_G - m| + a(t) |m_G y - m x|

with (y, m_G) = G(z, patches), m where the patches were cut out of x, x' another image
of the batch, norms that are sums over pixels, and weights that fall with the step. It
is no solver of jigsaw puzzles: patches are few, leave gaps or overlap, tell neither
place nor scale, and no permutation is sought.

Source: Unsupervised Holistic Image Generation from Key Local Patches, Lee et al., 2017,
arXiv:1703.10730, section 3. In the authors' code the painter moves at every second step
of the discriminator; here a step moves this twice, on data of its own each time, then
the painter on the last: the same course, but every step moves both.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import adversaries, base, conditions, gradient, players, priors
from gm_jax.losses import adversarial, placement
from gm_jax.methods import gan
from gm_jax.players import DISCRIMINATOR, GENERATOR

MASK = 'mask'  # batch key
LOGITS = 'real_logits', 'fake_logits', 'part_logits', 'ground_logits'


def puzzle_gan(
  painter: nn.Module,
  discriminator: nn.Module,
  g_tx: optax.GradientTransformation,
  d_tx: optax.GradientTransformation,
  *,
  prior: priors.Prior,
  condition: conditions.Condition,
  spatial_weight: optax.Schedule,
  appearance_weight: optax.Schedule,
  num_critic: int = 2,
  penalty: Callable | None = None,
) -> base.Method:
  """A GAN that places patches and paints the image around them.

  Args:
    painter: (z [B, Z], patches [B, P, H, W, C]) -> image [B, H, W, C] and mask
      [B, H, W, 1].
    discriminator: x `[B, H, W, C]` -> logits `[B]` or `[B, 1]`.
    g_tx: the painter's optimizer.
    d_tx: the discriminator's optimizer.
    prior: (key, num) -> z `[num, Z]`.
    condition: on the patches, `conditions.by_patches`.
    spatial_weight: step -> s, of a sum over pixels.
    appearance_weight: step -> a, likewise.
    num_critic: discriminator steps a step; a batch holds num_critic * B examples.
    penalty: (critic, key, real, fake) -> [B], added to the discriminator's loss.

  Returns:
    The method; a batch has the patches and `mask` `[B, H, W, P]`, 1 where each was cut;
    queries `critic`, `decode`, `prior` and `sample_info`, which gives the mask.

  Raises:
    ValueError: `num_critic` is below 1; when called, slices of fewer than two images.
  """
  if num_critic < 1:
    raise ValueError(f'num_critic must be >= 1, got {num_critic}')

  def init(key, batch):
    g_key, d_key, z_key = jax.random.split(key, 3)
    value = conditions.embedded(condition, conditions.from_batch(condition, batch))
    g = players.new_player(painter, g_tx, g_key, prior(z_key, 2), value[:2])
    d = players.new_player(discriminator, d_tx, d_key, batch['x'][:2])
    return players.first_state({GENERATOR: g, DISCRIMINATOR: d})

  def paint(params, model_state, key, value):
    z_key, key = jax.random.split(key)
    z = prior(z_key, len(value))
    return players.apply(painter, params, model_state, z, value, key=key)

  def logits_of(params, model_state, key, x):
    return players.logits(discriminator, params, model_state, x, key=key)

  def d_loss(params, model_state, key, real, mask, fake):
    *keys, critic_key, penalty_key = jax.random.split(key, 6)
    other, found = jnp.roll(real, 1, axis=0), []
    mixed = (placement.composite(*p, mask) for p in ((other, real), (real, other)))
    for one_key, x in zip(keys, (real, fake, *mixed), strict=True):
      logits, model_state = logits_of(params, model_state, one_key, x)
      found.append(logits)
    loss = placement.discriminator(*found)
    if penalty is not None:

      def critic(x):
        return logits_of(params, model_state, critic_key, x)[0]

      loss += penalty(critic, penalty_key, real, fake)
    means = {name: x.mean() for name, x in zip(LOGITS, found, strict=True)}
    return loss.mean(), (model_state, means)

  def g_loss(params, model_state, key, step, critic, real, mask, value):
    g_key, d_key = jax.random.split(key)
    (fake, placed), model_state = paint(params, model_state, g_key, value)
    logits, _ = logits_of(critic.params, critic.model_state, d_key, fake)
    loss = adversarial.non_saturating_generator(logits, logits).mean()
    spatial = placement.spatial(placed, mask).mean()
    appearance = placement.appearance(fake, placed, real, mask).mean()
    terms = {'generator_loss': loss, 'spatial': spatial, 'appearance': appearance}
    loss += spatial_weight(step) * spatial + appearance_weight(step) * appearance
    return loss, (model_state, terms)

  def step(state, key, batch):
    critic_key, g_key = jax.random.split(key)
    g, critic = (players.get(state, name) for name in (GENERATOR, DISCRIMINATOR))
    value = conditions.training_embedding(condition, key, batch)
    mask = jnp.asarray(batch[MASK], jnp.float32).max(axis=3, keepdims=True)
    slices = gradient.interleaved((batch['x'], mask, value), num_critic)
    if len(slices[0][0]) < 2:
      raise ValueError('parts are exchanged between two images or more, got one')

    # 1. The discriminator: real, painted, parts of others, grounds of others.
    def critic_step(critic, inputs):
      key, real, mask, value = inputs
      d_key, g_key = jax.random.split(key)
      (fake, _), _ = paint(g.params, g.model_state, g_key, value)
      critic, loss, means = players.gradient_step(
        d_loss, d_tx, critic, d_key, real, mask, fake
      )
      return critic, {'discriminator_loss': loss, **means}

    keys = jax.random.split(critic_key, num_critic)
    critic, found = jax.lax.scan(critic_step, critic, (keys, *slices))

    # 2. The painter against it: real to its eyes, the parts where and as they were.
    last = (x[-1] for x in slices)
    g, _, terms = players.gradient_step(
      g_loss, g_tx, g, g_key, state.step, critic, *last
    )
    state = players.after_step(state, {GENERATOR: g, DISCRIMINATOR: critic})
    return state, jax.tree.map(lambda m: m[-1], found) | terms

  def decode_info(model, z, value):
    value = conditions.embedded(condition, value, len(z))
    image, mask = players.apply_trained(painter, GENERATOR, model, z, value)
    return image, {MASK: mask}

  def decode(model, key, z, *, condition=None):
    del key
    return decode_info(model, z, condition)[0]

  def sample_info(model, key, num, *, condition=None):
    return decode_info(model, prior(key, num), condition)

  def sample(model, key, num, *, condition=None):
    return decode_info(model, prior(key, num), condition)[0]

  queries = {'decode': decode, 'sample_info': sample_info}
  queries['critic'] = adversaries.critic_query(discriminator)  # it sees no patches
  queries |= adversaries.prior_queries(prior)
  card = gan.CARD._replace(condition=conditions.names(condition))
  return base.Method(card, init, step, sample, queries=queries)
