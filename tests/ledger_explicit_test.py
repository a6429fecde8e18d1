"""The ledger of likelihoods and of kernels: what it prints is what it says."""

import json
import pathlib
import sys

import jax
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.ledger import kernels, likelihoods  # noqa: E402
from gm_jax.data import registry  # noqa: E402


def row(name, nats, **changes):
  fit = likelihoods.Fit(name, 'nade_digits')
  nats = np.asarray(nats, float)
  made = likelihoods.Row(fit, nats, nats / 10, 0.5, 'exact', 20, 3.2, 360, None)
  return made._replace(**changes)


def test_cells_are_means_errors_and_the_range_over_seeds():
  found = likelihoods.cells(row('NADE', [10.0, 12.0]))
  assert found == [
    'NADE', '11.00 +- 0.50 (10.00 to 12.00)', '1.100', 'exact', '2', '20', '3'
  ]  # fmt: skip
  fit = likelihoods.Fit('EoNADE', 'eonade_digits', {}, 200)
  one = likelihoods.cells(row('', [10.0], fit=fit, kind='bound', examples=200))
  assert one[:4] == ['EoNADE [200 examples]', '10.00 +- 0.50', '1.000', 'bound']


def test_an_order_that_does_not_hold_is_seen():
  rows = [row('a', [3.0]), row('b', [2.0]), row('c', [5.0])]
  gaps = likelihoods.in_order(rows, ('b', 'a', 'c'))
  assert gaps == [('b', 'a', 1.0), ('a', 'c', 2.0)]
  assert min(gap for *_, gap in likelihoods.in_order(rows, ('a', 'b'))) == -1


def test_every_row_is_a_config_whose_leaves_exist():
  for task in likelihoods.tasks('/somewhere'):
    names = [fit.name for fit in task.fits]
    assert len(set(names)) == len(names) and set(task.ordered) <= set(names)
    for fit in task.fits:
      module, _ = likelihoods._config(fit, 1, 1.0)
      known = set(module.get_config()) | {'components'}
      assert set(fit.changes) <= known, fit
  titles = [task.title for task in likelihoods.tasks('/somewhere')]
  assert sum('dynamic MNIST' in t for t in titles) == 1
  assert sum('8-bit MNIST' in t for t in titles) == 1


@pytest.mark.slow
def test_a_short_run_of_melodies_stands_beside_their_law(tmp_path, monkeypatch, capsys):
  melodies = likelihoods.tasks(None)[-1]
  by_name = {fit.name: fit for fit in melodies.fits}
  transformer = by_name['transformer']
  small = transformer._replace(changes={'width': 8, 'layers': 1, 'heads': 2})
  fits = by_name['single notes'], small
  task = melodies._replace(fits=fits, ordered=('transformer', 'single notes'))
  monkeypatch.setattr(likelihoods, 'tasks', lambda *_: (task,))
  numbers = likelihoods.run('smoke', data_dir=None, out=tmp_path)
  rows = {r['name']: r for r in json.loads(json.dumps(numbers))['tasks'][0]['rows']}
  assert rows['the law itself']['bits'] < min(rows['single notes']['bits'])
  assert 1.24 < rows['the law itself']['bits'] < 1.26
  assert rows['transformer']['steps'] == 60 and len(rows['transformer']['nats']) == 2
  assert 'the law itself' in capsys.readouterr().out


def test_a_known_law_scores_as_its_formula_and_above_its_windows():
  known = kernels.Known(jax.numpy.array([[0.0, 0.0], [1.0, 1.0]]))
  x = np.array([[0.1, 0.0], [0.5, 0.5], [1.0, 0.9]])
  squares = ((x[:, None] - np.array([[0.0, 0.0], [1.0, 1.0]])) ** 2).sum(-1)
  p = np.exp(-squares / (2 * kernels.SPREAD**2)).mean(1)
  p /= 2 * np.pi * kernels.SPREAD**2
  found = jax.jit(known.log_prob)(jax.numpy.asarray(x))
  np.testing.assert_allclose(found, np.log(p), rtol=1e-4)
  draws = known.draw(jax.random.key(0), 20_000)
  np.testing.assert_allclose(draws.mean(0), [0.5, 0.5], atol=0.02)
  near = np.minimum(np.abs(draws), np.abs(draws - 1))
  np.testing.assert_allclose(np.sqrt((near**2).mean()), kernels.SPREAD, rtol=0.02)


def test_windows_choose_on_validation_and_centroids_beat_the_law_on_digits(
  monkeypatch,
):
  monkeypatch.setattr(kernels, 'NUM', 200)
  known, exact = kernels._known(registry.load('digits'))
  fresh, code = known
  assert fresh.num == code.num == kernels.NUM
  assert code.nats > fresh.nats + 5 and code.nats < exact
  with pytest.raises(ValueError, match='bandwidths must be > 0'):
    kernels.window('', '', np.zeros((3, 2)), np.zeros((3, 2)), np.zeros((3, 2)), (0.0,))


@pytest.mark.slow
def test_divergence_grows_with_dimension_and_falls_with_points():
  few = [kernels.excess(jax.random.key(0), d, 100)[0] for d in (1, 4, 16)]
  assert 0 < few[0] < few[1] < few[2]
  assert kernels.excess(jax.random.key(0), 16, 1000)[0] < few[2]
