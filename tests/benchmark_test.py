"""The benchmark counts what XLA counts, and compares two equal things."""

import itertools
import pathlib
import subprocess
import sys
import time

import jax
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.bench import flops, goals, timing, unroll  # noqa: E402
from gm_jax.players import DISCRIMINATOR, GENERATOR  # noqa: E402


def formula(k, **kwargs):
  sizes = unroll.SIZES[GENERATOR], unroll.SIZES[DISCRIMINATOR]
  return flops.step(k, *sizes, unroll.BATCH_SIZE, **kwargs)


@pytest.mark.parametrize('k', [0, 1, 2])
def test_floor_is_what_xla_counts_but_for_the_elementwise_part(k):
  method = unroll.make_method(k, unroll.python_loop)
  program = jax.jit(method.step).lower(*unroll.example())
  counted = program.cost_analysis()['flops']
  assert formula(k) < counted < 1.15 * formula(k)


def test_partial_gradient_is_what_xla_counts_but_for_the_elementwise_part():
  def cut(step, state, xs=None, *, length=None):
    return jax.lax.stop_gradient(unroll.python_loop(step, state, xs, length=length))

  program = jax.jit(unroll.make_method(2, cut).step).lower(*unroll.example())
  counted = program.cost_analysis()['flops']
  partial = formula(2, partial=True)
  assert partial < counted < 1.15 * partial
  assert partial < 0.7 * formula(2)


def test_each_further_step_costs_the_same():
  assert formula(3) - formula(2) == formula(50) - formula(49)
  again = [formula(k, rematerialized=True) - formula(k) for k in (0, 1, 4)]
  assert again == [0, again[1], 4 * again[1]]


@pytest.mark.parametrize('k', [0, 2])
def test_pytorch_computes_the_same_gradient(k):
  pytest.importorskip('torch', reason="PyTorch is not installed: 'gm_jax[bench]'")
  assert unroll.gradient_difference(k, unroll.example()) < 1e-3


@pytest.mark.drill
@pytest.mark.parametrize(
  ('args', 'word'),
  [
    (['unroll', '--ks=1,x'], '--ks'),
    *(
      pytest.param(*row, marks=pytest.mark.drill)
      for row in (
        (['unrol'], 'unrol'),
        ([], 'unroll'),
        (['unroll', '--kss=1'], 'kss'),
        (['unroll', '--quick', '--json=/none/such/file'], 'no such folder'),
      )
    ),
  ],
)
def test_wrong_command_is_one_line_and_exit_code_2(args, word):
  command = [sys.executable, str(ROOT / 'experiments' / 'benchmark.py'), *args]
  done = subprocess.run(command, capture_output=True, text=True, timeout=60)
  assert done.returncode == 2
  assert done.stdout == ''
  assert len(done.stderr.splitlines()) == 1
  assert word in done.stderr


def test_goals_are_judged_only_by_what_was_measured():
  quiet = {'step_ms': 20.0, 'step_ms_best': 19.0, 'torch_ms': 40.0}
  quiet |= {'torch_ms_best': 39.0, 'times_faster': 2.0, 'times_floor': 3.4}
  verdicts = [g['verdict'] for g in goals.verdicts({10: quiet}, None, 'cpu')]
  assert verdicts == ['met', 'NOT MET', *['not measured'] * 3]
  noisy = quiet | {'torch_ms_best': 20.0}
  verdicts = [g['verdict'] for g in goals.verdicts({10: noisy}, None, 'cpu')]
  assert verdicts[:2] == ['not judged: noisy', 'NOT MET']
  assert goals.verdicts({10: quiet}, None, 'gpu')[-1]['verdict'] == 'NOT MET'


ROW = {'step_ms': 5.0, 'step_ms_best': 5.0, 'times_faster': 71.75, 'times_floor': 2.5}
ROW |= {'compile_s': 1.0, 'temp_mb': 1.0}


@pytest.mark.parametrize(
  ('seen', 'shown'),
  [
    ({}, '-'),
    ({'others_cores': None}, 'not measured'),
    ({'others_cores': 0.25}, 0.25),
  ],
)
def test_a_clean_row_is_judged_and_shown_as_it_is(seen, shown, capsys):
  row = ROW | seen
  found = goals.verdicts(dict.fromkeys((5, 10, 50), row), 10.0, 'cpu')
  assert [g['verdict'] for g in found] == [*['met'] * 4, 'not measured']
  assert goals.cells(row, ['times_faster', 'others_cores']) == [71.75, shown]
  timing.show_unclean([row])
  assert capsys.readouterr().out == ''


