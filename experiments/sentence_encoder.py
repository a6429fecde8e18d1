"""Sentence encoders out of their folders, and what they make of sentences.

A folder is as such encoders are published for the library sentence-transformers:
config.json, model.safetensors and tokenizer.json. Nothing is downloaded, and nothing in
a file is executed. What is wrong with a file is one line.
"""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gm_jax.data import dataset
from gm_jax.models import sentence

SIZES = {  # entries of config.json, by attribute of the encoder
  'num_tokens': 'vocab_size', 'num_positions': 'max_position_embeddings',
  'num_types': 'type_vocab_size', 'width': 'hidden_size',
  'num_layers': 'num_hidden_layers', 'heads': 'num_attention_heads',
  'hidden': 'intermediate_size',
}  # fmt: skip
# What else it may say, and what this network is; without an entry it is as here.
CHOICES = {'model_type': 'bert', 'hidden_act': 'gelu'}
CHOICES |= {'position_embedding_type': 'absolute'}
PARTS = ('Transformer', 'Pooling', 'Normalize')  # of a published encoder, at most
BLOCK = 4096  # sentences that are tokens at once
TOKENS = 2048  # of a batch
SHORTEST = 16  # tokens that a sentence is padded to; longer ones to the next power of 2


class Encoder(NamedTuple):
  """A sentence encoder and its tokens."""

  apply: Callable  # ({'params': params}, tokens [B, T], mask [B, T]) -> [B, F]
  params: Any
  tokenizer: Any
  width: int  # F
  limit: int  # tokens of a sentence; the rest is cut off


def load(folder: pathlib.Path) -> Encoder:
  """Reads an encoder from its folder.

  Raises:
    ValueError: libraries or files are missing, or the files are those of another
      network; one line says which.
  """
  try:
    import safetensors
    import tokenizers
  except ImportError as error:
    raise ValueError(
      "tokenizers and safetensors are not installed: pip install 'gm_jax[text]'"
    ) from error
  if not folder.is_dir():
    raise ValueError(f'{folder}: no such folder of a sentence encoder')
  _check_parts(folder)
  module = _module(folder / 'config.json')
  path = folder / 'tokenizer.json'
  _check_file(path)
  try:
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
  except Exception as error:  # the library raises no narrower type
    raise ValueError(f'{path}: not a tokenizer, or a damaged one: {error}') from error
  highest = max(tokenizer.get_vocab().values(), default=0)
  if highest >= module.num_tokens:
    raise ValueError(
      f'{path}: it has the token {highest}, and config.json {module.num_tokens} tokens:'
      ' of another network'
    )
  limit = _limit(folder, tokenizer, module)
  tokenizer.no_padding()
  tokenizer.enable_truncation(limit)
  arrays = _weights(
    folder / 'model.safetensors', sentence.shapes(module), safetensors.safe_open
  )
  params = sentence.from_arrays(module, arrays)
  return Encoder(jax.jit(module.apply), params, tokenizer, module.width, limit)


def _check_file(path: pathlib.Path) -> None:
  if not path.is_file():
    raise ValueError(f'{path}: no such file of a sentence encoder')


def _json(path: pathlib.Path, kind: type = dict) -> Any:
  _check_file(path)
  try:
    found = json.loads(path.read_text(encoding='utf-8'))
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{path}: not JSON, or damaged') from error
  if not isinstance(found, kind):
    raise ValueError(f'{path}: expected a JSON {kind.__name__}')
  return found


def _check_parts(folder: pathlib.Path) -> None:
  """Refuses encoders whose features are made in another way, where a file says so."""
  path = folder / 'modules.json'
  if path.exists():
    kinds = [part.get('type') for part in _json(path, list) if isinstance(part, dict)]
    names = [str(kind).split('.')[-1] for kind in kinds]
    other = [name for name in names if name not in PARTS]
    if other:
      raise ValueError(f'{path}: a part {other[0]!r}; known are {", ".join(PARTS)}')
  path = folder / '1_Pooling' / 'config.json'
  if path.exists():
    other = [k for k, v in _json(path).items() if k.startswith('pooling_mode_') and v]
    other = [name for name in other if name != 'pooling_mode_mean_tokens']
    if other:
      raise ValueError(f'{path}: {other[0]}; features here are the mean of the tokens')


