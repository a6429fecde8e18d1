"""One table of all methods x the laws that every method obeys.

A new method adds a row: how it is made, small, and on what batch. Laws that a
row cannot have (an exact density, say) are decided by its card, not skipped by
hand. A row's laws run in one worker and share one compiled step and what three
steps gave. Of the laws about other devices `make test` tries the rows that stand for
a structure, `make test-slow` all.
"""

import functools
import importlib
import inspect
import itertools
import pathlib
import typing
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
from signatures import check_signatures

from gm_jax import base, priors
from gm_jax.methods import gan, unrolled_gan
from gm_jax.training import checkpoint, parallel
from gm_jax.training import step as step_lib

DEVICES = 4
DECAY = 0.98  # of the average
FAMILIES = sorted(p.stem for p in (pathlib.Path(__file__).parent / 'rows').glob('*.py'))
ROWS = {
  name: row
  for family in FAMILIES
  if family != 'common'
  for name, row in importlib.import_module(f'rows.{family}').ROWS.items()
}
METHODS = {n: row.make(lambda tx: tx, priors.normal(4)) for n, row in ROWS.items()}


def having(condition):
  return [name for name, method in METHODS.items() if condition(method)]


def rows(names, fast=lambda row: not row.slow):
  """Rows by name, in `make test` those that are fast and elsewhere all."""
  marked = [
    pytest.param(name, marks=() if fast(ROWS[name]) else pytest.mark.slow)
    for name in names
  ]
  return pytest.mark.parametrize('name', marked)


every_row = rows(ROWS)
every_structure = rows(ROWS, lambda row: row.structure)
SAMPLED = having(lambda method: method.sample)
EXACT = having(lambda method: method.card.density == 'exact')
MASSES = [n for n in EXACT if METHODS[n].card.measure == 'mass']


class Run(NamedTuple):
  """A row made and compiled once for all laws."""

  method: base.Method
  steps: Callable  # (state, key, batches [1, ...]) -> (state, metrics [1])
  batches: list  # [1, B, ...] each, in numpy
  states: list  # at the beginning and after one, two, three steps
  metrics: list
  num_traces: int

  def step(self, state, i, key=None):
    key = jax.random.key(2) if key is None else key
    return self.steps(state, key, self.batches[i])


@functools.lru_cache(maxsize=1)
def started(name):
  row, method = ROWS[name], METHODS[name]
  keys = jax.random.split(jax.random.key(3), 600 if row.falls else 3)
  drawn = jax.device_get(jax.jit(jax.vmap(row.batch))(keys))
  batches = [jax.tree.map(lambda x, i=i: x[i : i + 1], drawn) for i in range(len(keys))]
  traces = []

  def counted(state, key, batches):
    traces.append(1)
    return step_lib.train_step(method, ema_decay=DECAY)(state, key, batches)

  init = jax.jit(functools.partial(step_lib.init, method, averaged=True))
  states, metrics = [init(jax.random.key(1), first_of(batches[0]))], []
  run = Run(method, jax.jit(counted), batches, states, metrics, 0)
  for i in range(3):
    state, found = run.step(states[i], i)
    states.append(state)
    metrics.append(found)
  return run._replace(num_traces=len(traces))


def first_of(batches):
  return jax.tree.map(lambda x: x[0], batches)


@functools.lru_cache(maxsize=1)
def sampler(name):
  """(model, key, num) -> [num, ...], a program for each num."""
  return jax.jit(METHODS[name].sample, static_argnums=2)


def num_samples(name):
  """One number for all laws of a row: as few programs as can be."""
  return 4000 if name in EXACT else 500 if ROWS[name].falls else 8


@every_row
def test_init_can_be_evaluated_by_shape(name):
  run = started(name)
  shape = jax.eval_shape(run.method.init, jax.random.key(0), first_of(run.batches[0]))
  real = run.states[0]._replace(ema=())
  chex.assert_trees_all_equal_shapes_and_dtypes(shape, real)
  assert real.step.dtype == jnp.int32 and real.step == 0