def test_nothing_is_judged_by_an_unclean_row_whatever_its_number(capsys):
  unclean = ROW | {'others_cores': 1.04}
  rows, none = {5: ROW, 10: unclean, 50: ROW}, 'not judged: other work on the cores'
  found = goals.verdicts(rows, 10.0, 'cpu')
  assert [g['verdict'] for g in found] == [none, none, 'met', 'met', 'not measured']
  assert goals.verdicts(rows, 10.0, 'gpu')[-1]['verdict'] == none
  assert goals.table(found).rows[0][1:] == ['71.75 unclean', none]
  found = goals.verdicts({5: unclean, 10: ROW, 50: ROW}, 10.0, 'cpu')
  assert [g['verdict'] for g in found] == [*['met'] * 3, none, 'not measured']
  names = ['step_ms', 'times_faster', 'times_torch', 'others_cores']
  assert goals.cells(unclean, names) == [5.0, '71.75 unclean', '-', '1.04 unclean']
  timing.show_unclean([ROW, unclean])
  assert '1 of 2 rows are unclean: other processes used up to 1.04' in (
    capsys.readouterr().out
  )


# Of proc(5): user nice system idle iowait irq softirq steal guest guest_nice.
BEFORE = """cpu  9 9 9 9 9 9 9 9 9 9
cpu0 100 10 20 5000 70 1 2 3 50 5
cpu1 200 0 0 0 0 0 0 0 0 0
cpu10 300 0 0 0 0 0 0 0 0 0
intr 1000 1 2
ctxt 5
"""


def test_only_work_on_the_cores_of_this_process_counts():
  assert timing.busy_ticks(BEFORE, {0}) == 100 + 10 + 20 + 1 + 2 + 3
  assert timing.busy_ticks(BEFORE, {0, 10}) == 136 + 300
  assert timing.busy_ticks(BEFORE, {2}) == 0


def test_others_cores_are_busy_time_less_our_own_over_the_time(tmp_path, monkeypatch):
  monkeypatch.setattr(timing, 'PROC', tmp_path)
  monkeypatch.setattr(timing, 'cores', lambda: {0})
  monkeypatch.setattr(timing, 'own_ticks', iter([30, 330]).__next__)
  monkeypatch.setattr(timing.os, 'sysconf', lambda name: 100)
  monkeypatch.setattr(timing.time, 'perf_counter', itertools.count(0, 8).__next__)
  (tmp_path / 'stat').write_text(BEFORE)
  row, kept = {}, {'others_cores': 0.9}
  with timing.watch(row, kept):
    after = BEFORE.replace('cpu0 100', 'cpu0 800').replace('5000', '9000')
    (tmp_path / 'stat').write_text(after)
  assert row['others_cores'] == (700 - 300) / 100 / 16
  assert kept['others_cores'] == 0.9


def test_others_are_not_measured_where_there_is_no_such_file(tmp_path, monkeypatch):
  monkeypatch.setattr(timing, 'PROC', tmp_path)
  row = {'others_cores': 0.1}
  with timing.watch(row):
    pass
  assert row['others_cores'] is None
  (tmp_path / 'stat').write_text('cpu0 0 0 0 0 0 0 0 0 0 0\n')  # as some sandboxes do
  with timing.watch(row):
    pass
  assert row['others_cores'] is None


LINUX = pytest.mark.skipif(not pathlib.Path('/proc/stat').exists(), reason='no /proc')
LOOP = 'import time; end = time.{} + {}\nwhile time.{} < end: pass'


def loop(seconds, clock='time()'):
  return [sys.executable, '-S', '-c', LOOP.format(clock, seconds, clock)]


@LINUX
def test_a_busy_loop_of_another_process_is_seen():
  # Its shell ends at once, so that the loop is no descendant of this process.
  subprocess.run(['sh', '-c', '"$@" &', 'sh', *loop(0.8)], check=True)
  row = {}
  with timing.watch(row):
    pass
  assert row['others_cores'] > 0.5


@LINUX
def test_own_threads_and_processes_are_no_others():
  def seconds():  # but for this process's own
    return timing.own_ticks() / timing.os.sysconf('SC_CLK_TCK') - time.process_time()

  ticks, before = 0.04, seconds()  # four of them
  subprocess.run(loop(0.1, 'process_time()'), check=True)  # has ended
  end = time.process_time() + 0.1
  while time.process_time() < end:
    pass
  assert seconds() > before + 0.1 - ticks
  with subprocess.Popen(loop(60)) as child:  # has not
    try:
      end, before = time.monotonic() + 20, seconds()
      while seconds() < before + 0.1 + ticks:
        assert time.monotonic() < end
        time.sleep(0.05)
    finally:
      child.kill()
