"""The benchmark of steps counts what XLA counts, and its peers do the same work."""

import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.bench import (  # noqa: E402
  conditional,
  flops,
  goals,
  growing,
  steps,
  timing,
  translating,
)

CASES = [
  pytest.param(name, marks=pytest.mark.slow)
  for name in (*conditional.CASES, *growing.CASES, *translating.CASES)
]


# The row's own size would take seconds.
SETTINGS = {**steps.SETTINGS, 'sngan_32': steps.residual(16, 16)}


@pytest.mark.parametrize(
  'name',
  [
    'gan_ring',
    'gan_dcgan_28',
    pytest.param('sngan_32', marks=pytest.mark.slow),
    *CASES,
  ],
)
def test_operations_are_what_xla_counts_but_for_borders_and_elementwise_parts(name):
  setting = SETTINGS[name]
  args = steps.example(setting)
  program = jax.jit(steps.make_method(setting).step).lower(*args)
  counted = program.cost_analysis()['flops']
  # Transposed convolutions are computed on 8x8 pixels where 7x7 are needed. Products
  # with the zeros around an image XLA does not count: of 3x3 windows on 4x4 pixels
  # 10^2 of 12^2 are left.
  least = 1.0 if name in ('gan_ring', 'gan_dcgan_28') else (10 / 12) ** 2
  assert least * steps.operations(setting) < counted < 1.3 * steps.operations(setting)


def test_convolutions_are_counted_as_their_definition_has_it():
  # 3 channels of 8x8 to 5 of 4x4, and back: every output pixel of the strided one
  # is a sum of 4 * 4 * 3 products.
  assert flops.convolutions((8, 4), (3, 5)) == [4 * 4 * 5 * (4 * 4 * 3)]
  assert flops.convolutions((4, 8), (5, 3)) == flops.convolutions((8, 4), (3, 5))
  g, d = [7, 5], [3, 2]
  # By hand, for B = 1.
  forward_g, forward_d, inputs_g, inputs_d, data = 24, 20, 10, 8, 6
  d_step = forward_g + 2 * forward_d + inputs_d
  g_step = forward_g + forward_d // 2 + inputs_d // 2 + data + forward_g + inputs_g
  assert flops.gan(g, d, 1) == d_step + g_step
  assert flops.gan(g, d, 1, num_critic=6) == 6 * d_step + g_step


PEERS = [n for n, s in steps.SETTINGS.items() if s.peer and not s.half]


@pytest.mark.parametrize('name', PEERS)
def test_pytorch_computes_the_same_losses_and_gradients(name):
  torch = pytest.importorskip('torch', reason="not installed: 'gm_jax[bench]'")
  setting = SETTINGS[name]
  found = steps.differences(setting, steps.example(setting), torch.device('cpu'))
  assert found['gradient'] < 1e-4 and found['loss'] < 1e-4


def test_a_wrong_peer_would_be_noticed(monkeypatch):
  torch = pytest.importorskip('torch', reason="not installed: 'gm_jax[bench]'")
  setting = steps.SETTINGS['gan_dcgan_8']
  other = torch.nn.functional.softplus
  monkeypatch.setattr(torch.nn.functional, 'softplus', lambda x: other(1.01 * x))
  found = steps.differences(setting, steps.example(setting), torch.device('cpu'))
  assert found['gradient'] > 1e-3


def test_bfloat16_rows_compute_in_bfloat16():
  whole, half = (steps.SETTINGS[n] for n in ('gan_dcgan_28', 'gan_dcgan_28_bf16'))
  state, key, batch = jax.eval_shape(lambda: steps.example(whole))
  for setting in (whole, half):
    text = str(jax.make_jaxpr(steps.make_method(setting).step)(state, key, batch))
    assert ('bf16' in text) == setting.half


