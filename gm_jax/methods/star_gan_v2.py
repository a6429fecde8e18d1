"""StarGAN v2: a translator between many domains, which gives images a style.

  F: (z, c) -> style,  E: (x, c) -> style,  G: (x, s) -> image,  D: x -> [K] logits
  critic       E d(D_c(x), D_c'(G(x, s))) + penalty
  translators  E g(D_c'(G(x, s))) + w_s E |s - E(G(x, s), c')|
               - w_d(t) E |G(x, s) - G(x, s')| + w_c E |x - G(G(x, s), E(x, c))|

with c the domain of x and s, s' styles of a domain c': F(z, c') and F(z', c') of
latents, or E(r, c') and E(r', c') of reference images. A step is four: of the critic
with latents and with references, of G, F and E with latents, and of G alone with
references. G(x, s') is held fixed; w_d falls to 0 along a line in t, the steps.

As in the published code steps come in this order, distances are means over numbers, and
c' is the domain of r. There r' is any image of that domain, here one of the same batch.

Source: StarGAN v2: Diverse Image Synthesis for Multiple Domains, Choi et al., 2020,
arXiv:1912.01865, section 2.2.
"""

import functools
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import adversaries, base, domains, gradient, players, priors
from gm_jax.losses import adversarial, shapes, translation
from gm_jax.methods import cycle_gan
from gm_jax.models import style
from gm_jax.players import DISCRIMINATOR, GENERATOR

MAPPING, ENCODER = 'mapping', 'encoder'
TURNS = (  # of a step: its name, who moves, and whose styles they are
  ('latent', (DISCRIMINATOR,), MAPPING),
  ('reference', (DISCRIMINATOR,), ENCODER),
  ('latent', (GENERATOR, MAPPING, ENCODER), MAPPING),
  ('reference', (GENERATOR,), ENCODER),
)
CARD = cycle_gan.CARD._replace(latents='continuous')


