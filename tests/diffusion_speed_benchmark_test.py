"""Benchmark of diffusion: times are of a step and an image, verdicts are honest."""

import pathlib
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.bench import diffusion_speed as bench  # noqa: E402


def test_times_of_a_loop_are_of_one_step():
  row = {'name': 'x', 'ours_ms': 8.0, 'ours_ms_all': [8.0, 12.0], 'times_faster': 2.0}
  found = bench.timing.divided(row, 4)
  assert found == {
    'name': 'x', 'ours_ms': 2.0, 'ours_ms_all': [2.0, 3.0], 'times_faster': 2.0,
  }  # fmt: skip


def test_it_may_take_almost_twice_as_long():
  quiet = {'ours_ms': 9.0, 'ours_ms_best': 9.0, 'peer_ms': 5.1, 'peer_ms_best': 5.1}
  rows = [
    quiet | {'name': f'{what}, 3 parameters', 'times_faster': times}
    for what, times in (('in a loop', 5.1 / 9), ('DDIM', 0.5), ('step', 0.1))
  ]
  assert [goal['verdict'] for goal in bench.verdicts(rows)] == ['met', 'NOT MET']


@pytest.mark.slow
def test_a_loop_of_steps_is_steps_and_samples_are_finite():
  own = bench.ours(8)
  state, metrics = own.loop()
  assert int(state.step) == bench.LOOP and np.isfinite(metrics['loss']).all()
  assert abs(float(metrics['loss'][0]) - 2.0) < 0.1  # E |e - x|^2 of a network of 0
  first = own.step()[1]['loss']
  assert abs(float(first) - 2.0) < 0.1
  assert np.isfinite(own.sample()).all()
