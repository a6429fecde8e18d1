"""Benchmark of metrics: peers compute the same, rows are complete."""

import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.bench import metrics as bench  # noqa: E402

PEERS = {
  bench.frechet_row: 'scipy',
  bench.moments_row: 'scipy',
  bench.prdc_row: 'prdc',
  bench.kernel_row: 'torch_fidelity.metric_kid',
}


@pytest.mark.parametrize('row', bench.ROWS, ids=lambda row: row.__name__)
def test_a_row_without_its_peer_is_ours_alone(row, monkeypatch):
  monkeypatch.setattr(bench, 'peer', lambda name: None)
  found = row(1, 64)
  assert found['peer'].endswith(': none') and 'times_faster' not in found
  assert found['ours_ms'] > 0 and 'others_cores' in found


@pytest.mark.parametrize('row', bench.ROWS, ids=lambda row: row.__name__)
def test_both_sides_compute_the_same(row):
  pytest.importorskip(PEERS[row], reason="not installed: 'gm_jax[bench]'")
  found = row(1, 32)
  assert found['difference'] < 1e-4
  assert found['times_faster'] == found['peer_ms'] / found['ours_ms']


def test_verdicts_are_of_the_rows_that_were_measured_beside_a_peer():
  row = {'name': 'kernel distance, 2', 'ours_ms': 1.0, 'ours_ms_best': 1.0}
  found = bench.verdicts([row])
  assert [goal['verdict'] for goal in found] == ['not measured'] * 4
  fast = row | {'peer_ms': 2.0, 'peer_ms_best': 2.0, 'times_faster': 2.0}
  assert bench.verdicts([fast])[3]['verdict'] == 'met'
  assert bench.verdicts([fast | {'times_faster': 1.2}])[3]['verdict'] == 'NOT MET'
