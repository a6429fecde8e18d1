"""Explicit models' configs: what conditions reach, counts by hand, the launcher."""

import importlib
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import base
from gm_jax.data import dataset, registry, transforms
from gm_jax.training import conditioning, launch

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.configs.parts import evaluations  # noqa: E402

KEY = jax.random.key(0)
CARD = base.Card(
  density='exact', density_cost='one_pass', measure='mass', sampling='exact',
  sampling_cost='one_pass', training=('maximum_likelihood',), latents='none',
  architecture='any', condition=('label',),
)  # fmt: skip


def test_conditions_of_both_splits_reach_the_score():
  method = base.Method(
    CARD, None, None, log_prob=lambda m, k, x, *, condition: -condition.astype(float)
  )
  data = registry.load('dynamic:digits')
  evaluation = evaluations.likelihoods(None, data)
  found = evaluation(method, None, KEY)
  for split, name in (('test', 'nll'), ('validation', 'validation_nll')):
    label = data.arrays(split)['label']
    value, kind = found.values[name]
    np.testing.assert_allclose(value, label.mean(), rtol=1e-5)
    assert kind == f'exact, N = {len(label)}'


def test_a_split_of_a_single_example_is_refused():
  data = registry.load('dynamic:digits')
  one = data._replace(arrays=lambda split, num=None: {'x': np.zeros((1, 8, 8, 1))})
  with pytest.raises(dataset.DataError, match='a split has a single example'):
    evaluations.likelihoods(None, one)


def test_independent_pixels_have_smoothed_frequencies(tmp_path):
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
  samples = launch.sample(
    experiment, config, tmp_path, request=launch.Request(num=2000)
  )
  frequency = (samples.reshape(-1, 64)[:, :, None] == np.arange(17)).mean(0)
  assert np.abs(frequency - p).max() < 5 * np.sqrt(0.25 / 2000)


def small(name, **changes):
  experiment = importlib.import_module(f'experiments.configs.{name}')
  config = experiment.get_config()
  every = {f'{n}_every': 20 for n in ('log', 'evaluate', 'sample', 'checkpoint')}
  config.update({'steps': 20, 'steps_per_dispatch': 20, **every, **changes})
  return experiment, config


@pytest.mark.slow
def test_a_model_of_classes_goes_through_every_mode(tmp_path):
  run = small('nade_digits', condition='label', hidden=16)
  launch.train(*run, tmp_path)
  found = launch.evaluate(*run, tmp_path)
  assert 0 < float(found['nll']) < 64 * np.log(2) + 5
  samples = launch.sample(*run, tmp_path, request=launch.Request(num=30))
  assert samples.shape == (30, 8, 8, 1) and set(np.unique(samples)) <= {0, 1}
  assert (tmp_path / 'samples.png').read_bytes()[:4] == b'\x89PNG'


@pytest.mark.slow
def test_a_model_of_two_phases_goes_through_every_mode(tmp_path):
  changes = {'steps': 40, 'autoencoder_steps': 20, 'num_codes': 8, 'features': 8}
  changes['evaluate_every'] = 0
  run = small('vq_vae_digits', condition='label', **changes)
  launch.train(*run, tmp_path)
  found = launch.evaluate(*run, tmp_path)
  for split in ('train', 'test'):
    assert 1 <= float(found[f'{split}_perplexity']) <= 8
  again = launch.MODES['density'](*run, tmp_path)  # of the same examples
  np.testing.assert_allclose(again['nll_bound'], found['nll_bound'], rtol=1e-5)
  for name in ('encode', 'reconstruct'):
    values = launch.MODES[name](*run, tmp_path)
    assert all(np.isfinite(value).all() for value in values.values())
  samples = launch.sample(*run, tmp_path, request=launch.Request(num=30))
  assert samples.shape == (30, 8, 8, 1)
  assert samples.min() >= 0 and samples.max() <= 16


def test_text_is_printed_and_drawn(tmp_path, capsys):
  run = small('markov_manual', memory=1, batch_size=512)
  launch.train(*run, tmp_path)
  samples = launch.sample(*run, tmp_path, request=launch.Request(num=3))
  vocabulary = registry.load('manual').vocabulary
  texts = [''.join(vocabulary[t] for t in one) for one in samples]
  assert capsys.readouterr().out.endswith(''.join(f'---\n{text}\n' for text in texts))
  for picture in ('samples.png', 'samples/00000020.png'):
    assert (tmp_path / picture).read_bytes()[:4] == b'\x89PNG'


@pytest.mark.slow
def test_melodies_are_drawn_and_bits_are_above_those_of_their_distribution(tmp_path):
  changes = {'width': 16, 'layers': 1, 'heads': 2, 'batch_size': 16}
  run = small('transformer_melodies', **changes)
  launch.train(*run, tmp_path)
  assert float(launch.evaluate(*run, tmp_path)['bits_per_dim']) > 1.24
  assert (tmp_path / 'samples' / '00000020.png').read_bytes()[:4] == b'\x89PNG'


def test_conditions_of_samples_are_those_of_the_test_split():
  spec = base.DataSpec((2,), jnp.int32, 3, None, None, transforms.levels(3))
  numbers = np.arange(10, dtype=np.float32).reshape(5, 2)
  splits = {s: {'x': np.zeros((5, 2), np.uint8), 'condition': numbers}
            for s in ('train', 'test')}  # fmt: skip
  data = dataset.in_memory('mine', spec, splits)
  card = CARD._replace(condition=('condition',))
  found = conditioning.defaults(card, data)(7)
  np.testing.assert_array_equal(found, np.concatenate([numbers, numbers[:2]]))
  assert conditioning.defaults(CARD, data)(7) is None  # which the model refuses
  digits = registry.load('digits')
  found = conditioning.defaults(CARD, digits)(12)
  np.testing.assert_array_equal(found, np.arange(12) % 10)
  assert conditioning.defaults(CARD._replace(condition=()), digits)(3) is None
