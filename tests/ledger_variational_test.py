"""The ledger of variational models: what it stops at, counts and judges."""

import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.ledger import variational  # noqa: E402
from gm_jax import base  # noqa: E402
from gm_jax.training import parallel  # noqa: E402


def state(step, values):
  params = {'w': np.asarray(values, np.float32)}
  return base.State(np.int32(step), params, {}, {}, ())


def test_every_seed_has_the_state_of_its_own_best_check():
  states = [state(10, [1, 2, 3]), state(20, [4, 5, 6]), state(30, [7, 8, 9])]
  bounds = np.array([[3.0, 1.0, np.nan], [2.0, 2.0, 5.0], [4.0, 3.0, 4.0]])
  best, which = variational.best_of(states, bounds)
  np.testing.assert_array_equal(best.params['w'], [4, 2, 9])
  np.testing.assert_array_equal(which, [1, 0, 2])
  assert best.step == 30  # a seed's own is what is printed


def test_a_single_seed_has_no_axis():
  states = [state(10, [1, 2]), state(20, [4, 5])]
  best, _ = variational.best_of(states, np.array([[1.0], [2.0]]))
  np.testing.assert_array_equal(best.params['w'], [1, 2])
  assert best.step == 10


def row(name, **numbers):
  numbers = {k: np.asarray(v, float) for k, v in numbers.items()}
  fit = variational.Fit(name, None)
  return variational.Row(fit, numbers, 20, 1.0, [], np.zeros(1), np.zeros(1))


def test_cells_are_means_and_errors_over_seeds_and_blank_without_a_number():
  found = variational.cells(row('WAE', frechet=[10.0, 12.0], active=[8, 8]))
  assert found == ['WAE', '', '', '8.0 +- 0.0', '11.0 +- 1.0', '', '', '20', '2', '1']


@pytest.mark.parametrize(
  ('ladder', 'verdict'), [(86.0, 'holds'), (88.0, 'DOES NOT HOLD')]
)
def test_bars_compare_means(ladder, verdict):
  rows = {
    'VAE': row('VAE', elbo=[86.0, 88.0], iwae=[91.0, 92.0]),
    'IWAE, 10 draws': row('IWAE', iwae=[90.0]),
    'ladder': row('ladder', elbo=[ladder]),
    'top-down': row('top-down', elbo=[89.0]),
  }
  found = variational.bars(rows)
  assert [line[2] for line in found] == ['holds', 'DOES NOT HOLD', 'holds', verdict]
  assert [line[1] for line in found] == ['87.00', '91.50', '90.00', f'{ladder:.2f}']


def test_codes_of_groups_stand_side_by_side_and_integers_are_none():
  groups = {'a': jnp.ones((3, 2)), 'b': jnp.zeros((3, 2, 2))}

  def method(z):
    return base.Method(None, None, None, queries={'encode': lambda *_: z})

  assert variational.codes_of(method(groups), None, None, None).shape == (3, 6)
  integers = method(jnp.zeros((3, 2), jnp.int32))
  assert variational.codes_of(integers, None, None, None) is None


def test_every_row_changes_leaves_that_there_are():
  large = [*variational.large_fits('mnist', 1), *variational.large_fits('mnist', 10)]
  for fit in (*variational.FITS, *large):
    assert set(fit.changes) <= set(fit.config.get_config()), fit.name
  names = [fit.name for fit in variational.FITS]
  assert len(set(names)) == len(names) and variational.LONG in names


@pytest.mark.slow
def test_a_short_run_prints_what_it_measured(tmp_path, monkeypatch, capsys):
  # Of one device: on two cores four, which each factorize for the Frechet distance,
  # wait for one another.
  mesh = functools.partial(parallel.device_mesh, jax.devices()[:1])
  monkeypatch.setattr(parallel, 'device_mesh', mesh)
  found = variational.run('smoke', data_dir=None, out=tmp_path)
  models, curve = found['tables']['models'], found['tables']['curve']
  assert [line[0] for line in models.rows] == ['VAE', 'WAE', variational.LONG]
  assert len(curve.rows) == 16 and 'Frechet' in capsys.readouterr().out
  by_name = {r['name']: r for r in found['rows']}
  assert np.mean(by_name['VAE']['iwae']) < np.mean(by_name['VAE']['elbo'])
  first, last = (float(curve.rows[i][1].split()[0]) for i in (0, -1))
  assert last < first - 10  # the bound of the train split falls
  assert sorted(p.name for p in tmp_path.glob('*.png')) == [
    'variational_reconstructions.png', 'variational_samples.png'
  ]  # fmt: skip
