"""Benchmark of energies: both sides compute the same, verdicts are honest."""

import pathlib
import sys

import jax
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.bench import energy_speed as bench  # noqa: E402

TORCH = "not installed: 'gm_jax[bench]'"


def test_it_may_take_almost_twice_as_long():
  quiet = {'ours_ms': 9.0, 'ours_ms_best': 9.0, 'peer_ms': 5.1, 'peer_ms_best': 5.1}
  rows = [
    quiet | {'name': f'{what} of 64 chains', 'times_faster': times}
    for what, times in (('Langevin step', 5.1 / 9), ('training step', 0.5))
  ]
  assert [goal['verdict'] for goal in bench.verdicts(rows)] == ['met', 'NOT MET']


@pytest.mark.slow
def test_energies_and_gradients_are_those_of_pytorch():
  torch = pytest.importorskip('torch', reason=TORCH)
  for difference in bench.differences(torch.device('cpu'), 1):
    assert difference < bench.AGREEMENT


@pytest.mark.slow
def test_chains_are_those_of_pytorch_without_noise(monkeypatch):
  torch = pytest.importorskip('torch', reason=TORCH)
  from experiments.bench import eager_energy as peers

  monkeypatch.setattr(jax.random, 'normal', lambda key, shape, dtype: np.zeros(shape))
  monkeypatch.setattr(torch, 'randn_like', torch.zeros_like)
  method, state, batch = bench.made(4)
  setting = bench.chains(4)
  model = bench.base.Model(state.params, state.extra)
  energy = lambda x: method.queries['energy'](model, None, x)  # noqa: E731
  ours, _ = bench.chains_lib.run(setting, energy, jax.random.key(0), batch['x'])
  where = torch.device('cpu')
  module, x = bench.module_of(state, where, 4), bench.images(batch['x'], where)
  theirs = peers.chains(module, x, num_steps=setting.num_steps, **bench.SIZES)
  moved = np.abs(np.asarray(ours - batch['x']))
  assert moved.mean() > 0.01
  np.testing.assert_allclose(
    ours, theirs.numpy().transpose(0, 2, 3, 1), atol=1e-3 * moved.max()
  )


@pytest.mark.slow
def test_rows_have_both_sides_and_a_step_trains():
  torch = pytest.importorskip('torch', reason=TORCH)
  for make in (bench.chains_row, bench.step_row):
    row = make(torch.device('cpu'), 2, scale=8)
    assert row['times_faster'] == pytest.approx(row['peer_ms'] / row['ours_ms'])
    assert row['per_second'] == pytest.approx(1e3 / row['ours_ms'])
    assert 'others_cores' in row
