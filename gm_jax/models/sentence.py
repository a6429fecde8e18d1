"""A sentence encoder: BERT, its mean over the tokens, divided by its length.

Layers norm(x + attention(x)), norm(x + perceptron(x)); tokens attend to all that are
not padding. The features of a sentence are the mean of those of its tokens, divided by
its length: a scalar product of two is a cosine. Parameters have the names under which
such networks are published: `from_arrays` makes them of a file's arrays.

Source: BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding, Devlin et al., 2018, arXiv:1810.04805; as an encoder of sentences,
Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks, Reimers and Gurevych,
2019, arXiv:1908.10084.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from gm_jax import base
from gm_jax.models import text

_ARRAY = {'kernel': 'weight', 'scale': 'weight', 'embedding': 'weight', 'bias': 'bias'}


def _norm(epsilon: float, name: str) -> nn.LayerNorm:
  return nn.LayerNorm(epsilon, use_fast_variance=False, name=name)


class Layer(nn.Module):
  """Attention and a perceptron, each with a residual and a norm after it.

  Attributes:
    heads: of the attention.
    hidden: width of the perceptron.
    epsilon: of the norms, added to the variance.
  """

  heads: int
  hidden: int
  epsilon: float

  @nn.compact
  def __call__(self, x: base.Array, mask: base.Array) -> base.Array:
    """Maps x `[B, T, C]`, and a mask `[B, T]` of its tokens, to `[B, T, C]`."""
    query, key, value = (
      nn.Dense(x.shape[2], name=f'attention.self.{name}')(x).reshape(
        *x.shape[:2], self.heads, -1
      )
      for name in ('query', 'key', 'value')
    )
    attention = nn.dot_product_attention(query, key, value, mask=mask[:, None, None])
    y = nn.Dense(x.shape[2], name='attention.output.dense')(attention.reshape(x.shape))
    x = _norm(self.epsilon, 'attention.output.LayerNorm')(x + y)
    y = nn.Dense(self.hidden, name='intermediate.dense')(x)
    y = nn.Dense(x.shape[2], name='output.dense')(nn.gelu(y, approximate=False))
    return _norm(self.epsilon, 'output.LayerNorm')(x + y)


class SentenceEncoder(nn.Module):
  """Features of sentences, of length 1.

  Attributes:
    num_tokens: K, of tokens in [0, K).
    num_positions: T at most.
    num_types: of tokens; all are of the first, as one sentence has them.
    width: C, of the features, divisible by `heads`.
    num_layers: of attention and perceptron.
    heads: of the attention.
    hidden: width of the perceptrons.
    epsilon: of the norms, added to the variance.
  """

  num_tokens: int
  num_positions: int
  num_types: int
  width: int
  num_layers: int
  heads: int
  hidden: int
  epsilon: float = 1e-12

  @nn.compact
  def __call__(self, tokens: base.Array, mask: base.Array) -> base.Array:
    """Maps tokens `[B, T]` to features `[B, C]`; of no word they are zero.

    Args:
      tokens: `[B, T]` integers in [0, K).
      mask: `[B, T]` booleans, false where there is padding.

    Raises:
      ValueError: other shapes, or more tokens than positions.
    """
    if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
      got = f'{tokens.dtype} {list(tokens.shape)}'
      raise ValueError(f'tokens must be integers [B, T], got {got}')
    if mask.shape != tokens.shape or mask.dtype != bool:
      wanted, got = list(tokens.shape), f'{mask.dtype} {list(mask.shape)}'
      raise ValueError(f'mask must be bool {wanted}, got {got}')
    if tokens.shape[1] > self.num_positions:
      raise ValueError(f'{tokens.shape[1]} tokens, at most {self.num_positions} fit')
    places = jnp.arange(tokens.shape[1])
    x = 0.0
    for name, num, index in (
      ('word', self.num_tokens, tokens),
      ('position', self.num_positions, places),
      ('token_type', self.num_types, jnp.zeros_like(places)),
    ):
      x += nn.Embed(num, self.width, name=f'embeddings.{name}_embeddings')(index)
    x = _norm(self.epsilon, 'embeddings.LayerNorm')(x)
    for i in range(self.num_layers):
      layer = Layer(self.heads, self.hidden, self.epsilon, name=f'encoder.layer.{i}')
      x = layer(x, mask)
    word = mask[..., None]
    return text.as_unit((x * word).sum(axis=1) / jnp.maximum(word.sum(axis=1), 1))


def shapes(encoder: SentenceEncoder) -> dict[str, tuple[int, ...]]:
  """Lists the arrays that a file of its weights has, as name -> shape."""
  found = {}
  for path, leaf in _leaves(encoder).items():
    found[_name(path)] = leaf.shape[::-1] if path[-1] == 'kernel' else leaf.shape
  return found


def from_arrays(encoder: SentenceEncoder, arrays: Mapping[str, np.ndarray]) -> Any:
  """Makes parameters of arrays that have the names and shapes of `shapes`."""
  params = {}
  for path in _leaves(encoder):
    array = arrays[_name(path)]
    params[path] = jnp.asarray(array.T if path[-1] == 'kernel' else array, jnp.float32)
  return traverse_util.unflatten_dict(params)


def _leaves(encoder: SentenceEncoder) -> dict[tuple[str, ...], Any]:
  """Shapes and dtypes of the parameters, by path."""
  tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
  mask = jax.ShapeDtypeStruct((1, 1), bool)
  made = jax.eval_shape(encoder.init, jax.random.key(0), tokens, mask)
  return traverse_util.flatten_dict(made['params'])


def _name(path: tuple[str, ...]) -> str:
  """The name of a parameter in a published file."""
  return '.'.join([*path[:-1], _ARRAY[path[-1]]])
