"""The ledger of growth: what is equal, and what is printed."""

import pathlib
import sys

import jax
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.ledger import growth  # noqa: E402


@pytest.mark.slow
def test_the_ungrown_is_the_grown_ones_last_network():
  budget = growth.BUDGETS['smoke']
  setups = [
    growth.prepared(growth.config_of(budget, grown=grown)) for grown in (True, False)
  ]
  phases = [setup.make_phases(0) for setup in setups]
  assert [p.spec.shape[0] for p in phases[0]] == [8, 16] and len(phases[1]) == 1
  last, only = phases[0][-1], phases[1][0]
  assert last.batch_size == only.batch_size and last.spec.shape == only.spec.shape
  batch = {'x': np.zeros((2, 16, 16, 1), np.float32)}
  shapes = [
    jax.eval_shape(p.method.init, jax.random.key(0), batch).params for p in (last, only)
  ]
  assert all(jax.tree.leaves(jax.tree.map(lambda a, b: a.shape == b.shape, *shapes)))
  assert jax.tree.structure(shapes[0]) == jax.tree.structure(shapes[1])
  # Rest at 8, fade and the rest of all steps at 16.
  assert [n for _, n in growth.spans(setups[0])] == [20, 40]


@pytest.mark.slow
def test_the_full_budget_reaches_its_size_and_rests():
  setup = growth.prepared(growth.config_of(growth.BUDGETS['full'], grown=True))
  phase, steps = growth.spans(setup)[-1]
  assert phase.spec.shape[0] == 64 and steps > 10_000


def test_steps_are_whole_dispatches():
  assert [growth.rounded(n, 50) for n in (3, 74, 76, 1000.4)] == [50, 50, 100, 1000]


def test_cells_are_means_and_errors_over_seeds():
  row = growth.Row('grown', np.array([30.0, 50.0]), 600, 19_200, 2.5e12, 61.4)
  assert growth.cells(row, 80.0) == [
    'grown', '40.0 +- 10.0', '0.500', '2', '600', '19200', '2.50', '61'
  ]  # fmt: skip
  none = growth.Row('untrained', np.array([80.0, 80.0]), 0, 0, 0.0, 0.0)
  assert growth.cells(none, 80.0)[-2:] == ['0', '0']
  assert len(growth.cells(row, 80.0)) == len(growth.HEADER)
