"""Attention and its gradients against the softmax of every head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import weights

from gm_jax.models import attention


def test_attention_is_softmax_of_scaled_products_in_every_head():
  module = attention.SelfAttention(2)
  x = np.random.default_rng(0).normal(size=(2, 5, 6)).astype(np.float32)
  params = weights.drawn(module, x)['params']
  cotangent = x[::-1]

  def expected(params, x):
    def head(q, k, v):
      return jax.nn.softmax(q @ k.T / np.sqrt(3)) @ v

    def example(x):
      q, k, v = jnp.split(x @ params['Dense_0']['kernel'], 3, 1)
      heads = [head(q[:, j], k[:, j], v[:, j]) for j in (slice(0, 3), slice(3, 6))]
      return jnp.concatenate(heads, 1) @ params['Dense_1']['kernel']

    return jnp.stack([example(one) for one in x]) + params['Dense_1']['bias']

  @jax.jit
  def both(params, x):
    found = []
    for f in (lambda params, x: module.apply({'params': params}, x), expected):
      y, pull = jax.vjp(f, params, x)
      found.append((y, pull(cotangent)))
    return found

  for a, b in zip(*map(jax.tree.leaves, both(params, x)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
  with pytest.raises(ValueError, match='6 features are not divisible by 4 heads'):
    attention.SelfAttention(4).init(jax.random.key(0), x)