def _module(path: pathlib.Path) -> sentence.SentenceEncoder:
  """The network that a config.json describes."""
  config = _json(path)
  for name, right in CHOICES.items():
    if config.get(name, right) != right:
      raise ValueError(f'{path}: {name} is {config[name]!r}, expected {right!r}')
  sizes = {}
  for attribute, name in SIZES.items():
    if name not in config:
      raise ValueError(f'{path}: no {name}: not the config.json of a BERT encoder')
    size = sizes[attribute] = config[name]
    if type(size) is not int or size < 1:
      raise ValueError(f'{path}: {name} must be a positive integer, got {size!r}')
  if sizes['width'] % sizes['heads']:
    width, heads = sizes['width'], sizes['heads']
    raise ValueError(f'{path}: {heads} heads do not divide hidden_size {width}')
  epsilon = config.get('layer_norm_eps', 1e-12)
  if not isinstance(epsilon, float) or not 0 < epsilon < 1:
    raise ValueError(f'{path}: layer_norm_eps must be in (0, 1), got {epsilon!r}')
  return sentence.SentenceEncoder(**sizes, epsilon=epsilon)


def _limit(folder, tokenizer, module) -> int:
  """Tokens of a sentence at most: the encoder's number, else the tokenizer's."""
  limit = (tokenizer.truncation or {}).get('max_length')
  path = folder / 'sentence_bert_config.json'
  if path.exists():
    limit = _json(path).get('max_seq_length') or limit
  limit = module.num_positions if limit is None else limit
  least = 1 + tokenizer.num_special_tokens_to_add(False)
  if type(limit) is not int or min(limit, module.num_positions) < least:
    raise ValueError(f'{folder}: sentences of at most {limit!r} tokens are too short')
  return min(limit, module.num_positions)


def _weights(
  path: pathlib.Path, wanted: Mapping[str, tuple[int, ...]], safe_open: Callable
) -> dict[str, np.ndarray]:
  """Reads arrays of known shapes, whose names may begin with `bert.`."""
  _check_file(path)
  try:
    file = safe_open(str(path), 'numpy')
  except Exception as error:  # a type of the library's own
    raise ValueError(f'{path}: not a .safetensors file, or a damaged one') from error
  with file:
    there = set(file.keys())
    prefix = 'bert.' if any(name.startswith('bert.') for name in there) else ''
    missing = [name for name in wanted if prefix + name not in there]
    if missing:
      more = f' and {len(missing) - 1} others' if len(missing) > 1 else ''
      raise ValueError(
        f'{path}: not the weights of config.json: it lacks {prefix + missing[0]}{more}'
      )
    for name, shape in wanted.items():
      part = file.get_slice(prefix + name)
      found, dtype = part.get_shape(), part.get_dtype()
      if dtype not in ('F16', 'F32', 'F64'):
        raise ValueError(
          f'{path}: {prefix + name} is {dtype}, expected F16, F32 or F64'
        )
      if list(found) != list(shape):
        raise ValueError(
          f'{path}: {prefix + name} is {list(found)}, and by config.json {list(shape)}:'
          ' weights of another network'
        )
    arrays = {name: file.get_tensor(prefix + name) for name in wanted}
  for name, array in arrays.items():
    if not np.isfinite(array).all():
      raise ValueError(f'{path}: {prefix + name} has values that are not finite')
  return arrays


def embed(encoder: Encoder, sentences: Sequence[str]) -> np.ndarray:
  """Embeds sentences, in batches of few shapes.

  Args:
    encoder: of `load`.
    sentences: N of them.

  Returns:
    `[N, F]` float32, of length 1.
  """
  out, cut = np.empty((len(sentences), encoder.width), np.float32), 0
  for first in range(0, len(sentences), BLOCK):
    block = [str(text) for text in sentences[first : first + BLOCK]]
    codes = encoder.tokenizer.encode_batch(block)
    cut += sum(bool(code.overflowing) for code in codes)
    by_length: dict[int, list[int]] = {}
    for i, code in enumerate(codes):
      length = max(SHORTEST, 1 << (len(code.ids) - 1).bit_length())
      by_length.setdefault(min(length, encoder.limit), []).append(i)
    for length, indices in by_length.items():
      size = max(1, TOKENS // length)
      for start in range(0, len(indices), size):
        batch = indices[start : start + size]
        features = _apply(encoder, [codes[i].ids for i in batch], (size, length))
        out[first + np.array(batch)] = features[: len(batch)]
  if cut:
    dataset.warn(
      f'{cut} of {len(sentences)} sentences are cut to {encoder.limit} tokens'
    )
  return out


def _apply(encoder: Encoder, rows: Sequence[Sequence[int]], shape) -> np.ndarray:
  tokens, mask = np.zeros(shape, np.int32), np.zeros(shape, bool)
  for i, row in enumerate(rows):
    tokens[i, : len(row)], mask[i, : len(row)] = row, True
  # A file's features should not depend on the machine: no product in fewer bits.
  with jax.default_matmul_precision('float32'):
    return np.asarray(encoder.apply({'params': encoder.params}, tokens, mask))
