"""One table of all methods x the laws that every method obeys.

A new method adds a row: how it is made, small, and on what batch. Laws that a
row cannot have (an exact density, say) are decided by its card, not skipped by
hand.
"""

import functools
import importlib
import itertools
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export
from rows.common import plane, players

from gm_jax import base, priors
from gm_jax.losses import discrepancy
from gm_jax.methods import gan, unrolled_gan
from gm_jax.training import checkpoint, parallel
from gm_jax.training import step as step_lib

DEVICES = 4
FAMILIES = sorted(p.stem for p in (pathlib.Path(__file__).parent / 'rows').glob('*.py'))
ROWS = {
  name: row
  for family in FAMILIES
  if family != 'common'
  for name, row in importlib.import_module(f'rows.{family}').ROWS.items()
}
every_row = pytest.mark.parametrize('name', ROWS)
SAMPLED = [n for n, row in ROWS.items() if row.samples]


class Run(NamedTuple):
  """A row made and compiled once for all laws."""

  method: base.Method
  state: base.State  # at the beginning
  steps: Callable  # (state, key, batches [n, ...]) -> (state, metrics [n])
  batches: dict  # [4, B, ...]
  traces: list


@functools.cache
def started(name):
  row = ROWS[name]
  method = row.make(lambda tx: tx, priors.normal(4))
  batches = jax.vmap(row.batch)(jax.random.split(jax.random.key(7), 4))
  first = jax.tree.map(lambda x: x[0], batches)
  init = functools.partial(step_lib.init, method, averaged=True)
  traces = []

  def counted(state, key, batches):
    traces.append(1)
    return step_lib.train_step(method, ema_decay=0.9)(state, key, batches)

  state = jax.jit(init)(jax.random.key(1), first)
  return Run(method, state, jax.jit(counted), batches, traces)


def part(run, start, stop):
  return jax.tree.map(lambda x: x[start:stop], run.batches)


@every_row
def test_init_can_be_evaluated_by_shape(name):
  run = started(name)
  shape = jax.eval_shape(
    run.method.init, jax.random.key(0), jax.tree.map(lambda x: x[0], run.batches)
  )
  real = run.state._replace(ema=())
  chex.assert_trees_all_equal_shapes_and_dtypes(shape, real)
  assert real.step.dtype == jnp.int32 and real.step == 0


@every_row
def test_step_keeps_the_structure_and_is_traced_once(name):
  run = started(name)
  state, keys = run.state, set()
  for i in range(3):
    before = state
    state, metrics = run.steps(state, jax.random.key(2), part(run, i, i + 1))
    chex.assert_trees_all_equal_shapes_and_dtypes(before, state)
    keys.add(tuple(sorted(metrics)))
    for value in metrics.values():
      assert value.shape == (1,) and np.isfinite(value).all()
  assert state.step == 3 and len(keys) == 1
  assert len(run.traces) == 1
  for player, params in state.params.items():  # every player moves
    moved = [
      float(jnp.abs(a - b).max())
      for a, b in zip(
        jax.tree.leaves(params), jax.tree.leaves(run.state.params[player]), strict=True
      )
    ]
    assert max(moved) > 0


@pytest.mark.parametrize('name', [n for n, row in ROWS.items() if row.falls])
def test_training_brings_the_samples_to_the_data(name):
  run, row = started(name), ROWS[name]

  # Games turn around their solution: the average over steps is what settles.
  steps = jax.jit(step_lib.train_step(run.method, ema_decay=0.98))
  batches = jax.vmap(row.batch)(jax.random.split(jax.random.key(3), 600))
  trained, _ = steps(run.state, jax.random.key(6), batches)

  kernel = discrepancy.gaussian(std=0.5)
  real = plane(500)(jax.random.key(4))['x']

  def distance(state):
    samples = run.method.sample(step_lib.model(state), jax.random.key(5), 500)
    return float(discrepancy.mmd2_unbiased(kernel, real, samples))

  assert distance(run.state) > 0.3 and distance(trained) < 0.06


@pytest.mark.parametrize('name', SAMPLED)
def test_samples_depend_on_the_key_alone(name):
  run = started(name)
  model = step_lib.model(run.state)
  draw = jax.jit(run.method.sample, static_argnums=2)
  first, again = (draw(model, jax.random.key(8), 8) for _ in range(2))
  np.testing.assert_array_equal(first, again)
  assert np.abs(first - draw(model, jax.random.key(9), 8)).max() > 1e-3
  one = draw(model, jax.random.key(8), 1)  # in a batch of one as in one of eight
  atol = 1e-6 * ROWS[name].rounding
  np.testing.assert_allclose(first[0], one[0], atol=atol)


