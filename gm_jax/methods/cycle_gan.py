"""CycleGAN: two domains without pairs, a translator each way, and the way back.

  G: X -> Y,  F: Y -> X,  critics D_Y and D_X of patches,  (g, d) any `Game`
  critics      E d(D_Y(y), D_Y(G(x))) + E d(D_X(x), D_X(F(y))), of earlier steps too
  translators  w_a [E g(D_Y(G(x))) + E g(D_X(F(y)))]
               + w_c [E |F(G(x)) - x| + E |G(F(y)) - y|]
               + w_i [E |G(y) - y| + E |F(x) - x|]

The translators move together, since the cycle couples them, then the critics, on what
pools give for the translations. Which y stands beside which x is never used.

Source: Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks,
Zhu et al., 2017, arXiv:1703.10593.

The published code moves G, D_Y, F, D_X in turn.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import adversaries, base, players, pools
from gm_jax.losses import adversarial, translation

TO_Y, TO_X, CRITIC_Y, CRITIC_X = 'to_y', 'to_x', 'critic_y', 'critic_x'
TRANSLATORS, CRITICS = 'translators', 'critics'  # objectives, of two players each
CARD = base.Card(
  density='none', density_cost='none', measure='none', sampling='none',
  sampling_cost='none', training=('adversarial', 'reconstruction'), latents='none',
  architecture='any',
)  # fmt: skip


def cycle_gan(
  to_y: nn.Module,
  to_x: nn.Module,
  critic_y: nn.Module,
  critic_x: nn.Module,
  g_tx: optax.GradientTransformation,
  d_tx: optax.GradientTransformation,
  *,
  game: base.Game = adversarial.LEAST_SQUARES,
  adversarial_weight: float = 1.0,
  cycle_weight: float = 10.0,
  identity_weight: float = 5.0,
  pool_size: int = 50,
) -> base.Method:
  """Two translators against two critics.

  Args:
    to_y: G, x [B, ...] -> y [B, ...].
    to_x: F, the other way.
    critic_y: D_Y, y -> logits [B], or [B, ...] of patches.
    critic_x: D_X.
    g_tx: the optimizer of both translators.
    d_tx: of both critics.
    game: of the critics' logits.
    adversarial_weight: w_a; at 0 nothing but the cycle is learned.
    cycle_weight: w_c.
    identity_weight: w_i; 0 for domains of two shapes.
    pool_size: translations to each domain that are kept; 0 for none.

  Returns:
    The method; a batch has `x` and `y`; query `translate`, whose condition is 1 from x
    to y and 0 from y to x.

  Raises:
    ValueError: a weight or a size below 0; by `init`, w_i of domains of two shapes.
  """
  modules = {TO_Y: to_y, TO_X: to_x, CRITIC_Y: critic_y, CRITIC_X: critic_x}
  if min(adversarial_weight, cycle_weight, identity_weight, pool_size) < 0:
    raise ValueError('weights and pool_size must be >= 0')

  def init(key, batch):
    x, y = batch['x'], batch['y']
    if identity_weight and x.shape[1:] != y.shape[1:]:
      raise ValueError(
        f'an identity term needs domains of one shape, got {list(x.shape[1:])} and'
        f' {list(y.shape[1:])}; identity_weight = 0 goes without'
      )
    inputs = {TO_Y: x[:2], TO_X: y[:2], CRITIC_Y: y[:2], CRITIC_X: x[:2]}
    keys = zip(modules.items(), jax.random.split(key, 4), strict=True)
    parts = {n: players.init(m, k, inputs[n]) for (n, m), k in keys}
    kept = {'x': x, 'y': y} if pool_size else {}
    kept = {name: pools.empty(pool_size, a[0]) for name, a in kept.items()}
    state = players.first_state({}, {base.LOCAL: kept} if kept else {})
    for objective, tx, *names in (
      (TRANSLATORS, g_tx, TO_Y, TO_X), (CRITICS, d_tx, CRITIC_Y, CRITIC_X),
    ):  # fmt: skip
      group = players.new_group(tx, {name: parts[name] for name in names})
      state = players.put_group(state, group, objective)
    return state

  def g_loss(params, model_state, key, critics, x, y):
    keys, states = iter(jax.random.split(key, 8)), dict(model_state)

    def through(name, a):
      out, states[name] = players.apply(
        modules[name], params[name], states[name], a, key=next(keys)
      )
      return out

    def against(name, real, fake):
      one = players.Player(critics.params[name], None, critics.model_state[name])
      return adversaries.generator_loss(
        modules[name], game, one, next(keys), real, fake
      )

    def error(real, again):
      return translation.absolute_error(real, again).mean()

    fake_y, fake_x = through(TO_Y, x), through(TO_X, y)
    fooled = against(CRITIC_Y, y, fake_y) + against(CRITIC_X, x, fake_x)
    cycle = error(x, through(TO_X, fake_y)) + error(y, through(TO_Y, fake_x))
    metrics = {'adversarial_loss': fooled, 'cycle_loss': cycle}
    loss = adversarial_weight * fooled + cycle_weight * cycle
    if identity_weight:
      same = error(x, through(TO_X, x)) + error(y, through(TO_Y, y))
      metrics['identity_loss'] = same
      loss += identity_weight * same
    return loss, (states, (metrics, {'x': fake_x, 'y': fake_y}))

  def d_loss(params, model_state, key, real, fake):
    loss, states = 0.0, {}
    x_key, y_key = jax.random.split(key)
    for name, part, own_key in ((CRITIC_X, 'x', x_key), (CRITIC_Y, 'y', y_key)):
      critic_loss = adversaries.discriminator_loss(modules[name], game)
      mine, (states[name], _) = critic_loss(
        params[name], model_state[name], own_key, real[part], fake[part]
      )
      loss += mine
    return loss, (states, {})

  def shown(state, key, fake):
    """Translations that the critics see, and the state with its pools."""
    if not pool_size:
      return fake, state
    held, keys = (
      state.extra[base.LOCAL],
      dict(zip('xy', jax.random.split(key), strict=True)),
    )
    found = {name: pools.exchange(held[name], keys[name], fake[name]) for name in fake}
    held = {name: pool for name, (_, pool) in found.items()}
    state = state._replace(extra={**state.extra, base.LOCAL: held})
    return {name: examples for name, (examples, _) in found.items()}, state

  def step(state, key, batch):
    g_key, pool_key, d_key = jax.random.split(key, 3)
    real = {name: batch[name] for name in ('x', 'y')}
    translators = players.get_group(state, (TO_Y, TO_X), TRANSLATORS)
    critics = players.get_group(state, (CRITIC_Y, CRITIC_X), CRITICS)

    # 1. Both translators, against the critics and with one another.
    translators, loss, (metrics, fake) = players.gradient_step(
      g_loss, g_tx, translators, g_key, critics, real['x'], real['y']
    )

    # 2. Both critics, on these translations and earlier ones.
    fake, state = shown(state, pool_key, fake)
    critics, d_value, _ = players.gradient_step(
      d_loss, d_tx, critics, d_key, real, fake
    )
    state = players.put_group(state, translators, TRANSLATORS)
    state = players.put_group(state, critics, CRITICS)
    metrics |= {'translators_loss': loss, 'critics_loss': d_value}
    return players.after_step(state), metrics

  def translate(model, key, x, *, condition=1):
    del key
    if not jnp.ndim(condition):
      if condition not in (0, 1):
        raise ValueError(f'the domain must be 1, of y, or 0, of x, got {condition}')
      name = TO_Y if condition else TO_X
      return players.apply_trained(modules[name], name, model, x)
    both = [players.apply_trained(modules[n], n, model, x) for n in (TO_X, TO_Y)]
    chosen = jnp.asarray(condition).reshape(-1, *(1,) * (x.ndim - 1))
    return jnp.where(chosen == 1, both[1], both[0])

  return base.Method(CARD, init, step, queries={'translate': translate})
