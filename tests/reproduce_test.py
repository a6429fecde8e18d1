"""The comparison's command, its rows and what stands beside them."""

import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from scipy import stats

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.ledger import f_gan_gaussian, stacked  # noqa: E402

REPRODUCE = [sys.executable, str(ROOT / 'experiments' / 'reproduce.py')]


@pytest.mark.drill
@pytest.mark.parametrize(
  ('args', 'word'),
  [
    (['stackd'], 'stackd'),
    *(
      pytest.param(*row, marks=pytest.mark.drill)
      for row in (
        ([], 'stacked'),
        (['stacked', 'more'], 'one comparison'),
        (['stacked', '--budget=large'], 'budget'),
        (['stacked', '--budgt=full'], 'budgt'),
        (['stacked', '--json=/none/such/file'], 'no such folder'),
        (['stacked', '--out=/dev/null/folder'], '--out'),
      )
    ),
  ],
)
def test_wrong_command_is_one_line_and_exit_code_2(args, word):
  done = subprocess.run([*REPRODUCE, *args], capture_output=True, text=True, timeout=60)
  assert done.returncode == 2
  assert done.stdout == ''
  assert len(done.stderr.splitlines()) == 1
  assert word in done.stderr


@pytest.mark.drill
def test_missing_data_are_one_line_and_exit_code_1(tmp_path):
  args = ['stacked', '--budget=full', f'--data_dir={tmp_path}', f'--out={tmp_path}/out']
  done = subprocess.run(
    [*REPRODUCE, *args], capture_output=True, text=True, timeout=120
  )
  assert done.returncode == 1
  assert len(done.stderr.splitlines()) == 1
  assert str(tmp_path) in done.stderr


def row(name, k, modes, kl):
  return stacked.Row(
    divisor=4,
    name=name,
    k=k,
    modes=np.array(modes),
    reverse_kl=np.array(kl),
    steps=100,
    seconds=12.4,
    samples=np.zeros((8, 8, 8, 3)),
  )


def test_cells_are_mean_and_standard_error_beside_the_papers_row():
  cells = stacked._cells(row('k = 5', 5, [900, 980, 940], [0.5, 0.7, 0.6]))
  error = 40 / np.sqrt(3), 0.1 / np.sqrt(3)
  ours = f'940.0 +- {error[0]:.1f}', f'0.600 +- {error[1]:.3f}'
  paper = '236.4 +- 63.30', '4.67 +- 0.43'
  assert stacked._cells(row('k = 5', 5, [900, 980, 940], [0.5, 0.7, 0.6])) == [
    '1/4', 'k = 5', *ours, '3', '100', '12', *paper
  ]  # fmt: skip
  assert len(cells) == len(stacked.HEADER)
  alone = stacked._cells(row('partial', None, [900], [0.5]))
  assert alone == ['1/4', 'partial', '900.0', '0.500', '1', '100', '12', '', '']


def test_every_k_stands_beside_a_row_of_the_paper():
  assert all(tuple(rows) == stacked.KS for rows in stacked.PAPER.values())
  more = stacked.PAPER[4], stacked.PAPER[2]
  quarter, half = ([float(r[0].split()[0]) for r in rows.values()] for rows in more)
  assert quarter == sorted(quarter) and all(np.less(quarter, half))


@pytest.mark.slow
def test_all_rows_train_and_their_numbers_are_json(monkeypatch, tmp_path, capsys):
  monkeypatch.setenv('GM_JAX_CACHE', str(tmp_path / 'cache'))
  tiny = stacked.BUDGETS['laptop']._replace(
    steps=2 * stacked.DISPATCH, seeds=2, batch_size=8, g_features=8
  )
  monkeypatch.setitem(stacked.BUDGETS, 'laptop', tiny)
  monkeypatch.setattr(stacked, 'KS', (0, 5))
  monkeypatch.setattr(stacked, 'PAPER', {4: stacked.PAPER[4]})
  numbers = stacked.run('laptop', data_dir=None, out=tmp_path / 'out')
  assert json.loads(json.dumps(numbers))['budget'] == 'laptop'
  assert [(r['divisor'], r['name']) for r in numbers['rows']] == [
    (4, 'k = 0'),
    (4, 'k = 5'),
    (4, 'k = 0, seconds of k = 5'),
    (4, 'k = 0, 6 critic steps'),
    (4, 'k = 5, partial gradient'),
  ]
  for one in numbers['rows']:
    assert len(one['modes']) == len(one['reverse_kl']) == 2
    assert all(1 <= m <= 1000 for m in one['modes'])
    assert all(0 <= kl <= np.log(1000) + 1e-3 for kl in one['reverse_kl'])
  assert numbers['test_examples']['modes'] == 1000
  assert 0.015 < numbers['test_examples']['reverse_kl'] < 0.05
  out = capsys.readouterr().out
  assert 'another protocol' in out and '4 seeds' not in out and 'classifier' in out
  assert (tmp_path / 'out' / 'stacked.png').read_bytes()[:4] == b'\x89PNG'


