"""The loop: continued, phased, seeded and faulty runs against straight ones."""

import os
import signal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax import base
from gm_jax.data import transforms
from gm_jax.training import checkpoint, loop, parallel
from gm_jax.training import step as step_lib

SPEC = base.DataSpec((2,), jnp.float32, None, None, None, transforms.identity())
ONE = parallel.device_mesh(jax.devices()[:1])


def mean_method(rate=0.1, *, bad_at=None, bad_above=0.0):
  """Follows the data's mean with noise; gives a NaN where it is told to."""
  tx = optax.sgd(rate, momentum=0.5)

  def init(key, batch):
    params = jax.random.normal(key, batch['x'].shape[1:])
    return base.State(jnp.zeros((), jnp.int32), params, {}, tx.init(params), ())

  def step(state, key, batch):
    noise = 0.01 * jax.random.normal(key, state.params.shape)
    grads = state.params - batch['x'].mean(0) + noise
    if bad_at is not None and rate > bad_above:
      grads = jnp.where(state.step == bad_at, jnp.nan, grads)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    loss = jnp.sum(grads**2)
    return base.State(state.step + 1, params, {}, opt_state, state.ema), {'loss': loss}

  card = base.Card(*['none'] * 3, 'none', 'none', ('regression',), 'none', 'any')
  return base.Method(card, init, step, None, None, {})


def make_batches(phase, seed, start):
  del phase
  while True:
    rng = np.random.default_rng([seed, start])
    yield {'x': rng.normal(size=(8, 2)).astype(np.float32)}
    start += 1


class Recorder:
  """Callbacks that keep what they are told, and checkpoints in a folder."""

  def __init__(self, folder=None, stop_at=None):
    self.logged, self.saved, self.stop_at = [], [], stop_at
    self.checkpoints = checkpoint.Checkpoints(folder) if folder else None

  def tick(self, step):
    if step == self.stop_at:
      os.kill(os.getpid(), signal.SIGTERM)

  def save(self, step, state, meta, metrics):
    self.saved.append((step, meta['attempt'], metrics))
    self.checkpoints.save(step, state, meta, metrics)

  def callbacks(self, **more):
    return loop.Callbacks(
      log=lambda step, metrics: self.logged.append((step, metrics)),
      save=self.save if self.checkpoints else None,
      restore=self.checkpoints.restore if self.checkpoints else None,
      tick=self.tick,
      **more,
    )


def phases(method, steps=60):
  return lambda attempt: (base.Phase(method, steps, SPEC, None),)


def settings(**changes):
  return loop.Settings(
    **{'steps': 60, 'steps_per_dispatch': 4, 'log_every': 20, **changes}
  )


def run(make_phases, recorder, **changes):
  return loop.train(
    make_phases, make_batches, settings(**changes), recorder.callbacks(), mesh=ONE
  )


@pytest.mark.parametrize('changes', [{}, {'num_seeds': 3}, {'ema_decay': 0.9}])
def test_stopped_and_continued_run_equals_the_straight_one_bitwise(tmp_path, changes):
  changes = {'checkpoint_every': 16, **changes}
  straight = run(phases(mean_method()), Recorder(tmp_path / 'a'), **changes)
  # The signal comes after the dispatch that ends at 20: one more ends at 24.
  with pytest.raises(loop.Stopped) as stopped:
    run(phases(mean_method()), Recorder(tmp_path / 'b', stop_at=20), **changes)
  assert stopped.value.signum == signal.SIGTERM and stopped.value.step == 24
  recorder = Recorder(tmp_path / 'b')
  continued = run(phases(mean_method()), recorder, **changes)
  assert [step for step, *_ in recorder.saved] == [32, 48, 60]
  chex.assert_trees_all_equal(jax.device_get(straight), jax.device_get(continued))
  assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_dispatches_change_nothing():
  alone = run(phases(mean_method()), Recorder(), steps_per_dispatch=1)
  together = run(phases(mean_method()), Recorder(), steps_per_dispatch=20)
  chex.assert_trees_all_close(alone, together, atol=1e-6)


