"""What explicit models' configs share: scores by hand, conditions, the launcher."""

import importlib
import pathlib
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import base
from gm_jax.data import dataset, registry, transforms
from gm_jax.training import launch, setup

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.configs import explicit  # noqa: E402

KEY = jax.random.key(0)


def method(log_prob=None, **queries):
  return types.SimpleNamespace(log_prob=log_prob, queries=queries)


def spec(shape, levels, transform):
  dtype = transforms.dtype(transform)
  return base.DataSpec(shape, dtype, levels, None, None, transform)


def test_a_uniform_model_of_bytes_has_eight_bits_and_no_error():
  uniform = method(lambda m, k, x, *, condition: jnp.full(len(x), -6 * jnp.log(256.0)))
  raw = {'x': np.arange(300 * 6).reshape(300, 2, 3, 1) % 256}
  levels = spec((2, 3, 1), 256, transforms.levels(256))
  found = explicit.scores(uniform, None, KEY, raw, levels)
  assert found.keys() == {'nll', 'nll_error', 'bits_per_dim', 'bits_per_dim_error'}
  np.testing.assert_allclose(found['nll'], 6 * np.log(256), rtol=1e-6)
  np.testing.assert_allclose(found['bits_per_dim'], 8, rtol=1e-6)
  np.testing.assert_allclose(found['bits_per_dim_error'], 0, atol=1e-6)


@pytest.mark.parametrize('make', [transforms.dequantization, transforms.logit])
def test_an_even_density_of_noisy_bytes_is_a_bound_of_eight_bits_by_the_record(make):
  def even(m, k, x, *, condition):
    """Uniform where the raw pixels with noise are uniform on (0, 256)^6."""
    each = jnp.full(x.shape, jnp.log(0.5))
    if make is transforms.logit:
      p = jax.nn.sigmoid(x)
      each = jnp.log(p) + jnp.log1p(-p) - jnp.log(0.9)
    return each.reshape(len(x), -1).sum(1)

  raw = {'x': np.random.default_rng(0).integers(0, 256, (300, 2, 3, 1))}
  found = explicit.scores(method(even), None, KEY, raw, spec((2, 3, 1), 256, make(256)))
  assert set(found) == {
    f'{name}_bound{error}'
    for name in ('nll', 'bits_per_dim')
    for error in ('', '_error')
  }
  np.testing.assert_allclose(found['bits_per_dim_bound'], 8, rtol=1e-4)


def test_points_have_a_density_and_no_bits():
  x = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
  normal = method(
    lambda m, k, x, *, condition: -0.5 * (x**2).sum(1) - jnp.log(2 * jnp.pi)
  )
  points = base.DataSpec((2,), jnp.float32, None, None, None, transforms.identity())
  found = explicit.scores(normal, None, KEY, {'x': x}, points)
  values = 0.5 * (x**2).sum(1) + np.log(2 * np.pi)
  np.testing.assert_allclose(found['nll_density'], values.mean(), rtol=1e-5)
  error = values.std(ddof=1) / np.sqrt(300)
  np.testing.assert_allclose(found['nll_density_error'], error, rtol=1e-4)
  assert len(found) == 2


def test_a_models_own_bound_is_one_and_no_likelihood_is_refused():
  raw, levels = {'x': np.zeros((9, 2), int)}, spec((2,), 4, transforms.levels(4))
  bound = method(elbo=lambda m, k, x, *, condition: jnp.full(len(x), -1.0))
  assert float(explicit.scores(bound, None, KEY, raw, levels)['nll_bound']) == 1
  with pytest.raises(ValueError, match='no likelihood'):
    explicit.scores(method(), None, KEY, raw, levels)


def test_chunks_are_of_the_rows_and_their_conditions_in_order():
  x = jnp.arange(2 * explicit.CHUNK + 7)
  found = explicit.in_chunks(lambda x, c: 10 * x + c, x, x % 3)
  np.testing.assert_array_equal(found, 10 * x + x % 3)
  assert (
    explicit.in_chunks(lambda x, c: x if c is None else c, x, None).shape == x.shape
  )


def test_conditions_reach_the_score():
  told = method(lambda m, k, x, *, condition: -condition.astype(float))
  data = registry.load('dynamic:digits')
  arrays, labels = explicit.splits(data, 'label')['test']
  found = explicit.scores(told, None, KEY, arrays, data.spec, labels)
  np.testing.assert_allclose(found['nll'], arrays['label'].mean(), rtol=1e-5)


