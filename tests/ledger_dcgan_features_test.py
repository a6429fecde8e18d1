"""The ledger of a DCGAN's features: what the machine reads, and of which rows."""

import pathlib
import sys

import jax
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.ledger import dcgan_features  # noqa: E402
from gm_jax import players  # noqa: E402
from gm_jax.data import registry  # noqa: E402
from gm_jax.training import step as step_lib  # noqa: E402


def rows(num, seed):
  """Two classes that a plane separates, and a feature a thousand times larger."""
  rng = np.random.default_rng(seed)
  x, label = rng.normal(size=(num, 3)), np.arange(num) % 2
  x[:, 0] += np.where(label, 4.0, -4.0)
  x[:, 2] *= 1e3
  return x, label


def test_a_machine_finds_a_plane_and_nothing_in_noise():
  assert dcgan_features.accuracy(rows(100, 0), rows(400, 1), 0) > 0.97
  noise = [(x[:, 1:], label) for x, label in (rows(100, 0), rows(400, 1))]
  found = dcgan_features.accuracy(*noise, 0)
  assert abs(found - 0.5) < 5 * 0.5 / np.sqrt(400)


def test_maps_have_the_statistics_of_training_and_chunks_change_nothing():
  data = registry.load('digits')
  method, critic = dcgan_features.make_method(data.spec, 4)
  x = np.asarray(data.arrays('test')['x'][:300], np.float32) / 8.0 - 1.0
  state = jax.jit(method.init)(jax.random.key(0), {'x': x})
  model = step_lib.model(state)
  found = dcgan_features.maps(critic, model, x)
  assert found.shape == (300, 4 * 4 * 4)
  # One convolution at 8x8, without normalization: as the first layer alone.
  one = dcgan_features.maps(critic, model, x[-1:])
  np.testing.assert_allclose(found[-1:], one, rtol=1e-5, atol=1e-6)
  logit = players.apply_trained(critic, players.DISCRIMINATOR, model, x[-1:])
  dense = model.params[players.DISCRIMINATOR]['Dense_0']
  np.testing.assert_allclose(
    logit, one @ np.asarray(dense['kernel']) + dense['bias'], rtol=1e-4, atol=1e-5
  )


def test_rows_are_labelled_rows_of_a_seed_and_never_the_test_split():
  rng = np.random.default_rng(0)
  arrays = {}
  for split, num in (('train', 60), ('test', 40)):
    label = np.arange(num) % 2
    x = rng.normal(size=(num, 2)) * 0.1 + np.where(label, 3.0, -3.0)[:, None]
    arrays[split] = {'x': x, 'label': label}
  seen = []

  def features_of(seed, x):
    seen.append(x)
    return x

  setting = dcgan_features.Setting('toy', 1, (20, 1000))
  budget = dcgan_features.Budget(2, 7, (setting,))
  found = dcgan_features.rows_of('pixels', features_of, setting, arrays, budget)
  assert [(row.labels, row.size, row.steps) for row in found] == [
    (20, 2, 0),
    (60, 2, 0),
  ]
  for row in found:
    np.testing.assert_array_equal(row.accuracy, [1.0, 1.0])
  orders = [x[:, 0] for x in seen[1::2]]  # of the labelled rows, by seed
  assert not np.array_equal(*orders)
  for order in orders:
    np.testing.assert_array_equal(np.sort(order), np.sort(arrays['train']['x'][:, 0]))
  assert dcgan_features.cells(found[0]) == [
    'toy', 'pixels', '20', '2', '1.000 +- 0.000', '2', '0'
  ]  # fmt: skip


@pytest.mark.slow
def test_a_short_run_prints_what_it_measured(capsys):
  found = dcgan_features.run('smoke', data_dir=None)
  table = found['tables']['accuracy'].rows
  assert [row[1] for row in table] == ['pixels', 'untrained critic', 'trained critic']
  assert all(0.5 < np.mean(row['accuracy']) <= 1 for row in found['rows'])
  assert 'Seeds from 1400' in capsys.readouterr().out
