"""The ledger of diffusion: its lines, and a floor that is the training split's own."""

import pathlib
import sys

import jax.numpy as jnp
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.ledger import diffusion as ledger  # noqa: E402
from gm_jax import base  # noqa: E402
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
  untrained = base.Model({'network': None, 'schedule': None}, {})
  for _, module, names in ledger.MODELS:
    config = module.get_config()
    made = module.make_method(config, registry.load(config.data).spec)
    method = made if isinstance(made, base.Method) else made[-1].method
    for name in names:
      with pytest.raises(ValueError, match=f"no sampler '{name}x'.*{name}"):
        method.sample(untrained, None, 1, sampler=f'{name}x')


def test_bounds_stand_beside_the_rows_of_the_other_page_as_they_are():
  lines = ledger.bound_lines({'VDM': np.array([80.0, 82.0])})
  assert lines[0] == ['VDM', '81.00 +- 1.00', 'bound', '2', 'this run']
  assert [line[0] for line in lines[1:]] == ['NADE', 'PixelCNN']
  page = (ROOT / 'docs' / 'results' / 'likelihoods.md').read_text()
  levels = page.split('<!-- table: digits?transform=levels -->')[1].split('<!-- end')[0]
  for name, nats, kind, *_ in lines[1:]:
    (row,) = (row for row in levels.splitlines() if row.startswith(f'| {name} '))
    assert f'| {nats}' in row and kind == 'exact'


@pytest.mark.slow
def test_the_whole_ledger_of_one_model(monkeypatch, tmp_path, capsys):
  _, _, _, flow, *_, vdm = ledger.MODELS  # a flow of two phases
  monkeypatch.setattr(ledger, 'MODELS', (flow, (*vdm[:2], vdm[2][1:2])))
  monkeypatch.setattr(ledger, 'STEPS', (1, 4))
  monkeypatch.setattr(plots, 'side_by_side', lambda path, images, **options: None)
  numbers = ledger.run('smoke', out=tmp_path)
  assert [row['sampler'] for row in numbers['rows']] == ['euler', 'heun', 'ddim']
  frechet = np.array(numbers['rows'][0]['frechet'])
  assert frechet.shape == (2, 1) and (frechet > np.mean(numbers['floor'])).all()
  # One step is the denoiser alone, whichever the sampler.
  first = [row['frechet'][0][0] for row in numbers['rows']]
  np.testing.assert_allclose(*first[:2], rtol=1e-3)
  # Of a network of 0 all 17 levels of all 64 pixels are alike, exactly.
  (nats,) = numbers['bounds']['VDM']
  assert 100 < nats < 64 * np.log(17) + 2
  assert 'euler' in capsys.readouterr().out


def test_a_path_to_a_single_image_is_denoised_to_it_everywhere():
  """The score of noisy copies of one image c is -(x_t - alpha c) / sigma^2."""
  image = jnp.linspace(-0.9, 0.9, 64).reshape(8, 8, 1)
  process, grid = ledger.WALKS['flow matching']

  def score(model, key, x, t):
    alpha, sigma = (f(t)[:, None, None, None] for f in (process.alpha, process.sigma))
    return -(x - alpha * image) / sigma**2

  method = base.Method(None, None, None, queries={'score': score})
  found = ledger.trajectories(method, None, process, grid(process))
  shape = ledger.WALKERS, len(ledger.SEEN), 8, 8, 1
  denoised = found['denoised'].reshape(shape)[:, 1:]  # at first all is noise
  expected = np.broadcast_to(image, denoised.shape)
  np.testing.assert_allclose(denoised, expected, atol=0.01)
  noisy = found['noisy'].reshape(shape)
  far = np.abs(noisy - np.asarray(image)).mean(axis=(0, 2, 3, 4))
  assert far[0] > 0.5 and far[-1] < 0.1 and (np.diff(far) < 0.02).all()