@every_row
def test_step_keeps_the_structure_and_is_traced_once(name):
  run = started(name)
  assert run.num_traces == 1
  assert len({tuple(sorted(metrics)) for metrics in run.metrics}) == 1
  for state in run.states:
    chex.assert_trees_all_equal_shapes_and_dtypes(state, run.states[0])
  for value in jax.tree.leaves(run.metrics):
    assert value.shape == (1,) and np.isfinite(value).all()
  first, last = jax.device_get((run.states[0], run.states[-1]))
  assert last.step == 3
  for player, params in last.params.items():  # every player moves
    pairs = zip(*map(jax.tree.leaves, (params, first.params[player])), strict=True)
    assert max(np.abs(a - b).max() for a, b in pairs) > 0


def squared_discrepancy(x, y, std=0.5):
  """The unbiased squared MMD by a Gaussian kernel, in numpy."""

  def kernel(x, y):
    return np.exp(-((x[:, None] - y) ** 2).sum(-1) / (2 * std**2))

  def within(x):
    return (kernel(x, x).sum() - len(x)) / (len(x) * (len(x) - 1))

  return within(x) + within(y) - 2 * kernel(x, y).mean()


@rows([name for name, row in ROWS.items() if row.falls])
def test_training_brings_the_samples_to_the_data(name):
  run = started(name)
  state = run.states[0]
  for i in range(len(run.batches)):
    state, _ = run.step(state, i, jax.random.key(6))
  real = np.asarray(plane(500)(jax.random.key(4))['x'])

  def distance(state):  # Games turn around their solution: the average settles.
    samples = sampler(name)(step_lib.model(state), jax.random.key(5), 500)
    return squared_discrepancy(real, np.asarray(samples))

  assert distance(run.states[0]) > 0.3 and distance(state) < 0.06


@rows(SAMPLED)
def test_samples_depend_on_the_key_alone(name):
  model = step_lib.model(started(name).states[0])
  draw, num = sampler(name), num_samples(name)
  first, again = (draw(model, jax.random.key(8), num) for _ in range(2))
  np.testing.assert_array_equal(first, again)
  other = np.asarray(draw(model, jax.random.key(9), num))
  assert np.abs(np.asarray(first) - other).max() > 1e-3
  one = draw(model, jax.random.key(8), 1)  # in a batch of one as in one of many
  atol = 1e-6 * ROWS[name].rounding
  np.testing.assert_allclose(first[0], one[0], atol=atol)


@every_row
def test_resumed_run_equals_the_straight_one_bitwise(name, tmp_path):
  run = started(name)
  saved = checkpoint.Checkpoints(tmp_path)
  saved.save(1, run.states[1], {'attempt': 0})
  step, restored, _ = saved.restore(jax.eval_shape(lambda: run.states[0]))
  resumed = run.step(restored, 1)[0]
  assert step == 1
  chex.assert_trees_all_equal(run.states[2], resumed)


@every_structure
def test_samples_are_the_prior_decoded(name):
  queries, model = METHODS[name].queries, step_lib.model(started(name).states[0])
  if 'prior' not in queries:
    assert 'log_prior' not in queries
    return
  key, num = jax.random.key(8), num_samples(name)
  draw, z_key = sampler(name), key
  if 'mean' in inspect.signature(METHODS[name].sample).parameters:
    # Of an observation that is drawn: its mean, and a key of its own.
    draw = functools.partial(METHODS[name].sample, mean=True)
    z_key = jax.random.split(key)[0]
  z = queries['prior'](model, z_key, num)
  found = queries['decode'](model, None, z)
  expected = draw(model, key, num)
  np.testing.assert_allclose(found, expected, atol=1e-5 * ROWS[name].rounding)
  if 'log_prior' in queries:
    assert np.isfinite(queries['log_prior'](model, None, z)).all()


def copies(tree):
  return jax.tree.map(lambda x: np.stack([x] * DEVICES), jax.device_get(tree))


@every_structure
def test_sharded_over_devices_equals_one_device(name):
  run, key = started(name), jax.random.key(2)
  layout = parallel.Layout(parallel.device_mesh(jax.devices()[:DEVICES]))
  steps = step_lib.train_step(run.method, ema_decay=DECAY)
  compiled = parallel.jitted(steps, layout, run.states[0])
  atol = 2e-5 * ROWS[name].rounding
  many = parallel.put(run.states[0], parallel.state_shardings(layout, run.states[0]))
  for i in range(2):  # each of the shape that is compiled already
    batch = parallel.put_batch(layout, run.batches[i], leading=1)
    many, metrics = compiled(many, key, batch)
    chex.assert_trees_all_close(
      *jax.device_get((metrics, run.metrics[i])), atol=10 * atol
    )
  assert run.states[0].step == 0  # donated was a copy
  chex.assert_trees_all_close(*jax.device_get((many, run.states[2])), atol=atol)


