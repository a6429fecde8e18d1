"""Benchmark of variational models: peers compute the same, rows are complete."""

import pathlib
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.bench import latent as bench  # noqa: E402

TORCH = "not installed: 'gm_jax[bench]'"
SMALL = {
  bench.step_row: {'batch': 8},
  bench.hmc_row: {'num': 8},
  bench.importance_row: {'batch': 2, 'chunk': 100},
  bench.lookup_row: {'num': 1024},
}


@pytest.mark.parametrize('row', bench.ROWS, ids=lambda row: row.__name__)
def test_a_row_has_its_rate_with_and_without_pytorch(row):
  found = row(None, 1, 16, **SMALL[row])
  assert found['peer'] == 'PyTorch: none' and 'times_faster' not in found
  assert found['items_per_s'] > 0 and found['item'] and 'others_cores' in found
  assert set(bench.COLUMNS.values()) >= {'item', 'items_per_s', 'ours_ms'}


@pytest.mark.parametrize('row', bench.ROWS, ids=lambda row: row.__name__)
def test_both_sides_compute_the_same(row):
  torch = pytest.importorskip('torch', reason=TORCH)
  found = row(torch.device('cpu'), 1, 16, **SMALL[row])
  assert found['difference'] < bench.AGREEMENT
  assert found['times_faster'] == found['peer_ms'] / found['ours_ms']


def test_pytorchs_bound_and_transitions_are_of_the_same_law():
  torch = pytest.importorskip('torch', reason=TORCH)
  from experiments.bench import eager_latent as peers

  torch.manual_seed(0)
  where = torch.device('cpu')
  _, variables = bench.decoder(16)
  net = peers.layers(variables['params'], where)
  zero = torch.zeros(1, bench.LATENT)
  x = (torch.rand(1, bench.PIXELS // 16) < 0.5).float()
  few = [peers.importance_bound(net, zero, zero, x, 7, 3).item() for _ in range(50)]
  many = peers.importance_bound(net, zero, zero, x, 3000, 1000).item()
  assert np.mean(few) < many < np.max(few) + 1  # it grows with the draws
  # Steps that are far too large are refused, small ones taken.
  z = torch.zeros(64, bench.LATENT)
  images = torch.zeros(64, bench.PIXELS // 16)
  for size, moved in ((1e-3, 1.0), (10.0, 0.0)):
    end = peers.hmc(net, z, images, 0.1, step_size=size, num_leapfrog=3)
    assert ((end != z).any(1).float().mean().item() > 0.9) == bool(moved)


def test_verdicts_are_of_the_rows_that_were_measured_beside_pytorch():
  row = {'name': 'HMC, decoder', 'ours_ms': 1.0, 'ours_ms_best': 1.0}
  found = bench.verdicts([row])
  assert [goal['verdict'] for goal in found] == ['not measured'] * 4
  fast = row | {'peer_ms': 2.0, 'peer_ms_best': 2.0, 'times_faster': 2.0}
  assert bench.verdicts([fast])[1]['verdict'] == 'met'
  assert bench.verdicts([fast | {'times_faster': 0.5}])[1]['verdict'] == 'NOT MET'
