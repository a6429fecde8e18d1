"""The ledger of tables: the Gaussian in closed form, the best step, names of data."""

import pathlib
import sys

import numpy as np
import pytest
from scipy import stats

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.ledger import vector_peers  # noqa: E402
from experiments.ledger import vectors as ledger  # noqa: E402
from gm_jax.data import dataset, tables  # noqa: E402
from gm_jax.training import setup as setup_lib  # noqa: E402

RNG = np.random.default_rng(0)


def mixed(num):
  """Gaussian rows whose three columns have a known covariance."""
  mix = np.array([[2.0, 0, 0], [1.5, 0.5, 0], [-1, 0.3, 1]])
  return RNG.normal(size=(num, 3)) @ mix.T + [1, -2, 30], mix @ mix.T


def test_the_gaussian_is_the_closed_form():
  train, _ = mixed(500)
  found = ledger.gaussian_nats(np.float32(train), np.float32(train))
  covariance = np.cov(train.T, bias=True)
  known = stats.multivariate_normal(train.mean(axis=0), covariance)
  np.testing.assert_allclose(found, known.logpdf(train), atol=1e-4)
  # Of its own rows the mean is minus the entropy.
  entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * covariance)[1]
  assert abs(found.mean() + entropy) < 1e-4


def test_the_gaussian_of_a_standardized_table_is_the_entropy_of_its_correlations(
  tmp_path,
):
  """Of many Gaussian rows: what a table's row must be, through file and splits."""
  x, covariance = mixed(100_000)
  np.save(tmp_path / 'a.npy', x)
  data = ledger.load(f'table:{tmp_path}/a.npy', 64)
  row = ledger.scored('', '', ledger.gaussian_nats(data.train, data.test), data.test)
  std = np.sqrt(np.diag(covariance))
  correlation = covariance / np.outer(std, std)
  entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * correlation)[1]
  assert abs(row['nats'] + entropy) < 4 * row['error'] < 0.06
  assert row['error'] == pytest.approx(np.sqrt(1.5 / len(data.test)), rel=0.05)
  assert len(data.validation) == 9000 and len(data.test) == 10_000
  batch = next(data.batches(0))
  assert batch.shape == (64, 3) and set(batch[:, 0]) <= set(data.train[:, 0])


def test_columns_that_depend_on_each_other_are_one_line():
  x = RNG.normal(size=(50, 2))
  with pytest.raises(dataset.DataError, match='combination of others'):
    ledger.gaussian_nats(np.concatenate([x, x[:, :1] - 2 * x[:, 1:]], axis=1), x)


def test_the_test_split_is_scored_at_the_best_step_of_validation(monkeypatch):
  monkeypatch.setattr(ledger, 'CHUNK', 4)
  data = ledger.Data(None, np.zeros((6, 2)), np.ones((5, 2)), None)
  best = ledger.Best(data, lambda params, x: params + x.sum(axis=1))
  for step, params in ((10, -3.0), (20, -1.0), (30, np.nan), (40, -2.0)):
    best.see(step, params)
  row = best.row('a', 'b', steps=40)
  # 2 of every test row; those that fill up the last chunk count for nothing.
  assert (row['step'], row['validation'], row['nats'], row['error']) == (20, -1, 1, 0)
  with pytest.raises(dataset.DataError, match='not finite'):
    ledger.Best(data, best.score).row('a', 'b')


def test_published_numbers_stand_beside_our_rows_of_their_table_alone():
  row = {'model': 'MAF', 'by': 'ours', 'nats': -1.0, 'error': 0.01, 'inside': 0.5}
  assert ledger.PUBLISHED.keys() == tables.RECIPES.keys() - {'plain'}
  power = 'table:/a b/c?.npy?seed=1&recipe=power'
  assert ledger.recipe(power) == 'power'
  found = ledger.line(row, power)
  assert len(found) == len(ledger.HEADER)
  assert found[2:4] == ['-1.000 +- 0.020', '0.500'] and found[-2:] == [
    ledger.PUBLISHED['power'][1], ledger.MAF_BUDGET
  ]  # fmt: skip
  others = row | {'by': 'zuko'}, row | {'model': 'MAF, scale first'}
  for other, name in (*((r, power) for r in others), (row, 'table:/a.npy')):
    assert ledger.line(other, name)[-2:] == ['', '']


def test_rows_outside_the_box_are_told_apart():
  x = np.array([[0.0, 5.0], [-5.1, 0.0], [1.0, 1.0]])
  row = ledger.scored('a', 'b', np.array([1.0, -50.0, 2.0]), x)
  assert row['inside'] == 1.5 and row['fraction_inside'] == pytest.approx(2 / 3)


def test_names_lose_their_paths():
  assert ledger.without_path('table:/home/me/a.npy?recipe=gas') == (
    'table:...?recipe=gas'
  )
  assert ledger.without_path('npz:/home/me/a.npz') == 'npz:...'
  assert ledger.without_path(ledger.TOY) == ledger.TOY


@pytest.mark.parametrize(
  ('name', 'words'),
  [
    ('digits', 'expected vectors of two real numbers or more, got [8, 8, 1] of 17'),
    ('tabel:/x', 'no data set'),
    ('table:/x?recipe=pover', "did you mean 'power'"),
  ],
)
def test_data_of_another_kind_are_one_line(name, words):
  with pytest.raises(setup_lib.UsageError) as error:
    ledger.load(name, 8)
  assert words in str(error.value)


@pytest.mark.slow
def test_the_whole_ledger_of_a_table_without_other_packages(
  monkeypatch, tmp_path, capsys
):
  none = {name: {'zuko': lambda size, budget: None} for name in ('MAF', 'RQ-NSF')}
  monkeypatch.setattr(vector_peers, 'PEERS', none)
  np.savez(tmp_path / 'a.npz', x=mixed(400)[0])
  numbers = ledger.run('smoke', data=f'npz:{tmp_path}/a.npz')
  assert [row['model'] for row in numbers['rows']] == ['Gaussian', *ledger.OURS]
  gaussian, maf, *_ = (row['nats'] for row in numbers['rows'])
  assert gaussian - 5 < maf < gaussian + 0.1  # which is the truth here
  assert list(numbers['tables']) == ['npz:...']
  out = capsys.readouterr().out
  assert 'MAF by zuko: not installed, skipped' in out and str(tmp_path) not in out


@pytest.mark.slow
def test_a_flow_of_another_package_learns_the_gaussian():
  network = vector_peers.zuko_maf(3, ledger.BUDGETS['smoke'])
  if network is None:
    pytest.skip('zuko is not installed')
  train = mixed(2000)[0].astype(np.float32)
  train = (train - train.mean(axis=0)) / train.std(axis=0)
  data = ledger.Data(train, train[:500], train[500:], None)
  best = ledger.Best(data, vector_peers.log_prob(network))
  budget = ledger.BUDGETS['smoke']._replace(steps=300, rate=1e-2)
  batches = (train[RNG.integers(0, 2000, 64)] for _ in range(300))
  took = vector_peers.train(network, batches, budget, best)
  row = best.row('MAF', 'zuko', **took)
  gaussian = ledger.gaussian_nats(train, data.test).mean()
  assert abs(row['nats'] - gaussian) < 0.1 and row['step'] % 150 == 0
