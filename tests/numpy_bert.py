"""BERT in numpy, float64, a sentence at a time; and a folder of a tiny one."""

import json

import numpy as np
import pytest
from scipy import special

WORDS = ('a', 'red', 'blue', 'heart', 'train', 'and', 'round', 'face')
SPECIAL = ('[PAD]', '[UNK]', '[CLS]', '[SEP]')
CONFIG = {
  'model_type': 'bert', 'hidden_act': 'gelu', 'layer_norm_eps': 1e-12,
  'vocab_size': 13, 'max_position_embeddings': 40, 'type_vocab_size': 2,
  'hidden_size': 6, 'num_hidden_layers': 2, 'num_attention_heads': 3,
  'intermediate_size': 10,
}  # fmt: skip


def norm(arrays, name, x, epsilon):
  x = x - x.mean(-1, keepdims=True)
  x = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + epsilon)
  return x * arrays[f'{name}.weight'] + arrays[f'{name}.bias']


def dense(arrays, name, x):
  return x @ arrays[f'{name}.weight'].T + arrays[f'{name}.bias']


def features(arrays, config, tokens):
  """Tokens [T] of one sentence, no padding -> [C], of length 1."""
  arrays = {k: v.astype(np.float64) for k, v in arrays.items() if v.dtype.kind == 'f'}
  table = {
    name: arrays[f'embeddings.{name}_embeddings.weight']
    for name in ('word', 'position', 'token_type')
  }
  epsilon, heads = config['layer_norm_eps'], config['num_attention_heads']
  size = config['hidden_size'] // heads
  x = table['word'][tokens] + table['position'][: len(tokens)] + table['token_type'][0]
  x = norm(arrays, 'embeddings.LayerNorm', x, epsilon)
  for i in range(config['num_hidden_layers']):
    layer, parts = f'encoder.layer.{i}', []
    q, k, v = (
      dense(arrays, f'{layer}.attention.self.{n}', x) for n in ('query', 'key', 'value')
    )
    for head in range(heads):
      at = slice(head * size, (head + 1) * size)
      weights = special.softmax(q[:, at] @ k[:, at].T / np.sqrt(size), axis=1)
      parts.append(weights @ v[:, at])
    y = dense(arrays, f'{layer}.attention.output.dense', np.concatenate(parts, 1))
    x = norm(arrays, f'{layer}.attention.output.LayerNorm', x + y, epsilon)
    y = dense(arrays, f'{layer}.intermediate.dense', x)
    y = y * (1 + special.erf(y / np.sqrt(2))) / 2
    y = dense(arrays, f'{layer}.output.dense', y)
    x = norm(arrays, f'{layer}.output.LayerNorm', x + y, epsilon)
  mean = x.mean(0)
  return mean / np.linalg.norm(mean)


def random_arrays(config=CONFIG, seed=0):
  """Weights by their published names, large enough that everything matters."""
  rng, width, hidden = np.random.default_rng(seed), *(
    config[name] for name in ('hidden_size', 'intermediate_size')
  )  # fmt: skip
  shapes = {
    'embeddings.word_embeddings.weight': (config['vocab_size'], width),
    'embeddings.position_embeddings.weight': (config['max_position_embeddings'], width),
    'embeddings.token_type_embeddings.weight': (config['type_vocab_size'], width),
  }
  norms = ['embeddings.LayerNorm']
  for i in range(config['num_hidden_layers']):
    layer = f'encoder.layer.{i}'
    for name, size in (
      ('attention.self.query', (width, width)),
      ('attention.self.key', (width, width)),
      ('attention.self.value', (width, width)),
      ('attention.output.dense', (width, width)),
      ('intermediate.dense', (hidden, width)),
      ('output.dense', (width, hidden)),
    ):
      shapes |= {f'{layer}.{name}.weight': size, f'{layer}.{name}.bias': size[:1]}
    norms += [f'{layer}.attention.output.LayerNorm', f'{layer}.output.LayerNorm']
  for name in norms:
    shapes |= {f'{name}.weight': (width,), f'{name}.bias': (width,)}
  return {k: rng.normal(size=size).astype(np.float32) for k, size in shapes.items()}


def write(folder, arrays=None, config=CONFIG, prefix=''):
  """Writes an encoder as one is published; skips where the libraries are missing."""
  reason = "not installed: 'gm_jax[text]'"
  safetensors = pytest.importorskip('safetensors.numpy', reason=reason)
  tokenizers = pytest.importorskip('tokenizers', reason=reason)
  arrays = random_arrays() if arrays is None else arrays
  folder.mkdir(exist_ok=True)
  (folder / 'config.json').write_text(json.dumps(config))
  # Contiguous: a transposed array would be written as it lies in memory.
  named = {prefix + name: np.ascontiguousarray(a) for name, a in arrays.items()}
  named[f'{prefix}embeddings.position_ids'] = np.arange(40)[None]
  safetensors.save_file(named, folder / 'model.safetensors')
  vocabulary = {word: i for i, word in enumerate(SPECIAL + WORDS)}
  model = tokenizers.models.WordLevel(vocabulary, unk_token='[UNK]')
  tokenizer = tokenizers.Tokenizer(model)
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
    single='[CLS] $A [SEP]', special_tokens=[('[CLS]', 2), ('[SEP]', 3)]
  )
  # Both as all-MiniLM-L6-v2 has them: the command sets its own.
  tokenizer.enable_padding(length=24)
  tokenizer.enable_truncation(24)
  tokenizer.save(str(folder / 'tokenizer.json'))


def encode(sentence):
  """The tokens of a sentence of WORDS, others being unknown."""
  vocabulary = SPECIAL + WORDS
  words = [vocabulary.index(w) if w in WORDS else 1 for w in sentence.split()]
  return [2, *words, 3]