def test_gaussian_nearest_in_kl_has_the_moments_of_the_data():
  p = f_gan_gaussian
  weights = 1 - p.WEIGHT, p.WEIGHT
  mean = np.dot(weights, p.MEANS)
  std = (np.dot(weights, np.square(p.MEANS) + np.square(p.STDS)) - mean**2) ** 0.5
  ((depth, *found),) = p.optima(p.DIVERGENCES['KL'])
  np.testing.assert_allclose(found, [mean, std], rtol=1e-4)
  # A maximum of entropy under two moments: KL is a difference of entropies.
  density = np.asarray(p.data_density(p.GRID), float)
  entropy = -(density * np.log(density)).sum() * (p.GRID[1] - p.GRID[0])
  gaussian = np.log(std * np.sqrt(2 * np.pi * np.e))
  np.testing.assert_allclose(depth, gaussian - entropy, rtol=1e-4)


@pytest.mark.parametrize(
  ('name', 'expected'),  # computed by others, to four digits
  [
    ('reverse KL', (0.2507, 1.5841, 1.6294)),
    pytest.param('Jensen-Shannon', (0.1298, 1.3125, 1.7525), marks=pytest.mark.slow),
    pytest.param('Jeffrey', (0.5791, 1.3249, 1.7023), marks=pytest.mark.slow),
    pytest.param('Pearson', (0.6616, 0.5663, 1.9268), marks=pytest.mark.slow),
    pytest.param('Neyman', (0.4072, 1.8286, 1.5171), marks=pytest.mark.slow),
  ],
)
def test_optimum_by_quadrature(name, expected):
  best = f_gan_gaussian.optima(f_gan_gaussian.DIVERGENCES[name])[0]
  np.testing.assert_allclose(best, expected, atol=6e-5)


def test_seeds_on_both_sides_of_the_optimum_do_not_cancel():
  best = [(0.1, 1.0, 2.0), (0.3, -1.0, 0.5)]
  fit = {'mean': np.array([0.5, 1.5]), 'std': np.array([1.2, 2.8])}
  mean, std, which = f_gan_gaussian.errors(best, fit)
  np.testing.assert_allclose([mean, std], [0.5, 0.4])
  assert which == {0}
  fit = {'mean': np.array([1.01, -1.02]), 'std': np.array([2.0, 0.51])}
  mean, std, which = f_gan_gaussian.errors(best, fit)
  np.testing.assert_allclose([mean, std], [0.02, 0.02])
  assert which == {0, 1}


def test_stratified_draws_have_the_mixtures_law():
  draw, noise = (
    jax.jit(fn, static_argnums=1) for fn in (f_gan_gaussian.draw, f_gan_gaussian.noise)
  )
  x = np.sort(np.asarray(draw(jax.random.key(0), 4096))[:, 0])
  parts = zip((0.33, 0.67), f_gan_gaussian.MEANS, f_gan_gaussian.STDS, strict=True)
  levels = sum(w * stats.norm(m, s).cdf(x) for w, m, s in parts)
  # Off by one stratum in each part, and by the one they share.
  assert abs(levels - (np.arange(4096) + 0.5) / 4096).max() < 3 / 4096
  z = np.sort(np.asarray(noise(jax.random.key(1), 512))[:, 0])
  assert abs(stats.norm.cdf(z) - (np.arange(512) + 0.5) / 512).max() < 1 / 512


@pytest.mark.slow
def test_adversarial_fit_finds_the_optimum_by_quadrature(monkeypatch):
  monkeypatch.setattr(f_gan_gaussian, 'BATCH', 256)
  monkeypatch.setattr(f_gan_gaussian, 'SEEDS', 1)
  divergence = f_gan_gaussian.DIVERGENCES['Pearson']
  method = f_gan_gaussian.make_method(divergence, 1000, (0.5, 1.5))
  _, fit = f_gan_gaussian.fitted(method, 1000)
  value, mean, std = f_gan_gaussian.optima(divergence)[0]
  np.testing.assert_allclose(fit['mean'], mean, rtol=0.05)
  np.testing.assert_allclose(fit['std'], std, rtol=0.05)
  np.testing.assert_allclose(fit['estimate'], value, rtol=0.05)
