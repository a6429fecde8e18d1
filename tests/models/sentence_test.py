"""The sentence encoder against numpy; with real weights where they are named.

GM_JAX_SENTENCE_ENCODER names the folder of a published encoder, as all-MiniLM-L6-v2.
Without it nothing here needs more than random weights.
"""

import json
import os
import pathlib

import jax
import numpy as np
import numpy_bert
import pytest

from experiments import sentence_encoder
from gm_jax.models import sentence

REAL = os.environ.get('GM_JAX_SENTENCE_ENCODER')
SIZES = {
  ours: numpy_bert.CONFIG[theirs] for ours, theirs in sentence_encoder.SIZES.items()
}
SENTENCES = ['a red heart', 'train', 'a blue round face and a red train', 'a new word']


@pytest.fixture(scope='module')
def tiny():
  module, arrays = sentence.SentenceEncoder(**SIZES), numpy_bert.random_arrays()
  params = sentence.from_arrays(module, arrays)
  return lambda *data: jax.jit(module.apply)({'params': params}, *data), arrays


def padded(rows, length, filling=0):
  tokens = np.full((len(rows), length), filling, np.int32)
  mask = np.zeros(tokens.shape, bool)
  for i, row in enumerate(rows):
    tokens[i, : len(row)], mask[i, : len(row)] = row, True
  return tokens, mask


def test_features_are_those_of_numpy_whatever_the_padding(tiny):
  apply, arrays = tiny
  rows = [numpy_bert.encode(text) for text in SENTENCES]
  expected = [numpy_bert.features(arrays, numpy_bert.CONFIG, row) for row in rows]
  found = apply(*padded(rows, 10))
  np.testing.assert_allclose(found, expected, atol=1e-5)
  np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
  longer = apply(*padded(rows, 16, filling=5))
  np.testing.assert_allclose(longer, found, atol=1e-6)
  assert not np.asarray(apply(*padded([[], rows[0]], 10)))[0].any()


def test_a_file_has_the_names_and_shapes_of_numpy():
  wanted = sentence.shapes(sentence.SentenceEncoder(**SIZES))
  assert wanted == {k: v.shape for k, v in numpy_bert.random_arrays().items()}


@pytest.mark.parametrize(
  ('tokens', 'mask', 'message'),
  [
    (np.zeros((2, 3)), np.ones((2, 3), bool), r'integers \[B, T\], got float'),
    (np.zeros(3, int), np.ones(3, bool), r'integers \[B, T\], got int'),
    (np.zeros((2, 3), int), np.ones((2, 1), bool), r'must be bool \[2, 3\], got bool'),
    (np.zeros((2, 3), int), np.ones((2, 3), int), r'must be bool \[2, 3\], got int'),
    (np.zeros((1, 41), int), np.ones((1, 41), bool), 'at most 40 fit'),
  ],
)
def test_other_arrays_are_refused(tokens, mask, message):
  with pytest.raises(ValueError, match=message):
    sentence.SentenceEncoder(**SIZES).apply({'params': {}}, tokens, mask)


@pytest.fixture(scope='module')
def real():
  if not REAL:
    reason = 'name the folder of a real one in GM_JAX_SENTENCE_ENCODER'
    pytest.skip(f'the weights of a sentence encoder are not here: {reason}')
  return sentence_encoder.load(pathlib.Path(REAL))


CAPTIONS = [
  'A red heart.',
  'a heart that is red',
  'The train leaves the station at noon, and it will not come back before the night.',
]


@pytest.mark.slow
def test_real_weights_give_the_features_of_numpy(real):
  safetensors = pytest.importorskip('safetensors.numpy')
  arrays = safetensors.load_file(f'{REAL}/model.safetensors')
  arrays = {name.removeprefix('bert.'): array for name, array in arrays.items()}
  config = json.loads(pathlib.Path(REAL, 'config.json').read_text())
  tokens = [code.ids for code in real.tokenizer.encode_batch(CAPTIONS)]
  expected = [numpy_bert.features(arrays, config, row) for row in tokens]
  found = sentence_encoder.embed(real, CAPTIONS)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  similar, *unrelated = (found @ found.T)[np.triu_indices(3, 1)]
  assert similar > 0.5 + max(unrelated)
