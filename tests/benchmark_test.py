"""The benchmark counts what XLA counts, and compares two equal things."""

import pathlib
import subprocess
import sys

import jax
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.bench import flops, goals, unroll  # noqa: E402
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