@every_row
def test_resumed_run_equals_the_straight_one_bitwise(name, tmp_path):
  run, key = started(name), jax.random.key(2)
  straight = run.steps(run.steps(run.state, key, part(run, 0, 1))[0], key,
                       part(run, 1, 2))[0]  # fmt: skip
  half = run.steps(run.state, key, part(run, 0, 1))[0]
  saved = checkpoint.Checkpoints(tmp_path)
  saved.save(1, half, {'attempt': 0})
  step, restored, _ = saved.restore(jax.eval_shape(lambda: run.state))
  resumed = run.steps(restored, key, part(run, 1, 2))[0]
  assert step == 1
  chex.assert_trees_all_equal(straight, resumed)


def copies(tree):
  return jax.tree.map(lambda x: jnp.stack([x] * DEVICES), tree)


@every_row
def test_sharded_over_devices_equals_one_device(name):
  run, key = started(name), jax.random.key(2)
  layout = parallel.Layout(parallel.device_mesh(jax.devices()[:DEVICES]))
  steps = step_lib.train_step(run.method, ema_decay=0.9)
  compiled = parallel.jitted(steps, layout, run.state)
  one, atol = run.state, 2e-5 * ROWS[name].rounding
  many = parallel.put(run.state, parallel.state_shardings(layout, run.state))
  for i in range(2):  # each of the shape that is compiled already
    one, one_metrics = run.steps(one, key, part(run, i, i + 1))
    batch = parallel.put_batch(layout, part(run, i, i + 1), leading=1)
    many, metrics = compiled(many, key, batch)
    chex.assert_trees_all_close(
      jax.device_get(metrics), jax.device_get(one_metrics), atol=10 * atol
    )
  assert run.state.step == 0  # donated was a copy
  chex.assert_trees_all_close(jax.device_get(many), jax.device_get(one), atol=atol)


@every_row
def test_pmap_equals_vmap_over_groups_with_the_same_keys(name):
  run, key = started(name), jax.random.key(2)
  method = ROWS[name].make(parallel.mean_over_devices, priors.normal(4))
  state = copies(run.state._replace(ema=()))
  batch = jax.tree.map(lambda x: x[0].reshape(DEVICES, -1, *x.shape[2:]), run.batches)
  if ROWS[name].gathers:
    with pytest.raises(ValueError, match='on every device; use the jit path'):
      parallel.pmapped(method, jax.devices()[:DEVICES])(state, key, batch)
    return
  on_devices = parallel.pmapped(method, jax.devices()[:DEVICES])(state, key, batch)
  in_groups = jax.jit(
    jax.vmap(parallel.per_device(method), (0, None, 0), axis_name=parallel.DATA)
  )(state, key, batch)
  chex.assert_trees_all_close(
    jax.device_get(on_devices), jax.device_get(in_groups), atol=2e-5
  )
  same = jax.tree.map(lambda x: np.ptp(np.asarray(x, float), 0).max(), on_devices[0])
  assert max(jax.tree.leaves(same)) < 1e-6  # devices stay together


def sgd(method, wrap, prior, **more):
  # Plain: Adam's first step is the gradient's sign, of a sum as of a mean.
  tx = wrap(optax.sgd(0.5))
  return method(**players(), g_tx=tx, d_tx=tx, prior=prior, **more)


@pytest.mark.parametrize(
  ('name', 'make'),
  [
    ('gan', functools.partial(sgd, gan.gan)),
    ('unrolled_gan', functools.partial(sgd, unrolled_gan.unrolled_gan, num_unroll=3)),
  ],
)
def test_pmap_equals_one_device_where_nothing_is_drawn(name, make):
  def constant(key, num):
    del key
    return jnp.full((num, 4), 0.5)

  single = make(lambda tx: tx, constant)
  method = make(parallel.mean_over_devices, constant)
  batch = ROWS[name].batch(jax.random.key(0))
  state = single.init(jax.random.key(1), batch)
  one = jax.jit(single.step)(state, jax.random.key(2), batch)[0]
  split = jax.tree.map(lambda x: x.reshape(DEVICES, -1, *x.shape[1:]), batch)
  step = parallel.pmapped(method, jax.devices()[:DEVICES])
  many = step(copies(state), jax.random.key(2), split)[0]
  chex.assert_trees_all_close(
    jax.device_get(one.params), jax.tree.map(lambda x: np.asarray(x)[0], many.params),
    atol=1e-5,
  )  # fmt: skip
  for player, params in state.params.items():  # far more than the tolerance
    change = jax.tree.map(jnp.subtract, one.params[player], params)
    assert optax.tree.norm(change) > 1e-2


@every_row
def test_step_lowers_for_tpu_and_gpu(name):
  run = started(name)
  abstract = jax.eval_shape(
    lambda: (run.state._replace(ema=()), jax.random.key(0), part(run, 0, 1))
  )
  lowered = export.export(
    jax.jit(step_lib.train_step(run.method)), platforms=('tpu', 'cuda')
  )(*abstract)
  assert lowered.platforms == ('tpu', 'cuda')


