"""The ledger of conditional GANs: what it draws, measures and prints."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.ledger import conditional_gans  # noqa: E402
from gm_jax import base  # noqa: E402


def test_the_line_has_three_gaussians():
  batch = conditional_gans.on_the_line(jax.random.key(0), 30_000)
  x, label = np.asarray(batch['x'])[:, 0], np.asarray(batch['label'])
  for k, mean in enumerate(conditional_gans.MEANS):
    own = x[label == k]
    assert abs(len(own) - 10_000) < 4 * np.sqrt(30_000 * 2 / 9)
    np.testing.assert_allclose([own.mean(), own.std()], [mean, 1.0], atol=0.05)


def test_scores_are_of_each_class():
  def sample(model, key, num, *, condition):
    return (condition + 1.0)[:, None] * jax.random.normal(key, (num, 1)) - condition[
      :, None
    ]

  method = base.Method(None, None, None, sample=sample)
  found = jax.jit(conditional_gans.line_score(method))(None, jax.random.key(0))
  for k in range(3):
    np.testing.assert_allclose(found[f'mean_{k}'], -k, atol=0.1)
    np.testing.assert_allclose(found[f'std_{k}'], k + 1, rtol=0.03)


def test_cells_are_means_and_errors_over_seeds():
  numbers = {'agreement': np.array([0.9, 0.96]), 'diversity': np.array([1.0, 1.0])}
  row = conditional_gans.Row('a', numbers | {'frechet': np.array([3.0, 5.0])}, 20, 1.4)
  assert conditional_gans.cells(row) == [
    'a', '0.930 +- 0.030', '1.000 +- 0.000', '4.00 +- 1.00', '2', '20', '1'
  ]  # fmt: skip
  names = ('mean_0', 'mean_2', 'std_0', 'std_1', 'std_2')
  row = conditional_gans.Row('b', {n: np.array([0.5, 0.7]) for n in names}, 20, 1.4)
  assert conditional_gans.line_cells(row) == ['b', *['0.60 +- 0.10'] * 5, '2', '20']
  assert len(conditional_gans.cells(row._replace(numbers={
    'agreement': jnp.ones(2), 'diversity': jnp.ones(2), 'frechet': jnp.ones(2)
  }))) == len(conditional_gans.HEADER)  # fmt: skip
  assert len(conditional_gans.line_cells(row)) == len(conditional_gans.LINE_HEADER)


@pytest.mark.slow
def test_a_short_run_prints_what_it_measured(tmp_path, capsys):
  found = conditional_gans.run('smoke', out=tmp_path)
  assert [r[0] for r in found['tables']['digits'].rows] == list(conditional_gans.fits())
  assert len(found['tables']['line'].rows) == 5
  assert 'Seeds from 1100' in capsys.readouterr().out
  assert (tmp_path / 'conditional_gans.png').exists()
