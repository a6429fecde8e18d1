"""InfoGAN's ledger: the matching, the bound of a Q that knows, a tiny run."""

import pathlib
import sys
import types

import jax
import numpy as np
import pytest

from gm_jax import base, priors
from gm_jax.methods import infogan

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from experiments.ledger import infogan_mi  # noqa: E402


def test_matching_is_the_best_one_to_one_of_the_train_split():
  classes = np.repeat(np.arange(10), 20)
  renamed = (classes + 3) % 10
  assert infogan_mi.matched_accuracy((renamed, classes), (renamed, classes)) == 1.0
  # Clusters 0 and 1 both hold class 0 mostly; only one of them may have it.
  clusters = classes.copy()
  clusters[:9] = 1  # 9 of class 0's twenty; cluster 1 has 29 with class 1's
  accuracy = infogan_mi.matched_accuracy((clusters, classes), (clusters, classes))
  assert accuracy == (200 - 9) / 200
  # The test split is scored by the train split's matching, not by its own.
  test = (classes, renamed)
  assert infogan_mi.matched_accuracy((classes, classes), test) == 0.0
  one = np.zeros(200, int)  # a single cluster: a single class
  assert infogan_mi.matched_accuracy((one, classes), (one, classes)) == 0.1


@pytest.mark.parametrize(('sure', 'expected'), [(40.0, np.log(10)), (0.0, 0.0)])
def test_bound_is_the_entropy_where_samples_show_the_code(sure, expected):
  codes = infogan.Codes(priors.normal(2), 10)

  def sample(model, key, num, *, condition):
    return jax.nn.one_hot(condition, 10)

  def encode(model, key, x):
    return infogan.as_posterior(codes, sure * x)

  method = types.SimpleNamespace(sample=sample, queries={'posterior': encode})
  model = base.Model({}, {})
  found = infogan_mi.fresh_bound(method, codes, model, jax.random.key(0))
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_budgets_have_seeds_and_steps_that_fit():
  for budget in infogan_mi.BUDGETS.values():
    assert budget.steps % (2 * infogan_mi.DISPATCH) == 0 and budget.seeds >= 2
    assert budget.large_steps % (2 * infogan_mi.DISPATCH) == 0
  assert infogan_mi.BUDGETS['laptop'].seeds >= 4


@pytest.mark.slow
def test_a_tiny_run_gives_numbers_for_both(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(infogan_mi, 'DISPATCH', 2)
  small = infogan_mi.Budget(2, 4, 2, 4, 8)
  monkeypatch.setitem(infogan_mi.BUDGETS, 'smoke', small)
  numbers = infogan_mi.run('smoke', data_dir=None, out=tmp_path)
  names = [row['name'] for row in numbers['rows']]
  assert names == list(infogan_mi.METHODS)
  for row in numbers['rows']:
    assert np.isfinite(row['bound']).all() and len(row['bound']) == 2
    assert (np.array(row['bound']) <= np.log(10)).all()
    assert ((np.array(row['accuracy']) >= 0) & (np.array(row['accuracy']) <= 1)).all()
  assert (tmp_path / 'infogan_mi.png').stat().st_size > 1000
  out = capsys.readouterr().out
  assert 'at most 2.3026 nats' in out and 'plain GAN, Q post hoc' in out