EXACT = [n for n, row in ROWS.items() if row.levels]


@pytest.mark.parametrize('name', EXACT)
def test_masses_sum_to_one_and_are_the_samples(name):
  run = started(name)
  state, _ = run.steps(run.state, jax.random.key(2), run.batches)
  model = step_lib.model(state._replace(ema=()))
  shape = run.batches['x'].shape[2:]
  num = int(np.prod(shape))
  every = jnp.array(list(itertools.product(range(ROWS[name].levels), repeat=num)))
  every = every.reshape(-1, *shape)
  p = np.exp(run.method.log_prob(model, jax.random.key(0), every))
  np.testing.assert_allclose(p.sum(), 1, rtol=1e-5)
  samples = np.asarray(run.method.sample(model, jax.random.key(3), 4000))
  cell = samples.reshape(4000, num) @ ROWS[name].levels ** np.arange(num)[::-1]
  frequency = np.bincount(cell, minlength=len(p)) / 4000
  assert np.abs(frequency - p).max() < 5 * np.sqrt(0.25 / 4000)


DENSITIES = ['kde', 'gaussian_mixture']


@pytest.mark.parametrize('name', DENSITIES)
def test_densities_of_the_plane_integrate_to_one_and_are_the_samples(name):
  run = started(name)
  state, _ = run.steps(run.state, jax.random.key(2), run.batches)
  model = step_lib.model(state._replace(ema=()))
  axis = jnp.linspace(-2.0, 3.0, 251)
  grid = jnp.stack(jnp.meshgrid(axis, axis - 1.0, indexing='ij'), -1).reshape(-1, 2)
  p = np.exp(run.method.log_prob(model, jax.random.key(0), grid)).reshape(251, 251)
  cell = float(axis[1] - axis[0]) ** 2
  np.testing.assert_allclose(p.sum() * cell, 1, rtol=2e-3)
  samples = np.asarray(run.method.sample(model, jax.random.key(3), 4000))
  for dim, other in ((0, 1), (1, 0)):
    marginal = np.cumsum(p.sum(axis=other)) * cell
    at = np.asarray(axis) - dim
    empirical = (samples[:, dim, None] <= at + 0.01).mean(0)
    assert np.abs(empirical - marginal).max() < 1.95 / np.sqrt(4000)  # p = 0.001


@every_row
def test_card_claims_what_the_method_has(name):
  method = started(name).method
  card = method.card
  bounds = {'elbo', 'iwae'} & method.queries.keys()
  claim = {
    'exact': method.log_prob is not None,
    'lower_bound': method.log_prob is None and bool(bounds),
    'unnormalized': 'energy' in method.queries,
    'estimate': True,
    'none': method.log_prob is None and not bounds and 'energy' not in method.queries,
  }
  assert claim[card.density]
  assert (card.density == 'none') == (card.measure == 'none')
  assert (card.density == 'none') == (card.density_cost == 'none')
  assert (method.sample is None) == (card.sampling == 'none')
  assert card.training and card.latents in (
    'none', 'continuous', 'discrete', 'data_sized'
  )  # fmt: skip


@pytest.mark.parametrize('name', [n for n in SAMPLED if not ROWS[n].conditional])
def test_unconditional_sampling_refuses_a_condition(name):
  run = started(name)
  with pytest.raises(ValueError, match='unconditional'):
    run.method.sample(
      step_lib.model(run.state), jax.random.key(0), 2, condition=jnp.zeros(2)
    )


@every_row
def test_average_follows_its_recursion(name):
  run, key = started(name), jax.random.key(2)
  state = run.steps(run.state, key, part(run, 0, 1))[0]

  def parts(params, extra):
    both = {'params': params, 'batch_stats': extra.get('batch_stats', {})}
    return {name: tree for name, tree in both.items() if tree or name == 'params'}

  old, new = parts(*run.state[1:3]), parts(*state[1:3])
  expected = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, old, new)
  chex.assert_trees_all_close(state.ema, expected, atol=1e-6)
  averaged, latest = step_lib.model(state), step_lib.model(state, averaged=False)
  chex.assert_trees_all_close(parts(*averaged), expected, atol=1e-6)
  chex.assert_trees_all_equal(parts(*latest), new)
  for name in filter(new.get, new):  # the two are not one thing
    gap = jax.tree.map(jnp.subtract, parts(*averaged)[name], new[name])
    assert optax.tree.norm(gap) > 1e-4
  others = {c: v for c, v in state.extra.items() if c != 'batch_stats'}
  chex.assert_trees_all_equal({c: averaged.extra[c] for c in others}, others)
  assert averaged.extra.keys() == state.extra.keys()


def test_a_row_has_batch_statistics():
  # Without one the law above would say nothing about them.
  assert any('batch_stats' in started(name).state.extra for name in ROWS)
