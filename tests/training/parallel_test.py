"""What the compiler makes of slices on many devices, and pmap's gradient."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from gm_jax import base, gradient
from gm_jax.training import parallel

DEVICES = 4
COLLECTIVE = 'all-gather|all-to-all|all-reduce|collective-permute'


def in_blocks(batch, num_slices):
  return batch.reshape(num_slices, -1, *batch.shape[1:])


def compiled_slices(cut, num_slices):
  """(PartitionSpec of every slice as the compiler chose it, collectives used)."""
  mesh = parallel.data_mesh(jax.devices()[:DEVICES])
  batch = jnp.arange(num_slices * 8 * 3.0).reshape(-1, 3)

  def slices(batch):
    return tuple(cut(batch, num_slices)[i] for i in range(num_slices))

  compiled = jax.jit(slices, in_shardings=parallel.split(mesh)).lower(batch).compile()
  specs = [sharding.spec for sharding in compiled.output_shardings]
  return specs, set(re.findall(COLLECTIVE, compiled.as_text()))


@pytest.mark.parametrize('num_slices', [2, 4, 6])
def test_compiled_slice_stays_sharded(num_slices):
  specs, collectives = compiled_slices(gradient.interleaved, num_slices)
  assert specs == [PartitionSpec(parallel.DATA)] * num_slices and not collectives
  # Cut in blocks, the examples of a slice lie on a few devices and must travel.
  specs, collectives = compiled_slices(in_blocks, num_slices)
  assert PartitionSpec(parallel.DATA) not in specs and collectives


@pytest.mark.parametrize('num_slices', [2, 4, 6])
def test_slices_of_a_scan_stay_sharded(num_slices):
  mesh = parallel.data_mesh(jax.devices()[:DEVICES])

  def program(cut):
    def steps(batch):
      return jax.lax.scan(lambda c, x: (c, jnp.sin(x)), 0, cut(batch, num_slices))[1]

    batch = jnp.zeros((num_slices * 8, 3))
    return jax.jit(steps, in_shardings=parallel.split(mesh)).lower(batch).compile()

  kept = program(gradient.interleaved)
  assert kept.output_shardings.spec == PartitionSpec(None, parallel.DATA)
  assert not re.findall(COLLECTIVE, kept.as_text())
  assert re.findall(COLLECTIVE, program(in_blocks).as_text())


def regression(tx):
  """Least squares on a linear model, one step of `tx`."""

  def init(key, batch):
    params = jax.random.normal(key, batch['x'].shape[1:])
    return base.State(jnp.zeros((), jnp.int32), params, {}, tx.init(params), ())

  def step(state, key, batch):
    del key

    def loss_fn(params):
      return jnp.mean((batch['x'] @ params - batch['y']) ** 2), ()

    params, opt_state, loss, _ = gradient.gradient_step(
      loss_fn, tx, state.params, state.opt_state
    )
    return base.State(state.step + 1, params, {}, opt_state, ()), {'loss': loss}

  card = base.Card(*['none'] * 4, ('regression',), 'none', 'any')
  return base.Method(card, init, step, None, None, {})


def test_pmapped_gradient_is_the_mean_over_devices_and_not_their_sum():
  rng, rate = np.random.default_rng(0), 0.1
  x, y = (
    rng.normal(size=s).astype(np.float32) for s in ((4 * DEVICES, 3), 4 * DEVICES)
  )
  method = regression(parallel.mean_over_devices(optax.sgd(rate)))
  state = method.init(jax.random.key(0), {'x': x})
  copies = jax.tree.map(lambda leaf: jnp.stack([leaf] * DEVICES), state)
  local = {'x': x.reshape(DEVICES, -1, 3), 'y': y.reshape(DEVICES, -1)}
  step = parallel.pmapped(method, jax.devices()[:DEVICES])
  new, metrics = step(copies, jax.random.key(1), local)
  residual = x @ np.asarray(state.params) - y
  grad = 2 * x.T @ residual / len(x)  # of the whole batch, by hand
  expected = np.asarray(state.params) - rate * grad
  for on_device in np.asarray(new.params):
    np.testing.assert_allclose(on_device, expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(metrics['loss'], np.mean(residual**2), rtol=1e-5)
