"""The ledger of diffusion: its lines, and a floor that is the training split's own."""

import pathlib
import sys

import jax.numpy as jnp
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.ledger import diffusion as ledger  # noqa: E402
from gm_jax.data import registry  # noqa: E402
from gm_jax.training import plots  # noqa: E402


def test_a_line_has_the_mean_over_seeds_of_every_number_of_steps():
  frechet = np.stack([np.full(2, 7.0) + [0, 2 * i] for i in range(len(ledger.STEPS))])
  line = ledger.cells(ledger.Row('EDM', 'heun', frechet, 6000, 30.4))
  assert len(line) == len(ledger.header())
  assert line[2:4] == ['7.0 +- 0.0', '8.0 +- 1.0'] and line[-3:] == ['2', '6000', '30']


def test_the_floor_is_of_random_subsets_as_large_as_the_test_split():
  digits, seen = registry.load('digits'), []

  def distances(x):
    seen.append(np.asarray(x))
    return {'frechet': jnp.square(x).mean()}

  found = ledger.floor(distances, digits)
  assert len(found) == ledger.SUBSETS
  assert {len(x) for x in seen} == {len(digits.arrays('test')['x'])}
  assert len({x.tobytes() for x in seen}) == ledger.SUBSETS
  assert abs(seen[0].min() + 1) < 1e-6 and abs(seen[0].max() - 1) < 1e-6


def test_samplers_of_the_table_are_those_of_the_methods():
  for _, module, names in ledger.MODELS:
    config = module.get_config()
    method = module.make_method(config, registry.load(config.data).spec)
    for name in names:
      with pytest.raises(ValueError, match=f"no sampler '{name}x'.*{name}"):
        method.sample(None, None, 1, sampler=f'{name}x')


@pytest.mark.slow
def test_the_whole_ledger_of_one_model(monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(ledger, 'MODELS', ledger.MODELS[2:])
  monkeypatch.setattr(ledger, 'STEPS', (1, 4))
  monkeypatch.setattr(plots, 'side_by_side', lambda path, images, **options: None)
  numbers = ledger.run('smoke', out=tmp_path)
  assert [row['sampler'] for row in numbers['rows']] == ['euler', 'heun']
  frechet = np.array(numbers['rows'][0]['frechet'])
  assert frechet.shape == (2, 1) and (frechet > np.mean(numbers['floor'])).all()
  # One step is the denoiser alone, whichever the sampler.
  first = [row['frechet'][0][0] for row in numbers['rows']]
  np.testing.assert_allclose(*first, rtol=1e-3)
  assert 'euler' in capsys.readouterr().out