@pytest.mark.parametrize('num_seeds', [1, 3])
def test_step_is_traced_once_however_long_the_run(num_seeds):
  plain = mean_method()

  def traces(**changes):
    traced = []

    def counted(state, key, batch):
      traced.append(1)
      return plain.step(state, key, batch)

    make = phases(plain._replace(step=counted), steps=200)
    run(make, Recorder(), num_seeds=num_seeds, **changes)
    return len(traced)

  once = traces(steps=4)
  assert 1 <= once <= 2
  assert traces(steps=20) == traces(steps=160) == once
  # A last dispatch of fewer steps is a program of its own, and the only other.
  assert traces(steps=162) <= 2 * once


def test_every_seed_of_many_is_the_single_run_of_that_seed():
  many = run(phases(mean_method()), Recorder(), num_seeds=3, seed=5)
  assert many.step.shape == ()
  for i in range(3):
    single = run(phases(mean_method()), Recorder(), seed=5 + i)
    np.testing.assert_allclose(many.params[i], single.params, atol=1e-6)


def test_many_seeds_shard_over_devices():
  mesh = parallel.device_mesh(jax.devices()[:4])
  one = run(phases(mean_method()), Recorder(), num_seeds=2)
  many = loop.train(
    phases(mean_method()), make_batches, settings(num_seeds=2),
    Recorder().callbacks(), mesh=mesh,
  )  # fmt: skip
  chex.assert_trees_all_close(
    jax.device_get(one.params), jax.device_get(many.params), atol=1e-6
  )


def test_log_holds_the_mean_since_the_last_one():
  recorder, each = Recorder(), Recorder()
  run(phases(mean_method()), recorder)
  run(phases(mean_method()), each, log_every=1, steps_per_dispatch=1)
  losses = np.array([metrics['loss'] for _, metrics in each.logged])
  assert [step for step, _ in recorder.logged] == [20, 40, 60]
  for i, (_, metrics) in enumerate(recorder.logged):
    np.testing.assert_allclose(
      metrics['loss'], losses[20 * i : 20 * i + 20].mean(), rtol=1e-5
    )


def test_phases_follow_one_another_and_resume_in_their_own(tmp_path):
  def enter(key, previous, batch):
    del key
    # Another structure: two copies of the parameters, and a new optimizer.
    both = {'old': previous.params, 'new': batch['x'].mean(0)}
    return base.State(previous.step, both, {}, (), ())

  def second_step(state, key, batch):
    del key
    params = jax.tree.map(lambda p: 0.5 * (p + batch['x'][0]), state.params)
    return state._replace(step=state.step + 1, params=params), {
      'loss': params['old'][0]
    }

  second = mean_method()._replace(step=second_step)

  def make(attempt):
    del attempt
    first = base.Phase(mean_method(), 24, SPEC, None)
    return (first, base.Phase(second, 60, SPEC, enter))

  straight = run(make, Recorder())
  half = run(make, Recorder(), steps=24)
  batches = list(zip(range(60), make_batches(None, 0, 0), strict=False))
  expected = {'old': half.params, 'new': batches[0][1]['x'].mean(0)}
  for _, batch in batches[24:]:
    expected = jax.tree.map(lambda p, x=batch['x'][0]: 0.5 * (p + x), expected)
  chex.assert_trees_all_close(straight.params, expected, atol=1e-6)
  for stop_at in (8, 20, 40):  # in the first, at its end, in the second
    folder = tmp_path / str(stop_at)
    with pytest.raises(loop.Stopped):
      run(make, Recorder(folder, stop_at=stop_at), checkpoint_every=60)
    continued = run(make, Recorder(folder), checkpoint_every=60)
    chex.assert_trees_all_equal(jax.device_get(straight), jax.device_get(continued))


def test_only_the_last_phase_is_evaluated():
  two = (base.Phase(mean_method(), until, SPEC, None) for until in (24, 60))
  two, seen = tuple(two), []
  callbacks = Recorder().callbacks(
    evaluate=lambda phase, state: seen.append((two.index(phase), int(state.step)))
  )
  changes = settings(evaluate_every=12)
  loop.train(lambda attempt: two, make_batches, changes, callbacks, mesh=ONE)
  assert seen == [(1, 36), (1, 48), (1, 60)]