def test_the_law_of_independent_pixels_is_that_of_smoothed_frequencies(tmp_path):
  experiment = importlib.import_module('experiments.configs.independent_digits')
  config = experiment.get_config()
  # Four epochs, that four devices share each batch: counts are four times as many.
  config.update({'batch_size': 4 * config.batch_size, 'smoothing': 0.4})
  launch.train(experiment, config, tmp_path)
  found = launch.evaluate(experiment, config, tmp_path)
  data = registry.load(config.data)
  train, test = (data.arrays(s)['x'].reshape(-1, 64) for s in ('train', 'test'))
  counts = (train[:, :, None] == np.arange(17)).sum(0) + 0.1
  p = counts / counts.sum(1, keepdims=True)
  nll = -np.log(p[np.arange(64), test]).sum(1)
  np.testing.assert_allclose(found['nll'], nll.mean(), rtol=1e-5)
  error = nll.std(ddof=1) / np.sqrt(len(nll))
  np.testing.assert_allclose(found['nll_error'], error, rtol=1e-4)
  bits = found['bits_per_dim'] * 64 * np.log(2)
  np.testing.assert_allclose(bits, found['nll'], rtol=1e-5)
  samples = launch.sample(experiment, config, tmp_path, num=2000)
  frequency = (samples.reshape(-1, 64)[:, :, None] == np.arange(17)).mean(0)
  assert np.abs(frequency - p).max() < 5 * np.sqrt(0.25 / 2000)


def small(name, **changes):
  experiment = importlib.import_module(f'experiments.configs.{name}')
  config = experiment.get_config()
  every = {f'{n}_every': 20 for n in ('log', 'evaluate', 'sample', 'checkpoint')}
  config.update({'steps': 20, 'steps_per_dispatch': 20, **every, **changes})
  return experiment, config


def test_a_model_given_classes_goes_through_every_mode(tmp_path):
  run = small('nade_digits', condition='label', hidden=16)
  launch.train(*run, tmp_path)
  found = launch.evaluate(*run, tmp_path)
  assert 0 < float(found['nll']) < 64 * np.log(2) + 5
  samples = launch.sample(*run, tmp_path, num=30)
  assert samples.shape == (30, 8, 8, 1) and set(np.unique(samples)) <= {0, 1}
  assert (tmp_path / 'samples.png').read_bytes()[:4] == b'\x89PNG'


def test_text_is_printed_and_drawn(tmp_path, capsys):
  run = small('markov_manual', memory=1, batch_size=512)
  launch.train(*run, tmp_path)
  samples = launch.sample(*run, tmp_path, num=3)
  vocabulary = registry.load('manual').vocabulary
  texts = [''.join(vocabulary[t] for t in one) for one in samples]
  assert capsys.readouterr().out.endswith(''.join(f'---\n{text}\n' for text in texts))
  for picture in ('samples.png', 'samples/00000020.png'):
    assert (tmp_path / picture).read_bytes()[:4] == b'\x89PNG'


def test_melodies_are_drawn_and_bits_are_above_those_of_their_law(tmp_path):
  changes = {'width': 16, 'layers': 1, 'heads': 2, 'batch_size': 16}
  run = small('transformer_melodies', **changes)
  launch.train(*run, tmp_path)
  assert float(launch.evaluate(*run, tmp_path)['bits_per_dim']) > 1.24
  assert (tmp_path / 'samples' / '00000020.png').read_bytes()[:4] == b'\x89PNG'


def test_given_numbers_of_the_test_split_are_what_samples_are_given():
  spec = base.DataSpec((2,), jnp.int32, 3, None, None, transforms.levels(3))
  given = np.arange(10, dtype=np.float32).reshape(5, 2)
  splits = {s: {'x': np.zeros((5, 2), np.uint8), 'condition': given}
            for s in ('train', 'test')}  # fmt: skip
  data = dataset.in_memory('mine', spec, splits)
  found = setup.conditions('condition', data)(7)
  np.testing.assert_array_equal(found, np.concatenate([given, given[:2]]))
  with pytest.raises(ValueError, match="condition = 'label', but mine has condition"):
    setup.conditions('label', data)
  digits = registry.load('digits')
  np.testing.assert_array_equal(setup.conditions('label', digits)(12) % 10,
                                np.arange(12) % 10)  # fmt: skip
  assert setup.conditions('', digits)(3) is None
