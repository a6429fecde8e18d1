"""Benchmark of flows: both sides draw the same samples, verdicts are honest."""

import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.bench import flow_speed as bench  # noqa: E402


@pytest.mark.slow  # tests/patch_flow_test.py has the law for few patches
def test_cached_samples_are_those_of_full_passes():
  row = bench.tarflow_row(1, 8)
  assert row['difference'] < bench.AGREEMENT
  assert row['ours_ms'] > 0 and 'others_cores' in row


@pytest.mark.slow
def test_a_continuous_flow_says_how_often_it_evaluates_its_velocity():
  """Six stages a step, and the first; an equation of so few numbers needs the same."""
  row = bench.continuous_row(1, 8)
  counts = [int(row[side].split()[-2]) for side in ('name', 'peer')]
  assert counts[0] == counts[1] and counts[0] % 6 == 1
  assert 'estimate' in row['name'] and 'exact' in row['peer']


def test_verdicts_are_of_what_was_measured():
  quiet = {'ours_ms': 1.0, 'ours_ms_best': 1.0, 'peer_ms': 9.0, 'peer_ms_best': 9.0}
  row = quiet | {'name': 'TarFlow, 64 tokens', 'times_faster': 9.0}
  assert [goal['verdict'] for goal in bench.verdicts([row])] == ['NOT MET']
  assert bench.verdicts([row | {'times_faster': 10.5}])[0]['verdict'] == 'met'
  assert bench.verdicts([quiet | {'name': 'TarFlow'}])[0]['verdict'] == 'not measured'
