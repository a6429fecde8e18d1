"""The ledger of flows: its lines, and that the best step is that of validation."""

import pathlib
import sys

import jax.numpy as jnp
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.ledger import flows as ledger  # noqa: E402
from gm_jax.data import registry  # noqa: E402
from gm_jax.tasks import density  # noqa: E402
from gm_jax.training import plots  # noqa: E402


def test_a_line_is_blank_where_a_toy_was_not_tried():
  row = {'layers': 'maf', 'data': ledger.TOYS[1], 'kl_estimate': 0.1234,
         'kl_estimate_error': 0.01}  # fmt: skip
  line = ledger.toy_line('maf', [row, {**row, 'layers': 'nice'}])
  assert len(line) == len(ledger.TOY_HEADER)
  assert line[:3] == ['maf', '', '0.123 +- 0.010'] and not any(line[3:])


def test_the_gaussian_lacks_its_own_entropy_less_that_of_the_data():
  """A Gaussian's cross entropy with data of its moments is its own entropy."""
  data = 'toy:ring?std=0.2'
  found, known = ledger.gaussian(data), registry.toy_density(data)
  x = registry.load(data).arrays('test', 20_000)['x']
  own = np.log(2 * np.pi * np.e) + np.log(x.std(axis=0)).sum()
  expected = own + np.asarray(known.log_prob(x)).mean()
  assert abs(found['kl_estimate'] - expected) < 4 * found['kl_estimate_error']


def test_every_row_is_a_config_with_its_argument():
  for name, module, arg, changes in (*ledger.DIGITS, *ledger.CLOTHES):
    config = module.get_config(arg)
    assert set(changes) <= set(config), name
  for layers in ledger.LAYERS:
    assert ledger.spline_flow_toy.get_config(layers).data == 'toy:moons'


@pytest.mark.slow
def test_digits_are_reported_at_the_best_step_of_the_validation_split(monkeypatch):
  """Of scores that are lowest in the middle, with a test score that falls on."""
  seen = iter([(5.0, 9.0), (3.0, 8.0), (4.0, 7.0)])

  def scored(method, model, key, splits, spec):
    del method, model, splits, spec
    # With a key it is traced for its shapes, before training.
    validation, test = next(seen) if key is None else (0.0, 0.0)
    found = {'validation_nll_bound': validation, 'nll_bound': test}
    found |= {'nll_bound_error': 0.5, 'bits_per_dim_bound': 2.0}
    return density.base.Result({k: (jnp.float32(v), '') for k, v in found.items()})

  monkeypatch.setattr(density, 'density', scored)
  monkeypatch.setattr(ledger.inference, 'scorer', lambda setup, phase: (
    lambda state: ({k: v for k, (v, _) in setup.evaluation(
      None, None, None).values.items()}, {})))  # fmt: skip
  changes = {'evaluate_every': 20, 'steps': 3000}
  row = ledger.images('MAF', ledger.maf_digits, None, changes, 0.02)
  assert (row['step'], row['nats'], row['kind']) == (40, 8.0, 'bound')
  assert row['steps'] == 60 and row['samples'][None].shape == (ledger.SAMPLES, 8, 8, 1)


@pytest.mark.slow
def test_the_whole_ledger_of_one_toy_and_one_model(monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(ledger, 'LAYERS', ('nice',))
  monkeypatch.setattr(ledger, 'DIGITS', ledger.DIGITS[5:6])
  monkeypatch.setattr(plots, 'side_by_side', lambda path, images, **options: None)
  numbers = ledger.run('smoke', data_dir=None, out=tmp_path)
  gaussian, toy = numbers['toys']
  assert gaussian['steps'] == 0 and toy['steps'] == 30
  assert 0 < toy['kl_estimate'] < 1.1 * gaussian['kl_estimate']  # where it began
  assert len(numbers['tables']['digits'].rows) == 1
  assert 'nice' in capsys.readouterr().out
