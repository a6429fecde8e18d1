"""Checkpoints: what is restored is what was saved, or an older one."""

import logging
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax import base
from gm_jax.training import checkpoint


def _state(seed):
  key = jax.random.key(seed)
  params = {
    'dense': {'kernel': jax.random.normal(key, (64, 33)), 'bias': jnp.zeros(33)},
    'low': [jax.random.normal(key, (5,), jnp.bfloat16), jnp.asarray(True)],
  }
  extra = {'seed': jnp.uint32(2**32 - 1 - seed), 'none': jnp.zeros((0, 3))}
  opt_state = optax.adam(1e-3).init(params['dense'])
  return base.State(jnp.int32(seed), params, extra, opt_state, ())


def _same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    x, y = np.asarray(x), np.asarray(y)
    assert x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()


def _save_all(directory, metrics, **options):
  checkpoints = checkpoint.Checkpoints(directory, **options)
  for step, value in metrics.items():
    named = None if value is None else {'loss': value}
    checkpoints.save(step, _state(step), {'attempt': 0, 'at': step}, named)
  return checkpoints


def _steps(directory):
  return sorted(int(path.name) for path in directory.iterdir())


def _flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


def _cut(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_round_trip_is_bitwise_with_structure_meta_and_step(tmp_path):
  special = np.array([np.nan, -0.0, np.inf, 1e-45], np.float32)
  state = _state(7)._replace(ema={'params': special})
  checkpoints = checkpoint.Checkpoints(tmp_path / 'new' / 'folder')
  assert checkpoints.restore(state) is None
  meta = {'attempt': 2, 'data': {'epoch': 3, 'next': 11}, 'rate': 0.1}
  checkpoints.save(7, state, meta)
  checkpoints.close()
  again = checkpoint.Checkpoints(tmp_path / 'new' / 'folder')
  template = jax.eval_shape(lambda: _state(7))._replace(ema={'params': special})
  step, restored, found = again.restore(template)
  assert (step, found) == (7, meta)
  _same(restored, state)


def test_save_has_its_copy_before_the_caller_donates(tmp_path):
  checkpoints = checkpoint.Checkpoints(tmp_path)
  state = {'w': jnp.arange(1000.0)}
  kept = np.array(state['w'])
  checkpoints.save(1, state)
  jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)(state)
  _same(checkpoints.restore({'w': kept})[1], {'w': kept})


@pytest.mark.parametrize('mode, best', [('min', 2), ('max', 4)])
def test_keeps_the_last_and_the_best(tmp_path, mode, best):
  losses = {1: 0.5, 2: 0.1, 3: 0.3, 4: 0.9, 5: float('nan'), 6: None, 7: 0.4, 8: 0.5}
  options = {'keep': 2, 'best': ('loss', mode)}
  checkpoints = _save_all(tmp_path, losses, **options)
  assert checkpoints.best_step() == best and _steps(tmp_path) == [best, 7, 8]
  again = checkpoint.Checkpoints(tmp_path, **options)
  assert again.best_step() == best and _steps(tmp_path)[-1] == 8
  again.save(9, _state(9), {}, {'loss': 0.3})
  assert _steps(tmp_path) == [best, 8, 9]
  step, restored, _ = again.restore(_state(0), step=best)
  assert step == best
  _same(restored, _state(best))


def test_keeps_only_the_last_without_a_metric(tmp_path):
  checkpoints = _save_all(tmp_path, dict.fromkeys(range(5)), keep=3)
  assert _steps(tmp_path) == [2, 3, 4] and checkpoints.best_step() is None


@pytest.mark.drill
@pytest.mark.parametrize('damage', [_flip, _cut, pathlib.Path.unlink])
def test_damage_to_any_file_is_harmless_or_passed_over(tmp_path, damage, caplog, capfd):
  whole = tmp_path / 'whole'
  _save_all(whole, {1: None, 2: None}).close()
  files = [p for p in (whole / '2').rglob('*') if p.is_file() and p.stat().st_size]
  largest = max(files, key=lambda path: path.stat().st_size)
  passed_over = []
  for i, file in enumerate(files):
    caplog.clear()
    folder = shutil.copytree(whole, tmp_path / str(i))
    damage(folder / file.relative_to(whole))
    checkpoints = checkpoint.Checkpoints(folder)
    step, restored, meta = checkpoints.restore(_state(0))
    assert step == meta['at']
    _same(restored, _state(step))
    warned = [r.message for r in caplog.records if r.levelno >= logging.WARNING]
    if step == 1:
      passed_over.append(file)
      assert len(warned) == 1 and '\n' not in warned[0]
      assert 'Checkpoint 2 is damaged' in warned[0]
      with pytest.raises(ValueError, match='step 2 is damaged'):
        checkpoints.restore(_state(0), step=2)
    checkpoints.save(2, _state(2), {'at': 2, 'again': True})
    assert checkpoint.Checkpoints(folder).restore(_state(0))[2]['again']
  assert largest in passed_over and len(passed_over) >= 4
  assert 'Traceback' not in capfd.readouterr().err


