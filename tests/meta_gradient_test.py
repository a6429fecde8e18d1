"""The guard of meta-gradients says of an optimizer what unrolling it gives."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax import gradient, unroll

SAFE = {
  'sgd': optax.sgd(0.1),
  'adam': optax.adam(1e-2, eps_root=1e-8),
  'adamw': optax.adamw(1e-2, eps_root=1e-8),
  'nadam': optax.nadam(1e-2, eps_root=1e-8),
  'lion': optax.lion(1e-2),
  'adagrad': optax.adagrad(1e-2),
  'clip': optax.chain(gradient.clip_by_global_norm(1.0), optax.sgd(0.1)),
  'clip, adam': optax.chain(
    gradient.clip_by_global_norm(0.1), optax.adam(1e-2, eps_root=1e-8)
  ),
  'clipped weights': optax.chain(optax.sgd(0.1), gradient.clip_weights(0.9)),
}
BROKEN = {
  'adam': (optax.adam(1e-2), 'zero in one coordinate.*eps_root'),
  'rmsprop': (optax.rmsprop(1e-2, eps_in_sqrt=False), 'zero in one coordinate'),
  'clip': (
    optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)),
    'zero as a whole.*gradient.clip_by_global_norm',
  ),
  'radam': (optax.radam(1e-2, eps_root=1e-8), 'nowhere zero'),
  'adaptive': (optax.chain(optax.adaptive_grad_clip(0.1), optax.sgd(0.1)), 'zero'),
  'novograd': (optax.novograd(1e-2), 'zero as a whole'),
}


def outer(theta, tx):
  """A number after ten steps whose gradient is dead in a coordinate, whole, alive."""

  def step(state, t):
    def loss(w):
      alive = jnp.square(w['kernel'] - theta).sum() + (theta * w['bias'][1]) ** 2
      return jnp.where(t % 5 == 0, jax.nn.relu(-1.0 - theta**2), alive), ()

    return gradient.gradient_step(loss, tx, *state)[:2]

  w = {'kernel': jnp.array([1.0, 2.0]), 'bias': jnp.array([0.0, 0.5])}
  w, _ = unroll.full(step, (w, tx.init(w)), jnp.arange(10))
  return sum(jnp.sum(leaf * theta) for leaf in jax.tree.leaves(w))


@pytest.mark.parametrize('name', SAFE)
def test_what_passes_has_the_meta_gradient_of_finite_differences(name):
  tx = SAFE[name]
  unroll.check_meta_gradient(tx)
  with jax.enable_x64(True):
    value, slope = jax.jit(jax.value_and_grad(lambda theta: outer(theta, tx)))(1.7)
    numbers = jax.jit(lambda theta: outer(theta, tx))
    expected = (numbers(1.7 + 1e-6) - numbers(1.7 - 1e-6)) / 2e-6
  np.testing.assert_allclose(slope, expected, rtol=1e-5)


@pytest.mark.parametrize('name', BROKEN)
def test_what_is_refused_has_none(name):
  tx, message = BROKEN[name]
  with pytest.raises(ValueError, match=message):
    unroll.check_meta_gradient(tx)
  assert not np.isfinite(jax.jit(jax.grad(lambda theta: outer(theta, tx)))(1.7))


def test_clip_is_optax_s_with_a_slope_at_zero():
  ours, theirs = gradient.clip_by_global_norm(2.0), optax.clip_by_global_norm(2.0)
  for scale in (0.0, 0.1, 10.0):
    grads = {'a': scale * jnp.arange(3.0), 'b': scale * jnp.ones((2, 2))}
    for one, other in zip(
      jax.tree.leaves(ours.update(grads, ours.init(grads))),
      jax.tree.leaves(theirs.update(grads, theirs.init(grads))), strict=True,
    ):  # fmt: skip
      np.testing.assert_array_equal(one, other)
  slope = jax.jacobian(lambda g: ours.update(g, optax.EmptyState())[0])
  np.testing.assert_array_equal(slope(jnp.zeros(3)), np.eye(3))
  outside = jnp.array([3.0, 4.0, 0.0])
  unit = outside / 5
  expected = 2 / 5 * (jnp.eye(3) - jnp.outer(unit, unit))
  np.testing.assert_allclose(slope(outside), expected, atol=1e-6)
  for limit in (0.0, -1.0, float('nan')):
    with pytest.raises(ValueError, match='limit'):
      gradient.clip_by_global_norm(limit)
