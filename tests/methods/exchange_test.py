"""Roles exchanged, in every game: at its best critic both sides move to one law.

On a table of K cells with laws p and q the best critic of a game is found, by its
closed form or by descent; the exchanged loss E_p a(r) + E_q b(f) is then a function of
the masses, whose slopes must pull p and q together.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax import base
from gm_jax.losses import adversarial, f_divergence
from gm_jax.methods import bigan
from gm_jax.models import joint, mlp

DIVERGENCES = {
  'total_variation': f_divergence.TOTAL_VARIATION,
  'kl': f_divergence.KL,
  'reverse_kl': f_divergence.REVERSE_KL,
  'pearson': f_divergence.PEARSON,
  'neyman': f_divergence.NEYMAN,
  'squared_hellinger': f_divergence.SQUARED_HELLINGER,
  'jeffrey': f_divergence.JEFFREY,
  'jensen_shannon': f_divergence.JENSEN_SHANNON,
  'gan': f_divergence.GAN,
  'weighted_0.2': f_divergence.weighted_jensen_shannon(0.2),
  'alpha_0.5': f_divergence.alpha(0.5),
}
GAMES = {
  name: value
  for name, value in vars(adversarial).items()
  if isinstance(value, base.Game)
}
SADDLES = {name: f_divergence.f_gan(d) for name, d in DIVERGENCES.items()}
GAMES |= {f'{name}, saddle': game for name, game in SADDLES.items()}
GAMES |= {
  f'{name}, trick': f_divergence.f_gan(d, generator=f_divergence.trick_generator)
  for name, d in DIVERGENCES.items()
}
GAMES['smoothed'] = adversarial.one_sided_label_smoothing(adversarial.MINIMAX, 0.1)
R, F = jnp.array([1.3, -0.4, 0.2, -2.0]), jnp.array([-0.7, 0.1, 2.2, -1.1])
P, Q = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize('name', GAMES)
def test_real_is_pulled_to_fake_and_fake_to_real(name):
  """The loss falls as fake logits rise and as real ones fall, by the same rule."""
  loss = adversarial.exchange_roles(GAMES[name])
  assert loss(R, F).shape == (4,)
  patches = jnp.stack([R, F], axis=1)
  np.testing.assert_allclose(loss(patches, patches[::-1]).shape, (4,))
  # Short of what either critic's target is: beyond least squares pulls back.
  small = jnp.linspace(0.05, 0.95, 4)
  real_slope, fake_slope = jax.grad(lambda r, f: loss(r, f).sum(), (0, 1))(
    small, small[::-1]
  )
  assert (real_slope > 0).all() and (fake_slope < 0).all()


def _value(loss, logits, p, q):
  """E_p a(r) + E_q b(f) of a loss a(r) + b(f), on a critic of the cells."""
  pairs = jnp.meshgrid(logits, logits)  # r along the second axis, f along the first
  return q @ loss(*map(jnp.ravel, pairs)).reshape(len(q), len(p)) @ p


BEST = {
  'MINIMAX': lambda u: jnp.log(u),
  'NON_SATURATING': lambda u: jnp.log(u),
  'LEAST_SQUARES': lambda u: u / (1 + u),
  'HINGE': lambda u: jnp.sign(u - 1.0),
}


def _best_logits(name, p, q):
  """The best critic of the cells: in closed form, for f-GAN by its derivative."""
  ratio = jnp.array(p / q)
  if name in BEST:
    return BEST[name](ratio)
  record = DIVERGENCES[name.split(',')[0]]
  target, low, high = record.derivative(ratio), -40.0, 40.0
  for _ in range(60):  # the activation increases: bisection
    middle = (low + high) / 2
    below = record.activation(middle * jnp.ones_like(ratio)) < target
    low, high = jnp.where(below, middle, low), jnp.where(below, high, middle)
  return low


SEPARABLE = [*BEST, *(name for name in GAMES if ',' in name)]


@pytest.mark.parametrize('name', SEPARABLE)
def test_at_the_best_critic_the_loss_is_least_where_the_laws_are_one(name):
  loss = adversarial.exchange_roles(GAMES[name])
  with jax.enable_x64(True):
    values = []
    for mix in np.linspace(0.0, 1.0, 6):  # both laws go to their mean
      p, q = (one + mix * ((P + Q) / 2 - one) for one in (P, Q))
      values.append(float(_value(loss, _best_logits(name, p, q), p, q)))
    assert (np.diff(values) < 1e-9).all() and values[0] > values[-1] + 0.01
    # With the critic held, each side alone gains by going to the other.
    logits = _best_logits(name, P, Q)
    held = _value(loss, logits, P, Q)
    assert _value(loss, logits, Q, Q) < held and _value(loss, logits, P, P) < held


@pytest.mark.parametrize('name', SADDLES)
def test_a_saddle_has_the_value_of_its_divergence(name):
  """min max V: of the zero-sum game both sides descend the divergence itself."""
  loss = adversarial.exchange_roles(SADDLES[name])
  with jax.enable_x64(True):
    p, q = jnp.array(P), jnp.array(Q)
    logits = _best_logits(f'{name}, saddle', P, Q)
    value = _value(loss, logits, p, q)
    expected = f_divergence.evaluate(DIVERGENCES[name], p, q)
    np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-9)


def test_the_games_by_their_formulas():
  soft = jax.nn.softplus
  exchange = adversarial.exchange_roles
  formulas = {
    'MINIMAX': -soft(-R) - soft(F),
    'NON_SATURATING': soft(R) + soft(-F),
    'LEAST_SQUARES': (F - 1) ** 2 + R**2,
    'HINGE': jax.nn.relu(1 - F) + jax.nn.relu(1 + R),
    'WASSERSTEIN': R - F,
    'RELATIVISTIC': soft(R - F),
    'RELATIVISTIC_AVERAGE': soft(F.mean() * 0 + R - F.mean()) + soft(R.mean() - F),
    'kl, saddle': R - jnp.exp(F - 1),
    'kl, trick': jnp.exp(R - 1) - F,
  }
  for name, expected in formulas.items():
    np.testing.assert_allclose(exchange(GAMES[name])(R, F), expected, rtol=1e-6)


RATE = 0.1
Z = jax.random.normal(jax.random.key(9), (8, 3))
X = 1.0 + jax.random.normal(jax.random.key(8), (8, 2))


@pytest.mark.parametrize('name', ['LEAST_SQUARES', 'kl, saddle'])
def test_bigan_takes_a_step_down_the_exchanged_loss(name):
  game = GAMES[name]
  method = bigan.bigan(
    mlp.MLP((2,)), mlp.MLP((3,)), joint.Joint(None, mlp.MLP((1,))),
    optax.sgd(RATE), optax.sgd(RATE), prior=lambda key, num: Z[:num], game=game,
  )  # fmt: skip
  state = method.init(jax.random.key(0), {'x': X})
  after, metrics = jax.jit(method.step)(state, jax.random.key(1), {'x': X})
  old, d = state.params, after.params['discriminator']

  def linear(weights, x):
    return x @ weights['Dense_0']['kernel'] + weights['Dense_0']['bias']

  def loss(both):
    pairs = (X, linear(both['encoder'], X)), (linear(both['generator'], Z), Z)
    real, fake = (linear(d['head'], jnp.concatenate(p, 1))[:, 0] for p in pairs)
    if name == 'LEAST_SQUARES':
      return (real**2 + (fake - 1) ** 2).mean()
    return (real - jnp.exp(fake - 1)).mean()

  both = {player: old[player] for player in ('generator', 'encoder')}
  value, slopes = jax.value_and_grad(loss)(both)
  np.testing.assert_allclose(metrics['generator_loss'], value, rtol=1e-5)
  for player, slope in slopes.items():
    moved = jax.tree.map(lambda p, s: p - RATE * s, both[player], slope)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
      after.params[player], moved,
    )  # fmt: skip
