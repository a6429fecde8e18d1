"""The ledger of energies: sums over its grid, its lines, and what is left blank."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.configs import nce_toy, rbm_digits  # noqa: E402
from experiments.ledger import energy as ledger  # noqa: E402
from experiments.ledger import fits, outliers  # noqa: E402
from gm_jax import base  # noqa: E402
from gm_jax.data import registry  # noqa: E402
from gm_jax.training import plots  # noqa: E402


def gaussian(points, mean, std):
  """-log of a density that has all but 1e-6 of its mass on the grid."""
  z = (points - jnp.asarray(mean)) / std
  return 0.5 * jnp.square(z).sum(axis=1)


def test_the_divergence_by_grid_is_that_of_gaussians():
  """KL = log(s'/s) D + D s^2 / (2 s'^2) + |m|^2 / (2 s'^2) - D / 2; Z = 2 pi s'^2."""
  points = ledger.grid()
  assert points.shape == (ledger.SIDE**2, 2)
  mean, std, other = (0.5, -0.3), 0.4, 0.9
  log_p = -gaussian(points, mean, std) - 2 * jnp.log(std) - jnp.log(2 * jnp.pi)
  found = jax.jit(ledger.on_grid)(gaussian(points, (0.0, 0.0), other) + 3.0, log_p)
  square = np.square(mean).sum()
  expected = 2 * np.log(other / std) + (2 * std**2 + square) / (2 * other**2) - 1
  np.testing.assert_allclose(found['kl'], expected, rtol=1e-4)
  np.testing.assert_allclose(
    found['log_z'], np.log(2 * np.pi * other**2) - 3.0, atol=1e-4
  )
  # Where the data have no mass nothing counts: KL(p(. | A), p) = -log p(A).
  half = jnp.where(points[:, 0] > 0, log_p, -jnp.inf)
  np.testing.assert_allclose(
    ledger.on_grid(-log_p, half)['kl'], -stats.norm.logcdf(0.5 / 0.4), atol=0.01
  )
  np.testing.assert_allclose(ledger.on_grid(-log_p, log_p)['kl'], 0.0, atol=1e-5)


def test_a_density_is_drawn_upright_with_its_peak_white():
  points = ledger.grid()
  image = ledger.picture(-gaussian(points, (1.0, 2.0), 0.3))[0, :, :, 0]
  row, column = np.unravel_index(image.argmax(), image.shape)
  assert image.shape == (251, 251) and image.max() == 1 and image.min() >= -1
  np.testing.assert_allclose(column / 250 * 6 - 3, 1.0, atol=0.02)
  np.testing.assert_allclose(3 - row / 250 * 6, 2.0, atol=0.02)


def run_of(name='a model', num=2):
  fit = fits.Fit(name, nce_toy)
  return fits.Run(fit, None, (None,) * num, None, 4000, 12.6)


def test_lines_have_a_cell_for_every_column():
  pair = np.array([0.5, 0.7])
  one = {n: pair for n in ('kl', 'log_z', 'own', 'own_error')}
  line = ledger.toy_line(run_of(), one)
  assert len(line) == len(ledger.TOY_HEADER)
  assert line[1] == '0.6000 +- 0.1000' and line[-3:] == ['2', '4000', '13']
  names = ('accuracy', 'calibration_error', 'classification_nll', 'brier')
  line = outliers.classes_line(run_of(), '100', dict.fromkeys(names, pair))
  assert len(line) == len(outliers.CLASSES_HEADER) and line[2] == '0.600 +- 0.100'
  names = [f'{n}_energy' for n in ('auroc', 'aupr', 'fpr95')]
  found = dict.fromkeys(names, pair)
  found |= {'auroc_energy_low': pair - 0.1, 'auroc_energy_high': pair + 0.1}
  line = outliers.line(run_of(), 'energy', found)
  assert len(line) == len(outliers.HEADER)
  assert line[1:4] == ['energy', '0.600 +- 0.100', '0.400 to 0.800']


def test_rows_beside_stand_on_the_other_page():
  page = (ROOT / 'docs' / 'results' / 'likelihoods.md').read_text()
  binary = page.split(f'<!-- table: {ledger.BINARY} -->')[1].split('<!-- end')[0]
  lines = ledger.lines_beside()
  assert [line[0] for line in lines] == list(ledger.BESIDE)
  for name, nats, kind, *_ in lines:
    (row,) = (row for row in binary.splitlines() if row.startswith(f'| {name} '))
    assert f'| {nats}' in row and kind == 'exact'


def test_outliers_are_of_no_split_or_of_another_set():
  data = registry.load(outliers.HELD_OUT)
  found = outliers.splits(data, None, None)
  assert set(found) == {'test', 'held_out'}
  assert set(found['held_out']['label']) == {-1}
  binary = registry.load('dynamic:digits')
  other = outliers.splits(binary, 'digits?crop=8', None)['held_out']['x']
  assert set(np.unique(other)) == {0, 1} and other.shape == (360, 8, 8, 1)


def test_every_model_of_outliers_has_the_data_that_it_needs():
  for data, rows in ((outliers.HELD_OUT, ()), (ledger.PAIR[0], ledger.LARGE)):
    found = outliers.models(data, rows)
    assert len(found) == len(rows or found) and (len(found) > 5 or rows)
    names = [fit.changes['data'] for fit in found]
    assert all(name.removeprefix('dynamic:').startswith(data) for name in names)
    assert all(n.count('?') == 1 for n in names)  # one mark, then &
  assert [ledger.labels_of(fit) for fit in outliers.CLASSES] == ['100', 'all', '100']


def test_sentences_of_what_is_blank():
  blank = {'a': {'energy': 'it has none'}, 'b': {}, 'c': {'energy': 'it has none'}}
  assert outliers.says(blank) == 'blank: energy of a, energy of c: it has none'


@pytest.mark.slow
def test_rows_are_trained_from_every_seed_and_scored(capsys):
  """An RBM of ones and zeros without two digits: its energy alone is a score."""
  budget = fits.Budget(0.005, 2)
  fit = fits.Fit('RBM', rbm_digits, None, {'data': f'dynamic:{outliers.HELD_OUT}'}, 2)
  table, facts = outliers.measure((fit,), budget)
  assert [row[1] for row in table.rows] == ['energy']
  (row,) = facts['rows']
  assert (
    len(row['auroc_energy']) == 2 and row['auroc_energy'][0] != row['auroc_energy'][1]
  )
  assert 'integers' in facts['blank']['RBM']['gradient']
  assert 'log Z of all examples' in facts['blank']['RBM']['likelihood']
  assert "'classify'" in facts['blank']['RBM']['classifier']
  run = fits.train(fit, budget)
  assert len(run.models) == 2 and run.steps == 100 and run.seconds > 0
  energies = [
    run.method.queries['energy'](m, None, run.data.arrays('test')['x'][:3].astype(int))
    for m in run.models
  ]
  assert not np.allclose(*energies)
  assert isinstance(run.method, base.Method)


@pytest.mark.slow
def test_log_z_of_the_plane_is_one_by_grid_and_by_draws(monkeypatch, tmp_path):
  """Both are of one barely trained energy; the divergence falls as it is trained."""
  drawn = {}
  monkeypatch.setattr(
    plots, 'side_by_side', lambda path, images, **options: drawn.update(images)
  )
  monkeypatch.setattr(ledger, 'TOYS', ledger.TOYS[:1])
  found = [ledger.toys(fits.Budget(part, 1), tmp_path)[1][0] for part in (0.025, 0.1)]
  for one in found:
    assert abs(one['log_z'][0] - one['own'][0]) < 4 * one['own_error'][0]
  assert 0 < found[1]['kl'][0] < found[0]['kl'][0]
  assert set(drawn) == {'data', 'noise-contrastive'}
  assert drawn['data'].shape == drawn['noise-contrastive'].shape == (1, 251, 251, 1)
