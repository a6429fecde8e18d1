"""Dynamics of games against the matrices that they are on linear fields."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax import dynamics, gradient, priors, unroll
from gm_jax.losses import adversarial
from gm_jax.methods import simultaneous_gan
from gm_jax.models import mlp

RATE, STEPS = 0.1, 50
BILINEAR = np.array([[0.0, 1.0], [-1.0, 0.0]])  # of min_x max_y x y
START = {'x': 1.0, 'y': 0.5}


def linear(matrix):
  """The field v = J w of players x and y."""

  def field(w):
    v = jnp.asarray(matrix) @ jnp.stack([w['x'], w['y']])
    return {'x': v[0], 'y': v[1]}, ()

  return field


def path(dynamics_fn, matrix=BILINEAR, tx=None, steps=STEPS):
  """[steps + 1, 2] of players from START, each with an optimizer of its own."""
  tx = tx or optax.sgd(RATE)

  def update(direction, opt_state, params):
    moved = {k: dynamics.updater(tx)(direction[k], opt_state[k], params[k])
             for k in params}  # fmt: skip
    return {k: m[0] for k, m in moved.items()}, {k: m[1] for k, m in moved.items()}

  def body(carry, _):
    params, opt_state, _ = dynamics_fn(linear(matrix), update, *carry)
    return (params, opt_state), jnp.stack([params['x'], params['y']])

  start = {k: jnp.asarray(v, jnp.result_type(float)) for k, v in START.items()}
  carry = start, {k: tx.init(v) for k, v in start.items()}
  points = jax.lax.scan(body, carry, length=steps)[1]
  return np.concatenate([[list(START.values())], points])


def powers(matrix, steps=STEPS):
  return np.stack(
    [np.linalg.matrix_power(matrix, i) @ list(START.values()) for i in range(steps + 1)]
  )


IDENTITY, GAMMA = np.eye(2), 0.7
GENERAL = np.array([[0.3, 1.2], [-0.4, -0.1]])
A = {name: (m - m.T) / 2 for name, m in (('b', BILINEAR), ('g', GENERAL))}
CASES = {
  'simultaneous': (dynamics.simultaneous, lambda j: IDENTITY - RATE * j),
  'extragradient': (
    dynamics.extragradient, lambda j: IDENTITY - RATE * j @ (IDENTITY - RATE * j)
  ),
  'consensus': (
    dynamics.consensus(GAMMA), lambda j: IDENTITY - RATE * (j + GAMMA * j.T @ j)
  ),
  'symplectic': (
    dynamics.symplectic(GAMMA, align=False),
    lambda j: IDENTITY - RATE * (j + GAMMA * ((j - j.T) / 2).T @ j),
  ),
}  # fmt: skip


@pytest.mark.parametrize('matrix', [BILINEAR, GENERAL], ids=['bilinear', 'general'])
@pytest.mark.parametrize('name', CASES)
def test_on_a_linear_field_a_step_is_its_matrix(name, matrix):
  dynamics_fn, step_of = CASES[name]
  with jax.enable_x64(True):
    found = path(dynamics_fn, matrix)
  np.testing.assert_allclose(found, powers(step_of(matrix)), rtol=1e-10)


@pytest.mark.parametrize(
  ('name', 'verdict'),
  [('simultaneous', 'diverges'), ('extragradient', 'converges'),
   ('consensus', 'converges'), ('symplectic', 'converges')],
)  # fmt: skip
def test_bilinear_game(name, verdict):
  with jax.enable_x64(True):
    norms = np.linalg.norm(path(CASES[name][0], steps=2000), axis=1)
  if verdict == 'diverges':  # |w| grows by (1 + eta^2)^(1/2) a step, exactly
    growth = (1.0 + RATE**2) ** (np.arange(2001) / 2)
    np.testing.assert_allclose(norms, norms[0] * growth, rtol=1e-9)
  else:
    assert norms[-1] < 1e-3 * norms[0]


def test_optimistic_steps_converge_as_their_companion_matrix():
  # w_{t+1} = w_t - eta (2 v_t - v_{t-1}), the first step a plain one
  with jax.enable_x64(True):
    tx = optax.optimistic_gradient_descent(RATE)
    found = path(dynamics.simultaneous, tx=tx, steps=2000)
  j, w = BILINEAR, np.array(list(START.values()))
  before = j @ w
  for i in range(STEPS + 1):
    np.testing.assert_allclose(found[i], w, rtol=1e-9)
    w, before = w - RATE * (2 * j @ w - before), j @ w
  companion = np.block([[IDENTITY - 2 * RATE * j, RATE * j], [IDENTITY, 0 * j]])
  radius = np.abs(np.linalg.eigvals(companion)).max()
  assert radius < 1
  slope = np.log(np.linalg.norm(found[2000]) / np.linalg.norm(found[1000])) / 1000
  np.testing.assert_allclose(slope, np.log(radius), rtol=1e-3)


def test_unrolled_steps_converge_on_the_bilinear_game():
  # x descends x y_k with y_k = y + k eta x: its gradient is y + 2 k eta x.
  num = 3

  def react(y, x):
    return unroll.full(lambda y, _: y + RATE * x, y, length=num)

  def body(w, _):
    x, y = w
    slope = jax.grad(lambda x: x * react(y, x))(x)
    return jnp.stack([x - RATE * slope, y + RATE * x]), w

  with jax.enable_x64(True):
    start = jnp.array(list(START.values()))
    last, found = jax.lax.scan(body, start, length=2000)
  step = np.array([[1 - 2 * num * RATE**2, -RATE], [RATE, 1.0]])
  np.testing.assert_allclose(found[: STEPS + 1], powers(step), rtol=1e-9)
  assert np.linalg.norm(last) < 1e-3


def test_two_time_scales_stabilize_what_one_does_not():
  # v = J w with trace < 0 < det: unstable at equal rates, stable where y is faster.
  matrix = np.array([[-0.6, 1.0], [-1.0, 0.3]])
  for ratio, converges in ((1.0, False), (4.0, True)):
    fast = np.diag([1.0, ratio]) @ matrix
    eigenvalues = np.linalg.eigvals(fast)
    assert (eigenvalues.real.min() > 0) == converges
    norms = np.linalg.norm(
      path(dynamics.simultaneous, fast, optax.sgd(0.02), 2000), axis=1
    )
    assert (norms[-1] < 1e-3) == converges


def test_symplectic_adjustment_leaves_potential_games_alone_and_aligns():
  potential = np.array([[2.0, 0.5], [0.5, 1.0]])
  plain = path(dynamics.simultaneous, potential)
  np.testing.assert_allclose(
    path(dynamics.symplectic(5.0), potential), plain, rtol=1e-5
  )
  # -J: a repeller. Aligned, the adjustment turns away from it, so it is no attractor.
  repeller = np.array([[-1.0, 3.0], [-3.0, -1.0]])
  w = np.array(list(START.values()))
  v, slope = repeller @ w, repeller.T @ repeller @ w
  adjustment = ((repeller - repeller.T) / 2).T @ v
  sign = np.sign((v @ slope) * (adjustment @ slope) / 2 + dynamics.ALIGNMENT)
  assert sign == -1
  after = path(dynamics.symplectic(1.0), repeller, steps=1)[1]
  np.testing.assert_allclose(after, w - RATE * (v + sign * adjustment), rtol=1e-5)


@pytest.mark.parametrize('make', [dynamics.consensus, dynamics.symplectic])
def test_negative_strengths_are_refused(make):
  with pytest.raises(ValueError, match='strength must be >= 0, got -1'):
    make(-1.0)


def small(dynamics_of, g_tx, d_tx):
  return simultaneous_gan.simultaneous_gan(
    mlp.MLP((5, 2), nn.tanh), mlp.MLP((6, 1), nn.tanh), g_tx, d_tx,
    prior=priors.normal(3), dynamics=dynamics_of, game=adversarial.MINIMAX,
  )  # fmt: skip


def test_a_step_of_the_gan_moves_both_players_from_the_same_point():
  method = small(dynamics.simultaneous, optax.sgd(0.3), optax.sgd(0.2))
  x, key = jax.random.normal(jax.random.key(0), (12, 2)), jax.random.key(2)
  state = jax.jit(method.init)(jax.random.key(1), {'x': x})
  new, metrics = jax.jit(method.step)(state, key, {'x': x})
  z = priors.normal(3)(jax.random.split(key)[0], 12)

  def v(g_params, d_params):  # the paper's value, written out
    def logit(x):
      return mlp.MLP((6, 1), nn.tanh).apply({'params': d_params}, x)[:, 0]

    fake = mlp.MLP((5, 2), nn.tanh).apply({'params': g_params}, z)
    real, fake = jax.nn.sigmoid(logit(x)), jax.nn.sigmoid(logit(fake))
    return jnp.mean(jnp.log(real) + jnp.log(1 - fake))

  old = state.params['generator'], state.params['discriminator']
  value, (g_grads, d_grads) = jax.jit(jax.value_and_grad(v, (0, 1)))(*old)
  expected = {
    'generator': jax.tree.map(lambda p, g: p - 0.3 * g, old[0], g_grads),
    'discriminator': jax.tree.map(lambda p, g: p + 0.2 * g, old[1], d_grads),
  }
  chex.assert_trees_all_close(new.params, expected, atol=1e-6)
  np.testing.assert_allclose(-metrics['discriminator_loss'], value, rtol=1e-5)


def test_consensus_of_the_gan_descends_the_fields_norm_too():
  rate, strength = 0.1, 2.0
  tx = optax.sgd(rate)
  method = small(dynamics.consensus(strength), tx, tx)
  plain = small(dynamics.simultaneous, tx, tx)
  x, key = jax.random.normal(jax.random.key(0), (12, 2)), jax.random.key(2)
  state = jax.jit(method.init)(jax.random.key(1), {'x': x})
  z_key, field_key = jax.random.split(key)
  field = simultaneous_gan.vector_field(
    mlp.MLP((5, 2), nn.tanh), mlp.MLP((6, 1), nn.tanh)
  )
  z = priors.normal(3)(z_key, 12)

  def half_square(params):
    return 0.5 * optax.tree.norm(field(params, {}, field_key, x, z)[0], squared=True)

  slope = jax.jit(jax.grad(half_square))(state.params)
  one, other = (
    jax.jit(m.step)(state, key, {'x': x})[0].params for m in (method, plain)
  )
  expected = jax.tree.map(lambda p, s: p - rate * strength * s, other, slope)
  chex.assert_trees_all_close(one, expected, atol=1e-6)
  assert optax.tree.norm(slope) > 1e-3


def test_gradient_step_and_updater_are_the_same_step():
  tx = optax.adam(0.1)
  params = {'w': jnp.array([1.0, -2.0])}
  state = tx.init(params)

  def loss(p):
    return jnp.sum(p['w'] ** 4), ()

  expected = gradient.gradient_step(loss, tx, params, state)[:2]
  found = dynamics.updater(tx)(jax.grad(lambda p: loss(p)[0])(params), state, params)
  chex.assert_trees_all_close(found, expected)