@every_structure
def test_pmap_equals_vmap_over_groups_with_the_same_keys(name):
  run, key = started(name), jax.random.key(2)
  method = ROWS[name].make(parallel.mean_over_devices, priors.normal(4))
  state = copies(run.states[0]._replace(ema=()))
  batch = jax.tree.map(
    lambda x: x.reshape(DEVICES, -1, *x.shape[2:]), dict(run.batches[0])
  )
  on_devices = parallel.pmapped(method, jax.devices()[:DEVICES])
  if run.states[0].extra.get(base.LOCAL):
    with pytest.raises(ValueError, match='on every device; use the jit path'):
      on_devices(state, key, batch)
    return
  in_groups = jax.jit(
    jax.vmap(parallel.per_device(method), (0, None, 0), axis_name=parallel.DATA)
  )
  found, expected = jax.device_get(
    [step(state, key, batch) for step in (on_devices, in_groups)]
  )
  chex.assert_trees_all_close(found, expected, atol=2e-5)
  same = jax.tree.map(lambda x: np.ptp(np.asarray(x, float), 0).max(), found[0])
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


@every_structure
def test_step_lowers_for_tpu_and_gpu(name):
  run = started(name)
  abstract = jax.eval_shape(lambda: (run.states[0], jax.random.key(2), run.batches[0]))
  lowered = export.export(run.steps, platforms=('tpu', 'cuda'))(*abstract)
  assert lowered.platforms == ('tpu', 'cuda')


def trained(name):
  return step_lib.model(started(name).states[-1], averaged=False)


def log_prob(name, x):
  return np.asarray(
    jax.jit(METHODS[name].log_prob)(trained(name), jax.random.key(0), x)
  )


@rows(MASSES)
def test_masses_sum_to_one_and_are_the_samples(name):
  run, levels = started(name), ROWS[name].levels
  shape = run.batches[0]['x'].shape[2:]
  num = int(np.prod(shape))
  every = np.array(list(itertools.product(range(levels), repeat=num)), np.int32)
  p = np.exp(log_prob(name, every.reshape(-1, *shape)))
  np.testing.assert_allclose(p.sum(), 1, rtol=1e-5)
  samples = np.asarray(sampler(name)(trained(name), jax.random.key(3), 4000))
  cell = samples.reshape(4000, num) @ levels ** np.arange(num)[::-1]
  frequency = np.bincount(cell, minlength=len(p)) / 4000
  assert np.abs(frequency - p).max() < 5 * np.sqrt(0.25 / 4000)


@rows([n for n in EXACT if n not in MASSES])
def test_densities_of_the_plane_integrate_to_one_and_are_the_samples(name):
  axis = np.linspace(-2.0, 3.0, 251, dtype=np.float32)
  grid = np.stack(np.meshgrid(axis, axis - 1.0, indexing='ij'), -1).reshape(-1, 2)
  p = np.exp(log_prob(name, grid)).reshape(251, 251)
  cell = float(axis[1] - axis[0]) ** 2
  np.testing.assert_allclose(p.sum() * cell, 1, rtol=2e-3)
  samples = np.asarray(sampler(name)(trained(name), jax.random.key(3), 4000))
  for dim, other in ((0, 1), (1, 0)):
    marginal = np.cumsum(p.sum(axis=other)) * cell
    at = axis - dim
    empirical = (samples[:, dim, None] <= at + 0.01).mean(0)
    assert np.abs(empirical - marginal).max() < 1.95 / np.sqrt(4000)  # p = 0.001


@every_row
def test_card_claims_what_the_method_has(name):
  method = METHODS[name]
  card = method.card
  bounds = {'elbo', 'iwae'} & method.queries.keys()
  claim = {
    'exact': method.log_prob is not None,
    'lower_bound': method.log_prob is None and bool(bounds),
    'unnormalized': 'energy' in method.queries,
    'estimate': 'log_prob_estimate' in method.queries,
    'none': method.log_prob is None and not bounds and 'energy' not in method.queries,
  }
  assert claim[card.density]
  assert (card.density == 'none') == (card.measure == 'none')
  assert (card.density == 'none') == (card.density_cost == 'none')
  assert (method.sample is None) == (card.sampling == 'none')
  assert (method.sample is None) == (card.sampling_cost == 'none')
  assert card.training and set(card.condition) <= set(base.BATCH_KEYS)