def test_nan_stops_the_run_and_names_metric_and_step(tmp_path):
  recorder = Recorder(tmp_path)
  with pytest.raises(loop.Diverged, match='loss is not finite after step 31'):
    run(phases(mean_method(bad_at=30)), recorder, checkpoint_every=8)
  steps = [int(path.name) for path in tmp_path.iterdir()]
  assert max(steps) == 24  # none after the NaN
  with pytest.raises(loop.Diverged, match='after step 31 of seed 4'):
    run(phases(mean_method(bad_at=30)), Recorder(), num_seeds=2, seed=4)


def test_nan_is_skipped_and_the_step_still_counts():
  recorder = Recorder()
  state = run(phases(mean_method(bad_at=30)), recorder, on_nan='skip')
  logged = dict(recorder.logged)
  assert state.step == 60 and np.isfinite(state.params).all()
  np.testing.assert_allclose(logged[40]['finite'], 19 / 20)
  assert np.isfinite(logged[40]['loss'])
  # The state is that of a method that does nothing at that step.
  plain = mean_method()

  def pause(state, key, batch):
    new, metrics = plain.step(state, key, batch)
    kept = jax.tree.map(lambda n, o: jnp.where(state.step == 30, o, n), new, state)
    return kept._replace(step=new.step), metrics

  expected = run(phases(plain._replace(step=pause)), Recorder())
  chex.assert_trees_all_close(state, expected, atol=1e-6)


def test_nan_restarts_from_the_last_checkpoint_at_half_the_rate(tmp_path):
  rates = []

  def make(attempt):
    rates.append(0.4 * 0.5**attempt)
    return phases(mean_method(rates[-1], bad_at=30, bad_above=0.15))(attempt)

  recorder = Recorder(tmp_path)
  state = run(make, recorder, checkpoint_every=8, on_nan='restart')
  assert state.step == 60 and np.isfinite(state.params).all()
  assert set(rates) == {0.4, 0.2, 0.1}
  steps = [(step, attempt) for step, attempt, _ in recorder.saved]
  assert steps[:3] == [(8, 0), (16, 0), (24, 0)]
  assert steps[-1] == (60, 2) and (32, 1) not in steps
  # Killed and continued, it goes on in the third attempt.
  rates.clear()
  again = run(make, Recorder(tmp_path), checkpoint_every=8, on_nan='restart', steps=64)
  assert rates[-1] == 0.1 and again.step in (60, 64)


def test_nan_in_every_attempt_ends():
  with pytest.raises(loop.Diverged):
    run(phases(mean_method(bad_at=3)), Recorder(), on_nan='restart')


def growing_method(rate, limit, first=1.0):
  """Multiplies its parameter by 1 - rate, and has a gap that is its size."""
  plain = mean_method()

  def init(key, batch):
    del key, batch
    return base.State(jnp.zeros((), jnp.int32), jnp.full((2,), first), {}, (), ())

  def step(state, key, batch):
    del key, batch
    gap = jnp.abs(state.params[0])
    metrics = {'gap': gap, 'diverged_energy_gap': jnp.float32(gap > limit)}
    params = (1 - rate) * state.params
    return state._replace(step=state.step + 1, params=params), metrics

  return plain._replace(init=init, step=step)


def growing(limit, rates):
  """Phases of each attempt, at rates 3, 3/2, 3/4: factors of -2, -1/2 and 1/4."""

  def make(attempt):
    rates.append(3.0 * 0.5**attempt)
    return phases(growing_method(rates[-1], limit), steps=20)(attempt)

  return make


def warnings_of(monkeypatch):
  lines = []
  monkeypatch.setattr(
    loop.logging, 'warning', lambda text, *args: lines.append(text % args)
  )
  return lines


# The gap after t steps is 2^t: above 1000 first in step 11, that of 2^10.
ABOVE = 'the energy gap is above its limit after step 11'


def test_a_method_that_has_diverged_stops_the_run_and_says_by_what(tmp_path):
  with pytest.raises(loop.Diverged, match=ABOVE):
    run(growing(1000, []), Recorder(tmp_path), steps=20, checkpoint_every=4)
  assert max(int(path.name) for path in tmp_path.iterdir()) == 8
  # Within the limit nothing happens, however large the numbers.
  assert run(growing(1e6, []), Recorder(), steps=20).params[0] == 2.0**20