def test_a_lost_item_and_an_altered_meta_are_damage(tmp_path, caplog):
  _save_all(tmp_path, dict.fromkeys([1, 2, 3])).close()
  for path in sorted((tmp_path / '3' / 'state').rglob('*'), reverse=True):
    path.rmdir() if path.is_dir() else path.unlink()
  record = tmp_path / '2' / 'record' / 'metadata'
  record.write_text(record.read_text().replace('"attempt": 0', '"attempt": 1'))
  assert checkpoint.Checkpoints(tmp_path).restore(_state(0))[0] == 1
  assert 'Checkpoint 2 is damaged, passed over: its record was altered' in caplog.text


def test_a_damaged_newer_one_does_not_push_out_a_good_one(tmp_path):
  _save_all(tmp_path, {1: 0.5, 5: 0.1}, keep=2, best=('loss', 'min')).close()
  _cut(tmp_path / '5' / 'record' / 'metadata')
  checkpoints = checkpoint.Checkpoints(tmp_path, keep=1, best=('loss', 'min'))
  assert checkpoints.best_step() == 1 and checkpoints.restore(_state(0))[0] == 1
  checkpoints.save(3, _state(3), {}, {'loss': 0.9})
  assert _steps(tmp_path) == [1, 3]
  assert checkpoint.Checkpoints(tmp_path).restore(_state(0))[0] == 3


def test_saving_the_same_again_does_nothing_and_other_content_replaces(tmp_path):
  checkpoints = _save_all(tmp_path, {1: None})
  before = (tmp_path / '1').stat().st_ino
  checkpoints.save(1, _state(1), {'attempt': 0, 'at': 1})
  assert (tmp_path / '1').stat().st_ino == before
  checkpoints.save(1, _state(5), {'attempt': 1})
  _, restored, meta = checkpoints.restore(_state(0))
  assert meta == {'attempt': 1}
  _same(restored, _state(5))


def test_nan_in_metrics_meta_and_state_restores_and_is_the_same_again(tmp_path):
  nan = float('nan')
  state, meta = {'w': np.array([nan, 1.0], np.float32)}, {'worst': [nan, 1.0]}
  options = {'best': ('loss', 'min')}
  first = checkpoint.Checkpoints(tmp_path, **options)
  first.save(1, state, meta, {'loss': nan, 'other': 2.0})
  first.close()
  checkpoints = checkpoint.Checkpoints(tmp_path, **options)
  step, restored, found = checkpoints.restore(state)
  assert step == 1 and checkpoints.best_step() is None
  np.testing.assert_equal(found, meta)
  _same(restored, state)
  before = (tmp_path / '1').stat().st_ino
  checkpoints.save(1, restored, found, {'loss': -nan, 'other': 2.0})
  assert (tmp_path / '1').stat().st_ino == before
  record = tmp_path / '1' / 'record' / 'metadata'
  record.write_text(record.read_text().replace('NaN', '0.5'))
  altered = record.read_bytes()
  with pytest.raises(checkpoint.Damaged, match='every checkpoint is damaged'):
    checkpoint.Checkpoints(tmp_path, **options).restore(state)
  assert record.read_bytes() == altered  # it is left for the user to see


def test_a_record_is_whole_whichever_nan_its_reader_makes(tmp_path, monkeypatch):
  state = {'w': np.ones(2, np.float32)}
  checkpoints = checkpoint.Checkpoints(tmp_path)
  checkpoints.save(1, state, {'worst': float('nan')})
  read = checkpoints._item

  def item(step, name, args):  # with a NaN of its own, unlike the json library's
    found = read(step, name, args)
    return found | {'meta': {'worst': float('nan')}} if name == 'record' else found

  monkeypatch.setattr(checkpoints, '_item', item)
  assert checkpoints.restore(state)[0] == 1


