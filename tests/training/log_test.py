"""Logs: a resumed run leaves the files of a straight one; floats read back."""

import builtins
import math
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.training import log


def _run(writer, start, stop):
  """What a loop logs from step `start` to `stop`, evaluation from step 6 on."""
  for step in range(start + 1, stop + 1):
    metrics = {'loss': 1 / (step + 2), 'finite': 1.0}
    if step >= 4:
      metrics['late'] = np.float32(step) / 3
    writer.write('train', step, metrics)
    if step % 6 == 0:
      writer.write('evaluate', step, {'distance': math.sqrt(step)})


def test_rows_are_written_at_once_and_read_back_exactly(tmp_path):
  writer = log.Log(tmp_path / 'run', tensorboard=False)
  values = {'b': 0.1 + 0.2, 'a': jnp.float32(1 / 3), 'n': float('nan'), 'i': -math.inf}
  writer.write('train', 10, values)
  path = tmp_path / 'run' / 'train.csv'
  assert path.read_text().splitlines()[0] == 'step,a,b,i,n'
  (row,) = log.read(path)
  assert row['step'] == 10 and isinstance(row['step'], int)
  assert row['b'] == 0.1 + 0.2 and row['a'] == float(np.float32(1 / 3))
  assert math.isnan(row['n']) and row['i'] == -math.inf
  assert not (tmp_path / 'run' / 'evaluate.csv').exists()


def test_a_new_metric_makes_a_column_and_empty_cells(tmp_path):
  writer = log.Log(tmp_path, tensorboard=False)
  for step, metrics in enumerate([{'b': 1}, {'a': 2}, {'c': 3, 'b': 4}]):
    writer.write('evaluate', step, metrics)
  path = tmp_path / 'evaluate.csv'
  assert path.read_text() == 'step,a,b,c\n0,,1.0,\n1,2.0,,\n2,,4.0,3.0\n'
  assert log.read(path)[1] == {'step': 1, 'a': 2.0}


@pytest.mark.parametrize('saved, killed', [(0, 3), (2, 5), (3, 9), (7, 8), (9, 9)])
@pytest.mark.parametrize('torn', ['', '1', '10,0.5,1.'])
def test_a_killed_and_resumed_run_equals_a_straight_one(tmp_path, saved, killed, torn):
  straight = log.Log(tmp_path / 'straight', tensorboard=False)
  _run(straight, 0, 12)
  _run(log.Log(tmp_path / 'resumed', tensorboard=False), 0, killed)
  with (tmp_path / 'resumed' / 'train.csv').open('a') as file:
    file.write(torn)
  resumed = log.Log(tmp_path / 'resumed', tensorboard=False)
  resumed.trim(saved)
  _run(resumed, saved, 12)
  for name in ('train.csv', 'evaluate.csv'):
    assert (tmp_path / 'resumed' / name).read_bytes() == (
      tmp_path / 'straight' / name
    ).read_bytes()
  assert {p.name for p in (tmp_path / 'resumed').iterdir()} == {
    'train.csv',
    'evaluate.csv',
  }


def test_a_torn_row_is_not_appended_to(tmp_path):
  log.Log(tmp_path, tensorboard=False).write('train', 1, {'loss': 0.5})
  with (tmp_path / 'train.csv').open('a') as file:
    file.write('2,0.2')
  assert log.read(tmp_path / 'train.csv') == [{'step': 1, 'loss': 0.5}]
  log.Log(tmp_path, tensorboard=False).write('train', 2, {'loss': 0.25})
  assert (tmp_path / 'train.csv').read_text() == 'step,loss\n1,0.5\n2,0.25\n'


def test_tensorboard_events_and_without_the_library(tmp_path, monkeypatch):
  writer = log.Log(tmp_path / 'with')
  writer.write('train', 1, {'loss': 0.5})
  writer.trim(0)
  writer.write('train', 1, {'loss': 0.5})
  writer.close()
  events = list((tmp_path / 'with' / 'tensorboard').iterdir())
  assert events and b'train/loss' in b''.join(e.read_bytes() for e in events)
  importer = builtins.__import__

  def refuse(name, *args, **kwargs):
    if name == 'tensorboardX':
      raise ImportError(name)
    return importer(name, *args, **kwargs)

  monkeypatch.setattr(builtins, '__import__', refuse)
  log.Log(tmp_path / 'without').write('train', 1, {'loss': 0.5})
  assert [p.name for p in (tmp_path / 'without').iterdir()] == ['train.csv']


def test_events_are_of_finite_values_and_the_console_stays_quiet(tmp_path, caplog):
  values = {'good': 0.5, 'none': math.nan, 'high': math.inf, 'low': -math.inf}
  writer = log.Log(tmp_path)
  writer.write('train', 1, values)
  writer.close()
  assert caplog.text == ''
  events = b''.join(e.read_bytes() for e in (tmp_path / 'tensorboard').iterdir())
  assert b'train/good' in events
  assert not any(f'train/{name}'.encode() in events for name in ('none', 'high', 'low'))
  assert len(log.read(tmp_path / 'train.csv')[0]) == 5


def test_console_is_one_line_with_or_without_a_bar(tmp_path, capsys, monkeypatch):
  writer = log.Log(tmp_path, tensorboard=False)
  bar = log.progress(10)
  bar.advance_to(1)
  bar.close()
  writer.console(1200, {'loss': 0.123456, 'rate': jnp.float32(1e-4)})
  assert capsys.readouterr() == ('step 1200  loss 0.1235  rate 0.0001\n', '')
  monkeypatch.setattr(sys.stderr, 'isatty', lambda: True)
  bar = log.progress(10)
  bar.advance_to(4)
  bar.advance_to(5)
  writer.console(5, {'loss': 0.5})
  bar.close()
  out, err = capsys.readouterr()
  assert out == 'step 5  loss 0.5\n' and '5/10' in err


def test_refusals(tmp_path):
  writer = log.Log(tmp_path, tensorboard=False)
  with pytest.raises(ValueError, match='split'):
    writer.write('test', 1, {})
  with pytest.raises(ValueError, match='step'):
    writer.write('train', 1, {'step': 1})


def test_replacing_leaves_the_old_file_when_the_writing_fails(tmp_path):
  path = tmp_path / 'file'
  path.write_text('old')
  with pytest.raises(ZeroDivisionError), log.replacing(path) as temporary:
    temporary.write_text('half')
    raise ZeroDivisionError
  assert path.read_text() == 'old' and list(tmp_path.iterdir()) == [path]