def test_a_method_that_has_diverged_goes_on_at_half_the_rate(tmp_path, monkeypatch):
  lines, rates = warnings_of(monkeypatch), []
  changes = {'steps': 20, 'checkpoint_every': 4, 'on_nan': 'restart'}
  state = run(growing(1000, rates), Recorder(tmp_path), **changes)
  assert state.params[0] == 2.0**8 * 0.5**12  # of the checkpoint at step 8
  assert lines == [f'{ABOVE}; restarting at half the learning rate']


def test_a_checkpoint_that_diverges_again_is_gone_behind(tmp_path, monkeypatch):
  lines = warnings_of(monkeypatch)
  changes = {'steps': 20, 'checkpoint_every': 4, 'on_nan': 'restart'}
  recorder = Recorder(tmp_path)
  # The checkpoint at step 8 has a gap of 256 already: whatever the rate, step 9 is bad.
  state = run(growing(200, []), recorder, **changes)
  assert state.params[0] == 2.0**4 * 0.25**16
  above = 'the energy gap is above its limit after step 9; restarting at half the'
  assert lines == [
    f'{above} learning rate',
    f'{above} learning rate from before step 8',
  ]
  saved = [(step, attempt) for step, attempt, _ in recorder.saved]
  assert saved == [(4, 0), (8, 0), (8, 2), (12, 2), (16, 2), (20, 2)]
  # Without any older one it is the beginning, of the second half of the rate.
  lines.clear()
  state = run(growing(200, []), Recorder(), **changes)
  assert abs(state.params[0]) == 0.5**20 and len(lines) == 1


def test_steps_of_a_method_that_has_diverged_are_skipped(monkeypatch):
  lines, recorder = warnings_of(monkeypatch), Recorder()
  with pytest.raises(loop.Diverged, match='every step before step 16 was skipped'):
    run(growing(1000, []), recorder, steps=20, log_every=4, on_nan='skip')
  logged = dict(recorder.logged)
  # Steps 11 and 12 are undone; the means are those of the others.
  assert logged[8]['diverged_energy_gap'] == 0 and logged[8]['finite'] == 1
  assert logged[12]['diverged_energy_gap'] == logged[12]['finite'] == 0.5
  assert logged[12]['gap'] == (2**8 + 2**9) / 2
  assert all(line.startswith('steps up to') for line in lines)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'steps': 0}, 'at least 1'),
    ({'log_every': 6}, 'log_every = 6 .*multiple of steps_per_dispatch = 4'),
    ({'checkpoint_every': -4}, 'checkpoint_every = -4'),
    ({'ema_decay': 1.0}, r'ema_decay must be in \[0, 1\)'),
    ({'on_nan': 'ignore'}, "'stop', 'skip' or 'restart', got 'ignore'"),
  ],
)
def test_settings_that_make_no_sense(change, message):
  with pytest.raises(ValueError, match=message):
    loop.check(settings(**change))


def test_average_begins_as_a_copy_and_is_what_inference_gets():
  state = step_lib.init(mean_method(), jax.random.key(0), {'x': jnp.ones((4, 2))},
                        averaged=True)  # fmt: skip
  chex.assert_trees_all_equal(state.ema['params'], state.params)
  assert state.ema['params'] is not state.params
  trained = run(phases(mean_method()), Recorder(), ema_decay=0.95)
  assert np.abs(trained.ema['params'] - trained.params).max() > 1e-3


def test_placing_copies_so_that_donation_is_safe():
  x = jnp.arange(8.0)
  placed = parallel.put(x, parallel.replicated(ONE))
  jax.jit(lambda x: x + 1, donate_argnums=0)(placed)
  np.testing.assert_array_equal(x, np.arange(8.0))  # still there
  mesh = parallel.device_mesh(jax.devices()[:4])
  with pytest.raises(ValueError, match='batch of 6 .*multiple of 4'):
    parallel.put(jnp.zeros((6, 2)), parallel.split(mesh))


def test_pmap_refuses_what_would_differ_between_devices():
  state = base.State(
    jnp.zeros((4,)), {}, {base.LOCAL: {'buffer': jnp.zeros((4, 2))}}, (), ()
  )
  with pytest.raises(ValueError, match="different 'buffer' on every device"):
    parallel.pmapped(mean_method(), jax.devices()[:4])(
      state, jax.random.key(0), {'x': jnp.zeros((4, 2, 2))}
    )