def test_another_template_is_an_error_that_names_the_leaf(tmp_path):
  checkpoints = _save_all(tmp_path, {1: None})
  state = _state(0)
  wider = state._replace(extra=state.extra | {'seed': jnp.zeros(3, jnp.uint32)})
  with pytest.raises(ValueError, match=r"\.extra\['seed'\]: uint32\[\] saved, uint3"):
    checkpoints.restore(wider)
  with pytest.raises(ValueError, match=r"\.ema\['a'\]: nothing saved, float32\[2\]"):
    checkpoints.restore(state._replace(ema={'a': jnp.zeros(2)}))
  with pytest.raises(ValueError, match=r'int32\[\] saved, nothing expected') as error:
    checkpoints.restore(state._replace(step=()))
  assert '\n' not in str(error.value)
  with pytest.raises(ValueError, match='no checkpoint at step 4'):
    checkpoints.restore(state, step=4)


def test_what_cannot_be_stored_is_refused(tmp_path):
  checkpoints = checkpoint.Checkpoints(tmp_path)
  with pytest.raises(TypeError, match='typed key'):
    checkpoints.save(1, {'key': jax.random.key(0)})
  with pytest.raises(TypeError, match='JSON'):
    checkpoints.save(1, {'w': jnp.ones(2)}, {'meta': object()})
  with pytest.raises(ValueError, match='keep'):
    checkpoint.Checkpoints(tmp_path, keep=0)
  with pytest.raises(ValueError, match='min'):
    checkpoint.Checkpoints(tmp_path, best=('loss', 'least'))
  assert _steps(tmp_path) == []


@pytest.mark.slow
def test_the_console_stays_quiet(tmp_path):
  code = (
    'import sys, numpy as np; from absl import logging; logging.set_verbosity(0);'
    'from gm_jax.training import checkpoint;'
    'c = checkpoint.Checkpoints(sys.argv[1]); c.save(1, {"w": np.ones(3)});'
    'c.restore({"w": np.ones(3)}); c.close()'
  )
  done = subprocess.run(
    [sys.executable, '-c', code, tmp_path], capture_output=True, text=True, check=True
  )
  assert done.stdout + done.stderr == ''


SAVER = """
import sys, numpy as np
from gm_jax.training import checkpoint
checkpoints = checkpoint.Checkpoints(sys.argv[1], keep=2)
for step in range(10**6):
  print(step, flush=True)
  state = {'w': np.full(500_000, step, np.float32), 'step': np.int32(step)}
  checkpoints.save(step, state, {'at': step})
"""


def _kill_while_saving(directory, after):
  """Kills a process that does nothing but save."""
  child = subprocess.Popen(
    [sys.executable, '-c', SAVER, directory], stdout=subprocess.PIPE, text=True
  )
  while child.stdout.readline().strip() != '3':
    assert child.poll() is None
  time.sleep(after)
  child.send_signal(signal.SIGKILL)
  child.communicate()
  assert child.returncode == -signal.SIGKILL


def _check_after_kill(directory):
  template = {'w': np.empty(500_000, np.float32), 'step': np.int32(0)}
  checkpoints = checkpoint.Checkpoints(directory, keep=2)
  step, state, meta = checkpoints.restore(template)
  assert meta == {'at': step} and state['step'] == step >= 2
  assert np.all(state['w'] == step)
  checkpoints.save(step + 1, state)
  assert _steps(directory) == [step, step + 1]  # and no leftovers


@pytest.mark.slow
def test_a_save_killed_midway_leaves_the_one_before(tmp_path):
  _kill_while_saving(tmp_path, random.uniform(0, 0.03))
  _check_after_kill(tmp_path)


@pytest.mark.slow
def test_many_kills(tmp_path):
  for i in range(8):
    _kill_while_saving(tmp_path / str(i), random.uniform(0, 0.3))
    _check_after_kill(tmp_path / str(i))


def test_a_half_written_folder_is_named_and_removed_by_the_next_save(tmp_path, caplog):
  checkpoints = _save_all(tmp_path, {1: None})
  (tmp_path / f'2{checkpoint.UNFINISHED}' / 'state').mkdir(parents=True)
  assert checkpoints.restore(_state(0))[0] == 1
  assert 'Checkpoint 2 was left half-written, passed over' in caplog.text
  checkpoints.save(2, _state(2))
  assert _steps(tmp_path) == [1, 2]