def star_gan_v2(
  networks: Mapping[str, nn.Module],
  txs: Mapping[str, optax.GradientTransformation],
  *,
  num_domains: int,
  prior: priors.Prior,
  game: base.Game = adversarial.NON_SATURATING,
  penalty: Callable | None = None,
  style_weight: float = 1.0,
  diversity_weight: float = 1.0,
  diversity_steps: int = 100_000,
  cycle_weight: float = 1.0,
) -> base.Method:
  """A translator that is given a style.

  Args:
    networks: by player: GENERATOR (x `[B, ...]`, style `[B, S]`) -> x, MAPPING (z,
      domain `[B]`) -> style, ENCODER (x, domain) -> style, DISCRIMINATOR x -> `[B, K]`.
    txs: by player; GENERATOR and DISCRIMINATOR make two updates a step.
    num_domains: K.
    prior: (key, num) -> z `[num, Z]`.
    game: of the logits.
    penalty: (critic, key, real, fake) -> [B], or None; R1 times 1/2 in the source.
    style_weight: w_s.
    diversity_weight: w_d at step 0.
    diversity_steps: until w_d is 0.
    cycle_weight: w_c.

  Returns:
    The method; a batch has `x` and `domain` of 2 B examples, images and references in
    turn; query `translate`, to the domain that is its condition, in a drawn style or in
    that of `reference`, images of this domain, one for each or one for all.

  Raises:
    ValueError: less than two domains, a weight below 0, diversity_steps below 1.
  """
  if num_domains < 2:
    raise ValueError(f'at least two domains are needed, got {num_domains}')
  if min(style_weight, diversity_weight, cycle_weight) < 0 or diversity_steps < 1:
    raise ValueError('weights must be >= 0 and diversity_steps >= 1')
  # Each network is traced once, however often a step applies it.
  forward = {
    name: jax.jit(functools.partial(players.apply, network))
    for name, network in networks.items()
  }

  def runner(params, model_states, key):
    """(player, *inputs) -> output, and all collections, which it keeps up to date."""
    keys, model_states = iter(jax.random.split(key, 9)), dict(model_states)

    def run(name, *inputs):
      out, model_states[name] = forward[name](
        params[name], model_states[name], *inputs, key=next(keys)
      )
      return out

    return run, model_states

  def logits(run, *pairs):
    return [style.of_domain(run(DISCRIMINATOR, x), domain) for x, domain in pairs]

  def d_loss(params, model_states, key, source, weight, real, domain, target, codes):
    del weight
    run_key, critic_key, penalty_key = jax.random.split(key, 3)
    run, after = runner(params, model_states, run_key)
    fake = run(GENERATOR, real, run(source, codes[0], target))
    real_logits, fake_logits = logits(run, (real, domain), (fake, target))
    loss = game.discriminator(real_logits, fake_logits).mean()
    if penalty is not None:

      def critic(x):  # the penalty may differentiate it: it keeps no collections
        return logits(runner(params, model_states, critic_key)[0], (x, domain))[0]

      loss += penalty(critic, penalty_key, real, fake).mean()
    means = {'real_logits': real_logits.mean(), 'fake_logits': fake_logits.mean()}
    return loss, (after, means)

  def g_loss(params, model_states, key, source, weight, real, domain, target, codes):
    run, after = runner(params, model_states, key)
    s, other = (run(source, code, target) for code in codes)
    fake, apart = run(GENERATOR, real, s), run(GENERATOR, real, other)
    back = run(GENERATOR, fake, run(ENCODER, real, domain))
    real_logits, fake_logits = logits(run, (real, domain), (fake, target))

    def error(x, again):
      return translation.absolute_error(x, again).mean()

    found = {
      'style_loss': error(s, run(ENCODER, fake, target)),
      'diversity': error(jax.lax.stop_gradient(apart), fake),
      'cycle_loss': error(real, back),
    }
    loss = game.generator(real_logits, fake_logits).mean()
    loss += style_weight * found['style_loss'] + cycle_weight * found['cycle_loss']
    loss -= weight * found['diversity']
    return loss, (after, found)

  def init(key, batch):
    *keys, z_key = jax.random.split(key, 5)
    x, domain, z = batch['x'][:2], batch['domain'][:2], prior(z_key, 2)
    s, _ = networks[MAPPING].init_with_output(keys[0], z, domain)
    inputs = {GENERATOR: (x, s), MAPPING: (z, domain), ENCODER: (x, domain)}
    inputs[DISCRIMINATOR] = (x,)
    return players.first_state({
      name: players.new_player(networks[name], txs[name], key, *inputs[name])
      for name, key in zip(inputs, keys, strict=True)
    })  # fmt: skip

  def step(state, key, batch):
    other_key, z_key, *keys = jax.random.split(key, 6)
    x, domain = batch['x'], batch['domain']
    cut = x, domain, x[domains.draw_others(other_key, domain)]
    (real, reference), (domain, target), (_, other) = gradient.interleaved(cut, 2)
    z = prior(z_key, 2 * len(real))
    codes = {MAPPING: (z[::2], z[1::2]), ENCODER: (reference, other)}
    weight = diversity_weight * jnp.maximum(0.0, 1.0 - state.step / diversity_steps)
    metrics = {'diversity_weight': weight}
    for key, (name, names, source) in zip(keys, TURNS, strict=True):
      loss_fn = d_loss if DISCRIMINATOR in names else g_loss
      images = real, domain, target, codes[source]
      state, loss, found = adversaries.move(
        state, names, txs, loss_fn, key, source, weight, *images
      )
      found[f'{names[0]}_loss'] = loss
      metrics |= {f'{name}_{metric}': value for metric, value in found.items()}
    return players.after_step(state), metrics

  def translate(model, key, x, *, condition=None, reference=None):
    if condition is None:
      raise ValueError('the condition must be the domain to translate to, got none')
    domain = jnp.broadcast_to(jnp.asarray(condition), (len(x),))
    shapes.check_levels(num_domains, domain=domain)
    source = MAPPING if reference is None else ENCODER
    if reference is None:
      code = prior(key, len(x))
    elif jnp.shape(reference) in (x.shape, x.shape[1:]):
      code = jnp.broadcast_to(reference, x.shape)
    else:
      raise ValueError(
        f'reference must be images as x, {x.shape}, or a single one, got'
        f' {jnp.shape(reference)}'
      )
    s = players.apply_trained(networks[source], source, model, code, domain)
    return players.apply_trained(networks[GENERATOR], GENERATOR, model, x, s)

  return base.Method(CARD, init, step, queries={'translate': translate})
