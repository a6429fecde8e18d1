"""One device against many: where arrays lie, what slices become, pmap's gradient."""

import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from gm_jax import base, gradient
from gm_jax.training import parallel

ROOT = pathlib.Path(__file__).parents[2]
DEVICES = 4
COLLECTIVE = 'all-gather|all-to-all|all-reduce|collective-permute'


def in_blocks(batch, num_slices):
  return batch.reshape(num_slices, -1, *batch.shape[1:])


def compiled_slices(cut, num_slices):
  """(PartitionSpec of every slice as the compiler chose it, collectives used)."""
  mesh = parallel.device_mesh(jax.devices()[:DEVICES])
  batch = np.arange(num_slices * 8 * 3.0, dtype=np.float32).reshape(-1, 3)

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
  mesh = parallel.device_mesh(jax.devices()[:DEVICES])

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

  card = base.Card(*['none'] * 5, ('regression',), 'none', 'any')
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


def test_gradients_are_right_where_shard_map_alone_scales_them():
  # The trap: with replicated parameters the mean over devices of a gradient taken
  # inside shard_map is that of all devices summed, and Adam hides it.
  mesh = parallel.device_mesh(jax.devices()[:DEVICES])
  x, params = jnp.arange(8.0), jnp.array(2.0)

  def loss(params, x):
    return jnp.mean(params**2 / 2 * x)

  truth = jax.grad(loss)(params, x)  # 2 * mean(x) = 7
  np.testing.assert_allclose(truth, 7.0)
  inside = jax.shard_map(
    lambda p, x: jax.lax.pmean(jax.grad(loss)(p, x), parallel.DATA),
    mesh=mesh,
    in_specs=(PartitionSpec(), PartitionSpec(parallel.DATA)),
    out_specs=PartitionSpec(),
  )
  np.testing.assert_allclose(inside(params, x), DEVICES * truth)
  placed = parallel.put(x, parallel.split(mesh))
  np.testing.assert_allclose(jax.jit(jax.grad(loss))(params, placed), truth)


def shape(*axes):
  return jax.ShapeDtypeStruct(axes, jnp.float32)


@pytest.mark.parametrize(
  ('axes', 'seeds', 'spec'),
  [
    ((128, 128), 0, (None, 'model')),  # the last of equal axes
    ((256, 128), 0, ('model', None)),  # the longest
    ((129, 128), 0, (None, 'model')),  # the longest that can be divided
    ((129, 129), 0, (None, None)),  # none can
    ((127, 128), 0, (None, None)),  # small
    ((2**14,), 0, ('model',)),
    ((3, 3, 64, 128), 0, (None, None, None, 'model')),
    ((), 0, ()),
    ((8, 128, 128), 1, (None, None, 'model')),  # never the axis of seeds
    ((2**14,), 1, (None,)),  # one number a seed
  ],
)
def test_large_arrays_are_split_by_a_rule_on_shapes(axes, seeds, spec):
  mesh = parallel.device_mesh(jax.devices()[:DEVICES], model=2)
  state = base.State(shape(), shape(*axes), {}, {'mu': shape(*axes)}, ())
  lies = parallel.state_shardings(parallel.Layout(mesh, bool(seeds)), state)
  assert lies.params.spec == PartitionSpec(*spec)
  assert lies.opt_state['mu'].spec == lies.params.spec  # moments beside weights
  assert lies.step.spec == PartitionSpec()
  # Without a model axis nothing is split.
  whole = parallel.Layout(parallel.device_mesh(jax.devices()[:DEVICES]), bool(seeds))
  assert not any(parallel.state_shardings(whole, state).params.spec)


def test_meshes_and_work_that_cannot_be_shared_are_refused():
  with pytest.raises(ValueError, match='4 devices cannot be grouped by 3'):
    parallel.device_mesh(jax.devices()[:4], model=3)
  with pytest.raises(ValueError, match='cannot be grouped by 0'):
    parallel.device_mesh(jax.devices()[:4], model=0)
  mesh = parallel.device_mesh(jax.devices()[:4], model=2)
  parallel.check_divides(parallel.Layout(mesh), 6, 1)  # two parts
  with pytest.raises(ValueError, match='5 examples, which 2 devices .*multiple of 2'):
    parallel.check_divides(parallel.Layout(mesh), 5, 1)
  with pytest.raises(ValueError, match='3 seeds cannot be shared equally by 2'):
    parallel.check_divides(parallel.Layout(mesh, True, True), 4, 3)


EIGHT = """
import json, sys
import jax, jax.numpy as jnp, numpy as np, optax
from gm_jax import base, priors
from gm_jax.methods import gan
from gm_jax.models import mlp
from gm_jax.training import loop, parallel
from gm_jax.data import dataset, transforms

tx = optax.sgd(0.05, momentum=0.5)
method = gan.gan(
  mlp.MLP((128, 128, 2)), mlp.MLP((64, 1)), tx, tx, prior=priors.normal(128),
  num_critic=3)
spec = base.DataSpec((2,), jnp.float32, None, None, None, transforms.identity())

def make_batches(phase, seed, start):
  while True:
    rng = np.random.default_rng([seed, start])
    yield {'x': rng.normal(size=(48, 2)).astype(np.float32)}
    start += 1

def run(data, model, **kwargs):
  mesh = parallel.device_mesh(jax.devices()[: data * model], model=model)
  settings = loop.Settings(
    steps=10, num_seeds=8 if kwargs else 1, steps_per_dispatch=5, log_every=0)
  phases = lambda attempt: (base.Phase(method, 10, spec, None),)
  callbacks = loop.Callbacks(log=lambda *_: None)
  return loop.train(phases, make_batches, settings, callbacks, mesh=mesh, **kwargs)

def gap(one, other):
  gaps = jax.tree.map(
    lambda a, b: float(np.abs(np.asarray(a) - np.asarray(b)).max()),
    one.params, other.params)
  return max(jax.tree.leaves(gaps))

one, seeds, found = run(1, 1), run(1, 1, split_seeds=False), {}
for data, model in json.loads(sys.argv[1]):
  state = run(data, model)
  kernel = state.params['generator']['Dense_1']['kernel']
  trace = state.opt_state['generator'][0].trace['Dense_1']['kernel']
  mine, its = (x.addressable_shards[0].data.size for x in (kernel, trace))
  found[f'{data}x{model}'] = gap(one, state), kernel.size // mine, mine == its
start = method.init(jax.random.key(0), {'x': jnp.zeros((4, 2))})
found['moved'] = gap(one, start), 0, True
found['seeds 4x2'] = gap(seeds, run(4, 2, split_seeds=True)), 0, True
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
  'meshes',
  [
    [(2, 4)],
    pytest.param([(2, 1), (4, 1), (8, 1), (2, 2), (1, 4)], marks=pytest.mark.slow),
  ],
)
def test_training_on_up_to_eight_devices_equals_one(meshes):
  done = subprocess.run(
    [sys.executable, '-c', EIGHT, json.dumps(meshes)],
    capture_output=True, text=True, timeout=400, cwd=ROOT,
    env=os.environ | {'JAX_NUM_CPU_DEVICES': '8', 'JAX_PLATFORMS': 'cpu'},
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout)
  assert found.pop('moved')[0] > 0.1
  for layout, (gap, parts, together) in found.items():
    assert gap < 2e-5, layout
    assert together, 'the optimizer lies elsewhere than its parameters'
    if 'x' in layout and ' ' not in layout:
      assert parts == int(layout.split('x')[1])  # really split
