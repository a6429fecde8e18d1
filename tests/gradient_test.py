"""Accumulated gradients: equal to the whole batch's, again differentiable, small."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gm_jax import base, gradient, unroll

KEY = jax.random.key(0)
COLLECTIVE = 'all-gather|all-to-all|collective-permute'


def squares(params, model_state, key, x, y):
  """Least squares, whose gradient is 2 x^T (x w - y) / B; counts its calls."""
  del key
  residual = x @ params - y
  metrics = {'mean': residual.mean()}
  return jnp.mean(residual**2), (model_state + 1, metrics)


def regression(num=12, size=3, dtype=np.float64):
  rng = np.random.default_rng(0)
  x, y, w = rng.normal(size=(num, size)), rng.normal(size=num), rng.normal(size=size)
  return x.astype(dtype), y.astype(dtype), w.astype(dtype)


@pytest.mark.parametrize('num_accumulate', [1, 2, 3, 12])
def test_gradient_is_the_whole_batch_s_by_the_closed_form(num_accumulate):
  with jax.enable_x64(True):
    x, y, w = regression()
    loss_fn = jax.value_and_grad(
      gradient.accumulated(squares, num_accumulate), has_aux=True
    )
    (loss, (count, metrics)), grads = jax.jit(loss_fn)(w, jnp.int32(0), KEY, x, y)
  residual = x @ w - y
  np.testing.assert_allclose(grads, 2 * x.T @ residual / len(x), rtol=1e-12)
  np.testing.assert_allclose(loss, np.mean(residual**2), rtol=1e-12)
  np.testing.assert_allclose(metrics['mean'], residual.mean(), rtol=1e-12)
  assert count == num_accumulate  # carried from slice to slice


def test_one_slice_is_the_loss_itself():
  assert gradient.accumulated(squares, 1) is squares


def test_every_slice_has_its_own_key_and_its_own_examples():
  def loss_fn(params, model_state, key, x):
    draw = jax.random.normal(key)
    seen = jnp.zeros(6).at[x.astype(int)].set(1.0)
    return params * x.mean(), ((draw, *model_state[:-1]), {'seen': seen, 'draw': draw})

  x, start = jnp.arange(6.0), (jnp.zeros(()),) * 3
  loss, (draws, metrics) = gradient.accumulated(loss_fn, 3)(2.0, start, KEY, x)
  np.testing.assert_allclose(loss, 2 * 2.5)
  np.testing.assert_allclose(metrics['seen'], np.full(6, 1 / 3), rtol=1e-6)
  expected = [jax.random.normal(key) for key in jax.random.split(KEY, 3)]
  np.testing.assert_array_equal(draws[::-1], expected)
  np.testing.assert_allclose(metrics['draw'], np.mean(expected), rtol=1e-6)


@pytest.mark.parametrize('unroll_fn', [unroll.full, unroll.truncated(2)])
def test_unrolled_through_accumulated_inner_steps(unroll_fn):
  # d/d(outer) of a loss after four steps of Adam on a loss that the outer
  # parameter enters: second derivatives of the accumulated loss.
  with jax.enable_x64(True):
    x, y, w = regression()
    tx = optax.adam(0.1, eps_root=1e-8)

    def inner(params, model_state, key, x, y):
      del key
      w, outer = params['w'], params['outer']
      return jnp.mean(jnp.tanh(x @ w - outer * y) ** 2), (model_state, {})

    def outer_loss(outer, num_accumulate):
      loss_fn = gradient.accumulated(inner, num_accumulate)

      def step(state, _):
        w, opt_state = state
        w, opt_state, _, _ = gradient.gradient_step(
          lambda w: loss_fn({'w': w, 'outer': outer}, {}, KEY, x, y), tx, w, opt_state
        )
        return w, opt_state

      last, _ = unroll_fn(step, (jnp.asarray(w), tx.init(w)), length=4)
      return jnp.sum(last**2)

    slope = jax.jit(jax.grad(outer_loss), static_argnums=1)
    h = 1e-5
    numeric = (outer_loss(0.7 + h, 3) - outer_loss(0.7 - h, 3)) / (2 * h)
    whole, cut = slope(0.7, 1), slope(0.7, 3)
  np.testing.assert_allclose(cut, whole, rtol=1e-10)
  if unroll_fn is unroll.full:
    np.testing.assert_allclose(cut, numeric, rtol=1e-6)


def wide(params, model_state, key, x):
  del key
  for kernel in params:
    x = jnp.tanh(x @ kernel)
  return jnp.mean(x**2), (model_state, {})


def temporary_bytes(num_accumulate, num=512, width=64, depth=6):
  params = [jnp.zeros((width, width))] * depth
  loss_fn = jax.grad(gradient.accumulated(wide, num_accumulate), has_aux=True)
  program = jax.jit(loss_fn).lower(params, {}, KEY, jnp.zeros((num, width))).compile()
  return program.memory_analysis().temp_size_in_bytes


def test_memory_of_the_gradient_is_that_of_a_slice():
  # Six activations of 512 x 64 floats; cut in eight they are as many of 64 x 64.
  # What remains beside them is the batch in slices and the gradient.
  whole, cut = temporary_bytes(1), temporary_bytes(8)
  assert whole > 6 * 512 * 64 * 4
  assert cut < whole / 2
  # And the activations themselves scale with the slice: depth costs little more.
  deeper = functools.partial(temporary_bytes, depth=12)
  kernels = 6 * 64 * 64 * 4  # of the gradient, which grows with depth too
  assert deeper(1) - whole > 5 * 512 * 64 * 4
  assert deeper(8) - cut < 6 * 64 * 64 * 4 + 3 * kernels


def test_slices_of_a_sharded_batch_stay_sharded():
  mesh = jax.make_mesh(
    (4,), ('data',), axis_types=(AxisType.Auto,), devices=jax.devices()[:4]
  )
  x, y, w = regression(48, dtype=np.float32)

  def each(params, model_state, key, x):
    del key
    return jnp.mean((x @ params) ** 2), (model_state, {})

  def gradient_and_outputs(w, x):
    loss_fn = gradient.accumulated(each, 3)
    grads = jax.grad(lambda x: loss_fn(w, {}, KEY, x)[0])(x)  # [B, ...], as x
    return jax.grad(lambda w: loss_fn(w, {}, KEY, x)[0])(w), grads

  shardings = tuple(
    NamedSharding(mesh, spec) for spec in (PartitionSpec(), PartitionSpec('data'))
  )
  compiled = jax.jit(gradient_and_outputs, in_shardings=shardings).lower(w, x).compile()
  text = compiled.as_text()
  assert not re.findall(COLLECTIVE, text)  # nothing travels but sums
  assert 'all-reduce' in text
  assert compiled.output_shardings[1].spec == PartitionSpec('data')
  put = jax.device_put((w, x), shardings)
  grads, _ = compiled(*put)
  np.testing.assert_allclose(grads, 2 * x.T @ (x @ w) / len(x), rtol=1e-5)


def test_refusals():
  x, y, w = regression()
  with pytest.raises(ValueError, match='num_accumulate must be >= 1, got 0'):
    gradient.accumulated(squares, 0)
  with pytest.raises(ValueError, match='batch of 12 .*multiple of 5'):
    gradient.accumulated(squares, 5)(w, jnp.int32(0), KEY, x, y)


def test_clipped_weights_are_those_of_the_step_cut_off():
  params = {'a': jnp.array([0.5, -0.9, 0.99]), 'b': jnp.array([[2.0]])}
  tx = optax.chain(optax.sgd(1.0), gradient.clip_weights(1.0))
  grads = {'a': jnp.array([0.25, 0.5, -0.5]), 'b': jnp.array([[0.1]])}
  updates, _ = tx.update(grads, tx.init(params), params)
  new = optax.apply_updates(params, updates)
  chex.assert_trees_all_close(
    new, {'a': jnp.array([0.25, -1.0, 1.0]), 'b': jnp.array([[1.0]])}, atol=1e-6
  )
  for limit in (0.0, -1.0):
    with pytest.raises(ValueError, match='limit must be > 0'):
      gradient.clip_weights(limit)
  with pytest.raises(ValueError, match='needs the parameters'):
    tx.update(grads, tx.init(params))


def test_a_critic_of_clipped_weights_is_the_best_linear_one():
  # sup |w| <= c of w . (E_p x - E_q x) is c |difference|_1, at the corner.
  difference = jnp.array([0.7, -0.2, 0.05])
  tx = optax.chain(optax.rmsprop(0.1), gradient.clip_weights(0.3))
  w, opt_state = jnp.zeros(3), tx.init(jnp.zeros(3))
  for _ in range(100):
    updates, opt_state = tx.update(-difference, opt_state, w)
    w = optax.apply_updates(w, updates)
  np.testing.assert_allclose(w @ difference, 0.3 * 0.95, rtol=1e-5)


def test_a_method_from_a_loss_descends_it():
  def loss_fn(params, extra, key, batch):
    del key
    loss = 0.5 * jnp.square(params - batch['x'].mean()).sum()
    return loss, ({'count': extra['count'] + 1}, {'error': loss})

  card = base.Card(*['none'] * 5, ('regression',), 'none', 'any')
  method = gradient.from_loss(
    loss_fn, optax.sgd(0.25), lambda key, batch: (jnp.zeros(()), {'count': 0}),
    card=card, queries={'encode': len},
  )  # fmt: skip
  batch = {'x': jnp.array([3.0, 5.0])}
  state = method.init(jax.random.key(0), batch)
  for i in range(3):
    state, metrics = method.step(state, jax.random.key(1), batch)
    expected = 4.0 * (1 - 0.75 ** (i + 1))
    np.testing.assert_allclose(state.params, expected, rtol=1e-6)
    assert metrics['loss'] == metrics['error']
  assert state.step == 3 and state.extra['count'] == 3
  assert method.sample is None and method.queries == {'encode': len}
