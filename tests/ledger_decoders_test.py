"""The ledger of decoders: what it prints is what it says."""

import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from signatures import check_signatures

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.ledger import decoders  # noqa: E402
from gm_jax.tasks import decoders as task  # noqa: E402


def row(name, ais, parzen, gap=0.0):
  ais, parzen = (np.asarray(a, float) for a in (ais, parzen))
  seeds = len(ais)
  return decoders.Row(
    name, ais, 0.1, np.full(seeds, gap), 0.2, np.full(seeds, 0.14), parzen,
    np.full(seeds, 0.26), 100, 12.3,
  )  # fmt: skip


def test_cells_are_means_errors_and_the_range_over_seeds():
  found = decoders.cells(row('GAN', [[1.0, 3.0], [5.0, 7.0]], [[0.0, 0.0]] * 2, 1.5))
  # The mean over seeds of each image is 3 and 5: an error of 1.
  assert found == [
    'GAN', '4.0 +- 1.0 (2.0 to 6.0)', '1.50 +- 0.20', '0.14',
    '0.0 +- 0.0 (0.0 to 0.0)', '0.26', '2', '100', '12',
  ]  # fmt: skip
  one = row('PPCA', [[1.0, 3.0]], [[0.0, 1.0]])._replace(exact=2.25, steps=0)
  cells = decoders.cells(one)
  assert cells[1] == '2.0 +- 1.0, exact 2.2' and cells[7] == 'closed form'
  assert len(cells) == len(decoders.HEADER)


@pytest.mark.parametrize(
  ('ais', 'parzen', 'gap', 'expected'),
  [
    ([0.0, 0.1, -0.1], [0.0, 0.1, -0.1], 0.0, 'agree'),
    ([0.0, 0.1, -0.1], [20.0, 20.1, 19.9], 0.0, 'DISAGREE'),
    ([0.0, 0.1, -0.1], [20.0, 20.1, 19.9], 20.0, 'not told apart'),  # the bound's
    ([0.0, 20.0, -30.0], [20.0, 20.1, 19.9], 0.0, 'not told apart'),
    ([0.0, 0.1, -0.1], [10.0, 10.1, 9.8], 0.0, 'not told apart'),
  ],
)
def test_orders_disagree_only_where_both_tell_the_pair_apart(
  ais, parzen, gap, expected
):
  best = row('best', [[10.0, 10.05, 9.9]], [[10.0, 10.0, 10.0]])
  (pair,) = decoders.pairs([row('other', [ais], [parzen], gap), best])
  assert (pair.better, pair.other) == ('best', 'other')
  assert pair.orders() == expected == decoders.pair_cells(pair)[3]


def test_linear_decoder_is_the_likeliest_and_its_density_is_exact():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(500, 2)) @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(
    size=(500, 6)
  )
  found = decoders.probabilistic_pca(x, 2, (6,))
  assert 0.25 < found.std < 0.35
  check_signatures(found.method)
  weights = np.asarray(found.model.params['weights'], float)
  covariance = weights @ weights.T + found.std**2 * np.eye(6)
  normal = stats.multivariate_normal(x.mean(axis=0), covariance)
  np.testing.assert_allclose(found.log_prob(x[:5]), normal.logpdf(x[:5]), rtol=1e-5)
  # Another noise, or other weights, are less likely.
  for std, scale in ((1.1, 1.0), (0.9, 1.0), (1.0, 1.05), (1.0, 0.95)):
    other = scale**2 * weights @ weights.T + (std * found.std) ** 2 * np.eye(6)
    less = stats.multivariate_normal(x.mean(axis=0), other).logpdf(x).mean()
    assert less < found.log_prob(x).mean()
  # It draws that law, and the task's decoder has its likelihood.
  samples = found.method.sample(found.model, jax.random.key(0), 4000)
  mean_only = np.cov(np.asarray(samples).T) + found.std**2 * np.eye(6)
  np.testing.assert_allclose(mean_only, covariance, atol=0.3 * covariance.max())
  decoder = task.decoder_of(found.method, found.model, found.std)
  z = jnp.zeros((3, 2))
  expected = stats.norm(x.mean(axis=0), found.std).logpdf(x[:3]).sum(axis=1)
  data = {'x': jnp.asarray(x[:3], jnp.float32)}
  np.testing.assert_allclose(decoder.log_likelihood(z, data), expected, rtol=1e-4)


@pytest.mark.slow
def test_a_short_run_measures_every_decoder(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(decoders, 'FITS', decoders.FITS[-1:])
  numbers = decoders.run('smoke', out=tmp_path)
  rows = json.loads(json.dumps(numbers))['rows']
  assert [r['name'] for r in rows] == ['VAE, std 0.2', decoders.PPCA]
  assert len(rows[0]['ais']) == 2 and np.isfinite(rows[0]['ais']).all()
  assert rows[0]['noise_std'][0] in np.float32(task.STDS)
  assert rows[1]['ais'][0] < rows[1]['exact'] + 1.0
  assert len(numbers['pairs']) == 1 and 'disagree' in capsys.readouterr().out