@every_row
def test_card_is_written_in_the_words_of_the_contract(name):
  for field, hint in typing.get_type_hints(base.Card).items():
    value = getattr(METHODS[name].card, field)
    if typing.get_origin(hint) is tuple:
      hint, *_ = typing.get_args(hint)
    else:
      value = (value,)
    allowed = typing.get_args(hint)  # none where any string will do
    assert all(v in allowed if allowed else isinstance(v, str) for v in value), field


@every_row
def test_queries_have_the_signatures_of_the_contract(name):
  check_signatures(METHODS[name])


@rows(SAMPLED)
def test_a_condition_changes_samples_or_is_refused(name):
  run, names = started(name), METHODS[name].card.condition
  model, batch = step_lib.model(run.states[0]), first_of(run.batches[0])

  def drawn(i):
    values = [np.full(8, i) if n == 'label' else batch[n][8 * i :][:8] for n in names]
    condition = dict(zip(names, values, strict=True))
    if len(names) < 2:
      condition = values[0] if values else np.zeros(8)
    return run.method.sample(model, jax.random.key(0), 8, condition=condition)

  if not names:
    with pytest.raises(ValueError, match='unconditional'):
      drawn(0)
  else:
    assert np.abs(np.asarray(drawn(0)) - np.asarray(drawn(1))).max() > 1e-3


def averaged_part(state):
  collections = {c: state.extra[c] for c in base.AVERAGED if c in state.extra}
  return {'params': state.params, **collections}


@every_row
def test_average_follows_its_recursion(name):
  run = started(name)
  states = jax.device_get(run.states)
  # Far from the beginning the decay has reached its limit.
  ema = run.states[2].ema
  late = run.states[2]._replace(ema={**ema, 'count': np.int32(1000)})
  state = run.step(late, 2)[0]
  pairs = [*itertools.pairwise(states), jax.device_get((late, state))]
  for old, new in pairs:
    count = old.ema['count']
    decay = min(DECAY, (1 + count) / (10 + count))

    def one(average, latest, decay=decay):
      if not jnp.issubdtype(latest.dtype, jnp.inexact):
        return latest  # a counter has no average
      return decay * average + (1 - decay) * latest

    latest = averaged_part(new)
    expected = jax.tree.map(one, {c: old.ema[c] for c in latest}, latest)
    chex.assert_trees_all_close(
      new.ema, {'count': count + 1, **expected}, atol=1e-6, rtol=1e-5
    )
  assert [old.ema['count'] for old, _ in pairs] == [0, 1, 2, 1000]
  averaged, latest = step_lib.model(state), step_lib.model(state, averaged=False)
  chex.assert_trees_all_equal(
    averaged_part(averaged), {c: state.ema[c] for c in expected}
  )
  chex.assert_trees_all_equal(averaged_part(latest), averaged_part(state))
  for collection, values in jax.device_get(averaged_part(latest)).items():
    if jax.tree.leaves(values):  # the two are not one thing
      average = averaged_part(jax.device_get(averaged))[collection]
      assert optax.tree.norm(jax.tree.map(np.subtract, average, values)) > 1e-4
  others = {c: v for c, v in state.extra.items() if c not in base.AVERAGED}
  chex.assert_trees_all_equal({c: averaged.extra[c] for c in others}, others)
  assert averaged.extra.keys() == state.extra.keys()


def extra_of(name):
  """The names in `extra`, by shapes alone."""
  batch = jax.eval_shape(ROWS[name].batch, jax.random.key(0))
  return jax.eval_shape(METHODS[name].init, jax.random.key(0), batch).extra.keys()


def test_rows_stand_for_every_structure():
  # Without one a law above would say nothing about it.
  standing = {name: extra_of(name) for name, row in ROWS.items() if row.structure}
  for collection in (*base.AVERAGED, 'spectral', base.LOCAL):
    assert any(collection in extra for extra in standing.values())
