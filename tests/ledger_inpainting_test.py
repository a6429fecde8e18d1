"""The ledger of in-painting: its numbers, its counts and its nearest images."""

import pathlib
import sys
import types

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.ledger import inpainting as ledger  # noqa: E402
from gm_jax.data import registry  # noqa: E402
from gm_jax.training import plots  # noqa: E402


def test_numbers_are_of_what_is_hidden_and_of_each_seed():
  """Completions that are off by 1 and -1, and all by 2 for the second seed."""
  x = np.zeros((3, 2, 2, 1))
  observed = np.broadcast_to(np.array([[True], [False]])[..., None], x.shape)
  off = np.array([1.0, -1.0, 1.0, -1.0])[:, None, None, None, None]
  completions = np.stack([x + off, x + 2 + 0 * off]) * ~observed

  def seen(images):
    assert images.shape == completions.shape
    return np.stack([np.ones((4, 3)), np.zeros((4, 3))])

  row = ledger.measured('half', 'all', 18, x, observed, completions, seen, 1.25)
  np.testing.assert_allclose(row.error, [1, 2])
  np.testing.assert_allclose(row.error_of_mean, [0, 2])
  np.testing.assert_allclose(row.spread, [np.sqrt(4 / 3), 0])
  line = ledger.cells(row)
  assert line[:4] == ['half', 'all', '18', '1.500 +- 0.500'] and len(line) == 8
  assert line[6:] == ['0.500 +- 0.500', '1.2'] and len(ledger.HEADER) == len(line)


def test_the_nearest_are_so_by_what_is_known_and_keep_it():
  rng = np.random.default_rng(0)
  train = rng.normal(size=(50, 2, 2, 1))
  observed = np.broadcast_to(np.array([[True], [False]])[..., None], (2, 2, 2, 1))
  x = train[[7, 30]] + 0.01
  x[:, 1] = 9.0
  found = ledger.nearest(x, observed, train)
  assert found.shape == (1, ledger.COMPLETIONS, 2, 2, 2, 1)
  np.testing.assert_allclose(found[0, 0, :, 1], train[[7, 30], 1])
  np.testing.assert_array_equal(found[..., 0, :, :], np.tile(x[:, 0], (1, 4, 1, 1, 1)))
  second = np.abs(train[:, 0] - x[0, 0]).reshape(50, -1)
  second = np.argsort((second**2).sum(axis=1))[1]
  np.testing.assert_allclose(found[0, 1, 0, 1], train[second, 1])


def test_evaluations_are_of_one_completion():
  counts = [ledger.num_evaluations(options) for _, options in ledger.INPAINTERS]
  assert counts[0] == 18 and counts[-1] == 18 * 64
  assert counts[2] == 18 + 5 * 9 * 3  # five times to go back from: 1, 4, 7, 10, 13


@pytest.mark.slow
def test_the_whole_ledger_of_few_images(monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(ledger, 'INPAINTERS', ledger.INPAINTERS[:1])
  reads = types.SimpleNamespace(params=None, logits=lambda _, x: np.zeros((len(x), 10)))
  monkeypatch.setattr(ledger.evaluations, 'independent_classifier', lambda data: reads)
  drawn = {}
  monkeypatch.setattr(
    plots, 'side_by_side', lambda path, images, **options: drawn.update(images)
  )
  numbers = ledger.run('smoke', out=tmp_path)
  # A reader that reads all as 0.
  zeros = np.mean(registry.load('digits').arrays('test', 6)['label'] == 0)
  assert all(row['agreement'] == [zeros] for row in numbers['rows'])
  assert [row['mask'] for row in numbers['rows']] == ['half'] * 2 + ['center'] * 2
  assert 'replacement' in capsys.readouterr().out
  panel = drawn['replacement: half'].reshape(6, 6, 8, 8, 1)
  np.testing.assert_array_equal(panel[:, 2:, :4], panel[:, :1, :4].repeat(4, axis=1))
  assert (panel[:, 1, 4:] == 0).all()