def test_peak_memory_counts_what_is_donated_once():
  x = jnp.zeros((1000, 1000))
  program, _ = timing.compiled(jnp.sin, (x,))
  assert timing.peak_megabytes(program) == pytest.approx(8, rel=0.01)
  program, _ = timing.compiled(jnp.sin, (x,), donate_argnums=0)
  assert timing.peak_megabytes(program) == pytest.approx(4, rel=0.01)


def test_goals_of_steps_are_judged_only_by_what_was_measured():
  quiet = {'step_ms': 20.0, 'step_ms_best': 19.0, 'torch_ms': 10.0}
  quiet |= {'torch_ms_best': 9.0, 'times_torch': 2.0}
  rows = {'gan_dcgan_28': quiet, 'sngan_32': quiet | {'times_torch': 1.7}}

  def verdicts(rows, platform):
    return [g['verdict'] for g in goals.step_verdicts(rows, platform)]

  none = 'not measured'
  assert verdicts(rows, 'cpu') == ['NOT MET', none, none, 'met', none]
  assert verdicts(rows, 'gpu') == [none, 'NOT MET', none, none, 'NOT MET']
  better = {'gan_dcgan_28': quiet | {'times_torch': 1.2}}
  assert verdicts(better, 'cpu') == ['met', *[none] * 4]
  assert verdicts({'gan_dcgan_28': {'step_ms': 1.0}}, 'cpu') == [none] * 5
  noisy = {'gan_dcgan_28': quiet | {'torch_ms': 40.0}}
  assert verdicts(noisy, 'cpu')[0] == 'not judged: noisy'
  unclean = {'gan_dcgan_28': quiet | {'times_torch': 0.014, 'others_cores': 0.26}}
  assert verdicts(unclean, 'cpu')[0] == 'not judged: other work on the cores'


def test_timings_are_taken_in_turn_without_the_warm_up():
  calls = []
  times = timing.in_turn(lambda: calls.append('a'), lambda: calls.append('b'), 4)
  assert times.shape == (2, 4) and ''.join(calls) == 'ab' * 6
  assert np.isnan(timing.in_turn(lambda: None, None, 3)[1]).all()
  row = timing.summary('x', np.array([3e-3, 1e-3, 2e-3]))
  assert (row['x_ms'], row['x_ms_best']) == pytest.approx((2, 1))


@pytest.mark.drill
@pytest.mark.drill
@pytest.mark.parametrize(
  ('args', 'words'),
  [
    (['steps', '--methods=gan_ring,gan_rong'], ['gan_rong', 'gan_dcgan_28']),
    (['steps', '--repeats=0'], ['repeats']),
  ],
)
def test_wrong_command_is_one_line_and_exit_code_2(args, words):
  command = [sys.executable, str(ROOT / 'experiments' / 'benchmark.py'), *args]
  done = subprocess.run(command, capture_output=True, text=True, timeout=120)
  assert done.returncode == 2 and done.stdout == ''
  assert len(done.stderr.splitlines()) == 1
  assert all(word in done.stderr for word in words)


@pytest.mark.slow
def test_runs_where_only_jax_and_torch_are(tmp_path):
  # On a rented accelerator nothing else is installed.
  blocked = ('sklearn', 'matplotlib', 'tensorflow_datasets', 'PIL', 'torch',
             'ml_collections', 'tensorboardX')  # fmt: skip
  for name in blocked:
    (tmp_path / f'{name}.py').write_text('raise ImportError(__name__)')
  code = (
    f'import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\n'
    'from experiments.bench import steps\n'
    "numbers = steps.run(['gan_ring', 'gan_dcgan_28_bf16'], repeats=2)\n"
    "assert numbers['not_measured'] == ['gan_dcgan_28_bf16']\n"
    "row, = numbers['rows']\n"
    "assert 'torch_ms' not in row and row['step_ms'] > 0\n"
    "assert 0 < row['percent_product'] < 100 and row['peak_mb'] > 0.3\n"
    "assert 'others_cores' in row\n"
    "assert {g['verdict'] for g in numbers['goals']} == {'not measured'}\n"
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert 'PyTorch is not installed' in done.stdout
