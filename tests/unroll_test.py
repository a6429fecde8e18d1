"""The unrolled gradient against closed forms, finite differences and limits."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax import gradient, unroll

# The quadratic game f(G, D) = -a/2 D^2 + b D G with inner ascent of rate eta:
# D_k = r^k D_0 + (b G / a)(1 - r^k), r = 1 - eta a, and
# full - partial = (b / a)(b G - a D_0) r^k (1 - r^k).
A, B, ETA, G, D0 = 1.3, 0.7, 0.2, 0.9, -0.4


def value(g, d):
  return -A / 2 * d**2 + B * d * g


def ascent(g, d, _):
  return d + ETA * jax.grad(value, argnums=1)(g, d)


def game_gradient(unroll_fn, k, step=ascent):
  @jax.jit
  @jax.grad
  def outer(g):
    return value(g, unroll_fn(functools.partial(step, g), jnp.asarray(D0), length=k))

  return outer(G)


def closed_form(k):
  power = (1 - ETA * A) ** k
  d_k = power * D0 + (B * G / A) * (1 - power)
  return B * d_k, B * d_k + (-A * d_k + B * G) * (B / A) * (1 - power)


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


@pytest.mark.parametrize('k', [0, 1, 2, 5, 10, 50])
def test_quadratic_game_has_its_closed_form(k):
  partial, full = closed_form(k)
  np.testing.assert_allclose(game_gradient(unroll.full, k), full, rtol=1e-12)
  np.testing.assert_allclose(game_gradient(unroll.partial, k), partial, rtol=1e-12)
  gap = (B / A) * (B * G - A * D0) * (1 - ETA * A) ** k * (1 - (1 - ETA * A) ** k)
  np.testing.assert_allclose(full - partial, gap, rtol=1e-9, atol=1e-15)


def test_quadratic_game_has_the_numbers_of_the_reference():
  # Computed from the closed form and by finite differences, to 8 digits.
  np.testing.assert_allclose(game_gradient(unroll.full, 5), 0.30873991, atol=1e-8)
  np.testing.assert_allclose(game_gradient(unroll.partial, 5), 0.20182305, atol=1e-8)
  np.testing.assert_allclose(game_gradient(unroll.full, 10), 0.33772940, atol=1e-8)


def test_many_steps_reach_the_best_response():
  limit = B**2 * G / A  # d/dG max_D f
  for unroll_fn in (unroll.full, unroll.partial, unroll.implicit(num_terms=200)):
    np.testing.assert_allclose(game_gradient(unroll_fn, 200), limit, rtol=1e-10)


def test_gap_vanishes_at_both_ends_and_peaks_where_the_power_is_half():
  gaps = jax.jit(
    lambda: [
      game_gradient(unroll.full, k) - game_gradient(unroll.partial, k)
      for k in range(20)
    ]
  )()
  peak = np.log(0.5) / np.log(1 - ETA * A)
  assert gaps[0] == 0 and abs(int(np.argmax(gaps)) - peak) < 1 and gaps[19] < gaps[5]


# A small game with nonlinear players: theta enters through the data of the
# inner problem, as fake samples do.
INPUT = np.random.default_rng(0).normal(size=(6, 3))


def inner_loss(theta, weights, data):
  hidden = jnp.tanh(data @ weights['first'])
  fake = jnp.tanh(data[:, :2] * theta) @ jnp.ones((2, 1))
  return jnp.mean(jax.nn.softplus(-hidden @ weights['last'] * fake)) + 0.1 * sum(
    jnp.sum(w**2) for w in weights.values()
  )


def optimizer_step(tx, theta, state, data):
  weights, opt_state = state
  grads = jax.grad(inner_loss, argnums=1)(theta, weights, data)
  updates, opt_state = tx.update(grads, opt_state, weights)
  return optax.apply_updates(weights, updates), opt_state


def outer_loss(tx, unroll_fn, k, fresh, theta):
  rng = np.random.default_rng(1)
  weights = {
    'first': jnp.asarray(rng.normal(size=(3, 4))),
    'last': jnp.asarray(rng.normal(size=(4, 1))),
  }
  state = (weights, tx.init(weights))
  step = functools.partial(optimizer_step, tx, theta)
  if fresh:
    weights, _ = unroll_fn(step, state, jnp.asarray(rng.normal(size=(k, 6, 3))))
  else:
    weights, _ = unroll_fn(lambda s, _: step(s, INPUT), state, length=k)
  return inner_loss(theta, weights, INPUT) ** 2


OPTIMIZERS = {
  'sgd': lambda: optax.sgd(0.3),
  'momentum': lambda: optax.sgd(0.1, momentum=0.9),
  'adam': lambda: optax.adam(0.1, b1=0.5, eps_root=1e-8),
}


# Each with an input of its own every step and without; the rest is slow.
@pytest.mark.parametrize(
  ('name', 'fresh'),
  [
    ('sgd', True),
    ('momentum', False),
    ('adam', True),
    *(
      pytest.param(*row, marks=pytest.mark.slow)
      for row in (('sgd', False), ('momentum', True), ('adam', False))
    ),
  ],
)
def test_full_gradient_equals_finite_differences(name, fresh):
  theta, h = jnp.asarray([0.7, -0.4]), 1e-5
  loss, popular = (
    functools.partial(outer_loss, OPTIMIZERS[name](), unroll_fn, 5, fresh)
    for unroll_fn in (unroll.full, unroll.partial)
  )
  sides = theta + h * np.concatenate([np.eye(2), -np.eye(2)])
  values = jax.jit(jax.vmap(loss))(sides)
  exact, partial = jax.jit(lambda t: (jax.grad(loss)(t), jax.grad(popular)(t)))(theta)
  np.testing.assert_allclose(exact, (values[:2] - values[2:]) / (2 * h), rtol=1e-6)
  assert np.abs(partial - exact).max() > 1e-3  # the popular form is another number


@pytest.mark.parametrize('fresh', [pytest.param(False, marks=pytest.mark.slow), True])
def test_truncation_at_k_is_full_and_at_zero_is_partial(fresh):
  theta, tx, k = jnp.asarray([0.7, -0.4]), OPTIMIZERS['adam'](), 4

  def gradient(unroll_fn):
    loss = functools.partial(outer_loss, tx, unroll_fn, k, fresh)
    return jax.jit(jax.grad(loss))(theta)

  full = gradient(unroll.full)
  np.testing.assert_allclose(gradient(unroll.truncated(k)), full, rtol=1e-12)
  np.testing.assert_allclose(gradient(unroll.truncated(9)), full, rtol=1e-12)
  np.testing.assert_allclose(
    gradient(unroll.truncated(0)), gradient(unroll.partial), rtol=1e-12
  )


def test_truncation_sees_the_last_steps_only():
  # In the quadratic game the last m steps carry (b/a)(1 - r^m) of the reaction.
  k, m = 7, 3
  power = (1 - ETA * A) ** k
  d_k = power * D0 + (B * G / A) * (1 - power)
  expected = B * d_k + (-A * d_k + B * G) * (B / A) * (1 - (1 - ETA * A) ** m)
  np.testing.assert_allclose(
    game_gradient(unroll.truncated(m), k), expected, rtol=1e-12
  )


@pytest.mark.parametrize('m', [pytest.param(1, marks=pytest.mark.slow), 3])
def test_truncation_on_fresh_inputs_is_full_after_a_constant_head(m):
  theta, tx, k = jnp.asarray([0.7, -0.4]), OPTIMIZERS['adam'](), 5

  def by_hand(step, state, xs):
    for i, x in enumerate(xs):
      state = step(state, x)
      if i == k - m - 1:
        state = jax.lax.stop_gradient(state)
    return state

  def both(unroll_fn):
    loss = functools.partial(outer_loss, tx, unroll_fn, k, True)
    return jax.jit(jax.value_and_grad(loss))(theta)

  (value, slope), (expected, expected_slope) = both(unroll.truncated(m)), both(by_hand)
  np.testing.assert_allclose(value, expected, rtol=1e-12)
  np.testing.assert_allclose(slope, expected_slope, rtol=1e-10)
  for other in (unroll.full, unroll.partial):
    assert np.abs(both(other)[1] - expected_slope).max() > 1e-5


@pytest.mark.parametrize(
  'unroll_fn', [unroll.full, unroll.partial, *map(unroll.truncated, range(6))]
)
def test_inputs_are_taken_in_their_order(unroll_fn):
  factors = np.random.default_rng(3).normal(size=(5, 3, 3))  # do not commute
  product = functools.reduce(lambda s, x: x @ s, factors, np.eye(3))
  last = jax.jit(lambda xs: unroll_fn(lambda s, x: x @ s, jnp.eye(3), xs))(factors)
  np.testing.assert_allclose(last, product, rtol=1e-10)


def test_implicit_gradient_is_that_of_the_last_input():
  # Gradient descent on s'C_i s/2 - s'M_i theta: the last problem comes 300 times.
  rng = np.random.default_rng(4)
  roots, order = rng.normal(size=(2, 3, 3)), np.r_[0, 0, np.ones(300, int)]
  curvatures = roots @ roots.swapaxes(1, 2) + 2 * np.eye(3)
  mixed = rng.normal(size=(2, 3, 2))
  theta = jnp.asarray([0.3, -1.2])

  def outer(theta):
    def step(s, x):
      return s - 0.1 * (x['curvature'] @ s - x['mixed'] @ theta)

    xs = {'curvature': jnp.asarray(curvatures)[order], 'mixed': mixed[order]}
    return jnp.sum(jnp.sin(unroll.implicit(num_terms=300)(step, jnp.ones(3), xs)))

  best = np.linalg.solve(curvatures[1], mixed[1] @ theta)
  expected = np.linalg.solve(curvatures[1], mixed[1]).T @ np.cos(best)
  np.testing.assert_allclose(jax.jit(jax.grad(outer))(theta), expected, rtol=1e-8)


def test_implicit_gradient_is_the_matrix_inverse_one():
  rng = np.random.default_rng(2)
  root = rng.normal(size=(3, 3))
  curvature = jnp.asarray(root @ root.T + np.eye(3))
  mixed = jnp.asarray(rng.normal(size=(3, 2)))
  theta = jnp.asarray([0.3, -1.2])

  def step(theta, s, _):  # gradient descent on s'Cs/2 - s'M theta
    return s - 0.1 * (curvature @ s - mixed @ theta)

  def outer(unroll_fn, theta):
    s = unroll_fn(functools.partial(step, theta), jnp.zeros(3), length=400)
    return jnp.sum(jnp.sin(s)) + theta @ theta

  best = np.linalg.solve(curvature, mixed @ theta)
  expected = 2 * theta + np.linalg.solve(curvature, mixed).T @ np.cos(best)

  def gmres(matvec, b):
    return jax.scipy.sparse.linalg.gmres(matvec, b, tol=1e-12)[0]

  for unroll_fn in (unroll.implicit(num_terms=400), unroll.implicit(solver=gmres)):
    np.testing.assert_allclose(
      jax.jit(jax.grad(functools.partial(outer, unroll_fn)))(theta), expected, rtol=1e-8
    )
  few = jax.jit(jax.grad(functools.partial(outer, unroll.implicit(num_terms=2))))(theta)
  assert np.abs(few - expected).max() > 1e-2


def test_implicit_refuses_states_that_are_not_all_float():
  tx = optax.adam(1e-2, eps_root=1e-8)
  with pytest.raises(ValueError, match='whole state is float.*count.*int'):
    outer_loss(tx, unroll.implicit(), 3, False, jnp.asarray([0.7, -0.4]))


def test_no_steps_is_the_start():
  for unroll_fn in (
    unroll.full,
    unroll.partial,
    unroll.truncated(2),
    unroll.implicit(),
  ):
    assert game_gradient(unroll_fn, 0) == B * D0
    assert unroll_fn(lambda s, x: s + x, jnp.asarray(1.5), jnp.zeros((0,))) == 1.5


@pytest.mark.parametrize(('xs', 'length'), [(None, None), (np.zeros(3), 4), (None, -1)])
def test_number_of_steps_must_be_said_once(xs, length):
  with pytest.raises(ValueError, match='steps'):
    unroll.full(lambda s, _: s, 0.0, xs, length=length)


@pytest.mark.parametrize(
  'bad', [unroll.truncated, lambda n: unroll.implicit(num_terms=n)]
)
def test_negative_settings_are_refused(bad):
  with pytest.raises(ValueError, match='must be >= 0, got -1'):
    bad(-1)


def test_adam_without_eps_root_is_caught_and_would_be_nan():
  broken = optax.adam(1e-2)

  def outer(theta):  # the second weight's input is always 0, and so its gradient
    def step(state, _):
      params, opt_state = state
      grads = jax.grad(lambda p: theta * p @ jnp.array([1.0, 0.0]))(params)
      updates, opt_state = broken.update(grads, opt_state, params)
      return optax.apply_updates(params, updates), opt_state

    params = jnp.ones(2)
    return unroll.full(step, (params, broken.init(params)), length=2)[0].sum()

  assert np.isnan(jax.jit(jax.grad(outer))(1.0))
  with pytest.raises(ValueError, match='eps_root'):
    unroll.check_meta_gradient(broken)
  with pytest.raises(ValueError, match='eps_root'):
    unroll.check_meta_gradient(
      optax.chain(
        optax.clip_by_global_norm(1.0), optax.scale_by_adam(), optax.scale(-1)
      )
    )


@pytest.mark.parametrize(
  'tx',
  [
    optax.sgd(0.1),
    optax.sgd(0.1, momentum=0.9, nesterov=True),
    optax.adam(1e-3, eps_root=1e-16),
    optax.rmsprop(1e-3),
    optax.chain(gradient.clip_by_global_norm(1.0), optax.adam(1e-3, eps_root=1e-8)),
  ],
)
def test_differentiable_optimizers_pass(tx):
  unroll.check_meta_gradient(tx)  # raises otherwise
  loss = functools.partial(outer_loss, tx, unroll.full, 3, False)
  assert np.isfinite(jax.jit(jax.grad(loss))(jnp.zeros(2))).all()


def test_bilinear_game_diverges_cycles_and_converges():
  """min_x max_y xy: simultaneous steps spiral out, alternating ones cycle."""

  def play(update):
    points = [np.array([1.0, 1.0])]
    for _ in range(400):
      points.append(np.asarray(update(*points[-1])))
    return np.array(points)

  rate = 0.1

  def simultaneous(x, y):
    return x - rate * y, y + rate * x

  def alternating(x, y):
    x = x - rate * y
    return x, y + rate * x

  @jax.jit
  def unrolled(x, y):
    def f_k(x):
      return x * unroll.full(lambda y, _: y + rate * x, y, length=5)

    return x - rate * jax.grad(f_k)(x), y + rate * x

  radii = np.linalg.norm(play(simultaneous), axis=1)
  growth = np.sqrt(1 + rate**2) ** np.arange(401)
  np.testing.assert_allclose(radii, np.sqrt(2) * growth, rtol=1e-9)
  x, y = play(alternating).T  # symplectic Euler: on this ellipse for ever
  np.testing.assert_allclose(x**2 + y**2 - rate * x * y, 2 - rate, rtol=1e-9)
  assert x.min() < -1.3  # and all the way around it
  assert np.linalg.norm(play(unrolled)[-1]) < 1e-6


def wide_step(theta, state, _):
  """One gradient step on a critic of 64 units over 1,024 examples."""
  data = jnp.linspace(-1.0, 1.0, 1024)[:, None] * theta

  def loss(w):
    return jnp.mean(jnp.tanh(jnp.tanh(data @ w['in']) @ w['mid']) ** 2)

  return jax.tree.map(lambda w, g: w - 0.1 * g, state, jax.grad(loss)(state))


def plain_scan(step, state, xs=None, *, length=None):
  return jax.lax.scan(lambda s, x: (step(s, x), None), state, xs, length=length)[0]


WIDE = {'in': np.ones((1, 64)) / 8, 'mid': np.eye(64)}
ADAM = optax.adam(1e-2, eps_root=1e-8)


def adam_step(take_step, theta, state, _):
  """One step of Adam on a critic of 64 units over 1,024 examples."""
  data = jnp.linspace(-1.0, 1.0, 1024)[:, None] * theta

  def loss(w):
    return jnp.mean(jnp.tanh(jnp.tanh(data @ w['in']) @ w['mid']) ** 2), ()

  return take_step(loss, ADAM, *state)[:2]


def unnamed_gradient_step(loss_fn, tx, params, opt_state):
  """`gradient.gradient_step` whose gradient has no name to be kept by."""
  grads, _ = jax.grad(loss_fn, has_aux=True)(params)
  updates, opt_state = tx.update(grads, opt_state, params)
  return optax.apply_updates(params, updates), opt_state


def outer_of(unroll_fn, step, start, k):
  def outer(theta):
    last = unroll_fn(functools.partial(step, theta), start, length=k)
    return sum(jnp.sum(w) for w in jax.tree.leaves(last))

  return outer


def program(unroll_fn, k, step=wide_step, start=WIDE):
  """The lowered gradient of k steps in theta."""
  outer = outer_of(unroll_fn, step, jax.tree.map(jnp.asarray, start), k)
  return jax.jit(jax.grad(outer)).lower(1.0)


def temporary_bytes(compiled):
  return compiled.memory_analysis().temp_size_in_bytes


def growth(unroll_fn):
  short, long = (temporary_bytes(program(unroll_fn, k).compile()) for k in (10, 40))
  return (long - short) / 30


def test_memory_grows_by_one_inner_state_a_step():
  state_bytes = 8 * (64 + 64 * 64)
  grown, plain = growth(unroll.full), growth(plain_scan)
  assert grown < 1.5 * state_bytes
  assert plain > 10 * grown  # what rematerialization saves


def test_kept_gradient_saves_products_and_costs_its_own_size():
  start = (WIDE, ADAM.init(WIDE))
  named, unnamed = (
    functools.partial(adam_step, take_step)
    for take_step in (gradient.gradient_step, unnamed_gradient_step)
  )

  lowered = {
    (step, k): program(unroll.full, k, step, start)
    for step in (named, unnamed)
    for k in (4, 40)
  }
  compiled = {key: each.compile() for key, each in lowered.items()}

  def products(step):
    return lowered[step, 4].as_text().count('stablehlo.dot_general')

  np.testing.assert_allclose(
    compiled[named, 4](1.0), compiled[unnamed, 4](1.0), rtol=1e-12
  )
  # One product for the gradient of each weight, of the backward pass's.
  assert products(named) == products(unnamed) - len(WIDE)

  def grown(step):
    short, long = (temporary_bytes(compiled[step, k]) for k in (4, 40))
    return (long - short) / 36

  weights = 8 * (64 + 64 * 64)  # the state: them and two moments
  assert 3 * weights <= grown(unnamed) < 3.2 * weights
  assert 4 * weights <= grown(named) < 4.2 * weights


def test_program_does_not_grow_with_k():
  def size(k):
    program = jax.jit(lambda g: game_gradient_of(k, g)).lower(1.0).as_text()
    return len(program.splitlines())

  def game_gradient_of(k, g):
    def outer(g):
      step = functools.partial(ascent, g)
      return value(g, unroll.full(step, jnp.asarray(D0), length=k))

    return jax.grad(outer)(g)

  assert size(50) == size(5)


def test_states_may_hold_integers_and_structures():
  def step(state, x):
    return {'count': state['count'] + 1, 'w': state['w'] * x}

  state = {'count': jnp.zeros((), jnp.int32), 'w': jnp.asarray(1.0)}
  for unroll_fn in (unroll.full, unroll.partial, unroll.truncated(1)):
    last = unroll_fn(step, state, jnp.asarray([2.0, 3.0]))
    chex.assert_trees_all_equal(last, {'count': jnp.int32(2), 'w': jnp.asarray(6.0)})


def test_the_probe_works_while_a_caller_is_traced():
  @jax.jit
  def traced(x):
    unroll.check_meta_gradient(optax.adam(1e-3, eps_root=1e-8))
    with pytest.raises(ValueError, match='eps_root'):
      unroll.check_meta_gradient(optax.adam(1e-3))
    return x

  assert traced(1.0) == 1.0
